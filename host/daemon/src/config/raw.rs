//! Reading TOML with its places: every value knows its file, line and key, every mistake is collected, and a key that nobody asked for
//! is refused with the nearest known one.
//!
//! Not serde: it stops at the first mistake, and an operator wants them all.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Number, Value as Json};
use toml::de::{DeTable, DeValue};
use url::Url;

use super::place::{Finding, Place};
use super::secret::{Secret, SecretFrom};
use super::words::{
    NAME_RULE, is_name, nearest, parse_duration, parse_size, show_duration, show_size, suggestion,
};

/// Deepest nesting of free-form settings.
const DEEPEST: usize = 32;

/// One file under reading, and what was found wrong with it.
pub(super) struct Source<'t> {
    file: Arc<Path>,
    text: &'t str,
    findings: RefCell<Vec<Finding>>,
    /// Every key that was asked for, with `*` for names that the operator chooses: the tests hold the schemas against it.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &Path, text: &'t str) -> Self {
        Self {
            file: file.into(),
            text,
            findings: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Parses the text. What is not TOML becomes findings, the first one of each line; then the rest is not judged, since a torn value reads
    /// as another one.
    pub(super) fn parse(&self) -> Option<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut last_line = 0;
        for error in &errors {
            let place = self.place(error.span().map_or(0, |span| span.start), String::new());
            if place.line != last_line {
                last_line = place.line;
                let what = format!("not TOML: {}", error.message().trim().replace('\n', ", "));
                self.findings.borrow_mut().push(Finding { place, what });
            }
        }
        errors.is_empty().then(|| table.into_inner())
    }

    /// The document's outermost table.
    pub(super) fn root<'s>(&'s self, table: &'s DeTable<'t>) -> Section<'s> {
        Section {
            source: self,
            key: String::new(),
            shape: String::new(),
            at: 0,
            table: Some(table),
            broken: false,
            known: RefCell::default(),
        }
    }

    pub(super) fn place(&self, at: usize, key: String) -> Place {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Place { file: self.file.clone(), line: u32::try_from(line).unwrap_or(u32::MAX), key }
    }

    fn find(&self, at: usize, key: String, what: String) {
        let place = self.place(at, key);
        self.findings.borrow_mut().push(Finding { place, what });
    }

    /// What was found wrong, by line.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|left, right| {
            (left.place.line, &left.place.key).cmp(&(right.place.line, &right.place.key))
        });
        findings
    }
}

/// A table. A missing one reads as empty.
pub(super) struct Section<'s> {
    source: &'s Source<'s>,
    key: String,
    shape: String,
    at: usize,
    table: Option<&'s DeTable<'s>>,
    /// Something else than a table stands here and was reported: what is missing in it is not reported as well.
    broken: bool,
    known: RefCell<Vec<&'static str>>,
}

impl<'s> Section<'s> {
    fn child(&self, name: &str) -> String {
        let bare = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let name = if bare { name.to_owned() } else { format!("{name:?}") };
        if self.key.is_empty() { name } else { format!("{}.{name}", self.key) }
    }

    fn child_shape(&self, name: &str) -> String {
        if self.shape.is_empty() { name.to_owned() } else { format!("{}.{name}", self.shape) }
    }

    fn ask(&self, name: &'static str) {
        self.known.borrow_mut().push(name);
        #[cfg(test)]
        self.source.asked.borrow_mut().insert(self.child_shape(name));
    }

