//! Search: filters, sorting and pages over the index, which lags behind.
//!
//! A request is compiled once. Where its filters bound the modification time, the id or the address, only that part
//! of the index is walked; a result that the walk yields in the wanted order is not sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::catalogue::{Property, PropertyType, QUERIED};
use super::contact::{Contact, View};
use super::contacts::Contacts;
use super::errors::ApiError;
use super::index::Index;
use super::values::instant;
use super::{Context, Done};

const LIMIT: usize = 200;
const TOTAL: usize = 10_000;
const GROUPS: usize = 5;
const FILTERS_PER_GROUP: usize = 6;
const FILTERS: usize = 18;
const QUERY: usize = 3_000;
/// Values of an `IN` at most.
const VALUES: usize = 100;

const OPERATORS: &[&str] = &[
    "BETWEEN",
    "CONTAINS_TOKEN",
    "EQ",
    "GT",
    "GTE",
    "HAS_PROPERTY",
    "IN",
    "LT",
    "LTE",
    "NEQ",
    "NOT_CONTAINS_TOKEN",
    "NOT_HAS_PROPERTY",
    "NOT_IN",
];

#[derive(Serialize)]
struct SearchBody<'a> {
    total: usize,
    results: Vec<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<Value>,
}

/// A value in the form in which it is compared.
#[derive(Debug, Clone, PartialEq)]
enum Key {
    Number(f64),
    Text(String),
}

impl Key {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(_) => None,
        }
    }
}

/// How a property's values compare: enumerations keep their case, other texts do not.
fn key(property: &Property, raw: &str) -> Option<Key> {
    Some(match property.kind {
        PropertyType::Number => Key::Number(raw.parse().ok()?),
        PropertyType::Date | PropertyType::DateTime => Key::Number(instant(raw)? as f64),
        PropertyType::Enumeration | PropertyType::Bool => Key::Text(raw.to_owned()),
        PropertyType::String => Key::Text(raw.to_lowercase()),
    })
}

fn key_of(property: &Property, contact: &Contact) -> Option<Key> {
    match &*property.name {
        "lastmodifieddate" => Some(Key::Number(contact.modified as f64)),
        "createdate" => Some(Key::Number(contact.created as f64)),
        "hs_object_id" => Some(Key::Number(contact.id as f64)),
        name => key(property, &contact.value(name)?),
    }
}

#[derive(Debug)]
enum Test {
    Compare(fn(Ordering) -> bool, Key),
    Differs(Key),
    Between(Key, Key),
    Has(bool),
    Among(bool, Vec<Key>),
    Token(bool, String),
}

#[derive(Debug)]
struct Filter {
    property: Arc<Property>,
    test: Test,
}

impl Filter {
    fn matches(&self, contact: &Contact) -> bool {
        let value = || key_of(&self.property, contact);
        match &self.test {
            Test::Compare(wanted, other) => value().is_some_and(|v| wanted(v.order(other))),
            Test::Differs(other) => value().is_none_or(|v| v.order(other) != Ordering::Equal),
            Test::Between(low, high) => {
                value().is_some_and(|v| v.order(low) != Ordering::Less && v.order(high) != Ordering::Greater)
            }
            Test::Has(wanted) => value().is_some() == *wanted,
            Test::Among(wanted, keys) => {
                let among = value().is_some_and(|v| keys.iter().any(|k| v.order(k) == Ordering::Equal));
                among == *wanted
            }
            Test::Token(wanted, pattern) => {
                let found = contact.value(&self.property.name).is_some_and(|v| has_token(&v, pattern));
                found == *wanted
            }
        }
    }

    /// The closed range of numbers that the filter allows for its property.
    fn range(&self) -> Option<(f64, f64)> {
        match &self.test {
            Test::Between(low, high) => Some((low.number()?, high.number()?)),
            Test::Compare(wanted, bound) => {
                let bound = bound.number()?;
                let low = if wanted(Ordering::Less) { f64::NEG_INFINITY } else { bound };
                let high = if wanted(Ordering::Greater) { f64::INFINITY } else { bound };
                Some((low, high))
            }
            _ => None,
        }
    }
}

