//! What only Salesforce has, in the real daemon against the simulator: the bin and merges, fields that are kept elsewhere, refusals in
//! its words, limits that answers tell or that are met unsaid, and where its secrets are not. What all CRMs have in common is in `crms`.
//!
//! Every org answers at an address that only a token names, counts its calls, and notes what its API's description does not allow:
//! none of the daemon's requests may be among that.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails fails its test"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_e2e::house::{ADMIN, House};
use tandem_e2e::marker::Markers;
use tandem_e2e::memory::Shim;
use tandem_e2e::salesforce::{self, CLIENT_SECRET, Customer, Wanted};
use tandem_e2e::{Error, until};
use tandem_simulator::control::salesforce::{
    FieldKind, NewField, SalesforceLimits, SalesforceMerge, SalesforceRecord,
};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

const SOON: Duration = Duration::from_secs(60);
/// For what a whole org takes.
const LONG: Duration = Duration::from_secs(300);
/// Calls that a connection has under way at the most: the provider's own limit.
const AT_ONCE: usize = 5;

/// A house with the provider, and no customer.
async fn house() -> Result<House, Error> {
    built(BTreeMap::new()).await
}

async fn built(environment: BTreeMap<String, String>) -> Result<House, Error> {
    let mut plan = salesforce::plan();
    plan.environment.extend(environment);
    let house = House::build(plan).await?;
    house.bring_salesforce()?;
    until("the provider serves", SOON, async || {
        let provider = house.provider("salesforce").await?;
        Ok(if provider.is_some() { Ok(()) } else { Err(house.log()) })
    })
    .await?;
    Ok(house)
}

/// Nothing that was asked for is against the API's description, and nothing was set aside.
async fn nothing_is_wrong(house: &House) -> Result<(), Error> {
    let violations = house.control.violations().await?;
    assert_eq!(violations.total, 0, "{:#?}", violations.listed);
    assert_eq!(house.get("/v1/dead?limit=10").await?, json!([]));
    Ok(())
}

/// The one contact with this address, whole, by the org's public API.
async fn there(customer: &Customer, email: &str) -> Result<Value, Error> {
    until(&format!("{email} is in the org"), SOON, async || {
        let found = customer.api.with_email(email).await?;
        Ok(match found.as_slice() {
            [one] => Ok(one.clone()),
            many => Err(format!("{} contacts have it", many.len())),
        })
    })
    .await
}

/// Waits until a contact has these values.
async fn becomes(customer: &Customer, id: &str, wanted: &Value) -> Result<Value, Error> {
    until(&format!("{id} has {wanted}"), SOON, async || {
        let now = customer.api.read(id).await?.unwrap_or_default();
        let has = wanted.as_object().into_iter().flatten().all(|(name, value)| now[name] == *value);
        Ok(if has { Ok(now) } else { Err(now.to_string()) })
    })
    .await
}

/// Waits until a record of System A has these values; null stands for none.
async fn becomes_here(house: &House, scope: &str, id: &str, wanted: &Value) -> Result<Value, Error> {
    until(&format!("{id} has {wanted} in System A"), SOON, async || {
        let now = house.system_a(scope).read(id).await?.unwrap_or_default();
        let has = wanted.as_object().into_iter().flatten().all(|(name, value)| now[name] == *value);
        Ok(if has { Ok(now) } else { Err(now.to_string()) })
    })
    .await
}

/// The one record of System A with this address: its id and document.
async fn here(house: &House, scope: &str, email: &str) -> Result<(String, Value), Error> {
    until(&format!("{email} is in System A"), SOON, async || {
        let all = house.system_a(scope).list().await?;
        let mut found = all.into_iter().filter(|record| record.document["email"] == json!(email));
        Ok(match (found.next(), found.next()) {
            (Some(one), None) => Ok((one.id, one.document)),
            (None, _) => Err("nobody has it".to_owned()),
            _ => Err("it is doubled".to_owned()),
        })
    })
    .await
}

/// A record that both sides have: System A's id and Salesforce's.
struct Shared {
    internal: String,
    external: String,
}

