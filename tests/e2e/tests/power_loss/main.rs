//! Power loss under the whole daemon: what it acknowledged was on the disk before, and is there afterwards.
//!
//! The real daemon runs under `tests/shim/shim.c` while System A is written through its API, people edit in the accounts and
//! records flow both ways. The shim writes down every write and sync below its data folder and every byte on its sockets;
//! nothing else is believed. From this:
//!
//! - **before** (`proof.rs`): for each acknowledged change the bytes that hold it are looked for in the writes. The file that
//!   they are in, and its name, have to be synced before the first byte of the answer leaves.
//! - **after** (`images.rs`): at moments spread over the run, half of them right behind an acknowledgement, the disk is put
//!   together as a power loss may leave it (nothing unsynced, the last write torn, any of them), and a daemon is started on it.
//!   Read through its public APIs it has to have everything that was acknowledged by then, and its log names no error.
//!
//! `TANDEM_TORTURE=1` runs the full counts. The folder of a failed run is kept and named.

mod changes;
mod images;
mod load;
mod proof;

use std::time::{Duration, Instant};

use tandem_e2e::Error;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::power::{self, Keep, Recording};

use self::changes::Changes;
use self::images::Judge;
use self::load::Person;

const SCOPES: [&str; 2] = ["acme", "globex"];

/// How long a daemon that was started on an image may take to do what its queue says.
const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: each of them takes both cores.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn torture() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1")
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// At most the first few of many.
fn few(problems: &[String]) -> String {
    problems.iter().take(8).cloned().collect::<Vec<_>>().join("\n")
}

fn plan() -> Plan {
    Plan {
        // Webhooks alone tell of edits in the accounts: what a poll brings would hide a lost one. What was deleted stays so: a
        // record that an edit in its account brings back would look like one whose deletion was lost. More is deleted than the
        // guard would let go.
        connection: "poll_every = \"1d\"\n[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\n\
                     [objects.contact]\non_delete_conflict = \"delete\"\nguard_share = 100\n"
            .to_owned(),
        ..Plan::roomy(&SCOPES)
    }
}

/// Runs a test in a house on a real disk; where it fails, the house's folder is kept and named.
async fn in_house(test: impl AsyncFnOnce(&mut House) -> Result<(), Error>) -> Result<(), Error> {
    let _turn = TURN.lock().await;
    let mut house = House::build(plan()).await?;
    power::refuse_tmpfs(&house.folder)?;
    match Box::pin(test(&mut house)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}; everything is kept in {}", house.keep().display()).into()),
    }
}

/// What a run left behind.
struct Recorded {
    recording: Recording,
    changes: Changes,
    people: Vec<Person>,
}

/// Runs the daemon under the shim, from an empty data folder, until System A has acknowledged so many writes and everything
/// that came of them is done.
async fn recorded(house: &mut House, writes: u64, faults: &[(&str, &str)]) -> Result<Recorded, Error> {
    // Its first start compiled the provider. What it stored meanwhile was not recorded, and goes.
    let talk = [("TANDEM_SHIM_TALK", "16777216")];
    house.start_recorded(&[&talk, faults].concat()).await?;
    let people = load::run(house, writes).await?;
    house.stop().await?;
    house.environment().clear();
    let recording = house.recording()?;
    let changes = Changes::read(&recording)?;
    Ok(Recorded { recording, changes, people })
}

fn keep_of(round: u64) -> Keep {
    match round % 4 {
        0 => Keep::Nothing,
        1 => Keep::Torn(round),
        _ => Keep::Some(round),
    }
}

#[tokio::test]
async fn what_the_daemon_acknowledged_is_on_the_disk_before_and_there_after_the_power_went()
-> Result<(), Error> {
    let (images, writes) = if torture() { (200, 6_000) } else { (20, 1_500) };
    in_house(async |house| {
        let begun = Instant::now();
        let Recorded { recording, changes, people } = recorded(house, writes, &[]).await?;
        let counts = changes.counts();
        println!(
            "recorded in {:.1?}: {} lines, {} syncs; acknowledged: {counts}",
            begun.elapsed(),
            recording.len(),
            recording.syncs()
        );
        ensure(counts.writes + counts.removals >= writes, || format!("too little was recorded: {counts}"))?;
        ensure(counts.removals > 0 && counts.deliveries > 100 && counts.edits > 100, || {
            format!("too little was recorded: {counts}")
        })?;

        let proof = proof::before(&recording, &changes);
        println!(
            "{} of {} acknowledged changes were synced before",
            proof.held,
            proof.held + proof.problems.len()
        );
        ensure(proof.problems.is_empty(), || {
            format!(
                "{} were acknowledged before they were synced:\n{}",
                proof.problems.len(),
                few(&proof.problems)
            )
        })?;

        let begun = Instant::now();
        let judge = Judge::new(house, recording, changes, people)?;
        let searches = async || Ok::<_, Error>(house.control.counts().await?.calls("contacts.search"));
        let before = searches().await?;
        let wrong = judge.images(images, keep_of).await?;
        ensure(wrong.is_empty(), || format!("{} of {images} images:\n{}", wrong.len(), few(&wrong)))?;
        let polled = searches().await? - before;
        ensure(polled == 0, || format!("{polled} searches may have brought what a webhook should have"))?;
        println!(
            "{images} images opened and had everything that was acknowledged, in {:.1?}",
            begun.elapsed()
        );
        Ok(())
    })
    .await
}

/// The judges' own test: a disk that lies about the syncs of System A, or of the queue, is found out by both of them.
#[tokio::test]
async fn a_daemon_whose_syncs_do_nothing_is_found_out() -> Result<(), Error> {
    // What is ignored, what is then acknowledged too early, and what is lost.
    let faults: [(&str, &[&str], &str); 2] = [
        ("fdatasync:/system-a/", &["write of", "removal of"], "acknowledged as version"),
        ("fdatasync:/journal/", &["delivery of"], "the webhook of"),
    ];
    for (fault, early, lost) in faults {
        in_house(async |house| {
            let Recorded { recording, changes, people } =
                recorded(house, 200, &[("TANDEM_SHIM_IGNORE", fault)]).await?;
            let proof = proof::before(&recording, &changes);
            for kind in early {
                ensure(proof.problems.iter().any(|problem| problem.contains(kind)), || {
                    format!("{fault}: no {kind} anything was found too early:\n{}", few(&proof.problems))
                })?;
            }
            ensure(
                proof.problems.iter().all(|problem| early.iter().any(|kind| problem.contains(kind))),
                || format!("{fault}: more than {early:?} was found too early:\n{}", few(&proof.problems)),
            )?;
            let at = changes.behind_the_last_edit().ok_or("no edit was told of")?;
            let judge = Judge::new(house, recording, changes, people)?;
            // With everything that was written, synced or not, nothing is missing: what is found below are the syncs.
            judge
                .image(at, Keep::Everything, PATIENCE)
                .await?
                .map_err(|found| format!("{fault}: {found}"))?;
            let found = judge.image(at, Keep::Nothing, Duration::from_secs(3)).await?;
            ensure(found.as_ref().is_err_and(|what| what.contains(lost)), || {
                format!("{fault}: an image without what was not synced passed: {found:?}")
            })?;
            println!(
                "{fault}: {} were acknowledged too early, and the image misses them",
                proof.problems.len()
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}
