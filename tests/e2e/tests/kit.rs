//! The provider kit as an author uses it: a new provider is built and tested in a folder of its own, dropped into a running
//! daemon, and tried again after an edit.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, process, until};

const SOON: Duration = Duration::from_secs(30);

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

#[tokio::test]
async fn a_new_provider_builds_passes_its_tests_and_syncs_before_a_line_is_changed_and_after()
-> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let parent = process::built()?.join("kit");
    std::fs::create_dir_all(&parent)?;
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
    assert!(said.contains("test result: ok. 3 passed"), "{said}");
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
    let began = Instant::now();
    cargo(&folder, &target, &["build", "--profile", "quick", "--target", "wasm32-wasip2"])?;
    let built = began.elapsed();
    let id = made.id.ok_or("made")?;
    let said = run(house.command(&["provider", "try"])?.arg(&component).args(["--connection", "acme"]))?;
    println!(
        "edited, built in {} ms, swapped and tried again after {} ms",
        built.as_millis(),
        began.elapsed().as_millis()
    );
    assert!(said.contains(&id), "it shows the last record: {said}");
    house.system_a("acme").patch(&id, &json!({ "job_title": "Captain", "region": "Bavaria" })).await?;
    there("role", "Captain").await?;
    there("region", "Bavaria").await?;
    assert_eq!(house.get("/v1/dead").await?, Value::Array(Vec::new()));
    Ok(())
}
