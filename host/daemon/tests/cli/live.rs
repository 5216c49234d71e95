//! `check --live` against a CRM on this machine.

use serde_json::{Value, json};

use crate::support::{Daemon, House, TOKEN, guest};

/// A connection to a ledger that answers as laid out. It wants the same token as a daemon would.
pub(crate) fn connected(crm: &Daemon, more: &str) -> House {
    let house = House::configured();
    house.write("providers/ledger.wasm", &std::fs::read(guest("ledger")).expect("the ledger"));
    let connection = format!(
        "provider = 'ledger'\nscope = 'acme'\nbase_url = '{}'\nhosts = ['127.0.0.1']\nallow_loopback = true\n\
         auth = {{ scheme = 'token', token = {{ file = '../admin.token' }} }}\n{more}\n[objects.contact]\n",
        crm.url
    );
    house.write("connections/acme.toml", connection.as_bytes());
    house
}

fn steps(house: &House, status: i32) -> Vec<(String, bool, String)> {
    let done = house.tandem(&["check", "--live", "--json"]);
    assert_eq!((done.status, done.err.as_str()), (status, ""), "{}", done.out);
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["live"][0]["connection"], "acme");
    let steps = report["live"][0]["steps"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps.iter().map(|step| (text(&step["what"]), step["ok"] == json!(true), text(&step["detail"]))).collect()
}

const WALK: &str = "GET /records/contact?after=&limit=1";

#[test]
fn a_connection_that_would_work_is_proved_without_writing() {
    let page = json!({ "rows": [], "cursor": "", "more": false, "remaining": 97 });
    let crm =
        Daemon::answering(&[("GET /me", 200, json!({ "account": "7", "remaining": 99 })), (WALK, 200, page)]);
    let house = connected(&crm, "");
    let found = steps(&house, 0);
    let expected = [
        ("credentials", "the CRM takes them"),
        ("fields contact", "20 fields are mapped"),
        ("read contact", "records can be read"),
        ("write contact", "the provider cannot tell without writing"),
        ("quota", "burst: 97 of 100 left"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(what, said)| ((*what).to_owned(), true, (*said).to_owned())).collect();
    assert_eq!(found, expected);
    assert!(crm.asked().iter().all(|(question, _)| question.starts_with("GET ")), "nothing was written");
    assert!(!house.path().join("data").exists(), "and nothing here");
    let text = house.tandem(&["check", "--live"]).ok();
    assert!(text.contains("ok     live acme: credentials: the CRM takes them\n"), "{text}");
    // Without the flag nobody is asked.
    crm.asked();
    house.tandem(&["check"]).ok();
    assert_eq!(crm.asked(), []);
}

#[test]
fn a_token_that_is_refused_ends_the_questions() {
    let crm = Daemon::answering(&[]);
    let house = connected(&crm, "");
    house.write("connections/acme.token", b"somebody-else's-token");
    let text = std::fs::read_to_string(house.path().join("connections/acme.toml")).expect("a file");
    house.write("connections/acme.toml", text.replace("../admin.token", "acme.token").as_bytes());
    let found = steps(&house, 1);
    let [(what, false, said)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(what, "credentials");
    assert!(said.starts_with("the CRM does not accept the credentials: "), "{said}");
    assert!(said.ends_with("renew the token, or authorise again"), "{said}");
    assert!(!said.contains(TOKEN) && !said.contains("somebody-else's"), "{said}");
}

#[test]
fn a_permission_or_quota_that_is_missing_is_named() {
    let me = json!({ "account": "7", "remaining": 0 });
    let crm = Daemon::answering(&[
        ("GET /me", 200, me),
        (WALK, 403, json!({ "message": "no scope for contacts" })),
    ]);
    let found = steps(&connected(&crm, ""), 1);
    assert_eq!(
        found.iter().map(|(what, ok, _)| (what.as_str(), *ok)).collect::<Vec<_>>(),
        [
            ("credentials", true),
            ("fields contact", true),
            ("read contact", false),
            ("write contact", true),
            ("quota", false)
        ]
    );
    assert!(found[2].2.starts_with("the CRM does not allow it: "), "{found:?}");
    assert_eq!(found[4].2, "burst: 0 of 100 left; work waits until it is filled up again");
}

#[test]
fn a_crm_that_is_not_there_is_no_wrong_credential() {
    let crm = Daemon::answering(&[]);
    let house = connected(&crm, "");
    drop(crm);
    let found = steps(&house, 1);
    assert_eq!((found.len(), found[0].0.as_str(), found[0].1), (1, "credentials", false));
    assert!(found[0].2.contains("refused") && !found[0].2.contains("accept"), "{found:?}");
}
