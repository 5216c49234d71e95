//! Values: `format (1 byte) · crc32 of key and payload (4 bytes, little-endian) · payload`.
//!
//! The checksum covers the key, so that a value under a wrong key is found too. Payloads are postcard, except where a value
//! holds free JSON: a link's base and a history entry's delta are written by `values`, the rest of a link is JSON. A payload's
//! layout changes only together with the format byte, or with the byte of its own that a history entry has, and whatever was
//! ever landed is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_core::id::{ConnectionId, EntityKey};
use tandem_core::link::{Life, Link, Pair};

use super::super::{Before, Class, Exchanged, Extent, HistoryEntry, Moved, Noticed, Sight, StoreError};
use super::values;

/// The format that is written.
pub(super) const FORMAT: u8 = 1;
const HEADER: usize = 5;

/// The largest value that is taken.
pub(super) const MAX_VALUE: usize = 1 << 20;

/// Why a stored value cannot be used. Says nothing of its contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("{0} bytes are too few")]
    Short(usize),
    #[error("format {0} is unknown")]
    Format(u8),
    #[error("the checksum does not fit")]
    Checksum,
    #[error("the payload is no {0}")]
    Payload(&'static str),
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// Makes a value of a payload.
pub(super) fn seal(what: &'static str, key: &[u8], payload: &[u8]) -> Result<Bytes, StoreError> {
    if payload.len() > MAX_VALUE {
        return Err(StoreError::TooLarge { what, len: payload.len(), limit: MAX_VALUE });
    }
    let mut value = Vec::with_capacity(HEADER + payload.len());
    value.push(FORMAT);
    value.extend_from_slice(&checksum(key, payload).to_le_bytes());
    value.extend_from_slice(payload);
    Ok(value.into())
}

/// The payload of a value.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (format, rest) = value.split_first().ok_or(Damage::Short(value.len()))?;
    if *format != FORMAT {
        return Err(Damage::Format(*format));
    }
    let (crc, payload) = rest.split_first_chunk::<4>().ok_or(Damage::Short(value.len()))?;
    if checksum(key, payload) != u32::from_le_bytes(*crc) {
        return Err(Damage::Checksum);
    }
    Ok(payload)
}

fn unwritable(what: &'static str) -> StoreError {
    // postcard and serde_json fail on what the types here do not contain (maps with other keys than text).
    StoreError::TooLarge { what, len: usize::MAX, limit: MAX_VALUE }
}

/// A payload in postcard.
pub(super) fn pack<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(value).map_err(|_| unwritable(what))
}

/// A value from its postcard payload.
pub(super) fn unpack<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, Damage> {
    postcard::from_bytes(payload).map_err(|_| Damage::Payload(what))
}

/// What is needed of a link to keep its indexes, without reading the whole of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkHead<'a> {
    /// The CRM's id.
    pub(super) external: Option<&'a str>,
    /// It is in the list of held links.
    pub(super) held: bool,
    /// Its records are there as far as is known. Rows from before this was written down count as alive.
    pub(super) alive: bool,
}

/// Has held groups or frozen fields.
pub(super) fn is_held(link: &Link) -> bool {
    !link.held.is_empty() || !link.frozen.is_empty()
}

/// `flags · length of the external id (u16) · external id · base · everything else as JSON`. Takes the base out of the link.
pub(super) fn pack_link(link: &mut Link) -> Result<Vec<u8>, StoreError> {
    let external = link.external.as_ref().map_or("", |id| id.as_str());
    let flags = u8::from(link.external.is_some())
        | (u8::from(is_held(link)) << 1)
        | (u8::from(link.life != Life::Active) << 2);
    let len = u16::try_from(external.len()).map_err(|_| StoreError::TooLarge {
        what: "an external id",
        len: external.len(),
        limit: super::keys::MAX_NAME,
    })?;
    let mut payload = Vec::with_capacity(1024);
    payload.push(flags);
    payload.extend_from_slice(&len.to_le_bytes());
    payload.extend_from_slice(external.as_bytes());
    values::put_base(&mut payload, &std::mem::take(&mut link.base));
    serde_json::to_writer(&mut payload, link).map_err(|_| unwritable("a link"))?;
    Ok(payload)
}

