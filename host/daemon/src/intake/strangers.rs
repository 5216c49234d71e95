//! Events of accounts that no connection has. They are answered like all others and dropped; here they are told of, so that whoever
//! waits for them finds out why nothing comes.
//!
//! An app may be installed by many accounts that nobody connects, so that there is one line a minute for a door, whatever comes in.

use parking_lot::Mutex;
use tandem_core::Millis;

/// One line in this time, in milliseconds.
const PAUSE: Millis = 60_000;
/// So many accounts are named in a line.
const NAMED: usize = 5;
/// So much of an account's id stands in it, in characters.
const SHOWN: usize = 64;

/// What was dropped at a door since the last line.
#[derive(Debug, Default)]
pub struct Strangers {
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    /// When the last line was given. None: there was none yet.
    told: Option<Millis>,
    events: u64,
    accounts: Vec<String>,
    /// There were more accounts than are named.
    more: bool,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Events since the last time.
    pub(super) events: u64,
    /// Their accounts.
    pub(super) accounts: String,
}

impl Strangers {
    /// An event of an account that no connection has. None: it names no account.
    pub(super) fn note(&self, account: Option<&str>) {
        let name: String = account.unwrap_or("(none)").chars().take(SHOWN).collect();
        let mut since = self.since.lock();
        since.events += 1;
        if since.accounts.contains(&name) {
            return;
        }
        if since.accounts.len() < NAMED {
            since.accounts.push(name);
        } else {
            since.more = true;
        }
    }

    /// What there is to tell now, if anything.
    pub(super) fn tell(&self, now: Millis) -> Option<Told> {
        let mut since = self.since.lock();
        if since.events == 0 || since.told.is_some_and(|told| now < told.saturating_add(PAUSE)) {
            return None;
        }
        let Since { events, mut accounts, more, .. } =
            std::mem::replace(&mut *since, Since { told: Some(now), ..Since::default() });
        if more {
            accounts.push("others".to_owned());
        }
        Some(Told { events, accounts: accounts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_named_at_once_and_then_counted_for_a_minute() {
        let strangers = Strangers::default();
        assert_eq!(strangers.tell(1_000), None);
        strangers.note(Some("7"));
        strangers.note(Some("7"));
        strangers.note(None);
        assert_eq!(strangers.tell(1_000), Some(Told { events: 3, accounts: "7, (none)".into() }));
        for account in 0..9 {
            strangers.note(Some(&account.to_string()));
        }
        assert_eq!(strangers.tell(1_000 + PAUSE - 1), None);
        let told = Told { events: 9, accounts: "0, 1, 2, 3, 4, others".into() };
        assert_eq!(strangers.tell(1_000 + PAUSE), Some(told));
        assert_eq!(strangers.tell(1_000 + 3 * PAUSE), None);
    }

    #[test]
    fn a_long_account_fills_no_log() {
        let strangers = Strangers::default();
        strangers.note(Some(&"\u{20ac}".repeat(10_000)));
        assert_eq!(strangers.tell(0).unwrap().accounts.chars().count(), SHOWN);
    }
}