/// Whether one word of a text is the pattern, in which `*` stands for anything.
fn has_token(text: &str, pattern: &str) -> bool {
    let text = text.to_lowercase();
    // A pattern with a wildcard or an @ is also held against the whole text, as addresses are.
    glob(pattern.as_bytes(), text.as_bytes())
        || text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .any(|word| glob(pattern.as_bytes(), word.as_bytes()))
        || (!pattern.contains('*') && text.split_whitespace().any(|word| word == pattern))
}

/// Matches `*`, in time linear in the product at worst and without recursion.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star, mut mark) = (0, 0, None, 0);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some(p);
                mark = t;
                p += 1;
            }
            Some(c) if text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some(at) => {
                    p = at + 1;
                    mark += 1;
                    t = mark;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[derive(Debug)]
struct Sort {
    property: Arc<Property>,
    descending: bool,
}

/// A compiled search.
#[derive(Debug)]
struct Query {
    groups: Vec<Vec<Filter>>,
    text: Option<String>,
    sort: Option<Sort>,
    limit: usize,
    after: usize,
}

/// The part of the index that a query walks.
enum Walk {
    /// These rows at most.
    Rows(Vec<Arc<Contact>>),
    Modified(i64, i64),
    Ids(u64, u64),
}

impl Query {
    fn matches(&self, contact: &Contact) -> bool {
        let by_filter = self.groups.is_empty()
            || self.groups.iter().any(|group| group.iter().all(|f| f.matches(contact)));
        by_filter
            && self.text.as_ref().is_none_or(|text| {
                QUERIED
                    .iter()
                    .any(|name| contact.value(name).is_some_and(|v| v.to_lowercase().contains(text)))
            })
    }

    /// The range of a property that every group stays in.
    fn range(&self, name: &str) -> Option<(f64, f64)> {
        let mut hull: Option<(f64, f64)> = None;
        for group in &self.groups {
            let mut own = (f64::NEG_INFINITY, f64::INFINITY);
            let mut bounded = false;
            for (low, high) in group.iter().filter(|f| &*f.property.name == name).filter_map(Filter::range) {
                own = (own.0.max(low), own.1.min(high));
                bounded = true;
            }
            if !bounded {
                return None;
            }
            hull = Some(hull.map_or(own, |h| (h.0.min(own.0), h.1.max(own.1))));
        }
        hull
    }

    /// Rows that an exact address or id leads to, when one group asks for it.
    fn exact(&self, index: &Index) -> Option<Vec<Arc<Contact>>> {
        let [group] = self.groups.as_slice() else {
            return None;
        };
        group.iter().find_map(|filter| {
            let keys = match &filter.test {
                Test::Compare(wanted, key)
                    if wanted(Ordering::Equal) && !wanted(Ordering::Less) && !wanted(Ordering::Greater) =>
                {
                    std::slice::from_ref(key)
                }
                Test::Among(true, keys) => keys.as_slice(),
                _ => return None,
            };
            let rows = |find: &dyn Fn(&Key) -> Option<Arc<Contact>>| {
                let mut rows: Vec<_> = keys.iter().filter_map(find).collect();
                rows.sort_by_key(|row| row.id);
                rows.dedup_by_key(|row| row.id);
                rows
            };
            match &*filter.property.name {
                "email" => Some(rows(&|key| match key {
                    Key::Text(email) => index.by_email(email).cloned(),
                    Key::Number(_) => None,
                })),
                "hs_object_id" => Some(rows(&|key| index.row(key.number()? as u64).cloned())),
                _ => None,
            }
        })
    }

    fn walk(&self, index: &Index) -> Walk {
        if let Some(rows) = self.exact(index) {
            return Walk::Rows(rows);
        }
        let sorted_by = self.sort.as_ref().map(|sort| &*sort.property.name);
        // Casts of infinities saturate, which is what is wanted here.
        let modified = self.range("lastmodifieddate").map(|(l, h)| Walk::Modified(l as i64, h as i64));
        let ids = self.range("hs_object_id").map(|(l, h)| Walk::Ids(l as u64, h as u64));
        match (modified, ids, sorted_by) {
            (Some(walk), None, _) | (Some(walk), Some(_), Some("lastmodifieddate")) => walk,
            (_, Some(walk), _) => walk,
            (None, None, Some("lastmodifieddate")) => Walk::Modified(i64::MIN, i64::MAX),
            (None, None, _) => Walk::Ids(0, u64::MAX),
        }
    }

    /// The number of matches and one page of them.
    fn run(&self, index: &Index) -> (usize, Vec<Arc<Contact>>) {
        let descending = self.sort.as_ref().is_some_and(|sort| sort.descending);
        let order = self.sort.as_ref().map_or("hs_object_id", |sort| &*sort.property.name);
        match self.walk(index) {
            Walk::Modified(low, high) if order == "lastmodifieddate" => {
                let rows = index.by_modified(low, high);
                if descending { self.page(rows.rev()) } else { self.page(rows) }
            }
            Walk::Modified(low, high) => self.sorted(index.by_modified(low, high)),
            Walk::Ids(low, high) if order == "hs_object_id" => {
                let rows = index.by_id(low, high);
                if descending { self.page(rows.rev()) } else { self.page(rows) }
            }
            Walk::Ids(low, high) => self.sorted(index.by_id(low, high)),
            Walk::Rows(rows) => self.sorted(rows.iter()),
        }
    }

    fn page<'i>(&self, rows: impl Iterator<Item = &'i Arc<Contact>>) -> (usize, Vec<Arc<Contact>>) {
        let (mut total, mut page) = (0, Vec::with_capacity(self.limit));
        for row in rows.filter(|row| self.matches(row)) {
            if total >= self.after && page.len() < self.limit {
                page.push(row.clone());
            }
            total += 1;
        }
        (total, page)
    }

    fn sorted<'i>(&self, rows: impl Iterator<Item = &'i Arc<Contact>>) -> (usize, Vec<Arc<Contact>>) {
        let mut found: Vec<(Option<Key>, &Arc<Contact>)> = rows
            .filter(|row| self.matches(row))
            .map(|row| (self.sort.as_ref().and_then(|sort| key_of(&sort.property, row)), row))
            .collect();
        let descending = self.sort.as_ref().is_some_and(|sort| sort.descending);
        found.sort_by(|(a, left), (b, right)| {
            let order = match (a, b) {
                (Some(a), Some(b)) => a.order(b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            };
            let order = if descending { order.reverse() } else { order };
            order.then(left.id.cmp(&right.id))
        });
        let page = found.iter().skip(self.after).take(self.limit).map(|(_, row)| (*row).clone()).collect();
        (found.len(), page)
    }
}

