//! JSON Schemas (2020-12), compiled once, and the annotations of canonical ones.
//!
//! Formats are asserted, ours beside the standard ones (see [`FORMATS`]). A schema must be whole: a reference out of the document is
//! refused, never fetched. What is wrong comes back as [`Problem`]s: the keyword as code, a JSON pointer, one line that
//! names no record contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, ValidationError, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{self, CUSTOM, escape, problem};
use crate::exchange::Problem;
use crate::normalise;
use crate::policy::ObjectPolicy;

/// How many problems a document is told at most.
pub const GREATEST_PROBLEMS: usize = document::GREATEST_PROBLEMS;

/// Our own formats.
pub const FORMATS: &[(&str, &str)] = &[
    ("decimal", "a decimal number as text, without an exponent, at most 60 characters"),
    ("int64", "a signed integer of 64 bits as text"),
    ("phone", "text with at least one digit, at most 64 characters"),
    ("web-address", "a host with an optional scheme, path and query; no white space"),
    (
        "language",
        "a language tag: letters and digits in parts of at most 8, joined by a hyphen (BCP 47) or underscore",
    ),
];

/// The built-in canonical schema of a contact.
pub const CONTACT: &str = include_str!("../../../schemas/canonical/contact.schema.json");

/// Why a schema is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON.
    #[error("schema {name} is not JSON: {why}")]
    NotJson {
        /// The schema's name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It does not compile.
    #[error("schema {name} at {pointer}: {why}")]
    Invalid {
        /// The schema's name.
        name: String,
        /// Where.
        pointer: String,
        /// What is wrong.
        why: String,
    },
    /// A reference leaves the document.
    #[error("schema {name} at {pointer}: the reference leaves the document; put the definition under $defs")]
    RemoteReference {
        /// The schema's name.
        name: String,
        /// Where.
        pointer: String,
    },
    /// An annotation does not fit.
    #[error("schema {name} at {pointer}: {why}")]
    Annotation {
        /// The schema's name.
        name: String,
        /// Where.
        pointer: String,
        /// What is wrong.
        why: String,
    },
}

/// A compiled schema. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Schema {
    inner: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    source: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema; `name` stands in errors.
    ///
    /// # Errors
    /// The schema is not valid, or refers to another document.
    pub fn compile(name: &str, source: &Value) -> Result<Self, SchemaError> {
        whole(name, source, source, &mut String::new())?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .offline()
            .with_format("decimal", is_decimal)
            .with_format("int64", |text: &str| text.parse::<i64>().is_ok())
            .with_format("phone", is_phone)
            .with_format("web-address", is_web_address)
            .with_format("language", is_language)
            .build(source)
            .map_err(|error| SchemaError::Invalid {
                name: name.to_owned(),
                pointer: error.instance_path().to_string(),
                why: one_line(&error.masked().to_string()),
            })?;
        Ok(Self { inner: Arc::new(Compiled { source: source.clone(), validator }) })
    }

    /// Compiles a schema from its text.
    ///
    /// # Errors
    /// As [`Schema::compile`], and when it is not JSON.
    pub fn parse(name: &str, text: &str) -> Result<Self, SchemaError> {
        Self::compile(name, &read(name, text)?)
    }

    /// The schema as it was given.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.inner.source
    }

    /// Whether a document is valid; the quick way for the many that are.
    #[must_use]
    pub fn is_valid(&self, document: &Value) -> bool {
        self.inner.validator.is_valid(document)
    }

    /// Checks a document.
    ///
    /// # Errors
    /// What is wrong with it, at most [`GREATEST_PROBLEMS`].
    pub fn validate(&self, document: &Value) -> Result<(), Vec<Problem>> {
        if self.inner.validator.is_valid(document) {
            return Ok(());
        }
        let mut problems = Vec::new();
        for error in self.inner.validator.iter_errors(document) {
            tell(&error, &mut problems);
            if problems.len() >= GREATEST_PROBLEMS {
                problems.truncate(GREATEST_PROBLEMS);
                break;
            }
        }
        Err(problems)
    }
}

fn read(name: &str, text: &str) -> Result<Value, SchemaError> {
    serde_json::from_str(text)
        .map_err(|error| SchemaError::NotJson { name: name.to_owned(), why: error.to_string() })
}

