//! The provider, run natively against the simulator over real HTTP. The simulator counts what HubSpot's published description
//! does not allow: none of our requests may be among it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use provider_hubspot::HubSpot;
use serde_json::{Map, Value, json};
use tandem_provider::{
    Answer, Attribute, Context, Find, Listing, Observed, Operation, Proof, Provider, Reference, Remove,
    Reply, Request, Response, State, Write,
};
use tandem_simulator::control::Client;
use tandem_simulator::control::types::{AccountInfo, NewAccounts, NewApp, QuotaSizes};
use tandem_simulator::{Config, Handle, Simulator};
use tokio::runtime::Runtime;

struct Setting {
    runtime: Runtime,
    simulator: Handle,
    control: Client,
    account: AccountInfo,
    provider: HubSpot,
}

impl Drop for Setting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = self.runtime.block_on(self.control.violations()).unwrap();
            assert_eq!(violations.total, 0, "{:#?}", violations.listed);
        }
        self.simulator.shutdown();
    }
}

fn property(name: &str, kind: &str, field: &str, unique: bool) -> Map<String, Value> {
    let property = json!({
        "name": name, "label": name, "groupName": "contactinformation", "type": kind, "fieldType": field,
        "hasUniqueValue": unique,
    });
    property.as_object().unwrap().clone()
}

impl Setting {
    fn new(settings: &Value) -> Self {
        Self::with(settings, |_| {})
    }

