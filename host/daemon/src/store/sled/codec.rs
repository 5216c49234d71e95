//! Values: `format (1 byte) · crc32 of key and payload (4 bytes, little-endian) · payload`.
//!
//! The checksum covers the key, so that a value under a wrong key is found too. Payloads are postcard, except where a value
//! holds free JSON: a link's base is written by `values`, the rest of it and history are JSON. A payload's layout changes only together with the format byte,
//! and every format that was ever landed is read.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_core::id::EntityKey;
use tandem_core::link::{Life, Link};

use super::super::{HistoryEntry, StoreError};
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

/// `weight (u64) · JSON`.
pub(super) fn pack_history(entry: &HistoryEntry) -> Result<Vec<u8>, StoreError> {
    let mut payload = Vec::with_capacity(384);
    payload.extend_from_slice(&entry.weight().to_le_bytes());
    serde_json::to_writer(&mut payload, entry).map_err(|_| unwritable("a history entry"))?;
    Ok(payload)
}

/// The entry's weight.
pub(super) fn history_weight(payload: &[u8]) -> Result<u64, Damage> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Damage::Payload("history entry"))
}

pub(super) fn unpack_history(payload: &[u8]) -> Result<HistoryEntry, Damage> {
    let json = payload.get(8..).ok_or(Damage::Payload("history entry"))?;
    serde_json::from_slice(json).map_err(|_| Damage::Payload("history entry"))
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
    fn a_value_beyond_the_limit_is_refused() {
        assert!(seal("a value", b"k", &vec![0; MAX_VALUE]).is_ok());
        assert!(matches!(seal("a value", b"k", &vec![0; MAX_VALUE + 1]), Err(StoreError::TooLarge { .. })));
    }
}
