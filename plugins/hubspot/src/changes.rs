//! What changed, by search; what was archived, by the listing of archived contacts; and all contacts, by listing.
//!
//! Search orders by modification time and shows 10,000 rows of a query at the most. A query that reaches this is begun again
//! from the last time that it showed; when more than 10,000 rows share one millisecond (an import), those are taken by their
//! ids. The index lags behind: each look begins some seconds before the newest row of the last one, and rows that were
//! shown already are left out. Times are HubSpot's own throughout; the host's clock is used once, for the very first look.
//!
//! A merge makes a new contact, which names those that it came of: they are shown as moved before it.
//!
//! Archived contacts never appear in a search, and their listing cannot be asked for a time: it is gone through whole, now
//! and then. Webhooks tell of deletions at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Listing, Observed, Operation, Page, Proof, Reply, Request, Response, State, time,
};

use crate::HubSpot;
use crate::record::{Extent, gone, merged_into, stamp_of};
use crate::requests::{LIST_PAGE, SEARCH_PAGE};

/// Rows of one query that search shows.
const SEARCH_CAP: u32 = 10_000;
/// Records that live on in others since a merge and are shown on one page, at the most.
const MOVED: usize = 400;
/// Rows that are remembered so as not to be shown twice. What is forgotten is shown again, which does no harm.
const REMEMBERED: usize = 1_500;
/// Version of the cursors.
const VERSION: u8 = 1;

/// Where the looks of `changes` stand.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Cursor {
    v: u8,
    /// Modification time that the next look begins with.
    since: u64,
    /// Rows shown since then: id to modification time.
    seen: BTreeMap<String, u64>,
    /// Newest modification time that was shown.
    newest: u64,
    /// Archiving time that the next sweep begins with.
    archived_since: u64,
    archived_seen: BTreeMap<String, u64>,
    archived_newest: u64,
    /// When the next sweep is due.
    sweep_at: u64,
    /// What is under way.
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Nothing: the next look begins.
    Idle,
    /// A search from a modification time on.
    Search { from: u64, after: u32 },
    /// A search of one millisecond, by ids greater than this.
    Moment { at: u64, id: u64 },
    /// The listing of archived contacts.
    Sweep { after: Option<String> },
}

/// Where a walk stands.
#[derive(Debug, Deserialize, Serialize)]
struct Walk {
    v: u8,
    /// None after the last page.
    after: Option<String>,
    done: bool,
}

impl HubSpot {
    pub(crate) fn changes(&self, listing: &Listing, context: &Context) -> Reply {
        let Some(bytes) = &listing.cursor else {
            let begin = context.now.saturating_sub(self.settings.settle_ms);
            let cursor = Cursor {
                v: VERSION,
                since: begin,
                seen: BTreeMap::new(),
                newest: begin,
                archived_since: begin,
                archived_seen: BTreeMap::new(),
                archived_newest: begin,
                sweep_at: context.now.saturating_add(self.settings.deletions_every_ms),
                phase: Phase::Idle,
            };
            return page(Vec::new(), &cursor, false);
        };
        match serde_json::from_slice::<Cursor>(bytes) {
            Ok(cursor) if cursor.v == VERSION => self.look(&cursor, listing.limit).then(Vec::new()),
            Ok(cursor) => Answer::CursorLost(format!("the cursor is of version {}", cursor.v)).into(),
            Err(error) => Answer::CursorLost(format!("the cursor cannot be read: {error}")).into(),
        }
    }

    /// The request of a phase. The cursor is the note: it comes back with the operation.
    fn look(&self, cursor: &Cursor, limit: u32) -> Request {
        let by_time = |operator: &str, value: u64| json!({ "propertyName": "lastmodifieddate", "operator": operator, "value": value.to_string() });
        match &cursor.phase {
            Phase::Idle => self.search_request(
                &json!([[by_time("GTE", cursor.since)]]),
                Some("lastmodifieddate"),
                0,
                limit,
            ),
            Phase::Search { from, after } => self.search_request(
                &json!([[by_time("GTE", *from)]]),
                Some("lastmodifieddate"),
                *after,
                limit,
            ),
            Phase::Moment { at, id } => self.search_request(
                &json!([[
                    by_time("EQ", *at),
                    { "propertyName": "hs_object_id", "operator": "GT", "value": id.to_string() },
                ]]),
                Some("hs_object_id"),
                0,
                limit,
            ),
            Phase::Sweep { after } => self.list_request(after.as_deref(), LIST_PAGE, true),
        }
    }

