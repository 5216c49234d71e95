//! Which contacts a query finds, and in which order.
//!
//! Texts are compared without regard to case, save those of a case-sensitive unique field. A null is unequal to every value and in no
//! order with any. Conditions on ids, on indexed fields and on `SystemModstamp` narrow down what is looked at, so that a poll
//! of a large org stays quick.

use std::cmp::Ordering;

use serde_json::Value;

use super::contact::Contact;
use super::contacts::Contacts;
use super::fields::{Field, FieldKind};
use super::ids;
use super::soql::{Condition, Literal, Operator, Order, Query};
use super::tokens::Piece;

/// The numbers of the contacts that a query finds, in its order, before limit and offset.
pub(crate) fn found(contacts: &Contacts, query: &Query, all: bool, scrambled: bool) -> Vec<u64> {
    let seen = |contact: &&Contact| !contact.purged && (all || query.all || contact.live());
    let holds = |contact: &&Contact| query.holds.as_ref().is_none_or(|condition| condition.holds(contact));
    let mut rows: Vec<&Contact> =
        match query.holds.as_ref().and_then(|condition| candidates(contacts, condition, all || query.all)) {
            Some(numbers) => numbers
                .iter()
                .filter_map(|number| contacts.records.get(number))
                .filter(seen)
                .filter(holds)
                .collect(),
            None => contacts.records.values().filter(seen).filter(holds).collect(),
        };
    if scrambled {
        // Nothing promises an order to who does not ask for one.
        rows.sort_by_key(|contact| contact.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    } else {
        rows.sort_by_key(|contact| contact.number);
    }
    rows.sort_by(|a, b| {
        query.order.iter().map(|order| order.compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    });
    let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    rows.into_iter().skip(skip).take(limit).map(|contact| contact.number).collect()
}

/// Records among which all that hold are, where an index knows.
fn candidates(contacts: &Contacts, condition: &Condition, all: bool) -> Option<Vec<u64>> {
    match condition {
        Condition::All(parts) => parts.iter().find_map(|part| candidates(contacts, part, all)),
        Condition::Compare(field, Operator::Equal, literal) => {
            one(contacts, field, literal, all).map(|mut numbers| {
                numbers.sort_unstable();
                numbers
            })
        }
        Condition::In(field, false, list) => {
            let mut numbers = Vec::new();
            for literal in list {
                numbers.extend(one(contacts, field, literal, all)?);
            }
            numbers.sort_unstable();
            numbers.dedup();
            Some(numbers)
        }
        Condition::Compare(field, Operator::AtLeast | Operator::Greater, Literal::Moment(from))
            if &*field.name == "SystemModstamp" =>
        {
            Some(contacts.changed(*from, i64::MAX).map(|contact| contact.number).collect())
        }
        _ => None,
    }
}

fn one(contacts: &Contacts, field: &Field, literal: &Literal, all: bool) -> Option<Vec<u64>> {
    match literal {
        Literal::Id(id) if field.kind == FieldKind::Id => {
            Some(ids::number(ids::CONTACT, id).into_iter().collect())
        }
        // The index holds live records only.
        Literal::Text(text) if field.indexed() && !text.is_empty() && !all => {
            Some(contacts.find(field, text))
        }
        _ => None,
    }
}

impl Condition {
    fn holds(&self, contact: &Contact) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(contact)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(contact)),
            Self::Not(part) => !part.holds(contact),
            Self::Compare(field, operator, literal) => {
                let value = contact.raw(field);
                let order = against(field, &value, literal);
                match operator {
                    Operator::Equal => order == Some(Ordering::Equal),
                    Operator::Unequal => order != Some(Ordering::Equal),
                    Operator::Less => order == Some(Ordering::Less),
                    Operator::Greater => order == Some(Ordering::Greater),
                    Operator::AtMost => order.is_some_and(Ordering::is_le),
                    Operator::AtLeast => order.is_some_and(Ordering::is_ge),
                }
            }
            Self::In(field, negated, list) => {
                let value = contact.raw(field);
                list.iter().any(|literal| against(field, &value, literal) == Some(Ordering::Equal))
                    != *negated
            }
            Self::Like(field, pattern) => match contact.raw(field) {
                Value::String(text) => like(pattern, &text),
                _ => false,
            },
        }
    }
}

fn folded(field: &Field, text: &str) -> String {
    if field.case_sensitive { text.to_owned() } else { text.to_lowercase() }
}

/// A value in the order of a literal. None: they are in none.
fn against(field: &Field, value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        // There is no empty text: it is a null.
        (Value::Null, Literal::Text(text)) if text.is_empty() => Some(Ordering::Equal),
        (Value::Bool(a), Literal::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Literal::Text(b)) => Some(folded(field, a).cmp(&folded(field, b))),
        (Value::String(a), Literal::Id(b)) => Some(a.get(..15).unwrap_or_default().cmp(b)),
        (Value::String(a), Literal::Day(b)) => Some(a.cmp(b)),
        (Value::Number(a), Literal::Number(b)) => a.as_f64()?.partial_cmp(b),
        (Value::Number(a), Literal::Moment(b)) => Some(a.as_i64()?.cmp(b)),
        _ => None,
    }
}

/// Whether a text is of a pattern, without regard to case.
fn like(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let pattern: Vec<Piece> = pattern
        .iter()
        .flat_map(|piece| match piece {
            Piece::Char(c) => c.to_lowercase().map(Piece::Char).collect::<Vec<_>>(),
            other => vec![*other],
        })
        .collect();
    // Where the text may be after each piece.
    let mut at: Vec<bool> = (0..=text.len()).map(|n| n == 0).collect();
    for piece in pattern {
        let mut next = vec![false; at.len()];
        let mut open = false;
        for (n, here) in at.iter().enumerate() {
            open |= here;
            let step = match piece {
                Piece::Any => {
                    if let Some(slot) = next.get_mut(n) {
                        *slot |= open;
                    }
                    continue;
                }
                Piece::One => *here && n < text.len(),
                Piece::Char(c) => *here && text.get(n) == Some(&c),
            };
            if let Some(slot) = next.get_mut(n + 1).filter(|_| step) {
                *slot = true;
            }
        }
        at = next;
    }
    at.last().copied().unwrap_or(false)
}

impl Order {
    fn compare(&self, a: &Contact, b: &Contact) -> Ordering {
        let (a, b) = (a.raw(&self.field), b.raw(&self.field));
        let order = match (&a, &b) {
            (Value::Null, Value::Null) => return Ordering::Equal,
            (Value::Null, _) => return if self.nulls_last { Ordering::Greater } else { Ordering::Less },
            (_, Value::Null) => return if self.nulls_last { Ordering::Less } else { Ordering::Greater },
            (Value::String(a), Value::String(b)) => folded(&self.field, a).cmp(&folded(&self.field, b)),
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
            },
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        if self.descending { order.reverse() } else { order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_texts_without_regard_to_case() {
        let pattern = |text: &str| -> Vec<Piece> {
            text.chars()
                .map(|c| match c {
                    '%' => Piece::Any,
                    '_' => Piece::One,
                    c => Piece::Char(c),
                })
                .collect()
        };
        for (of, text, fits) in [
            ("Ann%", "anna", true),
            ("Ann%", "ann", true),
            ("%n%a", "Anna", true),
            ("%", "", true),
            ("_nn_", "Anna", true),
            ("_nn", "Anna", false),
            ("Ann", "Anna", false),
            ("ÄR%", "ärger", true),
            ("", "", true),
            ("_", "", false),
        ] {
            assert_eq!(like(&pattern(of), text), fits, "{of} {text}");
        }
    }
}
