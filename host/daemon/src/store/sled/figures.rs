//! Figures, on demand: `cargo test -p tandem --lib figures -- --ignored --nocapture --test-threads 1`. Set TMPDIR to a real disk.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tandem_core::id::{ConnectionId, EntityKey};
use tandem_core::link::{Link, Pair};
use tandem_core::plan::Differs;

use super::super::conformance::{commit_of, hint, run};
use super::super::{Before, Class, Exchanged, HistoryEntry, Moved, Noticed, Op, Store, Until};
use super::{Options, SledStore, codec};

fn link(id: u64) -> Link {
    let mut link = Link::new(
        tandem_core::id::EntityKey {
            scope: "customer-0042".into(),
            object: "contact".into(),
            id: format!("0190a5c2-7d3e-7000-8000-{id:012x}").into(),
        },
        "acme-hubspot".into(),
    );
    link.external = Some(format!("{}", 90_000_000_000 + id).into());
    link.internal_version = Some(id);
    for field in 0..20 {
        let value = json!(format!("value {field} of {id}"));
        link.base.insert(
            format!("/field_{field:02}"),
            Pair { internal: Some(value.clone()), external: Some(value), ..Pair::default() },
        );
    }
    link
}

fn history(link: &Link) -> HistoryEntry {
    let pair = |value: &str| Pair {
        internal: Some(json!(value)),
        external: Some(json!(value)),
        assumed: true,
        given: false,
    };
    HistoryEntry {
        what: "wrote-external".to_owned(),
        why: "to the CRM: /field_03".to_owned(),
        cause: "edit".to_owned(),
        calls: 1,
        delta: vec![Moved {
            field: "/field_03".to_owned(),
            differs: Some(Differs::Internal),
            before: Before::Pair(pair("a")),
            after: Some(pair("b")),
            cut: false,
        }],
        noticed: Some(Noticed {
            work: 1_000_000,
            at: 1_795_392_000_000,
            began: 1_795_392_000_007,
            class: Class::Live,
            hints: 1,
            attempts: 0,
            also: Vec::new(),
            said: None,
            author: None,
        }),
        exchanges: vec![Exchanged {
            operation: "update".to_owned(),
            requests: 1,
            status: 200,
            took_ms: 143,
            answer: "written".to_owned(),
        }],
        ..HistoryEntry::new(link, 1_795_392_000_150, "hubspot@0.1.0#1a2b3c4d".to_owned())
    }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The same by thread, as far as it is worth a line.
fn cpu_by_thread() -> String {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let name = head.rsplit_once('(').unwrap().1.trim_end_matches(|c: char| c.is_ascii_digit());
        *all.entry(name.to_owned()).or_insert(0) += ticks * 10;
    }
    all.retain(|_, ms| *ms > 50);
    format!("{all:?} ms")
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let find = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    format!("{} {}", find("VmRSS"), find("VmHWM")).replace('\t', " ")
}

fn per(total: Duration, count: u64) -> String {
    format!("{:.2} µs", total.as_secs_f64() * 1e6 / count as f64)
}

#[test]
#[ignore = "a measurement"]
fn figures_of_a_link() {
    let link = link(7);
    let rounds = 20_000;
    let mut all = vec![link.clone(); rounds as usize];
    let begun = Instant::now();
    for link in &mut all {
        black_box(codec::pack_link(black_box(link)).unwrap());
    }
    let took = begun.elapsed();
    let packed = codec::pack_link(&mut link.clone()).unwrap();
    assert_eq!(codec::unpack_link(&packed).unwrap(), link);
    println!("a link of 20 fields: {} bytes, packed in {}", packed.len(), per(took, rounds));
    let begun = Instant::now();
    for _ in 0..rounds {
        black_box(codec::unpack_link(black_box(&packed)).unwrap());
    }
    println!("unpacked in {}", per(begun.elapsed(), rounds));
}

#[test]
#[ignore = "a measurement"]
fn figures_of_a_history_entry() {
    /// The first layout, with what it said of the same update.
    #[derive(serde::Serialize)]
    struct First<'a> {
        entity: &'a EntityKey,
        connection: &'a ConnectionId,
        at: u64,
        what: &'a str,
        why: &'a str,
        cause: &'a str,
        provider: &'a str,
        calls: u32,
        delta: Vec<(&'a str, &'a Pair)>,
    }
    let entry = history(&link(7));
    let first = || {
        let delta = entry.delta.iter().filter_map(|moved| Some((&*moved.field, moved.after.as_ref()?)));
        let first = First {
            entity: &entry.entity,
            connection: &entry.connection,
            at: entry.at,
            what: &entry.what,
            why: &entry.why,
            cause: &entry.cause,
            provider: &entry.provider,
            calls: entry.calls,
            delta: delta.collect(),
        };
        let mut payload = entry.weight().to_le_bytes().to_vec();
        serde_json::to_writer(&mut payload, &first).unwrap();
        payload
    };
    let now = || codec::pack_history(black_box(&entry)).unwrap();
    let rounds = 200_000;
    let time = |pack: &dyn Fn() -> Vec<u8>| {
        let begun = Instant::now();
        for _ in 0..rounds {
            black_box(pack());
        }
        per(begun.elapsed(), rounds)
    };
    println!("the first layout: {} bytes, packed in {}", first().len(), time(&first));
    println!("now: {} bytes, packed in {}", now().len(), time(&now));
    let key = super::keys::history(&entry.entity, 1);
    let unpacked = |payload: Vec<u8>| {
        let begun = Instant::now();
        for _ in 0..rounds {
            black_box(codec::unpack_history(&key, black_box(&payload)).unwrap());
        }
        per(begun.elapsed(), rounds)
    };
    println!("unpacked in {}, the first layout in {}", unpacked(now()), unpacked(first()));
}

