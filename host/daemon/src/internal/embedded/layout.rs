//! How records, identities and changes lie on disk.
//!
//! One tree, because only within one tree a batch is atomic. The first byte of a key is its table:
//!
//! ```text
//! m <name>                                 -> metadata
//! r <scope> 0 <object> 0 <id>              -> record, live or deleted
//! i <scope> 0 <object> 0 <sha256, 32 B>    -> id of the live record that has this identity value
//! f <sequence of the block's last change>  -> block of changes without gaps
//! ```
//!
//! Names hold no zero byte, so keys of a scope, or of an object of a scope, are one range. Identity values are hashed: they
//! are contents, and keys are seen in more places than values. Every value is `format (1 byte) · CRC-32 of the rest (4, little
//! endian) · body`. A record's body is a postcard header and, to its end, the document's JSON.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tandem_core::Millis;
use tandem_core::id::{InternalId, ObjectName, ScopeId};

/// The format of values that this code writes.
pub(super) const FORMAT: u8 = 1;
/// Bytes in front of a value's body.
const ENVELOPE: usize = 5;
/// Room that is kept for a record's header.
pub(super) const MAX_HEADER: usize = 2048;

/// The digest of an identity value.
pub(super) type IdentityHash = [u8; 32];

/// Where the store's own facts are kept.
pub(super) const META_FORMAT: &[u8] = b"mformat";
/// The table of changes.
pub(super) const FEED: u8 = b'f';
/// The table of records.
pub(super) const RECORDS: u8 = b'r';

/// A stored value that cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// Shorter than any value.
    #[error("too short")]
    Short,
    /// Written by a later version.
    #[error("format {0} is not known")]
    Format(u8),
    /// The bytes changed.
    #[error("checksum does not match")]
    Checksum,
    /// The checksum matches, the contents make no sense.
    #[error("contents do not match the format")]
    Contents,
}

/// What is known of a record beside its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The sequence number of its last change.
    pub(super) version: u64,
    /// When that was.
    pub(super) changed_at: Millis,
    /// No document follows.
    pub(super) deleted: bool,
    /// Who wrote.
    pub(super) origin: String,
    /// What it holds in the table of identities.
    pub(super) identity: Vec<IdentityHash>,
}

/// One change of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number, which is also the record's version.
    pub(super) version: u64,
    /// The customer's part.
    pub(super) scope: ScopeId,
    /// The canonical object.
    pub(super) object: ObjectName,
    /// The record.
    pub(super) id: InternalId,
    /// When.
    pub(super) at: Millis,
    /// Who wrote.
    pub(super) origin: String,
    /// It was a deletion.
    pub(super) deleted: bool,
}

/// An entry as it lies in a block; its number follows from its place.
#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    scope: &'a str,
    object: &'a str,
    id: &'a str,
    at: Millis,
    origin: &'a str,
    deleted: bool,
}

/// The key of a record.
pub(super) fn record_key(scope: &str, object: &str, id: &str) -> Vec<u8> {
    let mut key = object_prefix(scope, object);
    key.extend_from_slice(id.as_bytes());
    key
}

/// What the keys of an object's records begin with.
pub(super) fn object_prefix(scope: &str, object: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + scope.len() + object.len() + 36);
    key.push(RECORDS);
    key.extend_from_slice(scope.as_bytes());
    key.push(0);
    key.extend_from_slice(object.as_bytes());
    key.push(0);
    key
}

/// What the keys of a scope's records begin with.
pub(super) fn scope_prefix(scope: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + scope.len());
    key.push(RECORDS);
    key.extend_from_slice(scope.as_bytes());
    key.push(0);
    key
}

/// Scope, object and id of a record's key.
pub(super) fn split_record_key(key: &[u8]) -> Option<(&str, &str, &str)> {
    let text = std::str::from_utf8(key.strip_prefix(&[RECORDS])?).ok()?;
    let mut parts = text.splitn(3, '\0');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// The key of an identity value.
pub(super) fn identity_key(scope: &str, object: &str, hash: &IdentityHash) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + scope.len() + object.len() + hash.len());
    key.push(b'i');
    key.extend_from_slice(scope.as_bytes());
    key.push(0);
    key.extend_from_slice(object.as_bytes());
    key.push(0);
    key.extend_from_slice(hash);
    key
}

/// The digest under which an identity value is kept.
pub(super) fn identity_hash(pointer: &str, normal: &str) -> IdentityHash {
    let mut digest = Sha256::new();
    digest.update((pointer.len() as u64).to_be_bytes());
    digest.update(pointer.as_bytes());
    digest.update(normal.as_bytes());
    digest.finalize().into()
}

/// The key of a block of changes.
pub(super) fn feed_key(last: u64) -> [u8; 9] {
    let mut key = [FEED; 9];
    if let Some(number) = key.get_mut(1..) {
        number.copy_from_slice(&last.to_be_bytes());
    }
    key
}

/// The number of the last change in the block under this key.
pub(super) fn feed_last(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[FEED])?.try_into().ok()?))
}

/// Puts a body into its envelope.
pub(super) fn seal(body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(ENVELOPE + body.len());
    value.push(FORMAT);
    value.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    value.extend_from_slice(body);
    value
}

/// Takes a body out of its envelope.
///
/// # Errors
/// [`Damage`] if it is not what was put in.
pub(super) fn unseal(value: &[u8]) -> Result<&[u8], Damage> {
    let (format, rest) = value.split_first().ok_or(Damage::Short)?;
    if *format != FORMAT {
        return Err(Damage::Format(*format));
    }
    let (crc, body) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(Damage::Checksum);
    }
    Ok(body)
}

