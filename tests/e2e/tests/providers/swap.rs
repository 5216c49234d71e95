//! Swaps under load and under SIGKILL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House};
use tandem_e2e::rest::{WORDS, other_starter, starter};
use tandem_e2e::{Error, until};

use super::load::{Load, all_there};
use super::{SOON, full, house, lead, lines, swapped, word_of};

fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

/// The longest time without a delivery to one of these customers, in milliseconds, before and since a moment: from when the
/// account says that each of its people came.
fn longest_gaps(arrivals: &BTreeMap<String, Vec<i64>>, since: i64) -> (i64, i64) {
    let longest = |wanted: &dyn Fn(i64) -> bool| {
        let gaps = arrivals.values().flat_map(|moments| {
            moments
                .iter()
                .zip(moments.iter().skip(1))
                .filter(|(_, to)| wanted(**to))
                .map(|(from, to)| to - from)
        });
        gaps.max().unwrap_or_default()
    };
    (longest(&|to| to < since), longest(&|to| to >= since))
}

/// The version that a record's stage was mapped by, as its history has it: the label of the one entry that made the person.
async fn mapped_by(house: &House, scope: &str, id: &str) -> Result<String, Error> {
    let told = house.get(&format!("/v1/explain?scope={scope}&object=contact&id={id}")).await?;
    let history = told["history"].as_array().cloned().unwrap_or_default();
    let made: Vec<&str> = history
        .iter()
        .filter(|entry| entry["what"] == json!("created-external"))
        .filter_map(|entry| entry["provider"].as_str())
        .collect();
    match made.as_slice() {
        [label] => Ok((*label).to_owned()),
        other => Err(format!("{id} of {scope} was made {} times: {told}", other.len()).into()),
    }
}

/// Versions that map one field differently change places while customers work in both directions. The judge is what the accounts
/// have and what the history says: each person has the word of the one version that its history names, and what was made after a
/// swap was reported has the newer one's.
#[tokio::test]
async fn swaps_under_load_lose_nothing_and_each_record_is_mapped_by_one_version() -> Result<(), Error> {
    let (swaps, quiet) = if full() { (500, 15) } else { (15, 2) };
    let scopes = ["acme", "beta", "gamma", "delta"];
    let house = house(&scopes).await?;
    let versions = [starter()?, other_starter()?];
    let mut words = BTreeMap::from([(house.serving("starter").await?, WORDS[0])]);
    let pid = house.daemon_pid().ok_or("the daemon runs")?;
    let loads: Vec<(&str, Load)> =
        scopes.iter().map(|scope| (*scope, Load::start(&house, scope, Duration::from_millis(6)))).collect();
    // So much to compare the swaps with.
    tokio::time::sleep(Duration::from_secs(quiet)).await;
    let before = memory_of(pid);
    let swapping = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut marked = Vec::new();
    let (mut longest, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for swap in 1..=swaps {
        let label = house.serving("starter").await?;
        house.drop_in("starter.wasm", &versions[swap % 2])?;
        let began = Instant::now();
        let newer = swapped(&house, &label).await?;
        longest = longest.max(began.elapsed());
        words.insert(newer.clone(), WORDS[swap % 2]);
        // The report of the swap itself: from here on everything carries the newer mapping.
        let reported = house.post("/v1/providers/reload", &json!({})).await?;
        slowest = slowest.max(began.elapsed());
        assert_eq!(reported["refused"], json!([]), "{reported}");
        let made = house.system_a("acme").create(&lead(swap as u64)).await?.id.ok_or("made")?;
        // It waits in line behind what was made before it.
        let in_line = Duration::from_secs(120);
        let label = until("what was made after the report is in the account", in_line, async || {
            Ok(mapped_by(&house, "acme", &made).await.map_err(|error| error.to_string()))
        })
        .await?;
        assert_eq!(label, newer, "made after swap {swap} was reported");
        marked.push((swap as u64, WORDS[swap % 2]));
        if full() && swap % 50 == 0 {
            println!("{swap} swaps; {} MiB", memory_of(pid) >> 10);
        }
    }
    let after = memory_of(pid);
    let mut worked = Vec::new();
    for (scope, load) in loads {
        worked.push((scope, load.end().await?));
    }
    let (mut by_word, mut inward, mut arrivals) = (BTreeMap::new(), 0, BTreeMap::new());
    for (scope, acknowledged) in worked {
        let people = all_there(&house, scope, &acknowledged).await?;
        house.quiet(SOON).await?;
        let mut moments: Vec<i64> = people.values().filter_map(|person| person["Changed"].as_i64()).collect();
        moments.sort_unstable();
        arrivals.insert(scope.to_owned(), moments);
        for (number, word) in marked.iter().filter(|_| scope == "acme") {
            let person = &people[&format!("lead{number}@example.com")];
            assert_eq!(person["Stage"].as_str(), Some(*word), "made after swap {number} was reported");
        }
        for (mail, made) in acknowledged.ours.iter().filter(|(_, made)| !made.deleted) {
            let label = mapped_by(&house, scope, &made.id).await?;
            let stage = people[mail]["Stage"].as_str().unwrap_or_default();
            assert_eq!(words.get(&label), Some(&stage), "{mail} of {scope} was made by {label}");
            *by_word.entry(stage.to_owned()).or_insert(0) += 1;
        }
        inward += acknowledged.theirs.len();
    }
    assert_eq!(by_word.len(), 2, "both versions did some of the work: {by_word:?}");
    assert!(inward > 0, "people of the accounts were at work");
    assert_eq!(house.get("/v1/dead").await?, json!([]), "nothing failed");
    let (usual, pause) = longest_gaps(&arrivals, swapping);
    println!(
        "{swaps} swaps under the work of {} customers, {by_word:?} outward, {inward} inward; from the file to the new version at \
         most {} ms, to its report {} ms; longest pause of a customer's deliveries {usual} ms before, {pause} ms with swaps; \
         memory {} -> {} MiB",
        scopes.len(),
        longest.as_millis(),
        slowest.as_millis(),
        before >> 10,
        after >> 10
    );
    Ok(())
}

/// How a swap is brought about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Another file in the folder.
    File,
    /// `provider rollback`.
    Rollback,
    /// `provider pin VERSION`.
    Pin,
}

