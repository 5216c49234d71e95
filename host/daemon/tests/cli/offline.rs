//! Commands that ask no daemon.

use serde_json::{Value, json};

use crate::support::{House, TOKEN, guest};

const CONNECTION: &str = "provider = 'ledger'\nscope = 'acme'\nhosts = ['127.0.0.1']\nallow_loopback = true\n\
                          auth = { token = { file = '../admin.token' } }\n[objects.contact]\n";

fn with_ledger() -> House {
    let house = House::configured();
    house.write("providers/ledger.wasm", &std::fs::read(guest("ledger")).expect("the ledger"));
    house.write("connections/acme-ledger.toml", CONNECTION.as_bytes());
    house
}

#[test]
fn help_names_every_command_and_the_exit_statuses() {
    let help = House::new(&[]).tandem(&["--help"]).ok();
    for command in [
        "check", "status", "pause", "resume", "explain", "dead", "review", "map", "provider", "look",
        "reload", "version",
    ] {
        let begins = format!("  {command} ");
        assert!(help.lines().any(|line| line.starts_with(&begins)), "{command} is missing in\n{help}");
    }
    assert!(help.contains("Exit status: 0 success, 1 failure, 64 wrong usage or configuration."), "{help}");
}

#[test]
fn every_command_explains_itself() {
    let house = House::new(&[]);
    for (command, line) in [
        (&["run"][..], "--until-stdin-closes"),
        (&["run"], "/hooks/app/NAME for all accounts of [apps.NAME]"),
        (&["provider", "fields"], "--into <PATH>"),
        (&["check"], "--live"),
        (&["pause"], "--direction <DIRECTION>"),
        (&["explain"], "System A's with --scope, the CRM's with --connection"),
        (&["dead", "replay"], "--all"),
        (&["review", "decide"], "--value <POINTER=JSON>"),
        (&["map"], "--from <FROM>"),
        (&["look"], "--external <EXTERNAL>"),
    ] {
        let help = house.tandem(&[command, &["--help"]].concat()).ok();
        assert!(help.contains(line), "{command:?}: {line} is missing in\n{help}");
        assert!(help.contains("--json"), "{command:?}");
    }
}

#[test]
fn a_connection_that_the_webhooks_of_its_app_cannot_reach_is_named() {
    let house = with_ledger();
    let app = "\n[apps.books]\nprovider = 'ledger'\n";
    house.write("tandem.toml", (house.main() + app).as_bytes());
    let said = |head: &str| {
        house.write("connections/acme-ledger.toml", (head.to_owned() + CONNECTION).as_bytes());
        house.tandem(&["check"]).ok()
    };
    let told =
        "account: missing, so that webhooks at /hooks/app/books do not reach this connection: add account";
    let without = said("app = 'books'\n");
    assert!(without.contains(told) && without.contains("/hooks/connection/acme-ledger"), "{without}");
    for head in ["", "app = 'books'\naccount = '7'\n"] {
        let with = said(head);
        assert!(!with.contains("/hooks/app/"), "{with}");
    }
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_is_right() {
    let house = House::new(&[]);
    for (arguments, said) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["statos"], "a similar subcommand exists: 'status'"),
        (&[], "Usage: tandem [OPTIONS] <COMMAND>"),
        (&["explain", "contact", "1"], "<--scope <SCOPE>|--connection <CONNECTION>>"),
        (&["explain", "contact", "1", "--scope", "a", "--connection", "b"], "cannot be used with"),
        (&["pause"], "<CONNECTION>"),
        (&["pause", "acme", "--all"], "cannot be used with"),
        (&["dead", "replay"], "<SEQ|--connection <CONNECTION>|--all>"),
        (&["dead", "show", "abc"], "invalid digit found in string"),
        (&["review", "decide", "contact", "1"], "<--take <TAKE>|--all <ALL>|--field <POINTER=CHOICE>"),
        (&["review", "decide", "contact", "1", "--value", "/phone=+49"], "is not JSON"),
        (&["look", "acme", "contact"], "<--id <ID>|--external <EXTERNAL>|--all>"),
        (&["map", "x.wasm", "y.json", "--from", "nowhere"], "possible values: canonical, provider"),
    ] {
        let done = house.tandem(arguments);
        assert_eq!((done.status, done.out.as_str()), (64, ""), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {said} is not in\n{}", done.err);
    }
}

