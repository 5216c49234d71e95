//! Real sockets on 127.0.0.1: what a request becomes, and what each way of failing means.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::json;
use tandem_core::descriptor::{AuthKind, AuthScheme, Refresh};
use tandem_core::exchange::{Attribute, HttpRequest, HttpResponse, Placeholder, Target};
use tandem_core::id::ConnectionId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::egress::{LeadsInside, Reach, Rules, admit, inner};
use super::{Client, ClientConfig, Deliver, Directory, Endpoint, EndpointParts, Hosts, SendError};
use crate::credentials::{Account, Credential, StoredToken, TokenStore};

fn acme() -> ConnectionId {
    ConnectionId::from("acme")
}

struct One(Arc<Endpoint>);

impl Directory for One {
    fn endpoint(&self, connection: &ConnectionId) -> Option<Arc<Endpoint>> {
        (connection.as_str() == "acme").then(|| self.0.clone())
    }
}

fn parts(address: SocketAddr) -> EndpointParts {
    EndpointParts {
        base_url: format!("http://{address}/crm"),
        fixed_base: true,
        declared: vec!["api.example.com".into()],
        granted: vec!["127.0.0.1".into(), "localhost".into()],
        allow_loopback: true,
        response_headers: vec!["retry-after".into(), "x-remaining".into(), "set-cookie".into()],
        secrets: HashMap::from([("hook".to_owned(), SecretString::from("s3cr\"<&t"))]),
        ..EndpointParts::default()
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(20),
        ..ClientConfig::default()
    }
}

fn client(parts: EndpointParts, config: &ClientConfig) -> Client<One> {
    Client::new(config, Arc::new(One(Arc::new(Endpoint::new(parts).unwrap())))).unwrap()
}

fn token(value: &str) -> Arc<Credential> {
    let scheme = AuthScheme {
        kind: AuthKind::Static,
        header: "authorization".into(),
        template: "Bearer {token}".into(),
        refresh: None,
    };
    credential(scheme, value, "")
}

fn credential(scheme: AuthScheme, value: &str, base_url: &str) -> Arc<Credential> {
    let account = Account {
        scheme,
        credential: SecretString::from(value),
        client_id: Some("id".into()),
        client_secret: Some(SecretString::from("client-secret")),
        settings: serde_json::Map::new(),
        base_url: base_url.to_owned(),
    };
    Arc::new(Credential::new(&acme(), account, Arc::new(Forgetful)).unwrap())
}

/// Keeps nothing, and says that it did.
struct Forgetful;

impl TokenStore for Forgetful {
    fn load(&self, _: &ConnectionId) -> Option<StoredToken> {
        None
    }

    fn save<'a>(
        &'a self,
        _: &'a ConnectionId,
        _: StoredToken,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async { Ok(()) })
    }
}

fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        target: Target::Path(path.into()),
        headers: Vec::new(),
        body: None,
        charges: Vec::new(),
        repeatable: true,
        secrets: Vec::new(),
    }
}

fn post(path: &str, body: &str) -> HttpRequest {
    HttpRequest { method: "POST".into(), body: Some(body.into()), repeatable: false, ..get(path) }
}

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute { name: name.into(), value: value.into() }
}

/// One request as it came over the wire: head and body. None: the peer closed.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, String::from_utf8(body).unwrap())))
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A server that answers the n-th request with what `answer` makes of it; requests are kept.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    accepted: Arc<AtomicUsize>,
}

