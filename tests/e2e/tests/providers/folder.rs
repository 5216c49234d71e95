//! Ways in: the folder, signals, the command line.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::{WORDS, other_starter, patched, starter};
use tandem_e2e::{Error, until};

use super::{SOON, at_work, house, lead, lines, swapped, word_of};

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
    until("what waited for it is done", SOON, async || {
        let people = house.control.rest_people("acme").await?;
        let there = people.iter().any(|person| person["Mail"] == json!("lead2@example.com"));
        Ok(if there { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 3, "both sides have all three");
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

/// How often another version began to serve, as the log has it.
fn swaps_in(log: &str) -> usize {
    log.matches("another version serves").count()
}

/// A `tandem` of this house; its standard output. It has to end well.
async fn told(house: &House, arguments: &[&str]) -> Result<String, Error> {
    let mut command = tokio::process::Command::from(house.command(arguments)?);
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{arguments:?} ended with {}: {text}{said}", output.status).into());
    }
    Ok(text)
}

#[tokio::test]
async fn the_command_line_reloads_rolls_back_and_pins_and_a_restart_forgets_none_of_it() -> Result<(), Error>
{
    let mut house = house(&["acme"]).await?;
    let first = house.serving("starter").await?;
    house.drop_in("starter.wasm", &other_starter()?)?;
    let said = told(&house, &["provider", "reload"]).await?;
    let second = swapped(&house, &first).await?;
    assert!(said.contains("starter") || swaps_in(&house.log()) == 2, "{said}");
    let said = told(&house, &["provider", "rollback", "starter"]).await?;
    assert!(said.contains(&first), "{said}");
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0]);
    house.stop().await?;
    house.start().await?;
    assert_eq!(house.serving("starter").await?, first, "a restart does not undo a rollback");
    assert_eq!(word_of(&house, "acme", 2).await?, WORDS[0]);

    let said = told(&house, &["provider", "pin", "starter", &second]).await?;
    assert!(said.contains(&second), "{said}");
    assert_eq!(word_of(&house, "acme", 3).await?, WORDS[1]);
    house.stop().await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.start().await?;
    assert_eq!(house.serving("starter").await?, second, "a pin holds over a restart");
    let listed = told(&house, &["provider", "list"]).await?;
    assert!(listed.contains("pinned") && listed.contains(&second), "{listed}");
    told(&house, &["provider", "pin", "starter", "--off"]).await?;
    assert_eq!(swapped(&house, &second).await?, first, "the folder's file counts again");
    Ok(())
}

#[tokio::test]
async fn a_signal_looks_again_at_what_was_refused() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let second = patched(&starter()?, "A plain REST account", "a plain REST account")?;
    house.drop_in("second.wasm", &second)?;
    let refused = async |house: &House| {
        until("the second file is refused", SOON, async || {
            let said = lines(house).await?;
            Ok(match said.get("second.wasm") {
                Some((state, why)) if state == "refused" => Ok(why.clone()),
                other => Err(format!("{other:?}")),
            })
        })
        .await
    };
    refused(&house).await?;
    let times = house.log().matches("gives provider starter already").count();
    let pid = house.daemon_pid().ok_or("the daemon runs")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).ok_or("a process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    until("it was looked at again", SOON, async || {
        let log = house.log();
        let now = log.matches("gives provider starter already").count();
        Ok(if now > times && log.contains("SIGHUP") { Ok(()) } else { Err(format!("{now} times")) })
    })
    .await?;
    refused(&house).await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0]);
    Ok(())
}

#[tokio::test]
async fn what_the_kernel_does_not_tell_is_found_by_a_slow_look() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let first = house.serving("starter").await?;
    // The watched folder goes away, and another one stands in its place: of that one nothing is told.
    let folder = house.folder.join("providers");
    let other = house.folder.join("providers.other");
    std::fs::create_dir(&other)?;
    std::fs::copy(folder.join("starter.wasm"), other.join("starter.wasm"))?;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let to = other.join(path.file_name().ok_or("a name")?);
        if !to.exists() {
            std::fs::copy(&path, to)?;
        }
    }
    std::fs::rename(&folder, house.folder.join("providers.before"))?;
    std::fs::rename(&other, &folder)?;
    house.drop_in("starter.wasm", &other_starter()?)?;
    swapped(&house, &first).await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[1]);
    Ok(())
}

#[tokio::test]
async fn a_file_that_comes_in_many_pieces_is_admitted_once() -> Result<(), Error> {
    use std::io::Write as _;
    let house = house(&["acme"]).await?;
    let before = house.serving("starter").await?;
    let swaps = swaps_in(&house.log());
    let bytes = other_starter()?;
    let mut file = std::fs::File::create(house.folder.join("providers/starter.wasm"))?;
    for piece in bytes.chunks(bytes.len().div_ceil(30)) {
        file.write_all(piece)?;
        file.flush()?;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    drop(file);
    swapped(&house, &before).await?;
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[1]);
    let log = house.log();
    assert_eq!(swaps_in(&log) - swaps, 1, "{log}");
    assert!(!log.contains("is refused; what serves goes on"), "no piece was taken for a broken file: {log}");
    Ok(())
}
