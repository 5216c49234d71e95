//! The laws of a mapping, for `cargo test`: on golden examples and on records that are generated from the mapping's own fields.
//!
//! With C = to-canonical, P = to-provider and N = what the mapping can keep of a canonical document ([`Mapping::normal`]):
//!
//! 1. what was written is read: C(P(c, s)) = N(c), with a current document `s` and without one;
//! 2. writing what was read changes nothing: P(C(s), s) = s;
//! 3. writing twice is writing once: P(c, P(c, s)) = P(c, s);
//! 4. what is not mapped stays;
//! 5. N(N(c)) = N(c);
//! 6. the same input gives the same bytes.
//!
//! The host checks the same laws before it admits a component.

use std::borrow::Cow;

use crate::descriptor::Direction;
use crate::json::{self, Members, Node};
use crate::mapping::{Convert, Field, Form, Mapping};
use crate::provider::Provider;
use crate::time;

/// Checks the golden examples of a provider, in the direction that each declares, and the laws on each.
///
/// # Errors
/// The first example that does not hold, and why.
pub fn check_examples<P: Provider>() -> Result<usize, String> {
    let examples = P::describe().examples;
    for example in &examples {
        let failed = |why: String| format!("example {:?}: {why}", example.name);
        let provider = P::configure(&example.settings, &example.facts)
            .map_err(|problems| failed(format!("configure: {problems:?}")))?;
        let canonical = Node::from(&example.canonical);
        let document = Node::from(&example.document);
        if example.direction != Direction::ToCanonical {
            let bytes = provider
                .to_provider(&example.object, &canonical.to_bytes(), None)
                .map_err(|problems| failed(format!("to-provider: {problems:?}")))?;
            let found = json::parse(&bytes).map_err(|error| failed(error.to_string()))?;
            same("to-provider", &sorted(&found), &sorted(&document)).map_err(failed)?;
        }
        if example.direction != Direction::ToProvider {
            let bytes = provider
                .to_canonical(&example.object, &document.to_bytes())
                .map_err(|problems| failed(format!("to-canonical: {problems:?}")))?;
            let found = json::parse(&bytes).map_err(|error| failed(error.to_string()))?;
            same("to-canonical", &sorted(&found), &sorted(&canonical)).map_err(failed)?;
        }
        if let Some(mapping) = provider.mapping(&example.object) {
            check(mapping, &canonical, &document).map_err(failed)?;
        }
    }
    Ok(examples.len())
}

/// Checks the laws on records that are generated from the mapping's fields.
///
/// # Errors
/// The first record that breaks a law, with its seed.
pub fn check_generated(mapping: &Mapping, seed: u64, records: u32) -> Result<(), String> {
    for record in 0..records {
        let mut dice = Dice(seed ^ (u64::from(record) << 32));
        let canonical = canonical(mapping, &mut dice);
        let current = current(mapping, &mut dice);
        check(mapping, &canonical, &current).map_err(|why| {
            format!(
                "seed {seed}, record {record}: {why}\n canonical: {}\n current: {}",
                String::from_utf8_lossy(&canonical.to_bytes()),
                String::from_utf8_lossy(&current.to_bytes())
            )
        })?;
    }
    Ok(())
}

