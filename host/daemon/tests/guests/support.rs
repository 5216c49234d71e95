//! Where the guests are, and a room to load them into.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem::provider::{BreakerConfig, EngineConfig, Fault, LoadError, Providers, RuntimeConfig, Setup};
use tandem_core::id::{ConnectionId, ProviderId};

/// Builds everything that these tests load.
pub(crate) const BUILD: &str = "cargo build -p tandem-guests -p provider-hubspot --lib --examples --target wasm32-wasip2 --profile guest";

/// A guest's file.
pub(crate) fn guest(name: &str) -> PathBuf {
    let folder = std::env::var_os("TANDEM_GUESTS").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("../wasm32-wasip2/guest/examples"),
        PathBuf::from,
    );
    let file = folder.join(format!("{name}.wasm"));
    assert!(file.is_file(), "there is no {}: run `{BUILD}`, or set TANDEM_GUESTS", file.display());
    file
}

/// Compiled guests are kept between runs, for all tests together.
pub(crate) fn engine() -> EngineConfig {
    EngineConfig {
        cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-guests")),
        ..EngineConfig::default()
    }
}

/// Two lanes, and a breaker that never opens unless a test wants it to.
pub(crate) fn config() -> RuntimeConfig {
    RuntimeConfig {
        engine: engine(),
        lanes: Some(2),
        breaker: BreakerConfig { faults: 1_000_000, ..BreakerConfig::default() },
        ..RuntimeConfig::default()
    }
}

/// A room with these guests.
pub(crate) fn room(config: &RuntimeConfig, guests: &[&str]) -> Providers {
    let providers = Providers::start(config).expect("the room starts");
    for name in guests {
        providers.load_file_blocking(&guest(name)).unwrap_or_else(|error| panic!("{error}"));
    }
    providers
}

/// Connects with plain settings.
pub(crate) async fn connect(providers: &Providers, connection: &str, provider: &str) -> ConnectionId {
    connect_with(providers, connection, provider, json!({})).await.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) async fn connect_with(
    providers: &Providers,
    connection: &str,
    provider: &str,
    settings: Value,
) -> Result<ConnectionId, LoadError> {
    let id = ConnectionId::from(connection);
    providers
        .connect(&id, &ProviderId::from(provider), Setup { settings, facts: Value::Null })
        .await
        .map(|_| id.clone())
}

/// Maps a document to canonical form; the answer as text.
pub(crate) async fn to_canonical(
    providers: &Providers,
    connection: &ConnectionId,
    document: Value,
) -> Result<String, Fault> {
    let document = document.to_string().into_bytes();
    providers
        .visit(connection, move |provider| provider.to_canonical("contact", &document))
        .await
        .map(|answer| String::from_utf8(answer.expect("mapped")).expect("UTF-8"))
}

/// A document that makes a guest misbehave.
pub(crate) fn bad() -> Value {
    json!({ "email": "eve@example.com", "misbehave": true })
}

/// One that every guest maps.
pub(crate) fn good() -> Value {
    json!({ "email": "ada@example.com", "notes": "n" })
}

/// Asserts that a connection works.
pub(crate) async fn assert_works(providers: &Providers, connection: &ConnectionId) {
    let answer = to_canonical(providers, connection, good()).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(answer, good().to_string());
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
