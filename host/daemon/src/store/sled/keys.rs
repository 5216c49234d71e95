//! Keys: the first byte is the table, what follows is ordered as it is read.
//!
//! Numbers are big-endian and of fixed width. Text is closed by `00 01`, and a zero byte inside it becomes `00 FF`, so that
//! the order of keys is the order of the parts and no part runs into the next. Connections are numbers here (table `N`).

use tandem_core::Millis;
use tandem_core::id::{EntityKey, ExternalKey, ObjectName};

use super::super::{Class, StoreError, Subject};

/// A name (scope, object, id, connection, value) is at most this long.
pub(super) const MAX_NAME: usize = 512;

/// A key as it is kept in memory.
pub(super) type Key = Box<[u8]>;

/// `M name`: the store's own facts.
pub(super) const META: u8 = b'M';
/// `N connection-name -> number`.
pub(super) const CONNECTION: u8 = b'N';
/// `C conn -> (ready, delayed)`: how much waits.
pub(super) const COUNT: u8 = b'C';
/// `R conn class seq -> hint`.
pub(super) const READY: u8 = b'R';
/// `D due seq conn class -> hint`.
pub(super) const DELAYED: u8 = b'D';
/// `A conn noticed-at seq due class -> ()`: the oldest undone hint of a connection is its first row.
pub(super) const AGE: u8 = b'A';
/// `W seq -> delivery`.
pub(super) const DELIVERY: u8 = b'W';
/// `L conn entity -> link`.
pub(super) const LINK: u8 = b'L';
/// `E entity conn -> ()`.
pub(super) const ENTITY: u8 = b'E';
/// `X conn object external-id -> entity`.
pub(super) const EXTERNAL: u8 = b'X';
/// `H conn entity -> ()`: links with held groups or frozen fields.
pub(super) const HELD: u8 = b'H';
/// `I conn object scope id -> intent`.
pub(super) const INTENT: u8 = b'I';
/// `T entity seq -> history entry`.
pub(super) const HISTORY: u8 = b'T';
/// `Q seq -> dead letter`.
pub(super) const DEAD: u8 = b'Q';
/// `q conn seq -> ()`.
pub(super) const DEAD_BY_CONNECTION: u8 = b'q';
/// `d conn digest-of-object-and-subject -> seq`: the letter about a record.
pub(super) const DEAD_ABOUT: u8 = b'd';
/// `V name -> bytes`.
pub(super) const VALUE: u8 = b'V';
/// `Z key -> raw bytes`: values that were set aside because they could not be read.
pub(super) const SET_ASIDE: u8 = b'Z';
/// `P key part -> bytes`: the pieces of a value that is too large for one row of the tree.
pub(super) const PART: u8 = b'P';

/// Puts a key together.
pub(super) struct Builder(Vec<u8>);

impl Builder {
    pub(super) fn new(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(table);
        Self(bytes)
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn short(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn conn(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn number(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(mut self, value: &str) -> Self {
        for &byte in value.as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, 1]);
        self
    }

    pub(super) fn entity(self, entity: &EntityKey) -> Self {
        self.text(entity.scope.as_str()).text(entity.object.as_str()).text(entity.id.as_str())
    }

    pub(super) fn done(self) -> Key {
        self.0.into_boxed_slice()
    }
}

/// Takes a key apart. Every step answers `None` when the key is not what it should be.
pub(super) struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    /// Begins behind the table byte.
    pub(super) fn new(key: &'a [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    pub(super) fn conn(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.0 {
                [0, 1, rest @ ..] => {
                    self.0 = rest;
                    return String::from_utf8(bytes).ok();
                }
                [0, 0xff, rest @ ..] => {
                    bytes.push(0);
                    self.0 = rest;
                }
                [0, ..] | [] => return None,
                [byte, rest @ ..] => {
                    bytes.push(*byte);
                    self.0 = rest;
                }
            }
        }
    }

    pub(super) fn entity(&mut self) -> Option<EntityKey> {
        Some(EntityKey { scope: self.text()?.into(), object: self.text()?.into(), id: self.text()?.into() })
    }
}

/// Refuses a name that would make a key too long.
pub(super) fn name_fits(what: &'static str, name: &str) -> Result<(), StoreError> {
    if name.len() > MAX_NAME {
        return Err(StoreError::TooLarge { what, len: name.len(), limit: MAX_NAME });
    }
    Ok(())
}

/// Refuses an entity whose names are too long.
pub(super) fn entity_fits(entity: &EntityKey) -> Result<(), StoreError> {
    name_fits("a scope's name", entity.scope.as_str())?;
    name_fits("an object's name", entity.object.as_str())?;
    name_fits("an internal id", entity.id.as_str())
}

pub(super) fn meta(name: &str) -> Key {
    Builder::new(META).text(name).done()
}

pub(super) fn connection(name: &str) -> Key {
    Builder::new(CONNECTION).text(name).done()
}

pub(super) fn count(conn: u32) -> Key {
    Builder::new(COUNT).conn(conn).done()
}

pub(super) fn class_byte(class: Class) -> u8 {
    match class {
        Class::Interactive => 0,
        Class::Live => 1,
        Class::Retry => 2,
        Class::Reconcile => 3,
        Class::Backfill => 4,
        Class::Background => 5,
    }
}