async fn serve(answer: impl Fn(usize, &str, &str) -> String + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let accepted = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(answer);
    let (log, count) = (seen.clone(), accepted.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let (log, answer) = (log.clone(), answer.clone());
            tokio::spawn(async move {
                while let Ok(Some((head, body))) = read_request(&mut stream).await {
                    let number = {
                        let mut log = log.lock();
                        log.push((head.clone(), body.clone()));
                        log.len()
                    };
                    if stream.write_all(answer(number, &head, &body).as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Server { address, seen, accepted }
}

/// A server that does as it likes with each accepted socket.
async fn misbehave<F, R>(act: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    address
}

async fn send(client: &Client<One>, request: HttpRequest) -> Result<HttpResponse, SendError> {
    tokio::time::timeout(Duration::from_secs(30), client.send(&acme(), request))
        .await
        .expect("a bounded time")
}

fn forbidden(result: Result<HttpResponse, SendError>) -> String {
    match result {
        Err(SendError::Forbidden { all: false, what, .. }) => what,
        other => panic!("not forbidden, or not it alone: {other:?}"),
    }
}

/// Forbidden by the connection's configuration, as every other request of it.
fn misconfigured(result: Result<HttpResponse, SendError>) -> String {
    match result {
        Err(SendError::Forbidden { all: true, what, .. }) => what,
        other => panic!("not forbidden, or it alone: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_authenticated_sent_and_answered() {
    let server = serve(|_, _, _| {
        "HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nSet-Cookie: a=b\r\nX-Other: 1\r\ncontent-length: 4\r\n\r\nbusy".into()
    })
    .await;
    let client =
        client(EndpointParts { credential: Some(token("pat-1")), ..parts(server.address) }, &config());
    let mut request = post("/v3/contacts?limit=2&x=%2F..", "{\"a\":\"é\"}");
    request.headers =
        vec![attribute("content-type", "application/json"), attribute("X-Two", "1"), attribute("x-two", "2")];
    let response = send(&client, request).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (429, b"busy".as_slice()));
    assert_eq!(response.headers, [attribute("retry-after", "7")]);
    let (head, body) = server.seen.lock()[0].clone();
    assert_eq!(body, "{\"a\":\"é\"}");
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /crm/v3/contacts?limit=2&x=%2f.. http/1.1\r\n"), "{head}");
    for line in [
        "authorization: bearer pat-1",
        "content-type: application/json",
        "x-two: 1",
        "x-two: 2",
        "user-agent: tandem/",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    for line in ["accept-encoding", "cookie", "referer"] {
        assert!(!head.contains(line), "{line}: {head}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let server = serve(|number, _, _| ok(&number.to_string())).await;
    let client = client(parts(server.address), &config());
    for number in 1..=20 {
        assert_eq!(send(&client, get("/")).await.unwrap().body, number.to_string().into_bytes());
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_connection_means_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = send(&client(parts(address), &config()), post("/", "x")).await.unwrap_err();
    assert!(matches!(error, SendError::NotSent { .. }), "{error}");
    let error = client(parts(address), &config()).send(&"nobody".into(), get("/")).await.unwrap_err();
    assert!(matches!(error, SendError::NotSent { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_or_cuts_off_leaves_the_outcome_unknown() {
    let after_reading = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
    })
    .await;
    let in_the_answer = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    })
    .await;
    let nonsense = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.write_all(b"SMTP ready\r\n\r\n").await;
    })
    .await;
    for address in [after_reading, in_the_answer, nonsense] {
        let error = send(&client(parts(address), &config()), post("/", "x")).await.unwrap_err();
        assert!(matches!(error, SendError::Unknown { .. }), "{error}");
    }
}

#[tokio::test]
async fn not_sent_is_said_only_if_not_a_byte_arrived() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let (ended, mut all) = tokio::sync::mpsc::channel(1);
    let count = arrived.clone();
    let address = misbehave(move |mut stream| {
        let (count, ended) = (count.clone(), ended.clone());
        async move {
            let _ = stream.shutdown().await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            count.fetch_add(bytes.len(), Ordering::SeqCst);
            let _ = ended.send(()).await;
        }
    })
    .await;
    for _ in 0..50 {
        arrived.store(0, Ordering::SeqCst);
        let error = send(&client(parts(address), &config()), post("/", "x")).await.unwrap_err();
        all.recv().await.unwrap();
        match error {
            SendError::NotSent { .. } => assert_eq!(arrived.load(Ordering::SeqCst), 0),
            SendError::Unknown { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_the_outcome_is_unknown() {
    let silent = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let slow_body = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let config = ClientConfig { timeout: Duration::from_millis(200), ..config() };
    for address in [silent, slow_body] {
        let error = send(&client(parts(address), &config), post("/", "x")).await.unwrap_err();
        assert!(matches!(&error, SendError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("timed out") || error.to_string().contains("too long"), "{error}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_meanwhile_costs_nothing() {
    let closed = Arc::new(tokio::sync::Semaphore::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let (signal, count) = (closed.clone(), seen.clone());
    let address = misbehave(move |mut stream| {
        let (signal, count) = (signal.clone(), count.clone());
        async move {
            if let Ok(Some(_)) = read_request(&mut stream).await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(ok("x").as_bytes()).await;
            }
            drop(stream);
            signal.add_permits(1);
        }
    })
    .await;
    let client = client(parts(address), &config());
    for round in 1..=50 {
        send(&client, post("/", "x")).await.unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), round, "each request arrived once");
        closed.acquire().await.unwrap().forget();
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_cut() {
    let announced = serve(|_, _, _| "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".into()).await;
    let endless = misbehave(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 1_024]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let config = ClientConfig { max_response: 10_000, ..config() };
    for address in [announced.address, endless] {
        let error = send(&client(parts(address), &config), get("/")).await.unwrap_err();
        assert!(
            matches!(&error, SendError::Unknown { what, .. } if what.contains("longer than 10000")),
            "{error}"
        );
    }
    let fits = serve(|_, _, _| ok(&"y".repeat(10_000))).await;
    assert_eq!(send(&client(parts(fits.address), &config), get("/")).await.unwrap().body.len(), 10_000);
}

#[tokio::test]
async fn redirects_are_answers_and_nothing_is_unpacked() {
    let elsewhere = serve(|_, _, _| ok("never")).await;
    let to = format!("http://{}/", elsewhere.address);
    let server = serve(move |_, _, _| {
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nraw"
        )
    })
    .await;
    let response = send(&client(parts(server.address), &config()), get("/")).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (302, b"raw".as_slice()));
    assert_eq!(elsewhere.accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn paths_and_links_cannot_lead_away() {
    let server = serve(|_, _, _| ok("")).await;
    let client = client(parts(server.address), &config());
    for path in [
        "",
        "contacts",
        "//evil.example/",
        "/../admin",
        "/a/..",
        "/a/%2e%2E/b",
        "/a/./b",
        "/a\\..\\b",
        "/a#b",
        "/a\nb",
        "@evil.example/",
        ":80/",
        "http://evil.example/",
    ] {
        forbidden(send(&client, get(path)).await);
    }
    let link = |url: String| HttpRequest { target: Target::Url(url), ..get("/") };
    for (url, says) in [
        ("https://evil.example/".to_owned(), "add it to hosts"),
        ("https://api.example.com/x".to_owned(), "add it to hosts"),
        ("http://10.0.0.1/".to_owned(), "IP address 10.0.0.1 is not granted"),
        ("http://[::1]/".to_owned(), "not granted"),
        (format!("http://user:pass@{}/", server.address), "user or password"),
        (format!("ftp://{}/", server.address), "descriptor"),
        (format!("http://{}/#x", server.address), "fragment"),
        (format!("http://localhost:{}/", server.address.port()), "descriptor"),
        ("nonsense".to_owned(), "not a URL"),
    ] {
        let what = forbidden(send(&client, link(url.clone())).await);
        assert!(what.contains(says), "{url}: {what}");
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0);
    send(&client, link(format!("http://{}/next?page=2", server.address))).await.unwrap();
    assert!(server.seen.lock()[0].0.starts_with("GET /next?page=2 "));
}

#[tokio::test]
async fn headers_of_the_host_are_not_the_providers_to_set() {
    let server = serve(|_, _, _| ok("")).await;
    let client = client(EndpointParts { credential: Some(token("t")), ..parts(server.address) }, &config());
    for name in [
        "Authorization",
        "cookie",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "x-forwarded-for",
        "accept-encoding",
        "b ad",
    ] {
        let request = HttpRequest { headers: vec![attribute(name, "x")], ..get("/") };
        forbidden(send(&client, request).await);
    }
    let request = HttpRequest { headers: vec![attribute("x-note", "a\r\nhost: evil")], ..get("/") };
    assert!(forbidden(send(&client, request).await).contains("cannot be sent"));
    let request = HttpRequest { method: "CONNECT".into(), ..get("/") };
    assert!(forbidden(send(&client, request).await).contains("method"));
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn secrets_are_put_in_escaped_and_blanked_where_they_come_back() {
    let server = serve(|_, _, body| ok(body)).await;
    let client = client(parts(server.address), &config());
    let placeholder = |escape: &str| Placeholder {
        marker: "@@HOOK@@".into(),
        secret: "hook".into(),
        escape: escape.into(),
    };
    for (escape, text) in
        [("json", "s3cr\\\"<&t"), ("form", "s3cr%22%3C%26t"), ("xml", "s3cr&quot;&lt;&amp;t")]
    {
        let request = HttpRequest { secrets: vec![placeholder(escape)], ..post("/", "a=@@HOOK@@;@@HOOK@@") };
        send(&client, request).await.unwrap();
        assert_eq!(server.seen.lock().last().unwrap().1, format!("a={text};{text}"));
    }
    let request = HttpRequest {
        headers: vec![attribute("x-hook", "v1 @@HOOK@@")],
        secrets: vec![placeholder("header")],
        ..get("/")
    };
    send(&client, request).await.unwrap();
    assert!(server.seen.lock().last().unwrap().0.contains("x-hook: v1 s3cr\"<&t"));
    let bad = |placeholder| HttpRequest { secrets: vec![placeholder], ..post("/", "@@HOOK@@") };
    for (change, says) in [
        (Placeholder { marker: "@".into(), ..placeholder("json") }, "marker"),
        (placeholder("base64"), "escape"),
    ] {
        assert!(forbidden(send(&client, bad(change)).await).contains(says));
    }
    let other = Placeholder { secret: "other".into(), ..placeholder("json") };
    assert!(misconfigured(send(&client, bad(other)).await).contains("secrets.other"));

    let echo = serve(|_, head, _| {
        let line = head.lines().find(|line| line.starts_with("authorization")).unwrap_or_default().to_owned();
        format!("HTTP/1.1 400 Bad\r\nx-remaining: {line}\r\ncontent-length: {}\r\n\r\n{line}", line.len())
    })
    .await;
    let client =
        self::client(EndpointParts { credential: Some(token("marker-9")), ..parts(echo.address) }, &config());
    let response = send(&client, get("/")).await.unwrap();
    assert_eq!(response.body, b"authorization: Bearer [secret]");
    assert_eq!(response.headers, [attribute("x-remaining", "authorization: Bearer [secret]")]);
}

#[tokio::test]
async fn a_401_is_tried_once_more_with_a_fresh_token() {
    let server = serve(|number, head, _| {
        if head.starts_with("POST /oauth/token") {
            let body = json!({"access_token": format!("access-{number}"), "expires_in": 1800}).to_string();
            return ok(&body);
        }
        match head.contains("Bearer access-3") {
            true => ok("yes"),
            false => "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".into(),
        }
    })
    .await;
    let refresh = Refresh {
        url: "{base_url}/oauth/token".into(),
        client: String::new(),
        access_token: None,
        refresh_token: None,
        expires_in: None,
        base_url: None,
        error: None,
    };
    let scheme = AuthScheme {
        kind: AuthKind::Oauth2,
        header: "authorization".into(),
        template: "Bearer {token}".into(),
        refresh: Some(refresh),
    };
    let credential = credential(scheme, "refresh", &format!("http://{}", server.address));
    let client = client(EndpointParts { credential: Some(credential), ..parts(server.address) }, &config());
    let response = send(&client, post("/x", "body")).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, b"yes".as_slice()));
    let paths: Vec<String> =
        server.seen.lock().iter().map(|(head, _)| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/oauth/token", "/crm/x", "/oauth/token", "/crm/x"]);
    assert_eq!(server.seen.lock()[3].1, "body");
}

#[tokio::test]
async fn a_call_that_was_refused_goes_to_the_address_that_came_with_the_fresh_token() {
    let left = serve(|_, _, _| "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".into()).await;
    let moved = serve(|_, head, _| match head.contains("Bearer access-2") {
        true => ok("moved"),
        false => "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".into(),
    })
    .await;
    let ports = [left.address.port(), moved.address.port()];
    let tokens = serve(move |number, _, _| {
        let port = ports[usize::from(number > 1)];
        let body = json!({"access_token": format!("access-{number}"),
            "instance_url": format!("http://localhost:{port}/inst")});
        ok(&body.to_string())
    })
    .await;
    let scheme = AuthScheme {
        kind: AuthKind::Oauth2,
        header: "authorization".into(),
        template: "Bearer {token}".into(),
        refresh: Some(Refresh {
            url: "{base_url}/token".into(),
            client: String::new(),
            access_token: None,
            refresh_token: None,
            expires_in: None,
            base_url: Some("/instance_url".into()),
            error: None,
        }),
    };
    let (mut parts, _) = roaming(tokens.address, &["127.0.0.1", "localhost"], "");
    parts.credential = Some(credential(scheme, "refresh", &format!("http://{}", tokens.address)));
    let client = client(parts, &config());
    assert_eq!(send(&client, post("/a", "body")).await.unwrap().body, b"moved");
    let seen = |server: &Server| server.seen.lock().len();
    assert_eq!((seen(&left), seen(&moved), seen(&tokens)), (1, 1, 2));
    let (head, body) = moved.seen.lock()[0].clone();
    assert!(head.starts_with("POST /inst/a "), "{head}");
    assert_eq!(body, "body");
}

/// An OAuth endpoint whose token answer names another base URL.
fn roaming(server: SocketAddr, granted: &[&str], base: &str) -> (EndpointParts, String) {
    let mut parts = parts(server);
    parts.fixed_base = false;
    parts.declared.push("127.0.0.1".into());
    parts.granted = granted.iter().map(|host| (*host).to_owned()).collect();
    (parts, base.to_owned())
}

#[tokio::test]
async fn a_base_url_from_a_token_answer_is_held_to_the_grants() {
    let moved = serve(|_, _, _| ok("moved")).await;
    for (base, works) in [
        (format!("http://localhost:{}/inst", moved.address.port()), true),
        ("https://evil.example".to_owned(), false),
        ("https://10.1.2.3".to_owned(), false),
        ("http://169.254.169.254/latest".to_owned(), false),
    ] {
        let answer = base.clone();
        let tokens =
            serve(move |_, _, _| ok(&json!({"access_token": "a", "instance_url": answer}).to_string())).await;
        let refresh = Refresh {
            url: "{base_url}/token".into(),
            client: String::new(),
            access_token: None,
            refresh_token: None,
            expires_in: None,
            base_url: Some("/instance_url".into()),
            error: None,
        };
        let scheme = AuthScheme {
            kind: AuthKind::Oauth2,
            header: "authorization".into(),
            template: "Bearer {token}".into(),
            refresh: Some(refresh),
        };
        let (mut parts, _) = roaming(tokens.address, &["127.0.0.1", "localhost"], &base);
        parts.credential = Some(credential(scheme, "refresh", &format!("http://{}", tokens.address)));
        let client = client(parts, &config());
        match works {
            true => assert_eq!(send(&client, get("/a")).await.unwrap().body, b"moved"),
            false => assert!(misconfigured(send(&client, get("/a")).await).contains("not granted"), "{base}"),
        }
    }
    assert!(moved.seen.lock()[0].0.starts_with("GET /inst/a "));
}

// Egress

fn rules(declared: &[&str], granted: &[&str], loopback: bool) -> Rules {
    Rules { declared: Hosts::new(declared), granted: Hosts::new(granted), loopback }
}

#[test]
fn a_host_must_be_asked_for_and_granted() {
    let check = |rules: &Rules, url: &str| rules.check(&url.parse().unwrap(), false);
    let one = rules(&["api.example.com"], &["API.example.com", "8.8.8.8", "10.0.0.1"], false);
    assert_eq!(check(&one, "https://api.example.com:8443/x"), Ok(Reach::Public));
    assert!(check(&one, "http://api.example.com/").unwrap_err().contains("only https"));
    assert!(check(&one, "https://8.8.8.8/").unwrap_err().contains("descriptor"));
    assert!(one.check(&"https://10.0.0.1/".parse().unwrap(), true).unwrap_err().contains("private address"));
    assert!(check(&one, "https://127.0.0.1/").unwrap_err().contains("allow_loopback"));
    assert!(check(&one, "https://foo.localhost/").unwrap_err().contains("allow_loopback"));
    assert!(check(&one, "https://[::ffff:127.0.0.1]/").unwrap_err().contains("allow_loopback"));
    // Other ways to write 127.0.0.1.
    for host in ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"] {
        assert!(check(&one, &format!("https://{host}/")).unwrap_err().contains("127.0.0.1"), "{host}");
    }
    let below = rules(&["*.my.example.com"], &["*.my.example.com"], false);
    assert_eq!(check(&below, "https://a.b.my.example.com/"), Ok(Reach::Public));
    for url in
        ["https://my.example.com/", "https://evilmy.example.com/", "https://my.example.com.evil.example/"]
    {
        check(&below, url).unwrap_err();
    }
    let local = rules(&["127.0.0.1"], &["127.0.0.1"], true);
    assert_eq!(check(&local, "http://127.0.0.1:99/"), Ok(Reach::Loopback));
    assert!(check(&local, "http://127.0.0.2:99/").unwrap_err().contains("not granted"));
}

#[test]
fn addresses_that_are_not_public_are_known() {
    for ip in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.9.9",
        "192.168.1.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "4000::1",
    ] {
        assert!(inner(ip.parse().unwrap()).is_some(), "{ip}");
    }
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2606:4700::1111",
        "2a00:1450::1",
    ] {
        assert_eq!(inner(ip.parse().unwrap()), None, "{ip}");
    }
}

#[test]
fn what_a_name_resolves_to_is_checked_when_it_is_dialled() {
    let addresses =
        |list: &[&str]| list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>();
    let mixed = addresses(&["10.0.0.1", "8.8.8.8"]);
    assert_eq!(admit("a", mixed.into_iter(), Reach::Public).unwrap(), addresses(&["8.8.8.8"]));
    let inside: LeadsInside =
        admit("a.example", addresses(&["10.0.0.1"]).into_iter(), Reach::Public).unwrap_err();
    assert_eq!(
        inside.to_string(),
        "host a.example resolves to 10.0.0.1, a private address; no configuration grants that"
    );
    admit("a", addresses(&["8.8.8.8"]).into_iter(), Reach::Loopback).unwrap_err();
}

#[tokio::test]
async fn a_public_name_that_leads_inside_is_forbidden_at_dial_time() {
    let server = serve(|_, _, _| ok("")).await;
    let url = format!("http://localhost:{}/", server.address.port());
    // The public client itself: whatever name it is given, nothing inside is dialled.
    let pool = reqwest::Client::builder()
        .tls_backend_preconfigured(super::client::tls(&config()).unwrap())
        .dns_resolver(super::egress::Gate(Reach::Public))
        .build()
        .unwrap();
    let error = pool.get(url).send().await.unwrap_err();
    let client = client(parts(server.address), &config());
    match client.meaning(&acme(), &error) {
        SendError::Forbidden { all: true, what, .. } => {
            assert!(what.contains("host localhost resolves to"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0);
}

#[test]
fn a_base_url_is_checked_when_the_connection_is_made() {
    let make = |base: &str| {
        let parts = EndpointParts { base_url: base.into(), ..parts("127.0.0.1:1".parse().unwrap()) };
        Endpoint::new(parts).map(drop)
    };
    make("http://127.0.0.1:1").unwrap();
    assert!(make("https://evil.example").unwrap_err().contains("base_url: host evil.example is not granted"));
    assert!(make("http://127.0.0.1:1/?a=b").unwrap_err().contains("query"));
    assert!(make("127.0.0.1").unwrap_err().contains("base_url"));
}

// TLS

struct Authority {
    pem: tempfile::NamedTempFile,
    server: Arc<rustls::ServerConfig>,
}

fn authority(names: &[&str], alpn: &[&[u8]]) -> Authority {
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut pem = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut pem, ca_cert.pem().as_bytes()).unwrap();
    Authority { pem, server: Arc::new(server) }
}

async fn serve_tls(config: Arc<rustls::ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let count = seen.clone();
    let address = misbehave(move |stream| {
        let (acceptor, count) = (acceptor.clone(), count.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while let Ok(Some(_)) = read_request(&mut stream).await {
                count.fetch_add(1, Ordering::SeqCst);
                if write_all(&mut stream, &ok("tls")).await.is_err() {
                    break;
                }
            }
        }
    })
    .await;
    (address, seen)
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await
}

#[tokio::test]
async fn tls_trusts_the_configured_authority_and_no_other() {
    let known = authority(&["127.0.0.1"], &[]);
    let wrong_name = authority(&["api.example.com"], &[]);
    let (address, seen) = serve_tls(known.server.clone()).await;
    let parts =
        |address: SocketAddr| EndpointParts { base_url: format!("https://{address}"), ..parts(address) };
    let with =
        |pem: &tempfile::NamedTempFile| ClientConfig { extra_ca: Some(pem.path().to_owned()), ..config() };
    let response = send(&client(parts(address), &with(&known.pem)), get("/")).await.unwrap();
    assert_eq!(response.body, b"tls");

    let other = send(&client(parts(address), &with(&wrong_name.pem)), get("/")).await.unwrap_err();
    assert!(matches!(other, SendError::NotSent { .. }), "{other}");
    let (address, _) = serve_tls(wrong_name.server.clone()).await;
    let name = send(&client(parts(address), &with(&wrong_name.pem)), get("/")).await.unwrap_err();
    assert!(matches!(name, SendError::NotSent { .. }), "{name}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http2_carries_many_requests_over_one_connection() {
    let known = authority(&["127.0.0.1"], &[b"h2"]);
    let acceptor = tokio_rustls::TlsAcceptor::from(known.server.clone());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let address = misbehave(move |stream| {
        let (acceptor, count) = (acceptor.clone(), count.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let stream = acceptor.accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
            let answer =
                hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                    let body = http_body_util::Full::new(bytes::Bytes::from(request.uri().path().to_owned()));
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
                });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(io, answer)
                .await;
        }
    })
    .await;
    let config = ClientConfig { extra_ca: Some(known.pem.path().to_owned()), ..config() };
    let parts = EndpointParts { base_url: format!("https://{address}"), ..parts(address) };
    let client = client(parts, &config);
    send(&client, get("/first")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let client = client.clone();
        tasks.spawn(async move { (number, send(&client, get(&format!("/{number}"))).await.unwrap().body) });
    }
    while let Some(done) = tasks.join_next().await {
        let (number, body) = done.unwrap();
        assert_eq!(body, format!("/{number}").into_bytes());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn an_authority_file_that_is_none_is_named() {
    let make = |config: &ClientConfig| {
        let endpoint = Endpoint::new(parts("127.0.0.1:1".parse().unwrap())).unwrap();
        Client::new(config, Arc::new(One(Arc::new(endpoint)))).map(drop).unwrap_err().to_string()
    };
    let missing = make(&ClientConfig { extra_ca: Some("/nowhere/ca.pem".into()), ..config() });
    assert!(missing.starts_with("delivery.extra_ca: /nowhere/ca.pem: "), "{missing}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = make(&ClientConfig { extra_ca: Some(empty.path().to_owned()), ..config() });
    assert!(empty.contains("no certificate"), "{empty}");
}
