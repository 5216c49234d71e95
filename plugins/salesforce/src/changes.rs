//! What changed: contacts by the time of their last modification, those in the bin and merged ones among them; and, now and
//! then, the listing of deleted contacts, which also has deletions that moved no time of modification.
//!
//! A record is stamped when a transaction touches it and becomes visible when the transaction ends. So each look begins some
//! time before the last one began, and rows that were shown already are left out. A stamp is a second: a row is only remembered
//! as shown when its second was over, since a second edit in it leaves the stamp as it was.
//!
//! Times are Salesforce's own: the `Date` of its answers says when a look began. The host's clock is used where there is none,
//! and for the very first look.
//!
//! The listing of deleted contacts goes back 15 days, and does not name who was removed from the bin for good; that somebody was
//! is told by the moment to which it reaches back. A cursor that is older is lost: everything has to be walked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_provider::classify::{http_date, unreadable};
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Listing, Observed, Operation, Proof, Reply, Request, Response, State, time,
};

use crate::listing::{VERSION, has_more, page, rows_of};
use crate::record::{gone, stamp_of, text};
use crate::refusal::errors;
use crate::{Salesforce, ids, soql};

/// Rows that are remembered so as not to be shown twice. What is forgotten is shown again, which does no harm.
const REMEMBERED: usize = 1_400;
/// The same, for deleted ones.
const REMEMBERED_GONE: usize = 400;
/// A row is remembered when its second was over for so long: the answer's date is later than the query.
const SETTLED: u64 = 15;
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
/// How far the listing of deleted records goes back, but for an hour in which a look may be late.
const REACH: u64 = 15 * DAY - 3_600;

/// Where the looks of `changes` stand. Times are seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Cursor {
    v: u8,
    /// Modification time that the next look begins with.
    since: u64,
    /// Rows shown since then: id (15 characters) to modification time.
    seen: BTreeMap<String, u64>,
    /// Deletion time that the next listing begins with.
    gone_since: u64,
    gone_seen: BTreeMap<String, u64>,
    /// When the next listing is due, in milliseconds.
    gone_at: u64,
    /// What is under way.
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Nothing: the next look begins.
    Idle,
    /// Modified contacts behind this one, of a look that began then.
    Rows { began: u64, at: u64, id: String },
    /// The listing of those deleted until then, behind this one.
    Gone { until: u64, at: u64, id: String },
}

/// What the listing named, while it is found out what became of them. The note of that request.
#[derive(Debug, Deserialize, Serialize)]
struct Listed {
    /// Where the next page begins.
    cursor: Cursor,
    /// When, and who.
    deleted: Vec<(u64, String)>,
}

/// One look.
struct Look<'a> {
    operation: &'a Operation,
    limit: u32,
    /// Salesforce's clock, in seconds.
    now: u64,
    context: &'a Context,
}

impl Salesforce {
    pub(crate) fn changes(&self, listing: &Listing, context: &Context) -> Reply {
        let now = context.now / 1_000;
        let Some(bytes) = &listing.cursor else {
            let since = now.saturating_sub(self.settings.overlap_ms.div_ceil(1_000));
            let cursor = Cursor {
                v: VERSION,
                since,
                seen: BTreeMap::new(),
                gone_since: since,
                gone_seen: BTreeMap::new(),
                gone_at: context.now.saturating_add(self.settings.deletions_every_ms),
                phase: Phase::Idle,
            };
            return page(Vec::new(), &cursor, false);
        };
        match serde_json::from_slice::<Cursor>(bytes) {
            Ok(cursor) if cursor.v == VERSION => {
                if now.saturating_sub(cursor.gone_since) > REACH {
                    return Answer::CursorLost(
                        "the last look is more than 15 days ago, and Salesforce lists no older deletions"
                            .to_owned(),
                    )
                    .into();
                }
                self.look(&cursor, listing.limit).then(Vec::new())
            }
            Ok(cursor) => Answer::CursorLost(format!("the cursor is of version {}", cursor.v)).into(),
            Err(error) => Answer::CursorLost(format!("the cursor cannot be read: {error}")).into(),
        }
    }

    /// The request of a phase. The cursor comes back with the operation.
    fn look(&self, cursor: &Cursor, limit: u32) -> Request {
        const ORDER: &str = "SystemModstamp, Id";
        match &cursor.phase {
            Phase::Idle => self.query_all_request(&soql::modified_since(cursor.since), ORDER, limit),
            Phase::Rows { at, id, .. } => {
                self.query_all_request(&soql::modified_after(*at, id), ORDER, limit)
            }
            Phase::Gone { until, .. } => self.deleted_request(minute(cursor.gone_since), *until),
        }
    }

