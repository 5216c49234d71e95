//! What an operator asks, of a real daemon and a real account: would this connection work, why does it wait, what happened to
//! this record; and webhooks through a proxy.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{AccountInfo, FaultKind, FaultOrder, NewAccounts, QuotaSizes};

const SOON: Duration = Duration::from_secs(60);

fn plan(scopes: &[&str], poll_every_ms: u64, policy: &str) -> Plan {
    Plan {
        connection: format!(
            "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = {poll_every_ms}\n[objects.contact]\n{policy}\n"
        ),
        ..Plan::roomy(scopes)
    }
}

// ---- check --live ----

/// The steps of `check --live --json` for a connection: what, whether it is well, and the words.
fn steps(house: &House, connection: &str, status: i32) -> Result<Vec<(String, bool, String)>, Error> {
    let output = house.command(&["check", "--live", "--json"])?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&said)?;
    let live = report.get("live").and_then(Value::as_array).cloned().unwrap_or_default();
    let row =
        live.into_iter().find(|row| row.get("connection") == Some(&json!(connection))).ok_or("no row")?;
    let text =
        |step: &Value, name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let steps = row.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(steps
        .iter()
        .map(|step| (text(step, "what"), step.get("ok") == Some(&json!(true)), text(step, "detail")))
        .collect())
}

fn detail<'a>(steps: &'a [(String, bool, String)], what: &str, well: bool) -> Result<&'a str, Error> {
    let found = steps.iter().find(|(name, ..)| name == what);
    let (_, ok, detail) = found.ok_or_else(|| format!("no step {what} in {steps:?}"))?;
    assert_eq!(*ok, well, "{what}: {detail}");
    Ok(detail)
}