#[test]
fn the_version_is_told_as_text_and_json() {
    let house = House::new(&[]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(house.tandem(&["version"]).ok(), format!("tandem {version}\n"));
    assert_eq!(house.tandem(&["--version"]).ok(), format!("tandem {version}\n"));
    assert_eq!(house.tandem(&["version", "--json"]).json(), json!({ "version": version }));
}

#[test]
fn a_wrong_main_file_ends_every_command_with_64_and_all_its_mistakes() {
    let house = House::new(&[("tandem.toml", "data_dir = 'data'\n[htpp]\n[log]\nlevel = 'loud'\n")]);
    for arguments in [&["check"][..], &["run"], &["status"], &["map", "a.wasm", "-", "--connection", "x"]] {
        house.write("doc.json", b"{}");
        let arguments: Vec<&str> = arguments.iter().map(|a| if *a == "-" { "doc.json" } else { a }).collect();
        let done = house.tandem(&arguments);
        assert_eq!((done.status, done.out.as_str()), (64, ""), "{arguments:?}");
        assert_eq!(
            done.err,
            "error: tandem.toml:1: auth.admin: missing; every API needs a token; write [auth] admin = { file = \"admin.token\" }\n\
             error: tandem.toml:2: htpp: unknown key; did you mean \"http\"?\n\
             error: tandem.toml:4: log.level: \"loud\" is not one of error, warn, info, debug, trace\n",
            "{arguments:?}"
        );
    }
}

#[test]
fn the_main_file_is_found_by_flag_then_by_variable() {
    let house = House::new(&[("a.toml", "a = 1"), ("b.toml", "b = 1")]).with("TANDEM_CONFIG", "b.toml");
    assert!(house.tandem(&["check"]).err.contains("b.toml:1: b: unknown key"));
    assert!(house.tandem(&["check", "--config", "a.toml"]).err.contains("a.toml:1: a: unknown key"));
    let done = House::new(&[]).tandem(&["check"]);
    assert_eq!(done.status, 64);
    assert_eq!(
        done.err,
        "error: tandem.toml: cannot be read: No such file or directory (os error 2); name another with --config or TANDEM_CONFIG\n"
    );
}

#[test]
fn check_is_content_with_what_is_right_and_leaves_no_trace() {
    let house = with_ledger();
    let report = house.tandem(&["check", "--json"]).json();
    assert_eq!((&report["ok"], &report["configuration"]), (&json!(true), &json!([])));
    assert_eq!(report["connections"][0]["name"], "acme-ledger");
    assert_eq!(report["connections"][0]["problems"], json!([]));
    let note = report["connections"][0]["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains("there is a secret \"webhook\""), "{note}");
    let guarantee = report["connections"][0]["notes"][1].as_str().unwrap_or_default();
    assert!(guarantee.starts_with("objects.contact: ") && guarantee.ends_with("(exact)"), "{guarantee}");
    let text = house.tandem(&["check"]).ok();
    assert!(text.starts_with("ok     configuration tandem.toml\nok     provider ledger@0.1.0#"), "{text}");
    assert!(text.contains("\nok     connection acme-ledger\n"), "{text}");
    assert!(!house.path().join("data").exists(), "check has no side effects");
}

