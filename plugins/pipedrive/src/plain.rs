//! Persons in flat form: one text for each value that is mapped.
//!
//! A flat person has `first_name`, `last_name`, `email`, `phone`, `mobile`, the members of the contact sync, the parts of the
//! postal address, and `custom_fields`. It is made of whatever members the person has, so that a webhook's few members make a few
//! values. The way back changes only what differs: everything else stays as Pipedrive wrote it.

use std::borrow::Cow;

use tandem_provider::Problem;
use tandem_provider::json::{Members, Node};

use crate::Pipedrive;
use crate::entries::{self, Pick};
use crate::kinds::{self, Kind};

/// Members that are text in both forms.
pub(crate) const SAME: [&str; 5] = ["first_name", "last_name", "job_title", "birthday", "notes"];
/// Parts of the postal address that stand for themselves.
pub(crate) const ADDRESS: [&str; 4] = ["locality", "admin_area_level_1", "postal_code", "country"];
/// Street and house number together.
pub(crate) const STREET: &str = "street";
/// The list of addresses, and the flat member for one of them.
pub(crate) const EMAILS: (&str, &str) = ("emails", "email");
/// The list of telephone numbers.
pub(crate) const PHONES: &str = "phones";
/// The postal address.
pub(crate) const POSTAL: &str = "postal_address";
/// Where custom fields stand in both forms.
pub(crate) const CUSTOM: &str = "custom_fields";

impl Pipedrive {
    /// Which entries the flat members `phone` and `mobile` stand for.
    fn numbers(&self) -> [(&'static str, Pick<'_>); 2] {
        let label = self.settings.mobile_label.as_str();
        [("phone", Pick::Otherwise(label)), ("mobile", Pick::Labelled(label))]
    }

    /// A person in flat form. What has another type than it should have is handed on: the mapping says so.
    pub(crate) fn plain<'a>(&self, person: &Node<'a>) -> Node<'a> {
        let mut plain = Members::with_capacity(16);
        for name in SAME {
            if let Some(value) = person.get(name) {
                plain.push(name, shown(value));
            }
        }
        if let Some(list) = person.get(EMAILS.0) {
            plain.push(EMAILS.1, one_of(list, Pick::Primary));
        }
        if let Some(list) = person.get(PHONES) {
            for (name, pick) in self.numbers() {
                plain.push(name, one_of(list, pick));
            }
        }
        if let Some(address) = person.get(POSTAL) {
            flat_address(address, &mut plain);
        }
        if let Some(fields) = person.get(CUSTOM).and_then(Node::as_object) {
            let mut custom = Members::with_capacity(self.kinds.len());
            for key in self.kinds.keys() {
                if let Some(value) = fields.get(key) {
                    let text = kinds::text(value).map(Node::Text);
                    custom.push(key.clone(), text.unwrap_or_else(|| value.clone()));
                }
            }
            plain.push(CUSTOM, Node::Object(custom));
        }
        Node::Object(plain)
    }

    /// Lays what changed between two flat persons onto a person.
    pub(crate) fn merge<'a>(
        &self,
        mut person: Node<'a>,
        before: &Node<'a>,
        after: &Node<'a>,
    ) -> Result<Node<'a>, Vec<Problem>> {
        let changed = |name: &str| -> Option<Cow<'a, str>> {
            let value = after.get(name);
            (said(before.get(name)) != said(value)).then(|| said(value))
        };
        let Node::Object(members) = &mut person else { return Ok(person) };
        for name in SAME {
            if let Some(text) = changed(name) {
                members.set(name, text_or_null(text));
            }
        }
        if let Some(to) = changed(EMAILS.1) {
            change_entry(members, EMAILS.0, Pick::Primary, &to);
        }
        for (name, pick) in self.numbers() {
            if let Some(to) = changed(name) {
                change_entry(members, PHONES, pick, &to);
            }
        }
        if ADDRESS.iter().chain([&STREET]).any(|name| changed(name).is_some()) {
            let address = self.address(members.get(POSTAL), &changed);
            members.set(POSTAL, address);
        }
        let problems = self.merge_custom(members, before.get(CUSTOM), after.get(CUSTOM));
        if problems.is_empty() { Ok(person) } else { Err(problems) }
    }

    fn merge_custom<'a>(
        &self,
        members: &mut Members<'a>,
        before: Option<&Node<'a>>,
        after: Option<&Node<'a>>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, kind) in &self.kinds {
            let value = |side: Option<&Node<'a>>| said(side.and_then(|side| side.get(key)));
            let to = value(after);
            if to == value(before) {
                continue;
            }
            let there = members.get(CUSTOM).and_then(|fields| fields.get(key));
            let value = if to.is_empty() { Some(Node::Null) } else { kind.value(&to, there) };
            let Some(value) = value else {
                let what = if *kind == Kind::Flag {
                    "true or false"
                } else {
                    "a number of fifteen digits at the most"
                };
                let pointer = self.canonical_at(&format!("/{CUSTOM}/{key}")).unwrap_or_default();
                problems.push(Problem::new("invalid-value", format!("{what} was expected")).at(pointer));
                continue;
            };
            if !matches!(members.get(CUSTOM), Some(Node::Object(_))) {
                members.set(CUSTOM, Node::object());
            }
            if let Some(Node::Object(fields)) = members.get_mut(CUSTOM) {
                fields.set(key.clone(), value);
            }
        }
        problems
    }

    /// The canonical field of a pointer into the flat form.
    pub(crate) fn canonical_at(&self, plain: &str) -> Option<String> {
        self.persons.mapped().find(|field| field.provider == plain).map(|field| field.canonical.to_owned())
    }

    /// A postal address with what changed. Pipedrive clears the parts that are not sent, and wants the whole in `value`.
    fn address<'a>(
        &self,
        current: Option<&Node<'a>>,
        changed: &dyn Fn(&str) -> Option<Cow<'a, str>>,
    ) -> Node<'a> {
        let mut parts = current.and_then(Node::as_object).cloned().unwrap_or_default();
        for name in ADDRESS {
            if let Some(to) = changed(name) {
                parts.set(name, text_or_null(to));
            }
        }
        if let Some(street) = changed(STREET) {
            // Which part of it is the house number is a matter of the country; it is read as one text again.
            parts.set("route", text_or_null(street));
            parts.set("street_number", Node::Null);
        }
        parts.remove("formatted_address");
        let whole = written_out(&parts);
        if whole.is_empty() {
            return Node::Null;
        }
        parts.set("value", Node::text(whole));
        Node::Object(parts)
    }
}

