//! Each misdeed has its own fault, its instance is gone afterwards, and a connection beside it goes on answering.

use std::time::Duration;

use serde_json::{Value, json};
use tandem::provider::{Fault, FaultKind, Limits, Offline, RuntimeConfig, Setup};
use tandem_core::exchange::{Answer, Context, Find, Listing, Operation, Reference, Watch};

use crate::support::{Captured, assert_works, bad, config, connect, good, guest, room, start, to_canonical};

/// Loads a guest beside the ledger, in one lane with it; lets it misbehave; looks at what is left.
async fn fault_of(name: &str, provider: &str, limits: Limits) -> Fault {
    let providers = room(&RuntimeConfig { lanes: Some(1), limits, ..config() }, &["ledger", name]);
    let neighbour = connect(&providers, "neighbour", "ledger").await;
    let culprit = connect(&providers, "culprit", provider).await;
    assert_works(&providers, &neighbour).await;
    assert_works(&providers, &culprit).await;
    let before = providers.snapshot();

    let fault = to_canonical(&providers, &culprit, bad()).await.expect_err("it misbehaves");
    assert!(fault.provider.starts_with(&format!("{provider}@0.1.0#")), "{fault}");
    assert_eq!(fault.call, "to-canonical");
    assert!(!fault.to_string().contains("eve@example.com"), "no record content: {fault}");

    let after = providers.snapshot();
    assert_eq!(after.discarded, before.discarded + 1, "the instance is gone");
    assert_eq!(after.faults_of(fault.kind.label()), before.faults_of(fault.kind.label()) + 1);
    assert_works(&providers, &neighbour).await;
    assert_works(&providers, &culprit).await;
    let healed = providers.snapshot();
    assert_eq!(
        healed.created,
        after.created + 1,
        "the culprit got a fresh instance, the neighbour kept its own"
    );
    fault
}

fn limits() -> Limits {
    Limits { deadline: Duration::from_millis(30), ..Limits::default() }
}

#[tokio::test]
async fn a_guest_that_spins_is_stopped_at_its_deadline() {
    let fault = fault_of("spin", "spin", limits()).await;
    assert_eq!(fault.kind, FaultKind::Deadline { limit_ms: 30 });
}

#[tokio::test]
async fn a_guest_that_makes_progress_too_slowly_is_stopped_as_well() {
    let fault = fault_of("slow", "slow", limits()).await;
    assert_eq!(fault.kind, FaultKind::Deadline { limit_ms: 30 });
}

#[tokio::test]
async fn a_guest_that_eats_memory_is_told_its_limit() {
    let limits = Limits { memory_bytes: 16 << 20, deadline: Duration::from_secs(20), ..Limits::default() };
    let fault = fault_of("eat_memory", "eat-memory", limits).await;
    assert_eq!(fault.kind, FaultKind::Memory { limit_bytes: 16 << 20 });
}

#[tokio::test]
async fn a_guest_that_recurses_overflows_its_own_stack_only() {
    let fault = fault_of("deep_recursion", "deep-recursion", Limits::default()).await;
    let FaultKind::Trap { what } = &fault.kind else { panic!("{fault}") };
    assert!(what.contains("stack of 524288 bytes overflowed"), "{fault}");
}

#[tokio::test]
async fn a_guest_that_panics_says_where_and_not_with_which_words() {
    let fault = fault_of("trap", "trap", Limits::default()).await;
    let FaultKind::Trap { what } = &fault.kind else { panic!("{fault}") };
    assert!(what.contains("unreachable") && what.contains("trap.rs:"), "{fault}");
    assert!(!what.contains("PRIVATE-VALUE"), "{fault}");
}

#[test]
fn an_author_at_work_sees_the_whole_of_stderr() {
    let mut offline =
        Offline::load(&guest("trap"), &Setup::default()).unwrap_or_else(|error| panic!("{error}"));
    let document = bad().to_string().into_bytes();
    let fault =
        offline.provider().expect("an instance").to_canonical("contact", &document).expect_err("it panics");
    assert!(fault.to_string().contains("cannot do anything with the value PRIVATE-VALUE"), "{fault}");
    let good = good().to_string().into_bytes();
    let answer =
        offline.provider().expect("a fresh instance").to_canonical("contact", &good).expect("it works");
    assert_eq!(answer, Ok(good));
}

