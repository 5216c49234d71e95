//! What is not taken, and what that costs the others.

use std::time::Duration;

use serde_json::json;
use tandem_e2e::rest::{other_starter, patched, starter, write_whole};
use tandem_e2e::{Error, process, until};

use super::load::{Load, all_there};
use super::{SOON, at_work, full, house, lines, swapped, word_of};
use tandem_e2e::rest::WORDS;

#[tokio::test]
async fn broken_files_under_load_change_nothing_and_each_has_its_own_line() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let serving = house.serving("starter").await?;
    let load = Load::start(&house, "acme", Duration::from_millis(5));
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
        ("nothing", Vec::new(), "it is empty"),
        ("cut-short", whole[..whole.len() - 7].to_vec(), "it is damaged or cut short"),
        ("too-large", vec![0; (64 << 20) + 1], "it is larger than 67108864 bytes"),
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
        (
            "older",
            patched(&whole, "provider/descriptor@0.1.0", "provider/descriptor@0.0.9")?,
            "contract 0.0.9",
        ),
        ("missing-export", patched(&whole, "provider/intake@0.1.0", "provider/untake@0.1.0")?, "intake"),
        ("moody", guest("moody")?, "other bytes"),
        ("drops-field", guest("drops_field")?, "field /family_name"),
        ("rounds-amounts", guest("rounds_amounts")?, "field /annual_revenue"),
        ("swaps-names", guest("swaps_names")?, "_name"),
        ("never-settles", guest("never_settles")?, r#""a*" became "a**""#),
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
    // And not in the list alone: whoever reads the log finds each of them too.
    let log = house.log().replace('\\', "");
    for (name, _, says) in &files {
        let told = log.lines().any(|line| line.contains(&format!("{name}.wasm")) && line.contains(says));
        assert!(told, "{name}: the log says nothing of {says}");
    }
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
    assert!(made.ours.len() > 50 && made.theirs.len() > 10, "the load went on: {}", made.ours.len());
    all_there(&house, "acme", &made).await?;
    house.quiet(SOON).await?;
    assert_eq!(house.get("/v1/dead").await?, json!([]), "nothing was set aside");
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

#[tokio::test]
async fn a_connection_whose_secret_is_gone_stays_behind_and_is_named() -> Result<(), Error> {
    let house = house(&["acme", "beta"]).await?;
    let first = house.serving("starter").await?;
    std::fs::remove_file(house.folder.join("secrets/acme"))?;
    house.drop_in("starter.wasm", &other_starter()?)?;
    swapped(&house, &first).await?;
    let row = house.provider("starter").await?.unwrap_or_default();
    let behind = row["behind"].as_object().cloned().unwrap_or_default();
    assert_eq!(behind.keys().collect::<Vec<_>>(), ["acme"], "{row}");
    let why = behind["acme"].as_str().unwrap_or_default();
    assert!(why.contains(&first) && why.contains("secrets/acme"), "on what it stays, and why: {why}");
    // It goes on with what it had, the other one with the newer version.
    assert_eq!(word_of(&house, "acme", 1).await?, WORDS[0]);
    assert_eq!(word_of(&house, "beta", 1).await?, WORDS[1]);
    Ok(())
}

#[tokio::test]
async fn a_saved_setting_does_not_wait_for_providers_that_are_being_tried() -> Result<(), Error> {
    let house = house(&["acme"]).await?;
    let guests = [
        "drops_field",
        "rounds_amounts",
        "swaps_names",
        "never_settles",
        "counts_calls",
        "drops_unmapped",
        "loses_member",
        "moody",
    ];
    for name in guests {
        let bytes = std::fs::read(process::component(&format!("examples/{name}.wasm"))?)?;
        house.drop_in(&format!("{name}.wasm"), &bytes)?;
    }
    write_whole(&house.connection_path("acme"), &house.rest_connection("acme", "paused = true"))?;
    until("the setting is live", SOON, async || {
        let status = house.get("/v1/status").await?;
        let paused = status["connections"][0]["state"] == json!("paused");
        Ok(if paused { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    let tried = lines(&house).await?.len();
    assert!(tried < guests.len(), "all {tried} were tried before the setting counted");
    until("each has its line in the end", Duration::from_secs(60), async || {
        let tried = lines(&house).await?.len();
        Ok(if tried == guests.len() { Ok(()) } else { Err(tried.to_string()) })
    })
    .await?;
    Ok(())
}