fn split_link(payload: &[u8]) -> Option<(LinkHead<'_>, &[u8])> {
    let (flags, rest) = payload.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (external, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let external = std::str::from_utf8(external).ok()?;
    let external = (flags & 1 != 0).then_some(external);
    Some((LinkHead { external, held: flags & 2 != 0, alive: flags & 4 == 0 }, rest))
}

pub(super) fn link_head(payload: &[u8]) -> Result<LinkHead<'_>, Damage> {
    split_link(payload).map(|(head, _)| head).ok_or(Damage::Payload("link"))
}

pub(super) fn unpack_link(payload: &[u8]) -> Result<Link, Damage> {
    let (_, mut rest) = split_link(payload).ok_or(Damage::Payload("link"))?;
    let base = values::base(&mut rest).ok_or(Damage::Payload("link"))?;
    let mut link: Link = serde_json::from_slice(rest).map_err(|_| Damage::Payload("link"))?;
    link.base = base.into();
    Ok(link)
}

/// The layout of a history entry that is written. Its first one was JSON, which begins with a brace.
const HISTORY_LAYOUT: u8 = 1;

/// A history entry but for the record, which is in the key, and the delta. Moments of the work are told by how long before the entry they
/// were, which is a byte or two.
#[derive(Serialize)]
struct HistoryHead<'a> {
    connection: &'a str,
    at: u64,
    what: &'a str,
    why: &'a str,
    cause: &'a str,
    provider: &'a str,
    calls: u32,
    fields: &'a [String],
    noticed: Option<NoticedBefore<'a>>,
    seen: Option<&'a Sight>,
    ruling: Option<&'a str>,
    exchanges: &'a [Exchanged],
    is_first: bool,
}

#[derive(Serialize)]
struct NoticedBefore<'a> {
    work: u64,
    at: u64,
    began: u64,
    class: Class,
    hints: u32,
    attempts: u32,
    also: &'a [String],
    said: Option<Extent>,
    author: Option<&'a str>,
}

/// [`HistoryHead`] as it is read.
#[derive(Deserialize)]
struct HistoryHeadRead {
    connection: String,
    at: u64,
    what: String,
    why: String,
    cause: String,
    provider: String,
    calls: u32,
    fields: Vec<String>,
    noticed: Option<Noticed>,
    seen: Option<Sight>,
    ruling: Option<String>,
    exchanges: Vec<Exchanged>,
    is_first: bool,
}

/// A history entry as it was written before there were layouts.
#[derive(Deserialize)]
struct HistoryInJson {
    entity: EntityKey,
    connection: ConnectionId,
    at: u64,
    what: String,
    why: String,
    cause: String,
    provider: String,
    calls: u32,
    delta: Vec<(String, Pair)>,
}

/// `weight (u64) · layout · postcard · delta · overtaken values`.
pub(super) fn pack_history(entry: &HistoryEntry) -> Result<Vec<u8>, StoreError> {
    let mut payload = Vec::with_capacity(384);
    payload.extend_from_slice(&entry.weight().to_le_bytes());
    payload.push(HISTORY_LAYOUT);
    let before = |at: u64| entry.at.wrapping_sub(at);
    let head = HistoryHead {
        connection: entry.connection.as_str(),
        at: entry.at,
        what: &entry.what,
        why: &entry.why,
        cause: &entry.cause,
        provider: &entry.provider,
        calls: entry.calls,
        fields: &entry.fields,
        noticed: entry.noticed.as_ref().map(|noticed| NoticedBefore {
            work: noticed.work,
            at: before(noticed.at),
            began: before(noticed.began),
            class: noticed.class,
            hints: noticed.hints,
            attempts: noticed.attempts,
            also: &noticed.also,
            said: noticed.said,
            author: noticed.author.as_deref(),
        }),
        seen: entry.seen.as_ref(),
        ruling: entry.ruling.as_deref(),
        exchanges: &entry.exchanges,
        is_first: entry.is_first,
    };
    let mut payload = postcard::to_extend(&head, payload).map_err(|_| unwritable("a history entry"))?;
    values::put_delta(&mut payload, &entry.delta);
    values::put_overtaken(&mut payload, &entry.overtaken);
    Ok(payload)
}