impl Context<'_> {
    pub(super) fn search(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let body =
            self.object(&["filterGroups", "filters", "limit", "after", "properties", "sorts", "query"])?;
        let mut contacts = self.account.contacts.lock();
        let query = self.compile(&contacts, &body)?;
        let shown = match body.get("properties") {
            None | Some(Value::Null) => self.shown(&contacts, [].into_iter()),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
                self.shown(&contacts, names.iter().filter_map(Value::as_str))
            }
            Some(_) => {
                self.violation("properties is not an array of strings");
                return Err(ApiError::invalid_json("properties must be an array of strings"));
            }
        };
        contacts.index.catch_up(self.now);
        let (total, page) = query.run(&contacts.index);
        drop(contacts);
        let next = query.after + page.len();
        let results = page.iter().map(|row| View::new(row, &shown, self.account.portal)).collect();
        let paging = (next < total).then(|| json!({ "next": { "after": next.to_string() } }));
        Ok(Done::json(StatusCode::OK, &SearchBody { total, results, paging }))
    }

    fn wrong(&self, reason: impl Into<String>) -> ApiError {
        let reason = reason.into();
        self.violation(reason.clone());
        ApiError::validation(format!("There was a problem with the request: {reason}"))
    }

    fn compile(&self, contacts: &Contacts, body: &Map<String, Value>) -> Result<Query, ApiError> {
        let limit = match body.get("limit") {
            None | Some(Value::Null) => 10,
            Some(value) => match value.as_u64() {
                Some(limit @ 1..=200) => limit as usize,
                _ => return Err(self.wrong(format!("limit is not a number from 1 to {LIMIT}"))),
            },
        };
        let after = match body.get("after") {
            None | Some(Value::Null) => 0,
            Some(Value::String(text)) if text.is_empty() => 0,
            Some(Value::String(text)) => {
                text.parse().map_err(|_| self.wrong("after is not the string of an integer"))?
            }
            Some(Value::Number(number)) => {
                self.violation("after is not a string");
                number.as_u64().map(|n| n as usize).ok_or_else(|| self.wrong("after is not an integer"))?
            }
            Some(_) => return Err(self.wrong("after is not the string of an integer")),
        };
        if after + limit > TOTAL && after >= TOTAL {
            return Err(self.wrong(format!("paging beyond {TOTAL} results is not possible")));
        }
        let limit = limit.min(TOTAL - after);
        let text = match body.get("query") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.chars().count() <= QUERY => {
                Some(text.trim().to_lowercase()).filter(|text| !text.is_empty())
            }
            Some(_) => return Err(self.wrong(format!("query is not a string of up to {QUERY} characters"))),
        };
        Ok(Query {
            groups: self.groups(contacts, body)?,
            text,
            sort: self.sort(contacts, body)?,
            limit,
            after,
        })
    }

    fn groups(&self, contacts: &Contacts, body: &Map<String, Value>) -> Result<Vec<Vec<Filter>>, ApiError> {
        let mut lists: Vec<&Value> = Vec::new();
        match body.get("filterGroups") {
            None | Some(Value::Null) => {}
            Some(Value::Array(groups)) => {
                for group in groups {
                    let group =
                        group.as_object().ok_or_else(|| self.wrong("a filter group is not an object"))?;
                    self.only_members(group, &["filters"], "/filterGroups");
                    lists.push(
                        group.get("filters").ok_or_else(|| self.wrong("a filter group without filters"))?,
                    );
                }
            }
            Some(_) => return Err(self.wrong("filterGroups is not an array")),
        }
        if let Some(filters) = body.get("filters") {
            lists.push(filters);
        }
        if lists.len() > GROUPS {
            return Err(self.wrong(format!("more than {GROUPS} filter groups")));
        }
        let mut count = 0;
        let mut groups = Vec::with_capacity(lists.len());
        for list in lists {
            let list = list.as_array().ok_or_else(|| self.wrong("filters is not an array"))?;
            if list.len() > FILTERS_PER_GROUP {
                return Err(self.wrong(format!("more than {FILTERS_PER_GROUP} filters in a group")));
            }
            count += list.len();
            groups.push(
                list.iter().map(|filter| self.filter(contacts, filter)).collect::<Result<Vec<_>, _>>()?,
            );
        }
        if count > FILTERS {
            return Err(self.wrong(format!("more than {FILTERS} filters")));
        }
        Ok(groups)
    }

    fn filter(&self, contacts: &Contacts, filter: &Value) -> Result<Filter, ApiError> {
        let filter = filter.as_object().ok_or_else(|| self.wrong("a filter is not an object"))?;
        self.only_members(filter, &["propertyName", "operator", "value", "highValue", "values"], "/filters");
        let text = |member: &str| filter.get(member).and_then(Value::as_str);
        let name = text("propertyName").ok_or_else(|| self.wrong("a filter without propertyName"))?;
        let operator = text("operator").ok_or_else(|| self.wrong("a filter without operator"))?;
        if !OPERATORS.contains(&operator) {
            return Err(self.wrong("a filter has an unknown operator"));
        }
        let property = contacts
            .property(name)
            .ok_or_else(|| self.wrong(format!("filter on unknown property {name}")))?;
        let one = |member: &str| -> Result<Key, ApiError> {
            let raw = match filter.get(member) {
                Some(Value::String(raw)) => raw.clone(),
                Some(other @ (Value::Number(_) | Value::Bool(_))) => {
                    self.violation(format!("{member} of a filter is not a string"));
                    other.to_string()
                }
                _ => return Err(self.wrong(format!("{operator} without {member}"))),
            };
            key(&property, &raw)
                .ok_or_else(|| self.wrong(format!("{member} does not fit the type of {name}")))
        };
        let many = || -> Result<Vec<Key>, ApiError> {
            let values = filter
                .get("values")
                .and_then(Value::as_array)
                .ok_or_else(|| self.wrong(format!("{operator} without values")))?;
            if values.is_empty() || values.len() > VALUES {
                return Err(self.wrong(format!("{operator} with no values or more than {VALUES}")));
            }
            values
                .iter()
                .map(|value| {
                    let raw = value.as_str().ok_or_else(|| self.wrong("values are not strings"))?;
                    // The stored text is lowered, the given one is not: it must be in lower case to be found.
                    let key = match property.kind {
                        PropertyType::String => Some(Key::Text(raw.to_owned())),
                        _ => key(&property, raw),
                    };
                    key.ok_or_else(|| self.wrong(format!("a value does not fit the type of {name}")))
                })
                .collect()
        };
        let pattern = || -> Result<String, ApiError> {
            let value = text("value").filter(|value| !value.is_empty());
            Ok(value.ok_or_else(|| self.wrong(format!("{operator} without value")))?.to_lowercase())
        };
        let test = match operator {
            "EQ" => Test::Compare(Ordering::is_eq, one("value")?),
            "NEQ" => Test::Differs(one("value")?),
            "LT" => Test::Compare(Ordering::is_lt, one("value")?),
            "LTE" => Test::Compare(Ordering::is_le, one("value")?),
            "GT" => Test::Compare(Ordering::is_gt, one("value")?),
            "GTE" => Test::Compare(Ordering::is_ge, one("value")?),
            "BETWEEN" => Test::Between(one("value")?, one("highValue")?),
            "HAS_PROPERTY" => Test::Has(true),
            "NOT_HAS_PROPERTY" => Test::Has(false),
            "IN" => Test::Among(true, many()?),
            "NOT_IN" => Test::Among(false, many()?),
            "CONTAINS_TOKEN" => Test::Token(true, pattern()?),
            _ => Test::Token(false, pattern()?),
        };
        Ok(Filter { property, test })
    }

    fn sort(&self, contacts: &Contacts, body: &Map<String, Value>) -> Result<Option<Sort>, ApiError> {
        let sorts = match body.get("sorts") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(sorts)) => sorts,
            Some(_) => return Err(self.wrong("sorts is not an array")),
        };
        if sorts.len() > 1 {
            self.violation("more than one sort; only the first is applied");
        }
        let Some(first) = sorts.first() else {
            return Ok(None);
        };
        let (name, descending) = match first {
            Value::String(text) => match text.strip_prefix('-') {
                Some(name) => (name, true),
                None => (text.as_str(), false),
            },
            Value::Object(sort) => {
                self.only_members(sort, &["propertyName", "direction"], "/sorts");
                let name = sort.get("propertyName").and_then(Value::as_str);
                let name = name.ok_or_else(|| self.wrong("a sort without propertyName"))?;
                match sort.get("direction").and_then(Value::as_str) {
                    None | Some("ASCENDING") => (name, false),
                    Some("DESCENDING") => (name, true),
                    Some(_) => return Err(self.wrong("a sort has an unknown direction")),
                }
            }
            _ => return Err(self.wrong("a sort is neither a string nor an object")),
        };
        let property =
            contacts.property(name).ok_or_else(|| self.wrong(format!("sort by unknown property {name}")))?;
        Ok(Some(Sort { property, descending }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_wildcards_are_found() {
        for (text, pattern, found) in [
            ("Ann Marie Lee", "marie", true),
            ("Ann Marie Lee", "mari", false),
            ("Ann Marie Lee", "mari*", true),
            ("ann@hubspot.com", "*@hubspot.com", true),
            ("ann@hubspot.com", "ann@hubspot.com", true),
            ("ann@hubspot.com", "*@example.com", false),
            ("", "*", true),
        ] {
            assert_eq!(has_token(text, pattern), found, "{text} {pattern}");
        }
        let long = "a".repeat(5_000);
        assert!(!glob(format!("{}b", "a*".repeat(50)).as_bytes(), long.as_bytes()));
    }
}