/// So many records, made in System A and carried to the org.
async fn shared(house: &House, customer: &Customer, many: usize) -> Result<Vec<Shared>, Error> {
    let scope = &customer.scope;
    let mut all = Vec::new();
    for number in 0..many {
        let document = json!({
            "email": format!("p{number}@{scope}.example"), "given_name": "Pat", "family_name": format!("Person {number}"),
            "job_title": "Pilot", "phone": "+49 30 100", "city": "Ulm", "notes": "none",
        });
        let made = house.system_a(scope).create(&document).await?;
        all.push(made.id.ok_or_else(|| format!("not taken: {}", made.body))?);
    }
    house.quiet(SOON).await?;
    let mut both = Vec::new();
    for (number, internal) in all.into_iter().enumerate() {
        let record = there(customer, &format!("p{number}@{scope}.example")).await?;
        let external = record["Id"].as_str().ok_or("no id")?.to_owned();
        both.push(Shared { internal, external });
    }
    Ok(both)
}

/// Lets the org's second end, so that what follows has another time than what was.
async fn next_second(house: &House) -> Result<(), Error> {
    let second = house.control.advance(0).await?.div_euclid(1_000);
    until("the second ends", SOON, async || {
        let now = house.control.advance(0).await?.div_euclid(1_000);
        Ok(if now > second { Ok(()) } else { Err(now.to_string()) })
    })
    .await
}

async fn person_edits(house: &House, customer: &Customer, id: &str, values: Value) -> Result<(), Error> {
    house.control.salesforce_person_edits(customer.number(), id, values).await?;
    Ok(())
}

async fn patch(house: &House, scope: &str, id: &str, members: Value) -> Result<(), Error> {
    let answer = house.system_a(scope).patch(id, &members).await?;
    assert!(answer.status.is_success(), "{} {}", answer.status, answer.body);
    Ok(())
}

/// A contact as it stands in the org, in the recycle bin or not.
async fn dumped(house: &House, customer: &Customer, id: &str) -> Result<SalesforceRecord, Error> {
    let all = house.control.salesforce_contacts(customer.number()).await?;
    Ok(all.into_iter().find(|record| record.id == id).ok_or("it is not even in the bin")?)
}

fn members(document: &Value) -> Map<String, Value> {
    document.as_object().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_bears_tandems_key_and_its_writer_is_named_in_the_orgs_logs() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme")).await?;
    let ann = json!({ "email": "ann@acme.example", "family_name": "Ann", "opted_out": true });
    house.system_a("acme").create(&ann).await?;
    let record = there(&acme, "ann@acme.example").await?;
    assert_eq!(record["HasOptedOutOfEmail"], json!(true));
    assert!(record["Tandem_Key__c"].is_string(), "{record}");
    let id = record["Id"].as_str().unwrap();
    assert_eq!(dumped(&house, &acme, id).await?.client.as_deref(), Some("Tandem"), "named in the org's logs");

    // Salesforce knows yes and no: who said nothing there said no.
    let bob = json!({ "Email": "bob@acme.example", "LastName": "Bob" });
    house.control.salesforce_person_creates(acme.number(), bob).await?;
    let (_, document) = here(&house, "acme", "bob@acme.example").await?;
    assert_eq!(document["opted_out"], json!(false));
    house.quiet(SOON).await?;
    // Messages tell of the daemon's own writes as well.
    let counts = house.control.salesforce_counts(acme.number()).await?.outbound;
    assert_eq!((counts.acknowledged, counts.failed, counts.given_up), (2, 0, 0), "{counts:?}");
    nothing_is_wrong(&house).await
}

