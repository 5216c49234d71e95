//! The judge: from what was acknowledged and what both sides say, to a verdict on every record.
//!
//! Pure, and independent of the product: the correspondence of fields ([`Dialect`]) is written from the documentation of the CRMs and
//! from the canonical schema's prose, not from the providers. Several accounts may serve one scope: then each has to have what
//! System A has, or what the account is known to make of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem_simulator::control::types::Rewrite;

use crate::account::Contact;
use crate::crm::Dialect;
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

/// Canonical members, and their form. The number of employees is left out: HubSpot keeps a band of it.
const FIELDS: [(&str, Form); 18] = [
    ("email", Form::Email),
    ("given_name", Form::Text),
    ("family_name", Form::Text),
    ("phone", Form::Text),
    ("mobile_phone", Form::Text),
    ("job_title", Form::Text),
    ("company_name", Form::Text),
    ("website", Form::Text),
    ("street", Form::Text),
    ("city", Form::Text),
    ("region", Form::Text),
    ("postal_code", Form::Text),
    ("country", Form::Text),
    ("language", Form::Text),
    ("lifecycle_stage", Form::Stage),
    ("date_of_birth", Form::Text),
    ("annual_revenue", Form::Number),
    ("notes", Form::Text),
];

/// What an account shows, and what is known of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The scope that its connection serves.
    pub scope: String,
    /// What its members are called.
    pub dialect: Dialect,
    /// What it makes of texts, by canonical member, whoever writes them.
    pub rewrites: BTreeMap<String, Rewrite>,
    /// System A takes over what it makes of them (`on_rewrite = "adopt"`).
    pub adopted: bool,
    /// Fields of the customer's own. They are compared with each other alone: no matter who wrote them.
    pub customs: Vec<Own>,
    /// Its records.
    pub contacts: Vec<Contact>,
}

/// A field of the customer's own: which value of System A is which value of the account, as far as any is used.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its name below `custom` in the canonical document.
    pub member: String,
    /// The account's name of it.
    pub name: String,
    /// System A's value, and the account's as a text or as JSON.
    pub same: Vec<(Value, Value)>,
}

impl Own {
    fn is_same(&self, internal: Option<&Value>, external: Option<&String>) -> bool {
        let external = external.map(|text| Value::String(text.clone()));
        match (said(internal), said(external.as_ref())) {
            (None, None) => true,
            (Some(internal), Some(external)) => self.same.iter().any(|(here, there)| {
                said(Some(here)).as_ref() == Some(&internal) && said(Some(there)).as_ref() == Some(&external)
            }),
            _ => false,
        }
    }
}

/// The parts of a value, in no order. None: it says nothing, or no.
fn said(value: Option<&Value>) -> Option<Vec<String>> {
    let part = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    };
    let mut parts = match value? {
        Value::Array(parts) => parts.iter().map(part).collect(),
        // As an account writes it that has texts for everything.
        Value::String(text) => match serde_json::from_str(text) {
            Ok(parsed @ (Value::Array(_) | Value::Number(_))) => return said(Some(&parsed)),
            _ => text.split(';').map(str::to_owned).collect(),
        },
        Value::Null => Vec::new(),
        other => vec![part(other)],
    };
    parts.retain(|part| !["", "false"].contains(&part.as_str()));
    parts.sort();
    (!parts.is_empty()).then_some(parts)
}

impl Seen {
    /// A text as the account keeps it.
    fn kept(&self, member: &str, text: &str) -> String {
        match self.rewrites.get(member) {
            None => text.to_owned(),
            Some(Rewrite::Upper) => text.to_uppercase(),
            Some(Rewrite::Squeeze) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Some(Rewrite::PhonePlus) => {
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                if digits.is_empty() { text.to_owned() } else { format!("+{digits}") }
            }
            Some(Rewrite::Title) => {
                let lower = text.to_lowercase();
                let mut before = ' ';
                let words = lower.chars().flat_map(|c| {
                    let start = before.is_whitespace();
                    before = c;
                    if start { c.to_uppercase().collect() } else { vec![c] }
                });
                words.collect()
            }
            Some(Rewrite::Set(text)) => text.clone(),
        }
    }
}

/// Everything that the judge looks at.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What was acknowledged, and when nothing was under way.
    pub ledger: Story,
    /// System A's records by scope.
    pub system_a: BTreeMap<String, Vec<Listed>>,
    /// The accounts by their connections.
    pub accounts: BTreeMap<String, Seen>,
    /// Ids of records under review (System A's), by connection, with the fields that are held.
    pub reviews: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Ids of records that are set aside (of either side), by connection.
    pub set_aside: BTreeMap<String, BTreeSet<String>>,
}

