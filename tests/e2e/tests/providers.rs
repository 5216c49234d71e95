//! Providers that come, go and change while the daemon runs, with customers at work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::{WORDS, other_starter, patched, starter};
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, process, until};
use tandem_simulator::control::Client as Control;

const SOON: Duration = Duration::from_secs(30);

fn full() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some()
}

/// A house with the starter and these customers at work.
async fn house(scopes: &[&str]) -> Result<House, Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    until("the starter serves", SOON, async || {
        let label = house.serving("starter").await?;
        Ok(if label.starts_with("starter@") { Ok(()) } else { Err(label) })
    })
    .await?;
    for scope in scopes {
        house.rest_customer(scope, "").await?;
    }
    at_work(&house, scopes.len()).await?;
    Ok(house)
}

/// Waits until so many connections run.
async fn at_work(house: &House, count: usize) -> Result<(), Error> {
    until(&format!("{count} connections run"), Duration::from_secs(60), async || {
        let status = house.get("/v1/status").await?;
        let rows = status["connections"].as_array().cloned().unwrap_or_default();
        let running = rows.iter().filter(|row| row["state"] == json!("running")).count();
        Ok(if running == count { Ok(()) } else { Err(status.to_string()) })
    })
    .await
}

fn lead(number: u64) -> Value {
    json!({ "email": format!("lead{number}@example.com"), "given_name": format!("Lead {number}"), "lifecycle_stage": "lead" })
}

/// Makes a lead in System A and waits until the account has it: the word that was written for its stage.
async fn word_of(house: &House, scope: &str, number: u64) -> Result<String, Error> {
    let made = house.system_a(scope).create(&lead(number)).await?;
    assert!(made.status.is_success(), "{made:?}");
    let mail = format!("lead{number}@example.com");
    until(&format!("{mail} is in the account"), SOON, async || {
        let people = house.control.rest_people(scope).await?;
        let found = people.iter().find(|person| person["Mail"] == json!(mail));
        Ok(found
            .and_then(|person| person["Stage"].as_str())
            .map(ToOwned::to_owned)
            .ok_or("not there".to_owned()))
    })
    .await
}

async fn swapped(house: &House, before: &str) -> Result<String, Error> {
    until("another version serves", SOON, async || {
        let row = house.provider("starter").await?.unwrap_or_default();
        let label = row["label"].as_str().unwrap_or_default().to_owned();
        if label == before || label.is_empty() {
            return Ok(Err(label));
        }
        // The record of the swap is durable before the connections move over; it is done when they have.
        let status = house.get("/v1/status").await?;
        let staying = status["connections"].as_array().into_iter().flatten().find(|connection| {
            let behind = connection["connection"].as_str().is_some_and(|id| row["behind"].get(id).is_some());
            let bound = connection["provider"].as_str().unwrap_or_default();
            bound.starts_with("starter@") && bound != label && !behind
        });
        Ok(staying.map_or(Ok(label), |connection| Err(connection.to_string())))
    })
    .await
}

/// The lines of files that are not taken, by file name.
async fn lines(house: &House) -> Result<BTreeMap<String, (String, String)>, Error> {
    let rows = house.get("/v1/providers").await?;
    let mut lines = BTreeMap::new();
    for row in rows.as_array().cloned().unwrap_or_default() {
        let file = row["file"].as_str().unwrap_or_default();
        let name = file.rsplit('/').next().unwrap_or_default().to_owned();
        let text = |member: &str| row[member].as_str().unwrap_or_default().to_owned();
        if !["serving", "pinned", "disabled"].contains(&text("state").as_str()) {
            lines.insert(name, (text("state"), text("detail")));
        }
    }
    Ok(lines)
}

/// A load on one scope: creates without end, each remembered when it was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Vec<(u64, String)>, String>>,
}

impl Load {
    fn start(system_a: SystemA, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut number = 1_000_000;
            while !until.load(Ordering::Relaxed) {
                number += 1;
                let written = system_a.create(&lead(number)).await.map_err(|error| error.to_string())?;
                match written.id {
                    Some(id) if written.status.is_success() => acknowledged.push((number, id)),
                    _ => return Err(format!("refused: {written:?}")),
                }
                tokio::time::sleep(pause).await;
            }
            Ok(acknowledged)
        });
        Self { stop, task }
    }

    /// Ends it; everything that was acknowledged.
    async fn end(self) -> Result<Vec<(u64, String)>, Error> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await??)
    }
}

