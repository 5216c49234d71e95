//! What was sent, acknowledged and edited: all that the judge may know beside the public APIs.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Which side was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// System A, through its API.
    SystemA,
    /// The account, by a person.
    Account,
}

/// One acknowledged act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The customer.
    pub scope: String,
    /// Whose record it is: see [`key_of`].
    pub person: String,
    /// Where it was written.
    pub side: Side,
    /// The connection of the account, where a scope has several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Its number in the order of acknowledgement.
    pub seq: u64,
    /// What was done.
    pub act: Act,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// These canonical members were written (null: cleared).
    Wrote(Map<String, Value>),
    /// The record was deleted.
    Removed,
    /// The record was refused at the door: it may be nowhere.
    Refused,
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    /// What was acknowledged, in its order.
    pub acts: Vec<Entry>,
    /// When nothing was under way: everything up to and with this number had been carried over, and nobody was acting.
    pub quiet: Vec<u64>,
}

impl Story {
    /// Up to which act everything had been carried over when this one was made: it was made in knowledge of them.
    #[must_use]
    pub fn carried_before(&self, act: u64) -> u64 {
        self.quiet.iter().copied().filter(|quiet| *quiet < act).max().unwrap_or_default()
    }
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Act(Entry),
    Quiet(u64),
}

/// The ledger: a file of JSON lines, written before anything depends on it.
pub struct Ledger {
    file: std::sync::Mutex<(std::fs::File, u64)>,
}

impl Ledger {
    /// An empty ledger.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: std::sync::Mutex::new((std::fs::File::create(path)?, 0)) })
    }

    /// Writes an acknowledged act down.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, scope: &str, person: &str, side: Side, act: Act) -> Result<(), Error> {
        self.put(scope, person, side, "", act)
    }

    /// Writes down what somebody did in the account of a connection, where the scope has several.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_at(&self, scope: &str, person: &str, connection: &str, act: Act) -> Result<(), Error> {
        self.put(scope, person, Side::Account, connection, act)
    }

    fn put(&self, scope: &str, person: &str, side: Side, account: &str, act: Act) -> Result<(), Error> {
        let mut file = self.file.lock().map_err(|_| "the ledger is poisoned")?;
        file.1 += 1;
        let (scope, person, account) = (scope.to_owned(), person.to_owned(), account.to_owned());
        let entry = Entry { scope, person, side, account, seq: file.1, act };
        write(&mut file.0, &Line::Act(entry))
    }

    /// Writes down that nothing is under way. For who has made sure of it while nobody acts.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_quiet(&self) -> Result<(), Error> {
        let mut file = self.file.lock().map_err(|_| "the ledger is poisoned")?;
        let last = file.1;
        write(&mut file.0, &Line::Quiet(last))
    }

    /// Reads a ledger.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not one of a ledger.
    pub fn read(path: &Path) -> Result<Story, Error> {
        let mut story = Story::default();
        for line in std::fs::read_to_string(path)?.lines() {
            match serde_json::from_str(line)? {
                Line::Act(entry) => story.acts.push(entry),
                Line::Quiet(last) => story.quiet.push(last),
            }
        }
        Ok(story)
    }
}

fn write(file: &mut std::fs::File, line: &Line) -> Result<(), Error> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    Ok(file.write_all(&line)?)
}

/// Who a record is about: its address, or its names where it has none.
#[must_use]
pub fn key_of(email: Option<&str>, given: Option<&str>, family: Option<&str>) -> String {
    match email.map(|email| email.trim().to_lowercase()).filter(|email| !email.is_empty()) {
        Some(email) => email,
        None => format!("{}|{}", given.unwrap_or_default().trim(), family.unwrap_or_default().trim()),
    }
}

/// [`key_of`] for a canonical document.
#[must_use]
pub fn key_of_document(document: &Value) -> String {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    key_of(text("email"), text("given_name"), text("family_name"))
}
