//! The judge: from what was acknowledged and what both sides say, to a verdict on every record.
//!
//! Pure, and independent of the product: the correspondence of fields below is written from HubSpot's documentation of contact
//! properties and from the canonical schema's prose, not from the provider.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::account::Contact;
use crate::ledger::{Act, Entry, Side, Story, key_of, key_of_document};
use crate::system_a::Listed;

/// How a canonical value is written as a property.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Email,
    Number,
    Stage,
}

/// Canonical member, HubSpot property, form. The number of employees is left out: HubSpot keeps a band of it.
const FIELDS: [(&str, &str, Form); 18] = [
    ("email", "email", Form::Email),
    ("given_name", "firstname", Form::Text),
    ("family_name", "lastname", Form::Text),
    ("phone", "phone", Form::Text),
    ("mobile_phone", "mobilephone", Form::Text),
    ("job_title", "jobtitle", Form::Text),
    ("company_name", "company", Form::Text),
    ("website", "website", Form::Text),
    ("street", "address", Form::Text),
    ("city", "city", Form::Text),
    ("region", "state", Form::Text),
    ("postal_code", "zip", Form::Text),
    ("country", "country", Form::Text),
    ("language", "hs_language", Form::Text),
    ("lifecycle_stage", "lifecyclestage", Form::Stage),
    ("date_of_birth", "date_of_birth", Form::Text),
    ("annual_revenue", "annualrevenue", Form::Number),
    ("notes", "message", Form::Text),
];

/// Everything that the judge looks at.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What was acknowledged, and when nothing was under way.
    pub ledger: Story,
    /// System A's records by scope.
    pub system_a: BTreeMap<String, Vec<Listed>>,
    /// The accounts' records by scope.
    pub accounts: BTreeMap<String, Vec<Contact>>,
    /// Ids of records under review (System A's), by scope, with the fields that are held.
    pub reviews: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Ids of records that are set aside (of either side), by scope.
    pub set_aside: BTreeMap<String, BTreeSet<String>>,
}

/// The verdict on all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Both sides have what was last acknowledged.
    pub equal: u64,
    /// Both sides are the same; some acknowledged value was superseded by one of the other side that was written while it was
    /// under way. What was written after everything had been carried over supersedes, and is not superseded by what was before.
    pub superseded: u64,
    /// A field group waits for a person.
    pub under_review: u64,
    /// Set aside with a reason.
    pub set_aside: u64,
    /// Deleted on both sides, as it was asked for.
    pub removed: u64,
    /// Refused at the door, and nowhere.
    pub refused: u64,
    /// Everything else, in words.
    pub failures: Vec<String>,
}

#[derive(Default)]
struct Person<'a> {
    acts: Vec<&'a Entry>,
    system_a: Vec<&'a Listed>,
    account: Vec<&'a Contact>,
}

/// Judges.
#[must_use]
pub fn judge(evidence: &Evidence) -> Report {
    let mut people: BTreeMap<(String, String), Person<'_>> = BTreeMap::new();
    for entry in &evidence.ledger.acts {
        people.entry((entry.scope.clone(), entry.person.clone())).or_default().acts.push(entry);
    }
    for (scope, records) in &evidence.system_a {
        for record in records {
            let key = key_of_document(&record.document);
            people.entry((scope.clone(), key)).or_default().system_a.push(record);
        }
    }
    for (scope, contacts) in &evidence.accounts {
        for contact in contacts {
            let get = |name: &str| contact.properties.get(name).map(String::as_str);
            let key = key_of(get("email"), get("firstname"), get("lastname"));
            people.entry((scope.clone(), key)).or_default().account.push(contact);
        }
    }
    let mut report = Report::default();
    for ((scope, key), person) in &people {
        one(evidence, scope, key, person, &mut report);
    }
    report
}