    /// True when the table has the key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.keys().any(|key| key.get_ref() == name))
    }

    /// True when the file has this table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some() || self.broken
    }

    /// The value of a key, if it is there.
    pub(super) fn value(&self, name: &'static str) -> Option<Value<'s>> {
        self.ask(name);
        let (key, value) = self.table?.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Value {
            source: self.source,
            key: self.child(name),
            shape: self.child_shape(name),
            at: key.span().start,
            value: value.get_ref(),
        })
    }

    /// The value of a key that has to be there.
    pub(super) fn required(&self, name: &'static str, way_out: &str) -> Option<Value<'s>> {
        let value = self.value(name);
        if value.is_none() && !self.broken {
            self.source.find(self.at, self.child(name), format!("missing; {way_out}"));
        }
        value
    }

    /// A table inside this one.
    pub(super) fn section(&self, name: &'static str) -> Section<'s> {
        let value = self.value(name);
        let broken = value.is_some();
        value.and_then(|value| value.section()).unwrap_or_else(|| Section {
            source: self.source,
            key: self.child(name),
            shape: self.child_shape(name),
            at: self.at,
            table: None,
            broken: broken || self.broken,
            known: RefCell::default(),
        })
    }

    /// All entries, for tables whose keys are names that the operator chooses. Takes the place of [`Section::finish`].
    pub(super) fn entries(self) -> Vec<(&'s str, Value<'s>)> {
        let Some(table) = self.table else { return Vec::new() };
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let name: &'s str = key.get_ref();
                let value = Value {
                    source: self.source,
                    key: self.child(name),
                    shape: self.child_shape("*"),
                    at: key.span().start,
                    value: value.get_ref(),
                };
                (name, value)
            })
            .collect();
        entries.sort_by_key(|(_, value)| value.at);
        entries
    }

    /// Reports something about the table as a whole or about one of its keys that is missing.
    pub(super) fn fail(&self, name: Option<&str>, what: String) {
        let key = name.map_or_else(|| self.key.clone(), |name| self.child(name));
        self.source.find(self.at, key, what);
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        let known = self.known.borrow();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let what = format!("unknown key{}", suggestion(name, &known));
                self.source.find(key.span().start, self.child(name), what);
            }
        }
    }
}

/// A value with its place. Readers answer `None` after they reported what is wrong.
pub(super) struct Value<'s> {
    source: &'s Source<'s>,
    key: String,
    shape: String,
    at: usize,
    value: &'s DeValue<'s>,
}

