//! NDJSON intake: many writes over one request, each with its own answer.
//!
//! A line is `{"op": "create" | "upsert" | "delete", "id"?, "document"?}`; its answer is a line with `line`, `status`, and
//! `id`, `version` or `code`, `detail`, `problems`, `existing`. Answers come in the order of the lines, each when its write is
//! durable; one bad line never stops the next. Lines about the same record take effect in their order. Memory is bounded:
//! a line by the largest document, lines under way by [`UNDER_WAY`]; who does not read answers is not read from.

use std::sync::atomic::Ordering;

use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tandem_core::id::{InternalId, ObjectName, ScopeId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::problem::Refusal;
use super::{ApiState, ObjectParameters, content_type, id_of, object_parameters};
use crate::internal::InternalError;
use crate::internal::embedded::writer::{Precondition, Verdict};
use crate::internal::embedded::{Attempt, Embedded, Order};

/// Lines that were read and wait for their answer to be sent.
const UNDER_WAY: usize = 1024;
/// Answers that wait for the client to read them. A client that sends everything before it reads can send about this many
/// lines, and what the sockets hold.
const UNREAD: usize = 16_384;
/// What a line may have beside its document.
const LINE_MARGIN: usize = 1024;
/// Answers that are sent together when they are at hand.
const TOGETHER: usize = 64;

pub(super) async fn batch(
    State(api): State<ApiState>,
    path: ObjectParameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (scope, object) = object_parameters(&api.store, path)?;
    content_type(&headers, &["application/x-ndjson", "application/jsonl"])?;
    let (pending, submitted) = mpsc::channel(UNDER_WAY);
    let (answers, answered) = mpsc::channel::<Bytes>(UNREAD);
    let intake = Intake { store: api.store.clone(), origin: api.origin, scope, object };
    tokio::spawn(intake.read(body.into_data_stream(), pending));
    tokio::spawn(answer(api.store, submitted, answers));
    let stream = ReceiverStream::new(answered).ready_chunks(TOGETHER).map(|lines| {
        let mut chunk = BytesMut::with_capacity(lines.iter().map(Bytes::len).sum());
        lines.iter().for_each(|line| chunk.extend_from_slice(line));
        Ok::<_, std::convert::Infallible>(chunk.freeze())
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// A line whose answer is due.
struct Pending {
    line: u64,
    id: Option<InternalId>,
    deleting: bool,
    creating: bool,
    outcome: Result<oneshot::Receiver<Result<Verdict, InternalError>>, Refusal>,
}

struct Intake {
    store: Embedded,
    origin: String,
    scope: ScopeId,
    object: ObjectName,
}

/// What was cut out of the body.
enum Piece {
    Line(Bytes),
    TooLong,
}

impl Intake {
    /// Reads lines and submits them one after another, until the body or the client's interest ends.
    async fn read(self, mut body: BodyDataStream, pending: mpsc::Sender<Pending>) {
        let longest = self.store.max_document() + LINE_MARGIN;
        let mut lines = Lines { buffer: BytesMut::new(), longest, skipping: false };
        let mut number = 0;
        loop {
            let (piece, last) = match lines.next() {
                Some(piece) => (Some(piece), false),
                None => match body.next().await {
                    Some(Ok(bytes)) => {
                        lines.buffer.extend_from_slice(&bytes);
                        continue;
                    }
                    Some(Err(_)) => {
                        let refusal = Refusal::new(
                            StatusCode::BAD_REQUEST,
                            "interrupted",
                            "the body ended before it was whole",
                        );
                        number += 1;
                        let _ = pending.send(Pending::refused(number, refusal)).await;
                        return;
                    }
                    None => (lines.rest(), true),
                },
            };
            if let Some(piece) = piece {
                number += 1;
                let blank = matches!(&piece, Piece::Line(line) if line.iter().all(u8::is_ascii_whitespace));
                if !blank {
                    self.store.counters().batch_lines.fetch_add(1, Ordering::Relaxed);
                    let due = match self.take(number, piece).await {
                        Ok(due) => due,
                        Err(refusal) => Pending::refused(number, refusal),
                    };
                    if pending.send(due).await.is_err() {
                        return;
                    }
                }
            }
            if last {
                return;
            }
        }
    }

    async fn take(&self, line: u64, piece: Piece) -> Result<Pending, Refusal> {
        let text = match piece {
            Piece::Line(text) => text,
            Piece::TooLong => return Err(Refusal::too_large(self.store.max_document())),
        };
        let rules = self.store.rules(&self.object).ok_or_else(Refusal::unknown_object)?;
        let Value::Object(mut members) = rules.parse_around(&text, LINE_MARGIN).map_err(|problems| {
            self.store.counters().rejected.fetch_add(1, Ordering::Relaxed);
            Refusal::invalid(problems)
        })?
        else {
            return Err(bad_line("a line is an object"));
        };
        let op = members.swap_remove("op");
        let id = match members.swap_remove("id") {
            None => None,
            Some(Value::String(id)) => Some(id_of(&id)?),
            Some(_) => return Err(bad_line("id is text")),
        };
        let document = members.swap_remove("document");
        if !members.is_empty() {
            return Err(bad_line("a line has the members op, id and document, and no others"));
        }
        let (precondition, id, document) = match (op.as_ref().and_then(Value::as_str), id, document) {
            (Some("create"), id, Some(document)) => (Precondition::Absent, id, Some(document)),
            (Some("upsert"), Some(id), Some(document)) => (Precondition::Any, Some(id), Some(document)),
            (Some("upsert"), None, Some(_)) => return Err(bad_line("upsert needs an id")),
            (Some("create" | "upsert"), _, None) => {
                return Err(bad_line("create and upsert need a document"));
            }
            (Some("delete"), Some(id), None) => (Precondition::Any, Some(id), None),
            (Some("delete"), None, _) => return Err(bad_line("delete needs an id")),
            (Some("delete"), _, Some(_)) => return Err(bad_line("delete has no document")),
            _ => return Err(bad_line("op is create, upsert or delete")),
        };
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string().into());
        let deleting = document.is_none();
        let creating = precondition == Precondition::Absent;
        let order = Order {
            scope: self.scope.clone(),
            object: self.object.clone(),
            id: id.clone(),
            precondition,
            origin: self.origin.clone(),
            document,
        };
        let outcome = match self.store.submit(order).await {
            Ok(Attempt::Submitted(answer)) => Ok(answer),
            Ok(Attempt::Rejected(problems)) => Err(in_document(Refusal::invalid(problems))),
            Err(error) => Err(error.into()),
        };
        Ok(Pending { line, id: Some(id), deleting, creating, outcome })
    }
}

/// Pointers of a line's document begin at the line.
fn in_document(mut refusal: Refusal) -> Refusal {
    for problem in &mut refusal.problems {
        if let Some(pointer) = &mut problem.pointer {
            pointer.insert_str(0, "/document");
        }
    }
    refusal
}

fn bad_line(detail: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad-line", detail)
}

impl Pending {
    fn refused(line: u64, refusal: Refusal) -> Self {
        Self { line, id: None, deleting: false, creating: false, outcome: Err(refusal) }
    }
}

/// Cuts a body into lines.
struct Lines {
    buffer: BytesMut,
    longest: usize,
    /// Within a line that is too long and was answered already.
    skipping: bool,
}

impl Lines {
    fn next(&mut self) -> Option<Piece> {
        loop {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                if self.skipping {
                    self.buffer.clear();
                } else if self.buffer.len() > self.longest {
                    self.buffer.clear();
                    self.skipping = true;
                    return Some(Piece::TooLong);
                }
                return None;
            };
            let mut line = self.buffer.split_to(end + 1);
            if self.skipping {
                self.skipping = false;
                continue;
            }
            line.truncate(end);
            return Some(if line.len() > self.longest { Piece::TooLong } else { Piece::Line(line.freeze()) });
        }
    }

    /// What stands behind the last line break.
    fn rest(&mut self) -> Option<Piece> {
        let rest = self.buffer.split().freeze();
        (!self.skipping && !rest.is_empty()).then_some(Piece::Line(rest))
    }
}

/// Answers lines in their order.
async fn answer(store: Embedded, mut pending: mpsc::Receiver<Pending>, answers: mpsc::Sender<Bytes>) {
    while let Some(due) = pending.recv().await {
        let Pending { line, id, deleting, creating, outcome } = due;
        let result = match outcome {
            Err(refusal) => Err(refusal),
            Ok(answer) => {
                store.answer(answer).await.map_err(Refusal::from).and_then(|verdict| match verdict {
                    Verdict::Written { version, created, .. } => Ok((version, created)),
                    Verdict::Exists(existing) => Err(Refusal::exists(existing)),
                    Verdict::Conflict(stored) => Err(conflict(stored.as_deref(), id.clone(), creating)),
                })
            }
        };
        let mut members = Map::new();
        members.insert("line".into(), json!(line));
        match result {
            Ok((version, created)) => {
                let status = match (deleting, created) {
                    (true, _) => StatusCode::NO_CONTENT,
                    (false, true) => StatusCode::CREATED,
                    (false, false) => StatusCode::OK,
                };
                members.insert("status".into(), json!(status.as_u16()));
                if let Some(id) = id {
                    members.insert("id".into(), id.as_str().into());
                }
                members.insert("version".into(), json!(version));
            }
            Err(refusal) => {
                members.insert("status".into(), json!(refusal.status.as_u16()));
                if let Some(id) = id {
                    members.insert("id".into(), id.as_str().into());
                }
                members.append(&mut refusal.members());
            }
        }
        let mut text = Value::Object(members).to_string();
        text.push('\n');
        if answers.send(text.into()).await.is_err() {
            return;
        }
    }
}

fn conflict(stored: Option<&[u8]>, id: Option<InternalId>, creating: bool) -> Refusal {
    use crate::internal::embedded::layout;
    let header = stored.and_then(|value| layout::decode_record(value).ok()).map(|(header, _)| header);
    match (header, id) {
        (Some(header), Some(id)) if creating => Refusal::taken(id, Some(header.version)),
        (Some(header), _) if header.deleted => Refusal::deleted(header.version),
        _ => Refusal::absent(),
    }
}
