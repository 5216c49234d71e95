//! `tandem provider new` begins a provider.
//!
//! What is begun is `plugins/starter` under another name, in a folder that stands on its own: it builds, passes its tests and
//! syncs with the simulator's generic REST account before a line of it is changed.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args;
use super::failure::Failure;
use super::online::pretty;

const SOURCE: &str = include_str!("../../../../plugins/starter/src/lib.rs");
const CASES: [(&str, &str); 3] = [
    ("person.json", include_str!("../../../../plugins/starter/cases/person.json")),
    ("update.json", include_str!("../../../../plugins/starter/cases/update.json")),
    ("event.json", include_str!("../../../../plugins/starter/cases/event.json")),
];
/// Outside of this repository nothing else names a toolchain that has the target.
const TOOLCHAIN: &str = include_str!("../../../../rust-toolchain.toml");
const README: &str = include_str!("../../../../plugins/starter/README.md");

/// Begins a provider, and answers what to do next.
pub(super) fn new(asked: &args::ProviderNew, json: bool) -> Result<String, Failure> {
    let name = asked.name.as_str();
    let lawful = !name.is_empty()
        && name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !lawful {
        let what =
            format!("{name:?} is no provider's name; use small letters, digits and hyphens, a letter first");
        return Err(Failure::usage(what));
    }
    let folder = asked.into.clone().unwrap_or_else(|| PathBuf::from(format!("provider-{name}")));
    if folder.exists() {
        return Err(Failure::usage(format!(
            "{} is there already; name another folder with --into",
            folder.display()
        )));
    }
    let sdk = sdk(asked.sdk.as_deref())?;
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::caused(format!("{} cannot be written", path.display()), error)
    };
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))
    };
    write("Cargo.toml", &manifest(name, &sdk))?;
    write("src/lib.rs", &renamed(SOURCE, name))?;
    write("README.md", &renamed(README, name))?;
    write(".gitignore", "/target\n")?;
    write("rust-toolchain.toml", TOOLCHAIN)?;
    for (case, text) in CASES {
        write(&format!("cases/{case}"), text)?;
    }
    // The versions that the SDK was tried with.
    if let Some(lock) = sdk.parent().and_then(Path::parent).map(|root| root.join("Cargo.lock"))
        && let Ok(text) = std::fs::read_to_string(lock)
    {
        write("Cargo.lock", &text)?;
    }
    if json {
        return pretty(&json!({ "folder": folder, "sdk": sdk }));
    }
    let shown = folder.display();
    let component = format!("target/wasm32-wasip2/release/provider_{}.wasm", name.replace('-', "_"));
    Ok(format!(
        "{shown} is a provider. Go on with:\n\
         \n  cd {shown}\
         \n  cargo test\
         \n  cargo build --release --target wasm32-wasip2\
         \n  tandem provider check {component}\
         \n  tandem provider test {component}\
         \n\nThen copy {component} into the daemon's folder of providers. README.md says the rest.\n"
    ))
}

fn sdk(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(|error| Failure::new(&error))?;
    let found = match given {
        Some(path) => Some(path.to_owned()),
        None => here.ancestors().map(|folder| folder.join("plugins/sdk")).find(|path| path.is_dir()),
    };
    let found =
        found.filter(|path| path.join("Cargo.toml").is_file()).and_then(|path| path.canonicalize().ok());
    found.ok_or_else(|| {
        Failure::usage("the SDK is not found; say where plugins/sdk of Tandem's source stands with --sdk")
    })
}

fn manifest(name: &str, sdk: &Path) -> String {
    format!(
        "[package]\nname = \"provider-{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
         [lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\n\
         [dependencies]\nserde_json = {{ version = \"1\", features = [\"preserve_order\"] }}\n\
         tandem-provider = {{ path = {sdk:?} }}\n\n\
         # Small and quick to load; the daemon compiles it once more.\n\
         [profile.release]\nopt-level = 2\nlto = true\ncodegen-units = 1\npanic = \"abort\"\nstrip = true\n\n\
         # Builds in a second, for the loop of editing and trying.\n\
         [profile.quick]\ninherits = \"dev\"\nopt-level = 1\npanic = \"abort\"\nstrip = true\n\n\
         # It stands on its own.\n[workspace]\n",
        sdk = sdk.display().to_string(),
    )
}

/// The starter under another name.
fn renamed(text: &str, name: &str) -> String {
    let title: String = name
        .split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
                .collect::<String>()
        })
        .collect();
    let crate_name = name.replace('-', "_");
    let text = text.replace("provider_starter", &format!("provider_{crate_name}"));
    let text = text.replace("api.starter.example", &format!("api.{name}.example"));
    let text = text
        .replace("fn starter()", &format!("fn {crate_name}()"))
        .replace("starter().", &format!("{crate_name}()."));
    text.replace("Starter", &title).replace("starter", name)
}