#[test]
#[ignore = "a measurement"]
fn figures_of_durable_commits() {
    for tasks in [1_u64, 16, 64, 512] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(dir.path(), Options::default()).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (begun, before) = (Instant::now(), cpu());
        let done = runtime.block_on(async {
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..tasks {
                let store = store.clone();
                all.spawn(async move {
                    let (mut done, mut slowest) = (0_u64, Duration::ZERO);
                    let end = Instant::now() + Duration::from_secs(3);
                    while Instant::now() < end {
                        let at = Instant::now();
                        let hint = hint("acme", store.next_seq(), Class::Live, 0, 1);
                        store.commit(commit_of([Op::AddHint(hint)]), Until::Durable).await.unwrap();
                        slowest = slowest.max(at.elapsed());
                        done += 1;
                    }
                    (done, slowest)
                });
            }
            let (mut done, mut slowest) = (0, Duration::ZERO);
            while let Some(outcome) = all.join_next().await {
                let (some, slow) = outcome.unwrap();
                done += some;
                slowest = slowest.max(slow);
            }
            println!("slowest {slowest:?}");
            done
        });
        let took = begun.elapsed();
        println!(
            "durable, {tasks} at once: {:.0} commits/s, each waits {}, CPU {}",
            done as f64 / took.as_secs_f64(),
            per(took * tasks as u32, done),
            per(cpu() - before, done)
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn figures_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), Options::default()).unwrap();
    let records = 200_000_u64;
    let links: Vec<Link> = (0..2000).map(link).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (begun, before) = (Instant::now(), cpu());
    runtime.block_on(async {
        for n in 0..records {
            let hint = hint("acme-hubspot", store.next_seq(), Class::Live, 0, 1);
            let key = hint.key();
            store.commit(commit_of([Op::AddHint(hint)]), Until::Applied).await.unwrap();
            // Spread over 100,000 entities.
            let mut link = links[(n % 2000) as usize].clone();
            link.entity.id = format!("0190a5c2-7d3e-7000-8000-{:012x}", n * 7919 % 100_000).into();
            link.internal_version = Some(n);
            let history = history(&link);
            let ops = [Op::PutLink(link), Op::AddHistory(history), Op::DropHint(key)];
            store.commit(commit_of(ops), Until::Applied).await.unwrap();
        }
    });
    let applied = begun.elapsed();
    println!("{}", cpu_by_thread());
    store.close().unwrap();
    println!(
        "records (hint in, link, history, hint out): {:.0}/s applied, {:.0}/s with all carried into the tree; CPU {} a record",
        records as f64 / applied.as_secs_f64(),
        records as f64 / begun.elapsed().as_secs_f64(),
        per(cpu() - before, records)
    );
    println!("{} MB on disk, {}", store.bytes_on_disk() >> 20, resident());
}

#[test]
#[ignore = "a measurement"]
fn figures_of_a_large_store() {
    let count =
        std::env::var("TANDEM_FIGURES_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000_u64);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SledStore::open(dir.path(), Options::default()).unwrap();
    let begun = Instant::now();
    runtime.block_on(async {
        for n in 0..count {
            let mut hint = hint("acme-hubspot", store.next_seq(), Class::Backfill, 0, n);
            hint.observed = None;
            let ops = [Op::AddHint(hint), Op::PutLink(link(n))];
            store.commit(commit_of(ops), Until::Applied).await.unwrap();
        }
    });
    store.close().unwrap();
    println!(
        "{count} hints and links written in {:?}, {} MB on disk; {}",
        begun.elapsed(),
        store.bytes_on_disk() >> 20,
        resident()
    );
    drop(store);
    for _ in 0..2 {
        let begun = Instant::now();
        let store = SledStore::open(dir.path(), Options::default()).unwrap();
        println!("opened in {:?}; {}", begun.elapsed(), resident());
        let begun = Instant::now();
        let backlog = store.backlog(&"acme-hubspot".into()).unwrap();
        println!("backlog {backlog:?} in {:?}", begun.elapsed());
        let begun = Instant::now();
        let mut after = 0;
        let mut read = 0_u64;
        while read < 100_000.min(count) {
            let hints = store.ready(&"acme-hubspot".into(), Class::Backfill, after, 64).unwrap();
            let Some(last) = hints.last() else { break };
            after = last.seq;
            read += hints.len() as u64;
        }
        println!("{read} hints read in {}, each", per(begun.elapsed(), read));
        let begun = Instant::now();
        let mut found = BTreeMap::new();
        for n in 0..20_000 {
            let wanted = link(n * 7919 % count);
            let read = store.link(&wanted.entity, &wanted.connection).unwrap();
            *found.entry(read.is_some()).or_insert(0_u64) += 1;
        }
        println!(
            "20000 links read at random in {}, each; {found:?}; {}",
            per(begun.elapsed(), 20_000),
            resident()
        );
        run(store.commit(commit_of([Op::PutValue("x".to_owned(), vec![])]), Until::Durable)).unwrap();
    }
}
