//! The walls of the house: which room imports which, which library stays in which room, what the pipeline and `host/core`
//! do without, and that the contract is documented line by line and part by part. Read from the source, so that a review need not.
#![expect(clippy::unwrap_used, reason = "a test: it fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each room with the rooms below it that it may import; a room stands after those that it imports.
const ROOMS: [(&str, &[&str]); 13] = [
    ("config", &[]),
    ("store", &[]),
    ("provider", &[]),
    ("internal", &[]),
    ("credentials", &[]),
    ("telemetry", &["config"]),
    ("quota", &["store"]),
    ("delivery", &["credentials"]),
    ("intake", &["credentials", "store", "telemetry"]),
    ("pipeline", &["delivery", "internal", "provider", "quota", "store", "telemetry"]),
    ("admin", &["config", "store", "telemetry"]),
    (
        "app",
        &[
            "admin",
            "config",
            "credentials",
            "delivery",
            "intake",
            "internal",
            "pipeline",
            "provider",
            "quota",
            "store",
            "telemetry",
        ],
    ),
    ("cli", &["admin", "app", "config", "credentials", "delivery", "provider", "telemetry"]),
];

/// Libraries that are known in these folders only.
const LIBRARIES: [(&str, &[&str]); 5] = [
    ("wasmtime", &["provider"]),
    ("wasmparser", &["provider"]),
    ("sled", &["store/sled", "store/conformance.rs", "internal/embedded"]),
    ("reqwest", &["delivery", "credentials", "cli", "admin/tests.rs"]),
    ("governor", &["quota"]),
];

/// What would tie the pipeline to real time, real threads or real chance.
const NOT_IN_THE_PIPELINE: [&str; 7] =
    ["tokio::spawn", "tokio::time", "tokio::task", "Instant", "SystemTime", "std::thread", "rand"];

/// Names by which CRMs are known.
const CRMS: [&str; 11] = [
    "hubspot",
    "hubapi",
    "salesforce",
    "sforce",
    "soql",
    "pipedrive",
    "dynamics",
    "dataverse",
    "zoho",
    "attio",
    "freshsales",
];

fn sources() -> Vec<(PathBuf, String)> {
    sources_of("src")
}

fn sources_of(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 30, "only {} files were found in {folder}", found.len());
    found
}

/// Lines of code with their numbers, without comments. Two slashes inside of a text are no comment: addresses have them.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut place = Place::Code;
    text.lines().enumerate().map(move |(at, line)| {
        let end = place.comment_of(line).unwrap_or(line.len());
        (at + 1, line.get(..end).unwrap_or_default())
    })
}

/// What a character belongs to. Texts may go on over the end of a line.
#[derive(Clone, Copy)]
enum Place {
    Code,
    Text,
    /// A text without escapes, that ends with a quote and so many hashes.
    Raw(usize),
}

impl Place {
    /// Goes on through a line; where its comment begins, if it has one.
    fn comment_of(&mut self, line: &str) -> Option<usize> {
        let bytes = line.as_bytes();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let hashes = |from: usize| (from..).take_while(|at| byte(*at) == b'#').count();
        let mut at = 0;
        while at < bytes.len() {
            at += match (*self, byte(at)) {
                (Self::Code, b'/') if byte(at + 1) == b'/' => return Some(at),
                (Self::Code, b'"') => {
                    let before = line.get(..at).unwrap_or_default();
                    let bare = before.trim_end_matches('#');
                    // No other name may stand right before a quote.
                    let raw = bare.ends_with('r');
                    *self = if raw { Self::Raw(before.len() - bare.len()) } else { Self::Text };
                    1
                }
                (Self::Code, b'\'') => character(line.get(at..).unwrap_or_default()),
                (Self::Text, b'\\') => 2,
                (Self::Text, b'"') => {
                    *self = Self::Code;
                    1
                }
                (Self::Raw(closing), b'"') if hashes(at + 1) >= closing => {
                    *self = Self::Code;
                    1 + closing
                }
                _ => 1,
            };
        }
        None
    }
}

