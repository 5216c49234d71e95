//! A component for quite another host.

#[cfg(target_arch = "wasm32")]
mod component {
    use tandem_guests::other_world;

    struct Greeter;

    impl other_world::exports::stranger::greeter::greet::Guest for Greeter {
        fn hello(name: String) -> String {
            format!("hello, {name}")
        }
    }

    other_world::export!(Greeter with_types_in other_world);
}