/// A hint's row: among the ready ones when `due` is 0, otherwise among the delayed ones.
pub(super) fn hint(conn: u32, class: Class, due: Millis, seq: u64) -> Key {
    if due == 0 {
        Builder::new(READY).conn(conn).byte(class_byte(class)).number(seq).done()
    } else {
        Builder::new(DELAYED).number(due).number(seq).conn(conn).byte(class_byte(class)).done()
    }
}

/// A hint's row in the index by age. It is the whole of the hint's key behind its time: the same number may stand under two.
pub(super) fn age(conn: u32, noticed_at: Millis, class: Class, due: Millis, seq: u64) -> Key {
    Builder::new(AGE).conn(conn).number(noticed_at).number(seq).number(due).byte(class_byte(class)).done()
}

pub(super) fn delivery(seq: u64) -> Key {
    Builder::new(DELIVERY).number(seq).done()
}

pub(super) fn link(conn: u32, entity: &EntityKey) -> Key {
    Builder::new(LINK).conn(conn).entity(entity).done()
}

pub(super) fn entity(entity: &EntityKey, conn: u32) -> Key {
    Builder::new(ENTITY).entity(entity).conn(conn).done()
}

pub(super) fn external(conn: u32, key: &ExternalKey) -> Key {
    Builder::new(EXTERNAL).conn(conn).text(key.object.as_str()).text(key.id.as_str()).done()
}

pub(super) fn held(conn: u32, entity: &EntityKey) -> Key {
    Builder::new(HELD).conn(conn).entity(entity).done()
}

pub(super) fn intents(conn: u32, object: &ObjectName) -> Builder {
    Builder::new(INTENT).conn(conn).text(object.as_str())
}

pub(super) fn intent(conn: u32, entity: &EntityKey) -> Key {
    intents(conn, &entity.object).text(entity.scope.as_str()).text(entity.id.as_str()).done()
}

pub(super) fn history(entity: &EntityKey, seq: u64) -> Key {
    Builder::new(HISTORY).entity(entity).number(seq).done()
}

pub(super) fn dead(seq: u64) -> Key {
    Builder::new(DEAD).number(seq).done()
}

pub(super) fn dead_by_connection(conn: u32, seq: u64) -> Key {
    Builder::new(DEAD_BY_CONNECTION).conn(conn).number(seq).done()
}

/// The row that names the letter about a record. A digest, so that ids of any length have a place.
pub(super) fn dead_about(conn: u32, object: &ObjectName, subject: &Subject) -> Key {
    use sha2::{Digest as _, Sha256};
    let number;
    let (kind, id) = match subject {
        Subject::Internal(id) => (0_u8, id.as_str().as_bytes()),
        Subject::External(id) => (1, id.as_str().as_bytes()),
        Subject::Delivery(seq) => {
            number = seq.to_be_bytes();
            (2, &number[..])
        }
    };
    let mut digest = Sha256::new();
    digest.update((object.as_str().len() as u64).to_be_bytes());
    digest.update(object.as_str());
    digest.update([kind]);
    digest.update(id);
    let digest = digest.finalize();
    Builder::new(DEAD_ABOUT).conn(conn).raw(digest.get(..16).unwrap_or_default()).done()
}

pub(super) fn value(name: &str) -> Key {
    Builder::new(VALUE).text(name).done()
}

/// What the keys of all values begin with whose names begin so.
pub(super) fn values_under(prefix: &str) -> Key {
    let mut key = value(prefix).into_vec();
    // Without the end of the text.
    key.truncate(key.len().saturating_sub(2));
    key.into_boxed_slice()
}

pub(super) fn set_aside(key: &[u8]) -> Key {
    Builder::new(SET_ASIDE).raw(key).done()
}

pub(super) fn part(key: &[u8], index: u16) -> Key {
    Builder::new(PART).raw(key).short(index).done()
}

/// The first key behind all that begin with `prefix`. `None`: there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Key> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last != 0xff {
            end.push(last + 1);
            return Some(end.into_boxed_slice());
        }
    }
    None
}

/// A key as it is named in the log: the table and the rest in hexadecimal, so that nothing in it can break a line.
pub(super) fn shown(key: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * key.len() + 1);
    if let Some((table, rest)) = key.split_first() {
        text.push(char::from(*table));
        text.push(':');
        for byte in rest {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entity_key(scope: &str, object: &str, id: &str) -> EntityKey {
        EntityKey { scope: scope.into(), object: object.into(), id: id.into() }
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_parts_do(
            a in ("[\0-\u{3}a]{0,4}", "[\0-\u{3}a]{0,4}"),
            b in ("[\0-\u{3}a]{0,4}", "[\0-\u{3}a]{0,4}"),
        ) {
            let (left, right) = (entity_key(&a.0, &a.1, "x"), entity_key(&b.0, &b.1, "x"));
            prop_assert_eq!(link(7, &left).cmp(&link(7, &right)), left.cmp(&right));
        }

        #[test]
        fn keys_come_apart_again(scope in "\\PC{0,9}", object in "[\0-\u{3}]{0,9}", id in "\\PC{0,9}", conn: u32) {
            let whole = entity_key(&scope, &object, &id);
            let key = link(conn, &whole);
            let mut parser = Parser::new(&key);
            prop_assert_eq!(parser.conn(), Some(conn));
            prop_assert_eq!(parser.entity(), Some(whole));
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys() {
        assert_eq!(after_prefix(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(after_prefix(&[1, 0xff]).as_deref(), Some(&[2][..]));
        assert_eq!(after_prefix(&[0xff]), None);
    }
}