/// How long the character is that begins here: a quote in it begins no text. Of a lifetime, only the sign before its name.
fn character(rest: &str) -> usize {
    let mut inner = rest.chars().skip(1);
    match (inner.next(), inner.next()) {
        // What is escaped may be a quote itself.
        (Some('\\'), Some(_)) => rest.get(3..).and_then(|rest| rest.find('\'')).map_or(1, |end| 3 + end + 1),
        (Some(one), Some('\'')) => 2 + one.len_utf8(),
        _ => 1,
    }
}

/// The names that follow `prefix` in a line.
fn names_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).filter_map(move |(at, _)| {
        let before = line.get(..at)?.chars().next_back();
        let name = line.get(at + prefix.len()..)?;
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        // `super::crate::` does not exist; `a_crate::` is something else.
        (!before.is_some_and(|c| c.is_alphanumeric() || c == '_')).then(|| name.get(..end)).flatten()
    })
}

/// Whether a path of this library stands in the line; the room `store::sled` is no library.
fn names_library(line: &str, library: &str) -> bool {
    let path = format!("{library}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '"')
    })
}

fn imports(path: &Path, text: &str) -> Vec<String> {
    let room = path.iter().next().and_then(|it| it.to_str()).unwrap_or_default();
    let Some((_, below)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the room {room} is not in the table", path.display())];
    };
    let wrong = code(text).flat_map(|(at, line)| {
        names_after(line, "crate::")
            .filter(|name| *name != room && !below.contains(name))
            .map(move |name| format!("{}:{at} imports {name}", path.display()))
            .collect::<Vec<_>>()
    });
    wrong.collect()
}

fn libraries(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (library, rooms) in LIBRARIES {
        if rooms.iter().any(|room| path.starts_with(room)) {
            continue;
        }
        let lines = code(text).filter(|(_, line)| names_library(line, library));
        wrong.extend(lines.map(|(at, _)| format!("{}:{at} names {library}", path.display())));
    }
    wrong
}

fn real_time(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, line) in code(text) {
        for word in NOT_IN_THE_PIPELINE {
            let whole = |at: usize, length: usize| {
                let name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let before = line.get(..at).and_then(|it| it.chars().next_back());
                !name(before) && !name(line.get(at + length..).and_then(|it| it.chars().next()))
            };
            if line.match_indices(word).any(|(at, _)| whole(at, word.len())) {
                wrong.push(format!("{}:{at} has {word}", path.display()));
            }
        }
    }
    wrong
}

/// A file without its module of tests, which stands at its end.
fn product(text: &str) -> &str {
    let begins = text.match_indices("\n#[cfg(test)]\n").map(|(at, _)| at).find(|at| {
        let rest = text.get(*at..).unwrap_or_default();
        rest.lines().find(|line| line.starts_with("mod ")).is_some_and(|line| line.ends_with('{'))
    });
    text.get(..begins.unwrap_or(text.len())).unwrap_or_default()
}

fn is_test(path: &Path) -> bool {
    let tests = ["tests", "tests.rs", "conformance.rs", "figures.rs"];
    path.iter().any(|part| tests.iter().any(|name| part == *name))
}

fn crms(path: &Path, text: &str) -> Vec<String> {
    let lines = code(product(text)).filter_map(|(at, line)| {
        let line = line.to_lowercase();
        let name = CRMS.iter().find(|name| line.contains(*name))?;
        Some(format!("{}:{at} knows {name}", path.display()))
    });
    lines.collect()
}

