//! What changed, by modification time, and all persons, by their ids.
//!
//! A listing from a modification time on is ordered by it, and its pages are found again by a cursor. Times are Pipedrive's own
//! and whole seconds; the host's clock only tells where the very first look begins and how much time has passed. A person may show
//! up a little late, so that each look begins some seconds before the newest one of the last; rows that were shown already, and
//! look the same, are left out.
//!
//! Deleted persons are in no listing. Webhooks tell of them, and a read finds them in the bin for thirty days.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Listing, Observed, Operation, Page, Reply, Request, Response, time};

use crate::Pipedrive;
use crate::record::{Extent, data, next_cursor};

/// Rows that are remembered so as not to be shown twice. What is forgotten is shown again, which does no harm.
const REMEMBERED: usize = 1_000;
/// How far the very first look begins before now: clocks differ.
const FIRST_MS: u64 = 300_000;
/// Version of the cursors.
const VERSION: u8 = 1;

/// Where the looks of `changes` stand.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Cursor {
    v: u8,
    /// Modification time that the look begins with.
    since: u64,
    /// Rows shown since then, by id.
    seen: BTreeMap<String, Shown>,
    /// Newest modification time that was shown, and when it was, on the host's clock.
    newest: u64,
    newest_at: u64,
    /// The next page of a look that is under way.
    page: Option<String>,
}

/// A row that was shown: its modification time, and what it looked like. A second has room for two edits.
type Shown = (u64, u32);

/// Where a walk stands.
#[derive(Debug, Deserialize, Serialize)]
struct Walk {
    v: u8,
    page: Option<String>,
    done: bool,
}

/// A cursor of a listing that is of no use.
fn lost<C>(read: serde_json::Result<C>, version: impl Fn(&C) -> u8) -> Result<C, Answer> {
    match read {
        Ok(cursor) if version(&cursor) == VERSION => Ok(cursor),
        Ok(cursor) => Err(Answer::CursorLost(format!("the cursor is of version {}", version(&cursor)))),
        Err(error) => Err(Answer::CursorLost(format!("the cursor cannot be read: {error}"))),
    }
}

impl Pipedrive {
    pub(crate) fn changes(&self, listing: &Listing, context: &Context) -> Reply {
        let Some(bytes) = &listing.cursor else {
            let begin = context.now.saturating_sub(self.settings.overlap_ms.max(FIRST_MS));
            let cursor = Cursor {
                v: VERSION,
                since: begin,
                seen: BTreeMap::new(),
                newest: begin,
                newest_at: context.now,
                page: None,
            };
            return page(Vec::new(), &cursor, false);
        };
        match lost(serde_json::from_slice::<Cursor>(bytes), |cursor| cursor.v) {
            Ok(cursor) => self.look(&cursor, listing.limit).then(Vec::new()),
            Err(answer) => answer.into(),
        }
    }

    fn look(&self, cursor: &Cursor, limit: u32) -> Request {
        // Parts of a second are refused.
        let second = i64::try_from(cursor.since / 1_000).unwrap_or_default().saturating_mul(1_000);
        let since = time::format_datetime(second).unwrap_or_default();
        self.list_request(Some(&since), cursor.page.as_deref(), limit)
    }

