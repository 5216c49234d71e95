//! Declaring a mapping.

use serde_json::Value;

use crate::descriptor::Direction;
use crate::json::Node;

use super::convert::{Convert, Converter, Table};
use super::schema::Shape;
use super::{Constant, Empty, Field, Form, Mapping, Pointer};

impl Mapping {
    /// A mapping without fields. `object` is the canonical object, `name` the CRM's word for it.
    #[must_use]
    pub fn object(object: &str, name: &str) -> Self {
        Self {
            object: object.to_owned(),
            name: name.to_owned(),
            form: Form::Native,
            empty: Empty::Alike,
            fields: Vec::new(),
            constants: Vec::new(),
            parents: Vec::new(),
            shape: Shape::default(),
        }
    }

    /// The CRM keeps every value as a string.
    #[must_use]
    pub fn text_values(mut self) -> Self {
        self.form = Form::Text;
        self
    }

    /// The CRM tells absent, null and "" apart. Without this they are one thing.
    #[must_use]
    pub fn tells_empty_apart(mut self) -> Self {
        self.empty = Empty::Distinct;
        self
    }

    /// JSON Schema of a member that is not mapped.
    #[must_use]
    pub fn member(mut self, pointer: &str, schema: Value) -> Self {
        self.shape.members.push((Pointer::new(pointer), schema));
        self
    }

    /// JSON Schema of the members of the object at `pointer` that are not named.
    #[must_use]
    pub fn others(mut self, pointer: &str, schema: Value) -> Self {
        self.shape.others.push((Pointer::new(pointer), schema));
        self
    }

    /// A member that a document in read form always has.
    #[must_use]
    pub fn always(mut self, pointer: &str) -> Self {
        self.shape.always.push(Pointer::new(pointer));
        self
    }

    /// A member that always has this value.
    #[must_use]
    pub fn constant(mut self, provider: &str, value: &Value) -> Self {
        self.constants.push(Constant { provider: Pointer::new(provider), value: Node::from(value) });
        self
    }

    /// Declares a field. A field that was declared for the same canonical pointer is replaced.
    #[must_use]
    pub fn field(self, canonical: &str, provider: &str) -> Declaration {
        Declaration {
            mapping: self,
            field: Field {
                canonical: Pointer::new(canonical),
                provider: Pointer::new(provider),
                convert: Convert::Text,
                normalise: None,
                direction: Direction::Both,
                lossy: None,
                lenient: false,
                parent: 0,
            },
        }
    }

    /// Takes a field out.
    #[must_use]
    pub fn without(mut self, canonical: &str) -> Self {
        self.fields.retain(|field| field.canonical.text != canonical);
        self
    }

    /// Takes all fields out that an account does not have.
    #[must_use]
    pub fn only_where(mut self, has: impl Fn(&str) -> bool) -> Self {
        self.fields.retain(|field| field.provider.segments.last().is_some_and(|name| has(name)));
        self
    }

    /// Makes fields one-way that the CRM calculates.
    #[must_use]
    pub fn read_only_where(mut self, is_read_only: impl Fn(&str) -> bool) -> Self {
        for field in &mut self.fields {
            if field.provider.segments.last().is_some_and(|name| is_read_only(name)) {
                field.direction = Direction::ToCanonical;
            }
        }
        self
    }

    /// Moves a field to another place in the CRM. False when there is no such field.
    pub fn rename(&mut self, canonical: &str, provider: &str) -> bool {
        let pointer = Pointer::new(provider);
        let parent = self.parent_of(&pointer);
        let mut found = false;
        for field in self.fields.iter_mut().filter(|field| field.canonical.text == canonical) {
            field.provider = pointer.clone();
            field.parent = parent;
            found = true;
        }
        found
    }

    fn parent_of(&mut self, pointer: &Pointer) -> usize {
        let path = pointer.segments.split_last().map_or_else(Vec::new, |(_, path)| path.to_vec());
        if let Some(place) = self.parents.iter().position(|known| *known == path) {
            return place;
        }
        self.parents.push(path);
        self.parents.len() - 1
    }