/// An account of the house's app, and a connection to it.
async fn another(house: &House, name: &str, scopes: &[&str], more: &str) -> Result<AccountInfo, Error> {
    let wanted = NewAccounts {
        scopes: Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
        quota: Some(QuotaSizes { burst: 20_000, daily: Some(1_000), search: 50 }),
        ..NewAccounts::new(house.app.app_id, 1)
    };
    let account = house.control.create_accounts(&wanted).await?.into_iter().next().ok_or("no account")?;
    house.secret(name, &account.access_token)?;
    let text = format!(
        "provider = \"hubspot\"\nscope = \"{name}\"\nbase_url = \"{}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
         auth = {{ token = {{ file = \"../secrets/{name}\" }} }}\n{more}\n",
        house.api
    );
    std::fs::write(house.folder.join("connections").join(format!("{name}.toml")), text)?;
    Ok(account)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_proves_credentials_permissions_fields_and_quota_and_writes_nothing() -> Result<(), Error>
{
    let mut house = House::build(plan(&["acme"], 600_000, "")).await?;
    house.stop().await?;
    let portal = house.customer("acme")?.info.portal_id;
    house.control.person_creates(portal, &[("email", "ann@acme.example")]).await?;
    let before = house.control.dump(portal).await?;

    let found = steps(&house, "acme", 0)?;
    detail(&found, "credentials", true)?;
    assert!(detail(&found, "fields contact", true)?.contains("fields are mapped"));
    assert_eq!(detail(&found, "read contact", true)?, "records can be read");
    assert_eq!(detail(&found, "write contact", true)?, "records can be written");
    assert!(detail(&found, "quota", true)?.contains("burst: "), "{found:?}");
    assert_eq!(house.control.dump(portal).await?, before, "nothing was written");
    let output = house.command(&["check", "--live"])?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ok     live acme: write contact: records can be written"), "{text}");

    const READ: [&str; 2] = ["crm.objects.contacts.read", "crm.schemas.contacts.read"];
    let objects = "[objects.contact]";
    another(&house, "reads-only", &READ, objects).await?;
    another(&house, "writes-only", &["crm.objects.contacts.write", "crm.schemas.contacts.read"], objects)
        .await?;
    another(&house, "no-schemas", &["crm.objects.contacts.read", "crm.objects.contacts.write"], objects)
        .await?;
    let all = [READ[0], READ[1], "crm.objects.contacts.write"];
    let missing = format!(
        "[settings.custom]\n\"/custom/seats\" = {{ property = \"seats_of_nobody\", type = \"integer\" }}\n{objects}"
    );
    another(&house, "no-property", &all, &missing).await?;
    another(&house, "wrong-token", &all, objects).await?;
    house.secret("wrong-token", "pat-na1-00000000-0000-0000-0000-000000000000")?;
    let spent = another(&house, "spent", &all, objects).await?;
    house
        .control
        .set_quota(spent.portal_id, QuotaSizes { burst: 20_000, daily: Some(4), search: 50 })
        .await?;

    let found = steps(&house, "reads-only", 1)?;
    detail(&found, "read contact", true)?;
    let said = detail(&found, "write contact", false)?;
    assert!(
        said.contains("crm.objects.contacts.write") && said.contains("give the app or token the permission"),
        "{said}"
    );
    let found = steps(&house, "writes-only", 1)?;
    detail(&found, "write contact", true)?;
    assert!(detail(&found, "read contact", false)?.contains("crm.objects.contacts.read"), "{found:?}");
    let found = steps(&house, "no-schemas", 1)?;
    assert!(detail(&found, "fields contact", false)?.contains("crm.schemas.contacts.read"), "{found:?}");
    let found = steps(&house, "no-property", 1)?;
    assert!(
        detail(&found, "fields contact", false)?.contains("/custom/seats; mend the connection's settings"),
        "{found:?}"
    );
    let found = steps(&house, "wrong-token", 1)?;
    assert!(
        detail(&found, "credentials", false)?.ends_with("renew the token, or authorise again"),
        "{found:?}"
    );
    assert_eq!(found.len(), 1, "nobody else is asked with a token that is refused");
    let found = steps(&house, "spent", 1)?;
    let told = found.iter().any(|(_, ok, detail)| !ok && detail.contains("daily"));
    assert!(told, "{found:?}");
    assert_eq!(house.control.violations().await?.total, 0);
    let updates = house.control.counts().await?;
    assert_eq!((updates.calls("contacts.create"), updates.calls("contacts.archive")), (0, 0));
    Ok(())
}

// ---- status ----

async fn cause(house: &House, connection: &str) -> Result<(String, String), Error> {
    let status = house.get(&format!("/v1/status?connection={connection}")).await?;
    let row = status.pointer("/connections/0").cloned().unwrap_or_default();
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("cause"), text("detail")))
}

async fn cause_becomes(house: &House, connection: &str, wanted: &str, words: &str) -> Result<(), Error> {
    until(&format!("{connection} says {wanted}"), SOON, async || {
        let (cause, detail) = cause(house, connection).await?;
        Ok(if cause == wanted && detail.contains(words) { Ok(()) } else { Err(format!("{cause}: {detail}")) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_why_a_connection_waits_and_when_it_no_longer_does() -> Result<(), Error> {
    let names = ["breaks", "expires", "disputes", "spends", "pauses"];
    let house = House::build(plan(&names, 600_000, "on_conflict = \"review\"")).await?;
    house.walked(SOON).await?;
    let portal = |name: &str| house.customer(name).map(|customer| customer.info.portal_id);
    let mut ids = std::collections::BTreeMap::new();
    for name in names {
        let document = json!({"email": format!("ann@{name}.example"), "job_title": "Head"});
        ids.insert(name, house.system_a(name).create(&document).await?.id.ok_or("not taken")?);
    }
    house.quiet(SOON).await?;
    for name in names {
        assert_eq!(cause(&house, name).await?.0, "none", "{name}");
    }
    let edit = async |name: &str, title: &str| -> Result<(), Error> {
        let id = ids.get(name).ok_or("no record")?;
        let answer = house.system_a(name).patch(id, &json!({ "job_title": title })).await?;
        assert!(answer.status.is_success(), "{} {}", answer.status, answer.body);
        Ok(())
    };

    // The CRM fails again and again.
    let storm = FaultKind::Status { status: 503, retry_after: None };
    let storm = house.control.order(&FaultOrder::new(storm).portal(portal("breaks")?)).await?;
    for number in 0..30 {
        let document = json!({ "email": format!("p{number}@breaks.example") });
        house.system_a("breaks").create(&document).await?;
    }
    // The token ends.
    house.control.expire_token(portal("expires")?).await?;
    edit("expires", "Chief").await?;
    // Two people say different things.
    let there = house.customer("disputes")?.account.list().await?;
    let external = there.first().ok_or("nobody there")?.id.parse()?;
    house.post("/v1/pause", &json!({ "connection": "disputes", "direction": "to-external" })).await?;
    edit("disputes", "Chief").await?;
    house.control.person_edits(portal("disputes")?, external, &[("jobtitle", "Boss")]).await?;
    // Found while nothing may be written there: HubSpot has no precondition, so that a write which goes out before the event of the
    // edit there was read overwrites it, and a slow machine makes that window wide.
    until("the dispute is found", SOON, async || {
        let status = house.get("/v1/status?connection=disputes").await?;
        let found = status.pointer("/connections/0/review") == Some(&json!(1));
        Ok(if found { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    house.post("/v1/resume", &json!({ "connection": "disputes" })).await?;
    // The account allows one call in ten seconds.
    house.control.set_quota(portal("spends")?, QuotaSizes { burst: 1, daily: None, search: 50 }).await?;
    for number in 0..30 {
        let document = json!({ "email": format!("p{number}@spends.example") });
        house.system_a("spends").create(&document).await?;
    }
    house.post("/v1/pause", &json!({ "connection": "pauses" })).await?;
    edit("pauses", "Chief").await?;

    cause_becomes(&house, "breaks", "breaker", "failed too often").await?;
    cause_becomes(&house, "expires", "authorisation", "tandem resume expires").await?;
    cause_becomes(&house, "disputes", "review", "tandem review list").await?;
    cause_becomes(&house, "spends", "quota", "it goes on in").await?;
    cause_becomes(&house, "pauses", "paused", "tandem resume").await?;
    let output = house.command(&["status"])?.output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for (name, word) in names.iter().zip(["breaker", "authorisation", "review", "quota", "paused"]) {
        let row = table.lines().find(|line| line.contains(name));
        assert!(row.is_some_and(|row| row.contains(word)), "{name} {word}: {table}");
    }

    // Each ends with what somebody does, or with time.
    house.control.withdraw(storm).await?;
    house.control.set_quota(portal("spends")?, QuotaSizes { burst: 20_000, daily: None, search: 50 }).await?;
    house.post("/v1/resume", &json!({ "connection": "pauses" })).await?;
    let decide = json!({"scope": "disputes", "object": "contact", "id": ids.get("disputes"), "connection": "disputes",
        "group": "/job_title", "choice": "internal"});
    house.post("/v1/review/decide", &decide).await?;
    for name in ["breaks", "disputes", "spends", "pauses"] {
        cause_becomes(&house, name, "none", "").await?;
    }
    assert_eq!(cause(&house, "expires").await?.0, "authorisation", "nobody gave it another token");
    Ok(())
}

// ---- explain ----

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_what_happened_to_a_record_by_whom_and_at_what_cost() -> Result<(), Error> {
    let house = House::build(plan(&["acme"], 600_000, "")).await?;
    house.walked(SOON).await?;
    let system_a = house.system_a("acme");
    let document = json!({"email": "ann@acme.example", "job_title": "Head"});
    let id = system_a.create(&document).await?.id.ok_or("not taken")?;
    house.quiet(SOON).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let external = house.customer("acme")?.account.list().await?.first().ok_or("nobody")?.id.clone();
    system_a.patch(&id, &json!({ "job_title": "Chief" })).await?;
    house.quiet(SOON).await?;
    house.control.person_edits(portal, external.parse()?, &[("city", "Bonn")]).await?;
    house.quiet(SOON).await?;

    let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
    let by_external = house.get(&format!("/v1/explain?connection=acme&object=contact&id={external}")).await?;
    assert_eq!(told, by_external, "the same record by either name");
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    assert_eq!(text(&told, "/internal/document/city"), "Bonn");
    assert_eq!(text(&told, "/links/0/external"), external);
    for half in ["internal", "external"] {
        assert_eq!(text(&told, &format!("/links/0/base/~1job_title/{half}")), "Chief", "{told}");
    }
    let history = told.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    let entry = |what: &str, field: &str| {
        let found = history.iter().find(|entry| {
            text(entry, "/what") == what
                && entry.pointer(&format!("/delta/{}", field.replace('/', "~1"))).is_some()
        });
        found.cloned().ok_or_else(|| format!("no {what} of {field}: {told:#}"))
    };
    let label = text(&house.get("/v1/status?connection=acme").await?, "/connections/0/provider");
    assert!(label.starts_with("hubspot@0.1.0#"), "{label}");
    let out = entry("wrote-external", "/job_title")?;
    assert_eq!((text(&out, "/cause"), out.get("calls")), ("edit".to_owned(), Some(&json!(1))), "{out}");
    let inward = entry("wrote-internal", "/city")?;
    assert_eq!(
        (text(&inward, "/cause"), inward.get("calls")),
        ("webhook".to_owned(), Some(&json!(1))),
        "{inward}"
    );
    for entry in [&out, &inward] {
        assert_eq!(text(entry, "/provider"), label);
        assert!(
            !text(entry, "/why").is_empty() && entry.get("at").and_then(Value::as_u64).is_some(),
            "{entry}"
        );
    }
    let newest: Vec<u64> = history.iter().filter_map(|entry| entry.get("at")?.as_u64()).collect();
    assert!(newest.is_sorted_by(|a, b| a >= b), "newest first: {newest:?}");

    let output = house.command(&["explain", "contact", &id, "--scope", "acme"])?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        format!("acme -> {external}, active"),
        label,
        "wrote-external  after edit".to_owned(),
        "/city".to_owned(),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    let output = house.command(&["explain", "contact", &id, "--scope", "acme", "--json"])?.output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(json.get("history"), told.get("history"));

    // What waits and what was set aside is told as well.
    house.post("/v1/pause", &json!({ "connection": "acme" })).await?;
    system_a.patch(&id, &json!({ "email": "ann@localhost" })).await?;
    until("the edit is told as waiting", SOON, async || {
        let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
        let hints = told.get("hints").and_then(Value::as_array).map_or(0, Vec::len);
        Ok(if hints > 0 { Ok(()) } else { Err(told.to_string()) })
    })
    .await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    until("the refusal is told", SOON, async || {
        let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
        let pointer = text(&told, "/dead/0/problems/0/pointer");
        Ok(if pointer == "/email" { Ok(()) } else { Err(told.to_string()) })
    })
    .await
}

// ---- webhooks through a proxy ----

async fn metric(house: &House, words: &[&str]) -> Result<u64, Error> {
    let answer = client()?.get(format!("{}/metrics", house.base)).bearer_auth(ADMIN).send().await?;
    let text = answer.error_for_status()?.text().await?;
    let lines =
        text.lines().filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_believed_by_the_address_that_the_crm_signs() -> Result<(), Error> {
    const PUBLIC: &str = "https://sync.example.com/tandem";
    let mut house =
        House::build(Plan { public_url: Some(PUBLIC.into()), ..plan(&["acme"], 3_600_000, "") }).await?;
    house.walked(SOON).await?;
    // Whoever stands in between speaks TLS to the world and strips its own part of the path.
    let behind = house.base.trim_start_matches("http://").to_owned();
    let proxy = proxy(&behind).await?;
    let members = json!({ "targetUrl": format!("{PUBLIC}/hooks/app/hubspot"), "connectTo": proxy });
    house.control.set_webhooks(house.app.app_id, members).await?;
    let portal = house.customer("acme")?.info.portal_id;
    house.control.person_creates(portal, &[("email", "ann@acme.example")]).await?;
    until("she is in System A, told by a webhook", SOON, async || {
        let records = house.system_a("acme").list().await?.len();
        Ok(if records == 1 { Ok(()) } else { Err(format!("{records} records")) })
    })
    .await?;
    assert_eq!(metric(&house, &["tandem_webhook", "outcome=\"signature\""]).await?, 0);

    // With another address than the one that is signed nobody is believed, and polling finds what webhooks cannot tell.
    house.stop().await?;
    *house.public_url() = Some("https://elsewhere.example.com".into());
    let file = house.folder.join("connections/acme.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("poll_every_ms = 3600000", "poll_every_ms = 500"))?;
    house.start().await?;
    house.control.person_creates(portal, &[("email", "bob@acme.example")]).await?;
    until("he is in System A, found by a poll", SOON, async || {
        let records = house.system_a("acme").list().await?.len();
        Ok(if records == 2 { Ok(()) } else { Err(format!("{records} records")) })
    })
    .await?;
    until("the refusal is counted", SOON, async || {
        let refused = metric(&house, &["tandem_webhook", "outcome=\"signature\""]).await?;
        Ok(if refused > 0 { Ok(()) } else { Err("not counted".to_owned()) })
    })
    .await?;
    let log = house.log();
    let line = log.lines().find(|line| line.contains("public_url") && line.contains("signature"));
    assert!(line.is_some(), "the log names what to look at");
    assert!(!log.contains(&house.app.client_secret));
    Ok(())
}

/// A proxy that takes `/tandem` off each path and passes the rest on.
async fn proxy(behind: &str) -> Result<String, Error> {
    let (http, behind) = (client()?, behind.to_owned());
    let pass = move |request: axum::extract::Request| {
        let (http, behind) = (http.clone(), behind.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().trim_start_matches("/tandem").to_owned();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
            let mut headers = parts.headers;
            headers.remove("host");
            let sent =
                http.request(parts.method, format!("http://{behind}{path}")).headers(headers).body(body);
            match sent.send().await {
                Ok(answer) => axum::http::StatusCode::from_u16(answer.status().as_u16()).unwrap_or_default(),
                Err(_) => axum::http::StatusCode::BAD_GATEWAY,
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(pass)).await });
    Ok(address.to_string())
}