/// The verdict on all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Both sides have what was last acknowledged.
    pub equal: u64,
    /// Both sides are the same; some acknowledged value was superseded by one from elsewhere that was written while it was
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
    /// What each connection of the scope has of them.
    accounts: BTreeMap<&'a str, Vec<&'a Contact>>,
}

/// A person's verdict at one account, the worst last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    Superseded,
    UnderReview,
    Removed,
    Refused,
    SetAside,
    Failed(String),
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
    for (connection, seen) in &evidence.accounts {
        let name = |member: &str| seen.dialect.name_of(member).unwrap_or_default();
        let (email, given, family) = (name("email"), name("given_name"), name("family_name"));
        for contact in &seen.contacts {
            let get = |name: &str| contact.properties.get(name).map(String::as_str);
            let key = key_of(get(email), get(given), get(family));
            let person = people.entry((seen.scope.clone(), key)).or_default();
            person.accounts.entry(connection).or_default().push(contact);
        }
    }
    let mut report = Report::default();
    for ((scope, key), person) in &people {
        match one(evidence, scope, person) {
            Verdict::Equal => report.equal += 1,
            Verdict::Superseded => report.superseded += 1,
            Verdict::UnderReview => report.under_review += 1,
            Verdict::SetAside => report.set_aside += 1,
            Verdict::Removed => report.removed += 1,
            Verdict::Refused => report.refused += 1,
            Verdict::Failed(what) => report.failures.push(format!("{scope}: {key}: {what}")),
        }
    }
    report
}

/// The worst of the verdicts at all accounts of the scope.
fn one(evidence: &Evidence, scope: &str, person: &Person<'_>) -> Verdict {
    if person.acts.is_empty() {
        return Verdict::Failed("a record that nobody made".into());
    }
    let accounts = evidence.accounts.iter().filter(|(_, seen)| seen.scope == scope);
    accounts
        .map(|(connection, seen)| at_account(evidence, person, connection, seen))
        .max()
        .unwrap_or_else(|| Verdict::Failed("no account of the scope was looked at".into()))
}

fn at_account(evidence: &Evidence, person: &Person<'_>, connection: &str, seen: &Seen) -> Verdict {
    let fail = |what: &str| Verdict::Failed(format!("{what}, at {connection}"));
    let account = person.accounts.get(connection).map(Vec::as_slice).unwrap_or_default();
    if person.system_a.len() > 1 || account.len() > 1 {
        return fail(&format!(
            "doubled: {} in system a, {} in the account",
            person.system_a.len(),
            account.len()
        ));
    }
    let aside = evidence.set_aside.get(connection);
    let is_aside = |id: &str| aside.is_some_and(|ids| ids.contains(id));
    let here = person.system_a.first();
    let there = account.first();
    let last = person.acts.iter().max_by_key(|entry| entry.seq).map(|entry| &entry.act);
    let nowhere = here.is_none() && there.is_none();
    match last {
        Some(Act::Refused) if nowhere => return Verdict::Refused,
        Some(Act::Refused) => return fail("refused at the door, but there"),
        Some(Act::Removed) if nowhere => return Verdict::Removed,
        Some(Act::Removed) => {
            return fail(&format!(
                "resurrected: it was deleted and is there, {} in system a and {} in the account",
                person.system_a.len(),
                account.len()
            ));
        }
        _ => {}
    }
    let (here, there) = match (here, there) {
        (Some(here), Some(there)) => (here, there),
        (Some(Listed { id, .. }), None) if is_aside(id) => return Verdict::SetAside,
        (None, Some(Contact { id, .. })) if is_aside(id) => return Verdict::SetAside,
        (here, there) => {
            return fail(&format!(
                "dropped: {} in system a, {} in the account",
                if here.is_some() { "there" } else { "missing" },
                if there.is_some() { "there" } else { "missing" }
            ));
        }
    };
    let held = evidence.reviews.get(connection).and_then(|ids| ids.get(&here.id));
    let is_held = |member: &str| held.is_some_and(|fields| fields.contains(&format!("/{member}")));
    let mut verdict = Verdict::Equal;
    for (member, form) in FIELDS {
        let Some(name) = seen.dialect.name_of(member) else { continue };
        let internal = canonical(here.document.get(member), form);
        let external = there.properties.get(name).map(|value| normal(value, form)).filter(|v| !v.is_empty());
        let rewritten = || {
            let text = here.document.get(member).and_then(Value::as_str);
            text.map(|text| normal(&seen.kept(member, text), form))
        };
        if internal != external && external != rewritten() {
            if is_held(member) {
                verdict = verdict.max(Verdict::UnderReview);
                continue;
            }
            if is_aside(&here.id) || is_aside(&there.id) {
                return Verdict::SetAside;
            }
            return fail(&format!("{member} differs between the two sides"));
        }
        match word(evidence, person, member, form, internal.as_ref()) {
            Word::Last => {}
            Word::Superseding => verdict = verdict.max(Verdict::Superseded),
            _ if is_held(member) => verdict = verdict.max(Verdict::UnderReview),
            Word::Stale => return fail(&format!("{member} is stale: an older acknowledged value came back")),
            Word::Nobodys => return fail(&format!("{member} has a value that nobody wrote")),
        }
    }
    let of_own = here.document.get("custom");
    for own in &seen.customs {
        let internal = of_own.and_then(|custom| custom.get(&own.member));
        if !own.is_same(internal, there.properties.get(&own.name)) {
            return fail(&format!("custom/{} differs between the two sides", own.member));
        }
    }
    verdict
}