    fn add(mut self, mut field: Field) -> Self {
        field.parent = self.parent_of(&field.provider);
        let same_way = |other: &Field| {
            other.canonical == field.canonical
                && (other.direction == field.direction
                    || other.direction == Direction::Both
                    || field.direction == Direction::Both)
        };
        match self.fields.iter().position(same_way) {
            Some(place) => {
                if let Some(slot) = self.fields.get_mut(place) {
                    *slot = field;
                }
            }
            None => self.fields.push(field),
        }
        self
    }
}

/// A field that is being declared: first what holds for it, last how its values are converted.
#[derive(Debug)]
pub struct Declaration {
    mapping: Mapping,
    field: Field,
}

impl Declaration {
    /// The host's normaliser: both sides count as equal up to it.
    #[must_use]
    pub fn normalise(mut self, name: &str) -> Self {
        self.field.normalise = Some(name.to_owned());
        self
    }

    /// Says why a value may not come back as it went.
    #[must_use]
    pub fn lossy(mut self, why: &str) -> Self {
        self.field.lossy = Some(why.to_owned());
        self
    }

    /// A CRM's value that cannot be read counts as absent and stays, instead of setting the record aside. `why` is what people
    /// are told about it.
    #[must_use]
    pub fn lenient(mut self, why: &str) -> Self {
        self.field.lenient = true;
        self.lossy(why)
    }

    /// Only written to the CRM.
    #[must_use]
    pub fn to_provider_only(mut self) -> Self {
        self.field.direction = Direction::ToProvider;
        self
    }

    /// Only read from the CRM.
    #[must_use]
    pub fn to_canonical_only(mut self) -> Self {
        self.field.direction = Direction::ToCanonical;
        self
    }

    /// Sets the direction.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.field.direction = direction;
        self
    }

    /// Converted so.
    #[must_use]
    pub fn convert(mut self, convert: Convert) -> Mapping {
        self.field.convert = convert;
        self.mapping.add(self.field)
    }

    /// Text.
    #[must_use]
    pub fn text(self) -> Mapping {
        self.convert(Convert::Text)
    }

    /// An integer.
    #[must_use]
    pub fn integer(self) -> Mapping {
        self.convert(Convert::Integer)
    }

    /// True or false.
    #[must_use]
    pub fn boolean(self) -> Mapping {
        self.convert(Convert::Boolean)
    }

    /// A decimal, as text in the canonical document.
    #[must_use]
    pub fn decimal(self) -> Mapping {
        self.convert(Convert::Decimal)
    }

    /// A day.
    #[must_use]
    pub fn date(self) -> Mapping {
        self.convert(Convert::Date { millis: false })
    }

    /// A day that the CRM wants as milliseconds at midnight UTC.
    #[must_use]
    pub fn date_millis(self) -> Mapping {
        self.convert(Convert::Date { millis: true })
    }

    /// A moment.
    #[must_use]
    pub fn datetime(self) -> Mapping {
        self.convert(Convert::DateTime { millis: false })
    }

    /// A moment that the CRM wants as milliseconds.
    #[must_use]
    pub fn datetime_millis(self) -> Mapping {
        self.convert(Convert::DateTime { millis: true })
    }

    /// One of a list of options.
    #[must_use]
    pub fn options(self, table: Table) -> Mapping {
        self.convert(Convert::Options(table))
    }

    /// A set of texts that the CRM keeps as an array.
    #[must_use]
    pub fn set(self) -> Mapping {
        self.convert(Convert::Set { separator: None, table: None })
    }

    /// A set of texts that the CRM keeps as one text.
    #[must_use]
    pub fn joined_set(self, separator: char) -> Mapping {
        self.convert(Convert::Set { separator: Some(separator), table: None })
    }

    /// Any JSON.
    #[must_use]
    pub fn json(self) -> Mapping {
        self.convert(Convert::Json)
    }

    /// The author's own way.
    #[must_use]
    pub fn own(self, converter: Converter) -> Mapping {
        self.convert(Convert::Own(converter))
    }
}
