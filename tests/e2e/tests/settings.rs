//! Settings of connections that change while the daemon runs, by file and by API; and customers' rules.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails fails its test"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::people::person;
use tandem_e2e::rest::{starter, write_whole};
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::NewRestAccount;

const SOON: Duration = Duration::from_secs(60);

async fn request(
    house: &House,
    method: reqwest::Method,
    path: &str,
    text: &str,
) -> Result<(u16, String), Error> {
    let url = format!("{}{path}", house.base);
    let answer = client()?.request(method, url).bearer_auth(ADMIN).body(text.to_owned()).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A connection's row of the status.
async fn row(house: &House, connection: &str) -> Result<Value, Error> {
    let status = house.get("/v1/status").await?;
    let rows = status["connections"].as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().find(|row| row["connection"] == json!(connection)).unwrap_or_default())
}

/// Waits until a connection runs.
async fn runs(house: &House, connection: &str) -> Result<(), Error> {
    until(&format!("{connection} runs"), SOON, async || {
        let row = row(house, connection).await?;
        Ok(if row["state"] == json!("running") { Ok(()) } else { Err(row.to_string()) })
    })
    .await
}

/// The account's contact by its address: its properties.
async fn contact(house: &House, scope: &str, email: &str) -> Result<Option<Value>, Error> {
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    let found = dump
        .records
        .iter()
        .find(|record| !record.archived && record.properties.get("email").is_some_and(|own| own == email));
    Ok(found.map(|record| json!(record.properties)))
}

