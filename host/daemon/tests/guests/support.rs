//! Where the guests are, and a room to load them into.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem::provider::{BreakerConfig, EngineConfig, Fault, LoadError, Providers, RuntimeConfig, Setup};
use tandem_core::exchange::{Answer, Context, Operation};
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

/// Begins an exchange, which every guest does as it should.
pub(crate) async fn start(
    providers: &Providers,
    connection: &ConnectionId,
    operation: Operation,
) -> Result<Answer, Fault> {
    providers
        .visit(connection, move |provider| provider.start(&operation, &Context::default()))
        .await
        .map(|reply| reply.answer)
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

/// A file with these bytes in a folder of its own.
pub(crate) fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    (folder, path)
}

/// The component that behaves.
pub(crate) fn ledger() -> Vec<u8> {
    std::fs::read(guest("ledger")).expect("the guest")
}

/// A component with one text in the place of another.
pub(crate) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths in the binary stay right");
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "the text is there");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}

/// A component that is the ledger with one more core module, whose start function makes its table grow for ever.
pub(crate) fn growing_table() -> Vec<u8> {
    let module: Vec<u8> = [
        &b"\0asm\x01\0\0\0"[..],
        b"\x01\x04\x01\x60\0\0",                                     // type: () -> ()
        b"\x03\x02\x01\0",                                           // one function
        b"\x04\x04\x01\x70\0\x01",                                   // one table of functions, one element
        b"\x08\x01\0",                                               // it starts by itself
        b"\x0a\x12\x01\x10\0",                                       // code, one body without locals
        b"\x03\x40\xd0\x70\x41\x80\x08\xfc\x0f\0\x1a\x0c\0\x0b\x0b", // loop: table.grow by 1024, drop, again
    ]
    .concat();
    let bytes = ledger();
    let mut depth = 0_u32;
    let mut modules = 0_u8;
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        match payload.expect("the guest is whole") {
            wasmparser::Payload::ModuleSection { .. } => {
                modules += u8::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let length = u8::try_from(module.len()).expect("a short module");
    assert!(length < 128 && modules < 128, "one byte each");
    [&bytes[..], &[1, length], &module, &[2, 4, 1, 0, modules, 0]].concat()
}

/// What is written to it.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
