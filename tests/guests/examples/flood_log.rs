//! Talks without end, with control characters, to the log and to stderr, and then answers properly.

use tandem_guests::{Behaviour, guest};

/// Floods.
pub struct FloodLog;

impl Behaviour for FloodLog {
    const ID: &'static str = "flood-log";

    fn misbehave() {
        let long = format!("\u{1b}[31mred\r\nforged line {}", "x".repeat(10_000));
        for _ in 0..2_000 {
            tandem_guests::bindings::tandem::provider::log::log("info", &long);
        }
        for _ in 0..200 {
            eprintln!("{long}");
        }
    }
}

guest!(FloodLog);