/// What a CRM needs is data in its provider's descriptor, or an operation that any provider may use.
#[test]
fn no_line_of_the_host_knows_a_crm_by_name() {
    let all = [sources(), sources_of("../core/src")].concat();
    let wrong: Vec<String> =
        all.iter().filter(|(path, _)| !is_test(path)).flat_map(|(path, text)| crms(path, text)).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_room_imports_only_the_rooms_below_it() {
    let rooms: BTreeSet<String> = sources()
        .iter()
        .filter(|(path, _)| path.iter().count() > 1)
        .filter_map(|(path, _)| Some(path.iter().next()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(rooms, ROOMS.iter().map(|(name, _)| (*name).to_owned()).collect(), "the table is whole");
    for (at, (room, below)) in ROOMS.iter().enumerate() {
        let before: Vec<&str> = ROOMS.iter().take(at).map(|(name, _)| *name).collect();
        let above: Vec<_> = below.iter().filter(|name| !before.contains(name)).collect();
        assert!(above.is_empty(), "{room} may not stand on {above:?}");
    }
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| path.iter().count() > 1)
        .flat_map(|(path, text)| imports(path, text))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_library_is_known_in_its_rooms_only() {
    let all = sources();
    let wrong: Vec<String> = all.iter().flat_map(|(path, text)| libraries(path, text)).collect();
    assert_eq!(wrong, Vec::<String>::new());
    // Each is found where it may be: the search is not blind.
    for (library, rooms) in LIBRARIES {
        let found = all.iter().any(|(path, text)| {
            rooms.iter().any(|room| path.starts_with(room))
                && code(text).any(|(_, line)| names_library(line, library))
        });
        assert!(found, "{library} is nowhere");
    }
}

#[test]
fn the_pipeline_has_no_clock_no_thread_and_no_chance_of_its_own() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| path.starts_with("pipeline"))
        .flat_map(|(path, text)| real_time(path, text))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_goes_through_a_wall_is_found() {
    let planted = "// HubSpot in a comment is fine.\nlet a = \"api.HubAPI.com\";\n#[cfg(test)]\nmod tests {\n    let b = \"zoho\";\n}\n";
    assert_eq!(crms(Path::new("a.rs"), planted), ["a.rs:2 knows hubapi"]);
    // The slashes of an address begin no comment, and a quote that begins no text hides none.
    for planted in [
        r#"let a = "https://api.hubapi.com"; // An address."#,
        r##"let a = (r"\", r#"a"b"#, b"\"", ['"','\'','"'], '\u{e9}', 'é', "https://api.hubapi.com");"##,
        "let a = \"a \\\" \n    https://api.hubapi.com\";",
        "fn f<'a>(it: &'a str) -> bool { it == \"https://api.hubapi.com\" }",
    ] {
        assert_eq!(crms(Path::new("a.rs"), planted).len(), 1, "{planted}");
    }
    for comment in [
        "let a = \"b\"; // https://api.hubapi.com",
        "let a = ('\"', '\\'', r\"\\\"); // \"hubapi\"",
        "fn f<'a>(it: &'a str) {} // \"hubapi\"",
    ] {
        assert_eq!(crms(Path::new("a.rs"), comment), Vec::<String>::new(), "{comment}");
    }
    let planted = "//! crate::pipeline in a comment is fine.\nuse crate::credentials;\nfn f() { crate::pipeline::run(); }\n";
    assert_eq!(imports(Path::new("delivery/a.rs"), planted), ["delivery/a.rs:3 imports pipeline"]);
    let grouped = "use crate::pipeline::{Clock, take};\n";
    assert_eq!(imports(Path::new("store/a.rs"), grouped).len(), 1);
    // One form hides the names on other lines; it is refused as such.
    assert_eq!(imports(Path::new("app/a.rs"), "use crate::{\n    cli,\n};\n").len(), 1);
    assert_eq!(imports(Path::new("attic/a.rs"), "").len(), 1);
    let planted =
        "use super::sled::Store;\nfn f(db: &sled::Db) {}\nfn g() { let a = crate::store::sled::X; }\n";
    assert_eq!(libraries(Path::new("pipeline/a.rs"), planted), ["pipeline/a.rs:2 names sled"]);
    let planted = "let a = Instant::now();\nlet operand = InstantLike;\ntokio::spawn(async {});\n";
    assert_eq!(real_time(Path::new("a.rs"), planted), ["a.rs:1 has Instant", "a.rs:3 has tokio::spawn"]);
}

#[test]
fn the_core_does_no_input_and_output_by_its_dependencies() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "tandem-core", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("jsonschema"), "{}", String::from_utf8_lossy(&tree.stderr));
    for library in ["tokio", "mio", "wasmtime", "sled", "reqwest", "hyper", "socket2", "tandem"] {
        assert!(!names.contains(library), "host/core depends on {library}");
    }
}

