//! Every line that `docs/providers.md` quotes under "Admission" is the one that is said: for each row of its table a guest is
//! tried under the daemon's own limits. Digests, folders and places in a file are put in the same words on both sides.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tandem::app::runtime_config;
use tandem::config::Config;
use tandem::provider::{Fault, Limits, Offline, Providers, RuntimeConfig, Setup};
use tandem_core::exchange::{Answer, Context, Listing, Operation};

use crate::running::{Crm, Running};
use crate::support::{
    Captured, bad, config, connect, engine, file, growing_table, guest, ledger, replaced, room, to_canonical,
};

const DOCUMENT: &str = include_str!("../../../../docs/providers.md");

/// As many as the daemon makes up for a file in its folder.
const RECORDS: usize = 200;

/// The rows of the table: what is wrong, and the line.
fn documented() -> BTreeMap<String, String> {
    let section = DOCUMENT.split_once("\n## Admission\n").expect("the section").1;
    let section = section.split_once("\n## ").expect("another section follows").0;
    let mut rows = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let (what, said) = row
            .trim_start_matches("| ")
            .trim_end_matches(" |")
            .split_once(" | ")
            .unwrap_or_else(|| panic!("two cells: {row}"));
        let line = said.trim_matches('`').trim();
        assert!(
            said.starts_with('`') && said.ends_with('`'),
            "a row quotes one line and nothing else: {row}"
        );
        assert!(rows.insert(what.to_owned(), line.to_owned()).is_none(), "{what} stands there twice");
    }
    rows
}

/// The limits of a configuration that says nothing.
fn limits() -> Limits {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("tandem.toml");
    std::fs::write(&main, "data_dir = 'data'\n[auth]\nadmin = { file = 'admin' }\n").expect("written");
    runtime_config(&Config::load(&main).expect("a configuration")).limits
}

/// A line in the words of the document.
fn plain(line: &str) -> String {
    let mut said = String::new();
    for (position, word) in line.split(' ').enumerate() {
        if position > 0 {
            said.push(' ');
        }
        said.push_str(&plain_word(word));
    }
    let said = numbered(&said, "damaged or cut short at byte ", "1234");
    match said.split_once("panicked at ") {
        Some((before, _)) => format!("{before}panicked at src/lib.rs:17:9"),
        None => said,
    }
}

/// `/tmp/x/y.wasm:` is `y.wasm:`, and `spin@0.1.0#89abcdef:` is `acme@0.1.0#1a2b3c4d:`.
fn plain_word(word: &str) -> String {
    let word = match word.rsplit_once('/') {
        Some((_, file)) if file.contains(".wasm") => file,
        _ => word,
    };
    let Some((name, rest)) = word.split_once('#') else { return word.to_owned() };
    let (digest, rest) = rest.split_at_checked(8).unwrap_or((rest, ""));
    assert!(digest.chars().all(|letter| letter.is_ascii_hexdigit()), "a digest: {word}");
    let quote = if name.starts_with("provider=\"") { "provider=\"" } else { "" };
    let name = name.trim_start_matches("provider=\"");
    let name = name.split_once('@').map_or_else(|| name.to_owned(), |(_, version)| format!("acme@{version}"));
    format!("{quote}{name}#1a2b3c4d{rest}")
}