/// Everything that was acknowledged is in the account, once.
async fn all_there(
    control: &Control,
    scope: &str,
    made: &[(u64, String)],
) -> Result<BTreeMap<String, Value>, Error> {
    until("everything is in the account", Duration::from_secs(90), async || {
        let people = control.rest_people(scope).await?;
        let by_mail: BTreeMap<String, Value> = people
            .iter()
            .map(|person| (person["Mail"].as_str().unwrap_or_default().to_owned(), person.clone()))
            .collect();
        if by_mail.len() != people.len() {
            return Err("somebody is there twice".into());
        }
        let missing = made
            .iter()
            .filter(|(number, _)| !by_mail.contains_key(&format!("lead{number}@example.com")))
            .count();
        Ok(if missing == 0 { Ok(by_mail) } else { Err(format!("{missing} of {} are missing", made.len())) })
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_dropped_into_a_running_daemon_serves_and_what_waited_for_it_goes_on()
-> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.rest_customer("acme", "").await?;
    until("the connection is refused for want of its provider", SOON, async || {
        let status = house.get("/v1/status").await?;
        let text = status.to_string();
        Ok(if text.contains("there is no provider starter") { Ok(()) } else { Err(text) })
    })
    .await?;
    let began = Instant::now();
    house.drop_in("starter.wasm", &starter()?)?;
    swapped(&house, "").await?;
    println!("dropped in and serving after {} ms", began.elapsed().as_millis());
    at_work(&house, 1).await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0]);

    // And back: the account's people reach System A by its signed events.
    let person =
        json!({ "Mail": "new@example.com", "GivenName": "New", "Stage": WORDS[1], "Labels": ["b", "a"] });
    house.control.rest_person_creates("acme", &person).await?;
    until("the new person is in System A", SOON, async || {
        let all = house.system_a("acme").list().await?;
        let found = all.iter().find(|one| one.document["email"] == json!("new@example.com"));
        Ok(found
            .filter(|one| one.document["lifecycle_stage"] == json!("lead"))
            .map(|_| ())
            .ok_or(format!("{all:?}")))
    })
    .await
}

