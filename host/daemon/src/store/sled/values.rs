//! Field values and bases in few bytes: a link is written for each record, and both halves of a pair are mostly the same.
//!
//! A value: tag, then what the tag asks for. Lengths are LEB128, numbers little-endian. A base: count, then for each field its
//! pointer, a byte of flags, and the halves that are there; equal halves are written once. A history entry's delta has two such
//! pairs for each field.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use tandem_core::link::Pair;
use tandem_core::plan::Differs;

use super::super::{Before, Moved};

/// Deeper nesting than any document has.
const DEPTH: u32 = 256;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const SIGNED: u8 = 3;
const UNSIGNED: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const LIST: u8 = 7;
const OBJECT: u8 = 8;

const HAS_INTERNAL: u8 = 1;
const HAS_EXTERNAL: u8 = 2;
const ASSUMED: u8 = 4;
const SAME: u8 = 8;
const GIVEN: u8 = 16;
/// In the place of a pair's flags: there is no pair.
const NO_PAIR: u8 = 0x80;

/// The field's former pair is not told.
const UNTOLD: u8 = 16;
/// The field's values had no room.
const CUT: u8 = 32;

fn put_length(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => {
            if let Some(signed) = number.as_i64() {
                out.push(SIGNED);
                out.extend_from_slice(&signed.to_le_bytes());
            } else if let Some(unsigned) = number.as_u64() {
                out.push(UNSIGNED);
                out.extend_from_slice(&unsigned.to_le_bytes());
            } else {
                out.push(FLOAT);
                out.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
            }
        }
        Value::String(text) => {
            out.push(TEXT);
            put_text(out, text);
        }
        Value::Array(items) => {
            out.push(LIST);
            put_length(out, items.len());
            for item in items {
                put_value(out, item);
            }
        }
        Value::Object(members) => {
            out.push(OBJECT);
            put_length(out, members.len());
            for (name, value) in members {
                put_text(out, name);
                put_value(out, value);
            }
        }
    }
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(head)
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    take(from, 1)?.first().copied()
}

fn eight(from: &mut &[u8]) -> Option<[u8; 8]> {
    take(from, 8)?.first_chunk::<8>().copied()
}

fn length(from: &mut &[u8]) -> Option<usize> {
    let mut len = 0_usize;
    for shift in (0..35).step_by(7) {
        let byte = byte(from)?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

fn text(from: &mut &[u8]) -> Option<String> {
    let len = length(from)?;
    Some(std::str::from_utf8(take(from, len)?).ok()?.to_owned())
}

fn value(from: &mut &[u8], depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match byte(from)? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        SIGNED => Value::Number(i64::from_le_bytes(eight(from)?).into()),
        UNSIGNED => Value::Number(u64::from_le_bytes(eight(from)?).into()),
        FLOAT => Value::Number(Number::from_f64(f64::from_le_bytes(eight(from)?))?),
        TEXT => Value::String(text(from)?),
        LIST => {
            let len = length(from)?;
            // A length may be wrong: memory is taken for what is there.
            let mut items = Vec::with_capacity(len.min(from.len()));
            for _ in 0..len {
                items.push(value(from, depth)?);
            }
            Value::Array(items)
        }
        OBJECT => {
            let len = length(from)?;
            let mut members = Map::with_capacity(len.min(from.len()));
            for _ in 0..len {
                members.insert(text(from)?, value(from, depth)?);
            }
            Value::Object(members)
        }
        _ => return None,
    })
}