fn one(evidence: &Evidence, scope: &str, key: &str, person: &Person<'_>, report: &mut Report) {
    let mut fail = |what: String| report.failures.push(format!("{scope}: {key}: {what}"));
    if person.acts.is_empty() {
        fail("a record that nobody made".into());
        return;
    }
    if person.system_a.len() > 1 || person.account.len() > 1 {
        fail(format!(
            "doubled: {} in system a, {} in the account",
            person.system_a.len(),
            person.account.len()
        ));
        return;
    }
    let aside = evidence.set_aside.get(scope);
    let is_aside = |id: &str| aside.is_some_and(|ids| ids.contains(id));
    let here = person.system_a.first();
    let there = person.account.first();
    let last = person.acts.iter().max_by_key(|entry| entry.seq).map(|entry| &entry.act);
    if matches!(last, Some(Act::Refused)) {
        if here.is_none() && there.is_none() {
            report.refused += 1;
        } else {
            fail("refused at the door, but there".into());
        }
        return;
    }
    if matches!(last, Some(Act::Removed)) {
        match (here, there) {
            (None, None) => report.removed += 1,
            _ => fail("resurrected: it was deleted and is there".into()),
        }
        return;
    }
    let (here, there) = match (here, there) {
        (Some(here), Some(there)) => (here, there),
        (Some(here), None) if is_aside(&here.id) => {
            report.set_aside += 1;
            return;
        }
        (None, Some(there)) if is_aside(&there.id) => {
            report.set_aside += 1;
            return;
        }
        (here, there) => {
            fail(format!(
                "dropped: {} in system a, {} in the account",
                if here.is_some() { "there" } else { "missing" },
                if there.is_some() { "there" } else { "missing" }
            ));
            return;
        }
    };
    let held = evidence.reviews.get(scope).and_then(|ids| ids.get(&here.id));
    let mut was_held = false;
    let mut was_superseded = false;
    for (member, property, form) in FIELDS {
        let internal = canonical(here.document.get(member), form);
        let external =
            there.properties.get(property).map(|value| normal(value, form)).filter(|v| !v.is_empty());
        if internal != external {
            if held.is_some_and(|fields| fields.contains(&format!("/{member}"))) {
                was_held = true;
                continue;
            }
            if is_aside(&here.id) || is_aside(&there.id) {
                report.set_aside += 1;
                return;
            }
            fail(format!("{member} differs between the two sides"));
            return;
        }
        match word(person, member, form, internal.as_ref(), &evidence.ledger) {
            Word::Last => {}
            Word::Superseding => was_superseded = true,
            _ if held.is_some_and(|fields| fields.contains(&format!("/{member}"))) => was_held = true,
            Word::Stale => {
                fail(format!("{member} is stale: an older acknowledged value came back"));
                return;
            }
            Word::Nobodys => {
                fail(format!("{member} has a value that nobody wrote"));
                return;
            }
        }
    }
    if was_held {
        report.under_review += 1;
    } else if was_superseded {
        report.superseded += 1;
    } else {
        report.equal += 1;
    }
}

/// Whose word a value is.
enum Word {
    /// The last one; nobody wrote another meanwhile, or nobody ever wrote any.
    Last,
    /// The last one of a side, while another of the other side was under way.
    Superseding,
    /// An older one.
    Stale,
    /// Nobody's.
    Nobodys,
}

fn word(person: &Person<'_>, member: &str, form: Form, value: Option<&String>, story: &Story) -> Word {
    let mut written: Vec<(&Entry, Option<String>)> = person
        .acts
        .iter()
        .filter_map(|entry| match &entry.act {
            Act::Wrote(members) => Some((*entry, canonical(Some(members.get(member)?), form))),
            _ => None,
        })
        .collect();
    written.sort_by_key(|(entry, _)| entry.seq);
    let last_of = |side: Side| written.iter().rev().find(|(entry, _)| entry.side == side);
    let ends = [last_of(Side::SystemA), last_of(Side::Account)];
    let overlap = match ends {
        [Some((here, _)), Some((there, _))] => {
            !story.quiet_between(here.seq.min(there.seq), here.seq.max(there.seq))
        }
        _ => false,
    };
    match written.last() {
        None => Word::Last,
        Some((_, last)) if last.as_ref() == value && overlap => Word::Superseding,
        Some((_, last)) if last.as_ref() == value => Word::Last,
        Some(_) if overlap && ends.iter().flatten().any(|(_, word)| word.as_ref() == value) => {
            Word::Superseding
        }
        Some(_) if written.iter().any(|(_, word)| word.as_ref() == value) => Word::Stale,
        Some(_) => Word::Nobodys,
    }
}

