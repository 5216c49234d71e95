//! A mapping between a canonical object and a CRM's read form, declared once for both directions.
//!
//! A field that already says the same is not touched: whatever way the CRM wrote a value stays, and so do all members that
//! are not mapped. That is what makes the laws hold (see [`crate::laws`]).

mod convert;
mod custom;
mod declare;
mod schema;

pub use convert::{Convert, Converter, Table};
pub use declare::Declaration;

use std::borrow::Cow;

use crate::descriptor::Direction;
use crate::exchange::Problem;
use crate::json::{self, Members, Node};

/// A JSON pointer, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) text: String,
    pub(crate) segments: Vec<String>,
}

impl Pointer {
    pub(crate) fn new(text: &str) -> Self {
        let segments =
            text.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect();
        Self { text: text.to_owned(), segments }
    }
}

/// A member that has a value of its own accord.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    pub(crate) provider: Pointer,
    pub(crate) value: Node<'static>,
}

/// One mapped field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) canonical: Pointer,
    pub(crate) provider: Pointer,
    pub(crate) convert: Convert,
    pub(crate) normalise: Option<String>,
    pub(crate) direction: Direction,
    pub(crate) lossy: Option<String>,
    /// Values that cannot be read count as absent and stay.
    pub(crate) lenient: bool,
    /// Place of the provider's parent object in `Mapping::parents`.
    pub(crate) parent: usize,
}

impl Field {
    pub(crate) fn reads(&self) -> bool {
        self.direction != Direction::ToProvider
    }

    pub(crate) fn writes(&self) -> bool {
        self.direction != Direction::ToCanonical
    }
}

/// How the CRM keeps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Numbers as numbers, booleans as booleans.
    Native,
    /// Everything as a string.
    Text,
}

/// What the CRM can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// Absent, null, "" and an empty set are one thing, read as absent from a whole record. A "" that it does show (an event
    /// of a property that was cleared) reads as null.
    Alike,
    /// Null is null, "" is "", absent is absent.
    Distinct,
}

/// The mapping of one object. Begin with [`Mapping::object`].
#[derive(Clone, Debug)]
pub struct Mapping {
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) form: Form,
    pub(crate) empty: Empty,
    pub(crate) fields: Vec<Field>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) parents: Vec<Vec<String>>,
    pub(crate) shape: schema::Shape,
}

/// A mapped field, as a provider's exchange needs it.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    /// Pointer into the canonical document.
    pub canonical: &'a str,
    /// Pointer into the provider document.
    pub provider: &'a str,
    /// Last segment of the provider's pointer: most often the CRM's name for the field.
    pub name: &'a str,
    /// It is written to the CRM.
    pub writes: bool,
    /// It is read from the CRM.
    pub reads: bool,
}

impl Mapping {
    /// The canonical object.
    #[must_use]
    pub fn canonical_object(&self) -> &str {
        &self.object
    }

    /// The CRM's name for the object.
    #[must_use]
    pub fn provider_object(&self) -> &str {
        &self.name
    }