    fn with(settings: &Value, change: impl FnOnce(&mut NewAccounts)) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(Config::default())).unwrap();
        let control = simulator.client();
        let account = runtime.block_on(async {
            let app = control.create_app(&NewApp::default()).await.unwrap();
            let mut new = NewAccounts::new(app.app_id, 1);
            new.settings.index_lag_min_ms = 0;
            new.settings.index_lag_max_ms = 0;
            new.quota = Some(QuotaSizes::UNLIMITED);
            new.properties = vec![
                property("tandem_key", "string", "text", true),
                property("headcount", "number", "number", false),
                property("no_marketing", "bool", "booleancheckbox", false),
                property("renewal", "date", "date", false),
                property("fee", "number", "number", false),
            ];
            change(&mut new);
            control.create_accounts(&new).await.unwrap().remove(0)
        });
        let mut setting = Self {
            provider: HubSpot::configure(settings, &json!({})).unwrap(),
            runtime,
            simulator,
            control,
            account,
        };
        // As the daemon does: learn the account, then configure with what was learnt.
        let mut facts = setting.facts(&Operation::Probe);
        let found = setting.facts(&Operation::Discover("contact".into()));
        facts["objects"] = found["objects"].clone();
        setting.provider = HubSpot::configure(settings, &facts).unwrap();
        setting
    }

    fn facts(&self, operation: &Operation) -> Value {
        match self.run(operation).answer {
            Answer::Facts(facts) => serde_json::from_slice(&facts).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.runtime.block_on(self.control.advance(0)).unwrap()).unwrap()
    }

    fn run(&self, operation: &Operation) -> Reply {
        let context = Context { now: self.now(), attributes: Vec::new() };
        let mut reply = self.provider.start(operation, &context);
        for _ in 0..10 {
            let Answer::Send(step) = reply.answer else { return reply };
            let response = self.send(&step.request);
            reply = self.provider.resume(operation, &step.note, &response, &context);
        }
        panic!("too many requests for one operation")
    }

    /// One request over its own connection, with what the host adds.
    fn send(&self, request: &Request) -> Response {
        let address = self.simulator.api_url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {}\r\n",
            request.method,
            request.path(),
            self.account.access_token
        );
        for header in &request.headers {
            text.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
        let body = request.body.clone().unwrap_or_default();
        text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(text.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let allowed = HubSpot::describe().response_headers;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| Attribute::new(name.to_ascii_lowercase(), value))
            .filter(|header| allowed.contains(&header.name))
            .collect();
        Response { status, headers, body: answer[end + 4..].to_vec() }
    }

    fn create(&self, key: &str, canonical: &Value) -> Answer {
        let document = self.provider.to_provider("contact", canonical.to_string().as_bytes(), None).unwrap();
        self.run(&write(None, document, Vec::new(), key)).answer
    }

    fn update(&self, id: &str, canonical: &Value, changed: &[&str]) -> Answer {
        let Answer::Current(observed) = self.read(id) else { panic!("a record") };
        let State::Whole(current) = observed.state else { panic!("a whole record") };
        let canonical = canonical.to_string();
        let document = self.provider.to_provider("contact", canonical.as_bytes(), Some(&current)).unwrap();
        self.run(&write(Some(id), document, changed.iter().map(|it| (*it).to_owned()).collect(), "k")).answer
    }

    fn read(&self, id: &str) -> Answer {
        self.run(&Operation::Read(Reference { object: "contact".into(), id: id.into() })).answer
    }

    fn canonical(&self, id: &str) -> Value {
        match self.read(id) {
            Answer::Current(observed) => match observed.state {
                State::Whole(document) => {
                    serde_json::from_slice(&self.provider.to_canonical("contact", &document).unwrap())
                        .unwrap()
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn find(&self, key: Option<&str>, identity: &[(&str, &str)]) -> Vec<Observed> {
        let find = Operation::Find(Find {
            object: "contact".into(),
            key: key.map(str::to_owned),
            identity: identity.iter().map(|(name, value)| Attribute::new(*name, *value)).collect(),
        });
        match self.run(&find).answer {
            Answer::Found(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn remove(&self, id: &str) -> Answer {
        self.run(&Operation::Remove(Remove {
            object: "contact".into(),
            id: id.into(),
            version: None,
            stamp: None,
        }))
        .answer
    }

    fn look(&self, cursor: &mut Option<Vec<u8>>) -> Vec<Observed> {
        let mut rows = Vec::new();
        loop {
            let listing = Listing { object: "contact".into(), cursor: cursor.take(), limit: 200 };
            match self.run(&Operation::Changes(listing)).answer {
                Answer::Page(page) => {
                    rows.extend(page.rows);
                    *cursor = Some(page.cursor);
                    if !page.more {
                        return rows;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn write(id: Option<&str>, document: Vec<u8>, changed: Vec<String>, key: &str) -> Operation {
    Operation::Write(Write {
        object: "contact".into(),
        id: id.map(str::to_owned),
        document,
        changed,
        version: None,
        stamp: None,
        key: key.into(),
        keep: None,
        previous: None,
        attributes: Vec::new(),
    })
}

fn written(answer: Answer) -> Observed {
    match answer {
        Answer::Written(written) => written.observed,
        other => panic!("{other:?}"),
    }
}

fn settings() -> Value {
    json!({
        "properties": { "/employees": "headcount", "/opted_out": "no_marketing" },
        "custom": {
            "/custom/renewal": { "property": "renewal", "type": "date" },
            "/custom/fee": { "property": "fee", "type": "decimal" },
        },
    })
}

#[test]
fn a_contact_lives_its_life() {
    for version in ["v3", "2026-03", "2026-09"] {
        let mut all = settings();
        all["api_version"] = json!(version);
        let setting = Setting::new(&all);
        let ann = json!({
            "email": "ann@example.com", "given_name": "Zoë \u{1f600}", "family_name": "O'Brien", "city": "Ulm", "language": "en-GB",
            "lifecycle_stage": "lead", "date_of_birth": "1980-02-29", "annual_revenue": "1234567.50", "employees": 250,
            "opted_out": false, "notes": "a;b\nc", "custom": { "renewal": "2027-01-31", "fee": "12.5" },
        });
        let id = written(setting.create("k-1", &ann)).id;
        assert_eq!(setting.canonical(&id), ann, "{version}");

        let taken = setting.create("k-2", &json!({ "email": "Ann@Example.com" }));
        assert_eq!(taken, Answer::Exists(Reference { object: "contact".into(), id: id.clone() }));

        let mut changed = ann.clone();
        changed["given_name"] = json!("Anne");
        changed.as_object_mut().unwrap().remove("city");
        changed["custom"]["renewal"] = Value::Null;
        written(setting.update(&id, &changed, &["/given_name", "/city", "/custom/renewal"]));
        changed["custom"].as_object_mut().unwrap().remove("renewal");
        assert_eq!(setting.canonical(&id), changed);

        let found = setting.find(None, &[("/email", "ann@example.com")]);
        assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
        let found = setting.find(None, &[("/family_name", "O'Brien")]);
        assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
        assert!(setting.find(None, &[("/email", "nobody@example.com")]).is_empty());

        assert_eq!(written(setting.remove(&id)).state, State::Gone(Proof::Confirmed));
        for answer in [
            setting.read(&id),
            setting
                .run(&write(
                    Some(&id),
                    br#"{"properties":{"city":"Bonn"}}"#.to_vec(),
                    vec!["/city".into()],
                    "k",
                ))
                .answer,
        ] {
            let Answer::Current(observed) = answer else { panic!("{answer:?}") };
            assert_eq!(observed.state, State::Gone(Proof::Confirmed));
        }
        let Answer::Current(observed) = setting.read("999999999") else { panic!("an observation") };
        assert_eq!(observed.state, State::Gone(Proof::Unconfirmed));
    }
}

#[test]
fn a_create_with_a_key_may_be_repeated_and_never_overwrites() {
    let setting = Setting::new(&json!({ "key_property": "tandem_key" }));
    let ann = json!({ "email": "ann@example.com", "given_name": "Ann" });
    let first = written(setting.create("k-1", &ann));
    let again = written(setting.create("k-1", &ann));
    assert_eq!((first.id.as_str(), first.key.as_deref()), (again.id.as_str(), Some("k-1")));
    assert_eq!(
        setting.create("k-2", &ann),
        Answer::Exists(Reference { object: "contact".into(), id: first.id.clone() })
    );
    let found = setting.find(Some("k-1"), &[]);
    assert_eq!((found[0].id.as_str(), found[0].key.as_deref()), (first.id.as_str(), Some("k-1")));
    assert!(setting.find(Some("k-9"), &[]).is_empty());
}

#[test]
fn refused_values_are_named() {
    let setting = Setting::new(&json!({}));
    let id = written(setting.create("k-1", &json!({ "email": "ann@example.com" }))).id;
    let places = |answer: Answer| match answer {
        Answer::Rejected(problems) => {
            problems.into_iter().map(|it| it.pointer.unwrap_or_default()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(places(setting.create("k-2", &json!({ "email": "not an address" }))), ["/email"]);
    assert_eq!(
        places(setting.update(&id, &json!({ "email": "x", "language": "xx-YY" }), &["/email", "/language"])),
        ["/email", "/language"]
    );
    let bob = written(setting.create("k-3", &json!({ "email": "bob@example.com" }))).id;
    // An address that another contact has is no wrong value: the answer says whose it is.
    assert_eq!(
        setting.update(&bob, &json!({ "email": "ann@example.com" }), &["/email"]),
        Answer::Exists(Reference { object: "contact".into(), id: id.clone() })
    );
}

#[test]
fn changes_of_people_deletions_and_merges_are_seen() {
    let setting = Setting::new(&json!({ "deletions_every_ms": 0 }));
    let mut cursor = None;
    assert!(setting.look(&mut cursor).is_empty());
    let portal = setting.account.portal_id;
    let (a, b, c) = setting.runtime.block_on(async {
        let a = setting.control.person_creates(portal, &[("email", "a@example.com")]).await.unwrap();
        let b = setting.control.person_creates(portal, &[("email", "b@example.com")]).await.unwrap();
        let c = setting.control.person_creates(portal, &[("email", "c@example.com")]).await.unwrap();
        (a.id, b.id, c.id)
    });
    let ids = |rows: &[Observed]| {
        let mut ids: Vec<u64> = rows.iter().map(|row| row.id.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&setting.look(&mut cursor)), [a, b, c]);
    assert!(setting.look(&mut cursor).is_empty());
    setting.runtime.block_on(async {
        setting.control.person_edits(portal, a, &[("city", "Ulm")]).await.unwrap();
        setting.control.person_deletes(portal, b).await.unwrap();
    });
    let rows = setting.look(&mut cursor);
    assert_eq!(ids(&rows), [a, b]);
    for row in &rows {
        let is_gone = row.state == State::Gone(Proof::Confirmed);
        assert_eq!(is_gone, row.id == b.to_string());
    }
    setting.runtime.block_on(setting.control.person_merges(portal, a, c)).unwrap();
    let Answer::Current(observed) = setting.read(&c.to_string()) else { panic!("an observation") };
    let State::Moved(to) = observed.state else { panic!("{:?}", observed.state) };
    assert_ne!(to.id, c.to_string());
    assert!(ids(&setting.look(&mut cursor)).contains(&to.id.parse().unwrap()));
}

#[test]
fn an_import_beyond_the_cap_of_search_is_seen_whole_and_walked_whole() {
    let setting = Setting::new(&json!({}));
    let mut cursor = None;
    setting.look(&mut cursor);
    let records = (0..10_450)
        .map(|n| [("email".to_owned(), format!("n{n}@example.com"))].into_iter().collect())
        .collect();
    let import = setting.control.person_imports(setting.account.portal_id, records, true);
    let imported = setting.runtime.block_on(import).unwrap();
    assert!(imported.refused.is_empty());
    let mut seen: Vec<String> = setting.look(&mut cursor).into_iter().map(|row| row.id).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10_450);
    let (mut cursor, mut walked) = (None, 0);
    loop {
        let listing = Listing { object: "contact".into(), cursor, limit: 100 };
        let Answer::Page(page) = setting.run(&Operation::Walk(listing)).answer else { panic!("a page") };
        walked += page.rows.len();
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    assert_eq!(walked, 10_450);
}

#[test]
fn spent_quotas_are_told_apart() {
    let throttled = |answer: Answer| match answer {
        Answer::Throttled { quota, .. } => quota,
        other => panic!("{other:?}"),
    };
    let setting = Setting::with(&json!({}), |new| {
        new.quota = Some(QuotaSizes { burst: 5, daily: Some(1_000), search: 1 });
    });
    // Probe and discover have taken two of five.
    let reply = setting.run(&Operation::Read(Reference { object: "contact".into(), id: "1".into() }));
    assert!(
        reply.quotas.iter().any(|it| it.quota == "burst" && it.limit == Some(5) && it.remaining.is_some())
    );
    assert!(reply.quotas.iter().any(|it| it.quota == "daily" && it.limit == Some(1_000)));
    let mut last = setting.read("1");
    for _ in 0..5 {
        if !matches!(last, Answer::Throttled { .. }) {
            last = setting.read("1");
        }
    }
    assert_eq!(throttled(last).as_deref(), Some("burst"));

    let setting = Setting::with(&json!({}), |new| {
        new.quota = Some(QuotaSizes { burst: 1_000, daily: Some(4), search: 1_000 });
    });
    let mut last = setting.read("1");
    for _ in 0..4 {
        if !matches!(last, Answer::Throttled { .. }) {
            last = setting.read("1");
        }
    }
    assert_eq!(throttled(last).as_deref(), Some("daily"));
}

#[test]
fn a_token_that_is_not_valid_is_said_to_be_so() {
    let mut setting = Setting::new(&json!({}));
    setting.account.access_token = "pat-na1-wrong".to_owned();
    assert!(matches!(setting.read("1"), Answer::Unauthorised(_)));
}
