//! The change feed of a scope: pages of JSON, or server-sent events.
//!
//! A cursor is opaque. Without one the feed begins with a walk over all records of the scope, deleted ones too, and goes on
//! with what changes. A cursor that is older than what is kept gets 410 `cursor-too-old`: start again without one. The `id`
//! of an event is a cursor, so `Last-Event-ID` resumes where the connection broke.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_core::id::ScopeId;
use tokio::sync::{Notify, watch};

use super::problem::Refusal;
use super::{
    ApiState, PageQuery, bad_cursor, bad_path, cursor_bytes, cursor_text, limit_of, query, scope_of,
};
use crate::internal::embedded::Embedded;
use crate::internal::embedded::feed::{Cursor, Page, PageError};
use crate::internal::embedded::layout::{self, Entry};

/// Changes that an event stream reads at a time.
const STREAM_PAGE: usize = 256;

/// The scope that a path names.
#[derive(Deserialize)]
pub(super) struct ScopePath {
    scope: String,
}

pub(super) async fn changes(
    State(api): State<ApiState>,
    path: Result<Path<ScopePath>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(path) = path.map_err(|_| bad_path())?;
    let scope = scope_of(&path.scope)?;
    let asked: PageQuery = query(&uri)?;
    let streamed = accepts_events(&headers);
    let resumed = headers.get("last-event-id").filter(|_| streamed);
    let cursor = match (resumed, asked.cursor) {
        (Some(id), _) => Some(cursor_of(id.to_str().map_err(|_| bad_cursor())?)?),
        (None, Some(cursor)) => Some(cursor_of(&cursor)?),
        (None, None) => None,
    };
    let limit = if streamed { STREAM_PAGE } else { limit_of(asked.limit)? };
    let page = page(&api.store, &scope, cursor, limit).await?;
    if streamed {
        api.store.counters().streams.fetch_add(1, Ordering::Relaxed);
        let notify = api.store.inner.shared.tail.changed(&scope);
        let draining = api.store.draining();
        let follower = Follower {
            store: api.store,
            scope,
            next: None,
            waiting: VecDeque::new(),
            notify,
            draining,
            ended: false,
        };
        let stream = follower.with(page).stream(api.heartbeat);
        let mut response = Sse::new(stream).into_response();
        // Proxies that gather answers would hold events back.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        return Ok(response);
    }
    let changes: Vec<Value> = page.entries.iter().map(|entry| change(entry)).collect();
    let cursor = cursor_text(&page.cursor.encode());
    Ok(super::json(json!({ "changes": changes, "cursor": cursor, "more": page.more })))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            range
                .split(';')
                .next()
                .is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
        })
}

fn cursor_of(text: &str) -> Result<Cursor, Refusal> {
    Cursor::decode(&cursor_bytes(text)?).ok_or_else(bad_cursor)
}

fn change(entry: &Entry) -> Value {
    json!({
        "object": entry.object.as_str(),
        "id": entry.id.as_str(),
        "version": entry.version,
        "at": entry.at,
        "origin": entry.origin,
        "deleted": entry.deleted,
    })
}

async fn page(
    store: &Embedded,
    scope: &ScopeId,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<Page, Refusal> {
    store.page(Some(scope), cursor, limit).await.map_err(|error| match error {
        PageError::TooOld => Refusal::new(
            StatusCode::GONE,
            "cursor-too-old",
            "what changed after the cursor is no longer kept in full; start again without one",
        ),
        PageError::Failed(error) => error.into(),
    })
}

/// One open event stream.
struct Follower {
    store: Embedded,
    scope: ScopeId,
    /// Where the next page starts.
    next: Option<Cursor>,
    /// Changes that were read and not yet sent, with the cursor behind each.
    waiting: VecDeque<(Cursor, Arc<Entry>)>,
    notify: Arc<Notify>,
    draining: watch::Receiver<bool>,
    /// The cursor fell behind what is kept, or the store failed: the client has to come back.
    ended: bool,
}

/// What a follower does next.
enum Step {
    Send(Event),
    End,
}

impl Follower {
    /// Takes a page in.
    fn with(mut self, page: Page) -> Self {
        self.take(page);
        self
    }

    fn take(&mut self, page: Page) {
        for entry in page.entries {
            let behind = match &page.cursor {
                Cursor::Feed { .. } if self.walking().is_none() => Cursor::Feed { after: entry.version },
                // On a walk the place is the record; its last page still belongs to the walk.
                Cursor::Feed { after } => walked(*after, &entry),
                Cursor::Walk { until, .. } => walked(*until, &entry),
            };
            self.waiting.push_back((behind, entry));
        }
        self.next = Some(page.cursor);
    }

    /// Where the feed stood when the walk began that this follower is on.
    fn walking(&self) -> Option<u64> {
        match &self.next {
            None => Some(0),
            Some(Cursor::Walk { until, .. }) => Some(*until),
            Some(Cursor::Feed { .. }) => None,
        }
    }

    fn stream(self, heartbeat: Duration) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, move |mut follower| async move {
            match follower.step(heartbeat).await {
                Step::Send(event) => Some((Ok(event), follower)),
                Step::End => None,
            }
        })
    }

    async fn step(&mut self, heartbeat: Duration) -> Step {
        loop {
            if let Some((behind, entry)) = self.waiting.pop_front() {
                let event = Event::default()
                    .id(cursor_text(&behind.encode()))
                    .event("change")
                    .data(change(&entry).to_string());
                return Step::Send(event);
            }
            if self.ended || *self.draining.borrow() {
                return Step::End;
            }
            let notify = Arc::clone(&self.notify);
            let changed = notify.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change falls in between.
            changed.as_mut().enable();
            match page(&self.store, &self.scope, self.next.clone(), STREAM_PAGE).await {
                Ok(page) => {
                    let idle = page.entries.is_empty() && !page.more;
                    self.take(page);
                    if !idle {
                        continue;
                    }
                }
                Err(refusal) => {
                    self.ended = true;
                    let code = json!({ "code": refusal.code, "detail": refusal.detail }).to_string();
                    return Step::Send(Event::default().event("end").data(code));
                }
            }
            tokio::select! {
                () = &mut changed => {}
                _ = self.draining.changed() => {}
                () = tokio::time::sleep(heartbeat) => return Step::Send(Event::default().comment("")),
            }
        }
    }
}

fn walked(until: u64, entry: &Entry) -> Cursor {
    let after = layout::record_key(entry.scope.as_str(), entry.object.as_str(), entry.id.as_str());
    Cursor::Walk { until, after }
}
