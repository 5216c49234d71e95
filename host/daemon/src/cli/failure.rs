//! How a command ends when it does not end well.

use std::error::Error;
use std::fmt::Write as _;

/// Wrong usage or configuration: `EX_USAGE` of sysexits.h.
pub(super) const USAGE: u8 = 64;
/// Everything else that went wrong.
pub(super) const FAILED: u8 = 1;

/// A command's bad end.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit status.
    pub(super) status: u8,
    /// What is printed on standard error.
    pub(super) text: String,
}

impl Failure {
    /// Something went wrong: `error: …`, and a `caused by: …` for each cause.
    pub(super) fn new(error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::because(error.to_string());
        failure.add_causes(error.source());
        failure
    }

    /// Something went wrong, in words, because of an error.
    pub(super) fn caused(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::because(what);
        failure.add_causes(Some(error));
        failure
    }

    fn add_causes(&mut self, mut cause: Option<&(dyn Error + 'static)>) {
        while let Some(error) = cause {
            // Writing to a string does not fail.
            let _ = writeln!(self.text, "  caused by: {error}");
            cause = error.source();
        }
    }

    /// Something went wrong, in words.
    pub(super) fn because(what: impl Into<String>) -> Self {
        Self { status: FAILED, text: format!("error: {}\n", what.into()) }
    }

    /// It was asked for in a wrong way.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self { status: USAGE, ..Self::because(what) }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        let text = error.findings.iter().fold(String::new(), |mut text, finding| {
            let _ = writeln!(text, "error: {finding}");
            text
        });
        Self { status: USAGE, text }
    }
}