#[tokio::test]
async fn a_guest_that_answers_with_too_much_is_cut_off() {
    // Making that much takes a busy machine longer than a call usually may.
    let patient = Limits { deadline: Duration::from_secs(20), ..Limits::default() };
    let fault = fault_of("too_much", "too-much", patient.clone()).await;
    let FaultKind::Output { what } = &fault.kind else { panic!("{fault}") };
    assert!(what.contains("a document of") && what.contains("262144"), "{fault}");

    let little = Limits { copied_bytes: 4 << 20, ..patient };
    let fault = fault_of("too_much", "too-much", little).await;
    assert_eq!(fault.kind, FaultKind::Output { what: "more than 4194304 bytes in one call".to_owned() });
}

#[tokio::test]
async fn a_request_bears_only_the_secrets_that_are_declared_for_its_operation() {
    let providers = room(&config(), &["borrows_secret"]);
    let connection = connect(&providers, "culprit", "borrows-secret").await;
    let watch = || {
        Operation::Watch(Watch {
            callback: "https://tandem.example/hooks".into(),
            objects: vec!["contact".into()],
            channel: None,
            active: true,
        })
    };
    let read = Operation::Read(Reference { object: "contact".into(), id: "1".into() });
    let find = Operation::Find(Find { object: "contact".into(), key: None, identity: Vec::new() });
    assert!(matches!(start(&providers, &connection, watch()).await, Ok(Answer::Send(_))));
    for (operation, word, place) in
        [(read, "read", "/hooks/0/password of the body"), (find, "find", "the header x-hook")]
    {
        let fault = start(&providers, &connection, operation).await.expect_err("it is not sent");
        let FaultKind::Output { what } = &fault.kind else { panic!("{fault}") };
        for part in [
            &format!("for the operation {word}"),
            "the secret hook",
            place,
            "borrows-secret@0.1.0",
            &format!("/secrets/{word}"),
        ] {
            assert!(what.contains(part), "{part}: {fault}");
        }
    }
}

#[tokio::test]
async fn listings_without_end_and_notes_without_measure_are_cut_off() {
    let providers = room(&config(), &["too_much", "rubbish"]);
    let culprit = connect(&providers, "culprit", "too-much").await;
    let listing = || Listing { object: "contact".into(), cursor: None, limit: 100 };
    let rows = start(&providers, &culprit, Operation::Walk(listing())).await.expect_err("too many rows");
    assert!(rows.to_string().contains("20000 rows, more than its 10000"), "{rows}");
    let keep =
        start(&providers, &culprit, Operation::Changes(listing())).await.expect_err("too much to keep");
    assert!(keep.to_string().contains("bytes to keep of 17408 bytes, more than its 16384"), "{keep}");

    let culprit = connect(&providers, "other", "rubbish").await;
    for (word, says) in [("cursor", "a cursor of 66560 bytes"), ("note", "a note of 66560 bytes")] {
        let fault =
            start(&providers, &culprit, Operation::Other(word.into(), Vec::new())).await.expect_err(word);
        assert!(fault.to_string().contains(says), "{fault}");
    }
}

#[tokio::test]
async fn documents_that_are_none_are_faults_and_are_not_quoted() {
    let providers = room(&config(), &["rubbish"]);
    let culprit = connect(&providers, "culprit", "rubbish").await;
    let cases = [
        ("not-json", "not JSON"),
        ("array", "not a JSON object"),
        ("trailing", "not JSON"),
        ("no-problem", "a refusal without a problem"),
    ];
    for (kind, says) in cases {
        let fault = to_canonical(&providers, &culprit, json!({ "kind": kind })).await.expect_err(kind);
        assert_eq!(fault.kind.label(), "output", "{kind}: {fault}");
        assert!(fault.to_string().contains(says), "{kind}: {fault}");
        assert!(!fault.to_string().contains("PRIVATE-VALUE"), "{fault}");
        assert_works(&providers, &culprit).await;
    }
}

#[tokio::test]
async fn what_is_wrong_inside_of_a_document_is_the_records_and_no_fault() {
    let providers = room(&config(), &["rubbish"]);
    let c = connect(&providers, "c", "rubbish").await;
    for kind in ["not-utf8", "surrogate", "deep", "twice"] {
        let document = json!({ "kind": kind }).to_string().into_bytes();
        let made = providers.visit(&c, move |provider| provider.to_canonical("contact", &document)).await;
        let made = made.unwrap_or_else(|fault| panic!("{kind}: {fault}")).expect("mapped");
        assert!(tandem_core::document::parse(&made).is_err(), "{kind}: whoever reads it finds it");
    }
}