/// Refuses references that leave the document.
fn whole(name: &str, root: &Value, node: &Value, at: &mut String) -> Result<(), SchemaError> {
    let length = at.len();
    match node {
        Value::Object(members) => {
            for (member, value) in members {
                at.push('/');
                at.push_str(&escape(member));
                if let ("$ref" | "$dynamicRef", Value::String(target)) = (member.as_str(), value)
                    && !target.starts_with('#')
                    && root.get("$id").and_then(Value::as_str) != target.split('#').next()
                {
                    return Err(SchemaError::RemoteReference { name: name.to_owned(), pointer: at.clone() });
                }
                // A value is no schema, whatever its members are called.
                if !matches!(member.as_str(), "const" | "enum" | "default" | "examples") {
                    whole(name, root, value, at)?;
                }
                at.truncate(length);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                at.push_str(&format!("/{index}"));
                whole(name, root, value, at)?;
                at.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// A member's name from outside, short enough for a report.
fn bounded(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn tell(error: &ValidationError<'_>, problems: &mut Vec<Problem>) {
    let at = error.instance_path().to_string();
    let code = error.kind().keyword();
    let mut say = |message: String| problems.push(problem(code, message, Some(at.clone())));
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(GREATEST_PROBLEMS) {
                let pointer = format!("{at}/{}", escape(&bounded(name)));
                problems.push(problem(code, "a member that the schema does not know", Some(pointer)));
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            problems.push(problem(code, "missing", Some(format!("{at}/{}", escape(name)))));
        }
        ValidationErrorKind::Type { kind } => say(match kind {
            TypeKind::Single(kind) => format!("not of type {kind}"),
            TypeKind::Multiple(kinds) => {
                let names: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
                format!("not of type {}", names.join(" or "))
            }
        }),
        ValidationErrorKind::Format { format } => say(format!("not in format {format}")),
        ValidationErrorKind::MaxLength { limit } => say(format!("longer than {limit} characters")),
        ValidationErrorKind::MinLength { limit } => say(format!("shorter than {limit} characters")),
        ValidationErrorKind::MaxItems { limit } => say(format!("more than {limit} elements")),
        ValidationErrorKind::MinItems { limit } => say(format!("fewer than {limit} elements")),
        ValidationErrorKind::MaxProperties { limit } => say(format!("more than {limit} members")),
        ValidationErrorKind::Maximum { limit } => say(format!("greater than {limit}")),
        ValidationErrorKind::Minimum { limit } => say(format!("less than {limit}")),
        ValidationErrorKind::Enum { options } => say(match options.as_array() {
            Some(options) => format!("none of the {} allowed values", options.len()),
            None => "none of the allowed values".to_owned(),
        }),
        ValidationErrorKind::Pattern { .. } => say("does not match the pattern".to_owned()),
        ValidationErrorKind::UniqueItems => say("an element stands there twice".to_owned()),
        ValidationErrorKind::FalseSchema => say("not allowed here".to_owned()),
        ValidationErrorKind::PropertyNames { .. } => say("a member's name is not allowed".to_owned()),
        _ => say(format!("breaks the rule {code}")),
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    text.len() <= 60
        && !whole.is_empty()
        && !fraction.is_empty()
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
}

fn is_phone(text: &str) -> bool {
    text.chars().count() <= 64 && text.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_web_address(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !host.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_language(text: &str) -> bool {
    text.split(['-', '_'])
        .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// What a canonical schema says of one field beside its type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Annotations {
    /// `x-identity`: one person, one value; records are matched by it.
    pub identity: bool,
    /// `x-set`: merged element by element.
    pub set: bool,
    /// `x-group`: fields that stand or fall together.
    pub group: Option<String>,
    /// `x-normalise`: the host's normaliser.
    pub normalise: Option<String>,
    /// `x-reference`: the object that it refers to.
    pub reference: Option<String>,
}

/// The compiled schema of a canonical object, with its annotations. Cloning shares it.
#[derive(Clone, Debug)]
pub struct CanonicalSchema {
    schema: Schema,
    fields: Arc<BTreeMap<String, Annotations>>,
}

impl CanonicalSchema {
    /// Compiles a canonical schema and reads its annotations.
    ///
    /// # Errors
    /// As [`Schema::compile`], and when an annotation is of the wrong type, names no known normaliser, or does not fit its field.
    pub fn compile(name: &str, source: &Value) -> Result<Self, SchemaError> {
        let schema = Schema::compile(name, source)?;
        let mut fields = BTreeMap::new();
        if let Some(properties) = members(source, "properties") {
            for (property, declared) in properties {
                if property == CUSTOM {
                    for (own, declared) in members(declared, "properties").into_iter().flatten() {
                        let at = format!("/properties/{CUSTOM}/properties/{}", escape(own));
                        fields.insert(document::custom_pointer(own), annotations(name, &at, declared)?);
                    }
                } else {
                    let at = format!("/properties/{}", escape(property));
                    fields.insert(document::pointer(property), annotations(name, &at, declared)?);
                }
            }
        }
        Ok(Self { schema, fields: Arc::new(fields) })
    }

    /// Compiles a canonical schema from its text.
    ///
    /// # Errors
    /// As [`CanonicalSchema::compile`], and when it is not JSON.
    pub fn parse(name: &str, text: &str) -> Result<Self, SchemaError> {
        Self::compile(name, &read(name, text)?)
    }

    /// The canonical schema that Tandem brings along for an object, if there is one.
    ///
    /// # Errors
    /// Never for the ones that are built in; the type is that of [`CanonicalSchema::parse`].
    pub fn built_in(object: &str) -> Option<Result<Self, SchemaError>> {
        match object {
            "contact" => Some(Self::parse("contact", CONTACT)),
            _ => None,
        }
    }

    /// The compiled schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Annotations by field pointer, one entry for each declared field.
    #[must_use]
    pub fn fields(&self) -> &BTreeMap<String, Annotations> {
        &self.fields
    }

    /// The members that it declares, those of a customer's own apart.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        members(self.schema.source(), "properties")
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .filter(|name| *name != CUSTOM)
    }

    /// Whether a field may exist: declared, or one of a customer's own.
    #[must_use]
    pub fn has(&self, pointer: &str) -> bool {
        self.fields.contains_key(pointer)
            || (pointer.starts_with("/custom/")
                && members(self.schema.source(), "properties").is_some_and(|all| all.contains_key(CUSTOM)))
    }

    /// Checks a canonical document.
    ///
    /// # Errors
    /// What is wrong with it, at most [`GREATEST_PROBLEMS`].
    pub fn validate(&self, document: &Value) -> Result<(), Vec<Problem>> {
        self.schema.validate(document)
    }

    /// A policy with what the schema knows: groups, sets, identity, normalisers, and the limits that apply unless the
    /// configuration says otherwise. Nothing is mapped yet.
    #[must_use]
    pub fn policy_base(&self) -> ObjectPolicy {
        let mut policy = ObjectPolicy::recommended();
        for (pointer, field) in self.fields.iter() {
            if field.identity {
                policy.identity.push(pointer.clone());
            }
            if field.set {
                policy.sets.push(pointer.clone());
            }
            if let Some(group) = &field.group {
                policy.groups.insert(pointer.clone(), group.clone());
            }
            if let Some(normaliser) = &field.normalise {
                policy.normalise.insert(pointer.clone(), normaliser.clone());
            }
        }
        policy
    }

    /// Fields that refer to other objects: pointer to object.
    #[must_use]
    pub fn references(&self) -> BTreeMap<String, String> {
        self.fields
            .iter()
            .filter_map(|(pointer, field)| Some((pointer.clone(), field.reference.clone()?)))
            .collect()
    }
}

fn members<'a>(node: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    node.get(name).and_then(Value::as_object)
}

fn annotations(name: &str, at: &str, declared: &Value) -> Result<Annotations, SchemaError> {
    let refuse = |member: &str, why: &str| SchemaError::Annotation {
        name: name.to_owned(),
        pointer: format!("{at}/{member}"),
        why: why.to_owned(),
    };
    let flag = |member: &str| match declared.get(member) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(refuse(member, "must be true or false")),
    };
    let word = |member: &str| match declared.get(member) {
        None => Ok(None),
        Some(Value::String(word)) if !word.is_empty() => Ok(Some(word.clone())),
        Some(_) => Err(refuse(member, "must be a word")),
    };
    let field = Annotations {
        identity: flag("x-identity")?,
        set: flag("x-set")?,
        group: word("x-group")?,
        normalise: word("x-normalise")?,
        reference: word("x-reference")?,
    };
    if let Some(chain) = &field.normalise
        && !normalise::is_known(chain)
    {
        let known: Vec<&str> = normalise::ALL.iter().map(|normaliser| normaliser.name).collect();
        return Err(refuse("x-normalise", &format!("no such normaliser; known are {}", known.join(", "))));
    }
    let types: BTreeSet<&str> = match declared.get("type") {
        Some(Value::String(kind)) => BTreeSet::from([kind.as_str()]),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    };
    if field.set && !types.contains("array") {
        return Err(refuse("x-set", "only an array can be a set"));
    }
    if field.set && field.group.is_some() {
        return Err(refuse("x-group", "a set is merged on its own and belongs to no group"));
    }
    const KNOWN: [&str; 5] = ["x-identity", "x-set", "x-group", "x-normalise", "x-reference"];
    if let Some(unknown) = declared
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .find(|member| member.starts_with("x-") && !KNOWN.contains(&member.as_str()))
    {
        return Err(refuse(unknown, &format!("no such annotation; known are {}", KNOWN.join(", "))));
    }
    Ok(field)
}

#[cfg(test)]
mod tests;
