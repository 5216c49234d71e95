//! What the daemon was asked to change and acknowledged, read from the bytes on its sockets.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use tandem_e2e::Error;
use tandem_e2e::power::Recording;
use tandem_e2e::wire::{Answer, Exchange, exchanges};

/// What every marker of a change begins with; nine digits follow.
const MARKER: &str = "tkn";

/// A marker that is in no other change.
pub(crate) fn marker(number: u64) -> String {
    format!("{MARKER}{number:09}")
}

/// The number of a marker.
pub(crate) fn number(marker: &str) -> Option<u64> {
    marker.strip_prefix(MARKER).filter(|digits| digits.len() == 9).and_then(|digits| digits.parse().ok())
}

/// Every marker in some bytes, by its number.
pub(crate) fn markers(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.windows(MARKER.len() + 9).filter_map(|window| {
        let text = window.starts_with(MARKER.as_bytes()).then(|| std::str::from_utf8(window).ok())??;
        number(text)
    })
}

/// A write to a record of System A.
pub(crate) struct Write {
    pub(crate) scope: String,
    /// None: it was to be given, and the answer with it never left.
    pub(crate) id: Option<String>,
    /// The marker in the document. None: the record is removed.
    pub(crate) marker: Option<u64>,
    /// Position of the request's first byte.
    pub(crate) asked: usize,
    /// Position of the first byte of what acknowledges it, and the version that was given.
    pub(crate) acked: Option<(usize, u64)>,
}

/// One event of a webhook.
pub(crate) struct Told {
    pub(crate) event: u64,
    /// The account and its record.
    pub(crate) record: (u64, u64),
    /// The marker in the job title, if that is what it tells of.
    pub(crate) marker: Option<u64>,
}

/// A webhook.
pub(crate) struct Delivery {
    pub(crate) told: Vec<Told>,
    /// Position of the first byte of the answer.
    pub(crate) acked: usize,
}

/// Everything that was asked, in order.
pub(crate) struct Changes {
    pub(crate) writes: Vec<Write>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// How many were acknowledged.
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) removals: u64,
    pub(crate) deliveries: u64,
    /// Markers in deliveries.
    pub(crate) edits: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes and {} removals in system a, {} webhooks with {} edits",
            self.writes, self.removals, self.deliveries, self.edits
        )
    }
}

impl Changes {
    /// # Errors
    /// A request of the test was refused, or cannot be read.
    pub(crate) fn read(recording: &Recording) -> Result<Self, Error> {
        let mut changes = Self { writes: Vec::new(), deliveries: Vec::new() };
        for exchange in exchanges(recording) {
            changes.add(&exchange).map_err(|error| {
                let status = exchange.answer.as_ref().map(|answer| answer.status);
                format!("{} {} ({status:?}): {error}", exchange.method, exchange.path)
            })?;
        }
        Ok(changes)
    }

    fn add(&mut self, exchange: &Exchange) -> Result<(), Error> {
        let path = exchange.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (exchange.method.as_str(), parts.as_slice()) {
            ("POST", ["hooks", ..]) => self.add_delivery(exchange),
            ("POST", ["v1", "scopes", scope, _, "batch"]) => self.add_batch(exchange, scope),
            ("POST", ["v1", "scopes", scope, _]) => self.add_write(exchange, scope, None),
            ("PATCH" | "PUT" | "DELETE", ["v1", "scopes", scope, _, id]) => {
                self.add_write(exchange, scope, Some(id))
            }
            _ => Ok(()),
        }
    }

    fn add_delivery(&mut self, exchange: &Exchange) -> Result<(), Error> {
        let Some(answer) = exchange.answer.as_ref().filter(|answer| (200..300).contains(&answer.status))
        else {
            return Ok(());
        };
        let events: Vec<Value> = serde_json::from_slice(&exchange.body)?;
        let told = events
            .iter()
            .map(|event| {
                let number_of = |name: &str| event.get(name).and_then(Value::as_u64).ok_or("no number");
                let text = |name: &str| event.get(name).and_then(Value::as_str);
                let title = text("propertyValue").filter(|_| text("propertyName") == Some("jobtitle"));
                Ok(Told {
                    event: number_of("eventId")?,
                    record: (number_of("portalId")?, number_of("objectId")?),
                    marker: title.and_then(number),
                })
            })
            .collect::<Result<_, Error>>()?;
        self.deliveries.push(Delivery { told, acked: answer.at });
        Ok(())
    }

