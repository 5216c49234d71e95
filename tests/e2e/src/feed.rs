//! System A's change feed as any program may follow it: who changed which record, and when.
//!
//! The feed may leave out a change that another one of the same record follows at once. Numbers of changes have no gaps over all
//! scopes, so that in a house with one scope what was left out is known: see [`Feed::left_out`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::house::{ADMIN, House};
use crate::{Error, until};

/// A change of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// The record.
    pub id: String,
    /// The change's number, and the record's version after it.
    pub version: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Who made it: `tandem:CONNECTION` for the daemon's own work.
    pub origin: String,
}

impl Change {
    /// Whether the daemon made it in its work for a connection.
    #[must_use]
    pub fn is_tandems(&self) -> bool {
        self.origin.starts_with("tandem:")
    }
}

/// A follower of one scope's feed. It ends when it is dropped.
pub struct Feed {
    seen: Arc<Mutex<Vec<Change>>>,
    task: tokio::task::JoinHandle<()>,
    /// The number of the last change before the first that is seen.
    pub from: u64,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Follows a scope from now on.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn follow(house: &House, scope: &str) -> Result<Self, Error> {
        let url = format!("{}/v1/scopes/{scope}/changes", house.base);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut cursor = String::new();
        let mut from = 0;
        loop {
            let mut request = client.get(&url).query(&[("limit", "1000")]).bearer_auth(ADMIN);
            if !cursor.is_empty() {
                request = request.query(&[("cursor", &cursor)]);
            }
            let page: Value = request.send().await?.error_for_status()?.json().await?;
            cursor = page.get("cursor").and_then(Value::as_str).ok_or("no cursor")?.to_owned();
            for change in page.get("changes").and_then(Value::as_array).into_iter().flatten() {
                from = from.max(change.get("version").and_then(Value::as_u64).unwrap_or(0));
            }
            if page.get("more") != Some(&Value::Bool(true)) {
                break;
            }
        }
        let stream = client
            .get(&url)
            .query(&[("cursor", &cursor)])
            .header("accept", "text/event-stream")
            .bearer_auth(ADMIN)
            .send()
            .await?
            .error_for_status()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(read(stream, seen.clone()));
        Ok(Self { seen, task, from })
    }

    /// All changes that were seen, in their order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a change was seen: all before it were, too.
    ///
    /// # Errors
    /// It is not seen in time.
    pub async fn reaches(&self, version: u64, deadline: Duration) -> Result<(), Error> {
        until("the change feed is read", deadline, async || {
            let last = self.changes().last().map_or(self.from, |change| change.version);
            Ok(if last >= version { Ok(()) } else { Err(format!("{last} of {version}")) })
        })
        .await
    }

    /// Changes that were made and are not in [`Feed::changes`], since a later one of the same record stands for them.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        let seen = self.changes();
        let last = seen.last().map_or(self.from, |change| change.version);
        (last - self.from).saturating_sub(seen.len() as u64)
    }
}

async fn read(mut stream: reqwest::Response, seen: Arc<Mutex<Vec<Change>>>) {
    let mut text = Vec::new();
    while let Ok(Some(piece)) = stream.chunk().await {
        text.extend_from_slice(&piece);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let data = line.strip_prefix(b"data:").unwrap_or_default();
            if let Ok(change) = serde_json::from_slice(data) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(change);
            }
        }
    }
}
