//! A client of System A's public API.

use reqwest::StatusCode;
use serde_json::Value;

use crate::Error;

/// One scope of System A.
#[derive(Clone)]
pub struct SystemA {
    client: reqwest::Client,
    base: String,
    token: String,
    scope: String,
}

/// A record as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// The canonical document.
    pub document: Value,
}

/// An answer to a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The status.
    pub status: StatusCode,
    /// The id, where the write was taken.
    pub id: Option<String>,
    /// The version, where the write was taken.
    pub version: Option<u64>,
    /// The body, a problem document where it was refused.
    pub body: Value,
}

impl SystemA {
    /// A client; `base` is the daemon's address.
    #[must_use]
    pub fn new(client: reqwest::Client, base: &str, token: &str, scope: &str) -> Self {
        Self { client, base: base.to_owned(), token: token.to_owned(), scope: scope.to_owned() }
    }

    /// The same scope at another address: the daemon was started again.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/v1/scopes/{}/contact{rest}", self.base, self.scope)
    }

    async fn written(&self, request: reqwest::RequestBuilder) -> Result<Written, Error> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let version = answer
            .headers()
            .get("etag")
            .and_then(|tag| tag.to_str().ok())
            .and_then(|tag| tag.trim_matches('"').parse().ok());
        let bytes = answer.bytes().await?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let id = body.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
        Ok(Written { status, id, version, body })
    }

    /// Creates a record.
    ///
    /// # Errors
    /// No answer.
    pub async fn create(&self, document: &Value) -> Result<Written, Error> {
        self.written(self.client.post(self.url("")).json(document)).await
    }

    /// Changes some members of a record.
    ///
    /// # Errors
    /// No answer.
    pub async fn patch(&self, id: &str, patch: &Value) -> Result<Written, Error> {
        self.written(self.client.patch(self.url(&format!("/{id}"))).json(patch)).await
    }

    /// Changes some members of a record that has this version still; 412 where it has another.
    ///
    /// # Errors
    /// No answer.
    pub async fn patch_if(&self, id: &str, version: u64, patch: &Value) -> Result<Written, Error> {
        let request =
            self.client.patch(self.url(&format!("/{id}"))).header("if-match", format!("\"{version}\""));
        self.written(request.json(patch)).await
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// No answer.
    pub async fn delete(&self, id: &str) -> Result<Written, Error> {
        self.written(self.client.delete(self.url(&format!("/{id}")))).await
    }

    /// A record. None: it is not there.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn read(&self, id: &str) -> Result<Option<Value>, Error> {
        let answer = self.client.get(self.url(&format!("/{id}"))).bearer_auth(&self.token).send().await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.json().await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(format!("reading {id}: {status}: {}", answer.text().await?).into()),
        }
    }

    /// All records.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self.client.get(self.url("")).query(&[("limit", "1000")]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let answer = request.bearer_auth(&self.token).send().await?.error_for_status()?;
            let page: Value = answer.json().await?;
            for row in page.get("records").and_then(Value::as_array).into_iter().flatten() {
                all.push(Listed {
                    id: row.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
                    version: row.get("version").and_then(Value::as_u64).unwrap_or(0),
                    document: row.get("document").cloned().unwrap_or(Value::Null),
                });
            }
            cursor = page.get("cursor").and_then(Value::as_str).map(ToOwned::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Sends lines to the NDJSON intake; gives its answers, line by line.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn batch(&self, lines: &[Value]) -> Result<Vec<Value>, Error> {
        let mut body = String::new();
        for line in lines {
            body.push_str(&line.to_string());
            body.push('\n');
        }
        let answer = self
            .client
            .post(self.url("/batch"))
            .bearer_auth(&self.token)
            .header("content-type", "application/x-ndjson")
            .body(body)
            .send()
            .await?
            .error_for_status()?;
        let text = answer.text().await?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