/// Where a problem of the flat form is in a person.
pub(crate) fn at_its_place(problem: Problem) -> Problem {
    match problem.pointer.as_deref().map(place_of) {
        Some(place) => problem.at(place),
        None => problem,
    }
}

/// The person's member that a pointer into the flat form stands for.
pub(crate) fn place_of(plain: &str) -> String {
    match plain.strip_prefix('/').unwrap_or(plain) {
        "email" => format!("/{}", EMAILS.0),
        "phone" | "mobile" => format!("/{PHONES}"),
        name if name == STREET || ADDRESS.contains(&name) => format!("/{POSTAL}"),
        _ => plain.to_owned(),
    }
}

fn one_of<'a>(list: &Node<'a>, pick: Pick<'_>) -> Node<'a> {
    match list {
        Node::List(entries) => {
            entries::picked(entries, pick).map_or_else(|| Node::text(""), |text| Node::text(text.to_owned()))
        }
        other => shown(other),
    }
}

fn change_entry<'a>(members: &mut Members<'a>, name: &'static str, pick: Pick<'_>, to: &str) {
    let mut list = match members.get(name) {
        Some(Node::List(entries)) => entries.clone(),
        _ => Vec::new(),
    };
    entries::change(&mut list, pick, to);
    members.set(name, Node::List(list));
}

fn flat_address<'a>(address: &Node<'a>, plain: &mut Members<'a>) {
    let parts = match address {
        Node::Object(parts) => parts,
        Node::Null => {
            for name in ADDRESS.iter().chain([&STREET]) {
                plain.push(*name, Node::text(""));
            }
            return;
        }
        // One text says nothing of the parts.
        _ => return,
    };
    for name in ADDRESS {
        plain.push(name, parts.get(name).map_or_else(|| Node::text(""), shown));
    }
    let part = |name: &str| parts.get(name).and_then(Node::as_str).unwrap_or_default();
    plain.push(STREET, Node::text(street(part("route"), part("street_number"), part("value"))));
}

/// Street and number in the order in which the whole address has them.
fn street(route: &str, number: &str, whole: &str) -> String {
    match (route, number) {
        (route, "") => route.to_owned(),
        ("", number) => number.to_owned(),
        (route, number) => {
            let first = format!("{number} {route}");
            if whole.contains(&first) { first } else { format!("{route} {number}") }
        }
    }
}

/// The whole address in one line.
fn written_out(parts: &Members<'_>) -> String {
    let part = |name: &str| parts.get(name).and_then(Node::as_str).map(str::trim).unwrap_or_default();
    let town = format!("{} {}", part("postal_code"), part("locality"));
    let street = street(part("route"), part("street_number"), part("value"));
    let lines = [street.trim(), town.trim(), part("admin_area_level_1"), part("country")];
    lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A member that is there and has no value: an event tells so that it was cleared, which absence does not.
fn shown<'a>(value: &Node<'a>) -> Node<'a> {
    if *value == Node::Null { Node::text("") } else { value.clone() }
}

/// What a value of the flat form says; none and null say nothing.
fn said<'a>(value: Option<&Node<'a>>) -> Cow<'a, str> {
    match value {
        Some(Node::Text(text) | Node::Number(text)) => text.clone(),
        _ => Cow::Borrowed(""),
    }
}

fn text_or_null(text: Cow<'_, str>) -> Node<'_> {
    if text.is_empty() { Node::Null } else { Node::Text(text) }
}
