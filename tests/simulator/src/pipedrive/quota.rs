//! The limits of an account: calls in two rolling seconds for each token, searches in two seconds, and the tokens of the
//! day, which all callers of the company share and which come back at midnight of the server's zone.
//!
//! A call that is refused costs nothing. The day is spent when no token is left; the last call may cost more than is
//! left.

use std::collections::VecDeque;

use super::control::PipedriveQuota;

const WINDOW: i64 = 2_000;
const MINUTE: i64 = 60_000;

/// How a caller shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `x-api-token`.
    ApiToken,
    /// `Authorization: Bearer`.
    Oauth,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Too many calls in two seconds, or no token of the day is left.
    Over,
    /// The caller went on for too long after being refused.
    Abuse,
}

/// What the headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remaining {
    pub(super) limit: u32,
    pub(super) left: u32,
    /// Seconds until the window has room again.
    pub(super) reset: u32,
    /// Tokens of a day, and what is left of them.
    pub(super) daily: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Window(VecDeque<i64>);

impl Window {
    fn used(&mut self, now: i64) -> u32 {
        while self.0.front().is_some_and(|at| now - at >= WINDOW) {
            self.0.pop_front();
        }
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn reset(&self, now: i64) -> u32 {
        let left = self.0.front().map_or(WINDOW, |at| at + WINDOW - now);
        u32::try_from((left + 999).div_euclid(1_000)).unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct Quota {
    sizes: PipedriveQuota,
    zone: jiff::tz::TimeZone,
    api: Window,
    oauth: Window,
    search: Window,
    spent: u64,
    /// When the day ends.
    midnight: i64,
    refusals: VecDeque<i64>,
    blocked_until: i64,
}

impl Quota {
    pub(super) fn new(sizes: PipedriveQuota, zone: jiff::tz::TimeZone) -> Self {
        Self {
            sizes,
            zone,
            api: Window::default(),
            oauth: Window::default(),
            search: Window::default(),
            spent: 0,
            midnight: i64::MIN,
            refusals: VecDeque::new(),
            blocked_until: i64::MIN,
        }
    }

    pub(super) fn resize(&mut self, sizes: PipedriveQuota) {
        self.sizes = sizes;
    }

    /// Tokens of the day that are spent.
    pub(super) fn spent(&mut self, now: i64) -> u64 {
        self.roll(now);
        self.spent
    }

    fn roll(&mut self, now: i64) {
        if now >= self.midnight {
            self.spent = 0;
            self.midnight = midnight_after(now, &self.zone);
        }
    }

    /// Takes a call that costs so many tokens, or refuses it; what the headers say either way.
    pub(super) fn take(
        &mut self,
        now: i64,
        kind: Kind,
        cost: u32,
        search: bool,
        abuse: (u32, u32),
    ) -> (Result<(), Limit>, Remaining) {
        self.roll(now);
        let (window, size) = match kind {
            Kind::ApiToken => (&mut self.api, self.sizes.token_burst),
            Kind::Oauth => (&mut self.oauth, self.sizes.oauth_burst),
        };
        let full = window.used(now) >= size;
        let busy = search && self.search.used(now) >= self.sizes.search_burst;
        let broke = self.sizes.daily.is_some_and(|daily| self.spent >= daily);
        let taken = if self.blocked_until > now {
            Err(Limit::Abuse)
        } else if full || busy || broke {
            Err(Limit::Over)
        } else {
            window.0.push_back(now);
            if search {
                self.search.0.push_back(now);
            }
            self.spent = self.spent.saturating_add(u64::from(cost));
            Ok(())
        };
        let (shown, size) = match kind {
            _ if search => (&mut self.search, self.sizes.search_burst),
            Kind::ApiToken => (&mut self.api, self.sizes.token_burst),
            Kind::Oauth => (&mut self.oauth, self.sizes.oauth_burst),
        };
        let remaining = Remaining {
            limit: size,
            left: size.saturating_sub(shown.used(now)),
            reset: shown.reset(now),
            daily: self.sizes.daily.map(|daily| (daily, daily.saturating_sub(self.spent))),
        };
        if taken == Err(Limit::Over) && kind == Kind::ApiToken {
            self.refused(now, abuse);
        }
        (taken, remaining)
    }

    fn refused(&mut self, now: i64, (after, seconds): (u32, u32)) {
        while self.refusals.front().is_some_and(|at| now - at >= MINUTE) {
            self.refusals.pop_front();
        }
        self.refusals.push_back(now);
        if after > 0 && self.refusals.len() >= after as usize {
            self.refusals.clear();
            self.blocked_until = now + i64::from(seconds) * 1_000;
        }
    }
}

/// The next midnight of the zone.
fn midnight_after(now: i64, zone: &jiff::tz::TimeZone) -> i64 {
    let day = || {
        let today = jiff::Timestamp::from_millisecond(now).ok()?.to_zoned(zone.clone());
        let tomorrow = today.date().tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
        Some(tomorrow.timestamp().as_millisecond())
    };
    day().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(sizes: PipedriveQuota, zone: &str) -> Quota {
        Quota::new(sizes, jiff::tz::TimeZone::get(zone).unwrap())
    }

    #[test]
    fn the_day_of_tokens_ends_at_midnight_of_the_servers_zone() {
        let sizes = PipedriveQuota { daily: Some(10), ..PipedriveQuota::UNLIMITED };
        let mut quota = quota(sizes, "Europe/Tallinn");
        // 23:59:59 in Tallinn on a winter's day.
        let now = 1_769_896_799_000;
        let take = |quota: &mut Quota, now| quota.take(now, Kind::Oauth, 7, false, (0, 0));
        assert_eq!(take(&mut quota, now).0, Ok(()));
        let (taken, left) = take(&mut quota, now);
        assert_eq!((taken, left.daily), (Ok(()), Some((10, 0))));
        assert_eq!(take(&mut quota, now + 999).0, Err(Limit::Over));
        let (taken, left) = take(&mut quota, now + 1_000);
        assert_eq!((taken, left.daily), (Ok(()), Some((10, 3))));
    }

    #[test]
    fn windows_roll_and_are_apart_for_each_kind_of_token() {
        let sizes = PipedriveQuota { token_burst: 2, oauth_burst: 1, search_burst: 1, daily: None };
        let mut quota = quota(sizes, "UTC");
        let now = 1_000_000_000_000;
        let mut take = |at, kind, search| quota.take(at, kind, 1, search, (0, 0)).0.is_ok();
        assert!(take(now, Kind::ApiToken, false));
        assert!(take(now + 500, Kind::ApiToken, true));
        assert!(!take(now + 600, Kind::ApiToken, false));
        assert!(!take(now + 600, Kind::Oauth, true), "searches have one window for both");
        assert!(take(now + 600, Kind::Oauth, false));
        assert!(take(now + 2_000, Kind::ApiToken, false));
        assert!(!take(now + 2_000, Kind::ApiToken, false));
    }
}