/// A record as it is stored.
pub(super) fn encode_record(header: &Header, document: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let body = postcard::to_extend(header, Vec::with_capacity(256 + document.len()))?;
    let mut body = body;
    body.extend_from_slice(document);
    Ok(seal(&body))
}

/// A stored record: its header and the JSON of its document (empty when it is deleted).
///
/// # Errors
/// [`Damage`] if the value cannot be trusted.
pub(super) fn decode_record(value: &[u8]) -> Result<(Header, &[u8]), Damage> {
    postcard::take_from_bytes(unseal(value)?).map_err(|_| Damage::Contents)
}

/// A block of changes as it is stored. `first` is the number of the first one.
pub(super) fn encode_block(first: u64, entries: &[&Entry]) -> Result<Vec<u8>, postcard::Error> {
    let stored: Vec<StoredEntry<'_>> = entries
        .iter()
        .map(|entry| StoredEntry {
            scope: entry.scope.as_str(),
            object: entry.object.as_str(),
            id: entry.id.as_str(),
            at: entry.at,
            origin: &entry.origin,
            deleted: entry.deleted,
        })
        .collect();
    Ok(seal(&postcard::to_stdvec(&(first, stored))?))
}

/// A stored block of changes.
///
/// # Errors
/// [`Damage`] if the value cannot be trusted.
pub(super) fn decode_block(value: &[u8]) -> Result<Vec<Entry>, Damage> {
    let (first, stored): (u64, Vec<StoredEntry<'_>>) =
        postcard::from_bytes(unseal(value)?).map_err(|_| Damage::Contents)?;
    Ok(stored
        .into_iter()
        .zip(first..)
        .map(|(entry, version)| Entry {
            version,
            scope: entry.scope.into(),
            object: entry.object.into(),
            id: entry.id.into(),
            at: entry.at,
            origin: entry.origin.to_owned(),
            deleted: entry.deleted,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { version: 7, changed_at: 9, deleted: false, origin: "api".into(), identity: vec![[3; 32]] }
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_any_changed_byte_is_noticed() {
        let value = encode_record(&header(), br#"{"a":1}"#).unwrap();
        let (back, document) = decode_record(&value).unwrap();
        assert_eq!((back, document), (header(), br#"{"a":1}"#.as_slice()));
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] ^= 0x40;
            assert!(decode_record(&changed).is_err(), "byte {at}");
        }
        for len in 0..value.len() {
            assert!(decode_record(&value[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn keys_keep_scopes_objects_and_ids_apart_and_in_order() {
        let key = record_key("s", "contact", "id");
        assert_eq!(split_record_key(&key), Some(("s", "contact", "id")));
        assert!(key.starts_with(&object_prefix("s", "contact")) && key.starts_with(&scope_prefix("s")));
        assert!(!record_key("s2", "contact", "id").starts_with(&scope_prefix("s")));
        assert_eq!(feed_last(&feed_key(u64::MAX - 1)), Some(u64::MAX - 1));
        assert!(feed_key(255) < feed_key(256));
        assert_ne!(identity_hash("/a", "bc"), identity_hash("/ab", "c"));
    }

    #[test]
    fn a_block_numbers_its_changes_from_the_first() {
        let entry = |version: u64| Entry {
            version,
            scope: "s".into(),
            object: "contact".into(),
            id: format!("r{version}").into(),
            at: 5,
            origin: "api".into(),
            deleted: version == 12,
        };
        let entries = [entry(11), entry(12)];
        let value = encode_block(11, &entries.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(decode_block(&value).unwrap(), entries);
    }

    /// What format 1 looks like on disk. Whoever has to change this raises [`FORMAT`] and keeps reading the old one.
    #[test]
    fn values_of_format_1_are_read_and_written_byte_for_byte() {
        let header = Header {
            version: 300,
            changed_at: 5,
            deleted: false,
            origin: "api".into(),
            identity: vec![[7; 32]],
        };
        let mut record = b"\x01CCCC\xac\x02\x05\x00\x03api\x01".to_vec();
        record.extend_from_slice(&[7; 32]);
        record.extend_from_slice(b"{}");
        let crc = crc32fast::hash(&record[ENVELOPE..]).to_le_bytes();
        record[1..ENVELOPE].copy_from_slice(&crc);
        assert_eq!(encode_record(&header, b"{}").unwrap(), record);
        assert_eq!(decode_record(&record).unwrap(), (header, b"{}".as_slice()));
        assert_eq!(record_key("s", "o", "i"), b"rs\0o\0i");
        assert_eq!(feed_key(1), *b"f\0\0\0\0\0\0\0\x01");
        assert_eq!(identity_key("s", "o", &[b'h'; 32]), [b"is\0o\0".as_slice(), &[b'h'; 32]].concat());
        let entry = Entry {
            version: 2,
            scope: "s".into(),
            object: "o".into(),
            id: "i".into(),
            at: 1,
            origin: "a".into(),
            deleted: true,
        };
        let block = encode_block(2, &[&entry]).unwrap();
        assert_eq!(&block[ENVELOPE..], b"\x02\x01\x01s\x01o\x01i\x01\x01a\x01");
        assert_eq!(decode_block(&block).unwrap(), [entry]);
    }
}
