//! What HubSpot has of its own: tokens that end, properties of the account's own, one webhook address of an app for all its accounts, the
//! recycle bin, and merges.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails fails its test"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::write_whole;
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NewAccounts, TokenKind};
use tandem_simulator::hubspot::signature;

const SOON: Duration = Duration::from_secs(60);
/// Polls come never, as far as a test is concerned.
const NEVER: u32 = 3_600_000;

/// Settings of a connection: how often it is polled, and how often the recycle bin is looked through.
fn polled(poll_every_ms: u32, deletions_every_ms: u32) -> String {
    format!(
        "\n[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = {poll_every_ms}\n\
         deletions_every_ms = {deletions_every_ms}\n"
    )
}

fn portal(house: &House, scope: &str) -> Result<u64, Error> {
    Ok(house.customer(scope)?.info.portal_id)
}

/// No webhook reaches anybody from now on.
async fn webhooks_are_lost(house: &House) -> Result<u64, Error> {
    Ok(house.control.order(&FaultOrder::new(FaultKind::WebhookLost)).await?)
}

/// System A's record of an address: its id and document.
async fn here(house: &House, scope: &str, email: &str) -> Result<Option<(String, Value)>, Error> {
    let all = house.system_a(scope).list().await?;
    Ok(all
        .into_iter()
        .find(|listed| listed.document["email"] == json!(email))
        .map(|listed| (listed.id, listed.document)))
}

/// Waits until System A has a record of an address; gives its id.
async fn comes(house: &House, scope: &str, email: &str) -> Result<String, Error> {
    until(&format!("{email} is in System A"), SOON, async || {
        Ok(match here(house, scope, email).await? {
            Some((id, _)) => Ok(id),
            None => Err(house.get("/v1/status").await?.to_string()),
        })
    })
    .await
}

/// Waits until System A has no record of an address.
async fn goes(house: &House, scope: &str, email: &str) -> Result<(), Error> {
    until(&format!("{email} is gone from System A"), SOON, async || {
        Ok(match here(house, scope, email).await? {
            Some((_, document)) => Err(document.to_string()),
            None => Ok(()),
        })
    })
    .await
}

/// Waits until a contact of the account, told by its address, has a value; gives its id.
async fn there(house: &House, scope: &str, email: &str, property: &str, value: &str) -> Result<u64, Error> {
    let portal = portal(house, scope)?;
    until(&format!("{email} has {property} {value} in the account"), SOON, async || {
        let dump = house.control.dump(portal).await?;
        let found = dump.records.iter().find(|record| {
            !record.archived && record.properties.get("email").is_some_and(|own| own == email)
        });
        let own = found.and_then(|record| Some((record.id, record.properties.get(property)?)));
        Ok(match own {
            Some((id, own)) if own == value => Ok(id),
            own => Err(format!("{own:?}")),
        })
    })
    .await
}

/// Waits until a record of System A is linked to a contact.
async fn linked(house: &House, scope: &str, id: &str, external: u64) -> Result<(), Error> {
    until(&format!("{id} is linked to {external}"), SOON, async || {
        let known = house.get(&format!("/v1/explain?scope={scope}&object=contact&id={id}")).await?;
        let link = &known["links"][0];
        let is_linked = link["life"] == json!("active") && link["external"] == json!(external.to_string());
        Ok(if is_linked { Ok(()) } else { Err(link.to_string()) })
    })
    .await
}

async fn letters(house: &House) -> Result<Vec<Value>, Error> {
    Ok(house.get("/v1/dead").await?.as_array().cloned().unwrap_or_default())
}

/// Nobody said anything that HubSpot does not know, and nothing was set aside.
async fn nothing_is_wrong(house: &House) -> Result<(), Error> {
    let violations = house.control.violations().await?;
    assert_eq!(violations.total, 0, "{violations:?}");
    assert_eq!(letters(house).await?, Vec::<Value>::new());
    Ok(())
}

