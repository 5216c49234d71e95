//! Salesforce's ids: 15 characters in which case counts, or 18 of which the last three say the case of the others.
//!
//! The APIs answer with 18; addresses in the browser, reports and some messages have 15. Both are one record, so that an id is
//! made 18 characters long before it leaves this provider. An id that came with 18 stays as it came.

/// Digits of the three last characters: each stands for five bits.
const SUFFIX: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// Characters in which case counts.
const SHORT: usize = 15;

/// The id with 18 characters. None: it is no id.
pub(crate) fn long(id: &str) -> Option<String> {
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    match id.len() {
        18 => Some(id.to_owned()),
        SHORT => Some(format!("{id}{}", suffix(id))),
        _ => None,
    }
}

/// The part in which case counts.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// Whether two ids name the same record, however long they are.
pub(crate) fn same(left: &str, right: &str) -> bool {
    !left.is_empty() && short(left) == short(right)
}

/// Each five characters give one: its bits say which of them are capitals, the first one's is the lowest.
fn suffix(short: &str) -> String {
    short
        .as_bytes()
        .chunks(5)
        .map(|part| {
            let bits = part
                .iter()
                .enumerate()
                .fold(0, |bits, (place, byte)| bits | (usize::from(byte.is_ascii_uppercase()) << place));
            SUFFIX.get(bits).copied().map_or('A', char::from)
        })
        .collect()
}