/// The entry's weight.
pub(super) fn history_weight(payload: &[u8]) -> Result<u64, Damage> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Damage::Payload("history entry"))
}

/// The entry under a key, of whichever layout.
pub(super) fn unpack_history(key: &[u8], payload: &[u8]) -> Result<HistoryEntry, Damage> {
    let damage = || Damage::Payload("history entry");
    let rest = payload.get(8..).ok_or_else(damage)?;
    match rest.split_first() {
        Some((&HISTORY_LAYOUT, rest)) => {
            let entity = super::keys::Parser::new(key).entity().ok_or_else(damage)?;
            history_of(entity, rest).ok_or_else(damage)
        }
        Some((b'{', _)) => {
            let entry: HistoryInJson = serde_json::from_slice(rest).map_err(|_| damage())?;
            Ok(entry.into())
        }
        _ => Err(damage()),
    }
}

fn history_of(entity: EntityKey, payload: &[u8]) -> Option<HistoryEntry> {
    let (head, mut rest) = postcard::take_from_bytes::<HistoryHeadRead>(payload).ok()?;
    let delta = values::delta(&mut rest)?;
    let overtaken = values::overtaken(&mut rest)?;
    let at = head.at;
    let noticed = head.noticed.map(|noticed| Noticed {
        at: at.wrapping_sub(noticed.at),
        began: at.wrapping_sub(noticed.began),
        ..noticed
    });
    rest.is_empty().then_some(HistoryEntry {
        entity,
        connection: head.connection.into(),
        at,
        what: head.what,
        why: head.why,
        cause: head.cause,
        provider: head.provider,
        calls: head.calls,
        delta,
        fields: head.fields,
        overtaken,
        noticed,
        seen: head.seen,
        ruling: head.ruling,
        exchanges: head.exchanges,
        is_first: head.is_first,
    })
}

impl From<HistoryInJson> for HistoryEntry {
    fn from(entry: HistoryInJson) -> Self {
        let untold = |(field, pair): (String, Pair)| {
            // What the base no longer had was written as a pair without halves.
            let after = (pair != Pair::default()).then_some(pair);
            Moved { field, differs: None, before: Before::Untold, after, cut: false }
        };
        // Values of overtaken edits stood in the delta, and were none of the base.
        let (overtaken, delta) = match entry.what.as_str() {
            "overtaken" => {
                let kept = entry.delta.into_iter().map(|(field, pair)| (field, Some(pair)));
                (kept.collect(), Vec::new())
            }
            _ => (BTreeMap::new(), entry.delta.into_iter().map(untold).collect()),
        };
        Self {
            entity: entry.entity,
            connection: entry.connection,
            at: entry.at,
            what: entry.what,
            why: entry.why,
            cause: entry.cause,
            provider: entry.provider,
            calls: entry.calls,
            delta,
            fields: Vec::new(),
            overtaken,
            noticed: None,
            seen: None,
            ruling: None,
            exchanges: Vec::new(),
            is_first: false,
        }
    }
}

/// A number as the whole of a payload.
pub(super) fn number(payload: &[u8]) -> Result<u64, Damage> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Damage::Payload("number"))
}