/// Writes a pair, or that there is none.
pub(super) fn put_pair(out: &mut Vec<u8>, pair: Option<&Pair>) {
    let Some(pair) = pair else { return out.push(NO_PAIR) };
    let same = pair.internal.is_some() && pair.internal == pair.external;
    let mut flags = 0;
    for (flag, is_set) in [
        (HAS_INTERNAL, pair.internal.is_some()),
        (HAS_EXTERNAL, pair.external.is_some()),
        (ASSUMED, pair.assumed),
        (SAME, same),
        (GIVEN, pair.given),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    out.push(flags);
    if let Some(internal) = &pair.internal {
        put_value(out, internal);
    }
    if let (Some(external), false) = (&pair.external, same) {
        put_value(out, external);
    }
}

/// Reads what [`put_pair`] wrote.
pub(super) fn pair(from: &mut &[u8]) -> Option<Option<Pair>> {
    let flags = byte(from)?;
    if flags == NO_PAIR {
        return Some(None);
    }
    let internal = if flags & HAS_INTERNAL != 0 { Some(value(from, DEPTH)?) } else { None };
    let external = match flags & (HAS_EXTERNAL | SAME) {
        HAS_EXTERNAL => Some(value(from, DEPTH)?),
        0 => None,
        _ => internal.clone(),
    };
    let (assumed, given) = (flags & ASSUMED != 0, flags & GIVEN != 0);
    Some(Some(Pair { internal, external, assumed, given }))
}

/// Writes a base.
pub(super) fn put_base(out: &mut Vec<u8>, base: &BTreeMap<String, Pair>) {
    put_length(out, base.len());
    for (field, pair) in base {
        put_text(out, field);
        put_pair(out, Some(pair));
    }
}

/// Reads a base.
pub(super) fn base(from: &mut &[u8]) -> Option<BTreeMap<String, Pair>> {
    let len = length(from)?;
    let mut base = BTreeMap::new();
    for _ in 0..len {
        let field = text(from)?;
        base.insert(field, pair(from)??);
    }
    Some(base)
}

const DIFFERS: [Option<Differs>; 5] =
    [None, Some(Differs::Neither), Some(Differs::Internal), Some(Differs::External), Some(Differs::Both)];

/// Writes the delta of a history entry: count, then for each field its pointer, a byte of facts, and the pairs before and after.
pub(super) fn put_delta(out: &mut Vec<u8>, delta: &[Moved]) {
    put_length(out, delta.len());
    for moved in delta {
        put_text(out, &moved.field);
        let differs = DIFFERS.iter().position(|known| *known == moved.differs).unwrap_or(0) as u8;
        let before = match &moved.before {
            Before::Untold => None,
            Before::Nothing => Some(None),
            Before::Pair(pair) => Some(Some(pair)),
        };
        let facts = if before.is_none() { UNTOLD } else { 0 } | if moved.cut { CUT } else { 0 };
        out.push(differs | facts);
        if let Some(before) = before {
            put_pair(out, before);
        }
        put_pair(out, moved.after.as_ref());
    }
}

/// Reads the delta of a history entry.
pub(super) fn delta(from: &mut &[u8]) -> Option<Vec<Moved>> {
    let len = length(from)?;
    // A length may be wrong: memory is taken for what is there.
    let mut delta = Vec::with_capacity(len.min(from.len()));
    for _ in 0..len {
        let field = text(from)?;
        let facts = byte(from)?;
        let differs = *DIFFERS.get(usize::from(facts & !(UNTOLD | CUT)))?;
        let before = if facts & UNTOLD != 0 {
            Before::Untold
        } else {
            pair(from)?.map_or(Before::Nothing, Before::Pair)
        };
        delta.push(Moved { field, differs, before, after: pair(from)?, cut: facts & CUT != 0 });
    }
    Some(delta)
}

/// Writes the values of overtaken edits: count, then for each field its pointer, and a pair or that it had no room.
pub(super) fn put_overtaken(out: &mut Vec<u8>, overtaken: &BTreeMap<String, Option<Pair>>) {
    put_length(out, overtaken.len());
    for (field, pair) in overtaken {
        put_text(out, field);
        put_pair(out, pair.as_ref());
    }
}

/// Reads the values of overtaken edits.
pub(super) fn overtaken(from: &mut &[u8]) -> Option<BTreeMap<String, Option<Pair>>> {
    let len = length(from)?;
    let mut overtaken = BTreeMap::new();
    for _ in 0..len {
        overtaken.insert(text(from)?, pair(from)?);
    }
    Some(overtaken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| json!(number)),
            any::<u64>().prop_map(|number| json!(number)),
            (-1e300_f64..1e300).prop_map(|number| json!(number)),
            ".{0,20}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((".{0,5}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_pair() -> impl Strategy<Value = Pair> {
        let half = || prop::option::of(any_value());
        prop_oneof![
            (half(), half(), any::<bool>(), any::<bool>())
                .prop_map(|(internal, external, assumed, given)| Pair { internal, external, assumed, given }),
            (half(), any::<bool>(), any::<bool>()).prop_map(|(half, assumed, given)| Pair {
                internal: half.clone(),
                external: half,
                assumed,
                given
            }),
        ]
    }

    fn any_before() -> impl Strategy<Value = Before> {
        prop_oneof![Just(Before::Untold), Just(Before::Nothing), any_pair().prop_map(Before::Pair)]
    }

    proptest! {
        #[test]
        fn a_base_comes_back_as_it_was(fields in prop::collection::btree_map(".{0,9}", any_pair(), 0..9)) {
            let mut out = Vec::new();
            put_base(&mut out, &fields);
            let mut rest = &out[..];
            prop_assert_eq!(base(&mut rest), Some(fields));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_delta_comes_back_as_it_was(moved in prop::collection::vec((".{0,9}", any_before(), prop::option::of(any_pair()), any::<bool>(), 0..5_usize), 0..9)) {
            let moved: Vec<Moved> = moved
                .into_iter()
                .map(|(field, before, after, cut, differs)| Moved { field, before, after, cut, differs: DIFFERS[differs] })
                .collect();
            let mut out = Vec::new();
            put_delta(&mut out, &moved);
            let mut rest = &out[..];
            prop_assert_eq!(delta(&mut rest), Some(moved));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn overtaken_values_come_back_as_they_were(fields in prop::collection::btree_map(".{0,9}", prop::option::of(any_pair()), 0..9)) {
            let mut out = Vec::new();
            put_overtaken(&mut out, &fields);
            let mut rest = &out[..];
            prop_assert_eq!(overtaken(&mut rest), Some(fields));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = base(&mut &bytes[..]);
            let _ = overtaken(&mut &bytes[..]);
            let _ = delta(&mut &bytes[..]);
        }
    }

    #[test]
    fn the_order_of_members_stays() {
        let fields: BTreeMap<String, Pair> = [(
            "/a".to_owned(),
            Pair { internal: Some(json!({"z": 1, "a": [2, -3.5]})), external: None, ..Pair::default() },
        )]
        .into();
        let mut out = Vec::new();
        put_base(&mut out, &fields);
        let read = base(&mut &out[..]).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&fields).unwrap());
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        let mut bytes = vec![1, 1, b'f', HAS_INTERNAL];
        bytes.extend([LIST, 1].repeat(100_000));
        assert_eq!(base(&mut &bytes[..]), None);
    }
}
