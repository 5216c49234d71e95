//! A server on a free port, and a client that can send what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::internal::embedded::Embedded;
use crate::internal::embedded::api::{ApiState, router};

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A served store. The folder goes with it.
pub(super) struct Api {
    pub(super) store: Embedded,
    pub(super) address: SocketAddr,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }

    /// Status, code and first pointer of a refusal.
    pub(super) fn refusal(&self) -> (u16, String, Option<String>) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let body = self.json();
        assert_eq!(body["status"], self.status);
        assert!(body["title"].is_string() && body["detail"].is_string());
        let pointer = body["problems"][0]["pointer"].as_str().map(str::to_owned);
        (self.status, body["code"].as_str().expect("a code").to_owned(), pointer)
    }
}

impl Api {
    pub(super) async fn start() -> Self {
        Self::start_with(super::options(), |state| state).await
    }

    pub(super) async fn start_with(
        options: crate::internal::embedded::EmbeddedOptions,
        change: impl FnOnce(ApiState) -> ApiState,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(folder.path(), options).expect("the store opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = router(change(ApiState::new(store.clone())));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        Self { store, address, server, _folder: folder }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut connection = self.open(method, path, headers, Some(body.len())).await;
        connection.write(body).await;
        connection.answer().await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    /// Sends a JSON body.
    pub(super) async fn put(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body.to_string().as_bytes()).await
    }

    /// Begins a request; its body is as long as said, or comes in chunks.
    pub(super) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: Option<usize>,
    ) -> Connection {
        let (read, mut write) = TcpStream::connect(self.address).await.expect("it listens").into_split();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
            None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
        }
        write.write_all(head.as_bytes()).await.expect("it reads");
        Connection { read: BufReader::new(read), write }
    }
}

/// An open request.
pub(super) struct Connection {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Sends raw bytes. The server may have answered and hung up already.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
    }

    /// Sends one chunk; an empty one ends the body.
    pub(super) async fn chunk(&mut self, bytes: &[u8]) {
        self.write(format!("{:x}\r\n", bytes.len()).as_bytes()).await;
        self.write(bytes).await;
        self.write(b"\r\n").await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.read.read_line(&mut line))
            .await
            .expect("in time")
            .expect("a line");
        line.trim_end().to_owned()
    }

    /// Status and headers.
    pub(super) async fn head(&mut self) -> Answer {
        let status = self.line().await;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Answer { status, headers, body: Vec::new() }
    }

    /// The next chunk of a chunked body; None at its end.
    pub(super) async fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await, 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        tokio::time::timeout(PATIENCE, self.read.read_exact(&mut chunk))
            .await
            .expect("in time")
            .expect("a chunk");
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Everything.
    pub(super) async fn answer(mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.next_chunk().await {
                answer.body.extend(chunk);
            }
        } else {
            let reading = self.read.read_to_end(&mut answer.body);
            // A reset after the answer is what a refused upload looks like.
            let _ = tokio::time::timeout(PATIENCE, reading).await.expect("in time");
        }
        answer
    }
}