    /// All mapped fields.
    pub fn mapped(&self) -> impl Iterator<Item = Mapped<'_>> {
        self.fields.iter().map(|field| Mapped {
            canonical: &field.canonical.text,
            provider: &field.provider.text,
            name: field.provider.segments.last().map_or("", String::as_str),
            writes: field.writes(),
            reads: field.reads(),
        })
    }

    /// The fields that a canonical pointer of `changed` stands for: itself, what is above it and what is below it.
    pub fn touched_by<'a>(&'a self, pointer: &'a str) -> impl Iterator<Item = Mapped<'a>> {
        self.mapped().filter(move |field| {
            let (short, long) = if field.canonical.len() < pointer.len() {
                (field.canonical, pointer)
            } else {
                (pointer, field.canonical)
            };
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Canonical pointer of the field that the CRM calls by this name.
    #[must_use]
    pub fn canonical_of(&self, name: &str) -> Option<&str> {
        self.mapped().find(|field| field.name == name).map(|field| field.canonical)
    }

    /// Canonical to the CRM's read form.
    ///
    /// # Errors
    /// All that cannot be mapped, with pointers into the canonical document.
    pub fn to_provider(&self, canonical: &[u8], current: Option<&[u8]>) -> Result<Vec<u8>, Vec<Problem>> {
        let canonical = read(canonical, "canonical document")?;
        let current = match current {
            Some(bytes) => Some(read(bytes, "current document")?),
            None => None,
        };
        self.put(&canonical, current).map(|document| document.to_bytes())
    }

    /// The CRM's read form to canonical.
    ///
    /// # Errors
    /// All that cannot be mapped, with pointers into the provider document.
    pub fn to_canonical(&self, document: &[u8]) -> Result<Vec<u8>, Vec<Problem>> {
        let document = read(document, "provider document")?;
        self.get(&document).map(|canonical| canonical.to_bytes())
    }

    /// As [`to_provider`](Self::to_provider), on parsed documents.
    ///
    /// # Errors
    /// As there.
    pub fn put<'a>(&self, canonical: &Node<'a>, current: Option<Node<'a>>) -> Result<Node<'a>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut document = current.unwrap_or_else(Node::object);
        for object in &self.parents {
            if document.at(object).is_none() {
                document.set_at(object, Node::object());
            }
        }
        for field in self.fields.iter().filter(|field| field.writes()) {
            let want = canonical.at(&field.canonical.segments).filter(|value| !self.is_empty(value));
            let have = document.at(&field.provider.segments);
            let value = match want {
                Some(want) => {
                    let says =
                        |have: &Node<'a>| !self.is_empty(have) && field.convert.says(have, want, self.form);
                    if have.is_some_and(says) {
                        continue;
                    }
                    match field.convert.to_provider(want, self.form) {
                        Ok(value) => value,
                        Err(trouble) => {
                            problems.push(trouble.at(&field.canonical.text));
                            continue;
                        }
                    }
                }
                None => match have {
                    None => continue,
                    Some(have) if self.is_empty(have) => continue,
                    // What nobody could read is nobody's to clear.
                    Some(have)
                        if field.lenient
                            && *have != Node::Null
                            && field.convert.to_canonical(have, self.form).is_err() =>
                    {
                        continue;
                    }
                    Some(_) if self.empty == Empty::Distinct => {
                        document.remove_at(&field.provider.segments);
                        continue;
                    }
                    Some(_) => Node::Null,
                },
            };
            if !document.set_at(&field.provider.segments, value) {
                problems.push(
                    Problem::new("wrong-shape", format!("{} is in the way", field.provider.text))
                        .at(field.canonical.text.clone()),
                );
            }
        }
        for constant in &self.constants {
            if document.at(&constant.provider.segments) != Some(&constant.value) {
                document.set_at(&constant.provider.segments, constant.value.clone());
            }
        }
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }

    /// As [`to_canonical`](Self::to_canonical), on parsed documents.
    ///
    /// # Errors
    /// As there.
    pub fn get<'a>(&self, document: &Node<'a>) -> Result<Node<'a>, Vec<Problem>> {
        if document.as_object().is_none() {
            return Err(vec![
                Problem::new("wrong-shape", format!("the document is {}", document.kind())).at(""),
            ]);
        }
        let mut problems = Vec::new();
        let mut members = Members::with_capacity(self.fields.len());
        let mut nested: Vec<(&Field, Node<'a>)> = Vec::new();
        let parents: Vec<Option<&Members<'a>>> =
            self.parents.iter().map(|path| document.at(path).and_then(Node::as_object)).collect();
        let mut hint = 0;
        for field in self.fields.iter().filter(|field| field.reads()) {
            let parent = parents.get(field.parent).copied().flatten();
            let name = field.provider.segments.last().map_or("", String::as_str);
            let Some(have) = parent.and_then(|parent| parent.get_near(name, &mut hint)) else { continue };
            let value = match (self.empty, have) {
                (Empty::Alike, Node::Null) => continue,
                (_, Node::Null) => Node::Null,
                (Empty::Alike, Node::Text(text)) if text.is_empty() => Node::Null,
                _ => match field.convert.to_canonical(have, self.form) {
                    Ok(value) => value,
                    Err(_) if field.lenient => continue,
                    Err(trouble) => {
                        problems.push(trouble.at(&field.provider.text));
                        continue;
                    }
                },
            };
            match field.canonical.segments.as_slice() {
                [name] => members.push(Cow::Owned(name.clone()), value),
                _ => nested.push((field, value)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut canonical = Node::Object(members);
        for (field, value) in nested {
            canonical.set_at(&field.canonical.segments, value);
        }
        Ok(canonical)
    }

    /// The normal form of a canonical document as far as this mapping can keep it: what `to-canonical` gives back after
    /// `to-provider`. Members that are not mapped both ways are left out.
    #[must_use]
    pub fn normal<'a>(&self, canonical: &Node<'a>) -> Node<'a> {
        let mut normal = Node::object();
        for field in self.fields.iter().filter(|field| field.direction == Direction::Both) {
            let Some(value) = canonical.at(&field.canonical.segments) else { continue };
            if self.is_empty(value) {
                continue;
            }
            let value = field.convert.normal(value, self.form).unwrap_or_else(|| value.clone());
            normal.set_at(&field.canonical.segments, value);
        }
        normal
    }

    /// Stands for "no value" at this CRM.
    pub(crate) fn is_empty(&self, value: &Node<'_>) -> bool {
        self.empty == Empty::Alike
            && match value {
                Node::Null => true,
                Node::Text(text) => text.is_empty(),
                Node::List(items) => items.is_empty(),
                _ => false,
            }
    }
}

fn read<'a>(bytes: &'a [u8], name: &str) -> Result<Node<'a>, Vec<Problem>> {
    json::parse(bytes).map_err(|error| vec![Problem::new("invalid-json", format!("{name}: {error}"))])
}

#[cfg(test)]
mod tests;