/// A create is an upsert and a read. Cut off between the two, what Salesforce has is what was sent, and whatever System A has made of it
/// since is an edit, not a second opinion.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_after_a_create_that_was_cut_off_before_its_read_is_carried() -> Result<(), Error> {
    const MANY: usize = 4;
    let mut house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme")).await?;
    let withheld = FaultOrder::new(FaultKind::WithholdAfter { ms: 60_000 });
    let withheld = withheld.operation("salesforce.read").portal(acme.number());
    let withheld = house.control.order(&withheld).await?;
    let mut ids = Vec::new();
    for number in 0..MANY {
        let document = json!({
            "email": format!("p{number}@acme.example"), "family_name": format!("Person {number}"), "job_title": "Pilot",
        });
        ids.push(house.system_a("acme").create(&document).await?.id.ok_or("not taken")?);
    }
    until("all are made and are being read", SOON, async || {
        let fired =
            house.control.faults().await?.faults.iter().find(|it| it.id == withheld).map_or(0, |it| it.fired);
        Ok(if fired == MANY as u64 { Ok(()) } else { Err(format!("{fired} of {MANY}")) })
    })
    .await?;
    house.kill().await?;
    house.control.withdraw(withheld).await?;
    house.start().await?;
    for id in &ids {
        patch(&house, "acme", id, json!({ "job_title": "Captain" })).await?;
    }
    for number in 0..MANY {
        let record = there(&acme, &format!("p{number}@acme.example")).await?;
        becomes(&acme, record["Id"].as_str().ok_or("no id")?, &json!({ "Title": "Captain" })).await?;
    }
    house.quiet(SOON).await?;
    assert_eq!(house.get("/v1/review?limit=10").await?, json!([]), "nobody has to decide");
    assert_eq!(house.control.salesforce_counts(acme.number()).await?.live, MANY, "each was made once");
    nothing_is_wrong(&house).await
}

/// What our write left is read after it. Who saves the same field between the two, in the same second, has edited it: what is read is no
/// rewrite of what we wrote, since the record names them as the last who changed it.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_a_write_and_the_reading_after_it_is_carried() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme")).await?;
    let all = shared(&house, &acme, 1).await?;
    let [one] = all.as_slice() else { return Err("one is shared".into()) };
    next_second(&house).await?;
    let late = FaultOrder::new(FaultKind::Latency { ms: 1_000, jitter_ms: 0 }).times(1);
    house.control.order(&late.operation("salesforce.read").portal(acme.number())).await?;
    patch(&house, "acme", &one.internal, json!({ "job_title": "Ours" })).await?;
    until("the write took effect", SOON, async || {
        let title = dumped(&house, &acme, &one.external).await?.values.get("Title").cloned();
        Ok(if title == Some(json!("Ours")) { Ok(()) } else { Err(format!("{title:?}")) })
    })
    .await?;
    person_edits(&house, &acme, &one.external, json!({ "Title": "Theirs" })).await?;
    becomes_here(&house, "acme", &one.internal, &json!({ "job_title": "Theirs" })).await?;
    house.quiet(SOON).await?;
    let title = dumped(&house, &acme, &one.external).await?.values.get("Title").cloned();
    assert_eq!(title, Some(json!("Theirs")));
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_contact_is_in_the_bin_and_a_merged_one_is_followed() -> Result<(), Error> {
    let house = house().await?;
    let wanted = Wanted::new("acme").polled(300).policy("confirm_after = \"200ms\"\n");
    let acme = house.salesforce_customer(&wanted).await?;
    let all = shared(&house, &acme, 3).await?;

    let answer = house.system_a("acme").delete(&all[0].internal).await?;
    assert!(answer.status.is_success(), "{}", answer.status);
    until("the contact is gone", SOON, async || {
        let found = acme.api.read(&all[0].external).await?;
        Ok(found.map_or(Ok(()), |record| Err(record.to_string())))
    })
    .await?;
    assert!(dumped(&house, &acme, &all[0].external).await?.deleted);

    // One that is merged into another is not deleted here: whoever looks after them is asked.
    house.quiet(SOON).await?;
    let merge = SalesforceMerge {
        master: all[1].external.clone(),
        losers: vec![all[2].external.clone()],
        values: members(&json!({ "Title": "Navigator" })),
    };
    house.control.salesforce_person_merges(acme.number(), &merge).await?;
    becomes_here(&house, "acme", &all[1].internal, &json!({ "job_title": "Navigator" })).await?;
    until("the merge is in the review", SOON, async || {
        let list = house.get("/v1/review?limit=100").await?;
        let kinds: Vec<&str> =
            list.as_array().into_iter().flatten().filter_map(|row| row["kind"].as_str()).collect();
        Ok(if kinds == ["merged"] { Ok(()) } else { Err(list.to_string()) })
    })
    .await?;
    assert!(house.system_a("acme").read(&all[2].internal).await?.is_some(), "nobody deleted it");
    nothing_is_wrong(&house).await
}

