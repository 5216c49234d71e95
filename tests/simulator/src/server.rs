//! The listeners: the API in plain HTTP, the API over TLS with a test authority, the control API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::call::{Call, Outcome};
use crate::clock;
use crate::hubspot;
use crate::pipedrive;
use crate::rest;
use crate::salesforce;
use crate::world::World;

/// The largest body that is read.
const BODY: usize = 16 << 20;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed by order")]
struct Closed;

/// Accepts connections until the world stops.
pub(crate) async fn accept(world: Arc<World>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut stop = world.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: give those in use time to close.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let world = world.clone();
        match &tls {
            None => {
                tokio::spawn(connection(world, stream));
            }
            Some(tls) => {
                let tls = tls.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(world, stream).await;
                    }
                });
            }
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(world: Arc<World>, stream: S) {
    let mut stop = world.stop.subscribe();
    let service = service_fn(|request| answer(world.clone(), request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error here is a client that went away, or a close by order.
        _ = connection => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn answer(
    world: Arc<World>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY).collect().await.map_err(|_| Closed)?.to_bytes();
    let call = Call::new(world.clone(), parts, body);
    let outcome = if pipedrive::owns(&call.path) {
        Box::pin(pipedrive::serve(call)).await
    } else if hubspot::owns(&call.path) {
        Box::pin(hubspot::serve(call)).await
    } else if rest::owns(&call.path) {
        rest::serve(&call)
    } else if salesforce::owns(&call.path) {
        Box::pin(salesforce::serve(call)).await
    } else {
        call.violation(None, "unknown path");
        let mut response = http::Response::new(Full::default());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        return Ok(response);
    };
    match outcome {
        Outcome::Drop => Err(Closed),
        Outcome::Answer(answer) => {
            let mut response = http::Response::new(Full::new(Bytes::from(answer.body)));
            *response.status_mut() = answer.status;
            response.headers_mut().extend(answer.headers);
            // A vendor's servers have the time of its records.
            let date = clock::http_date(world.clock.now());
            if let Some(date) = date.and_then(|date| http::HeaderValue::from_str(&date).ok()) {
                response.headers_mut().insert(http::header::DATE, date);
            }
            Ok(response)
        }
    }
}

/// Serves the control API until the world stops.
pub(crate) async fn control(world: Arc<World>, listener: TcpListener) {
    let router = crate::control::server::router(world.clone());
    let mut stop = world.stop.subscribe();
    let ended = async move {
        // An error means that the world is gone.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    // It only fails when the listener does, and then the control API is gone with it.
    let _ = axum::serve(listener, router).with_graceful_shutdown(ended).await;
}
