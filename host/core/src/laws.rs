//! The laws of a mapping, checked from outside on records that are made up from the schemas.
//!
//! With C = to-canonical, P = to-provider, N = the field's normaliser, c a canonical document, s one of the CRM:
//!
//! 1. what was written is read: N(C(P(c, s))) = N(c), with a current document and without one, for fields that flow both ways;
//! 2. writing what was read changes nothing beyond N: with s' = P(C(s), s), N(C(s')) = N(C(s)), and P(C(s'), s') = s';
//! 3. members of s that belong to no field stay in P(c, s);
//! 4. the same input gives the same bytes, on a fresh instance and on a warm one, in any order.
//!
//! That N∘N = N is a property of this crate ([`crate::normalise`]). A field that declares itself lossy is held to 3 and 4
//! alone. A mapping may refuse a record; it may not answer it wrongly. A record that breaks a law is made smaller for as
//! long as the same law breaks at the same field: what is shown is the smallest that was found, and for the same mistake
//! always the same one, whichever record it was found on. The records are made up, so that the text may quote them.

mod check;
mod generate;
mod shrink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::descriptor::{FieldDescriptor, ObjectDescriptor};
use crate::exchange::Problem;
use crate::schema::{CanonicalSchema, Schema};

/// Steps that are spent on making one record smaller.
const SHRINKING: usize = 2_000;

/// Records whose answers are compared again in another order, on another instance.
const COMPARED_AGAIN: usize = 24;

/// The two functions of one object's mapping, on one instance.
pub trait Mapping {
    /// Canonical to the CRM's read form.
    ///
    /// # Errors
    /// The mapping refuses the record, or the component is at fault.
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal>;
    /// The CRM's read form to canonical.
    ///
    /// # Errors
    /// As [`Mapping::to_provider`].
    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal>;
    /// Goes on with a fresh instance.
    ///
    /// # Errors
    /// Why there is none.
    fn renew(&mut self) -> Result<(), String>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record is not accepted, which a mapping may say.
    Record(Vec<Problem>),
    /// The component is at fault.
    Fault(String),
}

/// What the laws of one object are held against.
#[derive(Debug)]
pub struct Terms<'t> {
    /// The canonical object.
    pub object: &'t str,
    /// What the provider says of it.
    pub described: &'t ObjectDescriptor,
    /// The canonical schema.
    pub canonical: &'t CanonicalSchema,
    /// The schema of the CRM's documents.
    pub read: &'t Schema,
}

impl Terms<'_> {
    fn fields(&self) -> &BTreeMap<String, FieldDescriptor> {
        &self.described.fields
    }

    /// The chain of normalisers that both directions agree up to.
    fn chain(&self, field: &str) -> &str {
        let own = self.fields().get(field).and_then(|described| described.normalise.as_deref());
        let declared = || self.canonical.fields().get(field).and_then(|field| field.normalise.as_deref());
        own.or_else(declared).unwrap_or("exact")
    }
}

/// A record on both sides: what System A has, and what the CRM has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The canonical document.
    pub canonical: Value,
    /// The CRM's document as it is now.
    pub current: Value,
}

/// Which law. In the order in which they are asked: a mistake that breaks several at a field is told as the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// What was written is read.
    Written,
    /// Writing what was read changes nothing beyond the normaliser.
    Read,
    /// Writing it once more changes nothing at all.
    Settles,
    /// What is not mapped stays.
    Unmapped,
    /// The same input gives the same bytes.
    Bytes,
    /// The answer is a document.
    Document,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Written => "what was written is not what is read",
            Self::Read => "writing what was read changes it",
            Self::Settles => "writing the same once more changes it again",
            Self::Unmapped => "a member that is not mapped does not stay",
            Self::Bytes => "the same input gives other bytes",
            Self::Document => "the answer is no document",
        })
    }
}

/// Which way the value went when the law broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From System A to the CRM, and back to see it.
    ToProvider,
    /// From the CRM to System A, and back.
    ToCanonical,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToProvider => "to-provider",
            Self::ToCanonical => "to-canonical",
        })
    }
}

