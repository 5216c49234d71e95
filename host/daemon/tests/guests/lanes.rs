//! Many connections in few lanes: nobody sees another's state, nobody waits for another's faults, memory is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tandem::provider::{BreakerConfig, FaultKind, Limits, Provider, Providers, RuntimeConfig, Setup};
use tandem_core::exchange::Operation;
use tandem_core::id::{ConnectionId, ProviderId};

use crate::support::{
    assert_works, bad, config, connect, connect_with, good, room, start, to_canonical, until,
};

/// Connections `c0`, `c1`, … of the ledger, each with its own greeting.
async fn many(providers: &Providers, count: usize) -> Vec<ConnectionId> {
    let wanted = (0..count)
        .map(|n| {
            let settings = json!({ "greeting": format!("{n}: ") });
            (
                ConnectionId::from(format!("c{n}")),
                ProviderId::from("ledger"),
                Setup { settings, facts: Value::Null },
            )
        })
        .collect();
    let views = providers.connect_all(wanted).await;
    assert!(views.iter().all(Result::is_ok), "{views:?}");
    (0..count).map(|n| ConnectionId::from(format!("c{n}"))).collect()
}

async fn greeting(providers: &Providers, connection: &ConnectionId) -> String {
    let answer = providers
        .visit(connection, |provider| provider.to_provider("contact", br#"{"notes":""}"#, None))
        .await;
    let document: Value =
        serde_json::from_slice(&answer.unwrap_or_else(|fault| panic!("{fault}")).expect("mapped"))
            .expect("JSON");
    document["notes"].as_str().expect("a note").to_owned()
}

#[tokio::test]
async fn what_one_connection_sees_no_other_does() {
    let providers = room(&RuntimeConfig { lanes: Some(1), ..config() }, &["keeps_state"]);
    let (a, b) =
        (connect(&providers, "a", "keeps-state").await, connect(&providers, "b", "keeps-state").await);
    for n in 1..=3 {
        let answer = to_canonical(&providers, &a, bad()).await.expect("an answer");
        assert!(answer.contains(&format!("call {n}")), "a's own instance keeps a's state: {answer}");
    }
    let answer = to_canonical(&providers, &b, bad()).await.expect("an answer");
    assert!(answer.contains("call 1"), "b's instance is its own: {answer}");
}

#[tokio::test]
async fn the_cache_is_bounded_by_bytes_and_what_was_evicted_comes_back_configured() {
    // A ledger takes between one and two MiB; eight MiB hold a few, not forty.
    let small = RuntimeConfig { lanes: Some(1), warm_bytes: 8 << 20, ..config() };
    let providers = room(&small, &["ledger"]);
    let connections = many(&providers, 40).await;
    for round in 0..2 {
        for (n, connection) in connections.iter().enumerate() {
            assert_eq!(greeting(&providers, connection).await, format!("{n}: "), "round {round}");
            assert!(providers.snapshot().instance_bytes <= 8 << 20);
        }
    }
    until("the lane to have counted", || providers.snapshot().visits == 80).await;
    let snapshot = providers.snapshot();
    assert!((2..=8).contains(&snapshot.instances), "{snapshot:?}");
    assert!(snapshot.evicted >= 70, "{snapshot:?}");

    let one = &connections[39];
    let created = providers.snapshot().created;
    for _ in 0..10 {
        assert_eq!(greeting(&providers, one).await, "39: ");
    }
    assert_eq!(providers.snapshot().created, created, "what is used stays");
}

#[tokio::test]
async fn the_cache_is_bounded_by_number_too() {
    let small = RuntimeConfig { lanes: Some(1), warm_instances: 3, ..config() };
    let providers = room(&small, &["ledger"]);
    for (n, connection) in many(&providers, 10).await.iter().enumerate() {
        assert_eq!(greeting(&providers, connection).await, format!("{n}: "));
    }
    assert_eq!(providers.snapshot().instances, 3);
}

#[tokio::test]
async fn instances_are_replaced_after_their_calls_and_above_their_memory() {
    let providers = room(
        &RuntimeConfig { limits: Limits { calls: 8, ..Limits::default() }, lanes: Some(1), ..config() },
        &["ledger"],
    );
    let c = connect(&providers, "c", "ledger").await;
    for _ in 0..40 {
        assert_works(&providers, &c).await;
    }
    let retired = providers.snapshot().retired;
    assert!((3..=8).contains(&retired), "{retired} of 40 visits with 6 to 10 calls for each instance");

    // The ledger begins with more than an eighth of 8 MiB.
    let limits = Limits { memory_bytes: 8 << 20, memory_mark_percent: 12, ..Limits::default() };
    let providers = room(&RuntimeConfig { limits, lanes: Some(1), ..config() }, &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    for _ in 0..5 {
        assert_works(&providers, &c).await;
    }
    assert_eq!(providers.snapshot().retired, 5);
}

const HOUR: Duration = Duration::from_secs(3600);

fn quick_breaker() -> BreakerConfig {
    BreakerConfig {
        faults: 3,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(2),
        suspect_for: Duration::from_millis(10),
    }
}

#[tokio::test]
async fn the_breaker_opens_after_faults_in_a_row_answers_at_once_and_closes_again() {
    let providers = room(&RuntimeConfig { breaker: quick_breaker(), ..config() }, &["trap", "ledger"]);
    let culprit = connect(&providers, "culprit", "trap").await;
    let same_provider = connect(&providers, "same-provider", "trap").await;
    for _ in 0..2 {
        let fault = to_canonical(&providers, &culprit, bad()).await.expect_err("it panics");
        assert_eq!(fault.kind.label(), "trap");
        assert_works(&providers, &culprit).await;
    }
    for _ in 0..3 {
        to_canonical(&providers, &culprit, bad()).await.expect_err("it panics");
    }
    let calls = |providers: &Providers| providers.snapshot().calls.iter().map(|call| call.count).sum::<u64>();
    let before = calls(&providers);
    let fault = to_canonical(&providers, &culprit, good()).await.expect_err("out of use");
    let FaultKind::Broken { faults, wait_ms } = fault.kind else { panic!("{fault}") };
    assert!(faults == 3 && wait_ms <= 1_000, "{fault}");
    assert_eq!(calls(&providers), before, "nothing was called");
    assert_eq!(providers.snapshot().breakers_open, 1);
    assert_works(&providers, &same_provider).await;

    // After its wait one visit may try; it faults, and the wait begins anew.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let retry = async || loop {
        assert!(std::time::Instant::now() < deadline, "the breaker never lets a visit try");
        match to_canonical(&providers, &culprit, bad()).await.expect_err("it never answers").kind {
            FaultKind::Broken { wait_ms, .. } => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
            other => return other,
        }
    };
    assert_eq!(retry().await.label(), "trap");
    assert_eq!(
        to_canonical(&providers, &culprit, good()).await.expect_err("open again").kind.label(),
        "broken"
    );
    // And the next one finds it mended.
    loop {
        assert!(std::time::Instant::now() < deadline, "the breaker never closes");
        match to_canonical(&providers, &culprit, good()).await {
            Ok(_) => break,
            Err(fault) => {
                let FaultKind::Broken { wait_ms, .. } = fault.kind else { panic!("{fault}") };
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    }
    assert_eq!(providers.snapshot().breakers_open, 0);
    assert_works(&providers, &culprit).await;
}

#[tokio::test]
async fn exchanges_that_begin_well_do_not_keep_the_breaker_from_opening() {
    let providers = room(&RuntimeConfig { breaker: quick_breaker(), ..config() }, &["trap"]);
    let c = connect(&providers, "c", "trap").await;
    for _ in 0..3 {
        start(&providers, &c, Operation::Probe).await.expect("it begins");
        let fault = to_canonical(&providers, &c, bad()).await.expect_err("it panics");
        assert_eq!(fault.kind.label(), "trap");
    }
    let fault = start(&providers, &c, Operation::Probe).await.expect_err("out of use");
    assert_eq!(fault.kind.label(), "broken");
    let why = providers.why_broken(&c).expect("it is out of use");
    assert!(why.contains("to-canonical: trapped"), "{why}");
}

#[tokio::test]
async fn a_page_that_fails_at_its_last_record_failed() {
    let providers = room(&RuntimeConfig { breaker: quick_breaker(), ..config() }, &["trap"]);
    let c = connect(&providers, "c", "trap").await;
    for _ in 0..3 {
        let page = [good(), good(), bad()].map(|document| document.to_string().into_bytes());
        let map_all = move |provider: &mut dyn Provider| {
            page.iter().try_for_each(|document| provider.to_canonical("contact", document).map(drop))
        };
        let fault = providers.visit(&c, map_all).await.expect_err("it panics at the last");
        assert_eq!(fault.kind.label(), "trap");
    }
    assert_eq!(to_canonical(&providers, &c, good()).await.expect_err("out of use").kind.label(), "broken");
}

#[tokio::test]
async fn new_settings_begin_with_a_closed_breaker() {
    let once = BreakerConfig { faults: 1, first: HOUR, longest: HOUR, suspect_for: HOUR };
    let providers = room(&RuntimeConfig { breaker: once, ..config() }, &["trap"]);
    let c = connect(&providers, "c", "trap").await;
    to_canonical(&providers, &c, bad()).await.expect_err("it panics");
    assert_eq!(to_canonical(&providers, &c, good()).await.expect_err("open").kind.label(), "broken");
    connect(&providers, "c", "trap").await;
    assert_eq!(to_canonical(&providers, &c, good()).await.expect_err("the same use").kind.label(), "broken");
    connect_with(&providers, "c", "trap", json!({ "greeting": "new" })).await.expect("other settings");
    assert_works(&providers, &c).await;
}

#[tokio::test]
async fn a_spinning_guest_costs_its_neighbours_one_deadline_and_not_one_for_each_visit() {
    let breaker =
        BreakerConfig { faults: 5, suspect_for: Duration::from_secs(60), ..BreakerConfig::default() };
    let limits = Limits { deadline: Duration::from_millis(30), ..Limits::default() };
    let providers = room(&RuntimeConfig { lanes: Some(1), breaker, limits, ..config() }, &["ledger", "spin"]);
    let neighbour = connect(&providers, "neighbour", "ledger").await;
    let culprit = connect(&providers, "culprit", "spin").await;
    let spinning: Vec<_> = (0..20)
        .map(|_| {
            let (providers, culprit) = (providers.clone(), culprit.clone());
            tokio::spawn(async move {
                to_canonical(&providers, &culprit, bad()).await.map_err(|fault| fault.kind)
            })
        })
        .collect();
    for _ in 0..50 {
        assert_works(&providers, &neighbour).await;
    }
    let mut deadlines = 0;
    for visit in spinning {
        match visit.await.expect("it ran").expect_err("it spins") {
            FaultKind::Deadline { .. } => deadlines += 1,
            FaultKind::Broken { .. } => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(deadlines, 5, "then the breaker is open");
    let snapshot = providers.snapshot();
    assert!(snapshot.rerouted >= 15, "what waited in the neighbour's lane was passed on: {snapshot:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_do_not_notice_the_misbehaving_ones_beside_them() {
    let limits = Limits { deadline: Duration::from_millis(200), memory_bytes: 16 << 20, ..Limits::default() };
    let breaker = BreakerConfig { faults: 3, ..BreakerConfig::default() };
    let guests =
        ["ledger", "spin", "eat_memory", "trap", "deep_recursion", "too_much", "rubbish", "flood_log"];
    let providers = room(&RuntimeConfig { limits, breaker, ..config() }, &guests);
    let good_ones = many(&providers, 100).await;
    let faults = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for provider in ["spin", "eat-memory", "trap", "deep-recursion", "too-much"] {
        let (providers, faults) = (providers.clone(), Arc::clone(&faults));
        let culprit = connect(&providers, provider, provider).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                to_canonical(&providers, &culprit, bad()).await.expect_err("it misbehaves");
                faults.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for (n, connection) in good_ones.into_iter().enumerate() {
        let providers = providers.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                assert_eq!(greeting(&providers, &connection).await, format!("{n}: "));
            }
        }));
    }
    for task in tasks {
        task.await.expect("no error");
    }
    assert_eq!(faults.load(Ordering::Relaxed), 50);
    until("the last visit to be counted", || providers.snapshot().waiting == 0).await;
}

#[tokio::test]
async fn other_settings_take_effect_with_the_next_visit() {
    let providers = room(&config(), &["ledger"]);
    let c = connect_with(&providers, "c", "ledger", json!({ "greeting": "old " })).await.expect("connected");
    assert_eq!(greeting(&providers, &c).await, "old ");
    let before = providers.digests(&c).expect("connected");
    connect_with(&providers, "c", "ledger", json!({ "greeting": "new " })).await.expect("connected again");
    assert_eq!(greeting(&providers, &c).await, "new ");
    let after = providers.digests(&c).expect("connected");
    assert_eq!((before[0], before[2]), (after[0], after[2]), "the component and the facts are the same");
    assert_ne!(before[1], after[1]);
    // Settings that are refused change nothing.
    connect_with(&providers, "c", "ledger", json!({ "refuse": true })).await.expect_err("refused");
    assert_eq!(greeting(&providers, &c).await, "new ");
}

#[tokio::test]
async fn a_connection_that_was_taken_out_is_absent() {
    let providers = room(&config(), &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    assert_works(&providers, &c).await;
    providers.disconnect(&c);
    assert_eq!(to_canonical(&providers, &c, good()).await.expect_err("gone").kind.label(), "absent");
    assert!(providers.view(&c).is_err());
    until("its instance to go", || providers.snapshot().instances == 0).await;
    assert_eq!(providers.snapshot().connections, 0);
}

#[tokio::test]
async fn a_visit_that_nobody_waits_for_is_not_run_and_a_job_that_panics_stops_no_lane() {
    let providers = room(&RuntimeConfig { lanes: Some(1), ..config() }, &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let holding = {
        let (providers, c) = (providers.clone(), c.clone());
        tokio::spawn(async move { providers.visit(&c, move |_| Ok(wait.recv().is_ok())).await })
    };
    until("the lane to be held", || providers.snapshot().visits == 1).await;
    let ran = Arc::new(AtomicU64::new(0));
    {
        let ran = Arc::clone(&ran);
        let visit = providers.visit(&c, move |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), visit).await.is_err(), "the lane is held");
    }
    go.send(()).expect("the visit waits");
    assert_eq!(holding.await.expect("it ran"), Ok(true));
    let panicked = providers.visit(&c, |_| -> Result<(), _> { panic!("the host's own mistake") }).await;
    assert_eq!(panicked.expect_err("no answer").kind.label(), "absent");
    assert_works(&providers, &c).await;
    assert_eq!(ran.load(Ordering::Relaxed), 0, "its caller had gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_makes_visitors_wait_and_loses_none() {
    let providers = room(&RuntimeConfig { lanes: Some(1), ..config() }, &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    let visits: Vec<_> = (0..5_000_u32)
        .map(|n| {
            let (providers, c) = (providers.clone(), c.clone());
            tokio::spawn(async move { providers.visit(&c, move |_| Ok(n)).await })
        })
        .collect();
    let mut sum = 0_u64;
    for visit in visits {
        sum += u64::from(visit.await.expect("it ran").expect("an answer"));
    }
    assert_eq!(sum, (0..5_000_u64).sum::<u64>());
}
