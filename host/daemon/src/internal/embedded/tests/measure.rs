//! Figures, for people: `cargo test -p tandem --lib embedded::tests::measure -- --ignored --nocapture`. They judge nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Api;
use super::open;
use crate::internal::embedded::Embedded;
use crate::internal::{Expected, Internal, Outcome, Write};

const SPAN: Duration = Duration::from_secs(4);

/// A contact of 20 fields, about 1 KB.
fn contact(number: u64) -> Value {
    json!({
        "email": format!("person-{number}@example.test"), "given_name": "Ada", "family_name": "Lovelace",
        "phone": "+44 20 7946 0000", "mobile_phone": "+44 7700 900000", "job_title": "Countess of computing",
        "company_name": "Analytical Engines Ltd", "website": "https://analytical.example", "street": "12 St James's Square",
        "city": "London", "region": "Greater London", "postal_code": "SW1Y 4JH", "country": "United Kingdom",
        "language": "en-GB", "lifecycle_stage": "customer", "date_of_birth": "1815-12-10", "annual_revenue": "1234567.89",
        "employees": number, "notes": "n".repeat(400), "tags": ["vip", "maths"],
    })
}

async fn creates(store: &Embedded, writers: u64, span: Duration, base: u64) -> (u64, Duration) {
    let began = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut number = base + writer;
                while began.elapsed() < span {
                    let write = Write {
                        scope: format!("s{}", number % 100).into(),
                        object: "contact".into(),
                        id: format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).into(),
                        expected: Expected::Absent,
                        document: Some(contact(number)),
                        origin: "measure".into(),
                    };
                    assert!(matches!(store.write_if(write).await.unwrap(), Outcome::Written(_)));
                    done.fetch_add(1, Ordering::Relaxed);
                    number += writers;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (done.load(Ordering::Relaxed), began.elapsed())
}

fn rate(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn figures() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut total = 0;
    for (round, writers) in [1, 64, 512].into_iter().enumerate() {
        let commits = store.counters().commits.load(Ordering::Relaxed);
        let (count, span) = creates(&store, writers, SPAN, (round as u64 + 1) << 40).await;
        let commits = store.counters().commits.load(Ordering::Relaxed) - commits;
        println!(
            "durable creates, {writers} writers: {:.0}/s, {:.1} a commit",
            rate(count, span),
            count as f64 / commits as f64
        );
        total += count;
    }
    let bytes: u64 = std::fs::metadata(folder.path().join("db")).unwrap().len();
    println!("{total} records, {} bytes of files each", bytes / total);

    let began = Instant::now();
    let mut reads = 0_u64;
    while began.elapsed() < SPAN {
        for number in 0..1000_u64 {
            let number = (3 << 40) + number;
            let id = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let scope = format!("s{}", number % 100);
            assert!(store.read(&scope.into(), &"contact".into(), &id.into()).await.unwrap().is_some());
            reads += 1;
        }
    }
    println!("reads by the seam, one reader: {:.0}/s", rate(reads, began.elapsed()));

    let began = Instant::now();
    let (mut cursor, mut walked) = (None, 0_u64);
    loop {
        let page = store.changes(cursor.as_deref(), 1000).await.unwrap();
        if page.changes.is_empty() {
            break;
        }
        walked += page.changes.len() as u64;
        cursor = Some(page.cursor);
    }
    println!("walk over {walked} records: {:.0}/s", rate(walked, began.elapsed()));
    drop(store);
    let began = Instant::now();
    let store = open(folder.path());
    println!("open with {total} records: {} ms", began.elapsed().as_millis());

    // From the acknowledgement's own moment to the feed: a follower beside 64 writers.
    let head = store.changes(cursor.as_deref(), 1).await.unwrap().cursor;
    let follower = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut cursor, mut lags) = (head, Vec::new());
            let began = Instant::now();
            while began.elapsed() < SPAN {
                if tokio::time::timeout(SPAN, store.wait(Some(&cursor))).await.is_err() {
                    break;
                }
                let page = store.changes(Some(&cursor), 1000).await.unwrap();
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                let now = u64::try_from(now.as_millis()).unwrap();
                lags.extend(page.changes.iter().map(|change| now.saturating_sub(change.at)));
                cursor = page.cursor;
            }
            lags.sort_unstable();
            lags
        }
    });
    creates(&store, 64, SPAN, 9 << 40).await;
    let lags = follower.await.unwrap();
    let at = |share: usize| lags[(lags.len() - 1) * share / 1000];
    println!("feed lag after being decided, {} changes: p50 {} ms, p99 {} ms", lags.len(), at(500), at(990));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn figures_of_the_batch() {
    let api = Api::start().await;
    let lines = 20_000_u64;
    let mut connection = api
        .open("POST", "/v1/scopes/acme/contact/batch", &[("content-type", "application/x-ndjson")], None)
        .await;
    let began = Instant::now();
    for block in 0..lines / 100 {
        let mut text = String::new();
        for number in block * 100..(block + 1) * 100 {
            let line = json!({"op": "upsert", "id": number.to_string(), "document": contact(number)});
            text.push_str(&line.to_string());
            text.push('\n');
        }
        connection.chunk(text.as_bytes()).await;
    }
    connection.chunk(b"").await;
    let answer = connection.answer().await;
    assert_eq!(answer.text().lines().filter(|line| line.contains("\"status\":201")).count() as u64, lines);
    println!("NDJSON intake, one connection: {:.0}/s", rate(lines, began.elapsed()));
}