#[test]
fn check_names_each_thing_that_is_wrong() {
    let house = with_ledger();
    let wrong = "provider = 'ledger'\nscope = 'globex'\nhosts = []\n[quotas.dayly]\nlimit = 3\n[settings]\nrefuse = false\n\
                 [objects.contact.fields]\n'/shoe_size' = {}\n[objects.deal]\n";
    house.write("connections/globex.toml", wrong.as_bytes());
    house.write("connections/initech.toml", CONNECTION.replace("'ledger'", "'zoho'").as_bytes());
    house.write("connections/refused.toml", format!("{CONNECTION}[settings]\nrefuse = true\n").as_bytes());
    house.write("providers/broken.wasm", b"not a component");
    let done = house.tandem(&["check", "--json"]);
    assert_eq!((done.status, done.err.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((&report["ok"], &report["configuration"]), (&json!(false), &json!([])));
    let problems = |name: &str| {
        let connections = report["connections"].as_array().expect("a list").iter();
        let found = connections.chain(report["providers"].as_array().expect("a list"));
        let found = found.filter(|one| one["name"].as_str().unwrap_or_default().contains(name));
        found.flat_map(|one| one["problems"].as_array().expect("a list").clone()).collect::<Vec<_>>()
    };
    assert_eq!(problems("acme-ledger"), Vec::<Value>::new());
    let globex: Vec<String> =
        problems("globex").iter().map(|p| p.as_str().unwrap_or_default().to_owned()).collect();
    for (found, begins) in globex.iter().zip([
        "objects.contact.fields.\"/shoe_size\": the provider maps no such field; it maps /annual_revenue, ",
        "objects.deal: provider ledger has no such object; it has contact",
        "hosts: the provider needs \"127.0.0.1\", which is not granted; add it to hosts",
        "quotas.dayly: the provider has no such quota; it has burst",
        "auth: missing; the provider knows token",
    ]) {
        assert!(found.starts_with(begins), "{found}");
    }
    assert_eq!(globex.len(), 5, "{globex:?}");
    let initech = problems("initech");
    let said = initech[0].as_str().unwrap_or_default();
    assert!(said.starts_with("provider: there is no provider zoho in "), "{said}");
    let said = problems("refused")[0].to_string();
    assert!(said.contains("the settings ask to be refused"), "{said}");
    assert_eq!(problems("broken.wasm").len(), 1);
    // Only what is asked for.
    let one = house.tandem(&["check", "--json", "acme-ledger"]);
    let one: Value = serde_json::from_str(&one.out).expect("JSON");
    assert_eq!(one["connections"].as_array().map(Vec::len), Some(1));
    assert_eq!(house.tandem(&["check", "nobody"]).status, 64);
}

#[test]
fn check_ends_with_64_when_files_or_secrets_are_wrong() {
    let house = with_ledger();
    house.write(
        "connections/bad.toml",
        b"provider = 'ledger'\nscoop = 'acme'\nhosts = []\n[objects.contact]\n",
    );
    house.write("admin.token", b"short");
    house.write("connections/other.toml", CONNECTION.replace("../admin.token", "nowhere").as_bytes());
    let done = house.tandem(&["check"]);
    assert_eq!(done.status, 64);
    let path = |name: &str| format!("connections/{name}.toml");
    for line in [
        format!("{}:2: scoop: unknown key; did you mean \"scope\"?", path("bad")),
        format!(
            "{}:1: scope: missing; name the customer's part of System A, for example scope = \"acme\"",
            path("bad")
        ),
        format!(
            "{}:5: auth.token: secret file connections/nowhere: No such file or directory (os error 2)",
            path("other")
        ),
    ] {
        assert!(done.out.contains(&format!("         {line}\n")), "{line} is not in\n{}", done.out);
    }
    // Once the files are right, the tokens are looked at.
    std::fs::remove_file(house.path().join(path("bad"))).expect("removed");
    std::fs::remove_file(house.path().join(path("other"))).expect("removed");
    let done = house.tandem(&["check"]);
    assert_eq!(done.status, 64);
    assert!(done.out.contains("tandem.toml:5: auth.admin: the token has 5 characters"), "{}", done.out);
}

#[test]
fn map_shows_a_document_there_and_back() {
    let house = House::new(&[(
        "contact.json",
        r#"{ "email": "ada@example.com", "phone": "+49 30 1", "city": null }"#,
    )]);
    let ledger = guest("ledger");
    let text = house.tandem(&["map", &ledger.display().to_string(), "contact.json"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("ledger@0.1.0#") && lines[0].ends_with(" contact, document 1 of 1"),
        "{text}"
    );
    assert_eq!(
        &lines[1..],
        [
            "     FIELD   SYSTEM A           CRM                       BACK IN SYSTEM A",
            "  =  /city   null               /city null                =",
            "  =  /email  \"ada@example.com\"  /email \"ada@example.com\"  =",
            "  =  /phone  \"+49 30 1\"         /phone \"+49 30 1\"         =",
            "",
            "= came back as it went",
            "1 of 1 documents went there and back as the laws say",
        ]
    );
    let report = house.tandem(&["map", &ledger.display().to_string(), "contact.json", "--json"]).json();
    assert_eq!(
        report["records"][0]["mapped"],
        json!({ "email": "ada@example.com", "phone": "+49 30 1", "city": null })
    );
    assert_eq!(report["records"][0]["fields"][1]["verdict"], "same");
}

#[test]
fn map_shows_a_document_of_the_crm_there_and_back() {
    let house = House::new(&[
        ("crm.json", r#"[{ "email": "ada@example.com", "notes": "x", "shoe_size": 38 }, { "notes": "a" }]"#),
        ("settings.json", r#"{ "greeting": "dear " }"#),
    ]);
    let ledger = guest("ledger").display().to_string();
    let text = house.tandem(&["map", &ledger, "crm.json", "--from", "provider"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("ledger@0.1.0#") && lines[0].ends_with(" contact, document 1 of 2"),
        "{text}"
    );
    assert_eq!(
        &lines[1..4],
        [
            "     FIELD   CRM                       SYSTEM A           BACK IN THE CRM",
            "  =  /email  /email \"ada@example.com\"  \"ada@example.com\"  =",
            "  =  /notes  /notes \"x\"                \"x\"                =",
        ]
    );
    assert!(
        text.ends_with("= came back as it went\n2 of 2 documents went there and back as the laws say\n"),
        "{text}"
    );
    // With a setting that adds to a note each time, what would be written back is shown beside what is there.
    let done =
        house.tandem(&["map", &ledger, "crm.json", "--from", "provider", "--settings", "settings.json"]);
    assert_eq!(done.status, 1);
    let notes: Vec<&str> = done.out.lines().filter(|line| line.contains("/notes")).collect();
    assert_eq!(
        notes,
        [
            "  !  /notes  /notes \"x\"                \"x\"                /notes \"dear x\"",
            "  !  /notes  /notes \"a\"  \"a\"       /notes \"dear a\"",
        ]
    );
    assert!(done.out.contains("! came back otherwise: a law is broken\n0 of 2 documents"), "{}", done.out);
}

#[test]
fn map_from_the_crms_side_keeps_what_is_not_mapped() {
    let house =
        House::new(&[("crm.json", r#"[{ "email": "ada@example.com", "shoe_size": 38 }, { "email": 3 }]"#)]);
    let ledger = guest("ledger");
    let done =
        house.tandem(&["map", &ledger.display().to_string(), "crm.json", "--from", "provider", "--json"]);
    assert_eq!(
        (done.status, done.err.as_str()),
        (1, "error: the mapping does not keep its laws, or refused a document\n")
    );
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((&report["records"][0]["ok"], &report["records"][0]["problems"]), (&json!(true), &json!([])));
    assert_eq!(report["records"][0]["back"]["shoe_size"], 38);
    // The second one breaks the CRM's schema, and then the canonical one.
    let at: Vec<_> = report["records"][1]["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| (&p["at"], &p["pointer"]))
        .collect();
    assert_eq!(at, [(&json!("given"), &json!("/email")), (&json!("mapped"), &json!("/email"))]);
}

#[test]
fn map_shows_a_broken_law() {
    let house = House::new(&[
        ("contact.json", r#"{ "email": "ada@example.com", "notes": "x" }"#),
        ("settings.json", r#"{ "greeting": "dear " }"#),
    ]);
    let ledger = guest("ledger");
    let done =
        house.tandem(&["map", &ledger.display().to_string(), "contact.json", "--settings", "settings.json"]);
    assert_eq!(done.status, 1);
    assert!(
        done.out.contains("  !  /notes  \"x\"                /notes \"dear x\"           \"dear x\"\n"),
        "{}",
        done.out
    );
    assert!(done.out.contains("! came back otherwise: a law is broken\n0 of 1 documents"), "{}", done.out);
}

#[test]
fn map_says_what_it_cannot_use() {
    let house = with_ledger();
    house.write("deep.json", format!("{}1{}", "[".repeat(1000), "]".repeat(1000)).as_bytes());
    house.write("contact.json", b"{}");
    house.write("list.json", b"[]");
    let ledger = guest("ledger").display().to_string();
    for (arguments, status, said) in [
        (
            vec!["map", &ledger, "nowhere.json"],
            64,
            "error: nowhere.json: No such file or directory (os error 2)\n",
        ),
        (vec!["map", &ledger, "deep.json"], 64, "error: deep.json: "),
        (
            vec!["map", &ledger, "contact.json", "--object", "deal"],
            64,
            "has no object \"deal\"; it has contact\n",
        ),
        (
            vec!["map", &ledger, "contact.json", "--current", "list.json"],
            64,
            "error: list.json: is not a JSON object\n",
        ),
        (vec!["map", "contact.json", "contact.json"], 1, "error: contact.json: "),
        (
            vec!["map", &ledger, "contact.json", "--connection", "nobody"],
            64,
            "error: there is no connection \"nobody\" in connections\n",
        ),
    ] {
        let done = house.tandem(&arguments);
        assert_eq!((done.status, done.out.as_str()), (status, ""), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
    }
    assert_eq!(house.tandem(&["map", &ledger, "contact.json", "--connection", "acme-ledger"]).status, 0);
}

#[test]
fn a_port_that_is_not_known_is_no_address() {
    let done = House::configured().tandem(&["status"]);
    assert_eq!(done.status, 64);
    assert!(
        done.err.contains("http.listen takes any free port") && done.err.contains("TANDEM_URL"),
        "{}",
        done.err
    );
    assert!(!done.err.contains(TOKEN));
}
