//! What is let in, and what each refusal says.

use std::path::PathBuf;

use serde_json::json;
use tandem::provider::{Limits, LoadError, LoadStep, Offline, Providers, RuntimeConfig, Setup};
use tandem_core::id::ProviderId;

use crate::support::{config, connect_with, engine, file, growing_table, guest, ledger, replaced, room};

fn refusal_of(bytes: &[u8]) -> LoadError {
    let (_folder, path) = file("candidate.wasm", bytes);
    let providers = Providers::start(&config()).expect("the room starts");
    let error = providers.load_file_blocking(&path).expect_err("it must be refused");
    assert!(providers.versions().is_empty(), "nothing of it is in use");
    let line = error.to_string();
    assert!(!line.contains('\n'), "one line: {line:?}");
    assert!(line.starts_with(&path.display().to_string()), "it names the file: {line}");
    error
}

#[test]
fn files_that_are_no_components_are_refused_for_what_they_are() {
    let ledger = ledger();
    // Its beginning: the whole of it may be larger than a component may be.
    let mut this_program = std::fs::read(std::env::current_exe().expect("a path")).expect("this program");
    this_program.truncate(1 << 20);
    let cases: [(&str, &[u8], &str); 7] = [
        ("nothing", b"", "empty"),
        ("text", b"hello", "not WebAssembly"),
        ("a core module", b"\0asm\x01\0\0\0", "core module"),
        ("a native program", &this_program, "native code"),
        ("half of a component", &ledger[..ledger.len() / 2], "damaged or cut short"),
        ("a component without its last byte", &ledger[..ledger.len() - 1], "damaged or cut short"),
        ("a component with one more byte", &[&ledger[..], b"\x07"].concat(), "damaged or cut short"),
    ];
    for (what, bytes, reason) in cases {
        let error = refusal_of(bytes);
        assert_eq!(error.step, LoadStep::Structure, "{what}: {error}");
        assert!(error.reason.contains(reason), "{what}: {error}");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_even_read_to_its_end() {
    let (_folder, path) = file("large.wasm", &ledger());
    let limits = Limits { component_bytes: 1024, ..Limits::default() };
    let error = Offline::load_with(&path, &Setup::default(), &engine(), limits).expect_err("refused");
    assert_eq!(error.step, LoadStep::Size, "{error}");
    assert!(error.reason.contains("1024 bytes"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error =
        Offline::load(&PathBuf::from("/no/such/provider.wasm"), &Setup::default()).expect_err("refused");
    assert_eq!(error.step, LoadStep::Read, "{error}");
    assert!(error.to_string().starts_with("/no/such/provider.wasm"), "{error}");
}

#[test]
fn imports_beyond_the_list_are_refused_by_name() {
    for (name, import) in [("open_socket", "wasi:sockets/"), ("foreign_import", "stranger:host/shell@1.0.0")]
    {
        let error = refusal_of(&std::fs::read(guest(name)).expect("the guest"));
        assert_eq!(error.step, LoadStep::Imports, "{name}: {error}");
        assert!(error.reason.contains(import), "{name}: {error}");
    }
}

#[test]
fn a_component_for_another_host_is_told_what_this_host_speaks() {
    let error = refusal_of(&std::fs::read(guest("other_world")).expect("the guest"));
    assert_eq!(error.step, LoadStep::Contract, "{error}");
    assert!(error.reason.contains("stranger:greeter/greet@1.0.0"), "{error}");
    assert!(error.remedy.contains("0.1"), "{error}");
}

#[test]
fn another_version_of_the_contract_is_refused_and_a_later_patch_of_the_same_track_is_not() {
    for other in ["0.0.9", "0.2.0", "1.0.0"] {
        let error = refusal_of(&replaced(&ledger(), b"@0.1.0", format!("@{other}").as_bytes()));
        assert_eq!(error.step, LoadStep::Contract, "{error}");
        assert_eq!(error.reason, format!("it speaks the contract {other}, this host speaks 0.1"));
        assert_eq!(error.remedy, "build it against the contract 0.1 of this host (wit/)");
    }

    let (_folder, path) =
        file("later.wasm", &replaced(&ledger(), b"provider/descriptor@0.1.0", b"provider/descriptor@0.1.7"));
    let providers = Providers::start(&config()).expect("the room starts");
    providers.load_file_blocking(&path).unwrap_or_else(|error| panic!("{error}"));
}

/// Components that were built against each published version of the contract, and never again since.
#[test]
fn a_component_of_every_published_contract_still_loads_and_keeps_the_laws() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/contract"));
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let providers = Providers::start(&config()).expect("the room starts");
        let candidate = providers.read_blocking(&path, None).expect("it is there");
        let (version, looked) =
            providers.inspect_blocking(&candidate, 200).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (version.provider.as_str(), looked.records),
            ("ledger", 202),
            "its two examples' settings are the same"
        );
        versions.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    assert_eq!(versions, ["0.1.0"], "one for each version in wit/");
    let wit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/provider.wit"))
        .expect("the contract");
    assert!(
        wit.contains("package tandem:provider@0.1.0;"),
        "a new version of the contract needs its component here"
    );
}

#[test]
fn a_missing_export_is_named() {
    let error =
        refusal_of(&replaced(&ledger(), b"tandem:provider/intake@0.1.0", b"tandem:provider/untake@0.1.0"));
    assert_eq!(error.step, LoadStep::Link, "{error}");
    assert!(error.reason.contains("tandem:provider/intake"), "{error}");
}

#[test]
fn a_mapping_that_answers_other_bytes_when_warm_is_refused() {
    let error = refusal_of(&std::fs::read(guest("moody")).expect("the guest"));
    assert_eq!(error.step, LoadStep::Examples, "{error}");
    assert!(error.reason.contains("the same every day") && error.reason.contains("other bytes"), "{error}");
    assert!(error.what.contains("moody@0.1.0#"), "{error}");
}

#[test]
fn an_example_that_does_not_hold_is_refused_with_its_place() {
    // An example shows that `shoe_size` is not mapped; with a field that is, it no longer holds.
    let error = refusal_of(&replaced(&ledger(), b"shoe_size", b"job_title"));
    assert_eq!(error.step, LoadStep::Examples, "{error}");
    assert!(error.reason.contains("to-canonical differs at \"/job_title\""), "{error}");
}

#[test]
fn a_folder_loads_what_is_right_and_names_what_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    put("b-ledger.wasm", &ledger());
    put("a-broken.wasm", b"\0asm");
    put("c-copy-of-ledger.wasm", &ledger());
    put("d-other-ledger.wasm", &replaced(&ledger(), b"The ledger of the tests", b"the ledger of the tests"));
    put("readme.txt", b"not a provider");
    let providers = Providers::start(&config()).expect("the room starts");
    let loaded = providers.load_folder_blocking(folder.path());
    let versions: Vec<&str> = loaded.versions.iter().map(|version| version.provider.as_str()).collect();
    assert_eq!(versions, ["ledger", "ledger"], "the copy is the same version");
    assert!(loaded.versions[0].label.starts_with("ledger@0.1.0#"));
    assert_eq!(loaded.versions[0].digest, loaded.versions[1].digest);
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("a-broken.wasm"), "{errors:?}");
    assert!(errors[1].contains("d-other-ledger.wasm") && errors[1].contains("b-ledger.wasm"), "{errors:?}");
}