/// An entity as a value.
pub(super) fn pack_entity(entity: &EntityKey) -> Result<Vec<u8>, StoreError> {
    pack("an entity", entity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_value_is_noticed() {
        let value = seal("a value", b"key", b"payload").unwrap();
        assert_eq!(open(b"key", &value).unwrap(), b"payload");
        for bit in 0..value.len() * 8 {
            let mut bad = value.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(b"key", &bad).is_err(), "bit {bit}");
        }
        assert_eq!(open(b"kez", &value), Err(Damage::Checksum));
        assert_eq!(open(b"key", &value[..4]), Err(Damage::Short(4)));
        assert_eq!(open(b"key", &[]), Err(Damage::Short(0)));
    }

    #[test]
    fn bytes_are_written_as_the_list_of_numbers_that_they_were() {
        use tandem_core::exchange::{Delivery, State};

        #[derive(Serialize, serde::Deserialize)]
        struct Listed(Vec<u8>, Vec<u8>, Vec<u8>);

        let listed = Listed(Vec::new(), Vec::new(), (0..=255).collect());
        let delivery = Delivery { body: listed.2.clone(), ..Delivery::default() };
        let payload = pack("a delivery", &listed).unwrap();
        assert_eq!(pack("a delivery", &delivery).unwrap(), payload);
        assert_eq!(unpack::<Delivery>("delivery", &payload).unwrap(), delivery);
        let state = State::Whole(listed.2.clone());
        let payload = [vec![2], pack("bytes", &listed.2).unwrap()].concat();
        assert_eq!(pack("a state", &state).unwrap(), payload);
        assert_eq!(unpack::<State>("state", &payload).unwrap(), state);
    }

    #[test]
    fn a_history_entry_of_the_first_layout_is_read() {
        // As version 0.1.0 wrote it: the weight, then JSON.
        let json = br#"{"entity":{"scope":"north","object":"contact","id":"a"},"connection":"acme","at":7,"what":"wrote-external","why":"to the CRM: /phone","cause":"edit","provider":"hubspot@0.1.0#1a2b3c4d","calls":1,"delta":[["/phone",{"i":"+358 2","a":true}],["/gone",{}],["/nothing",{"i":null,"e":null}]]}"#;
        let payload = [&193_u64.to_le_bytes()[..], json].concat();
        assert_eq!(history_weight(&payload).unwrap(), 193);
        let entity = EntityKey { scope: "north".into(), object: "contact".into(), id: "a".into() };
        let pair = |value: serde_json::Value, external, assumed| Pair {
            internal: Some(value),
            external,
            assumed,
            given: false,
        };
        let untold = |field: &str, after| Moved {
            field: field.into(),
            differs: None,
            before: Before::Untold,
            after,
            cut: false,
        };
        let expected = HistoryEntry {
            what: "wrote-external".into(),
            why: "to the CRM: /phone".into(),
            cause: "edit".into(),
            calls: 1,
            delta: vec![
                untold("/phone", Some(pair("+358 2".into(), None, true))),
                untold("/gone", None),
                untold("/nothing", Some(pair(serde_json::Value::Null, Some(serde_json::Value::Null), false))),
            ],
            ..HistoryEntry::new(&Link::new(entity.clone(), "acme".into()), 7, "hubspot@0.1.0#1a2b3c4d".into())
        };
        let key = super::super::keys::history(&entity, 1);
        assert_eq!(unpack_history(&key, &payload).unwrap(), expected);
        // Written again, it is of the present layout and says the same.
        let again = pack_history(&expected).unwrap();
        assert_eq!(again[8], HISTORY_LAYOUT);
        assert_eq!(unpack_history(&key, &again).unwrap(), expected);
        // A layout that nobody knows yet, and bytes that are none.
        for bad in
            [&[&payload[..8], &[9]].concat()[..], &payload[..8], &payload[..60], &again[..again.len() - 1]]
        {
            assert_eq!(unpack_history(&key, bad), Err(Damage::Payload("history entry")));
        }
    }

    #[test]
    fn an_overtaken_edit_of_the_first_layout_keeps_its_values_and_moves_no_base() {
        let json = br#"{"entity":{"scope":"north","object":"contact","id":"a"},"connection":"acme","at":7,"what":"overtaken","why":"found late","cause":"webhook","provider":"hubspot@0.1.0#1a2b3c4d","calls":0,"delta":[["/phone",{"i":"1","e":"2"}],["/name",{}]]}"#;
        let payload = [&193_u64.to_le_bytes()[..], json].concat();
        let entity = EntityKey { scope: "north".into(), object: "contact".into(), id: "a".into() };
        let key = super::super::keys::history(&entity, 1);
        let entry = unpack_history(&key, &payload).unwrap();
        let phone = Pair { internal: Some("1".into()), external: Some("2".into()), ..Pair::default() };
        let expected = [("/phone".to_owned(), Some(phone)), ("/name".to_owned(), Some(Pair::default()))];
        assert_eq!((&entry.overtaken, entry.delta.len()), (&BTreeMap::from(expected), 0));
        assert_eq!(unpack_history(&key, &pack_history(&entry).unwrap()).unwrap(), entry);
    }

    #[test]
    fn who_gave_a_value_is_kept_with_the_pair_of_an_entry() {
        // As versions wrote it that had no layout yet, but knew who gave a value.
        let json = br#"{"entity":{"scope":"north","object":"contact","id":"a"},"connection":"acme","at":7,"what":"wrote-internal","why":"","cause":"webhook","provider":"p","calls":1,"delta":[["/phone",{"i":"1","e":"1","g":true}]]}"#;
        let payload = [&193_u64.to_le_bytes()[..], json].concat();
        let entity = EntityKey { scope: "north".into(), object: "contact".into(), id: "a".into() };
        let entry = unpack_history(&super::super::keys::history(&entity, 1), &payload).unwrap();
        assert!(entry.delta[0].after.as_ref().unwrap().given);
    }

    /// What an update writes to the history is on the path of every record: it says more than the first layout did, in fewer bytes.
    #[test]
    fn the_entry_of_an_update_takes_fewer_bytes_than_in_the_first_layout() {
        let entity = EntityKey {
            scope: "acme".into(),
            object: "contact".into(),
            id: "0190a5c2-7d3e-7000-8000-000000000001".into(),
        };
        let pair = |value: &str| Pair {
            internal: Some(value.into()),
            external: Some(value.into()),
            ..Pair::default()
        };
        let entry = HistoryEntry {
            what: "wrote-external".into(),
            why: "to the CRM: /job_title".into(),
            cause: "edit".into(),
            calls: 1,
            delta: vec![Moved {
                field: "/job_title".into(),
                differs: Some(tandem_core::plan::Differs::Internal),
                before: Before::Pair(pair("Head of Development")),
                after: Some(pair("Head of Engineering")),
                cut: false,
            }],
            noticed: Some(Noticed {
                work: 30_000_000,
                at: 1_795_392_000_000,
                began: 1_795_392_000_007,
                class: Class::Live,
                hints: 1,
                attempts: 0,
                also: Vec::new(),
                said: None,
                author: None,
            }),
            exchanges: vec![Exchanged {
                operation: "update".into(),
                requests: 1,
                status: 200,
                took_ms: 143,
                answer: "written".into(),
            }],
            ..HistoryEntry::new(
                &Link::new(entity, "acme-hubspot".into()),
                1_795_392_000_150,
                "hubspot@0.1.0#1a2b3c4d".into(),
            )
        };
        let first = r#"{"entity":{"scope":"acme","object":"contact","id":"0190a5c2-7d3e-7000-8000-000000000001"},"connection":"acme-hubspot","at":1795392000150,"what":"wrote-external","why":"to the CRM: /job_title","cause":"edit","provider":"hubspot@0.1.0#1a2b3c4d","calls":1,"delta":[["/job_title",{"i":"Head of Engineering","e":"Head of Engineering"}]]}"#;
        let now = pack_history(&entry).unwrap();
        println!("{} bytes, in the first layout {}", now.len(), 8 + first.len());
        assert!(now.len() * 3 < (8 + first.len()) * 2, "{} bytes", now.len());
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused() {
        assert!(seal("a value", b"k", &vec![0; MAX_VALUE]).is_ok());
        assert!(matches!(seal("a value", b"k", &vec![0; MAX_VALUE + 1]), Err(StoreError::TooLarge { .. })));
    }
}
