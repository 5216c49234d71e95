//! Secrets stand beside the configuration, never in it: the configuration says where.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::place::{Finding, Place};

/// Longest secret that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where a secret is found. Reading it is a step of its own, so that a configuration can be loaded and shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where it is found.
    pub from: SecretFrom,
    /// Where the configuration says so.
    pub place: Place,
}

/// Places that a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file; its whole contents without the line end. A relative path counts from the configuration file's folder.
    File(PathBuf),
    /// An environment variable of the daemon.
    Env(String),
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// When the file or variable is not there, is empty, too long, not UTF-8, or has control characters in it (a header could not carry
    /// them). The error names the place and the source, never the contents.
    pub fn read(&self) -> Result<SecretString, Finding> {
        let text = match &self.from {
            SecretFrom::File(path) => {
                let unreadable =
                    |what: String| self.finding(format!("secret file {}: {what}", path.display()));
                let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
                if length > LONGEST {
                    return Err(unreadable(format!("{length} bytes are too many, the limit is {LONGEST}")));
                }
                std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?
            }
            SecretFrom::Env(name) => std::env::var(name).map_err(|error| {
                self.finding(match error {
                    std::env::VarError::NotPresent => format!("environment variable {name} is not set"),
                    std::env::VarError::NotUnicode(_) => format!("environment variable {name} is not UTF-8"),
                })
            })?,
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(self.finding(format!("secret {} is empty", self.from)));
        }
        if secret.chars().any(char::is_control) {
            return Err(
                self.finding(format!("secret {} holds control characters or several lines", self.from))
            );
        }
        Ok(SecretString::from(secret))
    }

    fn finding(&self, what: String) -> Finding {
        Finding { place: self.place.clone(), what }
    }
}

impl fmt::Display for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "variable {name}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.from)
    }
}