fn tandem(house: &House, arguments: &[&str], status: i32) -> Result<String, Error> {
    let output = house.command(arguments)?.output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    Ok(said)
}

async fn create(house: &House, scope: &str, document: &Value) -> Result<String, Error> {
    let made = house.system_a(scope).create(document).await?;
    made.id.ok_or_else(|| format!("not made: {}", made.body).into())
}

async fn patch(house: &House, scope: &str, id: &str, patch: &Value) -> Result<(), Error> {
    let answer = house.system_a(scope).patch(id, patch).await?;
    if answer.status.is_success() { Ok(()) } else { Err(answer.body.to_string().into()) }
}

// ---- tokens ----

fn with_oauth() -> Plan {
    Plan { tokens: TokenKind::Oauth, ..Plan::roomy(&["acme"]) }
}

/// Calls of an account that were answered with 401.
async fn unauthorised(house: &House) -> Result<usize, Error> {
    let calls = house.control.calls(portal(house, "acme")?).await?;
    Ok(calls.iter().filter(|call| call.status == Some(401)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_mid_flight_is_refreshed_once_and_a_rotated_one_outlasts_a_kill()
-> Result<(), Error> {
    const MANY: usize = 80;
    let mut house = House::build(with_oauth()).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    // A refresh token that is used twice ends everything: two refreshes at once would show.
    house.control.set_settings(acme, json!({ "rotateRefreshTokens": true, "journal": true })).await?;
    let slow = FaultKind::Latency { ms: 30, jitter_ms: 20 };
    let slow = house.control.order(&FaultOrder::new(slow).portal(acme).operation("contacts.*")).await?;
    let before = house.control.tokens(acme).await?.len();
    let lines: Vec<Value> = (0..MANY)
        .map(|number| json!({ "op": "create", "document": { "email": format!("p{number}@acme.example") } }))
        .collect();
    house.system_a("acme").batch(&lines).await?;
    let live = async || -> Result<usize, Error> { Ok(house.control.account_counts(acme).await?.live) };
    until("some are on their way", SOON, async || {
        let live = live().await?;
        Ok(if live >= 10 { Ok(()) } else { Err(live.to_string()) })
    })
    .await?;
    house.control.expire_token(acme).await?;
    assert!(live().await? < MANY, "all had arrived: nothing was in flight");
    until("all are there", SOON, async || {
        let live = live().await?;
        Ok(if live == MANY { Ok(()) } else { Err(live.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(
        house.control.tokens(acme).await?.len(),
        before + 1,
        "one refresh for all that were in flight"
    );
    let refused = unauthorised(&house).await?;
    println!("{refused} calls met the end of the token");
    assert!(refused >= 1, "the token ended under nobody");
    house.control.withdraw(slow).await?;

    // The one that the connection's file names was ended by the rotation.
    house.kill().await?;
    house.start().await?;
    house.control.expire_token(acme).await?;
    let (id, _) = here(&house, "acme", "p7@acme.example").await?.ok_or("p7")?;
    patch(&house, "acme", &id, &json!({ "city": "Bonn" })).await?;
    there(&house, "acme", "p7@acme.example", "city", "Bonn").await?;
    assert_eq!(live_contacts(&house).await?, MANY, "nobody was made twice");
    nothing_is_wrong(&house).await
}

async fn live_contacts(house: &House) -> Result<usize, Error> {
    Ok(house.control.account_counts(portal(house, "acme")?).await?.live)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refreshed_before_it_ends_so_that_no_call_is_refused() -> Result<(), Error> {
    let house = House::build(with_oauth()).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    let id = create(&house, "acme", &json!({ "email": "ann@acme.example", "city": "Ulm" })).await?;
    there(&house, "acme", "ann@acme.example", "city", "Ulm").await?;
    // The next token lasts twenty seconds. The journal begins with it.
    house.control.set_settings(acme, json!({ "tokenSeconds": 20 })).await?;
    house.control.expire_token(acme).await?;
    patch(&house, "acme", &id, &json!({ "city": "Kiel" })).await?;
    there(&house, "acme", "ann@acme.example", "city", "Kiel").await?;
    house.control.set_settings(acme, json!({ "journal": true })).await?;
    let before = house.control.tokens(acme).await?.len();
    let number = std::cell::Cell::new(0_u32);
    until("another token is fetched while edits go on", SOON, async || {
        number.set(number.get() + 1);
        let city = format!("City {}", number.get());
        patch(&house, "acme", &id, &json!({ "city": city })).await?;
        there(&house, "acme", "ann@acme.example", "city", &city).await?;
        let tokens = house.control.tokens(acme).await?.len();
        Ok(if tokens > before { Ok(()) } else { Err(format!("{tokens} tokens after {city}")) })
    })
    .await?;
    let calls = house.control.calls(acme).await?;
    assert!(calls.len() > 1, "{calls:?}");
    assert_eq!(unauthorised(&house).await?, 0, "{calls:?}");
    nothing_is_wrong(&house).await
}

// ---- what the account has of its own ----

async fn make_property(house: &House, property: &Value) -> Result<(), Error> {
    let url = format!("{}/crm/v3/properties/contacts", house.api);
    let token = &house.customer("acme")?.info.access_token;
    client()?.post(url).bearer_auth(token).json(property).send().await?.error_for_status()?;
    Ok(())
}

fn choice(name: &str, field_type: &str, values: &[&str]) -> Value {
    let options: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(at, value)| json!({ "label": format!("Label of {value}"), "value": value, "displayOrder": at, "hidden": false }))
        .collect();
    json!({
        "name": name, "label": name, "groupName": "contactinformation", "type": "enumeration", "fieldType": field_type,
        "options": options,
    })
}

#[tokio::test]
async fn properties_of_the_accounts_own_cross_both_ways_and_what_it_refuses_is_shown() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    house.walked(SOON).await?;
    make_property(&house, &choice("loyalty", "select", &["tier_1", "tier_2"])).await?;
    make_property(&house, &choice("areas", "checkbox", &["n", "s"])).await?;
    let path = house.connection_path("acme");
    let before = std::fs::read_to_string(&path)?;
    let custom = "custom = { \"/custom/tier\" = { property = \"loyalty\", type = \"enumeration\", \
                  options = { gold = \"tier_1\", silver = \"tier_2\", tin = \"tier_9\" } }, \
                  \"/custom/areas\" = { property = \"areas\", type = \"set\", options = { north = \"n\", south = \"s\" } }, \
                  \"/custom/shoe\" = { property = \"shoe_size\", type = \"integer\" } }";
    write_whole(&path, &before.replace("[settings]\n", &format!("[settings]\n{custom}\n")))?;
    until("the account was asked for them", SOON, async || {
        let log = house.log();
        let told = log.contains("/custom/tier: the account's property loyalty has no option tier_9")
            && log.contains("/custom/shoe: the account has no property shoe_size");
        Ok(if told { Ok(()) } else { Err(log) })
    })
    .await?;

    let ann =
        json!({ "email": "ann@acme.example", "custom": { "tier": "gold", "areas": ["north", "south"] } });
    let id = create(&house, "acme", &ann).await?;
    let external = there(&house, "acme", "ann@acme.example", "loyalty", "tier_1").await?;
    there(&house, "acme", "ann@acme.example", "areas", "n;s").await?;
    house.quiet(SOON).await?;
    let acme = portal(&house, "acme")?;
    house.control.person_edits(acme, external, &[("loyalty", "tier_2"), ("areas", "s")]).await?;
    until("the person's choice is in System A", SOON, async || {
        let document = house.system_a("acme").read(&id).await?.unwrap_or_default();
        let custom = &document["custom"];
        let same = custom["tier"] == json!("silver") && custom["areas"] == json!(["south"]);
        Ok(if same { Ok(()) } else { Err(document.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;

    // The settings know an option that the account does not: HubSpot refuses it, and says so.
    patch(&house, "acme", &id, &json!({ "custom": { "tier": "tin" } })).await?;
    let letter = until("it is set aside", SOON, async || {
        Ok(letters(&house).await?.into_iter().next().ok_or_else(String::new))
    })
    .await?;
    // Values of the record are left out of what is kept of it.
    let words = "[value] was not one of the allowed options: [label: \"Label of tier_1\" value: \"tier_1\" display_order: 0 , \
                 label: \"Label of tier_2\" value: \"tier_2\" display_order: 1 ]";
    let problem = &letter["problems"][0];
    assert_eq!(
        (&problem["pointer"], &problem["message"]),
        (&json!("/custom/tier"), &json!(words)),
        "{letter}"
    );
    let shown = tandem(&house, &["dead", "list"], 0)?;
    assert!(
        shown.contains("/custom/tier") && shown.contains("was not one of the allowed options"),
        "{shown}"
    );
    let checked = tandem(&house, &["check", "--live", "acme"], 1)?;
    assert!(checked.contains("the account has no property for /custom/shoe"), "{checked}");

    patch(&house, "acme", &id, &json!({ "custom": { "tier": "gold" } })).await?;
    there(&house, "acme", "ann@acme.example", "loyalty", "tier_1").await?;
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

// ---- one address of an app ----

/// Names and values of the headers of a signature.
type Signed = [(&'static str, String); 2];

/// Events as HubSpot sends them to the app's one address: the address, the body, and the headers with which its secret signs them.
fn signed(house: &House, events: &[Value]) -> Result<(String, String, Signed), Error> {
    let url = format!("{}/hooks/app/hubspot", house.base);
    let body = Value::from(events.to_vec()).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
    let signed = signature::v3(&house.app.client_secret, "POST", &url, body.as_bytes(), &now);
    Ok((url, body, [(signature::SIGNATURE_V3, signed), (signature::TIMESTAMP, now)]))
}

/// Sends them; gives the status.
async fn deliver(house: &House, events: &[Value]) -> Result<u16, Error> {
    let (url, body, headers) = signed(house, events)?;
    let mut request = client()?.post(url).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Ok(request.body(body).send().await?.status().as_u16())
}

fn creation(portal: u64, id: u64) -> Value {
    json!({
        "eventId": id, "subscriptionId": 1, "portalId": portal, "appId": 7, "occurredAt": 1_767_355_200_000_u64,
        "subscriptionType": "contact.creation", "attemptNumber": 0, "objectId": id, "changeSource": "CRM_UI", "sourceId": "u:1",
    })
}

/// A counter of the daemon's.
async fn metric(house: &House, parts: &[&str]) -> Result<u64, Error> {
    let text = client()?
        .get(format!("{}/metrics", house.base))
        .bearer_auth(tandem_e2e::house::ADMIN)
        .send()
        .await?
        .text()
        .await?;
    let line = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0))
}

#[tokio::test]
async fn one_batch_of_an_app_goes_to_the_connections_of_its_accounts_and_strangers_are_dropped()
-> Result<(), Error> {
    let plan = Plan { connection: polled(NEVER, NEVER), ..Plan::roomy(&["acme", "globex"]) };
    let mut house = House::build(plan).await?;
    house.walked(SOON).await?;
    house.quiet(SOON).await?;
    // Only what this test delivers arrives.
    webhooks_are_lost(&house).await?;
    let (acme, globex) = (portal(&house, "acme")?, portal(&house, "globex")?);
    let stranger = house.control.create_accounts(&NewAccounts::new(house.app.app_id, 1)).await?.remove(0);
    let mut ids = Vec::new();
    for (portal, email) in [
        (acme, "ann@acme.example"),
        (acme, "bea@acme.example"),
        (globex, "cy@globex.example"),
        (stranger.portal_id, "dee@nobody.example"),
    ] {
        ids.push(house.control.person_creates(portal, &[("email", email)]).await?.id);
    }
    let unread = json!({ "portalId": acme, "objectId": "no type" });
    let batch = [
        creation(acme, ids[0]),
        creation(stranger.portal_id, ids[3]),
        unread,
        creation(globex, ids[2]),
        json!({ "subscriptionType": "contact.creation", "objectId": 1 }),
        creation(acme, ids[1]),
    ];
    assert_eq!(deliver(&house, &batch).await?, 200);
    for (scope, email) in
        [("acme", "ann@acme.example"), ("acme", "bea@acme.example"), ("globex", "cy@globex.example")]
    {
        comes(&house, scope, email).await?;
    }
    house.quiet(SOON).await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 2);
    assert_eq!(house.system_a("globex").list().await?.len(), 1);

    // The one that could not be read is set aside alone, and the strangers are counted and named.
    let all = letters(&house).await?;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["connection"], &all[0]["point"]), (&json!("acme"), &json!("provider-in")));
    assert!(all[0].to_string().contains("the event has no subscriptionType"), "{all:?}");
    let unroutable = ["tandem_webhooks_total", "provider=\"hubspot\"", "outcome=\"unroutable\""];
    assert_eq!(metric(&house, &unroutable).await?, 2);
    let told: Vec<String> = house
        .log()
        .lines()
        .filter(|line| line.contains("that no connection has"))
        .map(str::to_owned)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&stranger.portal_id.to_string()) && told[0].contains("app/hubspot"), "{told:?}");

    // What was acknowledged is on disk: a kill right after loses none of it.
    let email = "eve@globex.example";
    let eve = house.control.person_creates(globex, &[("email", email)]).await?.id;
    assert_eq!(deliver(&house, &[creation(stranger.portal_id, 5), creation(globex, eve)]).await?, 200);
    house.kill().await?;
    house.start().await?;
    comes(&house, "globex", email).await?;
    let violations = house.control.violations().await?;
    assert_eq!(violations.total, 0, "{violations:?}");
    Ok(())
}

#[tokio::test]
async fn accounts_of_one_app_are_told_apart_when_the_app_sends_their_events_together() -> Result<(), Error> {
    const EACH: usize = 40;
    let plan = Plan { connection: polled(NEVER, NEVER), ..Plan::roomy(&["acme", "globex"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    house.quiet(SOON).await?;
    // One request at a time: what happens meanwhile goes into the next one, whosever it is.
    house.control.set_webhooks(house.app.app_id, json!({ "maxConcurrent": 1, "timing": "after" })).await?;
    let stranger = house.control.create_accounts(&NewAccounts::new(house.app.app_id, 1)).await?.remove(0);
    let portals = [
        ("acme", portal(&house, "acme")?),
        ("globex", portal(&house, "globex")?),
        ("nobody", stranger.portal_id),
    ];
    for number in 0..EACH {
        for (name, portal) in portals {
            let email = format!("p{number}@{name}.example");
            house.control.person_creates(portal, &[("email", &email)]).await?;
        }
    }
    for scope in ["acme", "globex"] {
        until(&format!("all of {scope} are there, and nobody else"), SOON, async || {
            let all = house.system_a(scope).list().await?;
            let own = all.iter().filter_map(|it| it.document["email"].as_str());
            let own = own.filter(|email| email.ends_with(&format!("@{scope}.example"))).count();
            Ok(if (own, all.len()) == (EACH, EACH) { Ok(()) } else { Err(format!("{own} of {}", all.len())) })
        })
        .await?;
    }
    house.quiet(SOON).await?;
    let counts = house.control.app(house.app.app_id).await?.counts;
    assert_eq!((counts.failed, counts.given_up), (0, 0), "{counts:?}");
    assert!(counts.requests < counts.sent, "no request had more than one event: {counts:?}");
    nothing_is_wrong(&house).await
}

// ---- the recycle bin ----

#[tokio::test]
async fn a_deletion_and_a_restoration_that_no_webhook_tells_of_are_found() -> Result<(), Error> {
    let plan = Plan { connection: polled(500, 500), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    let mail = "ann@acme.example";
    create(&house, "acme", &json!({ "email": mail, "city": "Ulm" })).await?;
    let external = there(&house, "acme", mail, "city", "Ulm").await?;
    house.quiet(SOON).await?;
    webhooks_are_lost(&house).await?;
    house.control.person_deletes(acme, external).await?;
    goes(&house, "acme", mail).await?;
    // It is in the bin, and not deleted once more from there.
    let dump = house.control.dump(acme).await?;
    assert!(dump.records.iter().any(|record| record.id == external && record.archived), "{dump:?}");

    house.control.person_restores(acme, external).await?;
    let id = comes(&house, "acme", mail).await?;
    linked(&house, "acme", &id, external).await?;
    // It is kept the same again, both ways.
    house.control.person_edits(acme, external, &[("city", "Kiel")]).await?;
    until("the edit is in System A", SOON, async || {
        let document = house.system_a("acme").read(&id).await?.unwrap_or_default();
        Ok(if document["city"] == json!("Kiel") { Ok(()) } else { Err(document.to_string()) })
    })
    .await?;
    patch(&house, "acme", &id, &json!({ "city": "Bonn" })).await?;
    assert_eq!(there(&house, "acme", mail, "city", "Bonn").await?, external);
    assert_eq!(live_contacts(&house).await?, 1);
    nothing_is_wrong(&house).await
}

#[tokio::test]
async fn a_restoration_comes_back_by_its_webhook() -> Result<(), Error> {
    let plan = Plan { connection: polled(NEVER, NEVER), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    let mail = "ann@acme.example";
    create(&house, "acme", &json!({ "email": mail, "city": "Ulm" })).await?;
    let external = there(&house, "acme", mail, "city", "Ulm").await?;
    house.quiet(SOON).await?;
    house.control.person_deletes(acme, external).await?;
    goes(&house, "acme", mail).await?;
    house.control.person_restores(acme, external).await?;
    let id = comes(&house, "acme", mail).await?;
    linked(&house, "acme", &id, external).await?;
    assert_eq!(live_contacts(&house).await?, 1);
    nothing_is_wrong(&house).await
}

// ---- merges ----

/// Ann and Bea, linked: their ids in System A and in the account.
async fn ann_and_bea(house: &House) -> Result<[(String, u64); 2], Error> {
    let mut made = Vec::new();
    for name in ["ann", "bea"] {
        let mail = format!("{name}@acme.example");
        let id = create(house, "acme", &json!({ "email": mail, "given_name": name })).await?;
        let external = there(house, "acme", &mail, "firstname", name).await?;
        linked(house, "acme", &id, external).await?;
        made.push((id, external));
    }
    house.quiet(SOON).await?;
    made.try_into().map_err(|made| format!("{made:?}").into())
}

/// Waits until the loser of a merge waits for a person.
async fn waits_for_a_person(house: &House, id: &str) -> Result<(), Error> {
    until(&format!("{id} waits under review"), SOON, async || {
        let all = house.get("/v1/review").await?;
        let found =
            all.as_array().into_iter().flatten().any(|one| {
                one["kind"] == json!("merged") && one["clash"]["waits"] == json!({ "internal": id })
            });
        Ok(if found { Ok(()) } else { Err(all.to_string()) })
    })
    .await
}

#[tokio::test]
async fn a_merge_that_no_webhook_tells_of_is_found_by_the_poll_and_the_links_follow() -> Result<(), Error> {
    let plan = Plan { connection: polled(500, 500), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    let [(ann, winner), (bea, loser)] = ann_and_bea(&house).await?;
    webhooks_are_lost(&house).await?;
    let result = house.control.person_merges(acme, winner, loser).await?.id;
    assert_ne!(result, winner, "a merge makes a new contact");
    linked(&house, "acme", &ann, result).await?;
    waits_for_a_person(&house, &bea).await?;
    patch(&house, "acme", &ann, &json!({ "family_name": "Archer" })).await?;
    assert_eq!(there(&house, "acme", "ann@acme.example", "lastname", "Archer").await?, result);

    // The contact names its losers for ever: each edit of it is told of again, and nothing comes of that.
    house.quiet(SOON).await?;
    house.control.person_edits(acme, result, &[("city", "Kiel")]).await?;
    until("the edit is in System A", SOON, async || {
        let document = house.system_a("acme").read(&ann).await?.unwrap_or_default();
        Ok(if document["city"] == json!("Kiel") { Ok(()) } else { Err(document.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    linked(&house, "acme", &ann, result).await?;
    waits_for_a_person(&house, &bea).await?;
    let reviews = house.get("/v1/review").await?;
    assert_eq!(reviews.as_array().map(Vec::len), Some(1), "{reviews}");
    assert_eq!((live_contacts(&house).await?, house.system_a("acme").list().await?.len()), (1, 2));
    nothing_is_wrong(&house).await
}

#[tokio::test]
async fn a_write_to_a_merged_contact_reaches_what_came_of_it_and_the_link_follows() -> Result<(), Error> {
    let plan = Plan { connection: polled(NEVER, NEVER), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let acme = portal(&house, "acme")?;
    let [(ann, winner), (bea, loser)] = ann_and_bea(&house).await?;
    webhooks_are_lost(&house).await?;
    let result = house.control.person_merges(acme, winner, loser).await?.id;
    // Nobody told the daemon: it writes to the id that it knows, and is answered with another.
    patch(&house, "acme", &ann, &json!({ "family_name": "Archer" })).await?;
    assert_eq!(there(&house, "acme", "ann@acme.example", "lastname", "Archer").await?, result);
    linked(&house, "acme", &ann, result).await?;
    // The loser's id leads there as well, and that is somebody else's contact.
    tandem(&house, &["look", "acme", "contact", "--id", &bea], 0)?;
    waits_for_a_person(&house, &bea).await?;
    house.quiet(SOON).await?;
    assert_eq!(live_contacts(&house).await?, 1);
    nothing_is_wrong(&house).await
}

/// Nobody waits for the answer, as a CRM that gives up after some seconds. What was written down by then is worked all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_whose_sender_hangs_up_is_worked_all_the_same() -> Result<(), Error> {
    use tokio::io::AsyncWriteExt as _;
    let house = House::build(Plan { connection: polled(NEVER, NEVER), ..Plan::roomy(&["acme"]) }).await?;
    house.walked(SOON).await?;
    house.quiet(SOON).await?;
    webhooks_are_lost(&house).await?;
    let portal = portal(&house, "acme")?;
    let address = house.base.trim_start_matches("http://").to_owned();
    for number in 0..60 {
        let email = format!("p{number}@acme.example");
        let id = house.control.person_creates(portal, &[("email", email.as_str())]).await?.id;
        let (_, body, headers) = signed(&house, &[creation(portal, id)])?;
        let [(signature, signed), (timestamp, at)] = headers;
        let request = format!(
            "POST /hooks/app/hubspot HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{signature}: {signed}\r\n\
             {timestamp}: {at}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&address).await?;
        stream.write_all(request.as_bytes()).await?;
        // Each a little later than the one before: some before it is written down, some while it is.
        for _ in 0..number * 100 {
            tokio::task::yield_now().await;
        }
        drop(stream);
    }
    house.quiet(SOON).await?;
    let came = house.system_a("acme").list().await?.len();
    assert!(came > 0, "none was taken in");
    println!("{came} of 60 were written down");
    // And it goes on.
    let id = house.control.person_creates(portal, &[("email", "last@acme.example")]).await?.id;
    assert_eq!(deliver(&house, &[creation(portal, id)]).await?, 200);
    comes(&house, "acme", "last@acme.example").await.map(drop)
}
