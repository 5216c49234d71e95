//! A mapping between a canonical object and a CRM's read form, declared once for both directions.
//!
//! A field that already says the same is not touched: whatever way the CRM wrote a value stays, and so do all members that
//! are not mapped. That is what makes the laws hold (see [`crate::laws`]).

mod convert;
mod custom;
mod declare;
mod schema;

pub use convert::{Convert, Converter, Table};
pub use custom::ROUNDED;
pub use declare::Declaration;

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
    /// The provider's name for it: the last segment of its pointer.
    pub(crate) fn name(&self) -> &str {
        self.provider.segments.last().map_or("", String::as_str)
    }

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
            name: field.name(),
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
        let bytes = canonical;
        let canonical = read(bytes, "canonical document")?;
        let parsed = match current {
            Some(bytes) => Some(read(bytes, "current document")?),
            None => None,
        };
        let room = 128 + current.map_or(0, <[u8]>::len).max(bytes.len());
        self.put(&canonical, parsed).map(|document| document.to_bytes_of(room))
    }

    /// The CRM's read form to canonical.
    ///
    /// # Errors
    /// All that cannot be mapped, with pointers into the provider document.
    pub fn to_canonical(&self, document: &[u8]) -> Result<Vec<u8>, Vec<Problem>> {
        let room = document.len();
        let document = read(document, "provider document")?;
        self.get(&document).map(|canonical| canonical.to_bytes_of(room))
    }

    /// As [`to_provider`](Self::to_provider), on parsed documents.
    ///
    /// # Errors
    /// As there.
    pub fn put<'a>(
        &'a self,
        canonical: &Node<'a>,
        current: Option<Node<'a>>,
    ) -> Result<Node<'a>, Vec<Problem>> {
        let Some(wanted) = canonical.as_object() else {
            let message = format!("the document is {}", canonical.kind());
            return Err(vec![Problem::new("wrong-shape", message).at("")]);
        };
        let mut problems = Vec::new();
        let mut document = current.unwrap_or_else(Node::object);
        let mut hint = 0;
        for (index, path) in self.parents.iter().enumerate() {
            let Some(members) = document.object_at(path) else {
                let message = format!("something that is no object stands at /{}", path.join("/"));
                problems.push(Problem::new("wrong-shape", message));
                continue;
            };
            let mut place_hint = 0;
            for field in self.fields.iter().filter(|field| field.parent == index && field.writes()) {
                let want = match field.canonical.segments.as_slice() {
                    [name] => wanted.place(name, &mut hint).and_then(|place| wanted.at(place)),
                    segments => canonical.at(segments),
                };
                if let Err(problem) = self.put_field(field, want, members, &mut place_hint) {
                    problems.push(problem);
                }
            }
        }
        for constant in &self.constants {
            if document.at(&constant.provider.segments) != Some(&constant.value) {
                document.set_at(&constant.provider.segments, constant.value.clone());
            }
        }
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }

    /// Writes one field into the object that it belongs to, unless that says the same already.
    fn put_field<'a>(
        &'a self,
        field: &'a Field,
        want: Option<&Node<'a>>,
        members: &mut Members<'a>,
        hint: &mut usize,
    ) -> Result<(), Problem> {
        let name = field.name();
        let place = members.place(name, hint);
        let have = place.and_then(|place| members.at(place));
        let Some(want) = want.filter(|value| !self.is_empty(value)) else {
            let Some(have) = have.filter(|have| !self.is_empty(have)) else { return Ok(()) };
            // What nobody could read is nobody's to clear.
            let unread =
                field.lenient && *have != Node::Null && field.convert.to_canonical(have, self.form).is_err();
            if unread {
                return Ok(());
            }
            if self.empty == Empty::Distinct {
                members.remove(name);
                *hint = 0;
            } else {
                members.set(name, Node::Null);
            }
            return Ok(());
        };
        if have.is_some_and(|have| !self.is_empty(have) && field.convert.says(have, want, self.form)) {
            return Ok(());
        }
        let value = field
            .convert
            .to_provider(want, self.form)
            .map_err(|trouble| trouble.at(&field.canonical.text))?;
        match place.and_then(|place| members.at_mut(place)) {
            Some(slot) => *slot = value,
            None => members.push(name, value),
        }
        Ok(())
    }

    /// As [`to_canonical`](Self::to_canonical), on parsed documents.
    ///
    /// # Errors
    /// As there.
    pub fn get<'a>(&'a self, document: &Node<'a>) -> Result<Node<'a>, Vec<Problem>> {
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
            let Some(parent) = parent else { continue };
            let Some(have) = parent.place(field.name(), &mut hint).and_then(|place| parent.at(place)) else {
                continue;
            };
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
                [name] => members.push(name.as_str(), value),
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
    pub fn normal<'a>(&'a self, canonical: &Node<'a>) -> Node<'a> {
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