async fn cause(house: &House, connection: &str) -> Result<(String, String), Error> {
    let status = house.get(&format!("/v1/status?connection={connection}")).await?;
    let row = status.pointer("/connections/0").cloned().unwrap_or_default();
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("cause"), text("detail")))
}

async fn waits_for_calls(house: &House, connection: &str) -> Result<(), Error> {
    until("the status says that it waits for calls", SOON, async || {
        let (cause, detail) = cause(house, connection).await?;
        let waits = cause == "quota" && detail.contains("requests");
        Ok(if waits { Ok(()) } else { Err(format!("{cause}: {detail}")) })
    })
    .await
}

async fn create(house: &House, scope: &str, many: usize) -> Result<(), Error> {
    let lines: Vec<Value> = (0..many)
        .map(|number| {
            json!({"op": "create", "document": {"email": format!("p{number}@{scope}.example"), "family_name": "Li"}})
        })
        .collect();
    let answers = house.system_a(scope).batch(&lines).await?;
    assert!(answers.iter().all(|answer| answer["id"].is_string()), "{answers:?}");
    Ok(())
}

async fn all_arrive(house: &House, customer: &Customer, many: usize) -> Result<(), Error> {
    until("all of them arrive", LONG, async || {
        let there = house.control.salesforce_contacts(customer.number()).await?.len();
        let status = cause(house, &customer.scope).await?;
        Ok(if there == many { Ok(()) } else { Err(format!("{there} of {many}: {status:?}")) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_limit_that_only_answers_tell_is_used_up_without_a_refusal() -> Result<(), Error> {
    const MANY: usize = 60;
    const DAILY: u32 = 60;
    let house = house().await?;
    let mut wanted = Wanted::new("acme").without_pushes();
    wanted.org.limits = SalesforceLimits { daily: DAILY, ..SalesforceLimits::default() };
    let acme = house.salesforce_customer(&wanted).await?;
    create(&house, "acme", MANY).await?;
    waits_for_calls(&house, "acme").await?;
    let counts = house.control.salesforce_counts(acme.number()).await?;
    let calls: u64 = counts.operations.values().map(|counts| counts.calls).sum();
    let throttled: u64 = counts.operations.values().map(|counts| counts.throttled).sum();
    println!("{calls} calls on a day of {DAILY}, {throttled} of them refused");
    assert_eq!(throttled, 0, "the limit came with the first answer");
    assert!(calls >= u64::from(DAILY) * 9 / 10, "{calls}");
    let there = house.control.salesforce_contacts(acme.number()).await?.len();
    assert!(there < MANY, "all {there} have arrived: nothing was shown");

    // The customer buys more; the operator says so.
    let more = SalesforceLimits { daily: 50_000, ..SalesforceLimits::default() };
    house.control.set_salesforce_limits(acme.number(), &more).await?;
    let path = house.connection_path("acme");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{text}\n[quotas.requests]\nlimit = 50000\n"))?;
    house.post("/v1/connections/reload", &json!({})).await?;
    all_arrive(&house, &acme, MANY).await?;
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_met_unsaid_is_waited_for_and_nothing_is_lost() -> Result<(), Error> {
    const MANY: usize = 60;
    const PAUSE_MS: i64 = 2_000;
    let house = house().await?;
    // The window of the daemon's own count is short, so that the test is: the org counts a day all the same.
    let settings = format!(
        "limit_pause_ms = {PAUSE_MS}\nquotas = {{ requests = {{ limit = 100000, per_ms = 10000 }} }}\n"
    );
    let acme = house.salesforce_customer(&Wanted::new("acme").without_pushes().settings(&settings)).await?;
    // Other programs use up what there is.
    let spent = SalesforceLimits { daily: 1, ..SalesforceLimits::default() };
    house.control.set_salesforce_limits(acme.number(), &spent).await?;
    create(&house, "acme", MANY).await?;
    waits_for_calls(&house, "acme").await?;
    let refused = async || -> Result<Vec<i64>, Error> {
        let calls = house.control.salesforce_calls(acme.number()).await?;
        Ok(calls.iter().filter(|call| call.status == Some(403)).map(|call| call.at).collect())
    };
    // It is asked again now and then, and refused again.
    let met = until("it was asked again", SOON, async || {
        let refused = refused().await?;
        let (first, last) = (refused.first().copied(), refused.last().copied());
        let again = first.zip(last).is_some_and(|(first, last)| last - first >= PAUSE_MS);
        Ok(if again { Ok(refused) } else { Err(format!("{refused:?}")) })
    })
    .await?;
    let (first, second) = (met[0], met.iter().find(|at| **at - met[0] >= PAUSE_MS).copied().unwrap());
    let at_first = met.iter().filter(|at| **at < second).count();
    println!("{at_first} calls were refused at first, the next one {} ms later", second - first);
    // Those under way, and those that take their places before the first refusal is read.
    assert!(at_first < 2 * AT_ONCE, "{met:?}");
    let between = met.iter().filter(|at| **at > first + 500 && **at < first + PAUSE_MS).count();
    assert_eq!(between, 0, "nobody asks during the pause: {met:?}");
    assert_eq!(house.control.salesforce_contacts(acme.number()).await?.len(), 0);

    let more = SalesforceLimits { daily: 100_000, ..SalesforceLimits::default() };
    house.control.set_salesforce_limits(acme.number(), &more).await?;
    all_arrive(&house, &acme, MANY).await?;
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

fn field(name: &str, kind: FieldKind, values: &[&str]) -> NewField {
    NewField {
        name: name.to_owned(),
        kind,
        picklist_values: values.iter().map(|value| (*value).to_owned()).collect(),
        ..NewField::default()
    }
}

fn with_fields_elsewhere() -> Wanted {
    let settings = "fields = { \"/company_name\" = \"Company__c\", \"/tags\" = \"Labels__c\", \"/lifecycle_stage\" = \"Stage__c\", \
                    \"/annual_revenue\" = \"Revenue__c\", \"/phone\" = \"OtherPhone\" }\n\
                    stages = { lead = \"Open\", customer = \"Won\" }\n\
                    ignore = [\"/notes\"]\n\
                    [settings.custom]\n\
                    \"/custom/regions\" = { property = \"Regions__c\", type = \"set\" }\n";
    let mut wanted = Wanted::new("acme").settings(settings);
    wanted.org.fields = vec![
        field("Company__c", FieldKind::String, &[]),
        field("Labels__c", FieldKind::MultiPicklist, &["vip", "new", "old"]),
        field("Stage__c", FieldKind::Picklist, &["Open", "Won", "Negotiation"]),
        field("Revenue__c", FieldKind::Currency, &[]),
        field("Regions__c", FieldKind::MultiPicklist, &["North", "South", "East"]),
    ];
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_the_settings_keep_elsewhere_cross_both_ways() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&with_fields_elsewhere()).await?;
    let document = json!({
        "email": "ann@acme.example", "family_name": "Ann", "phone": "+49 30 1", "company_name": "Example & Söhne",
        "tags": ["new", "vip"], "lifecycle_stage": "customer", "annual_revenue": "1200000.5", "notes": "stays here",
    });
    let made = house.system_a("acme").create(&document).await?;
    let internal = made.id.ok_or_else(|| format!("not taken: {}", made.body))?;
    let record = there(&acme, "ann@acme.example").await?;
    for (name, value) in [
        ("OtherPhone", json!("+49 30 1")),
        ("Phone", Value::Null),
        ("Company__c", json!("Example & Söhne")),
        ("Stage__c", json!("Won")),
        ("Revenue__c", json!(1_200_000.5)),
        ("Description", Value::Null),
    ] {
        assert_eq!(record[name], value, "{name}");
    }
    let mut labels: Vec<&str> = record["Labels__c"].as_str().unwrap_or_default().split(';').collect();
    labels.sort_unstable();
    assert_eq!(labels, ["new", "vip"]);
    house.quiet(SOON).await?;

    next_second(&house).await?;
    let external = record["Id"].as_str().unwrap();
    let edits = json!({
        "Labels__c": "old", "Stage__c": "Negotiation", "Revenue__c": 99.99, "OtherPhone": "+49 30 2", "Company__c": "Other",
        "Description": "stays there",
    });
    person_edits(&house, &acme, external, edits).await?;
    let document = becomes_here(
        &house,
        "acme",
        &internal,
        &json!({ "phone": "+49 30 2", "company_name": "Other", "lifecycle_stage": "other", "annual_revenue": "99.99", "tags": ["old"] }),
    )
    .await?;
    assert_eq!(document["notes"], json!("stays here"), "it is ignored");
    house.quiet(SOON).await?;
    // A stage that is not named stays as it is there.
    assert_eq!(acme.api.read(external).await?.unwrap_or_default()["Stage__c"], json!("Negotiation"));

    // What is cleared there is cleared here, although a message does not name what is empty.
    next_second(&house).await?;
    person_edits(&house, &acme, external, json!({ "Labels__c": null })).await?;
    until("what was cleared there is cleared here", SOON, async || {
        let now = house.system_a("acme").read(&internal).await?.unwrap_or_default();
        let cleared = now["tags"].is_null() || now["tags"] == json!([]);
        Ok(if cleared { Ok(()) } else { Err(now.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_salesforce_refuses_is_set_aside_in_its_words_and_goes_through_when_mended() -> Result<(), Error>
{
    let house = house().await?;
    let acme = house.salesforce_customer(&with_fields_elsewhere()).await?;
    let cases = [
        // Salesforce wants a last name.
        (
            json!({ "email": "nameless@acme.example" }),
            "/family_name",
            "Required fields are missing: [LastName]",
            json!({ "family_name": "Li" }),
        ),
        // A picklist has no such value.
        (
            json!({ "email": "far@acme.example", "family_name": "Li", "custom": { "regions": ["Nowhere"] } }),
            "/custom/regions",
            "Regions: bad value for restricted picklist field: [value]",
            json!({ "custom": { "regions": ["East"] } }),
        ),
        // Longer than the field.
        (
            json!({ "email": "long@acme.example", "family_name": "Li", "given_name": "L".repeat(41) }),
            "/given_name",
            // It repeats values; those of the record are left out of what is kept of it.
            "First Name: data value too large: [value] (max length=40)",
            json!({ "given_name": "L" }),
        ),
    ];
    let mut ids = Vec::new();
    for (document, ..) in &cases {
        let made = house.system_a("acme").create(document).await?;
        ids.push(made.id.ok_or_else(|| format!("not taken: {}", made.body))?);
    }
    house.quiet(SOON).await?;
    let list = house.get("/v1/dead?limit=100").await?;
    for ((document, pointer, words, _), id) in cases.iter().zip(&ids) {
        let letter = list.as_array().into_iter().flatten().find(|row| row["internal"] == json!(id));
        let letter = letter.ok_or_else(|| format!("{document} was not set aside: {list}"))?;
        let problem = &letter["problems"][0];
        assert_eq!((&problem["pointer"], &problem["message"]), (&json!(pointer), &json!(words)), "{letter}");
    }
    assert_eq!(house.control.salesforce_contacts(acme.number()).await?.len(), 0);
    for ((.., mended), id) in cases.iter().zip(&ids) {
        patch(&house, "acme", id, mended.clone()).await?;
    }
    until("all three are there", SOON, async || {
        let there = house.control.salesforce_contacts(acme.number()).await?.len();
        Ok(if there == cases.len() { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

/// Contents of a record that are found nowhere else.
const NOTE: &str = "zqx-note-of-salesforce-7431";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_an_org_reaches_a_sandbox_a_log_or_the_store() -> Result<(), Error> {
    let shim = Shim::compile()?;
    let mut environment: BTreeMap<String, String> = shim.environment().into();
    environment.insert("TANDEM_LOG".to_owned(), "trace".to_owned());
    let mut house = built(environment).await?;
    let mut wanted = Wanted::new("acme").polled(1_000);
    // The administrator did not take the tick off "Send Session ID".
    wanted.org.outbound.include_session = true;
    let acme = house.salesforce_customer(&wanted).await?;
    let secrets = async |house: &House| -> Result<Markers, Error> {
        let sessions = house.control.salesforce_tokens(acme.number()).await?;
        let more = [acme.org.refresh_token.as_str(), CLIENT_SECRET, &acme.webhook_secret, ADMIN];
        Ok(Markers::new(sessions.iter().map(String::as_str).chain(more)))
    };
    let one = shared(&house, &acme, 1).await?.remove(0);
    let contents = Markers::new([NOTE]);
    let mut passed = false;
    for round in 0..20 {
        let note = format!("{NOTE} {round}");
        if round % 2 == 0 {
            next_second(&house).await?;
            person_edits(&house, &acme, &one.external, json!({ "Description": note })).await?;
        } else {
            patch(&house, "acme", &one.internal, json!({ "notes": note })).await?;
        }
        becomes(&acme, &one.external, &json!({ "Description": note })).await?;
        becomes_here(&house, "acme", &one.internal, &json!({ "notes": note })).await?;
        let markers = secrets(&house).await?;
        let guests = shim.guests()?;
        assert!(!guests.is_empty(), "no guest was found");
        for guest in &guests {
            assert_eq!(markers.find(&guest.bytes), Vec::<String>::new(), "a guest at {:x}", guest.start);
            passed |= !contents.find(&guest.bytes).is_empty();
        }
        if passed && round >= 3 {
            break;
        }
    }
    assert!(passed, "no guest ever held what passed through it: the search does not work");
    // The same search finds a session where it has to be.
    until("the daemon's own session is found in its memory", SOON, async || {
        let markers = secrets(&house).await?;
        let found = shim.rest()?.iter().any(|region| !markers.find(&region.bytes).is_empty());
        Ok(if found { Ok(()) } else { Err("nowhere".to_owned()) })
    })
    .await?;
    house.quiet(SOON).await?;
    let counts = house.control.salesforce_counts(acme.number()).await?.outbound;
    assert!(counts.acknowledged > 0 && counts.failed == 0, "{counts:?}");
    nothing_is_wrong(&house).await?;
    // A message that does not prove its sender is taken by nobody.
    let waiting = async || -> Result<Value, Error> {
        let status = house.get("/v1/status?connection=acme").await?;
        Ok(status["connections"][0]["waiting"].clone())
    };
    let before = waiting().await?;
    for query in ["", "?key=wrong", "?key="] {
        let url = format!("{}/hooks/connection/acme{query}", house.base);
        let answer = tandem_e2e::client()?.post(url).body("<a/>").send().await?;
        assert_eq!(answer.status().as_u16(), 401, "{query}");
    }
    assert_eq!(waiting().await?, before);

    let markers = secrets(&house).await?;
    house.stop().await?;
    let log = house.log();
    assert!(log.lines().any(|line| line.contains("DEBUG") || line.contains("TRACE")), "not at trace");
    for line in log.lines() {
        assert_eq!(markers.find(line.as_bytes()), Vec::<String>::new(), "{line}");
        assert_eq!(contents.find(line.as_bytes()), Vec::<String>::new(), "contents: {line}");
    }
    let data = house.folder.join("data");
    assert_eq!(markers.search(&data)?, [], "a secret is in a file of the store");
    assert!(!contents.search(&data)?.is_empty(), "the store's files hide nothing from this search");
    Ok(())
}