#[tokio::test]
async fn requests_that_may_not_be_sent_are_faults() {
    let providers = room(&config(), &["rubbish"]);
    let culprit = connect(&providers, "culprit", "rubbish").await;
    let cases = [
        ("method", "method"),
        ("path", "neither a path"),
        ("double-slash", "neither a path"),
        ("url", "neither a path"),
        ("authorization", "sets the header authorization"),
        ("split", "a header that is no header"),
        ("facts", "facts that is not a JSON object"),
    ];
    for (word, says) in cases {
        let fault =
            start(&providers, &culprit, Operation::Other(word.into(), Vec::new())).await.expect_err(word);
        assert_eq!(fault.kind.label(), "output", "{word}: {fault}");
        assert!(fault.to_string().contains(says), "{word}: {fault}");
        assert!(!fault.to_string().contains("stolen"), "{fault}");
    }
}

#[tokio::test]
async fn after_a_fault_the_rest_of_a_visit_answers_with_that_fault() {
    let providers = room(&config(), &["trap"]);
    let culprit = connect(&providers, "culprit", "trap").await;
    let (first, second, third) = providers
        .visit(&culprit, |provider| {
            let (bad, good) = (bad().to_string().into_bytes(), good().to_string().into_bytes());
            let first = provider.to_canonical("contact", &good);
            let second = provider.to_canonical("contact", &bad);
            let third = provider.to_canonical("contact", &good);
            Ok((first, second, third))
        })
        .await
        .expect("the job itself is well");
    assert!(first.is_ok());
    let fault = second.expect_err("it panics");
    assert_eq!(third.expect_err("the instance is spoilt"), fault);
    assert_works(&providers, &culprit).await;
}

#[tokio::test]
async fn sleeping_takes_no_time() {
    let providers = room(&config(), &["sleep"]);
    let sleeper = connect(&providers, "sleeper", "sleep").await;
    let answer = tokio::time::timeout(Duration::from_secs(60), to_canonical(&providers, &sleeper, bad()));
    let answer = answer.await.expect("an hour's sleep is over at once").expect("and it goes on");
    assert!(answer.contains("eve@example.com"));
}

#[test]
fn a_flood_in_the_log_is_cut_cleaned_and_counted() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let limits = Limits { deadline: Duration::from_secs(20), ..Limits::default() };
        let mut offline =
            Offline::load_with(&guest("flood_log"), &Setup::default(), &crate::support::engine(), limits)
                .unwrap_or_else(|error| panic!("{error}"));
        let document = bad().to_string().into_bytes();
        let answer =
            offline.provider().expect("an instance").to_canonical("contact", &document).expect("it answers");
        assert!(answer.is_ok());
    });
    let text = captured.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("tandem::guest")).collect();
    assert!(!lines.is_empty() && lines.len() <= 18, "{} lines of 20,000", lines.len());
    assert!(lines.iter().map(|line| line.len()).sum::<usize>() < 80 << 10);
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "no control characters");
    assert!(!lines.iter().any(|line| line.starts_with("forged")), "one message, one line");
}

#[tokio::test]
async fn a_guest_sees_the_time_that_it_is_told_and_nothing_of_the_machine() {
    let providers = room(&config(), &["looks_around"]);
    let facts = async |connection: &str| -> Value {
        let connection = connect(&providers, connection, "looks-around").await;
        let context = Context { now: 1_700_000_000_123, attributes: Vec::new() };
        let reply = providers.visit(&connection, move |provider| provider.start(&Operation::Probe, &context));
        let Answer::Facts(facts) = reply.await.unwrap_or_else(|fault| panic!("{fault}")).answer else {
            panic!()
        };
        serde_json::from_slice(&facts).expect("JSON")
    };
    let one = facts("one").await;
    assert_eq!(one["wall"], 1_700_000_000_123_u64);
    assert_eq!(one["elapsed"], 0, "no time passes during a call");
    assert_eq!(one["environment"], json!([]));
    assert_eq!(one["arguments"], json!([]));
    for nothing in ["root", "passwd", "written"] {
        assert_eq!(one[nothing], false, "{nothing}");
    }
    assert_eq!(facts("two").await, one, "another fresh instance sees the very same, hash order included");
}
