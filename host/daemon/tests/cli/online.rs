//! Commands that ask a daemon.

use serde_json::{Value, json};

use crate::support::{Daemon, House, TOKEN};

fn connection(name: &str) -> Value {
    json!({
        "connection": name, "provider": "hubspot@0.1.0#1a2b3c4d", "scope": "acme", "state": "running",
        "paused": { "to_external": false, "to_internal": false }, "freshness_ms": null, "waiting": 0, "delayed": 0,
        "review": 0, "dead": 0, "cause": "none", "detail": ""
    })
}

fn status(connections: &Value) -> Value {
    json!({
        "version": "0.1.0", "started_at": 1_795_392_000_000_u64, "paused": { "to_external": false, "to_internal": false },
        "draining": false, "connections": connections
    })
}

#[test]
fn status_is_a_table_with_causes() {
    let mut late = connection("globex");
    for (key, value) in json!({
        "state": "waiting", "freshness_ms": 754_000, "waiting": 12, "delayed": 3, "dead": 1, "cause": "quota",
        "detail": "daily is used up until 00:00", "paused": { "to_external": true, "to_internal": false }
    })
    .as_object()
    .expect("an object")
    {
        late[key] = value.clone();
    }
    let answer = status(&json!([connection("acme"), late]));
    let daemon = Daemon::answering(&[("GET /v1/status", 200, answer.clone())]);
    assert_eq!(
        daemon.house().tandem(&["status"]).ok(),
        "tandem 0.1.0, running since 2026-11-23 00:00:00Z\n\n\
         CONNECTION  SCOPE  PROVIDER                STATE    OLDEST  READY  DELAYED  REVIEW  ASIDE  CAUSE\n\
         acme        acme   hubspot@0.1.0#1a2b3c4d  running  -       0      0        0       0      -\n\
         globex      acme   hubspot@0.1.0#1a2b3c4d  waiting  12 min  12     3        0       1      quota: daily is used up until 00:00\n"
    );
    assert_eq!(daemon.house().tandem(&["status", "--json"]).json(), answer);
}

#[test]
fn empty_answers_say_so_in_words() {
    let daemon = Daemon::answering(&[
        ("GET /v1/status", 200, status(&json!([]))),
        ("GET /v1/dead?limit=100", 200, json!([])),
        ("GET /v1/review?limit=100", 200, json!([])),
        ("GET /v1/providers", 200, json!([])),
        (
            "POST /v1/connections/reload",
            200,
            json!({ "added": [], "changed": [], "removed": [], "refused": {} }),
        ),
        ("POST /v1/dead/replay", 200, json!({ "count": 0 })),
    ]);
    let house = daemon.house();
    for (arguments, said) in [
        (&["status"][..], "There are no connections yet: put a file for each into the connections folder.\n"),
        (&["dead", "list"], "Nothing is set aside.\n"),
        (&["review", "list"], "Nothing waits for a decision.\n"),
        (
            &["provider", "list"],
            "There are no providers: put a component (.wasm) into the providers folder.\n",
        ),
        (&["reload"], "Nothing changed.\n"),
        (&["dead", "replay", "--all"], "replayed nothing: there is no such thing\n"),
    ] {
        let text = house.tandem(arguments).ok();
        assert!(text.ends_with(said), "{arguments:?}: {text}");
    }
}