/// A kill at a moment that nobody chose; afterwards the folder has nothing to say, so that only what is on disk decides which
/// version serves. People go on in the account all the while.
#[tokio::test]
async fn a_sigkill_at_any_point_of_a_swap_leaves_one_whole_version() -> Result<(), Error> {
    let kills: u64 = if full() { 90 } else { 9 };
    let mut house = house(&["acme"]).await?;
    let load = Load::in_the_account(&house, "acme", Duration::from_millis(10));
    let versions = [starter()?, other_starter()?];
    let mut words = BTreeMap::from([(house.serving("starter").await?, WORDS[0])]);
    // Both have served once, so that there is something to go back to.
    house.drop_in("starter.wasm", &versions[1])?;
    let second = swapped(&house, words.keys().next().ok_or("one")?).await?;
    words.insert(second, WORDS[1]);
    let mut ended: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for kill in 0..kills {
        let way = [Way::File, Way::Rollback, Way::Pin][(kill % 3) as usize];
        let before = house.serving("starter").await?;
        let (other, word) = words.iter().find(|(label, _)| **label != before).ok_or("two")?;
        let (other, word) = (other.clone(), *word);
        let change = match way {
            Way::File => {
                house.drop_in(
                    "starter.wasm",
                    &versions[WORDS.iter().position(|it| *it == word).ok_or("known")?],
                )?;
                None
            }
            Way::Rollback => Some(("rollback", json!({ "provider": "starter" }))),
            Way::Pin => Some(("pin", json!({ "provider": "starter", "version": other }))),
        };
        let begun = change.map(|(what, body)| {
            let url = format!("{}/v1/providers/{what}", house.base);
            let request = reqwest::Client::builder()
                .build()
                .map(|client| client.post(url).bearer_auth(ADMIN).json(&body));
            tokio::spawn(async move { request?.send().await })
        });
        // At once, after the whole of it, and at moments between: a file takes about a second, the others some milliseconds.
        let whole = if way == Way::File { 1_400 } else { 60 };
        match kill / 3 {
            0 => {}
            last if last + 1 == kills / 3 => drop(swapped(&house, &before).await?),
            between => tokio::time::sleep(Duration::from_millis(whole * between / (kills / 3))).await,
        }
        house.kill().await?;
        if let Some(begun) = begun {
            // Its answer is of no interest: the daemon may have been ended before it gave one.
            drop(begun.await);
        }
        house.drop_in("starter.wasm", b"not a provider")?;
        house.start().await?;
        let now = house.serving("starter").await?;
        assert!(now == before || now == other, "{now} is neither {before} nor {other}");
        *ended.entry((if now == before { "before" } else { "after" }, way == Way::File)).or_default() += 1;
        assert_eq!(word_of(&house, "acme", kill).await?, words[&now], "{now} serves, and wholly");
        let rows = house.get("/v1/providers").await?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let serving: Vec<&Value> = rows
            .iter()
            .filter(|row| row["provider"] == json!("starter") && row["label"].is_string())
            .collect();
        assert_eq!(serving.len(), 1, "{rows:?}");
        // Whatever was pinned or set back belongs to the version that serves: a pin that outlived its swap would hold the wrong one.
        let pinned = serving[0]["state"] == json!("pinned");
        assert_eq!(pinned, way == Way::Pin && now == other, "{way:?} ended with {now}: {serving:?}");
        // For the next one: no pin, nothing set back, the folder as it should be.
        let left = if now == before { &other } else { &before };
        for version in [left, &now] {
            house.post("/v1/providers/pin", &json!({ "provider": "starter", "version": version })).await?;
        }
        house.post("/v1/providers/pin", &json!({ "provider": "starter", "off": true })).await?;
        let at = WORDS.iter().position(|it| *it == words[&now]).ok_or("known")?;
        house.drop_in("starter.wasm", &versions[at])?;
        until("the folder's file is the one that serves", SOON, async || {
            let said = lines(&house).await?;
            Ok(if said.is_empty() { Ok(()) } else { Err(format!("{said:?}")) })
        })
        .await?;
    }
    println!("{kills} kills ended so (before or after the swap, by a file or not): {ended:?}");
    assert!(ended.keys().any(|(when, _)| *when == "before"), "{ended:?}");
    assert!(ended.keys().any(|(when, _)| *when == "after"), "{ended:?}");
    let acknowledged = load.end().await?;
    all_there(&house, "acme", &acknowledged).await?;
    house.quiet(SOON).await
}

