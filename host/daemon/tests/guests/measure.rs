//! What things cost. Not a test: `cargo test -p tandem --test guests measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem::provider::{Allocation, EngineConfig, Limits, Offline, Providers, RuntimeConfig, Setup};
use tandem_core::exchange::{Change, Context, Operation, Reference};
use tandem_core::id::{ConnectionId, ProviderId};

use crate::support::{config, engine, guest, room};

fn each(what: &str, times: u32, mut run: impl FnMut()) {
    for _ in 0..times / 10 {
        run();
    }
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..times {
            run();
        }
        best = best.min(began.elapsed() / times);
    }
    println!("{what:<58} {:>9.2} µs", best.as_secs_f64() * 1e6);
}

/// A contact of 20 fields and 524 bytes.
fn contact() -> Vec<u8> {
    let fields = [
        "email",
        "given_name",
        "family_name",
        "phone",
        "mobile",
        "company",
        "job_title",
        "street",
        "city",
        "region",
        "postal_code",
        "country",
        "website",
        "language",
        "birthday",
        "source",
        "annual_revenue",
        "status",
        "tags",
        "notes",
    ];
    let mut map: Map<String, Value> =
        fields.iter().map(|name| ((*name).to_owned(), json!(format!("{name} {}", name.len())))).collect();
    let length = Value::Object(map.clone()).to_string().len();
    if let Some(Value::String(notes)) = map.get_mut("notes") {
        notes.push_str(&"x".repeat(524_usize.saturating_sub(length)));
    }
    Value::Object(map).to_string().into_bytes()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().count()
}