#[tokio::test]
async fn settings_are_checked_by_the_schema_and_by_the_provider_and_are_never_quoted() {
    let providers = room(&config(), &["ledger"]);
    let unknown =
        connect_with(&providers, "a", "ledger", json!({ "colour": "SECRET" })).await.expect_err("refused");
    assert_eq!(unknown.step, LoadStep::Settings, "{unknown}");
    let wrong = connect_with(&providers, "a", "ledger", json!({ "greeting": { "x": "SECRET" } }))
        .await
        .expect_err("refused");
    assert_eq!(wrong.step, LoadStep::Settings, "{wrong}");
    assert!(wrong.reason.contains("/greeting"), "{wrong}");
    for error in [&unknown, &wrong] {
        assert!(!error.to_string().contains("SECRET"), "{error}");
        assert!(error.what.contains("connection a") && error.what.contains("ledger@0.1.0#"), "{error}");
    }
    let refused =
        connect_with(&providers, "a", "ledger", json!({ "refuse": true })).await.expect_err("refused");
    assert_eq!(refused.step, LoadStep::Configure, "{refused}");
    assert!(refused.reason.contains("the settings ask to be refused at /refuse"), "{refused}");
    let url = connect_with(&providers, "a", "ledger", json!({ "base-url": "ftp://example.com" }))
        .await
        .expect_err("refused");
    assert_eq!(url.step, LoadStep::Connection, "{url}");
    let nobody = connect_with(&providers, "a", "no-such-crm", json!({})).await.expect_err("refused");
    assert!(nobody.reason.contains("no provider no-such-crm"), "{nobody}");
}

#[test]
fn admission_runs_under_the_same_limits() {
    let tight = RuntimeConfig { limits: Limits { memory_bytes: 1 << 20, ..Limits::default() }, ..config() };
    let providers = Providers::start(&tight).expect("the room starts");
    let error = providers.load_file_blocking(&guest("ledger")).expect_err("a Rust guest begins with more");
    assert_eq!(error.step, LoadStep::Describe, "{error}");
    assert!(error.reason.contains("1048576 bytes of memory"), "{error}");
    assert!(providers.version(&ProviderId::from("ledger")).is_none());
}

#[test]
fn tables_that_grow_without_end_are_refused() {
    let error = refusal_of(&growing_table());
    assert_eq!(error.step, LoadStep::Describe, "{error}");
    assert!(error.reason.contains("65536 table elements"), "{error}");
}