async fn arrives(
    house: &House,
    scope: &str,
    email: &str,
    property: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    until(&format!("{email} has {property} {value:?}"), SOON, async || {
        let found = contact(house, scope, email).await?;
        let own = found
            .as_ref()
            .map(|found| found[property].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        Ok(if own == Some(value.map(str::to_owned)) { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await
}

#[tokio::test]
async fn a_saved_setting_is_live_within_a_second_and_a_wrong_one_leaves_the_old_working() -> Result<(), Error>
{
    let house = House::build(Plan::roomy(&["acme", "globex"])).await?;
    let path = house.connection_path("acme");
    let before = std::fs::read_to_string(&path)?;
    let mut ann = person("acme", 1);
    ann["city"] = json!("Ulm");
    // HubSpot keeps addresses in lower case.
    let email = ann["email"].as_str().unwrap().to_lowercase();
    let made = house.system_a("acme").create(&ann).await?;
    arrives(&house, "acme", &email, "city", Some("Ulm")).await?;

    // The city is ignored, and the job title kept elsewhere: no restart, no word to the daemon.
    let settings = "[settings]\nignore = [\"/city\"]\nproperties = { \"/job_title\" = \"industry\" }\n";
    let changed = before.replace("[settings]\n", settings);
    assert_ne!(before, changed, "{before}");
    let began = Instant::now();
    write_whole(&path, &changed)?;
    let id = made.id.ok_or("made")?;
    until("the saved setting is live", SOON, async || {
        let log = house.log();
        Ok(if log.contains("a connection works with its changed file") { Ok(()) } else { Err(log) })
    })
    .await?;
    println!("a saved setting was live after {} ms", began.elapsed().as_millis());
    house.system_a("acme").patch(&id, &json!({ "city": "Bonn", "job_title": "Pilot" })).await?;
    arrives(&house, "acme", &email, "industry", Some("Pilot")).await?;
    arrives(&house, "acme", &email, "city", Some("Ulm")).await?;

    // Wrong in each of three ways: no TOML, an unknown key, a setting that the provider refuses.
    for (wrong, says) in [
        ("provider = ", "not TOML"),
        ("colour = \"blue\"\n", "unknown key"),
        ("[settings]\nproperties = { \"/job_title\" = 7 }\n", "settings"),
    ] {
        let text = match wrong.starts_with("[settings]") {
            true => before.replace("[settings]\n", wrong),
            false => format!("{wrong}{changed}"),
        };
        write_whole(&path, &text)?;
        until(&format!("the status tells of {says}"), SOON, async || {
            let row = row(&house, "acme").await?;
            let detail = row["detail"].as_str().unwrap_or_default();
            Ok(if detail.contains(says) && detail.contains("acme.toml") {
                Ok(())
            } else {
                Err(row.to_string())
            })
        })
        .await?;
        assert_eq!(row(&house, "acme").await?["state"], json!("running"), "the old settings work");
        let title = format!("Title for {says}");
        house.system_a("acme").patch(&id, &json!({ "job_title": title })).await?;
        arrives(&house, "acme", &email, "industry", Some(&title)).await?;
    }
    write_whole(&path, &changed)?;
    until("nothing is wrong any more", SOON, async || {
        let row = row(&house, "acme").await?;
        Ok(if row["detail"] == json!("") { Ok(()) } else { Err(row.to_string()) })
    })
    .await
}

/// An account is asked about itself at the first look. What is made in it later takes part when a person has everything looked at, or
/// saves the file that speaks of it.
#[tokio::test]
async fn a_property_that_is_made_after_the_account_was_asked_takes_part() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    house.walked(SOON).await?;
    let path = house.connection_path("acme");
    let before = std::fs::read_to_string(&path)?;
    let with = |more: &str| {
        let properties = format!("properties = {{ \"/job_title\" = \"crew_role\"{more} }}");
        before.replace("[settings]\n", &format!("[settings]\n{properties}\n"))
    };
    write_whole(&path, &with(""))?;
    until("the account has no such property", SOON, async || {
        let log = house.log();
        Ok(if log.contains("the account has no property crew_role") { Ok(()) } else { Err(log) })
    })
    .await?;
    let ann = json!({ "email": "ann@acme.example", "job_title": "Pilot", "city": "Ulm" });
    let id = house.system_a("acme").create(&ann).await?.id.ok_or("made")?;
    arrives(&house, "acme", "ann@acme.example", "city", Some("Ulm")).await?;
    house.quiet(SOON).await?;
    arrives(&house, "acme", "ann@acme.example", "crew_role", None).await?;

    let configured = "the account says something new of itself";
    let times = || house.log().matches(configured).count();
    let so_far = times();
    house.customer("acme")?.account.make_property("crew_role").await?;
    let all = json!({ "connection": "acme", "object": "contact", "records": "all" });
    house.post("/v1/look", &all).await?;
    until("the account was asked anew", SOON, async || {
        Ok(if times() > so_far { Ok(()) } else { Err(house.log()) })
    })
    .await?;
    arrives(&house, "acme", "ann@acme.example", "crew_role", Some("Pilot")).await?;
    house.system_a("acme").patch(&id, &json!({ "job_title": "Captain" })).await?;
    arrives(&house, "acme", "ann@acme.example", "crew_role", Some("Captain")).await?;

    // The file that names the next one is saved after it was made: nobody has to ask.
    let so_far = times();
    house.customer("acme")?.account.make_property("home_port").await?;
    write_whole(&path, &with(", \"/city\" = \"home_port\""))?;
    until("the account was asked once more", SOON, async || {
        Ok(if times() > so_far { Ok(()) } else { Err(house.log()) })
    })
    .await?;
    house.system_a("acme").patch(&id, &json!({ "city": "Kiel" })).await?;
    arrives(&house, "acme", "ann@acme.example", "home_port", Some("Kiel")).await
}

/// A field that is kept elsewhere from now on was edited by nobody: neither side loses what it has.
#[tokio::test]
async fn a_field_that_moves_to_another_property_is_compared_anew_and_clears_nothing() -> Result<(), Error> {
    let mut house = House::build(Plan::roomy(&["acme"])).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let mut people = Vec::new();
    // What the other property has before the field is kept there.
    for (number, industry) in [None, Some("Pilot 1"), Some("Steward"), None].into_iter().enumerate() {
        let email = format!("p{number}@acme.example");
        let document = match number {
            3 => json!({ "email": email }),
            _ => json!({ "email": email, "job_title": format!("Pilot {number}") }),
        };
        let id = house.system_a("acme").create(&document).await?.id.ok_or("made")?;
        people.push((email, id, industry));
    }
    let mut there = Vec::new();
    for (email, _, industry) in &people {
        arrives(&house, "acme", email, "email", Some(email)).await?;
        let dump = house.control.dump(portal).await?;
        let found = dump.records.iter().find(|record| record.properties.get("email") == Some(email));
        let id = found.ok_or("there")?.id;
        if let Some(industry) = industry {
            house.control.person_edits(portal, id, &[("industry", industry)]).await?;
        }
        there.push(id);
    }
    house.quiet(SOON).await?;

    let path = house.connection_path("acme");
    let before = std::fs::read_to_string(&path)?;
    let moved =
        before.replace("[settings]\n", "[settings]\nproperties = { \"/job_title\" = \"industry\" }\n");
    assert_ne!(before, moved, "{before}");
    write_whole(&path, &moved)?;
    until("the saved setting is live", SOON, async || {
        let log = house.log();
        Ok(if log.contains("a connection works with its changed file") { Ok(()) } else { Err(log) })
    })
    .await?;
    // It outlasts a kill, and an event of another field is enough for the whole record to be read.
    house.kill().await?;
    house.start().await?;
    for id in &there {
        house.control.person_edits(portal, *id, &[("city", "Ulm")]).await?;
    }
    for (_, id, _) in &people {
        until("the city is in System A", SOON, async || {
            let document = house.system_a("acme").read(id).await?.unwrap_or_default();
            Ok(if document["city"] == json!("Ulm") { Ok(()) } else { Err(document.to_string()) })
        })
        .await?;
    }
    house.quiet(SOON).await?;
    let title = async |number: usize| -> Result<Value, Error> {
        Ok(house.system_a("acme").read(&people[number].1).await?.unwrap_or_default()["job_title"].clone())
    };
    arrives(&house, "acme", &people[0].0, "industry", Some("Pilot 0")).await?;
    arrives(&house, "acme", &people[0].0, "jobtitle", Some("Pilot 0")).await?;
    arrives(&house, "acme", &people[2].0, "industry", Some("Steward")).await?;
    for number in 0..3 {
        assert_eq!(title(number).await?, json!(format!("Pilot {number}")));
    }
    assert_eq!(title(3).await?, Value::Null);
    let reviews = house.get("/v1/review?limit=100").await?;
    let held: Vec<&Value> = reviews.as_array().into_iter().flatten().collect();
    assert_eq!(held.len(), 1, "two different titles are a conflict: {reviews}");
    assert_eq!(held[0]["entity"]["id"], json!(people[2].1), "{reviews}");
    let why = held[0]["why"].as_str().unwrap_or_default();
    assert!(why.starts_with("both sides had it when it was mapped"), "{reviews}");

    // From then on it is a field like any other: what is cleared there is cleared here.
    house.control.person_edits(portal, there[1], &[("industry", "")]).await?;
    until("it is cleared", SOON, async || {
        let title = title(1).await?;
        Ok(if title.is_null() { Ok(()) } else { Err(title.to_string()) })
    })
    .await
}

/// Connections that come up together: each has its first look at a moment of its own within a second.
const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_while_the_daemon_runs_are_each_looked_at() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("first", "").await?;
    runs(&house, "first").await?;
    let names: Vec<String> = (0..MANY).map(|number| format!("customer-{number}")).collect();
    let mut accounts = Vec::new();
    for name in &names {
        accounts.push(house.unconnected_rest_account(name, NewRestAccount::default()).await?);
    }
    for (name, account) in names.iter().zip(&accounts) {
        house.connect_rest(account, name, "")?;
    }
    until("each account was asked for what changed", SOON, async || {
        let mut never = Vec::new();
        for (name, account) in names.iter().zip(&accounts) {
            if house.rest_crm(account).polls().await? == 0 {
                never.push(name);
            }
        }
        Ok(if never.is_empty() { Ok(()) } else { Err(format!("not asked: {never:?}")) })
    })
    .await
}

#[tokio::test]
async fn connections_are_added_changed_paused_and_removed_by_the_api() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", "").await?;
    runs(&house, "acme").await?;
    let (status, text) = request(&house, reqwest::Method::GET, "/v1/connections/acme", "").await?;
    assert_eq!((status, text.as_str()), (200, house.rest_connection("acme", "").as_str()));

    // A second customer, from a file that the API writes.
    let second = house.rest_customer("globex", "").await?;
    let globex = std::fs::read_to_string(house.connection_path("globex"))?;
    std::fs::remove_file(house.connection_path("globex"))?;
    until("it is gone again", SOON, async || {
        let row = row(&house, "globex").await?;
        Ok(if row.is_null() { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let (status, text) = request(&house, reqwest::Method::PUT, "/v1/connections/globex", &globex).await?;
    assert_eq!(status, 200, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text)?["added"], json!(["globex"]));
    house.system_a("globex").create(&json!({ "email": "a@example.com" })).await?;
    until("its record arrives", SOON, async || {
        let people = house.control.rest_people(&second.account).await?;
        Ok(if people.len() == 1 { Ok(()) } else { Err(people.len().to_string()) })
    })
    .await?;

    // What cannot be used is refused with its place, and nothing is written.
    for (id, text, says) in [
        ("globex", "provider = \"starter\"\n", "globex.toml"),
        ("globex", &globex.replace("\"starter\"", "\"nobody\""), "no provider nobody"),
        ("other", &globex, "is the account of connection globex already"),
        ("..%2Ftandem", &globex, "not a connection's name"),
    ] {
        let (status, said) =
            request(&house, reqwest::Method::PUT, &format!("/v1/connections/{id}"), text).await?;
        assert_eq!(status, 422, "{id}: {said}");
        assert!(said.contains(says), "{id}: {said}");
    }
    assert_eq!(std::fs::read_to_string(house.connection_path("globex"))?, globex);
    assert!(!house.connection_path("other").exists());

    let paused = format!("paused = true\n{globex}");
    let (status, said) = request(&house, reqwest::Method::PUT, "/v1/connections/globex", &paused).await?;
    assert_eq!(status, 200, "{said}");
    assert_eq!(row(&house, "globex").await?["state"], json!("paused"));
    house.system_a("globex").create(&json!({ "email": "b@example.com" })).await?;

    let (status, said) = request(&house, reqwest::Method::DELETE, "/v1/connections/globex", "").await?;
    assert_eq!((status, serde_json::from_str::<Value>(&said)?["removed"].clone()), (200, json!(["globex"])));
    assert!(row(&house, "globex").await?.is_null());
    assert_eq!(request(&house, reqwest::Method::DELETE, "/v1/connections/globex", "").await?.0, 404);
    assert_eq!(request(&house, reqwest::Method::GET, "/v1/connections/globex", "").await?.0, 404);
    // It comes back, and with it what was made while it was gone.
    house.system_a("globex").create(&json!({ "email": "c@example.com" })).await?;
    assert_eq!(request(&house, reqwest::Method::PUT, "/v1/connections/globex", &globex).await?.0, 200);
    until("everybody is in the account", SOON, async || {
        let people = house.control.rest_people(&second.account).await?;
        Ok(if people.len() == 3 { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await
}

#[tokio::test]
async fn a_record_that_leaves_a_filter_is_left_alone_and_one_that_enters_brings_what_changed_meanwhile()
-> Result<(), Error> {
    let rules = "[[rules]]\nname = \"customers only\"\nwhen = \"record.lifecycle_stage != 'customer'\"\nthen = \"skip\"\n\
                 [[rules]]\nname = \"no nameless\"\nwhen = \"record.family_name == null\"\nthen = \"hold\"\n";
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", rules).await?;
    runs(&house, "acme").await?;
    let system_a = house.system_a("acme");
    let person =
        json!({ "email": "ann@example.com", "family_name": "Ash", "city": "Ulm", "lifecycle_stage": "lead" });
    let id = system_a.create(&person).await?.id.ok_or("made")?;
    let people = async || house.control.rest_people("acme").await;
    let explained = async |says: &str| {
        until(&format!("the history says {says}"), SOON, async || {
            let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
            let history = told["history"].to_string();
            Ok(if history.contains(says) { Ok(()) } else { Err(history) })
        })
        .await
    };
    explained("rule customers only").await?;
    house.quiet(SOON).await?;
    assert_eq!(people().await?, Vec::<Value>::new(), "a lead stays out");

    // It enters.
    system_a.patch(&id, &json!({ "lifecycle_stage": "customer" })).await?;
    until("the customer is in the account", SOON, async || {
        let people = people().await?;
        Ok(if people.len() == 1 && people[0]["City"] == json!("Ulm") {
            Ok(())
        } else {
            Err(format!("{people:?}"))
        })
    })
    .await?;
    let theirs = people().await?[0]["Id"].as_str().unwrap_or_default().to_owned();

    // It leaves: what changes on either side stays there, and nothing is deleted.
    system_a.patch(&id, &json!({ "lifecycle_stage": "lead", "city": "Bonn" })).await?;
    house.quiet(SOON).await?;
    house
        .control
        .rest_person_edits("acme", &theirs, &json!({ "Phone": "+49 30 1234567", "Stage": "Prospect" }))
        .await?;
    house.quiet(SOON).await?;
    assert_eq!(people().await?[0]["City"], json!("Ulm"), "left alone at the CRM");
    assert_eq!(system_a.read(&id).await?.unwrap()["phone"], Value::Null, "and in System A");

    // It enters again: both sides' changes flow.
    system_a.patch(&id, &json!({ "lifecycle_stage": "customer" })).await?;
    until("both sides are the same again", SOON, async || {
        let (ours, theirs) = (system_a.read(&id).await?.unwrap_or_default(), people().await?[0].clone());
        let same = ours["city"] == json!("Bonn")
            && theirs["City"] == json!("Bonn")
            && !ours["phone"].is_null()
            && theirs["Stage"] == json!("Customer");
        Ok(if same { Ok(()) } else { Err(format!("{ours} {theirs}")) })
    })
    .await?;

    // Another is held for a person, and goes when it is mended.
    let held = system_a
        .create(&json!({ "email": "x@example.com", "lifecycle_stage": "customer" }))
        .await?
        .id
        .ok_or("made")?;
    let dead = until("it is set aside", SOON, async || {
        let dead = house.get("/v1/dead").await?;
        Ok(if dead.to_string().contains("no nameless") { Ok(dead) } else { Err(dead.to_string()) })
    })
    .await?;
    assert_eq!(dead.as_array().map(Vec::len), Some(1));
    system_a.patch(&held, &json!({ "family_name": "Known" })).await?;
    until("it is in the account", SOON, async || {
        let people = people().await?;
        Ok(if people.len() == 2 { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await
}

/// The account's contact gets a value, or System A's record does.
enum Expect {
    /// A property of the account.
    Property(&'static str, &'static str),
    /// A property stays what it was, though another one of the same record arrives.
    Stays(&'static str, Option<&'static str>),
}

/// One kind of setting: what is added to the pristine file, what System A is told afterwards, and what the account shows.
struct Kind {
    name: &'static str,
    /// Lines of `[settings]`.
    settings: &'static str,
    /// Lines behind `[objects.contact]`.
    object: &'static str,
    /// Lines at the end.
    rules: &'static str,
    patch: Value,
    expect: Expect,
}

fn kinds() -> Vec<Kind> {
    let kind =
        |name, settings, object, rules, patch, expect| Kind { name, settings, object, rules, patch, expect };
    use Expect::{Property, Stays};
    vec![
        kind(
            "a field is added",
            r#"custom = { "/custom/fax" = { property = "fax", type = "text" } }"#,
            "",
            "",
            json!({ "custom": { "fax": "12-34" } }),
            Property("fax", "12-34"),
        ),
        kind(
            "a field is kept elsewhere",
            r#"properties = { "/job_title" = "industry" }"#,
            "",
            "",
            json!({ "job_title": "Pilot" }),
            Property("industry", "Pilot"),
        ),
        kind(
            "a field is ignored",
            r#"ignore = ["/city"]"#,
            "",
            "",
            json!({ "city": "Bonn" }),
            Stays("city", Some("Ulm")),
        ),
        kind(
            "an option table",
            r#"custom = { "/custom/status" = { property = "hs_lead_status", type = "enumeration", options = { fresh = "NEW", open = "OPEN" } } }"#,
            "",
            "",
            json!({ "custom": { "status": "open" } }),
            Property("hs_lead_status", "OPEN"),
        ),
        kind(
            "another normaliser",
            r#"custom = { "/custom/code" = { property = "salutation", type = "text", normalise = "lower" } }"#,
            "",
            "",
            // What differs in case alone is the same from now on; the value before was "abc".
            json!({ "custom": { "code": "ABC" } }),
            Stays("salutation", Some("abc")),
        ),
        kind(
            "a direction",
            "",
            "[objects.contact.fields]\n\"/city\" = { flow = \"to-internal\" }\n",
            "",
            json!({ "city": "Trier" }),
            Stays("city", Some("Ulm")),
        ),
        kind(
            "a rule",
            "",
            "",
            "[[rules]]\nname = \"no pilots\"\nwhen = \"record.job_title == 'Secret'\"\nthen = \"skip\"\n",
            json!({ "job_title": "Secret" }),
            Stays("jobtitle", None),
        ),
    ]
}

/// Saves a file and waits until it is live; the time that it took is printed.
async fn save(house: &House, connection: &str, text: &str, what: &str) -> Result<(), Error> {
    let live = || house.log().matches("a connection works with its changed file").count();
    let before = live();
    let began = Instant::now();
    write_whole(&house.connection_path(connection), text)?;
    until(&format!("{what}: it is live"), SOON, async || {
        let detail = row(house, connection).await?["detail"].to_string();
        Ok(if live() > before { Ok(()) } else { Err(detail) })
    })
    .await?;
    println!("{what}: live {} ms after it was saved", began.elapsed().as_millis());
    Ok(())
}

fn with_lines(pristine: &str, settings: &str, object: &str, rules: &str) -> String {
    let text = pristine.replacen("[settings]\n", &format!("[settings]\n{settings}\n"), 1);
    format!("{text}\n{object}\n{rules}")
}

#[tokio::test]
async fn each_kind_of_setting_counts_from_the_moment_it_is_saved() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let pristine = std::fs::read_to_string(house.connection_path("acme"))?;
    assert!(
        pristine.contains("[settings]\n") && pristine.trim_end().ends_with("[objects.contact]"),
        "{pristine}"
    );
    let system_a = house.system_a("acme");
    for (number, kind) in kinds().into_iter().enumerate() {
        let what = kind.name;
        let email = format!("kind{number}@example.com");
        let base = json!({ "email": email, "city": "Ulm", "custom": { "code": "abc" } });
        let first = r#"custom = { "/custom/code" = { property = "salutation", type = "text" } }"#;
        if number == 0 {
            save(&house, "acme", &with_lines(&pristine, first, "", ""), "the first file").await?;
        }
        let id = system_a.create(&base).await?.id.ok_or("made")?;
        arrives(&house, "acme", &email, "salutation", Some("abc")).await?;
        arrives(&house, "acme", &email, "city", Some("Ulm")).await?;
        house.quiet(SOON).await?;

        save(&house, "acme", &with_lines(&pristine, kind.settings, kind.object, kind.rules), what).await?;
        assert!(system_a.patch(&id, &kind.patch).await?.status.is_success(), "{what}");
        match kind.expect {
            Expect::Property(name, value) => arrives(&house, "acme", &email, name, Some(value)).await?,
            Expect::Stays(name, value) => {
                house.quiet(SOON).await?;
                arrives(&house, "acme", &email, name, value).await?;
            }
        }
        // Back to what it was: the same setting undone is live, too.
        save(&house, "acme", &with_lines(&pristine, first, "", ""), "undone").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_default_and_a_policy_count_from_the_moment_they_are_saved() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let pristine = std::fs::read_to_string(house.connection_path("acme"))?;
    let system_a = house.system_a("acme");
    let fields = "[objects.contact.fields]\n\"/job_title\" = { default = \"unknown\" }\n\"/city\" = { on_conflict = \"external\" }\n";
    system_a.create(&json!({ "email": "before@example.com" })).await?;
    arrives(&house, "acme", "before@example.com", "jobtitle", None).await?;
    save(&house, "acme", &with_lines(&pristine, "", fields, ""), "a default and a policy").await?;

    // The default, on both sides: who is created gets it, who is there keeps what she has.
    let id =
        system_a.create(&json!({ "email": "ours@example.com", "city": "Ulm" })).await?.id.ok_or("made")?;
    arrives(&house, "acme", "ours@example.com", "jobtitle", Some("unknown")).await?;
    let portal = house.customer("acme")?.info.portal_id;
    house.control.person_creates(portal, &[("email", "theirs@example.com")]).await?;
    until("she is in System A, with a default", SOON, async || {
        let all = system_a.list().await?;
        let found = all.iter().find(|one| one.document["email"] == json!("theirs@example.com"));
        Ok(match found {
            Some(one) if one.document["job_title"] == json!("unknown") => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(
        system_a.read(&id).await?.unwrap_or_default()["job_title"],
        Value::Null,
        "System A keeps none"
    );
    arrives(&house, "acme", "theirs@example.com", "jobtitle", None).await?;
    arrives(&house, "acme", "before@example.com", "jobtitle", None).await?;

    // The policy: both sides change the city while nothing may flow, and the account wins.
    let theirs = contact_id(&house, "acme", "ours@example.com").await?;
    house.post("/v1/pause", &json!({ "connection": "acme" })).await?;
    system_a.patch(&id, &json!({ "city": "Bonn" })).await?;
    house.control.person_edits(portal, theirs, &[("city", "Köln")]).await?;
    until("the daemon was told of it", SOON, async || {
        let under_way = house.webhooks_under_way().await?;
        Ok(if under_way == 0 { Ok(()) } else { Err(under_way.to_string()) })
    })
    .await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    until("the account's city wins", SOON, async || {
        let city = system_a.read(&id).await?.unwrap_or_default()["city"].clone();
        Ok(if city == json!("Köln") { Ok(()) } else { Err(city.to_string()) })
    })
    .await?;
    arrives(&house, "acme", "ours@example.com", "city", Some("Köln")).await?;

    // What no record can be created with is refused with its place.
    for (wrong, says) in [
        ("\"/email\" = { default = \"a@b.example\" }", "identity"),
        ("\"/city\" = { default = 7 }", "/city"),
        ("\"/city\" = { default = [\"a\"] }", "default"),
    ] {
        let text = with_lines(&pristine, "", &format!("[objects.contact.fields]\n{wrong}\n"), "");
        write_whole(&house.connection_path("acme"), &text)?;
        until(&format!("the status tells of {wrong}"), SOON, async || {
            let detail = row(&house, "acme").await?["detail"].to_string();
            Ok(if detail.contains(says) && detail.contains("default") && detail.contains("acme.toml") {
                Ok(())
            } else {
                Err(detail)
            })
        })
        .await?;
    }
    Ok(())
}

/// The number of the account's contact with this address.
async fn contact_id(house: &House, scope: &str, email: &str) -> Result<u64, Error> {
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    let found = dump.records.iter().find(|one| one.properties.get("email").is_some_and(|own| own == email));
    found.map(|one| one.id).ok_or_else(|| format!("{email} is not there").into())
}

#[tokio::test]
async fn a_loosened_rule_lets_the_old_records_of_both_sides_in_after_a_look_at_all() -> Result<(), Error> {
    let only = "[[rules]]\nname = \"customers only\"\nobject = \"contact\"\nwhen = \"record.lifecycle_stage != 'customer'\"\nthen = \"skip\"\n";
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", only).await?;
    runs(&house, "acme").await?;
    let system_a = house.system_a("acme");
    system_a.create(&json!({ "email": "ours@example.com", "lifecycle_stage": "lead" })).await?;
    let person = json!({ "Mail": "theirs@example.com", "Stage": "Prospect" });
    house.control.rest_person_creates("acme", &person).await?;
    // A customer, so that it is known when the others were looked at.
    system_a.create(&json!({ "email": "known@example.com", "lifecycle_stage": "customer" })).await?;
    until("the customer is there", SOON, async || {
        let people = house.control.rest_people("acme").await?;
        Ok(if people.len() == 2 { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(system_a.list().await?.len(), 2, "the account's lead stays out of System A");

    save(&house, "acme", &house.rest_connection("acme", ""), "the loosened rule").await?;
    house.post("/v1/look", &json!({ "connection": "acme", "object": "contact", "records": "all" })).await?;
    until("everybody is on both sides", SOON, async || {
        let (ours, theirs) = (system_a.list().await?.len(), house.control.rest_people("acme").await?.len());
        Ok(if (ours, theirs) == (3, 3) { Ok(()) } else { Err(format!("{ours} {theirs}")) })
    })
    .await
}

#[tokio::test]
async fn rules_see_where_a_change_comes_from_and_deletions_outside_a_filter_stay_where_they_were()
-> Result<(), Error> {
    let rules = "[[rules]]\nname = \"no secrets from there\"\nwhen = \"origin == 'external' && '/city' in changed && record.city == 'Nowhere'\"\nthen = \"skip\"\n\
                 [[rules]]\nname = \"customers take part\"\nobject = \"contact\"\nwhen = \"record.lifecycle_stage == 'customer'\"\nthen = \"sync\"\n\
                 [[rules]]\nname = \"nobody else\"\nwhen = \"true\"\nthen = \"skip\"\n";
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", rules).await?;
    runs(&house, "acme").await?;
    let system_a = house.system_a("acme");
    let people = async || house.control.rest_people("acme").await;
    let person = json!({ "email": "ann@example.com", "city": "Ulm", "lifecycle_stage": "customer" });
    let id = system_a.create(&person).await?.id.ok_or("made")?;
    let theirs = until("the customer is in the account", SOON, async || {
        let people = people().await?;
        Ok(people.first().and_then(|one| one["Id"].as_str()).map(str::to_owned).ok_or("not there".to_owned()))
    })
    .await?;

    // The first rule is about what comes from there; the same city from here is the second one's business.
    house.control.rest_person_edits("acme", &theirs, &json!({ "City": "Nowhere" })).await?;
    house.quiet(SOON).await?;
    assert_eq!(system_a.read(&id).await?.unwrap_or_default()["city"], json!("Ulm"), "skipped inward");
    let other = system_a
        .create(&json!({ "email": "bob@example.com", "city": "Nowhere", "lifecycle_stage": "customer" }))
        .await?
        .id
        .ok_or("made")?;
    until("the city goes outward", SOON, async || {
        let people = people().await?;
        let there = people
            .iter()
            .any(|one| one["Mail"] == json!("bob@example.com") && one["City"] == json!("Nowhere"));
        Ok(if there { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await?;

    // Out of the filter, and deleted there: the account keeps its record.
    system_a.patch(&other, &json!({ "lifecycle_stage": "lead" })).await?;
    house.quiet(SOON).await?;
    system_a.delete(&other).await?;
    house.quiet(SOON).await?;
    assert_eq!(people().await?.len(), 2, "nothing is deleted that takes no part");

    // Somebody whom a person in the account makes a customer enters through that side.
    let lead = json!({ "Mail": "eve@example.com", "Stage": "Prospect" });
    let made = house.control.rest_person_creates("acme", &lead).await?;
    house.quiet(SOON).await?;
    assert_eq!(system_a.list().await?.len(), 1, "a lead stays outside");
    let eve = made["Id"].as_str().unwrap_or_default().to_owned();
    house.control.rest_person_edits("acme", &eve, &json!({ "Stage": "Customer" })).await?;
    until("she is in System A", SOON, async || {
        let all = system_a.list().await?;
        Ok(if all.iter().any(|one| one.document["email"] == json!("eve@example.com")) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        })
    })
    .await
}
