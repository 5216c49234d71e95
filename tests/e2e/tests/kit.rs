//! The provider kit as an author uses it: a new provider is built and tested in a folder of its own, dropped into a running
//! daemon, and tried again after an edit; and the author's guide, followed word for word.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, process, until};

const SOON: Duration = Duration::from_secs(60);

/// Runs a program and gives what it printed; fails with it when it fails.
fn run(command: &mut Command) -> Result<String, Error> {
    let Output { status, stdout, stderr } = command.output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if status.success() { Ok(said) } else { Err(format!("{command:?}: {said}").into()) }
}

fn cargo(folder: &Path, target: &Path, arguments: &[&str]) -> Result<String, Error> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the versions of the lock file need was brought when this test was built.
    command
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_NET_OFFLINE", "true")
        .args(arguments);
    run(&mut command)
}

fn root() -> Result<PathBuf, Error> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?)
}

/// Where providers of all tests are built: what they depend on is built once.
fn kit() -> Result<PathBuf, Error> {
    let kit = process::built()?.join("kit");
    // Cargo makes no folder through a link that leads nowhere.
    std::fs::create_dir_all(kit.join("target"))?;
    Ok(kit)
}

/// The recipe, from a folder, against a daemon.
fn try_provider(house: &House, from: &Path, folder: &str, connection: &str) -> Result<Command, Error> {
    let mut command = Command::new("just");
    command
        .current_dir(from)
        .arg("--justfile")
        .arg(root()?.join("justfile"))
        .args(["try-provider", folder, connection])
        .env("CARGO_NET_OFFLINE", "true");
    for (name, value) in house.command(&[])?.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Ok(command)
}