/// Declarations and members of the contract without a comment of their own above them.
fn undocumented(wit: &str) -> Vec<String> {
    let lines: Vec<&str> = wit.lines().map(str::trim).collect();
    let declares = |line: &str| {
        ["record ", "variant ", "enum ", "flags ", "interface ", "world ", "type "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let member = |line: &str| {
        (line.ends_with(',') || (line.ends_with(';') && line.contains("func(")))
            && !line.starts_with("use ")
            && !line.starts_with("///")
    };
    let documented = |at: usize| at > 0 && lines.get(at - 1).is_some_and(|line| line.starts_with("///"));
    lines
        .iter()
        .enumerate()
        .filter(|(at, line)| (declares(line) || member(line)) && !documented(*at))
        .map(|(at, line)| format!("line {}: {line}", at + 1))
        .collect()
}

#[test]
fn the_contract_is_documented_line_by_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "wit") {
            files += 1;
            let missing = undocumented(&fs::read_to_string(&path).unwrap());
            assert_eq!(missing, Vec::<String>::new(), "{}", path.display());
        }
    }
    assert!(files >= 2);
    let planted =
        "/// A row.\nrecord row {\n  /// Its name.\n  name: string,\n  size: u64,\n}\nvariant v {\n";
    assert_eq!(undocumented(planted), ["line 5: size: u64,", "line 7: variant v {"]);
}

/// The names of a contract's functions, members of records and cases of variants.
fn names_of_wit(wit: &str) -> Vec<&str> {
    wit.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with("use "))
        .filter(|line| line.ends_with(',') || line.contains("func("))
        .filter_map(|line| line.split([':', '(', ',']).next())
        .collect()
}

/// The names of a schema's members: what stands right below a `properties`, one a line.
fn names_of_schema(schema: &str) -> Vec<&str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut within: Vec<usize> = Vec::new();
    let mut names = Vec::new();
    for line in schema.lines() {
        within.retain(|above| depth(line) > *above);
        if within.last().is_some_and(|above| depth(line) == above + 2) {
            names.extend(line.split('"').nth(1));
        }
        if line.trim() == "\"properties\": {" {
            within.push(depth(line));
        }
    }
    names
}

/// The names that stand nowhere in a page as code.
fn unnamed<'n>(page: &str, names: &[&'n str]) -> BTreeSet<&'n str> {
    names.iter().copied().filter(|name| !page.contains(&format!("`{name}`"))).collect()
}

#[test]
fn the_page_of_the_contract_names_each_part() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let page = read("docs/contract.md");
    let mut count = 0;
    for (file, names_of) in [
        ("wit/provider.wit", names_of_wit as fn(&str) -> Vec<&str>),
        ("wit/types.wit", names_of_wit),
        ("schemas/descriptor.schema.json", names_of_schema),
        ("schemas/connection.schema.json", names_of_schema),
    ] {
        let text = read(file);
        let names = names_of(&text);
        count += names.len();
        assert_eq!(unnamed(&page, &names), BTreeSet::new(), "docs/contract.md does not name parts of {file}");
    }
    assert!(count > 200, "only {count} names were found");
    let planted = "record row {\n  /// Its name.\n  name: string,\n  sort(kind),\n}\ngo: func() -> u8;\n";
    assert_eq!(names_of_wit(planted), ["name", "sort", "go"]);
    let planted = "{\n  \"properties\": {\n    \"a\": {\n      \"type\": \"text\"\n    },\n    \"b\": true\n  },\n  \"c\": 1\n}\n";
    assert_eq!(names_of_schema(planted), ["a", "b"]);
    assert_eq!(unnamed("`name` and sort", &["name", "sort"]), BTreeSet::from(["sort"]));
}
