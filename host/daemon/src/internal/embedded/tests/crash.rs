//! SIGKILL: a child process writes and says what was acknowledged; it is killed; everything that it said is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::open;
use crate::internal::{Expected, Internal, Outcome, Write};

/// Where the child finds its store.
const STORE: &str = "TANDEM_TEST_STORE";
/// Which round it is, so that ids do not meet.
const ROUND: &str = "TANDEM_TEST_ROUND";
const WRITERS: usize = 8;

/// The child: writes without end, and prints each acknowledgement.
#[test]
#[ignore = "a part of the test below, which runs it in a process of its own"]
fn child() {
    let (Ok(path), Ok(round)) = (std::env::var(STORE), std::env::var(ROUND)) else { return };
    say("opening");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&path));
        say("opened");
        let writers = (0..WRITERS).map(|writer| {
            let (store, round) = (store.clone(), round.clone());
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let id = format!("{round}-{writer}-{}", number / 3);
                    // Created, changed, and every other one deleted.
                    let (expected, document) = match number % 3 {
                        0 => (Expected::Absent, Some(json!({ "employees": number }))),
                        _ => {
                            let now = store
                                .read(&"s".into(), &"contact".into(), &id.as_str().into())
                                .await
                                .unwrap()
                                .unwrap();
                            let document = json!({ "employees": number, "notes": "n".repeat(700) });
                            let keep = number % 3 == 1 || number % 6 == 5;
                            (Expected::Version(now.version), keep.then_some(document))
                        }
                    };
                    let wrote = document.as_ref().map_or(-1, |_| i64::try_from(number).unwrap());
                    let write = Write {
                        scope: "s".into(),
                        object: "contact".into(),
                        id: id.as_str().into(),
                        expected,
                        document,
                        origin: "child".into(),
                    };
                    match store.write_if(write).await.unwrap() {
                        Outcome::Written(record) => say(&format!("ack {id} {} {wrote}", record.version)),
                        other => panic!("{other:?}"),
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    // How many acknowledgements are seen before the kill; 0: while it opens.
    for (round, patience) in [1, 40, 0, 333, 7, 1200, 0, 90].into_iter().enumerate() {
        let name = format!("{}::child", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name.as_str(), "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(STORE, folder.path())
            .env(ROUND, round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let mut opening = false;
        let mut killed = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // The harness prints on the same line as the child begins.
            opening |= line.ends_with("opening");
            if let Some(rest) = line.strip_prefix("ack ") {
                let mut words = rest.split(' ');
                let (Some(id), Some(version), Some(wrote)) = (words.next(), words.next(), words.next())
                else {
                    continue;
                };
                let (version, wrote) = (version.parse().unwrap(), wrote.parse().unwrap());
                acknowledged.insert(id.to_owned(), (version, wrote));
                seen += 1;
            }
            if !killed && opening && seen >= patience {
                child.kill().unwrap();
                killed = true;
            }
        }
        let status = child.wait().unwrap();
        assert!(killed && !status.success(), "round {round}: it ended by itself: {status}");
        assert!(seen >= patience);

        let store = open(folder.path());
        let mut later = 0;
        for (id, (version, wrote)) in &acknowledged {
            let record = store
                .read(&"s".into(), &"contact".into(), &id.as_str().into())
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("round {round}: {id} is lost"));
            assert!(record.version >= *version, "round {round}: {id} went back");
            if record.version == *version {
                let found = record.document.map_or(-1, |document| document["employees"].as_i64().unwrap());
                assert_eq!(found, *wrote, "round {round}: {id}");
            } else {
                later += 1;
            }
        }
        // Written and not yet acknowledged: at most what was under way in each round's end.
        assert!(later <= WRITERS * (round + 1), "round {round}: {later}");
        let mut fed: BTreeMap<String, u64> = BTreeMap::new();
        let mut cursor = Some(crate::internal::embedded::Cursor::Feed { after: 0 }.encode());
        loop {
            let page = store.changes(cursor.as_deref(), 500).await.unwrap();
            if page.changes.is_empty() {
                break;
            }
            for change in page.changes {
                fed.insert(change.id.to_string(), change.version);
            }
            cursor = Some(page.cursor);
        }
        for (id, (version, _)) in &acknowledged {
            assert!(fed.get(id).is_some_and(|fed| fed >= version), "round {round}: the feed misses {id}");
        }
    }
}