/// Checks the laws on one canonical document and one current document.
///
/// # Errors
/// The law that does not hold, and where.
pub fn check(mapping: &Mapping, canonical: &Node<'_>, current: &Node<'_>) -> Result<(), String> {
    let (c, s) = (canonical.to_bytes(), current.to_bytes());
    let put = |c: &[u8], s: Option<&[u8]>| {
        mapping.to_provider(c, s).map_err(|problems| format!("to-provider refuses: {problems:?}"))
    };
    let get =
        |s: &[u8]| mapping.to_canonical(s).map_err(|problems| format!("to-canonical refuses: {problems:?}"));
    let parse = |bytes: &[u8]| json::parse(bytes).map(Node::into_owned).map_err(|error| error.to_string());

    let normal = mapping.normal(canonical);
    same("N(N(c)) = N(c)", &sorted(&mapping.normal(&normal)), &sorted(&normal))?;

    let written = put(&c, Some(&s))?;
    if put(&c, Some(&s))? != written || get(&s)? != get(&s)? {
        return Err("the same input gave other bytes".to_owned());
    }
    for document in [&written, &put(&c, None)?] {
        let read = parse(&get(document)?)?;
        same("C(P(c, s)) = N(c)", &sorted(&mapping.normal(&read)), &sorted(&normal))?;
    }
    same("P(c, P(c, s)) = P(c, s)", &parse(&put(&c, Some(&written))?)?, &parse(&written)?)?;
    same(
        "what is not mapped stays",
        &unmapped(mapping, parse(&written)?),
        &unmapped(mapping, current.clone()),
    )?;

    // Fields that are only written are not in C(s): they are what they were, so they are taken from there.
    let mut read = parse(&get(&s)?)?;
    let again = put(&read.to_bytes(), Some(&s))?;
    let mut expected = parse(&s)?;
    let mut found = parse(&again)?;
    for field in mapping.fields.iter().filter(|field| !field.reads()) {
        expected.remove_at(&field.provider.segments);
        found.remove_at(&field.provider.segments);
        read.remove_at(&field.canonical.segments);
    }
    for constant in &mapping.constants {
        expected.remove_at(&constant.provider.segments);
        found.remove_at(&constant.provider.segments);
    }
    same("P(C(s), s) = s", &found, &expected)
}

/// A document without what the mapping writes.
fn unmapped<'a>(mapping: &Mapping, mut document: Node<'a>) -> Node<'a> {
    for field in mapping.fields.iter().filter(|field| field.writes()) {
        document.remove_at(&field.provider.segments);
    }
    for constant in &mapping.constants {
        document.remove_at(&constant.provider.segments);
    }
    for parent in &mapping.parents {
        if document.at(parent).is_none() {
            document.set_at(parent, Node::object());
        }
    }
    document
}

/// The same document with its members in alphabetical order, so that order does not count.
fn sorted<'a>(node: &Node<'a>) -> Node<'a> {
    match node {
        Node::Object(members) => {
            let mut all: Vec<(String, Node<'a>)> =
                members.iter().map(|(name, value)| (name.to_owned(), sorted(value))).collect();
            all.sort_by(|left, right| left.0.cmp(&right.0));
            let mut sorted = Members::with_capacity(all.len());
            for (name, value) in all {
                sorted.push(name, value);
            }
            Node::Object(sorted)
        }
        Node::List(items) => Node::List(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn same(law: &str, found: &Node<'_>, expected: &Node<'_>) -> Result<(), String> {
    let (found, expected) = (found.to_bytes(), expected.to_bytes());
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{law} does not hold\n found:    {}\n expected: {}",
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(&expected)
    ))
}

// === generated records ===

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let place = usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        items.get(place)
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to - from).unwrap_or(0) + 1;
        from + i64::try_from(self.below(span)).unwrap_or(0)
    }
}

const PIECES: &[&str] = &[
    "a",
    "Z",
    "7",
    " ",
    "Ann",
    "O'Brien",
    "-",
    ".",
    "@",
    "\"",
    "\\",
    "/",
    "\n",
    "\t",
    "\u{1}",
    "\u{7f}",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "Ω",
    "中",
    "ー",
    "ا",
    "\u{200f}",
    "\u{2028}",
    "\u{feff}",
    "😀",
    "👩‍🔬",
    "null",
    "true",
    "0",
    "{",
    "}",
    "<b>",
    "&amp;",
    "%20",
    "~1",
    "\u{ffff}",
    "\u{10ffff}",
];

fn text(dice: &mut Dice) -> String {
    let length = 1 + dice.below(8);
    (0..length).filter_map(|_| dice.pick(PIECES).copied()).collect()
}

fn digits(dice: &mut Dice, length: u64) -> String {
    (0..length).map(|_| char::from(b'0' + u8::try_from(dice.below(10)).unwrap_or(0))).collect()
}

fn canonical(mapping: &Mapping, dice: &mut Dice) -> Node<'static> {
    let mut document = Node::object();
    for field in &mapping.fields {
        let value = match dice.below(10) {
            0 | 1 => continue,
            2 => Node::Null,
            3 if matches!(field.convert, Convert::Text) => Node::text(""),
            3 if matches!(field.convert, Convert::Set { .. }) => Node::List(Vec::new()),
            _ => match sample(&field.convert, dice) {
                Some(value) => value,
                None => continue,
            },
        };
        document.set_at(&field.canonical.segments, value);
    }
    if dice.one_in(3) {
        document.set_at(&["not mapped"], Node::text(text(dice)));
    }
    document
}