/// A law that does not hold, shown on the smallest record that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Broken {
    /// The law.
    pub law: Law,
    /// The canonical object.
    pub object: String,
    /// The field: a pointer into the canonical document, or for [`Law::Unmapped`] into the CRM's.
    pub field: String,
    /// Which way.
    pub way: Way,
    /// What it was. None: it was not there.
    pub expected: Option<Value>,
    /// What came of it. None: nothing.
    pub found: Option<Value>,
    /// The smallest record that shows it.
    pub example: Record,
    /// The record that an instance has to have seen before, where it takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Record>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "nothing".to_owned(), |value| cut(&value.to_string()))
        };
        match self.field.as_str() {
            "" => write!(f, "object {}, the whole document", self.object)?,
            field => write!(f, "object {}, field {field}", self.object)?,
        }
        write!(f, ", {}: {}: ", self.way, self.law)?;
        match (self.law, &self.found) {
            (Law::Document, Some(Value::String(why))) => f.write_str(why)?,
            (_, found) => write!(f, "{} became {}", value(&self.expected), value(found))?,
        }
        write!(f, "; smallest example: {}", self.example)?;
        match &self.after {
            Some(after) => write!(f, ", on an instance that has seen {after}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (canonical, current) = (self.canonical.to_string(), self.current.to_string());
        write!(f, "canonical {}, document {}", cut(&canonical), cut(&current))
    }
}

/// One line of a value, not endlessly long.
fn cut(text: &str) -> String {
    const LONGEST: usize = 300;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// Why the laws could not be shown to hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Lawless {
    /// One is broken.
    #[error("{0}")]
    Broken(Box<Broken>),
    /// The component is at fault.
    #[error("{0}")]
    Fault(String),
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Records that went both ways.
    pub records: u64,
    /// Records, given or generated, that the mapping refused, whole or in parts.
    pub refused: u64,
}

/// Checks the laws on records that are given (golden examples) and on `generated` ones that follow from `seed`.
///
/// # Errors
/// The first law that does not hold, or the component's fault.
pub fn check(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    given: &[Record],
    seed: u64,
    generated: usize,
) -> Result<Looked, Lawless> {
    let mut looked = Looked::default();
    let mut again = Vec::new();
    let mut maker = generate::Maker::new(terms, seed);
    for position in 0..given.len().saturating_add(generated) {
        let record = match given.get(position) {
            Some(record) => record.clone(),
            None => maker.record(mapping)?,
        };
        match check::one(mapping, terms, &record) {
            Ok(answers) => {
                looked.records += 1;
                looked.refused += u64::from(answers.refused);
                if again.len() < COMPARED_AGAIN {
                    again.push((record, answers.all));
                }
            }
            Err(Lawless::Broken(broken)) => {
                return Err(shrink::smallest(mapping, terms, *broken, SHRINKING));
            }
            Err(fault) => return Err(fault),
        }
    }
    in_any_order(mapping, terms, &again)?;
    Ok(looked)
}

/// Records that are made up for an object, the same ones for the same seed.
///
/// # Errors
/// The component's fault.
pub fn made_up(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    seed: u64,
    count: usize,
) -> Result<Vec<Record>, Lawless> {
    let mut maker = generate::Maker::new(terms, seed);
    (0..count).map(|_| maker.record(mapping)).collect()
}

/// The same records backwards on a fresh instance give the same bytes.
fn in_any_order(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    seen: &[(Record, Vec<check::Said>)],
) -> Result<(), Lawless> {
    mapping.renew().map_err(Lawless::Fault)?;
    for (record, before) in seen.iter().rev() {
        match check::one(mapping, terms, record) {
            Ok(answers) => {
                if let Some(broken) = check::other_bytes(terms, record, before, &answers.all) {
                    let others: Vec<&Record> = seen.iter().map(|(record, _)| record).collect();
                    return Err(shrink::order(mapping, terms, broken, &others, SHRINKING));
                }
            }
            Err(Lawless::Broken(broken)) => {
                return Err(shrink::smallest(mapping, terms, *broken, SHRINKING));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}
