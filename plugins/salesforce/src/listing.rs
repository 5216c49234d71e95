//! All contacts, by ids: each page begins behind the last id of the one before. Salesforce's own cursors expire after some days;
//! an id does not.

use serde::{Deserialize, Serialize};
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Listing, Observed, Operation, Page, Reply, Response};

use crate::record::text;
use crate::requests::QUERY_PAGE;
use crate::{Salesforce, soql};

/// Version of the cursors.
pub(crate) const VERSION: u8 = 1;

/// Where a walk stands.
#[derive(Debug, Deserialize, Serialize)]
struct Walk {
    v: u8,
    /// The last id that was shown.
    after: Option<String>,
    done: bool,
}

/// The rows of a query's answer.
pub(crate) fn rows_of<'n, 'a>(body: &'n Node<'a>) -> Option<&'n [Node<'a>]> {
    body.get("records")?.as_list()
}

/// Whether there are more rows than an answer shows. Wide rows may come in smaller batches than were asked for.
pub(crate) fn has_more(body: &Node<'_>, rows: usize, limit: u32) -> bool {
    let limit = limit.clamp(1, QUERY_PAGE);
    rows > 0
        && (body.get("done") == Some(&Node::Bool(false))
            || u64::try_from(rows).is_ok_and(|rows| rows >= u64::from(limit)))
}

/// A page, with its cursor as JSON.
pub(crate) fn page<C: Serialize>(rows: Vec<Observed>, cursor: &C, more: bool) -> Reply {
    Answer::Page(Page { rows, cursor: serde_json::to_vec(cursor).unwrap_or_default(), more }).into()
}

impl Salesforce {
    pub(crate) fn walk(&self, listing: &Listing) -> Reply {
        let walk = match read(listing) {
            Ok(walk) => walk,
            Err(lost) => return lost.into(),
        };
        if walk.done {
            return page(Vec::new(), &walk, false);
        }
        let condition = walk.after.map_or_else(String::new, |id| format!("Id > {}", soql::literal(&id)));
        self.query_request(&condition, "Id", listing.limit).then(Vec::new())
    }

    pub(crate) fn walk_page(
        &self,
        operation: &Operation,
        listing: &Listing,
        response: &Response,
        context: &Context,
    ) -> Reply {
        let walk = match read(listing) {
            Ok(walk) => walk,
            Err(lost) => return lost.into(),
        };
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = rows_of(&body) else {
            return unreadable(operation, "the answer has no records").into();
        };
        let more = has_more(&body, rows.len(), listing.limit);
        let last = rows.last().and_then(|row| text(row, "Id")).map(str::to_owned);
        if more && last.is_none() {
            return unreadable(operation, "the last row has no Id").into();
        }
        let shown = rows.iter().filter_map(|row| self.observe(row)).collect();
        page(shown, &Walk { v: VERSION, after: last.or(walk.after), done: !more }, more)
    }
}

fn read(listing: &Listing) -> Result<Walk, Answer> {
    match listing.cursor.as_deref().map(serde_json::from_slice::<Walk>) {
        None => Ok(Walk { v: VERSION, after: None, done: false }),
        Some(Ok(walk)) if walk.v == VERSION => Ok(walk),
        Some(Ok(walk)) => Err(Answer::CursorLost(format!("the cursor is of version {}", walk.v))),
        Some(Err(error)) => Err(Answer::CursorLost(format!("the cursor cannot be read: {error}"))),
    }
}
