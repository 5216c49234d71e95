//! A target of webhooks that remembers what it was sent and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    pub(crate) events: Vec<Value>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: Vec<Delivery>,
    answers: VecDeque<(u16, Duration)>,
    at_once: usize,
    most_at_once: usize,
    hold: Duration,
}

/// Listens until the test's runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let receiver = Self { port, state: state.clone() };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = state.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(state.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        receiver
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks/hubspot?source=test", self.port)
    }

    /// The next answers, in order; afterwards 200 at once.
    pub(crate) fn answers(&self, answers: &[(u16, Duration)]) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    /// Every answer takes so long.
    pub(crate) fn hold(&self, hold: Duration) {
        self.state.lock().unwrap().hold = hold;
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().deliveries.clone()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.deliveries().into_iter().flat_map(|delivery| delivery.events).collect()
    }

    /// Events of one type.
    pub(crate) fn of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["subscriptionType"] == kind).collect()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.state.lock().unwrap().most_at_once
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let raw = body.collect().await?.to_bytes();
    // HubSpot posts lists, Pipedrive one event.
    let events = match serde_json::from_slice(&raw).unwrap() {
        Value::Array(events) => events,
        event => vec![event],
    };
    let (status, delay) = {
        let mut state = state.lock().unwrap();
        state.deliveries.push(Delivery { headers: parts.headers, raw, events });
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        let hold = state.hold;
        state.answers.pop_front().unwrap_or((200, hold))
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    state.lock().unwrap().at_once -= 1;
    let mut response = http::Response::new(Full::default());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}