#[tokio::test]
async fn a_newer_file_takes_over_and_rollback_and_pin_hold_against_the_folder() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let first = house.serving("starter").await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0]);
    house.drop_in("starter.wasm", &other_starter()?)?;
    let second = swapped(&house, &first).await?;
    assert_eq!(word_of(&house, "acme", 2).await?, WORDS[1]);
    let made = house.system_a("acme").list().await?;
    let entity = made.iter().find(|one| one.document["email"] == json!("lead2@example.com")).unwrap();
    let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", entity.id)).await?;
    assert!(told["history"].to_string().contains(&second), "the history names the version: {told}");

    let back = house.post("/v1/providers/rollback", &json!({ "provider": "starter" })).await?;
    assert_eq!((back["to"].as_str(), back["moved"].as_u64()), (Some(first.as_str()), Some(1)), "{back}");
    assert_eq!(word_of(&house, "acme", 3).await?, WORDS[0]);
    // The file that was rolled back from still stands in the folder; nobody takes it again by itself.
    house.post("/v1/providers/reload", &json!({})).await?;
    assert_eq!(house.serving("starter").await?, first);
    let held = lines(&house).await?;
    assert!(held["starter.wasm"].1.contains("rolled back"), "{held:?}");

    house.post("/v1/providers/pin", &json!({ "provider": "starter" })).await?;
    house.drop_in("starter.wasm", &patched(&starter()?, "A plain REST account", "a plain REST account")?)?;
    until("the third file is held back", SOON, async || {
        let held = lines(&house).await?;
        Ok(match held.get("starter.wasm") {
            Some((_, why)) if why.contains("pinned") => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    let pinned = house.provider("starter").await?.unwrap();
    assert_eq!(pinned["state"], json!("pinned"));
    house.post("/v1/providers/pin", &json!({ "provider": "starter", "off": true })).await?;
    let third = swapped(&house, &first).await?;
    assert!(third != second, "{third}");
    Ok(())
}

#[tokio::test]
async fn a_removed_file_stops_its_connections_keeps_their_queues_and_its_return_lets_them_go_on()
-> Result<(), Error> {
    let mut house = house(&["acme"]).await?;
    word_of(&house, "acme", 1).await?;
    let path = house.folder.join("providers/starter.wasm");
    std::fs::remove_file(&path)?;
    let disabled = async |house: &House| {
        until("the provider is disabled", SOON, async || {
            let row = house.provider("starter").await?.unwrap_or_default();
            Ok(if row["state"] == json!("disabled") { Ok(()) } else { Err(row.to_string()) })
        })
        .await
    };
    disabled(&house).await?;
    let made = house.system_a("acme").create(&lead(2)).await?;
    assert!(made.status.is_success());
    let person = json!({ "Mail": "meanwhile@example.com" });
    house.control.rest_person_creates("acme", &person).await?;
    let waiting = async |house: &House| {
        until("both changes wait", SOON, async || {
            let undone = house.undone().await?;
            Ok(if undone >= 2 { Ok(()) } else { Err(undone.to_string()) })
        })
        .await
    };
    waiting(&house).await?;
    // A restart does not forget it.
    house.stop().await?;
    house.start().await?;
    disabled(&house).await?;
    waiting(&house).await?;
    assert_eq!(house.control.rest_people("acme").await?.len(), 2, "nothing was written");

    house.drop_in("starter.wasm", &starter()?)?;
    all_there(&house.control, "acme", &[(2, String::new())]).await?;
    house.quiet(SOON).await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 3, "both sides have all three");
    Ok(())
}

#[tokio::test]
async fn broken_files_under_load_change_nothing_and_each_has_its_own_line() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let serving = house.serving("starter").await?;
    let load = Load::start(house.system_a("acme"), Duration::from_millis(5));
    let whole = starter()?;
    let guest = |name: &str| -> Result<Vec<u8>, Error> {
        Ok(std::fs::read(process::component(&format!("examples/{name}.wasm"))?)?)
    };
    let mut native = std::fs::read(std::env::current_exe()?)?;
    native.truncate(1 << 20);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xff);
    // Under its own name each, and under the name of the one that serves.
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("text", b"hello".to_vec(), "it is not WebAssembly"),
        ("core-module", b"\0asm\x01\0\0\0".to_vec(), "it is a core module, not a component"),
        ("native", native, "it is native code"),
        ("damaged", damaged, "it is damaged or cut short"),
        ("imports", guest("open_socket")?, "which no provider gets"),
        ("foreign", guest("foreign_import")?, "stranger:host/shell@1.0.0"),
        ("other-world", guest("other_world")?, "it exports no tandem:provider/descriptor"),
        (
            "newer",
            patched(&whole, "provider/descriptor@0.1.0", "provider/descriptor@0.9.0")?,
            "contract 0.9.0",
        ),
        ("missing-export", patched(&whole, "provider/intake@0.1.0", "provider/untake@0.1.0")?, "intake"),
        ("moody", guest("moody")?, "other bytes"),
        ("drops-field", guest("drops_field")?, "field /family_name"),
        ("rounds-amounts", guest("rounds_amounts")?, "field /annual_revenue"),
        ("swaps-names", guest("swaps_names")?, "_name"),
        ("never-settles", guest("never_settles")?, r#""a" became "a*""#),
        ("counts-calls", guest("counts_calls")?, "other bytes"),
        ("drops-unmapped", guest("drops_unmapped")?, "is not mapped does not stay"),
        ("loses-member", guest("loses_member")?, "field /tags"),
        (
            "second",
            patched(&whole, "A plain REST account", "a plain REST account")?,
            "gives provider starter already",
        ),
    ];
    for (name, bytes, _) in &files {
        house.drop_in(&format!("{name}.wasm"), bytes)?;
    }
    until("each file has its line", Duration::from_secs(90), async || {
        let said = lines(&house).await?;
        let wrong: Vec<String> = files
            .iter()
            .filter_map(|(name, _, says)| {
                let line = said.get(&format!("{name}.wasm"));
                let right = line.is_some_and(|(state, line)| {
                    state == "refused" && line.contains(says) && line.contains(name) && !line.contains('\n')
                });
                (!right).then(|| format!("{name}: {line:?}"))
            })
            .collect();
        Ok(if wrong.is_empty() { Ok(said) } else { Err(wrong.join("\n")) })
    })
    .await?
    .values()
    .for_each(|(_, line)| println!("{line}"));
    // Now over the file that serves: a bad copy is no removal.
    for (name, bytes, says) in &files {
        if *name == "second"
            || ["drops", "rounds", "swaps", "never", "counts", "loses", "moody"]
                .iter()
                .any(|it| name.starts_with(it))
        {
            continue;
        }
        house.drop_in("starter.wasm", bytes)?;
        until(&format!("{name} is refused in the place of the one that serves"), SOON, async || {
            let said = lines(&house).await?;
            let line = said.get("starter.wasm").map(|(_, line)| line.clone()).unwrap_or_default();
            Ok(if line.contains(says) { Ok(()) } else { Err(line) })
        })
        .await?;
        assert_eq!(house.serving("starter").await?, serving, "{name}");
    }
    let made = load.end().await?;
    assert!(made.len() > 50, "the load went on: {}", made.len());
    all_there(&house.control, "acme", &made).await?;
    house.quiet(SOON).await?;
    assert_eq!(house.get("/v1/dead").await?, json!([]), "nothing was set aside");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_half_copied_waits_and_serves_when_it_is_whole() -> Result<(), Error> {
    use std::io::Write as _;
    let house = house(&["acme"]).await?;
    let before = house.serving("starter").await?;
    let bytes = other_starter()?;
    let path = house.folder.join("providers/starter.wasm");
    // As `cp` does: in place, a piece at a time.
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&bytes[..bytes.len() / 2])?;
    until("half of a file waits", SOON, async || {
        let said = lines(&house).await?;
        Ok(match said.get("starter.wasm") {
            Some((state, line)) if state == "waiting" && line.contains("cut short") => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0], "the version before goes on");
    file.write_all(&bytes[bytes.len() / 2..])?;
    drop(file);
    swapped(&house, &before).await?;
    assert_eq!(word_of(&house, "acme", 2).await?, WORDS[1]);
    // Half of a file that nobody goes on with is refused in the end.
    std::fs::write(&path, &bytes[..bytes.len() / 2])?;
    until("what is never completed is refused", Duration::from_secs(40), async || {
        let said = lines(&house).await?;
        Ok(match said.get("starter.wasm") {
            Some((state, _)) if state == "refused" => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    assert_eq!(word_of(&house, "acme", 3).await?, WORDS[1]);
    Ok(())
}

#[tokio::test]
async fn one_odd_setting_does_not_stop_the_upgrade_of_the_others() -> Result<(), Error> {
    let count = if full() { 1_000 } else { 60 };
    let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
    let house = house(&[]).await?;
    for name in &names {
        let settings = if name == "c7" { "[settings]\nbase_url = \"http://127.0.0.1\"" } else { "" };
        house.rest_customer(name, settings).await?;
    }
    at_work(&house, count).await?;
    let first = house.serving("starter").await?;
    // The newer version takes no base URL with a 1 in it, and writes the other word.
    let newer = patched(&other_starter()?, "^https?://[^/]+$", "^https?://[^1]+$")?;
    house.drop_in("starter.wasm", &newer)?;
    let second = swapped(&house, &first).await?;
    let row = house.provider("starter").await?.unwrap();
    let behind = row["behind"].as_object().cloned().unwrap_or_default();
    assert_eq!(behind.keys().collect::<Vec<_>>(), ["c7"], "{row}");
    assert!(behind["c7"].as_str().unwrap().contains(&first), "it says on which: {row}");
    let status = house.get("/v1/status").await?;
    let labels: Vec<&str> =
        status["connections"].as_array().unwrap().iter().filter_map(|row| row["provider"].as_str()).collect();
    assert_eq!(labels.iter().filter(|label| **label == second).count(), count - 1);
    assert_eq!(word_of(&house, "c7", 1).await?, WORDS[0]);
    assert_eq!(word_of(&house, "c8", 1).await?, WORDS[1]);

    // Other settings let it follow.
    tandem_e2e::rest::write_whole(&house.connection_path("c7"), &house.rest_connection("c7", ""))?;
    until("it follows", SOON, async || {
        let row = house.provider("starter").await?.unwrap();
        Ok(if row["behind"] == json!({}) { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    assert_eq!(word_of(&house, "c7", 2).await?, WORDS[1]);
    Ok(())
}

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

/// Versions that map one field differently change places under load. The judge is what the accounts have and what the history
/// says: each record was mapped by the version that its history names, and what was made after a swap was reported by the
/// newer one.
#[tokio::test]
async fn swaps_under_load_lose_nothing_and_each_record_is_mapped_by_one_version() -> Result<(), Error> {
    let (swaps, quiet) = if full() { (500, 15) } else { (20, 2) };
    let scopes = ["acme", "beta", "gamma", "delta"];
    let house = house(&scopes).await?;
    let versions = [starter()?, other_starter()?];
    let mut words = BTreeMap::from([(house.serving("starter").await?, WORDS[0])]);
    let pid = house.daemon_pid().ok_or("the daemon runs")?;
    let loads: Vec<(&str, Load)> = scopes
        .iter()
        .map(|scope| (*scope, Load::start(house.system_a(scope), Duration::from_millis(2))))
        .collect();
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
        let made = house.system_a("acme").create(&lead(swap as u64)).await?;
        marked.push((swap as u64, made.id.ok_or("made")?, WORDS[swap % 2]));
    }
    let after = memory_of(pid);
    let mut acknowledged = Vec::new();
    for (scope, load) in loads {
        acknowledged.push((scope, load.end().await?));
    }
    let (mut count, mut by_word, mut arrivals) = (0, BTreeMap::new(), BTreeMap::new());
    for (scope, mut made) in acknowledged {
        if scope == "acme" {
            made.extend(marked.iter().map(|(number, id, _)| (*number, id.clone())));
        }
        count += made.len();
        let people = all_there(&house.control, scope, &made).await?;
        house.quiet(SOON).await?;
        let mut moments: Vec<i64> = people.values().filter_map(|person| person["Changed"].as_i64()).collect();
        moments.sort_unstable();
        arrivals.insert(scope.to_owned(), moments);
        for (number, _, word) in marked.iter().filter(|_| scope == "acme") {
            let person = &people[&format!("lead{number}@example.com")];
            assert_eq!(person["Stage"].as_str(), Some(*word), "made after swap {number} was reported");
        }
        for (number, id) in made.iter().step_by(if full() { 10 } else { 3 }) {
            let told = house.get(&format!("/v1/explain?scope={scope}&object=contact&id={id}")).await?;
            let history = told["history"].to_string();
            let named: Vec<&str> = words
                .iter()
                .filter(|(label, _)| history.contains(label.as_str()))
                .map(|(_, word)| *word)
                .collect();
            let stage = people[&format!("lead{number}@example.com")]["Stage"].as_str().unwrap_or_default();
            assert!(named.contains(&stage), "{number} has {stage}; its history names {named:?}: {history}");
            *by_word.entry(stage.to_owned()).or_insert(0) += 1;
        }
    }
    assert_eq!(by_word.len(), 2, "both versions did some of the work: {by_word:?}");
    assert_eq!(house.get("/v1/dead").await?, json!([]), "nothing failed");
    let (usual, pause) = longest_gaps(&arrivals, swapping);
    println!(
        "{swaps} swaps, {count} records of {} customers; from the file to the new version at most {} ms, to its report {} ms; \
         longest pause of a customer's deliveries {usual} ms before, {pause} ms with swaps; memory {} -> {} MiB; {by_word:?}",
        scopes.len(),
        longest.as_millis(),
        slowest.as_millis(),
        before >> 10,
        after >> 10
    );
    Ok(())
}

#[tokio::test]
async fn a_sigkill_at_any_point_of_a_swap_leaves_one_whole_version() -> Result<(), Error> {
    let kills = if full() { 60 } else { 6 };
    let mut house = house(&["acme"]).await?;
    let versions = [starter()?, other_starter()?];
    let mut words = BTreeMap::from([(house.serving("starter").await?, WORDS[0])]);
    let mut new_ones = 0;
    for kill in 1..=kills {
        let before = house.serving("starter").await?;
        let other = usize::from(words[&before] == WORDS[0]);
        house.drop_in("starter.wasm", &versions[other])?;
        // From the file's arrival over admission to the swap: some 1.2 s, at every point of it in turn.
        tokio::time::sleep(Duration::from_millis(1_400 * kill / kills)).await;
        house.kill().await?;
        house.start().await?;
        // It ends with the new one in any case: the file is whole and stands in the folder.
        let after = swapped(&house, &before).await?;
        words.insert(after.clone(), WORDS[other]);
        new_ones += 1;
        assert_eq!(word_of(&house, "acme", kill).await?, WORDS[other], "{after} serves, and wholly");
        let rows = house.get("/v1/providers").await?;
        let serving = rows
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["provider"] == json!("starter") && row["state"] == json!("serving"));
        assert_eq!(serving.count(), 1, "{rows}");
    }
    assert_eq!(new_ones, kills);
    house.quiet(SOON).await
}