/// Whose word a value is.
enum Word {
    /// The last one; nobody wrote another meanwhile, or nobody ever wrote any.
    Last,
    /// The last one of System A or of an account, while another one from elsewhere was under way.
    Superseding,
    /// An older one.
    Stale,
    /// Nobody's.
    Nobodys,
}

fn word(evidence: &Evidence, person: &Person<'_>, member: &str, form: Form, value: Option<&String>) -> Word {
    let story = &evidence.ledger;
    let mut written: Vec<(&Entry, Option<&Value>)> = person
        .acts
        .iter()
        .filter_map(|entry| match &entry.act {
            Act::Wrote(members) => Some((*entry, Some(members.get(member)?))),
            _ => None,
        })
        .collect();
    written.sort_by_key(|(entry, _)| entry.seq);
    let is_value = |(entry, written): &(&Entry, Option<&Value>)| {
        forms(evidence, entry, member, *written)
            .iter()
            .any(|word| canonical(word.as_ref(), form).as_ref() == value)
    };
    let Some((last, _)) = written.last() else { return Word::Last };
    // The last word of each side and account since everything had been carried over. What was said before takes no part in what is
    // disputed, though some side has said nothing since.
    let carried = story.carried_before(last.seq);
    let mut ends: BTreeMap<(Side, &str), (&Entry, Option<&Value>)> = BTreeMap::new();
    for word in written.iter().filter(|(entry, _)| entry.seq > carried) {
        ends.insert((word.0.side, word.0.account.as_str()), *word);
    }
    if ends.values().any(is_value) {
        if ends.len() > 1 { Word::Superseding } else { Word::Last }
    } else if written.iter().any(is_value) {
        Word::Stale
    } else {
        Word::Nobodys
    }
}

/// What a written value may be in System A: as it was kept where it was written, and, where System A takes such things over, what
/// another account made of it.
fn forms(evidence: &Evidence, entry: &Entry, member: &str, value: Option<&Value>) -> Vec<Option<Value>> {
    let Some(Value::String(text)) = value else { return vec![value.cloned()] };
    let accounts = || evidence.accounts.iter().filter(|(_, seen)| seen.scope == entry.scope);
    let own = |name: &str| entry.side == Side::Account && (entry.account == name || entry.account.is_empty());
    let kept = accounts().find(|(name, _)| own(name)).map(|(_, seen)| seen.kept(member, text));
    let mut all = vec![kept.unwrap_or_else(|| text.clone())];
    for _ in accounts() {
        let more: Vec<String> = accounts()
            .filter(|(_, seen)| seen.adopted)
            .flat_map(|(_, seen)| all.iter().map(|text| seen.kept(member, text)))
            .collect();
        all.extend(more);
    }
    all.into_iter().map(|text| Some(Value::String(text))).collect()
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
            .entry(text("/connection"))
            .or_default()
            .entry(text("/entity/id"))
            .or_default()
            .extend(fields.filter_map(|field| field.as_str().map(ToOwned::to_owned)));
    }
}