    pub(crate) fn changes_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        response: &Response,
        context: &Context,
    ) -> Reply {
        let bytes = listing.cursor.as_deref().unwrap_or_default();
        let mut cursor = match lost(serde_json::from_slice::<Cursor>(bytes), |cursor| cursor.v) {
            Ok(cursor) => cursor,
            Err(answer) => return answer.into(),
        };
        if response.status == 400 && cursor.page.is_some() {
            // A page that is not known any more: the look begins again with the next one.
            cursor.page = None;
            return page(Vec::new(), &cursor, false);
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = rows(&body) else {
            return unreadable(operation, "the answer has no persons").into();
        };
        let shown = self.shown(&mut cursor, rows, context);
        cursor.page = next_cursor(&body);
        let more = cursor.page.is_some();
        if !more {
            self.settle(&mut cursor, context);
            trim(&mut cursor.seen, cursor.since);
        }
        page(shown, &cursor, more)
    }

    /// Where the next look begins: a little before the newest row, for those that show up late; behind it once that time has
    /// passed, so that what was shown last is not listed for ever.
    fn settle(&self, cursor: &mut Cursor, context: &Context) {
        let overlap = self.settings.overlap_ms;
        let is_past = context.now.saturating_sub(cursor.newest_at) > overlap && cursor.newest > cursor.since;
        let next = if is_past {
            (cursor.newest / 1_000).saturating_add(1).saturating_mul(1_000)
        } else {
            cursor.newest.saturating_sub(overlap)
        };
        cursor.since = cursor.since.max(next);
    }

    /// The rows that were not shown before.
    fn shown(&self, cursor: &mut Cursor, rows: &[Node<'_>], context: &Context) -> Vec<Observed> {
        let mut shown = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(observed) = self.observe(row, Extent::Asked) else { continue };
            if let Some(stamp) = observed.stamp {
                if stamp > cursor.newest {
                    (cursor.newest, cursor.newest_at) = (stamp, context.now);
                }
                let looks = (stamp, digest(&row.to_bytes()));
                if cursor.seen.insert(observed.id.clone(), looks) == Some(looks) {
                    continue;
                }
            }
            shown.push(observed);
        }
        trim(&mut cursor.seen, cursor.newest.saturating_sub(self.settings.overlap_ms));
        shown
    }

    pub(crate) fn walk(&self, listing: &Listing) -> Reply {
        let walk = match listing.cursor.as_deref() {
            None => Walk { v: VERSION, page: None, done: false },
            Some(bytes) => match lost(serde_json::from_slice::<Walk>(bytes), |walk| walk.v) {
                Ok(walk) => walk,
                Err(answer) => return answer.into(),
            },
        };
        if walk.done {
            return page(Vec::new(), &walk, false);
        }
        self.list_request(None, walk.page.as_deref(), listing.limit).then(Vec::new())
    }

    pub(crate) fn walk_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if response.status == 400 && listing.cursor.is_some() {
            return Answer::CursorLost("Pipedrive does not know the page any more".to_owned()).into();
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = rows(&body) else {
            return unreadable(operation, "the answer has no persons").into();
        };
        let rows = rows.iter().filter_map(|row| self.observe(row, Extent::Asked)).collect();
        let next = next_cursor(&body);
        let more = next.is_some();
        page(rows, &Walk { v: VERSION, page: next, done: !more }, more)
    }
}

/// The persons of a page; an empty one may have null for a list.
fn rows<'n, 'a>(body: &'n Node<'a>) -> Option<&'n [Node<'a>]> {
    match data(body) {
        Some(rows) => rows.as_list(),
        None => body.get("data").map(|_| <&[Node<'a>]>::default()),
    }
}

/// Forgets rows that are older than `since`, and the oldest when there are too many.
fn trim(seen: &mut BTreeMap<String, Shown>, since: u64) {
    seen.retain(|_, (stamp, _)| *stamp >= since);
    if seen.len() > REMEMBERED {
        let mut all: Vec<(String, Shown)> = std::mem::take(seen).into_iter().collect();
        all.sort_by_key(|(_, (stamp, _))| std::cmp::Reverse(*stamp));
        all.truncate(REMEMBERED);
        seen.extend(all);
    }
}

/// FNV-1a, folded: tells two states of one record apart, nothing more.
fn digest(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default()
}

fn page<C: Serialize>(rows: Vec<Observed>, cursor: &C, more: bool) -> Reply {
    Answer::Page(Page { rows, cursor: serde_json::to_vec(cursor).unwrap_or_default(), more }).into()
}
