//! Serving a router: bounded headers, bounded time for them, bounded number of connections, and an end that waits for what is under way.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How a listener is served.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// Longest time for the head of a request, also the first one of a connection.
    pub header_timeout: Duration,
    /// Most connections at once; further ones wait in the listener's queue.
    pub connections: usize,
    /// Longest time that requests under way get once the end has come.
    pub grace: Duration,
}

/// How many connections may wait to be accepted; the kernel lowers it to `net.core.somaxconn`. Beyond it the kernel drops what asks to
/// connect, which is sent again after one second, then after two more, then four: with the 128 of `std`, a CRM that tells of a large
/// import gives up on some of its webhooks.
const BACKLOG: u32 = 4_096;

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// The listener: the first one that was handed over by the service manager (`LISTEN_FDS`, `LISTEN_PID`), else a new one.
///
/// # Errors
/// When the address cannot be bound, or what was handed over is not a listening TCP socket.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let mut handed_over = listenfd::ListenFd::from_env();
    if let Some(listener) = handed_over.take_tcp_listener(0)? {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A daemon that starts again takes its address while connections of the last one still end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves a router until `end`, then lets requests under way finish within the grace period. Returns when the last one is done or cut off.
pub async fn serve(listener: TcpListener, router: Router, serving: Serving, end: impl Future<Output = ()>) {
    let (ended, end_seen) = watch::channel(false);
    let seats = Arc::new(Semaphore::new(serving.connections));
    let mut guests = JoinSet::new();
    let mut end = pin!(end);
    loop {
        let accepted = async {
            // Closed never: the semaphore lives as long as this loop.
            let seat = seats.clone().acquire_owned().await;
            (listener.accept().await, seat)
        };
        let (accepted, seat) = tokio::select! {
            biased;
            () = &mut end => break,
            accepted = accepted => accepted,
            Some(_) = guests.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, most likely: it passes when a connection ends.
                tracing::warn!(%error, "the api cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, end_seen) = (router.clone(), end_seen.clone());
        guests.spawn(async move {
            let _seat = seat;
            attend(stream, router, serving.header_timeout, end_seen).await;
        });
    }
    drop(listener);
    // Nobody listens any more when the last connection is gone.
    let _ = ended.send(true);
    let all_gone = async { while guests.join_next().await.is_some() {} };
    if tokio::time::timeout(serving.grace, all_gone).await.is_err() {
        tracing::warn!(
            left = guests.len(),
            "requests were still under way at the end of the grace period and are cut off"
        );
        guests.shutdown().await;
    }
}

async fn attend(stream: TcpStream, router: Router, header_timeout: Duration, mut end: watch::Receiver<bool>) {
    // Small answers should not wait for more.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        done = connection.as_mut() => done,
        () = async { drop(end.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the api ended early");
    }
}