/// The number behind some words.
fn numbered(line: &str, words: &str, number: &str) -> String {
    match line.split_once(words) {
        Some((before, rest)) => {
            format!("{before}{words}{number}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => line.to_owned(),
    }
}

/// What admission says to a file of these bytes.
fn refused(bytes: &[u8], limits: &Limits) -> String {
    let (_folder, path) = file("x.wasm", bytes);
    refused_file(&path, limits)
}

fn refused_file(path: &Path, limits: &Limits) -> String {
    let room = RuntimeConfig { limits: limits.clone(), ..config() };
    let providers = Providers::start(&room).expect("the room starts");
    let outcome = providers
        .read_blocking(path, None)
        .and_then(|candidate| providers.inspect_blocking(&candidate, RECORDS));
    plain(&outcome.expect_err("it must be refused").to_string())
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let read = |name: &str| std::fs::read(guest(name)).expect("the guest");
    let ledger = ledger();
    let mut native = std::fs::read(std::env::current_exe().expect("a path")).expect("this program");
    native.truncate(1 << 20);
    vec![
        ("it ends in the middle", ledger[..ledger.len() / 2].to_vec()),
        ("it is damaged", b"\0asm\x0d\0\x01\0\xff\0".to_vec()),
        ("it is text", b"hello".to_vec()),
        ("it is empty", Vec::new()),
        ("it is a core module", b"\0asm\x01\0\0\0".to_vec()),
        ("it is native code", native),
        ("it speaks a newer contract", replaced(&ledger, b"@0.1.0", b"@0.2.0")),
        ("it speaks an older contract", replaced(&ledger, b"@0.1.0", b"@0.0.9")),
        ("it exports another world", read("other_world")),
        (
            "an export is missing",
            replaced(&ledger, b"tandem:provider/intake@0.1.0", b"tandem:provider/untake@0.1.0"),
        ),
        ("it wants the network", read("open_socket")),
        ("it imports what no host has", read("foreign_import")),
        ("its tables grow", growing_table()),
        ("an example does not hold", replaced(&ledger, b"shoe_size", b"job_title")),
        ("it answers an example otherwise the second time", read("moody")),
        ("it needs more memory than it gets for its examples", read("needs_more")),
        ("it drops a field", read("drops_field")),
        ("it rounds a number", read("rounds_amounts")),
        ("it swaps two names", read("swaps_names")),
        ("it loses a member of a set", read("loses_member")),
        ("it drops members that are not mapped", read("drops_unmapped")),
        ("it reads what it cannot write", read("reads_only")),
        ("it never settles", read("never_settles")),
        ("it writes a member twice", read("member_twice")),
        ("it keeps state between calls", read("counts_calls")),
        ("it remembers what it saw", read("remembers")),
    ]
}

/// What a component at work says, in which function it went wrong included.
async fn faults(limits: &Limits) -> Vec<(&'static str, Fault)> {
    let names = ["spin", "slow", "eat_memory", "deep_recursion", "trap", "rubbish", "too_much"];
    let limited = |limits: Limits| RuntimeConfig { lanes: Some(1), limits, ..config() };
    let strict = room(&limited(limits.clone()), &names);
    // A busy machine takes long to make megabytes, and that is not what these are for.
    let patient = room(&limited(Limits { deadline: Duration::from_secs(20), ..limits.clone() }), &names);
    let mut said = Vec::new();
    for (what, name, providers) in [
        ("it spins", "spin", &strict),
        ("it makes progress, but too slowly", "slow", &strict),
        ("it eats memory", "eat-memory", &patient),
        ("it recurses too deeply", "deep-recursion", &patient),
        ("it panics", "trap", &patient),
        ("it answers with too large a document", "too-much", &patient),
    ] {
        let connection = connect(providers, name, name).await;
        said.push((what, to_canonical(providers, &connection, bad()).await.expect_err(what)));
    }
    let rubbish = connect(&patient, "rubbish", "rubbish").await;
    for (what, kind) in [
        ("it answers with a list in the place of a document", "array"),
        ("it answers what is no JSON", "not-json"),
        ("it refuses without saying why", "no-problem"),
    ] {
        let fault = to_canonical(&patient, &rubbish, json!({ "kind": kind })).await.expect_err(what);
        said.push((what, fault));
    }
    let too_much = connect(&patient, "too-much", "too-much").await;
    let listing = || Listing { object: "contact".into(), cursor: None, limit: 100 };
    let other = |word: &str| Operation::Other(word.into(), Vec::new());
    for (what, connection, operation) in [
        ("it answers with too many rows", &too_much, Operation::Walk(listing())),
        ("it keeps too much on a link", &too_much, Operation::Changes(listing())),
        ("its cursor is too large", &rubbish, other("cursor")),
        ("its note is too large", &rubbish, other("note")),
        ("it sets a header that is the host's", &rubbish, other("authorization")),
        ("it asks for no address", &rubbish, other("path")),
    ] {
        let started = patient
            .visit(connection, move |provider| provider.start(&operation, &Context::default()))
            .await
            .map(|reply| reply.answer);
        let fault = match started {
            Err(fault) => fault,
            Ok(Answer::Send(_)) => panic!("{what}: a request"),
            Ok(answer) => panic!("{what}: {answer:?}"),
        };
        said.push((what, fault));
    }
    said
}

/// The line of a flood, as it stands in the log behind time, level and target.
fn flood(limits: &Limits) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let patient = Limits { deadline: Duration::from_secs(20), ..limits.clone() };
        let mut offline = Offline::load_with(&guest("flood_log"), &Setup::default(), &engine(), patient)
            .unwrap_or_else(|error| panic!("{error}"));
        let document = bad().to_string().into_bytes();
        let answer = offline.provider().expect("an instance").to_canonical("contact", &document);
        assert!(answer.expect("no fault").is_ok());
    });
    let text = captured.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("floods the log")).collect();
    assert_eq!(lines.len(), 1, "a flood is told of once: {lines:?}");
    let (_, line) = lines[0].split_once("tandem::guest: ").expect("its target");
    plain(line).replace("connection=\"offline\"", "connection=\"acme\"")
}