    pub(crate) fn changes_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        _note: &[u8],
        response: &Response,
        context: &Context,
    ) -> Reply {
        let Some(Ok(mut cursor)) = listing.cursor.as_deref().map(serde_json::from_slice::<Cursor>) else {
            return Answer::CursorLost("the cursor cannot be read".to_owned()).into();
        };
        if !response.is_success() {
            // A listing's link that is not known any more: the sweep begins again with the next look.
            if response.status == 400 && matches!(&cursor.phase, Phase::Sweep { after: Some(_) }) {
                cursor.phase = Phase::Sweep { after: None };
                return page(Vec::new(), &cursor, false);
            }
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = body.get("results").and_then(Node::as_list) else {
            return unreadable(operation, "the answer has no results").into();
        };
        if let Phase::Sweep { .. } = cursor.phase {
            return self.swept(cursor, rows, next_after(&body), context);
        }
        let shown = self.shown(&mut cursor, rows);
        self.advance(&mut cursor, rows, next_after(&body), listing.limit);
        if cursor.phase == Phase::Idle {
            self.settle(&mut cursor);
            if context.now >= cursor.sweep_at {
                cursor.phase = Phase::Sweep { after: None };
            }
        }
        let more = cursor.phase != Phase::Idle;
        page(shown, &cursor, more)
    }

    /// The rows that were not shown before.
    fn shown(&self, cursor: &mut Cursor, rows: &[Node<'_>]) -> Vec<Observed> {
        let mut shown = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(observed) = self.observe(row, Extent::Asked) else { continue };
            if let Some(stamp) = observed.stamp {
                cursor.newest = cursor.newest.max(stamp);
                if cursor.seen.get(&observed.id) == Some(&stamp) {
                    continue;
                }
                cursor.seen.insert(observed.id.clone(), stamp);
            }
            show(row, observed, &mut shown);
        }
        trim(&mut cursor.seen, cursor.newest.saturating_sub(self.settings.settle_ms));
        shown
    }

    /// The next request of the look, or `Idle` when it is through.
    fn advance(&self, cursor: &mut Cursor, rows: &[Node<'_>], after: Option<String>, limit: u32) {
        let limit = limit.clamp(1, SEARCH_PAGE);
        let last_stamp = rows.iter().filter_map(stamp_of).max();
        let last_id = rows.iter().filter_map(|row| row.get("id")?.as_id()?.parse::<u64>().ok()).max();
        cursor.phase = match (&cursor.phase, after, last_stamp, last_id) {
            // More rows of this millisecond; or none, and the search goes on behind it.
            (Phase::Moment { at, .. }, Some(_), _, Some(id)) => Phase::Moment { at: *at, id },
            (Phase::Moment { at, .. }, ..) => Phase::Search { from: at + 1, after: 0 },
            (phase, Some(after), Some(last), _) => {
                let from = match phase {
                    Phase::Search { from, .. } => *from,
                    _ => cursor.since,
                };
                match after.parse::<u32>() {
                    Ok(after) if after.saturating_add(limit) <= SEARCH_CAP => Phase::Search { from, after },
                    _ if last > from => Phase::Search { from: last, after: 0 },
                    _ => Phase::Moment { at: last, id: 0 },
                }
            }
            _ => Phase::Idle,
        };
    }

    /// Where the next look begins: a little before the newest row, since the index may not have shown all of that time yet.
    fn settle(&self, cursor: &mut Cursor) {
        cursor.since = cursor.since.max(cursor.newest.saturating_sub(self.settings.settle_ms));
        trim(&mut cursor.seen, cursor.since);
    }

    fn swept(
        &self,
        mut cursor: Cursor,
        rows: &[Node<'_>],
        after: Option<String>,
        context: &Context,
    ) -> Reply {
        let mut shown = Vec::new();
        for row in rows {
            let Some(id) = row.get("id").and_then(Node::as_id) else { continue };
            let at =
                row.get("archivedAt").and_then(Node::as_str).and_then(time::stamp).or_else(|| stamp_of(row));
            if let Some(at) = at {
                cursor.archived_newest = cursor.archived_newest.max(at);
                if at < cursor.archived_since || cursor.archived_seen.get(id) == Some(&at) {
                    continue;
                }
                cursor.archived_seen.insert(id.to_owned(), at);
            }
            shown.push(gone(id, Proof::Confirmed));
        }
        if after.is_none() {
            let settled = cursor.archived_newest.saturating_sub(self.settings.settle_ms);
            cursor.archived_since = cursor.archived_since.max(settled);
            cursor.sweep_at = context.now.saturating_add(self.settings.deletions_every_ms);
            cursor.phase = Phase::Idle;
        } else {
            cursor.phase = Phase::Sweep { after };
        }
        trim(&mut cursor.archived_seen, cursor.archived_since);
        let more = cursor.phase != Phase::Idle;
        page(shown, &cursor, more)
    }

    pub(crate) fn walk(&self, listing: &Listing) -> Reply {
        let walk = match listing.cursor.as_deref().map(serde_json::from_slice::<Walk>) {
            None => Walk { v: VERSION, after: None, done: false },
            Some(Ok(walk)) if walk.v == VERSION => walk,
            Some(Ok(walk)) => {
                return Answer::CursorLost(format!("the cursor is of version {}", walk.v)).into();
            }
            Some(Err(error)) => {
                return Answer::CursorLost(format!("the cursor cannot be read: {error}")).into();
            }
        };
        if walk.done {
            return page(Vec::new(), &walk, false);
        }
        self.list_request(walk.after.as_deref(), listing.limit, false).then(Vec::new())
    }

    pub(crate) fn walk_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if response.status == 400 && listing.cursor.is_some() {
            return Answer::CursorLost("HubSpot does not know the page any more".to_owned()).into();
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = body.get("results").and_then(Node::as_list) else {
            return unreadable(operation, "the answer has no results").into();
        };
        let mut shown = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(observed) = self.observe(row, Extent::Asked) {
                show(row, observed, &mut shown);
            }
        }
        let after = next_after(&body);
        let more = after.is_some();
        page(shown, &Walk { v: VERSION, after, done: !more }, more)
    }
}

/// A row, behind those that live on in it since a merge.
fn show(row: &Node<'_>, observed: Observed, shown: &mut Vec<Observed>) {
    let moved = shown.iter().filter(|row| matches!(row.state, State::Moved(_))).count();
    shown.extend(merged_into(row, &observed.id).into_iter().take(MOVED.saturating_sub(moved)));
    shown.push(observed);
}

/// Forgets rows that are older than `since`, and the oldest when there are too many.
fn trim(seen: &mut BTreeMap<String, u64>, since: u64) {
    seen.retain(|_, stamp| *stamp >= since);
    if seen.len() > REMEMBERED {
        let mut stamps: Vec<u64> = seen.values().copied().collect();
        stamps.sort_unstable_by(|left, right| right.cmp(left));
        let oldest = stamps.get(REMEMBERED).copied().unwrap_or_default();
        seen.retain(|_, stamp| *stamp > oldest);
    }
}

fn next_after(body: &Node<'_>) -> Option<String> {
    body.get("paging")?.get("next")?.get("after")?.as_id().map(str::to_owned)
}

fn page<C: Serialize>(rows: Vec<Observed>, cursor: &C, more: bool) -> Reply {
    debug_assert!(rows.iter().all(|row| !matches!(row.state, State::Partial(_))));
    Answer::Page(Page { rows, cursor: serde_json::to_vec(cursor).unwrap_or_default(), more }).into()
}