/// A canonical value.
fn sample(convert: &Convert, dice: &mut Dice) -> Option<Node<'static>> {
    Some(match convert {
        Convert::Text => Node::text(text(dice)),
        Convert::Integer => {
            let length = 1 + dice.below(20);
            let bare = digits(dice, length);
            let bare = bare.trim_start_matches('0');
            let sign = if dice.one_in(4) && !bare.is_empty() { "-" } else { "" };
            Node::Number(Cow::Owned(format!("{sign}{}", if bare.is_empty() { "0" } else { bare })))
        }
        Convert::Boolean => Node::Bool(dice.one_in(2)),
        Convert::Decimal => {
            let (whole, fraction) = (1 + dice.below(20), dice.below(6));
            let sign = if dice.one_in(4) { "-" } else { "" };
            let whole = digits(dice, whole);
            let point = if fraction > 0 { "." } else { "" };
            Node::text(format!("{sign}{whole}{point}{}", digits(dice, fraction)))
        }
        Convert::Date { .. } => Node::text(time::format_date(dice.between(-600_000, 2_900_000))?),
        Convert::DateTime { .. } => {
            let moment = dice.between(-600_000, 2_900_000) * time::DAY + dice.between(0, time::DAY - 1);
            let text = time::format_datetime(moment)?;
            let zone = dice.pick(&["Z", "+02:00", "-09:30"])?;
            Node::text(text.replace('Z', zone))
        }
        Convert::Options(table) => Node::text(dice.pick(&table.rows)?.0.clone()),
        Convert::Set { separator, table } => {
            let mut items = Vec::new();
            for _ in 0..=dice.below(5) {
                let element = match table {
                    Some(table) => dice.pick(&table.rows)?.0.clone(),
                    None => {
                        let element = text(dice);
                        separator.map_or_else(|| element.clone(), |separator| element.replace(separator, "-"))
                    }
                };
                items.push(Node::text(element));
            }
            Node::List(items)
        }
        Convert::Json => match dice.below(3) {
            0 => Node::text(text(dice)),
            1 => Node::Number(Cow::Owned(format!("1{}.50", digits(dice, 18)))),
            _ => Node::List(vec![Node::Bool(true), Node::Null, Node::text(text(dice))]),
        },
        Convert::Own(own) => json::parse(dice.pick(own.samples)?.as_bytes()).ok()?,
    })
}

/// A document as the CRM may have it: in its own ways of writing, with members that nobody mapped.
fn current(mapping: &Mapping, dice: &mut Dice) -> Node<'static> {
    let mut document = Node::object();
    for parent in &mapping.parents {
        if document.at(parent).is_none() {
            document.set_at(parent, Node::object());
        }
        for _ in 0..dice.below(3) {
            let mut path = parent.clone();
            path.push(format!("unmapped {}", dice.below(100)));
            let value = match dice.below(3) {
                0 => Node::text(text(dice)),
                1 => Node::Number(Cow::Owned(format!("-1.{}E2", digits(dice, 20)))),
                _ => Node::Null,
            };
            document.set_at(&path, value);
        }
    }
    for field in &mapping.fields {
        let value = match dice.below(10) {
            0 | 1 => continue,
            2 => Node::Null,
            3 if mapping.form == Form::Text => Node::text(""),
            4 if field.lenient => Node::text("not in any form"),
            _ => match seen(field, mapping.form, dice) {
                Some(value) => value,
                None => continue,
            },
        };
        document.set_at(&field.provider.segments, value);
    }
    document
}