/// What a running daemon says to files that are whole and still do not fit.
fn of_the_daemon() -> Vec<(&'static str, String)> {
    let crm = Crm::start();
    let daemon = Running::start();
    let mut said = Vec::new();
    let line = |name: &str| plain(&daemon.refused(name));

    daemon.connect("acme", &crm.url, "[settings]\ngreeting = ''\n");
    daemon.drop_in("y.wasm", &ledger());
    crm.until_asked("after=cursor-1");
    let other = replaced(&ledger(), b"The ledger of the tests", b"the ledger of the tests");
    daemon.drop_in("x.wasm", &other);
    let second = line("x.wasm").replace("gives provider ledger already", "gives provider acme already");
    said.push(("a second file gives the same provider", second));
    daemon.remove("x.wasm");

    for (what, name) in [
        ("it refuses a connection's settings", "refuses_greetings"),
        ("it cannot read a stored cursor", "forgets_cursors"),
    ] {
        daemon.drop_in("y.wasm", &std::fs::read(guest(name)).expect("the guest"));
        said.push((what, plain(&daemon.refused_anew("y.wasm"))));
    }
    said
}

#[tokio::test]
async fn every_line_of_the_document_is_the_one_that_is_said() {
    let limits = limits();
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for (what, bytes) in files() {
        said.insert(what.to_owned(), refused(&bytes, &limits));
    }
    let (_folder, large) = file("x.wasm", b"");
    let sized = std::fs::File::options().write(true).open(&large).expect("the file");
    sized.set_len(limits.component_bytes + 1).expect("a large file");
    said.insert("it is larger than 64 MiB".to_owned(), refused_file(&large, &limits));
    for (what, fault) in faults(&limits).await {
        said.insert(what.to_owned(), plain(&fault.to_string()));
    }
    said.insert("it floods the log".to_owned(), flood(&limits));
    let daemon = tokio::task::spawn_blocking(of_the_daemon).await.expect("it runs");
    said.extend(daemon.into_iter().map(|(what, line)| (what.to_owned(), line)));

    let documented = documented();
    let mut wrong = Vec::new();
    for (what, line) in &said {
        assert!(!line.contains('\n'), "one line: {line}");
        match documented.get(what) {
            None => wrong.push(format!("there is no row for\n| {what} | `{line}` |")),
            Some(quoted) if quoted != line => {
                wrong.push(format!("{what}: it quotes\n{quoted}\nand what is said is\n{line}"));
            }
            Some(_) => {}
        }
    }
    for what in documented.keys().filter(|what| !said.contains_key(*what)) {
        wrong.push(format!("no guest does this: {what}"));
    }
    assert!(wrong.is_empty(), "docs/providers.md:\n{}", wrong.join("\n\n"));
}
