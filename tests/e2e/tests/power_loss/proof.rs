//! Was it synced before it was acknowledged? The bytes of each change, found in the writes.
//!
//! Where they are, by the layouts that `host/daemon/src/internal/embedded/layout.rs` and
//! `host/daemon/src/store/sled/journal.rs` document:
//!
//! - a record's document is plain JSON in System A's log, and holds the change's marker;
//! - a removal is a record without a document (its version is the one that was acknowledged, its checksum fits), and an entry
//!   of the feed that names the record; both have the same time;
//! - a webhook's events are JSON in a frame of the queue's journal, each with its number.

use std::collections::HashMap;
use std::path::Path;

use tandem_e2e::power::{Recording, Written};

use super::changes::{Changes, markers};

/// What came out.
pub(crate) struct Proof {
    /// Changes whose bytes were synced before.
    pub(crate) held: usize,
    /// The others.
    pub(crate) problems: Vec<String>,
}

/// Since when a thing is on the disk for sure. Missing: it was never written. None: it was, and never synced.
type Sure<K> = HashMap<K, Option<usize>>;

#[derive(Default)]
struct Found {
    /// Markers in documents.
    documents: Sure<u64>,
    /// (version, time) of records without a document.
    tombstones: HashMap<u64, (u64, Option<usize>)>,
    /// (id, time) of removals in the feed.
    removals: Sure<(String, u64)>,
    /// Times of removals of an id.
    times: HashMap<String, Vec<u64>>,
    /// Events of webhooks.
    events: Sure<u64>,
}

fn note<K: std::hash::Hash + Eq>(all: &mut Sure<K>, key: K, sure: Option<usize>) {
    let known = all.entry(key).or_insert(sure);
    *known = [*known, sure].into_iter().flatten().min();
}

fn has(path: &Path, folder: &str) -> bool {
    path.iter().any(|part| part == folder)
}

fn find(writes: &[Written<'_>]) -> Found {
    let mut found = Found::default();
    for write in writes {
        if has(&write.path, "system-a") {
            for marker in markers(write.data) {
                note(&mut found.documents, marker, write.sure);
            }
            for (version, time) in tombstones(write.data) {
                let known = found.tombstones.entry(version).or_insert((time, write.sure));
                known.1 = [known.1, write.sure].into_iter().flatten().min();
            }
            for (id, time) in removals(write.data) {
                found.times.entry(id.clone()).or_default().push(time);
                note(&mut found.removals, (id, time), write.sure);
            }
        } else if has(&write.path, "journal") {
            for event in events(write.data) {
                note(&mut found.events, event, write.sure);
            }
        }
    }
    found
}

/// Looks for every acknowledged change.
pub(crate) fn before(recording: &Recording, changes: &Changes) -> Proof {
    let found = find(&recording.writes());
    let mut proof = Proof { held: 0, problems: Vec::new() };
    let mut judge = |what: String, sure: Option<&Option<usize>>, acked: usize| match sure {
        Some(Some(sure)) if *sure < acked => proof.held += 1,
        Some(Some(sure)) => {
            proof.problems.push(format!("the {what} was acknowledged at {acked} and synced at {sure}"));
        }
        Some(None) => proof.problems.push(format!("the {what} was acknowledged at {acked} and never synced")),
        None => proof.problems.push(format!("the {what} was acknowledged at {acked} and is in no write")),
    };
    for write in &changes.writes {
        let (Some((acked, version)), Some(id)) = (write.acked, &write.id) else { continue };
        match write.marker {
            Some(marker) => {
                judge(format!("write of {marker} to {id}"), found.documents.get(&marker), acked);
            }
            None => {
                let what = format!("removal of {id} as version {version}");
                let Some((time, record)) = found.tombstones.get(&version) else {
                    judge(what, None, acked);
                    continue;
                };
                let entry = found.removals.get(&(id.clone(), *time));
                // Both have to be there: the later one counts.
                let both = entry.map(|entry| entry.zip(*record).map(|(one, other)| one.max(other)));
                judge(what, both.as_ref(), acked);
            }
        }
    }
    for delivery in &changes.deliveries {
        for told in &delivery.told {
            judge(format!("delivery of event {}", told.event), found.events.get(&told.event), delivery.acked);
        }
    }
    proof
}

/// A LEB128 number and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

fn positions<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle.first().copied();
    let starts = bytes.iter().enumerate().filter(move |(_, byte)| Some(**byte) == first);
    starts.map(|(at, _)| at).filter(move |at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(needle)))
}

/// Removed records: `format 1 · CRC-32 · version · time · removed · origin "api" · no identities`. (version, time)
fn tombstones(bytes: &[u8]) -> Vec<(u64, u64)> {
    const END: &[u8] = b"\x01\x03api\x00";
    let mut all = Vec::new();
    for end in positions(bytes, END) {
        // Two numbers stand before; the checksum says where they begin.
        for begin in end.saturating_sub(20)..end.saturating_sub(1) {
            let Some(body) = bytes.get(begin..end + END.len()) else { continue };
            let Some(envelope) = begin.checked_sub(5).and_then(|from| bytes.get(from..begin)) else {
                continue;
            };
            let Some(([1], crc)) = envelope.split_first_chunk::<1>() else { continue };
            if crc != crc32fast::hash(body).to_le_bytes() {
                continue;
            }
            if let Some((version, rest)) = varint(body)
                && let Some((time, END)) = varint(rest)
            {
                all.push((version, time));
            }
        }
    }
    all
}

/// Removals in blocks of the feed: `length and id · time · origin "api" · removed`. (id, time)
fn removals(bytes: &[u8]) -> Vec<(String, u64)> {
    const ID: usize = 36;
    let lengths = bytes.iter().enumerate().filter(|(_, byte)| usize::from(**byte) == ID);
    lengths
        .filter_map(|(at, _)| {
            let (id, rest) = bytes.get(at + 1..)?.split_at_checked(ID)?;
            let is_id = id.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
            let (time, rest) = if is_id { varint(rest)? } else { return None };
            let id = std::str::from_utf8(id).ok()?;
            rest.starts_with(b"\x03api\x01").then(|| (id.to_owned(), time))
        })
        .collect()
}

/// Numbers of events.
fn events(bytes: &[u8]) -> Vec<u64> {
    const NAME: &[u8] = b"\"eventId\":";
    positions(bytes, NAME)
        .filter_map(|at| {
            let rest = bytes.get(at + NAME.len()..)?;
            let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
            std::str::from_utf8(rest.get(..len)?).ok()?.parse().ok()
        })
        .collect()
}

#[test]
fn a_removal_is_recognised_and_only_whole() {
    let mut body = vec![0xac, 0x02];
    body.extend_from_slice(&[0x80, 0x80, 0x01]);
    body.extend_from_slice(b"\x01\x03api\x00");
    let mut bytes = b"before\x01".to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(b"after");
    assert_eq!(tombstones(&bytes), [(300, 16_384)]);
    for at in 6..bytes.len() - 5 {
        let mut bad = bytes.clone();
        if let Some(byte) = bad.get_mut(at) {
            *byte ^= 0x20;
        }
        assert_eq!(tombstones(&bad), [], "byte {at}");
    }

    let id = "0195f3a0-0000-7000-8000-000000000001";
    let entry = |removed: u8| [b"x\x24", id.as_bytes(), b"\x05\x03api", &[removed]].concat();
    assert_eq!(removals(&entry(1)), [(id.to_owned(), 5)]);
    assert_eq!(removals(&entry(0)), []);
    assert_eq!(events(b"[{\"eventId\":77,\"a\":1},{\"eventId\":78,"), [77, 78]);
}