    pub(crate) fn changes_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        note: &[u8],
        response: &Response,
        context: &Context,
    ) -> Reply {
        let Some(Ok(cursor)) = listing.cursor.as_deref().map(serde_json::from_slice::<Cursor>) else {
            return Answer::CursorLost("the cursor cannot be read".to_owned()).into();
        };
        if !response.is_success() {
            return self.no_page(operation, cursor, note, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let now = response.header("date").and_then(http_date).unwrap_or(context.now) / 1_000;
        let look = Look { operation, limit: listing.limit, now, context };
        if !note.is_empty() {
            return match serde_json::from_slice::<Listed>(note) {
                Ok(listed) => self.listed_page(listed, &body, &look),
                Err(error) => unreadable(operation, &format!("note: {error}")).into(),
            };
        }
        match cursor.phase.clone() {
            Phase::Gone { until, at, id } => self.deleted_page(cursor, &body, (until, at, &id), &look),
            _ => self.modified_page(cursor, &body, &look),
        }
    }

    /// Modified contacts.
    fn modified_page(&self, mut cursor: Cursor, body: &Node<'_>, look: &Look<'_>) -> Reply {
        let Some(rows) = rows_of(body) else {
            return unreadable(look.operation, "the answer has no records").into();
        };
        let began = match &cursor.phase {
            Phase::Rows { began, .. } => *began,
            _ => look.now,
        };
        let more = has_more(body, rows.len(), look.limit);
        let last = rows.last().and_then(|row| Some((stamp_of(row)? / 1_000, text(row, "Id")?.to_owned())));
        let shown = self.shown(&mut cursor, rows, look.now);
        if more {
            let Some((at, id)) = last else {
                return unreadable(look.operation, "the last row has no Id or SystemModstamp").into();
            };
            cursor.phase = Phase::Rows { began, at, id };
            return page(shown, &cursor, true);
        }
        let overlap = self.settings.overlap_ms.div_ceil(1_000);
        cursor.since = cursor.since.max(began.saturating_sub(overlap));
        trim(&mut cursor.seen, cursor.since, REMEMBERED);
        cursor.phase = Phase::Idle;
        if look.context.now >= cursor.gone_at {
            self.begin_listing(&mut cursor, look);
        }
        let more = cursor.phase != Phase::Idle;
        page(shown, &cursor, more)
    }

    /// The rows that were not shown before.
    fn shown(&self, cursor: &mut Cursor, rows: &[Node<'_>], now: u64) -> Vec<Observed> {
        let mut shown = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(observed) = self.observe(row) else { continue };
            if let Some(stamp) = observed.stamp.map(|stamp| stamp / 1_000) {
                let short = ids::short(&observed.id);
                if cursor.seen.get(short) == Some(&stamp) {
                    continue;
                }
                if stamp.saturating_add(SETTLED) <= now {
                    cursor.seen.insert(short.to_owned(), stamp);
                }
                if matches!(observed.state, State::Gone(_) | State::Moved(_)) {
                    cursor.gone_seen.insert(short.to_owned(), stamp);
                }
            }
            shown.push(observed);
        }
        trim(&mut cursor.seen, cursor.since, REMEMBERED);
        trim(&mut cursor.gone_seen, minute(cursor.gone_since), REMEMBERED_GONE);
        shown
    }

    /// The next window of the listing of deleted contacts: whole minutes, more than one of them, a day at the most.
    fn begin_listing(&self, cursor: &mut Cursor, look: &Look<'_>) {
        let start = minute(cursor.gone_since);
        let until = minute(look.now).min(start.saturating_add(DAY));
        if until >= start.saturating_add(2 * MINUTE) {
            cursor.phase = Phase::Gone { until, at: 0, id: String::new() };
        } else {
            cursor.phase = Phase::Idle;
            cursor.gone_at = look.context.now.saturating_add(self.settings.deletions_every_ms);
        }
    }

    /// Deleted contacts. Salesforce answers with all of a window at once; each page shows the next of them.
    fn deleted_page(
        &self,
        mut cursor: Cursor,
        body: &Node<'_>,
        (until, at, id): (u64, u64, &str),
        look: &Look<'_>,
    ) -> Reply {
        let Some(rows) = body.get("deletedRecords").and_then(Node::as_list) else {
            return unreadable(look.operation, "the answer has no deletedRecords").into();
        };
        let moment = |name: &str| body.get(name)?.as_str().and_then(time::stamp).map(|at| at / 1_000);
        if moment("earliestDateAvailable").is_some_and(|earliest| earliest > cursor.gone_since + MINUTE) {
            return Answer::CursorLost(
                "Salesforce's log of deletions does not reach back to the last look".to_owned(),
            )
            .into();
        }
        let mut deleted: Vec<(u64, String)> = rows
            .iter()
            .filter_map(|row| {
                let at = time::stamp(text(row, "deletedDate")?)? / 1_000;
                Some((at, ids::long(text(row, "id").or_else(|| text(row, "Id"))?)?))
            })
            .filter(|(when, which)| (*when, which.as_str()) > (at, id))
            .collect();
        deleted.sort_unstable();
        let limit = usize::try_from(look.limit.max(1)).unwrap_or(usize::MAX);
        let rest = deleted.len() > limit;
        deleted.truncate(limit);
        let last = deleted.last().cloned();
        deleted.retain(|(when, which)| {
            let short = ids::short(which);
            let known = cursor.gone_seen.get(short).is_some_and(|seen| seen >= when);
            if !known {
                cursor.gone_seen.insert(short.to_owned(), *when);
            }
            !known
        });
        match last.filter(|_| rest) {
            Some((at, id)) => cursor.phase = Phase::Gone { until, at, id },
            None => {
                // Transactions that began before that moment have all ended.
                let covered = moment("latestDateCovered").unwrap_or(until).min(until);
                let advanced = covered > cursor.gone_since;
                cursor.gone_since = cursor.gone_since.max(covered);
                cursor.gone_at = look.context.now.saturating_add(self.settings.deletions_every_ms);
                cursor.phase = Phase::Idle;
                if advanced && until < minute(look.now) {
                    self.begin_listing(&mut cursor, look);
                }
            }
        }
        trim(&mut cursor.gone_seen, minute(cursor.gone_since), REMEMBERED_GONE);
        if deleted.is_empty() {
            let more = cursor.phase != Phase::Idle;
            return page(Vec::new(), &cursor, more);
        }
        let ids: Vec<String> = deleted.iter().map(|(_, id)| soql::literal(id)).collect();
        let condition = format!("Id IN ({})", ids.join(","));
        self.query_all_request(&condition, "Id", look.limit).then_note(&Listed { cursor, deleted })
    }

    /// What became of those that the listing named: who was merged is among them and lives on, who was restored is there, and who is
    /// not shown any more was purged.
    fn listed_page(&self, listed: Listed, body: &Node<'_>, look: &Look<'_>) -> Reply {
        let Some(rows) = rows_of(body) else {
            return unreadable(look.operation, "the answer has no records").into();
        };
        let mut shown: Vec<Observed> = rows.iter().filter_map(|row| self.observe(row)).collect();
        for (when, id) in listed.deleted {
            if !shown.iter().any(|row| ids::same(&row.id, &id)) {
                let mut observed = gone(&id, Proof::Confirmed);
                observed.stamp = Some(when * 1_000);
                shown.push(observed);
            }
        }
        let more = listed.cursor.phase != Phase::Idle;
        page(shown, &listed.cursor, more)
    }

    /// A page that was refused.
    fn no_page(
        &self,
        operation: &Operation,
        mut cursor: Cursor,
        note: &[u8],
        response: &Response,
        context: &Context,
    ) -> Reply {
        let code = errors(response).into_iter().next().map(|error| error.code).unwrap_or_default();
        let Phase::Gone { until, .. } = cursor.phase else {
            return self.refuse(operation, response, context).into();
        };
        if !note.is_empty() {
            return self.refuse(operation, response, context).into();
        }
        match code.as_str() {
            // The bin was purged, or the organisation is not as old as that.
            "INVALID_REPLICATION_DATE" => Answer::CursorLost(
                "Salesforce does not list the deletions since the last look any more".to_owned(),
            )
            .into(),
            "EXCEEDED_ID_LIMIT" => {
                let start = minute(cursor.gone_since);
                let half = minute(start + until.saturating_sub(start) / 2);
                if half < start + 2 * MINUTE || half >= until {
                    return Answer::CursorLost(
                        "more contacts were deleted in two minutes than Salesforce lists".to_owned(),
                    )
                    .into();
                }
                cursor.phase = Phase::Gone { until: half, at: 0, id: String::new() };
                page(Vec::new(), &cursor, true)
            }
            _ => self.refuse(operation, response, context).into(),
        }
    }
}

/// The beginning of a minute.
fn minute(seconds: u64) -> u64 {
    seconds - seconds % MINUTE
}

/// Forgets rows that are older than `since`, and the oldest when there are too many.
fn trim(seen: &mut BTreeMap<String, u64>, since: u64, most: usize) {
    seen.retain(|_, stamp| *stamp >= since);
    if seen.len() > most {
        let mut stamps: Vec<u64> = seen.values().copied().collect();
        stamps.sort_unstable_by(|left, right| right.cmp(left));
        let oldest = stamps.get(most).copied().unwrap_or_default();
        seen.retain(|_, stamp| *stamp > oldest);
    }
}