#[test]
#[ignore = "a measurement"]
fn calls() {
    let contact = contact();
    println!("contact: {} bytes", contact.len());
    for (name, allocation) in
        [("on demand", Allocation::OnDemand), ("pooled", Allocation::Pooled { instances: 64 })]
    {
        println!("-- {name}");
        let config = EngineConfig { allocation, ..engine() };
        let began = Instant::now();
        let mut offline = Offline::load_with(
            &guest("ledger"),
            &Setup::default(),
            &config,
            Limits { calls: u32::MAX / 2, ..Limits::default() },
        )
        .unwrap_or_else(|error| panic!("{error}"));
        println!("load, compiled code kept: {:?}", began.elapsed());
        let provider = offline.provider().expect("an instance");
        let change = Change {
            object: "contact".into(),
            origin: "internal".into(),
            before: None,
            after: None,
            changed: Vec::new(),
        };
        each("an almost empty call (decide, no documents)", 20_000, || {
            provider.decide(&change).expect("no fault");
        });
        let context = Context::default();
        let read = Operation::Read(Reference { object: "contact".into(), id: "1".into() });
        each("start of a read", 20_000, || {
            provider.start(&read, &context).expect("no fault");
        });
        each("to-canonical, 20 fields", 10_000, || {
            provider.to_canonical("contact", &contact).expect("no fault").expect("mapped");
        });
        each("to-provider, 20 fields, onto a current document", 10_000, || {
            provider.to_provider("contact", &contact, Some(&contact)).expect("no fault").expect("mapped");
        });
        each("a fresh instance, configured, and the old one dropped", 500, || {
            offline.renew().expect("fresh");
        });
        each("the same and one mapping call", 500, || {
            offline.renew().expect("fresh");
            offline
                .provider()
                .expect("fresh")
                .to_canonical("contact", &contact)
                .expect("no fault")
                .expect("mapped");
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn hubspot() {
    let began = Instant::now();
    let limits = Limits { calls: u32::MAX / 2, ..Limits::default() };
    let mut offline = Offline::load_with(
        &crate::plugins::provider("hubspot"),
        &Setup::default(),
        &EngineConfig::default(),
        limits,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    println!("hubspot: {} bytes, loaded without kept code in {:?}", offline.version().bytes, began.elapsed());
    let example = offline.view().descriptor.examples[0].clone();
    let (document, canonical) =
        (example.document.to_string().into_bytes(), example.canonical.to_string().into_bytes());
    println!("document: {} bytes, canonical: {} bytes", document.len(), canonical.len());
    let provider = offline.provider().expect("an instance");
    each("hubspot: to-canonical", 10_000, || {
        provider.to_canonical("contact", &document).expect("no fault").expect("mapped");
    });
    each("hubspot: to-provider", 10_000, || {
        provider.to_provider("contact", &canonical, Some(&document)).expect("no fault").expect("mapped");
    });
    each("hubspot: a fresh instance, configured", 500, || {
        offline.renew().expect("fresh");
    });
}

async fn visits(
    providers: &Providers,
    connections: &[ConnectionId],
    at_once: usize,
    total: usize,
) -> Duration {
    let contact = contact();
    let began = Instant::now();
    let tasks: Vec<_> = (0..at_once)
        .map(|task| {
            let (providers, contact) = (providers.clone(), contact.clone());
            let mine: Vec<_> = connections.iter().skip(task).step_by(at_once).cloned().collect();
            tokio::spawn(async move {
                for n in 0..total / at_once {
                    let contact = contact.clone();
                    let connection = &mine[n % mine.len()];
                    let visit = providers
                        .visit(connection, move |provider| provider.to_canonical("contact", &contact));
                    visit.await.expect("no fault").expect("mapped");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ran");
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn hops() {
    let providers = room(&config(), &["ledger"]);
    let wanted = (0..2_000)
        .map(|n| (ConnectionId::from(format!("c{n}")), ProviderId::from("ledger"), Setup::default()))
        .collect::<Vec<_>>();
    let connections: Vec<ConnectionId> = wanted.iter().map(|(id, ..)| id.clone()).collect();
    let began = Instant::now();
    assert!(providers.connect_all(wanted).await.iter().all(Result::is_ok));
    println!("connecting 2,000: {:?}", began.elapsed());

    let one = &connections[..1];
    let times = 20_000_u32;
    let began = Instant::now();
    for _ in 0..times {
        providers.visit(&one[0], |_| Ok(())).await.expect("no fault");
    }
    println!("one visitor, an empty visit: {:.2} µs", (began.elapsed() / times).as_secs_f64() * 1e6);
    let jobs: Vec<_> = (0..64)
        .map(|n| {
            let (providers, connection) = (providers.clone(), connections[n].clone());
            tokio::spawn(async move {
                for _ in 0..2_000 {
                    providers.visit(&connection, |_| Ok(())).await.expect("no fault");
                }
            })
        })
        .collect();
    let began = Instant::now();
    for job in jobs {
        job.await.expect("it ran");
    }
    println!("64 visitors, an empty visit: {:.2} µs", began.elapsed().as_secs_f64() * 1e6 / 128_000.0);

    let before = (resident_kib(), mappings());
    visits(&providers, &connections, 64, 2_048).await;
    let warm = providers.snapshot();
    println!(
        "{} warm instances: {} KiB resident and {:.1} mappings each, {} KiB of linear memory each",
        warm.instances,
        (resident_kib() - before.0) / warm.instances,
        (mappings() - before.1) as f64 / warm.instances as f64,
        warm.instance_bytes / 1024 / warm.instances
    );
    for at_once in [1, 8, 64, 256] {
        let total = 40_960;
        let took = visits(&providers, &connections, at_once, total).await;
        println!(
            "2,000 connections, {at_once:>3} visitors, one mapping each: {:>6.2} µs a visit, {:>7.0}/s",
            took.as_secs_f64() * 1e6 / total as f64,
            total as f64 / took.as_secs_f64()
        );
    }
    let created = providers.snapshot().created;
    println!("instances made for these: {}", created - warm.created);

    let cold = RuntimeConfig { warm_instances: 2, ..config() };
    let providers = room(&cold, &["ledger"]);
    let wanted =
        connections.iter().take(200).map(|id| (id.clone(), ProviderId::from("ledger"), Setup::default()));
    assert!(providers.connect_all(wanted.collect()).await.iter().all(Result::is_ok));
    let took = visits(&providers, &connections[..200], 64, 6_400).await;
    println!("every visit a fresh instance: {:.2} µs a visit", took.as_secs_f64() * 1e6 / 6_400.0);
}