#[test]
fn what_is_asked_is_what_was_meant() {
    let one = json!({ "count": 1 });
    let daemon = Daemon::answering(&[
        ("POST /v1/pause", 200, one.clone()),
        ("POST /v1/resume", 200, one.clone()),
        ("POST /v1/dead/replay", 200, one.clone()),
        ("POST /v1/dead/drop", 200, one.clone()),
        ("POST /v1/look", 200, one.clone()),
        ("GET /v1/status?connection=acme", 200, status(&json!([connection("acme")]))),
        ("GET /v1/dead?connection=acme&limit=5", 200, json!([])),
    ]);
    let house = daemon.house();
    let look = |records: Value| json!({ "connection": "acme", "object": "contact", "records": records });
    for (arguments, asked) in [
        (&["pause", "--all"][..], vec![("POST /v1/pause", json!({ "direction": "both" }))]),
        (
            &["pause", "acme", "--direction", "to-external"],
            vec![("POST /v1/pause", json!({ "connection": "acme", "direction": "to-external" }))],
        ),
        (
            &["resume", "acme"],
            vec![("POST /v1/resume", json!({ "connection": "acme", "direction": "both" }))],
        ),
        (
            &["dead", "replay", "3", "4"],
            vec![
                ("POST /v1/dead/replay", json!({ "seq": 3 })),
                ("POST /v1/dead/replay", json!({ "seq": 4 })),
            ],
        ),
        (
            &["dead", "drop", "--connection", "acme"],
            vec![("POST /v1/dead/drop", json!({ "connection": "acme" }))],
        ),
        (&["dead", "drop", "--all"], vec![("POST /v1/dead/drop", json!("all"))]),
        (
            &["look", "acme", "contact", "--id", "c1"],
            vec![("POST /v1/look", look(json!({ "internal": "c1" })))],
        ),
        (
            &["look", "acme", "contact", "--external", "501"],
            vec![("POST /v1/look", look(json!({ "external": "501" })))],
        ),
        (&["look", "acme", "contact", "--all"], vec![("POST /v1/look", look(json!("all")))]),
        (&["status", "acme"], vec![("GET /v1/status?connection=acme", Value::Null)]),
        (
            &["dead", "list", "--connection", "acme", "--limit", "5"],
            vec![("GET /v1/dead?connection=acme&limit=5", Value::Null)],
        ),
    ] {
        house.tandem(arguments).ok();
        let expected: Vec<_> =
            asked.into_iter().map(|(question, body)| (question.to_owned(), body)).collect();
        assert_eq!(daemon.asked(), expected, "{arguments:?}");
    }
    assert_eq!(house.tandem(&["dead", "replay", "3", "4"]).ok(), "replayed 2 records\n");
    assert_eq!(house.tandem(&["dead", "replay", "3", "4", "--json"]).json(), json!({ "count": 2 }));
}