impl<'s> Value<'s> {
    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.at, self.key.clone())
    }

    /// Reports what is wrong with it.
    pub(super) fn fail<T>(&self, what: impl Into<String>) -> Option<T> {
        self.source.find(self.at, self.key.clone(), what.into());
        None
    }

    fn wanted<T>(&self, wanted: &str) -> Option<T> {
        self.fail(format!("is {}, not {wanted}", kind(self.value)))
    }

    pub(super) fn section(&self) -> Option<Section<'s>> {
        let DeValue::Table(table) = self.value else { return self.wanted("a table") };
        Some(Section {
            source: self.source,
            key: self.key.clone(),
            shape: self.shape.clone(),
            at: self.at,
            table: Some(table),
            broken: false,
            known: RefCell::default(),
        })
    }

    pub(super) fn text(&self) -> Option<&'s str> {
        match self.value {
            DeValue::String(text) if text.is_empty() => {
                self.fail("is empty; give it a value or leave the key out")
            }
            DeValue::String(text) => Some(text),
            _ => self.wanted("text"),
        }
    }

    /// Text, or a whole number as text: ids of accounts are written both ways.
    pub(super) fn word(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            _ => self.text().map(str::to_owned),
        }
    }

    /// A name: letters, digits, dots, hyphens and underscores, the first a letter or digit.
    pub(super) fn name(&self) -> Option<&'s str> {
        let text = self.text()?;
        if is_name(text) { Some(text) } else { self.fail(format!("{text:?} is not a name; {NAME_RULE}")) }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wanted("true or false"),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else { return self.wanted("a whole number") };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => self.fail(format!("{number} is out of range; use {} to {}", range.start(), range.end())),
        }
    }

    pub(super) fn count(&self, most: u32) -> Option<NonZeroU32> {
        let value = self.integer(1..=u64::from(most))?;
        u32::try_from(value).ok().and_then(NonZeroU32::new)
    }

    /// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) => {
                return self.fail(format!(
                    "{number} has no unit; write for example \"{number}ms\" or \"{number}s\""
                ));
            }
            _ => return self.wanted("a duration such as \"10s\""),
        };
        let Some(value) = parse_duration(text) else {
            return self.fail(format!(
                "{text:?} is not a duration; write for example \"250ms\", \"10s\", \"5m\" or \"1h\""
            ));
        };
        if range.contains(&value) {
            Some(value)
        } else {
            let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
            self.fail(format!("{text:?} is out of range; use {least} to {most}"))
        }
    }

    /// A size in bytes: a whole number, or text with `KiB`, `MiB` or `GiB`.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let parsed = match self.value {
            DeValue::String(text) => parse_size(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => return self.wanted("a size such as \"64MiB\""),
        };
        match parsed {
            Some(value) if range.contains(&value) => Some(value),
            Some(_) => {
                let (least, most) = (show_size(*range.start()), show_size(*range.end()));
                self.fail(format!("is out of range; use {least} to {most}"))
            }
            None => self.fail("is not a size; write for example \"512KiB\", \"64MiB\" or \"1GiB\""),
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let mut what = format!("{text:?} is not one of {}", known.join(", "));
        if let Some(near) = nearest(text, &known) {
            let _ = write!(what, "; did you mean {near:?}?");
        }
        self.fail(what)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        text.parse().ok().or_else(|| {
            self.fail(format!("{text:?} is not an address with a port; write for example \"127.0.0.1:7070\""))
        })
    }

    /// An http or https URL without user, query and fragment.
    pub(super) fn url(&self) -> Option<Url> {
        let text = self.text()?;
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                return self.fail(format!(
                    "{text:?} is not a URL: {error}; write for example \"https://sync.example.com\""
                ));
            }
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return self.fail(format!("{text:?} is not an http or https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return self.fail("has a user or password in it; credentials have keys of their own");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return self.fail(format!("{text:?} has a query or fragment; end it with the path"));
        }
        Some(url)
    }

    /// A path; a relative one counts from the configuration file's folder.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        Some(self.source.file.parent().unwrap_or(Path::new("")).join(text))
    }

    /// `{ file = "…" }` or `{ env = "…" }`. The value itself is never repeated in an error: it may be the secret.
    pub(super) fn secret(&self) -> Option<Secret> {
        const WAY_OUT: &str = "write { file = \"path\" } or { env = \"NAME\" }";
        let DeValue::Table(_) = self.value else {
            return self.fail(format!("secrets do not stand in the configuration; {WAY_OUT}"));
        };
        let section = self.section()?;
        let (file, env) = (section.value("file"), section.value("env"));
        section.finish();
        let from = match (file, env) {
            (Some(file), None) => SecretFrom::File(file.path()?),
            (None, Some(env)) => {
                let name = env.text()?;
                if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    return env
                        .fail("is not the name of an environment variable; use letters, digits and '_'");
                }
                SecretFrom::Env(name.to_owned())
            }
            (Some(_), Some(_)) => return self.fail(format!("has both file and env; {WAY_OUT}")),
            (None, None) => return self.fail(format!("says neither file nor env; {WAY_OUT}")),
        };
        Some(Secret { from, place: self.place() })
    }

    /// A list, element by element.
    pub(super) fn list(&self) -> Option<Vec<Value<'s>>> {
        let DeValue::Array(array) = self.value else { return self.wanted("a list") };
        let items = array.iter().enumerate().map(|(position, item)| Value {
            source: self.source,
            key: format!("{}[{position}]", self.key),
            shape: format!("{}[]", self.shape),
            at: item.span().start,
            value: item.get_ref(),
        });
        Some(items.collect())
    }

    /// A free-form table as JSON. Fractions are refused: no binary floating point touches a customer's data.
    pub(super) fn json(&self) -> Option<Map<String, Json>> {
        match (self.value, self.to_json(self.value, 0)) {
            (DeValue::Table(_), Some(Json::Object(members))) => Some(members),
            (DeValue::Table(_), _) => None,
            _ => self.wanted("a table"),
        }
    }

    /// Text, a whole number, true or false.
    pub(super) fn plain(&self) -> Option<Json> {
        match self.value {
            DeValue::Table(_) | DeValue::Array(_) => self.wanted("text, a number, or true or false"),
            value => self.to_json(value, 0),
        }
    }

    fn to_json(&self, value: &DeValue<'_>, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return self.fail(format!("is nested deeper than {DEEPEST} levels"));
        }
        match value {
            DeValue::String(text) => Some(Json::String(text.clone().into_owned())),
            DeValue::Boolean(value) => Some(Json::Bool(*value)),
            DeValue::Datetime(value) => Some(Json::String(value.to_string())),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Some(Json::Number(Number::from(value))),
                Err(_) => self.fail(format!("{number} is too large a number; write it as text")),
            },
            DeValue::Float(number) => self.fail(format!("{number} is a fraction; write it as text")),
            DeValue::Array(items) => {
                let items: Option<Vec<_>> =
                    items.iter().map(|item| self.to_json(item.get_ref(), depth + 1)).collect();
                items.map(Json::Array)
            }
            DeValue::Table(table) => {
                let mut members = Map::new();
                for (key, value) in table {
                    members.insert(
                        key.get_ref().clone().into_owned(),
                        self.to_json(value.get_ref(), depth + 1)?,
                    );
                }
                Some(Json::Object(members))
            }
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
