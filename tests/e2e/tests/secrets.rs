//! Credentials stay in memory: they are in no log, metric, answer, file of the store or place that the system shows, whatever
//! goes wrong. Record contents are in no log, metric and error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

const LONG: Duration = Duration::from_secs(60);

/// Contents of records that are found nowhere else.
const CONTENTS: [&str; 5] =
    ["Zqxfamily7431", "+49 555 0187431", "zqx-note-7431", "zqx.person.7431", "zqx-title-7431"];

fn holds(bytes: &[u8], marker: &str) -> bool {
    bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
}

/// The files below a folder that hold one of the markers.
fn search(folder: &Path, markers: &[&str]) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let held = markers.iter().filter(|marker| holds(&bytes, marker));
            found.extend(held.map(|marker| (path.clone(), (*marker).to_owned())));
        }
    }
    Ok(found)
}

#[test]
fn a_planted_marker_is_found() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let deep = folder.path().join("queue/blobs");
    std::fs::create_dir_all(&deep)?;
    std::fs::write(deep.join("clean"), b"\x00\xffnothing\x00")?;
    assert_eq!(search(folder.path(), &["pat-marker"])?, []);
    std::fs::write(deep.join("7"), b"\x00\x01\xfe..pat-marker\x00tail")?;
    assert_eq!(search(folder.path(), &["other", "pat-marker"])?, [(deep.join("7"), "pat-marker".to_owned())]);
    Ok(())
}

struct Asked {
    what: String,
    status: u16,
    text: String,
}

async fn ask(request: reqwest::RequestBuilder, what: &str) -> Result<Asked, Error> {
    let answer = request.send().await?;
    let headers = format!("{:?}", answer.headers());
    let status = answer.status().as_u16();
    Ok(Asked { what: what.to_owned(), status, text: format!("{headers}\n{}", answer.text().await?) })
}

/// Everything wrong that somebody can send to the daemon.
async fn wrong_requests(house: &House) -> Result<Vec<Asked>, Error> {
    let http = client()?;
    let at = |path: &str| format!("{}{path}", house.base);
    let contents = CONTENTS.join(" ");
    let [family, phone, note, ..] = CONTENTS;
    let bad = json!({"family_name": 5, "phone": phone.repeat(9), "date_of_birth": note, "lifecycle_stage": family,
        "website": contents, "employees": note, "email": note, "tags": [family, 1]});
    let contact = at("/v1/scopes/acme/contact");
    let portal = house.customer("acme")?.info.portal_id;
    let event = json!([{"portalId": portal, "objectId": 1, "subscriptionType": "contact.propertyChange",
        "propertyName": "lastname", "propertyValue": family}]);
    let json_body = |request: reqwest::RequestBuilder, body: String| {
        request.header("content-type", "application/json").body(body)
    };
    Ok(vec![
        ask(json_body(http.post(&contact).bearer_auth(ADMIN), bad.to_string()), "a bad document").await?,
        ask(json_body(http.post(&contact).bearer_auth(ADMIN), format!("{{\"notes\": {note}")), "no JSON")
            .await?,
        ask(
            json_body(http.post(at("/v1/pause")).bearer_auth(ADMIN), "{\"connection\": 5}".to_owned()),
            "a bad order",
        )
        .await?,
        ask(
            json_body(http.post(at("/v1/review/decide")).bearer_auth(ADMIN), bad.to_string()),
            "a bad decision",
        )
        .await?,
        ask(http.get(at("/v1/nowhere")).bearer_auth(ADMIN), "an unknown route").await?,
        ask(http.get(at("/v1/status")).bearer_auth("a-wrong-token-7431"), "a wrong token").await?,
        ask(http.get(at("/v1/status")), "no token").await?,
        ask(http.get(at("/v1/dead/99999999")).bearer_auth(ADMIN), "an unknown letter").await?,
        ask(json_body(http.post(at("/hooks/app/hubspot")), event.to_string()), "an unsigned webhook").await?,
        ask(
            json_body(http.post(at("/hooks/app/hubspot")), event.to_string())
                .header("x-hubspot-signature-v3", "AAAA")
                .header("x-hubspot-request-timestamp", "1"),
            "a badly signed webhook",
        )
        .await?,
        ask(json_body(http.post(at("/hooks/app/hubspot")), note.to_owned()), "a webhook that is no JSON")
            .await?,
        ask(http.post(at("/hooks/app/nobody")).body(note), "an unknown webhook address").await?,
    ])
}