/// A provider value, written in one of the ways that the CRM has.
fn seen(field: &Field, form: Form, dice: &mut Dice) -> Option<Node<'static>> {
    let value = sample(&field.convert, dice)?;
    let plain = field.convert.to_provider(&value, form).ok()?.into_owned();
    let text = |node: &Node<'_>| node.as_id().map(str::to_owned);
    Some(match (&field.convert, form) {
        (Convert::Integer, Form::Text) if dice.one_in(3) => Node::text(format!("{}.0", text(&plain)?)),
        (Convert::Boolean, Form::Text) if dice.one_in(3) => Node::text(text(&plain)?.to_uppercase()),
        (Convert::Decimal, Form::Text) if dice.one_in(3) => Node::text(format!("{}e-3", text(&plain)?)),
        (Convert::Date { .. }, _) if dice.one_in(2) => {
            let days = time::parse_date(value.as_str()?)?;
            Node::text((days * time::DAY).to_string())
        }
        (Convert::DateTime { .. }, _) if dice.one_in(2) => {
            Node::text(time::parse_datetime(value.as_str()?)?.to_string())
        }
        (Convert::Options(table), _) => match dice.below(4) {
            0 if table.otherwise.is_some() => Node::text("one of the customer's own"),
            _ => Node::text(dice.pick(&table.rows)?.1.clone()),
        },
        (Convert::Set { separator: Some(separator), .. }, _) if dice.one_in(2) => {
            let joined = text(&plain)?;
            Node::text(format!("{separator}{joined}{separator}{joined}"))
        }
        _ => plain,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::{Converter, Table};

    fn everything(mapping: Mapping) -> Mapping {
        mapping
            .constant("/p/kind", &json!("person"))
            .field("/text", "/p/text")
            .text()
            .field("/deep/er/text", "/p/q/text")
            .text()
            .field("/integer", "/p/integer")
            .integer()
            .field("/boolean", "/p/boolean")
            .boolean()
            .field("/decimal", "/p/decimal")
            .decimal()
            .field("/date", "/p/date")
            .date()
            .field("/date_ms", "/p/date_ms")
            .date_millis()
            .field("/moment", "/p/moment")
            .datetime()
            .field("/moment_ms", "/p/moment_ms")
            .datetime_millis()
            .field("/stage", "/p/stage")
            .options(Table::new(&[("a", "1"), ("a", "2"), ("b", "3"), ("c", "3")]).otherwise("a"))
            .field("/set", "/p/set")
            .joined_set(';')
            .field("/options", "/p/options")
            .convert(Convert::Set { separator: Some(','), table: Some(Table::same(&["x", "y", "z"])) })
            .field("/list", "/p/list")
            .set()
            .field("/lenient", "/p/lenient")
            .lenient("free text")
            .integer()
            .field("/read", "/p/read")
            .to_canonical_only()
            .text()
            .field("/write", "/p/write")
            .to_provider_only()
            .text()
            .field("/any", "/any")
            .json()
    }

    #[test]
    fn hold_for_every_kind_of_field() {
        for seed in 0..4 {
            check_generated(&everything(Mapping::object("x", "x").text_values()), seed, 1_000).unwrap();
            check_generated(&everything(Mapping::object("x", "x")), seed, 1_000).unwrap();
            check_generated(&everything(Mapping::object("x", "x").tells_empty_apart()), seed, 1_000).unwrap();
        }
    }

    const IDENTITY: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String> = |value| Ok(value.clone());
    const SHOUT: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String> =
        |value| Ok(Node::text(value.as_str().unwrap_or_default().to_uppercase()));
    const EXCLAIM: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String> =
        |value| Ok(Node::text(format!("{}!", value.as_str().unwrap_or_default())));

    fn own(
        to_provider: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String>,
        to_canonical: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String>,
    ) -> Mapping {
        Mapping::object("x", "x").field("/a", "/a").own(Converter {
            to_provider,
            to_canonical,
            schema: "{}",
            samples: &[r#""word""#, r#""Word""#],
        })
    }

    #[test]
    fn a_converter_that_is_its_own_way_back_passes() {
        check_generated(&own(IDENTITY, IDENTITY), 1, 200).unwrap();
        // It loses the case, and says so in its normal form.
        check_generated(&own(SHOUT, IDENTITY), 1, 200).unwrap();
    }

    #[test]
    fn a_converter_that_grows_with_every_turn_is_found() {
        let why = check_generated(&own(EXCLAIM, IDENTITY), 1, 200).unwrap_err();
        assert!(why.contains("N(N(c)) = N(c)"), "{why}");
        assert!(check_generated(&own(IDENTITY, EXCLAIM), 1, 200).is_err());
    }

    #[test]
    fn two_fields_in_one_place_are_found() {
        let mapping = Mapping::object("x", "x").field("/a", "/p").text().field("/b", "/p").text();
        assert!(check_generated(&mapping, 1, 200).is_err());
    }
}