fn canonical(value: Option<&Value>, form: Form) -> Option<String> {
    let text = match value? {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let normal = normal(&text, form);
    (!normal.is_empty()).then_some(normal)
}

fn normal(text: &str, form: Form) -> String {
    match form {
        Form::Text => text.trim().to_owned(),
        Form::Email => text.trim().to_lowercase(),
        // HubSpot's stages are written together: marketing_qualified_lead is marketingqualifiedlead.
        Form::Stage => text.replace('_', ""),
        Form::Number => {
            let text = text.trim();
            let text =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
            text.to_owned()
        }
    }
}

/// Takes over what `GET /v1/review` says.
pub fn add_reviews(evidence: &mut Evidence, list: &Value) {
    for row in rows(list) {
        let text =
            |pointer: &str| row.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let fields = row.get("fields").and_then(Value::as_array).into_iter().flatten();
        evidence
            .reviews
            .entry(text("/entity/scope"))
            .or_default()
            .entry(text("/entity/id"))
            .or_default()
            .extend(fields.filter_map(|field| field.as_str().map(ToOwned::to_owned)));
    }
}

/// Takes over what `GET /v1/dead` says. A connection is named like its scope.
pub fn add_set_aside(evidence: &mut Evidence, list: &Value) {
    for row in rows(list) {
        let scope = row.get("connection").and_then(Value::as_str).unwrap_or_default().to_owned();
        let ids = evidence.set_aside.entry(scope).or_default();
        for name in ["internal", "external"] {
            ids.extend(row.get(name).and_then(Value::as_str).map(ToOwned::to_owned));
        }
    }
}

/// The rows of a list, whether it is bare or in an envelope.
fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    let rows = list
        .as_array()
        .or_else(|| list.as_object().and_then(|envelope| envelope.values().find_map(Value::as_array)));
    rows.into_iter().flatten()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "equal {}, superseded {}, under review {}, set aside {}, removed {}, refused {}, failed {}",
            self.equal,
            self.superseded,
            self.under_review,
            self.set_aside,
            self.removed,
            self.refused,
            self.failures.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrote(person: &str, side: Side, seq: u64, members: &Value) -> Entry {
        let members = members.as_object().cloned().unwrap_or_default();
        Entry { scope: "acme".into(), person: person.into(), side, seq, act: Act::Wrote(members) }
    }

    fn contact(id: &str, properties: &[(&str, &str)]) -> Contact {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Contact { id: id.into(), properties }
    }

    /// Two people who are the same on both sides; the second was edited on both.
    fn sound() -> Evidence {
        let ann = json!({"email": "Ann@Example.com", "phone": "1", "city": "Ulm"});
        let bob = json!({"email": "bob@example.com", "phone": "2"});
        Evidence {
            ledger: Story {
                acts: vec![
                    wrote("ann@example.com", Side::SystemA, 1, &ann),
                    wrote("bob@example.com", Side::SystemA, 2, &bob),
                    wrote("bob@example.com", Side::SystemA, 3, &json!({"phone": "22"})),
                    wrote("bob@example.com", Side::Account, 4, &json!({"phone": "33"})),
                ],
                quiet: vec![2, 4],
            },
            system_a: [(
                "acme".to_owned(),
                vec![
                    Listed { id: "a".into(), version: 1, document: ann },
                    Listed {
                        id: "b".into(),
                        version: 3,
                        document: json!({"email": "bob@example.com", "phone": "22"}),
                    },
                ],
            )]
            .into(),
            accounts: [(
                "acme".to_owned(),
                vec![
                    contact("1", &[("email", "ann@example.com"), ("phone", "1"), ("city", "Ulm")]),
                    contact("2", &[("email", "bob@example.com"), ("phone", "22")]),
                ],
            )]
            .into(),
            ..Evidence::default()
        }
    }

    #[test]
    fn what_is_the_same_on_both_sides_is_content() {
        let report = judge(&sound());
        assert_eq!(report.failures, Vec::<String>::new());
        assert_eq!((report.equal, report.superseded), (1, 1));
    }

    fn found(corrupt: impl FnOnce(&mut Evidence), word: &str) {
        let mut evidence = sound();
        corrupt(&mut evidence);
        let report = judge(&evidence);
        assert!(report.failures.iter().any(|failure| failure.contains(word)), "{word}: {report:?}");
    }

    #[test]
    fn a_dropped_record_is_found() {
        found(|evidence| evidence.accounts.get_mut("acme").unwrap().truncate(1), "dropped");
    }

    #[test]
    fn a_doubled_record_is_found() {
        found(
            |evidence| {
                let contacts = evidence.accounts.get_mut("acme").unwrap();
                let again = Contact { id: "3".into(), ..contacts[0].clone() };
                contacts.push(again);
            },
            "doubled",
        );
    }

    #[test]
    fn a_stale_value_is_found() {
        found(
            |evidence| {
                evidence.system_a.get_mut("acme").unwrap()[1].document["phone"] = json!("2");
                let contact = &mut evidence.accounts.get_mut("acme").unwrap()[1];
                contact.properties.insert("phone".into(), "2".into());
            },
            "stale",
        );
    }

    #[test]
    fn a_value_that_was_carried_over_does_not_supersede_what_was_written_later() {
        found(|evidence| evidence.ledger.quiet = vec![3], "stale");
    }

    #[test]
    fn the_last_word_after_everything_was_carried_over_is_no_conflict() {
        let mut evidence = sound();
        evidence.ledger.quiet = vec![3];
        evidence.system_a.get_mut("acme").unwrap()[1].document["phone"] = json!("33");
        evidence.accounts.get_mut("acme").unwrap()[1].properties.insert("phone".into(), "33".into());
        let report = judge(&evidence);
        assert_eq!((report.equal, report.superseded), (2, 0), "{report:?}");
    }

    #[test]
    fn swapped_fields_are_found() {
        found(
            |evidence| {
                let contact = &mut evidence.accounts.get_mut("acme").unwrap()[0];
                contact.properties.insert("phone".into(), "Ulm".into());
                contact.properties.insert("city".into(), "1".into());
                let document = &mut evidence.system_a.get_mut("acme").unwrap()[0].document;
                document["phone"] = json!("Ulm");
                document["city"] = json!("1");
            },
            "nobody wrote",
        );
    }

    #[test]
    fn a_resurrected_record_is_found() {
        found(
            |evidence| {
                evidence.ledger.acts.push(Entry {
                    scope: "acme".into(),
                    person: "ann@example.com".into(),
                    side: Side::SystemA,
                    seq: 9,
                    act: Act::Removed,
                });
            },
            "resurrected",
        );
    }

    #[test]
    fn one_side_that_differs_is_found_unless_it_is_held_or_set_aside() {
        let differs = |evidence: &mut Evidence| {
            let contact = &mut evidence.accounts.get_mut("acme").unwrap()[0];
            contact.properties.insert("city".into(), "Bonn".into());
        };
        found(differs, "differs");
        let mut held = sound();
        differs(&mut held);
        held.reviews.insert("acme".into(), [("a".to_owned(), ["/city".to_owned()].into())].into());
        assert_eq!(judge(&held).under_review, 1);
        let mut aside = sound();
        differs(&mut aside);
        aside.set_aside.insert("acme".into(), ["a".to_owned()].into());
        assert_eq!(judge(&aside).set_aside, 1);
    }
}