/// Triggers every disturbance that the simulator knows, one after the other, with an edit each.
async fn disturb(house: &House, id: &str) -> Result<(), Error> {
    let system_a = house.system_a("acme");
    let kinds = [
        FaultKind::Status { status: 500, retry_after: None },
        FaultKind::Status { status: 502, retry_after: None },
        FaultKind::Status { status: 503, retry_after: Some(1) },
        FaultKind::Status { status: 504, retry_after: None },
        FaultKind::Status { status: 423, retry_after: Some(1) },
        FaultKind::Status { status: 429, retry_after: Some(1) },
        FaultKind::Status { status: 477, retry_after: Some(1) },
        FaultKind::Status { status: 403, retry_after: None },
        FaultKind::ResetBefore,
        FaultKind::DropAfter,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        house.control.order(&FaultOrder::new(kind.clone()).operation("contacts.*").times(1)).await?;
        let note = format!("{} {number}", CONTENTS[2]);
        let edited = system_a.patch(id, &json!({ "notes": note })).await?;
        assert!(edited.status.is_success(), "{}", edited.status);
        until(&format!("{kind:?} has happened"), LONG, async || {
            let faults = house.control.faults().await?;
            let fired: u64 = faults.faults.iter().map(|fault| fault.fired).sum();
            Ok(if fired > 0 { Ok(()) } else { Err("not yet".to_owned()) })
        })
        .await?;
        house.control.clear_faults().await?;
        until(&format!("the edit after {kind:?} arrives"), LONG, async || {
            // What a refusal has stopped goes on when somebody says so.
            house.post("/v1/resume", &json!({"connection": "acme"})).await?;
            house.post("/v1/dead/replay", &json!("all")).await?;
            let there = house.customer("acme")?.account.list().await?;
            let arrived = there.iter().any(|it| it.properties.get("message") == Some(&note));
            Ok(if arrived { Ok(()) } else { Err(house.get("/v1/status").await?.to_string()) })
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_contents_stay_where_they_belong() -> Result<(), Error> {
    let environment = [("TANDEM_LOG".to_owned(), "trace".to_owned())].into_iter().collect();
    let mut house = House::build(Plan { environment, ..Plan::roomy(&["acme"]) }).await?;
    let customer = house.customer("acme")?;
    let (portal, token, client_secret) =
        (customer.info.portal_id, customer.info.access_token.clone(), house.app.client_secret.clone());
    let secrets = [token.as_str(), client_secret.as_str(), ADMIN, "a-wrong-token-7431"];
    let [family, phone, note, address, title] = CONTENTS;
    let system_a = house.system_a("acme");
    let document = json!({"email": format!("{address}@acme.example"), "family_name": family, "phone": phone, "notes": note});
    let id = system_a.create(&document).await?.id.ok_or("not taken")?;
    house.quiet(LONG).await?;
    disturb(&house, &id).await?;
    house.quiet(LONG).await?;
    // HubSpot refuses an address, and a person types what System A cannot have: both are set aside.
    system_a.create(&json!({"email": format!("{address}@localhost")})).await?;
    house.control.person_creates(portal, &[("lastname", family), ("jobtitle", &title.repeat(100))]).await?;
    until("two records are set aside", LONG, async || {
        let dead = house.get("/v1/dead?limit=10").await?.to_string();
        let both = dead.contains("\"rejected\"") && dead.contains("\"canonical-in\"");
        Ok(if both { Ok(()) } else { Err(dead) })
    })
    .await?;
    let errors = wrong_requests(&house).await?;
    // The token ends last: nothing goes on after it.
    house.control.order(&FaultOrder::new(FaultKind::ExpireToken).times(1)).await?;
    system_a.patch(&id, &json!({"family_name": format!("{family} more")})).await?;
    until("the account accepts the token no more", LONG, async || {
        let status = house.get("/v1/status").await?;
        let cause =
            status.pointer("/connections/0/cause").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(if cause == "authorisation" { Ok(()) } else { Err(cause) })
    })
    .await?;

    let http = client()?;
    let dead = house.get("/v1/dead?limit=10").await?;
    let mut answers = Vec::new();
    let mut paths = vec![
        "/metrics".to_owned(),
        "/v1/status".to_owned(),
        "/v1/dead?limit=10".to_owned(),
        "/v1/review?limit=10".to_owned(),
        "/v1/providers".to_owned(),
        format!("/v1/explain?scope=acme&object=contact&id={id}"),
    ];
    paths.extend(
        dead.as_array().into_iter().flatten().filter_map(|row| Some(format!("/v1/dead/{}", row.get("seq")?))),
    );
    for path in paths {
        let answer = ask(http.get(format!("{}{path}", house.base)).bearer_auth(ADMIN), &path).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answers.push(answer);
    }
    for answer in answers.iter().chain(&errors) {
        for secret in secrets {
            assert!(
                !answer.text.contains(secret),
                "a credential is in the answer to {}: {}",
                answer.what,
                answer.text
            );
        }
    }
    for answer in &errors {
        assert!((400..500).contains(&answer.status), "{}: {} {}", answer.what, answer.status, answer.text);
    }
    let quiet =
        errors.iter().chain(answers.iter().filter(|it| it.what == "/metrics" || it.what == "/v1/status"));
    for answer in quiet {
        for content in CONTENTS {
            assert!(!answer.text.contains(content), "contents are in {}: {}", answer.what, answer.text);
        }
    }

    let pid = house.daemon_pid().ok_or("the daemon has no process id")?;
    for file in ["cmdline", "environ"] {
        // Who may not read it sees nothing either: the daemon forbids it to its own user.
        match std::fs::read(format!("/proc/{pid}/{file}")) {
            Ok(bytes) => assert!(
                !secrets.iter().any(|secret| holds(&bytes, secret)),
                "a credential is in /proc/PID/{file}"
            ),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{file}"),
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core =
        limits.lines().find_map(|line| line.strip_prefix("Max core file size")).ok_or("no core limit")?;
    let core: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(core.get(..2), Some(["0", "0"].as_slice()), "{limits}");

    house.stop().await?;
    let log = house.log();
    assert!(
        log.lines().any(|line| line.contains("DEBUG") || line.contains("TRACE")),
        "the log is not at trace"
    );
    for marker in secrets.iter().chain(&CONTENTS) {
        let line = log.lines().find(|line| line.contains(marker));
        assert_eq!(line, None, "the log holds {marker}");
    }
    assert_eq!(search(&house.folder.join("data"), &secrets)?, [], "a credential is in a file of the store");
    // The store's files are not compressed or hidden from this search: contents are found in them.
    assert!(!search(&house.folder.join("data"), &[family])?.is_empty());
    Ok(())
}