#[test]
fn what_the_guard_stopped_is_listed_by_batch_and_ruled_on() {
    let one = |id: &str, kind: &str, changes: Value| {
        json!({
            "batch": 7, "entity": { "scope": "acme", "object": "contact", "id": id }, "connection": "acme-crm",
            "external": "501", "kind": kind, "sides": ["internal"], "since": 1_795_392_000_000_u64, "cause": "look",
            "why": "changed in the CRM", "changes": changes
        })
    };
    let change = json!([{ "side": "internal", "field": "/job_title", "from": "Pilot\u{1b}[2J" }]);
    let mut deletion = one("c3", "delete", json!([]));
    deletion["batch"] = json!(9);
    let withheld =
        json!([one("c1", "rewrite", change.clone()), one("c2", "rewrite", change.clone()), deletion]);
    let kept = json!([{
        "batch": 9, "entity": { "scope": "acme", "object": "contact", "id": "c4" }, "connection": "acme-crm",
        "external": "504", "side": "internal", "at": 1_795_392_000_000_u64, "why": "deleted in the CRM"
    }]);
    let erased = json!({
        "entity": { "scope": "acme", "object": "contact", "id": "c1" }, "done": false, "remains": ["backups"],
        "places": [{ "place": "System A", "what": "deleted", "gone": true }, { "place": "acme-crm record 501", "what": "not yet", "gone": false }]
    });
    let daemon = Daemon::answering(&[
        ("GET /v1/deletes?limit=100", 200, withheld.clone()),
        ("GET /v1/deletes?connection=acme-crm&limit=100", 200, json!([])),
        ("GET /v1/deletes/done?limit=100", 200, kept),
        ("POST /v1/deletes/approve", 200, json!({ "count": 2 })),
        ("POST /v1/deletes/reject", 200, json!({ "count": 1 })),
        (
            "POST /v1/deletes/undo",
            200,
            json!({ "count": 1, "not": ["acme/contact/c9: System A has it again"] }),
        ),
        ("POST /v1/erase", 200, erased),
    ]);
    let house = daemon.house();
    let text = house.tandem(&["deletes", "list"]).ok();
    for line in [
        "Batch 7: 2 updates that no edit asked for of contact in System A through acme-crm, since 2026-11-23 00:00:00Z",
        "Batch 9: 1 deletion of contact in System A through acme-crm, since 2026-11-23 00:00:00Z",
    ] {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    assert!(text.contains("System A /job_title: ") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("changed in the CRM"), "a deletion says why: {text}");
    assert_eq!(house.tandem(&["deletes", "list", "--json"]).json(), withheld);
    let none = house.tandem(&["deletes", "list", "--connection", "acme-crm"]).ok();
    assert_eq!(none, "Nothing waits for approval.\n");
    assert!(house.tandem(&["deletes", "list", "--done"]).ok().contains("deleted in the CRM"));
    daemon.asked();
    for (arguments, asked, body, said) in [
        (
            &["deletes", "approve", "--batch", "7"][..],
            "POST /v1/deletes/approve",
            json!({ "batch": 7 }),
            "approved 2 records\n",
        ),
        (
            &["deletes", "reject", "c3", "--scope", "acme", "--restore"],
            "POST /v1/deletes/reject",
            json!({ "ids": ["c3"], "scope": "acme", "restore": true }),
            "rejected 1 record\n",
        ),
        (
            &["deletes", "undo", "--all"],
            "POST /v1/deletes/undo",
            json!({ "all": true }),
            "undid 1 deletion\nnot undone: acme/contact/c9: System A has it again\n",
        ),
    ] {
        assert_eq!(house.tandem(arguments).ok(), said);
        assert_eq!(daemon.asked(), vec![(asked.to_owned(), body)], "{arguments:?}");
    }
    let text = house.tandem(&["erase", "contact", "501", "--connection", "acme-crm"]).ok();
    assert!(text.contains("NOT GONE  acme-crm record 501  not yet"), "{text}");
    assert!(text.contains("Not erased everywhere yet") && text.ends_with("  backups\n"), "{text}");
    let body = json!({ "connection": "acme-crm", "object": "contact", "id": "501" });
    assert_eq!(daemon.asked(), vec![("POST /v1/erase".to_owned(), body)]);
}

fn review(connection: &str, kind: &str, group: &str, fields: &[&str]) -> Value {
    let values =
        |value: &str| -> Value { fields.iter().map(|field| ((*field).to_owned(), json!(value))).collect() };
    let pair = json!({ "internal": "+49 30 0", "external": "+49 30 0" });
    json!({
        "entity": { "scope": "acme", "object": "contact", "id": "c1" }, "connection": connection, "external": "501",
        "kind": kind, "group": group, "fields": fields, "internal_values": values("+49 30 1"),
        "external_values": values("+49 30 2\u{1b}[2J"), "since": 1_795_392_000_000_u64, "why": "both sides changed it",
        "base": fields.iter().map(|field| ((*field).to_owned(), pair.clone())).collect::<Value>(),
        "internal_said": { "by": "api", "at": 1_795_392_000_000_u64 }, "external_said": { "by": "other" },
        "choices": ["internal", "external", "value"], "seen": format!("seen-of-{group}")
    })
}

const OF_C1: &str = "GET /v1/review?object=contact&id=c1&limit=10000";

fn reviewing() -> Daemon {
    let mut frozen = review("acme", "frozen", "/website", &["/website"]);
    frozen["choices"] = json!(["unfreeze"]);
    frozen["seen"] = json!("");
    frozen["writes"] = json!([
        { "at": 1_795_392_000_000_u64, "side": "internal" }, { "at": 1_795_392_001_000_u64, "side": "external" }
    ]);
    let all = json!([
        review("acme", "held", "/phone", &["/phone"]),
        review("acme", "held", "address", &["/city", "/street"]),
        frozen
    ]);
    Daemon::answering(&[
        (OF_C1, 200, all.clone()),
        ("GET /v1/review?object=contact&id=c2&limit=10000", 200, json!([])),
        (
            "GET /v1/review?scope=acme&connection=acme&object=contact&field=%2Fcity&kind=held&limit=7",
            200,
            all,
        ),
        ("POST /v1/review/decide", 200, json!({ "count": 2 })),
        ("POST /v1/review/unfreeze", 200, json!({ "count": 1 })),
    ])
}

#[test]
fn a_review_is_shown_with_what_was_agreed_both_values_and_who_gave_them() {
    let daemon = reviewing();
    let house = daemon.house();
    let shown = house.tandem(&["review", "show", "contact", "c1"]).ok();
    assert!(
        shown.starts_with(
            "acme/contact/c1 at acme -> 501, group /phone: held since 2026-11-23 00:00:00Z\n\
             \x20 both sides changed it\n\
             \x20 FIELD   AGREED      SYSTEM A    CRM\n\
             \x20 /phone  \"+49 30 0\"  \"+49 30 1\"  \"+49 30 2\\u001b[2J\"\n\
             \x20 System A's values: by api, changed 2026-11-23 00:00:00Z\n\
             \x20 the CRM's values: by somebody else, when is unknown\n\
             \x20 choices: internal, external, value\n\
             \x20 tandem review decide contact c1 --connection acme --group /phone --seen seen-of-/phone --take internal\n"
        ),
        "{shown}"
    );
    let frozen = "  2026-11-23 00:00:00Z  written in System A\n  2026-11-23 00:00:01Z  written in the CRM\n  choices: unfreeze\n";
    assert!(shown.ends_with(frozen), "{shown}");
    daemon.asked();
    let filter = [
        "--scope",
        "acme",
        "--connection",
        "acme",
        "--object",
        "contact",
        "--field",
        "/city",
        "--kind",
        "held",
    ];
    let listed = house.tandem(&[&["review", "list", "--limit", "7"][..], &filter].concat()).ok();
    assert!(
        listed.contains("acme   contact  c1  acme        address   2       held    2026-11-23 00:00:00Z  both sides changed it\n"),
        "{listed}"
    );
}

#[test]
fn a_decision_is_about_one_group_unless_it_says_otherwise() {
    let daemon = reviewing();
    let house = daemon.house();
    let done = house.tandem(&["review", "decide", "contact", "c1", "--take", "internal"]);
    assert_eq!(done.status, 64);
    assert!(
        done.err.starts_with(
            "error: that is not one thing; say which with --scope, --connection, --group or --field\nSCOPE "
        ),
        "{}",
        done.err
    );
    let done = house.tandem(&["review", "decide", "contact", "c2", "--take", "internal"]);
    assert_eq!(
        (done.status, done.err.as_str()),
        (1, "error: contact c2 does not wait for a decision; see tandem review list\n")
    );
    daemon.asked();

    let entity = json!({ "scope": "acme", "object": "contact", "id": "c1", "connection": "acme" });
    let with = |more: Value| {
        let mut body = entity.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ("POST /v1/review/decide".to_owned(), body)
    };
    let both = json!(["seen-of-/phone", "seen-of-address"]);
    for (arguments, asked) in [
        // What was looked at is what was found just now, unless the person says what they looked at.
        (
            &["--group", "/phone", "--value", "/phone=\"+49 30 3\""][..],
            with(
                json!({ "group": "/phone", "choice": { "values": { "/phone": "+49 30 3" } }, "seen": ["seen-of-/phone"] }),
            ),
        ),
        (
            &["--group", "address", "--take", "external", "--seen", "before"],
            with(json!({ "group": "address", "choice": "external", "seen": ["before"] })),
        ),
        (&["--all", "internal"], with(json!({ "choice": "internal", "seen": both }))),
        (
            &["--all", "external", "--group", "address", "--field", "/city=internal"],
            with(
                json!({ "group": "address", "choice": "external", "fields": { "/city": "internal" }, "seen": ["seen-of-address"] }),
            ),
        ),
        (
            &[
                "--field",
                "/phone=external",
                "--field",
                "/city=\"Bonn\"",
                "--field",
                "/street=null",
                "--force",
            ],
            with(json!({
                "fields": { "/phone": "external", "/city": { "value": "Bonn" }, "/street": { "value": null } },
                "seen": both, "force": true
            })),
        ),
    ] {
        let arguments = [&["review", "decide", "contact", "c1"], arguments].concat();
        assert_eq!(house.tandem(&arguments).ok(), "decided 2 groups\n", "{arguments:?}");
        assert_eq!(daemon.asked()[1], asked, "{arguments:?}");
    }
    for wrong in [
        &["--take", "internal", "--all", "internal"][..],
        &["--value", "/phone=1", "--field", "/phone=internal"],
        &["--field", "phone=internal"],
        &["--field", "/phone=neither"],
        &["--seen", "x"],
        &["--all", "internal", "--only", "/phone"],
        &["--all", "internal", "--yes"],
    ] {
        let arguments = [&["review", "decide", "contact", "c1"], wrong].concat();
        assert_eq!(house.tandem(&arguments).status, 64, "{arguments:?}");
    }
    daemon.asked();
    assert_eq!(house.tandem(&["review", "unfreeze", "contact", "c1"]).ok(), "unfroze 1 field\n");
    assert_eq!(daemon.asked()[1], ("POST /v1/review/unfreeze".to_owned(), entity));
}

#[test]
fn many_records_are_decided_after_their_number_was_told() {
    let told = json!({ "matching": 17, "records": 12, "decided": 16, "refused": ["acme/contact/c1 /phone: changed"] });
    let daemon = Daemon::answering(&[("POST /v1/review/decide-many", 200, told.clone())]);
    let house = daemon.house();
    let many =
        ["review", "decide", "contact", "--all", "external", "--connection", "acme", "--only", "/phone"];
    let done = house.tandem(&many);
    assert_eq!(
        (done.status, done.err.as_str()),
        (1, "error: 17 groups of 12 records would take the CRM's values; say --yes to decide them\n")
    );
    let filter = json!({ "connection": "acme", "object": "contact", "field": "/phone", "kind": "held" });
    let question = json!({ "filter": filter, "take": "external" });
    let asked = |body: &Value| ("POST /v1/review/decide-many".to_owned(), body.clone());
    assert_eq!(daemon.asked(), [asked(&question)], "nothing is decided without a yes");

    let yes = [&many[..], &["--yes"]].concat();
    assert_eq!(house.tandem(&yes).ok(), "decided 16 groups\nrefused  acme/contact/c1 /phone: changed\n");
    let mut order = question.clone();
    order["expected"] = json!(17);
    assert_eq!(daemon.asked(), [asked(&question), asked(&order)]);
    assert_eq!(house.tandem(&[&yes[..], &["--json"]].concat()).json(), told);

    let none = json!({ "matching": 0, "records": 0, "decided": 0, "refused": [] });
    let daemon = Daemon::answering(&[("POST /v1/review/decide-many", 200, none)]);
    let text = daemon.house().tandem(&["review", "decide", "--all", "internal", "--yes"]).ok();
    assert_eq!(text, "Nothing of that kind waits for a decision.\n");
    assert_eq!(daemon.house().tandem(&["review", "decide", "--take", "internal"]).status, 64);
}

#[test]
fn an_explanation_shows_both_halves_and_what_happened() {
    let answer = json!({
        "entity": { "scope": "acme", "object": "contact", "id": "c1" },
        "internal": { "version": 7, "changed_at": 1_795_392_000_000_u64, "document": { "email": "a@example.com" } },
        "links": [{
            "connection": "acme-hubspot", "external": "501", "life": "active", "incarnation": 0, "internal_version": 7,
            "external_version": null, "external_stamp": null, "committed_at": 1_795_392_001_000_u64,
            "base": {
                "/email": { "internal": "a@example.com", "external": "a@example.com" },
                "/phone": { "internal": "+49301", "external": "+49 30 1", "assumed": true },
                "/job_title": { "internal": null }
            },
            "held": {}, "frozen": { "/job_title": "it went back and forth 7 times" }, "refused": [], "owed": []
        }],
        "intents": [{ "connection": "globex", "call": "create", "opened_at": 1_795_392_002_000_u64, "unknown_since": null }],
        "hints": [], "dead": [],
        "history": [{
            "at": 1_795_392_001_000_u64, "connection": "acme-hubspot", "what": "wrote-external", "why": "1 field changed in System A",
            "cause": "edit", "provider": "hubspot@0.1.0#1a2b3c4d", "calls": 1,
            "delta": { "/phone": { "internal": "+49301", "external": "+49 30 1" } }
        }]
    });
    let question = "GET /v1/explain?scope=acme&object=contact&id=c1";
    let daemon = Daemon::answering(&[(question, 200, answer.clone())]);
    let house = daemon.house();
    assert_eq!(
        house.tandem(&["explain", "contact", "c1", "--scope", "acme"]).ok(),
        "contact c1 of scope acme\n\
         System A: version 7, changed 2026-11-23 00:00:00Z\n\
         \n\
         acme-hubspot -> 501, active, last settled 2026-11-23 00:00:01Z\n\
         \x20 FIELD       SYSTEM A         CRM\n\
         \x20 /email      \"a@example.com\"  =\n\
         \x20 /job_title  null             -           frozen: it went back and forth 7 times\n\
         \x20 /phone      \"+49301\"         \"+49 30 1\"  not seen since it was sent\n\
         \n\
         Being created at globex since 2026-11-23 00:00:02Z\n\
         \n\
         History, newest first\n\
         \x20 2026-11-23 00:00:01Z  acme-hubspot  wrote-external  after edit, by hubspot@0.1.0#1a2b3c4d, 1 call\n\
         \x20   1 field changed in System A\n\
         \x20   /phone: \"+49301\" | \"+49 30 1\"\n"
    );
    assert_eq!(house.tandem(&["explain", "contact", "c1", "--scope", "acme", "--json"]).json(), answer);
}

#[test]
fn a_story_goes_from_the_hint_to_the_base_and_says_what_was_known_at_a_moment() {
    let pair = |value: &str| json!({ "internal": value, "external": value });
    let noticed = json!({
        "work": 41, "at": 1_795_392_000_000_u64, "began": 1_795_392_000_012_u64, "class": "live", "hints": 2, "attempts": 1,
        "also": ["poll"], "said": "partial", "author": "other"
    });
    let answer = json!({
        "entity": { "scope": "acme", "object": "contact", "id": "c1" }, "internal": null,
        "links": [], "intents": [], "hints": [], "dead": [],
        "at": 1_795_392_001_000_u64,
        "past": [
            { "connection": "acme-hubspot", "base": { "/phone": pair("1") }, "unknown": ["/notes"], "short_of": null,
              "is_before_first": false, "last": { "at": 1_795_392_000_000_u64, "connection": "acme-hubspot",
              "what": "wrote-external", "why": "", "cause": "edit", "provider": "p", "calls": 1, "delta": {} } },
            { "connection": "globex", "base": {}, "unknown": [], "short_of": 1_795_392_002_000_u64, "is_before_first": false, "last": null },
            { "connection": "initech", "base": {}, "unknown": [], "short_of": null, "is_before_first": true, "last": null }
        ],
        "history": [
            {
                "at": 1_795_392_000_150_u64, "connection": "acme-hubspot", "what": "wrote-internal", "why": "to System A: /phone",
                "cause": "webhook", "provider": "hubspot@0.1.0#1a2b3c4d", "calls": 1,
                "delta": { "/phone": pair("2"), "/email": pair("a@b.c") }, "before": { "/phone": pair("1") },
                "differs": { "/phone": "both", "/email": "external" }, "cut": ["/notes"], "noticed": noticed,
                "seen": { "extent": "whole", "origin": "read", "version": "v7", "stamp": 9 }, "ruling": "rule customers only: sync",
                "exchanges": [{ "operation": "read", "requests": 1, "status": 200, "took_ms": 131, "answer": "current" }]
            },
            {
                "at": 1_795_392_000_149_u64, "connection": "acme-hubspot", "what": "conflict",
                "why": "both sides changed it; the CRM wins by policy", "cause": "webhook", "provider": "hubspot@0.1.0#1a2b3c4d",
                "calls": 0, "delta": {}, "fields": ["/phone"], "noticed": noticed
            },
            {
                "at": 1_795_392_000_148_u64, "connection": "acme-hubspot", "what": "overtaken", "why": "found late",
                "cause": "webhook", "provider": "hubspot@0.1.0#1a2b3c4d", "calls": 0,
                "delta": { "/email": pair("a@b.c"), "/fax": {}, "/name": pair("Ann") },
                "before": { "/name": pair("Ann") },
                "overtaken": { "/notes": null, "/phone": { "internal": "1", "external": "3" } }, "noticed": noticed
            }
        ]
    });
    let question = "GET /v1/explain?scope=acme&object=contact&id=c1&field=%2Fphone&at=-2h";
    let daemon = Daemon::answering(&[(question, 200, answer.clone())]);
    let house = daemon.house();
    let asked = ["explain", "contact", "c1", "--scope", "acme", "--field", "/phone", "--at", "-2h"];
    assert_eq!(
        house.tandem(&asked).ok(),
        "contact c1 of scope acme\n\
         System A has no such record.\n\
         There are no links.\n\
         \n\
         As of 2026-11-23 00:00:01Z\n\
         \x20 acme-hubspot: last wrote-external, 2026-11-23 00:00:00Z\n\
         \x20   FIELD   SYSTEM A  CRM\n\
         \x20   /phone  \"1\"       =\n\
         \x20   not known any more: /notes\n\
         \x20 globex: not known any more; the history that is kept of it begins 2026-11-23 00:00:02Z\n\
         \x20 initech: it was not linked yet\n\
         \n\
         History, newest first\n\
         \x20 2026-11-23 00:00:00Z  acme-hubspot  wrote-internal  after webhook, by hubspot@0.1.0#1a2b3c4d, 1 call\n\
         \x20   to System A: /phone\n\
         \x20   /email: \"a@b.c\", changed in the CRM\n\
         \x20   /phone: \"2\", was \"1\", changed on both sides\n\
         \x20   /notes: too large to be kept\n\
         \x20   noticed 2026-11-23 00:00:00Z, waited 12 ms, done after 138 ms, 2 hints in one, also poll, after a try in vain; it told of some fields, changed by somebody else\n\
         \x20   saw the whole record by a read, version v7, stamp 9\n\
         \x20   rule customers only: sync\n\
         \x20   read: 1 request, 131 ms, 200, current\n\
         \x20 2026-11-23 00:00:00Z  acme-hubspot  conflict  after webhook, by hubspot@0.1.0#1a2b3c4d, 0 calls\n\
         \x20   both sides changed it; the CRM wins by policy\n\
         \x20   about /phone\n\
         \x20 2026-11-23 00:00:00Z  acme-hubspot  overtaken  after webhook, by hubspot@0.1.0#1a2b3c4d, 0 calls\n\
         \x20   found late\n\
         \x20   /email: \"a@b.c\"\n\
         \x20   without a value: /fax\n\
         \x20   confirmed as they were: /name\n\
         \x20   /notes: the overtaken edit was too large to be kept\n\
         \x20   /phone: had been made \"3\" in the CRM, over \"1\" of System A\n"
    );
    assert_eq!(house.tandem(&[&asked[..], &["--json"]].concat()).json(), answer);
}

#[test]
fn a_dead_letter_is_shown_with_its_problems_and_the_way_out() {
    let letter = json!({
        "seq": 17, "connection": "acme", "object": "contact", "internal": null, "external": "501", "at": 1_795_392_000_000_u64,
        "point": "provider-in", "problems": [{ "code": "type", "message": "is a number, not text", "pointer": "/properties/email" }],
        "provider": "hubspot@0.1.0#1a2b3c4d", "cause": "webhook", "attempts": 1, "observed": { "email": 3 },
        "first_at": 1_795_391_000_000_u64, "count": 3
    });
    let daemon = Daemon::answering(&[
        ("GET /v1/dead/17", 200, letter.clone()),
        ("GET /v1/dead?limit=100", 200, json!([letter])),
    ]);
    let house = daemon.house();
    let list = house.tandem(&["dead", "list"]).ok();
    assert!(
        list.ends_with("17   2026-11-23 00:00:00Z  acme        contact  -         501  provider-in  /properties/email is a number, not text\n"),
        "{list}"
    );
    let text = house.tandem(&["dead", "show", "17"]).ok();
    for line in [
        "17 of connection acme, set aside 2026-11-23 00:00:00Z",
        "  System A   not known",
        "  set aside  3 times since 2026-11-22 23:43:20Z",
        "  /properties/email  type  is a number, not text",
        "    \"email\": 3",
        "Try again with: tandem dead replay 17",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
}

#[test]
fn what_the_daemon_refuses_ends_with_1_and_its_words() {
    let problem = json!({ "title": "not found", "status": 404, "detail": "there is no connection nobody" });
    let daemon = Daemon::answering(&[
        ("GET /v1/status?connection=nobody", 404, problem),
        ("GET /v1/providers", 200, json!({ "unexpected": true })),
    ]);
    let house = daemon.house();
    let done = house.tandem(&["status", "nobody"]);
    assert_eq!((done.status, done.out.as_str()), (1, ""));
    assert_eq!(done.err, format!("error: {}/v1/status: there is no connection nobody\n", daemon.url));
    let done = house.tandem(&["provider", "list"]);
    assert_eq!(done.status, 1);
    assert!(done.err.contains("do daemon and command have the same version?"), "{}", done.err);
    let stranger = House::new(&[]).with("TANDEM_URL", &daemon.url).with("TANDEM_TOKEN", "somebody-else's");
    let done = stranger.tandem(&["status"]);
    assert_eq!(
        (done.status, done.err),
        (1, format!("error: {}/v1/status: the token is not known\n", daemon.url))
    );
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_its_causes() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let house = House::new(&[]).with("TANDEM_URL", &url).with("TANDEM_TOKEN", TOKEN);
    let done = house.tandem(&["status"]);
    assert_eq!(done.status, 1);
    assert!(
        done.err.starts_with(&format!("error: no daemon answers at {url}; is it running?\n  caused by: ")),
        "{}",
        done.err
    );
    assert!(done.err.contains("Connection refused"), "{}", done.err);
}

#[test]
fn the_configuration_says_where_the_daemon_is_and_holds_the_token() {
    let daemon = Daemon::answering(&[("GET /v1/providers", 200, json!([]))]);
    let listen = daemon.url.trim_start_matches("http://");
    let main = format!("data_dir = 'data'\nhttp.listen = '{listen}'\nauth.admin.file = 'admin.token'\n");
    let house = House::new(&[("tandem.toml", &main), ("admin.token", &format!("{TOKEN}\n"))]);
    house.tandem(&["provider", "list"]).ok();
    assert_eq!(daemon.asked().len(), 1);
}
