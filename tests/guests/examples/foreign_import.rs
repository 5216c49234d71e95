//! Wants something that no Tandem host has.

use tandem_guests::{Behaviour, guest};

#[cfg(target_arch = "wasm32")]
#[allow(missing_docs, reason = "generated")]
mod foreign {
    wit_bindgen::generate!({
        inline: "
            package stranger:host@1.0.0;
            interface shell { run: func(command: string) -> s32; }
            world wants { import shell; }
        ",
        world: "wants",
    });
}

/// Asks the host to run a command.
pub struct ForeignImport;

impl Behaviour for ForeignImport {
    const ID: &'static str = "foreign-import";

    fn misbehave() {
        #[cfg(target_arch = "wasm32")]
        foreign::stranger::host::shell::run("id");
    }
}

guest!(ForeignImport);