/// Whoever asked for a rollback goes away at once: the change is made to its end all the same, with what it says for the folder.
#[tokio::test]
async fn a_rollback_is_whole_even_if_nobody_waits_for_its_answer() -> Result<(), Error> {
    use tokio::io::AsyncWriteExt as _;
    let mut house = house(&["acme"]).await?;
    let first = house.serving("starter").await?;
    house.drop_in("starter.wasm", &other_starter()?)?;
    let second = swapped(&house, &first).await?;
    let body = json!({ "provider": "starter" }).to_string();
    let address = house.base.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await?;
    let request = format!(
        "POST /v1/providers/rollback HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {ADMIN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    until("the rollback has begun", SOON, async || {
        let now = house.serving("starter").await?;
        Ok(if now == first { Ok(()) } else { Err(now) })
    })
    .await?;
    drop(stream);
    // The file that was rolled back from stands in the folder: neither a look at it nor a restart takes it again.
    house.post("/v1/providers/reload", &json!({})).await?;
    assert_eq!(house.serving("starter").await?, first);
    house.stop().await?;
    house.start().await?;
    assert_eq!(house.serving("starter").await?, first, "and not {second}");
    let held = lines(&house).await?;
    assert!(held["starter.wasm"].1.contains("rolled back"), "{held:?}");
    Ok(())
}