/// What the providers of the three CRMs are measured on is what their CRMs say: each case gives what it gave, and ends in a result. The
/// two whose CRM has no call for a registration of webhooks say so.
#[test]
fn the_golden_cases_of_each_crm_hold_and_measure_every_operation() -> Result<(), Error> {
    for (name, refused) in [("hubspot", &["watch"][..]), ("salesforce", &["watch"]), ("pipedrive", &[])] {
        let component = process::component(&format!("provider_{name}.wasm"))?;
        let cases = root()?.join("plugins").join(name).join("cases");
        let tandem = |command: &str| -> Result<Command, Error> {
            let mut asked = Command::new(process::binary("tandem")?);
            asked.args(["provider", command]).arg(&component).env_remove("TANDEM_CONFIG");
            Ok(asked)
        };
        run(tandem("test")?.arg(&cases))?;
        let said = run(tandem("check")?.args(["--records", "100", "--json", "--cases"]).arg(&cases))?;
        let report: Value = serde_json::from_str(&said)?;
        let uncounted: Vec<&Value> = report["cases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one.get("uncounted").is_some())
            .map(|one| &one["operation"])
            .collect();
        assert_eq!(uncounted, refused.iter().collect::<Vec<_>>(), "{name}: {said}");
        assert_eq!(report["unmeasured"], json!(refused), "{name}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_provider_builds_passes_its_tests_and_syncs_before_a_line_is_changed_and_after()
-> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    let (root, parent) = (root()?, kit()?);
    let place = tempfile::tempdir_in(&parent)?;
    let folder = place.path().join("provider-acme-crm");
    let target = parent.join("target");
    let mut new = Command::new(process::binary("tandem")?);
    new.args(["provider", "new", "acme-crm", "--into"])
        .arg(&folder)
        .arg("--sdk")
        .arg(root.join("plugins/sdk"));
    let said = run(&mut new)?;
    assert!(said.contains("provider_acme_crm.wasm"), "{said}");
    let said = cargo(&folder, &target, &["test"])?;
    assert!(said.contains("test result: ok. 4 passed"), "{said}");
    cargo(&folder, &target, &["build", "--profile", "quick", "--target", "wasm32-wasip2"])?;
    let component = target.join("wasm32-wasip2/quick/provider_acme_crm.wasm");
    run(house.command(&["provider", "check"])?.arg(&component))?;
    run(house.command(&["provider", "test"])?.arg(&component).arg(folder.join("cases")))?;

    house.drop_in("acme-crm.wasm", &std::fs::read(&component)?)?;
    let account = house.rest_customer("acme", "").await?;
    let file = std::fs::read_to_string(house.connection_path("acme"))?;
    tandem_e2e::rest::write_whole(
        &house.connection_path("acme"),
        &file.replace("\"starter\"", "\"acme-crm\""),
    )?;
    let made =
        house.system_a("acme").create(&json!({ "email": "ann@example.com", "job_title": "Pilot" })).await?;
    assert!(made.status.is_success());
    let there = async |member: &str, value: &str| {
        until(&format!("{member} is {value}"), SOON, async || {
            let people = house.control.rest_people(&account.account).await?;
            let found = people.iter().any(|person| person[member] == json!(value));
            Ok(if found { Ok(()) } else { Err(format!("{people:?}")) })
        })
        .await
    };
    there("Title", "Pilot").await?;

    // Two fields change: the job title is kept elsewhere, the region is new.
    let source = folder.join("src/lib.rs");
    let text = std::fs::read_to_string(&source)?;
    let changed = text.replace("\"/Title\"", "\"/role\"").replace(
        ".field(\"/city\", \"/City\")",
        ".field(\"/region\", \"/region\")\n        .normalise(\"text\")\n        .text()\n        .field(\"/city\", \"/City\")",
    );
    assert!(changed.contains("/role") && changed.contains("/region"), "the starter's lines are there");
    std::fs::write(&source, changed)?;
    let id = made.id.ok_or("made")?;
    let attempt = || -> Result<(String, Duration), Error> {
        let began = Instant::now();
        let mut recipe = try_provider(&house, place.path(), "provider-acme-crm", "acme")?;
        let said = run(recipe.env("CARGO_TARGET_DIR", &target))?;
        Ok((said, began.elapsed()))
    };
    let (said, first) = attempt()?;
    assert!(said.contains(&id), "it shows the last record: {said}");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, text.replace("\"/role\"", "\"/position\""))?;
    let (said, again) = attempt()?;
    assert!(said.contains(&id), "it shows the last record: {said}");
    println!(
        "from the saved edit to the record worked on again: {} ms, and after another edit {} ms",
        first.as_millis(),
        again.as_millis()
    );
    house.system_a("acme").patch(&id, &json!({ "job_title": "Captain", "region": "Bavaria" })).await?;
    there("position", "Captain").await?;
    there("region", "Bavaria").await?;
    assert_eq!(house.get("/v1/dead").await?, Value::Array(Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_provider_of_this_repository_is_tried_by_the_same_recipe() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &std::fs::read(process::component("provider_starter.wasm")?)?)?;
    let account = house.rest_customer("acme", "").await?;
    let made = house.system_a("acme").create(&json!({ "email": "ann@example.com" })).await?;
    let id = made.id.ok_or("made")?;
    until("Ann is there", SOON, async || {
        let people = house.control.rest_people(&account.account).await?;
        Ok(if people.is_empty() { Err("nobody".to_owned()) } else { Ok(()) })
    })
    .await?;
    let before = house.serving("starter").await?;
    let said = run(&mut try_provider(&house, &root()?, "plugins/starter", "acme")?)?;
    assert!(said.contains(&id), "it shows the last record: {said}");
    let after = house.serving("starter").await?;
    assert!(after != before && said.contains(&after), "another build serves: {before}, {after}: {said}");
    Ok(())
}

/// The commands of some sections of the author's guide.
fn commands(sections: &[&str]) -> Result<String, Error> {
    let guide = std::fs::read_to_string(root()?.join("docs/providers.md"))?;
    let mut commands = String::new();
    for section in sections {
        let (_, text) = guide.split_once(&format!("\n## {section}\n")).ok_or(*section)?;
        let text = text.split_once("\n## ").map_or(text, |(text, _)| text);
        for block in text.split("```sh\n").skip(1) {
            commands.push_str(block.split_once("```").ok_or("a block ends")?.0);
        }
    }
    Ok(commands)
}

/// From an empty folder outside of the repository to two fields that are kept elsewhere, by the commands of the guide alone. Only
/// addresses are others, so that two can follow it at once, and what was built already is not built again.
#[test]
fn whoever_follows_the_guide_has_a_working_provider_with_two_fields_changed() -> Result<(), Error> {
    // On a real disk: the store refuses others.
    let place = tempfile::tempdir_in(kit()?)?;
    let (work, target) = (place.path().join("work"), kit()?.join("target"));
    std::fs::create_dir_all(&work)?;
    let mut script = commands(&["Begin one", "Try it with an account", "Change it"])?;
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = Vec::new();
    for listener in listeners {
        ports.push(listener?.local_addr()?.port().to_string());
    }
    for (documented, free) in ["4001", "4002", "7070"].iter().zip(&ports) {
        assert!(script.contains(documented), "{documented} in\n{script}");
        script = script.replace(documented, free);
    }
    let root = root()?.display().to_string();
    let built = process::built()?.display().to_string();
    for (documented, here) in [
        ("TANDEM=~/tandem\n", format!("TANDEM='{root}'\n")),
        ("cargo build --manifest-path \"$TANDEM/Cargo.toml\"", "true".to_owned()),
        ("export PATH=\"$TANDEM/target/debug:$PATH\"\n", format!("export PATH='{built}':\"$PATH\"\n")),
        ("cd provider-acme\n", format!("cd provider-acme\nln -s '{}' target\n", target.display())),
        (
            "data_dir = \"data\"\n",
            format!("data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:{}\"\n", ports[2]),
        ),
    ] {
        assert_eq!(script.matches(documented).count(), 1, "{documented} in\n{script}");
        script = script.replace(documented, &here);
    }
    let began = Instant::now();
    let said = run(Command::new("timeout")
        .current_dir(&work)
        .args(["600", "bash", "-euo", "pipefail", "-c"])
        .arg(format!("trap 'kill $(jobs -p)' EXIT\n{script}"))
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("TANDEM_CONFIG"))?;
    println!("the guide was followed in {} s", began.elapsed().as_secs());
    for part in ["3 of 3 cases hold", "It would be admitted.", "ann@example.com", "\"role\":\"Captain\""] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert!(said.contains("\"about\":\"Left-handed\""), "{said}");
    Ok(())
}