    fn add_write(&mut self, exchange: &Exchange, scope: &str, id: Option<&str>) -> Result<(), Error> {
        let is_removal = exchange.method == "DELETE";
        let marker =
            if is_removal { None } else { Some(marker_of(&serde_json::from_slice(&exchange.body)?)?) };
        let mut id = id.map(ToOwned::to_owned);
        let mut acked = None;
        if let Some(answer) = &exchange.answer {
            accepted(u64::from(answer.status))?;
            acked = Some((answer.at, version_of(answer)?));
            if id.is_none() {
                let said: Value = serde_json::from_slice(&answer.body)?;
                id = said.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
            }
        }
        self.writes.push(Write { scope: scope.to_owned(), id, marker, asked: exchange.asked, acked });
        Ok(())
    }

    fn add_batch(&mut self, exchange: &Exchange, scope: &str) -> Result<(), Error> {
        let mut answers: BTreeMap<u64, (usize, Value)> = BTreeMap::new();
        for (at, line) in exchange.answer.iter().flat_map(Answer::lines) {
            let line: Value = serde_json::from_slice(line)?;
            answers.insert(line.get("line").and_then(Value::as_u64).ok_or("no line")?, (at, line));
        }
        for (number, line) in (1..).zip(exchange.body.split(|byte| *byte == b'\n')) {
            if line.is_empty() {
                continue;
            }
            let line: Value = serde_json::from_slice(line)?;
            let marker = line.get("document").map(marker_of).transpose()?;
            let mut id = line.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
            let mut acked = None;
            if let Some((at, answer)) = answers.get(&number) {
                let member = |name: &str| answer.get(name).and_then(Value::as_u64);
                accepted(member("status").unwrap_or(0)).map_err(|error| format!("{error}: {answer}"))?;
                acked = Some((*at, member("version").ok_or("no version")?));
                id = answer.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
            }
            self.writes.push(Write { scope: scope.to_owned(), id, marker, asked: exchange.asked, acked });
        }
        Ok(())
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |removal: bool| {
            let acked = self.writes.iter().filter(|write| write.acked.is_some());
            acked.filter(|write| write.marker.is_none() == removal).count() as u64
        };
        let told = self.deliveries.iter().flat_map(|delivery| &delivery.told);
        Counts {
            writes: of(false),
            removals: of(true),
            deliveries: self.deliveries.len() as u64,
            edits: told.filter(|told| told.marker.is_some()).count() as u64,
        }
    }

    /// The position right behind the acknowledgement of the last edit that a webhook told of. Its effect is not there yet.
    pub(crate) fn behind_the_last_edit(&self) -> Option<usize> {
        let edits = self.deliveries.iter().filter(|one| one.told.iter().any(|told| told.marker.is_some()));
        edits.map(|delivery| delivery.acked + 1).max()
    }

    /// The positions of all acknowledgements, in order.
    pub(crate) fn acknowledgements(&self) -> Vec<usize> {
        let writes = self.writes.iter().filter_map(|write| write.acked).map(|(at, _)| at);
        let mut all: Vec<usize> = writes.chain(self.deliveries.iter().map(|one| one.acked)).collect();
        all.sort_unstable();
        all
    }
}

/// Nothing that the test asks may be refused: what became of it would not be known.
fn accepted(status: u64) -> Result<(), Error> {
    if (200..300).contains(&status) { Ok(()) } else { Err("was not accepted".into()) }
}

fn marker_of(document: &Value) -> Result<u64, Error> {
    let notes = document.get("notes").and_then(Value::as_str).unwrap_or_default();
    notes.split(' ').next().and_then(number).ok_or_else(|| "a document without a marker".into())
}

fn version_of(answer: &Answer) -> Result<u64, Error> {
    let tag = answer.headers.get("etag").ok_or("no version")?;
    Ok(tag.trim_matches('"').parse()?)
}