/// Takes over what `GET /v1/dead` says.
pub fn add_set_aside(evidence: &mut Evidence, list: &Value) {
    for row in rows(list) {
        let connection = row.get("connection").and_then(Value::as_str).unwrap_or_default().to_owned();
        let ids = evidence.set_aside.entry(connection).or_default();
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
        let (scope, person, account) = ("acme".into(), person.into(), String::new());
        Entry { scope, person, side, account, seq, act: Act::Wrote(members) }
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
                Seen {
                    scope: "acme".to_owned(),
                    contacts: vec![
                        contact("1", &[("email", "ann@example.com"), ("phone", "1"), ("city", "Ulm")]),
                        contact("2", &[("email", "bob@example.com"), ("phone", "22")]),
                    ],
                    ..Seen::default()
                },
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
        found(|evidence| evidence.accounts.get_mut("acme").unwrap().contacts.truncate(1), "dropped");
    }

    #[test]
    fn a_doubled_record_is_found() {
        found(
            |evidence| {
                let contacts = &mut evidence.accounts.get_mut("acme").unwrap().contacts;
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
                let contact = &mut evidence.accounts.get_mut("acme").unwrap().contacts[1];
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
        evidence.accounts.get_mut("acme").unwrap().contacts[1].properties.insert("phone".into(), "33".into());
        let report = judge(&evidence);
        assert_eq!((report.equal, report.superseded), (2, 0), "{report:?}");
    }

    #[test]
    fn swapped_fields_are_found() {
        found(
            |evidence| {
                let contact = &mut evidence.accounts.get_mut("acme").unwrap().contacts[0];
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
                    account: String::new(),
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
            let contact = &mut evidence.accounts.get_mut("acme").unwrap().contacts[0];
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

    #[test]
    fn a_field_of_the_customers_own_that_differs_is_found() {
        let own = |same: Value, there: Value| Own {
            member: "regions".into(),
            name: "regions__c".into(),
            same: vec![(same, there)],
        };
        let judged = |own: Own, here: Value, there: Option<&str>| {
            let mut evidence = sound();
            evidence.system_a.get_mut("acme").unwrap()[0].document["custom"] = json!({ "regions": here });
            let seen = evidence.accounts.get_mut("acme").unwrap();
            if let Some(there) = there {
                seen.contacts[0].properties.insert("regions__c".into(), there.into());
            }
            seen.customs = vec![own];
            judge(&evidence).failures
        };
        let set = || own(json!(["North", "South"]), json!([17, 18]));
        for (own, here, there) in [
            (set(), json!(["South", "North"]), Some("[18,17]")),
            (set(), Value::Null, None),
            (own(json!(["North"]), json!("n")), json!(["North"]), Some("n")),
            (own(json!("12.5"), json!(12.5)), json!("12.50"), Some("12.5")),
            // Who said nothing said no.
            (own(json!(true), json!(true)), Value::Null, Some("false")),
            (own(json!(true), json!(true)), json!(true), Some("true")),
        ] {
            assert_eq!(judged(own, here, there), Vec::<String>::new());
        }
        for (here, there) in [
            (json!(["North"]), Some("[17,18]")),
            (json!(["North", "South"]), Some("[17,19]")),
            (json!(["North", "South"]), None),
            (Value::Null, Some("[17,18]")),
        ] {
            let failures = judged(set(), here, there);
            assert!(
                failures.iter().any(|failure| failure.contains("custom/regions differs")),
                "{failures:?}"
            );
        }
    }

    /// One person whom two accounts of a scope have; the second one writes titles in its own way.
    fn twice() -> Evidence {
        let ann = json!({"email": "ann@example.com", "job_title": "head of it"});
        let at_rest = |members: &Value| {
            let members = members.as_object().cloned().unwrap_or_default();
            let (scope, person, account) = ("acme".into(), "ann@example.com".into(), "rest".into());
            Entry { scope, person, side: Side::Account, account, seq: 3, act: Act::Wrote(members) }
        };
        let seen = |dialect, contact| Seen {
            scope: "acme".into(),
            dialect,
            contacts: vec![contact],
            ..Seen::default()
        };
        let first =
            contact("1", &[("email", "ann@example.com"), ("jobtitle", "head of it"), ("city", "Ulm")]);
        let second = contact("p-1", &[("Mail", "ann@example.com"), ("Title", "Head Of It"), ("City", "Ulm")]);
        let rest = Seen {
            rewrites: [("job_title".to_owned(), Rewrite::Title), ("city".to_owned(), Rewrite::Squeeze)]
                .into(),
            ..seen(Dialect::Rest, second)
        };
        let mut document = ann.clone();
        document["city"] = json!("Ulm");
        Evidence {
            ledger: Story {
                acts: vec![
                    wrote("ann@example.com", Side::SystemA, 1, &ann),
                    wrote("ann@example.com", Side::Account, 2, &json!({"city": "Bonn"})),
                    at_rest(&json!({"city": "  Ulm "})),
                ],
                quiet: vec![1],
            },
            system_a: [("acme".to_owned(), vec![Listed { id: "a".into(), version: 3, document }])].into(),
            accounts: [("acme".to_owned(), seen(Dialect::HubSpot, first)), ("rest".to_owned(), rest)].into(),
            ..Evidence::default()
        }
    }

    fn found_at_two(corrupt: impl FnOnce(&mut Evidence), word: &str) {
        let mut evidence = twice();
        corrupt(&mut evidence);
        let report = judge(&evidence);
        assert!(report.failures.iter().any(|failure| failure.contains(word)), "{word}: {report:?}");
    }

    #[test]
    fn two_accounts_are_content_when_each_has_what_it_makes_of_the_value() {
        let report = judge(&twice());
        assert_eq!((report.failures.as_slice(), report.superseded), ([].as_slice(), 1), "{report:?}");
    }

    /// System A's word was carried over; then one account gives two, and the other one while they are under way.
    fn disputed(stands: &str) -> Report {
        let mut evidence = twice();
        let city = |account: &str, seq: u64, city: &str| Entry {
            account: account.to_owned(),
            ..wrote("ann@example.com", Side::Account, seq, &json!({ "city": city }))
        };
        let system_a =
            wrote("ann@example.com", Side::SystemA, 1, &json!({"job_title": "head of it", "city": "Ulm"}));
        let acts = [city("acme", 2, "Bonn"), city("acme", 3, "Kiel"), city("rest", 4, "Köln")];
        evidence.ledger.acts = std::iter::once(system_a).chain(acts).collect();
        evidence.system_a.get_mut("acme").unwrap()[0].document["city"] = json!(stands);
        for (account, name) in [("acme", "city"), ("rest", "City")] {
            let contact = &mut evidence.accounts.get_mut(account).unwrap().contacts[0];
            contact.properties.insert(name.to_owned(), stands.to_owned());
        }
        judge(&evidence)
    }

    #[test]
    fn a_side_that_says_nothing_more_takes_no_part_in_what_the_others_dispute() {
        for stands in ["Kiel", "Köln"] {
            let report = disputed(stands);
            assert_eq!((report.failures.as_slice(), report.superseded), ([].as_slice(), 1), "{stands}");
        }
        for stands in ["Ulm", "Bonn"] {
            let failures = disputed(stands).failures;
            assert!(
                failures.iter().any(|failure| failure.contains("city is stale")),
                "{stands}: {failures:?}"
            );
        }
    }

    #[test]
    fn each_of_two_accounts_is_looked_at() {
        let rest = |evidence: &mut Evidence| evidence.accounts.get_mut("rest").unwrap().contacts.clear();
        found_at_two(rest, "dropped: there in system a, missing in the account, at rest");
        let title = |evidence: &mut Evidence, account: &str, name: &str, title: &str| {
            let contact = &mut evidence.accounts.get_mut(account).unwrap().contacts[0];
            contact.properties.insert(name.to_owned(), title.to_owned());
        };
        found_at_two(|evidence| title(evidence, "rest", "Title", "HEAD OF IT"), "job_title differs");
        // Only the account that is known to rewrite may have another value.
        found_at_two(|evidence| title(evidence, "acme", "jobtitle", "Head Of It"), "job_title differs");
    }

    #[test]
    fn what_an_account_made_of_a_value_is_a_word_in_system_a_only_where_it_is_taken_over() {
        let adopt = |evidence: &mut Evidence| {
            evidence.system_a.get_mut("acme").unwrap()[0].document["job_title"] = json!("Head Of It");
            let contact = &mut evidence.accounts.get_mut("acme").unwrap().contacts[0];
            contact.properties.insert("jobtitle".into(), "Head Of It".into());
        };
        found_at_two(adopt, "job_title has a value that nobody wrote");
        let mut evidence = twice();
        adopt(&mut evidence);
        evidence.accounts.get_mut("rest").unwrap().adopted = true;
        assert_eq!(judge(&evidence).failures, Vec::<String>::new());
    }
}
