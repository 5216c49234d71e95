//! Salesforce in the real daemon, against the simulator: records, edits and deletions both ways, conflicts, an initial load, lost
//! messages, ended sessions, spent limits, custom fields, and where its secrets are not.
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
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_e2e::house::{ADMIN, House};
use tandem_e2e::judge::judge;
use tandem_e2e::ledger::{Act, Ledger, Side};
use tandem_e2e::marker::Markers;
use tandem_e2e::memory::Shim;
use tandem_e2e::salesforce::{self, CLIENT_SECRET, Customer, Wanted};
use tandem_e2e::{Error, until};
use tandem_simulator::control::salesforce::{
    FieldKind, NewField, SalesforceImport, SalesforceLimits, SalesforceMerge, SalesforceRecord,
};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedWrite, WriteKind, Writer};

const SOON: Duration = Duration::from_secs(60);
/// For what a whole org takes.
const LONG: Duration = Duration::from_secs(300);
/// Calls that a connection has under way at the most: the provider's own limit.
const AT_ONCE: usize = 5;

fn torture() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1")
}

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

/// What the API's user wrote, in order.
async fn writes(house: &House, customer: &Customer) -> Result<Vec<NotedWrite>, Error> {
    let all = house.control.salesforce_writes(customer.number()).await?;
    Ok(all.into_iter().filter(|write| write.by == Writer::Api).collect())
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
async fn a_record_made_on_either_side_comes_to_the_other_once_and_whole() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme")).await?;
    let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;

    let ann = json!({
        "email": "ann.obrien@acme.example", "given_name": "Ann", "family_name": "O'Brien & \"Sons\" <Ltd>",
        "phone": "+44 20 7946 0018", "mobile_phone": "+44 7700 900123", "job_title": "Head of R&D",
        "street": "1 High Street\nFloor 2", "city": "Zürich", "region": "ZH", "postal_code": "8001",
        "country": "Switzerland", "date_of_birth": "1980-02-29", "notes": "Said: <b>no</b>.\nCall in May. 日本",
        "opted_out": true,
    });
    let made = house.system_a("acme").create(&ann).await?;
    ledger.note("acme", "ann.obrien@acme.example", Side::SystemA, Act::Wrote(members(&ann)))?;
    let internal = made.id.ok_or_else(|| format!("not taken: {}", made.body))?;
    let record = there(&acme, "ann.obrien@acme.example").await?;
    for (field, value) in [
        ("Email", "ann.obrien@acme.example"),
        ("FirstName", "Ann"),
        ("LastName", "O'Brien & \"Sons\" <Ltd>"),
        ("Phone", "+44 20 7946 0018"),
        ("MobilePhone", "+44 7700 900123"),
        ("Title", "Head of R&D"),
        ("MailingStreet", "1 High Street\nFloor 2"),
        ("MailingCity", "Zürich"),
        ("MailingState", "ZH"),
        ("MailingPostalCode", "8001"),
        ("MailingCountry", "Switzerland"),
        ("Birthdate", "1980-02-29"),
        ("Description", "Said: <b>no</b>.\nCall in May. 日本"),
    ] {
        assert_eq!(record[field], json!(value), "{field}");
    }
    assert_eq!(record["HasOptedOutOfEmail"], json!(true));
    assert!(record["Tandem_Key__c"].is_string(), "{record}");
    let id = record["Id"].as_str().unwrap();
    assert_eq!(dumped(&house, &acme, id).await?.client.as_deref(), Some("Tandem"), "named in the org's logs");

    let bob = json!({
        "Email": "bob@acme.example", "FirstName": "Bob", "LastName": "Łukasz", "Phone": "030 / 1",
        "MailingStreet": "Hauptstraße 1\nHinterhaus", "MailingCity": "Kraków", "Birthdate": "1999-12-31", "Title": "VP, \"Sales\"",
    });
    house.control.salesforce_person_creates(acme.number(), bob).await?;
    let wrote = json!({
        "email": "bob@acme.example", "given_name": "Bob", "family_name": "Łukasz", "phone": "030 / 1",
        "street": "Hauptstraße 1\nHinterhaus", "city": "Kraków", "date_of_birth": "1999-12-31", "job_title": "VP, \"Sales\"",
    });
    ledger.note("acme", "bob@acme.example", Side::Account, Act::Wrote(members(&wrote)))?;
    let (_, document) = here(&house, "acme", "bob@acme.example").await?;
    for (member, value) in wrote.as_object().unwrap() {
        assert_eq!(document[member], *value, "{member}");
    }
    assert_eq!(document["opted_out"], json!(false));

    house.quiet(SOON).await?;
    // Messages tell of the daemon's own writes as well: nothing is written because of them.
    let creates = writes(&house, &acme).await?;
    assert_eq!(creates.len(), 1, "{creates:?}");
    assert_eq!(creates[0].kind, WriteKind::Create);
    let counts = house.control.salesforce_counts(acme.number()).await?;
    assert_eq!(counts.outbound.acknowledged, 2, "{:?}", counts.outbound);
    assert_eq!((counts.outbound.failed, counts.outbound.given_up), (0, 0));
    assert!(house.system_a("acme").read(&internal).await?.is_some());

    let mut evidence = house.salesforce_evidence(&[&acme]).await?;
    evidence.ledger = Ledger::read(&house.folder.join("ledger.ndjson"))?;
    let report = judge(&evidence);
    println!("the judge: {report}");
    assert_eq!((report.equal, report.failures), (2, Vec::new()));
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_one_field_crosses_and_leaves_the_others_alone() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme")).await?;
    let all = shared(&house, &acme, 2).await?;
    let (one, other) = (&all[0], &all[1]);
    let before = writes(&house, &acme).await?.len();

    patch(&house, "acme", &one.internal, json!({ "job_title": "Captain" })).await?;
    becomes(
        &acme,
        &one.external,
        &json!({ "Title": "Captain", "MailingCity": "Ulm", "Phone": "+49 30 100" }),
    )
    .await?;
    house.quiet(SOON).await?;
    let sent = writes(&house, &acme).await?.split_off(before);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].members, BTreeMap::from([("Title".to_owned(), json!("Captain"))]), "nothing else");

    next_second(&house).await?;
    person_edits(&house, &acme, &one.external, json!({ "MailingCity": "Bonn" })).await?;
    let document = becomes_here(&house, "acme", &one.internal, &json!({ "city": "Bonn" })).await?;
    assert_eq!((&document["job_title"], &document["phone"]), (&json!("Captain"), &json!("+49 30 100")));
    house.quiet(SOON).await?;
    assert_eq!(writes(&house, &acme).await?.len(), before + 1, "the edit there is not written back");

    // Different fields of one record at the same time: both stand on both sides.
    person_edits(&house, &acme, &other.external, json!({ "MobilePhone": "+49 170 1" })).await?;
    patch(&house, "acme", &other.internal, json!({ "phone": "+49 30 200" })).await?;
    becomes_here(
        &house,
        "acme",
        &other.internal,
        &json!({ "mobile_phone": "+49 170 1", "phone": "+49 30 200" }),
    )
    .await?;
    becomes(&acme, &other.external, &json!({ "MobilePhone": "+49 170 1", "Phone": "+49 30 200" })).await?;

    // Nothing is a value too, and crosses as such.
    patch(&house, "acme", &one.internal, json!({ "phone": null })).await?;
    becomes(&acme, &one.external, &json!({ "Phone": null, "Title": "Captain" })).await?;
    house.quiet(SOON).await?;
    next_second(&house).await?;
    person_edits(&house, &acme, &one.external, json!({ "MailingCity": null, "Title": "Chief" })).await?;
    let document =
        becomes_here(&house, "acme", &one.internal, &json!({ "city": null, "job_title": "Chief" })).await?;
    assert!(document.get("city").is_none_or(Value::is_null), "{document}");
    house.quiet(SOON).await?;
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_on_either_side_crosses_and_a_restored_or_merged_record_is_followed() -> Result<(), Error>
{
    let house = house().await?;
    let wanted = Wanted::new("acme").polled(300).policy("confirm_after = \"200ms\"\n");
    let acme = house.salesforce_customer(&wanted).await?;
    let all = shared(&house, &acme, 5).await?;
    let gone_here = async |number: usize| -> Result<(), Error> {
        until(&format!("record {number} is gone in System A"), SOON, async || {
            let found = house.system_a("acme").read(&all[number].internal).await?;
            Ok(found.map_or(Ok(()), |document| Err(document.to_string())))
        })
        .await
    };

    // In System A: the contact goes to the recycle bin.
    let answer = house.system_a("acme").delete(&all[0].internal).await?;
    assert!(answer.status.is_success(), "{}", answer.status);
    until("the contact is gone", SOON, async || {
        let found = acme.api.read(&all[0].external).await?;
        Ok(found.map_or(Ok(()), |record| Err(record.to_string())))
    })
    .await?;
    assert!(dumped(&house, &acme, &all[0].external).await?.deleted);

    // In the org: no message tells of it, so a poll finds it.
    house.control.salesforce_person_deletes(acme.number(), &all[1].external).await?;
    gone_here(1).await?;

    // Somebody takes it out of the bin again: it is in System A once more.
    house.quiet(SOON).await?;
    next_second(&house).await?;
    house.control.salesforce_person_undeletes(acme.number(), &all[1].external).await?;
    let (_, document) = here(&house, "acme", "p1@acme.example").await?;
    assert_eq!(document["family_name"], json!("Person 1"));

    // One that is merged into another is not deleted here: whoever looks after them is asked.
    house.quiet(SOON).await?;
    let merge = SalesforceMerge {
        master: all[2].external.clone(),
        losers: vec![all[3].external.clone()],
        values: members(&json!({ "Title": "Navigator" })),
    };
    house.control.salesforce_person_merges(acme.number(), &merge).await?;
    becomes_here(&house, "acme", &all[2].internal, &json!({ "job_title": "Navigator" })).await?;
    until("the merge is in the review", SOON, async || {
        let list = house.get("/v1/review?limit=100").await?;
        let kinds: Vec<&str> =
            list.as_array().into_iter().flatten().filter_map(|row| row["kind"].as_str()).collect();
        Ok(if kinds == ["merged"] { Ok(()) } else { Err(list.to_string()) })
    })
    .await?;
    assert!(house.system_a("acme").read(&all[3].internal).await?.is_some(), "nobody deleted it");

    // Nobody touched the last one.
    house.quiet(SOON).await?;
    assert!(acme.api.read(&all[4].external).await?.is_some());
    assert!(house.system_a("acme").read(&all[4].internal).await?.is_some());
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_only_the_precondition_shows_ends_as_the_policy_says() -> Result<(), Error> {
    let house = house().await?;
    let mut customers = Vec::new();
    for policy in ["internal", "external", "review"] {
        // Nobody tells of what is edited there, and nobody asks: only Salesforce's refusal does.
        let wanted = Wanted::new(policy).without_pushes().policy(&format!("on_conflict = \"{policy}\"\n"));
        customers.push(house.salesforce_customer(&wanted).await?);
    }
    for customer in &customers {
        let policy = customer.scope.as_str();
        let one = shared(&house, customer, 1).await?.remove(0);
        next_second(&house).await?;
        person_edits(&house, customer, &one.external, json!({ "Title": "There", "MailingCity": "Kiel" }))
            .await?;
        let before = writes(&house, customer).await?.len();
        patch(&house, policy, &one.internal, json!({ "job_title": "Here" })).await?;
        // What nobody disputes crosses under every policy.
        becomes_here(&house, policy, &one.internal, &json!({ "city": "Kiel" })).await?;
        house.quiet(SOON).await?;
        let sent = writes(&house, customer).await?.split_off(before);
        assert!(sent.first().is_some_and(|write| !write.taken), "{policy}: refused first: {sent:?}");
        let (inside, outside) = match policy {
            "internal" => ("Here", "Here"),
            "external" => ("There", "There"),
            _ => ("Here", "There"),
        };
        becomes_here(&house, policy, &one.internal, &json!({ "job_title": inside })).await?;
        becomes(customer, &one.external, &json!({ "Title": outside })).await?;
        let list = house.get("/v1/review?limit=100").await?;
        let held = list.as_array().into_iter().flatten();
        let held = held.filter(|row| row["connection"] == json!(policy)).count();
        assert_eq!(held, usize::from(policy == "review"), "{list}");
        if policy == "review" {
            let decide = json!({"scope": policy, "object": "contact", "id": one.internal, "connection": policy,
                "group": "/job_title", "choice": "internal"});
            house.post("/v1/review/decide", &decide).await?;
            becomes(customer, &one.external, &json!({ "Title": "Here" })).await?;
            house.quiet(SOON).await?;
        }
    }
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_a_message_tells_of_ends_as_the_policy_says() -> Result<(), Error> {
    let house = house().await?;
    for policy in ["internal", "external", "review"] {
        let wanted = Wanted::new(policy).policy(&format!("on_conflict = \"{policy}\"\n"));
        let customer = house.salesforce_customer(&wanted).await?;
        let one = shared(&house, &customer, 1).await?.remove(0);
        house.post("/v1/pause", &json!({ "connection": policy })).await?;
        next_second(&house).await?;
        person_edits(&house, &customer, &one.external, json!({ "Title": "There" })).await?;
        patch(&house, policy, &one.internal, json!({ "job_title": "Here" })).await?;
        until("the message is acknowledged", SOON, async || {
            let counts = house.control.salesforce_counts(customer.number()).await?.outbound;
            Ok(if counts.under_way == 0 { Ok(()) } else { Err(format!("{counts:?}")) })
        })
        .await?;
        house.post("/v1/resume", &json!({ "connection": policy })).await?;
        let (inside, outside) = match policy {
            "internal" => ("Here", "Here"),
            "external" => ("There", "There"),
            _ => ("Here", "There"),
        };
        house.quiet(SOON).await?;
        becomes_here(&house, policy, &one.internal, &json!({ "job_title": inside })).await?;
        becomes(&customer, &one.external, &json!({ "Title": outside })).await?;
        let list = house.get("/v1/review?limit=100").await?;
        let held = list.as_array().into_iter().flatten();
        let held = held.filter(|row| row["connection"] == json!(policy)).count();
        assert_eq!(held, usize::from(policy == "review"), "{list}");
    }
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initial_load_links_what_is_there_and_doubles_none() -> Result<(), Error> {
    let many: usize = if torture() { 2_000 } else { 200 };
    let house = house().await?;
    let wanted = Wanted::new("acme");
    let acme = house.salesforce_org(&wanted).await?;
    let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;
    // System A knows their titles, the org their cities; the addresses are written in different letters.
    let mut imported = Vec::new();
    let mut lines = Vec::new();
    for number in 0..many {
        let email = format!("p{number}@acme.example");
        let inside = json!({ "email": email, "family_name": format!("Person {number}"), "job_title": format!("Pilot {number}") });
        let outside = json!({ "Email": format!("P{number}@Acme.example"), "LastName": format!("Person {number}"),
            "MailingCity": format!("City {number}") });
        ledger.note("acme", &email, Side::SystemA, Act::Wrote(members(&inside)))?;
        let city = json!({ "city": format!("City {number}") });
        ledger.note("acme", &email, Side::Account, Act::Wrote(members(&city)))?;
        lines.push(json!({ "op": "create", "document": inside }));
        imported.push(members(&outside));
    }
    let import = SalesforceImport { records: imported, quiet: true };
    let refused = house.control.salesforce_person_imports(acme.number(), &import).await?.refused;
    assert_eq!(refused, Vec::<String>::new());
    for part in lines.chunks(500) {
        let answers = house.system_a("acme").batch(part).await?;
        assert!(answers.iter().all(|answer| answer["id"].is_string()), "{answers:?}");
    }
    let began = Instant::now();
    house.connect_salesforce(&acme, &wanted)?;
    house.salesforce_runs(&acme, SOON).await?;
    until("everybody is linked and whole", LONG, async || {
        let all = house.system_a("acme").list().await?;
        let whole = all.iter().filter(|record| record.document["city"].is_string()).count();
        let there = house.control.salesforce_contacts(acme.number()).await?;
        let titled = there.iter().filter(|record| record.values.contains_key("Title")).count();
        Ok(if (whole, titled) == (many, many) {
            Ok(())
        } else {
            Err(format!("{whole} of {} here, {titled} of {} there", all.len(), there.len()))
        })
    })
    .await?;
    house.quiet(LONG).await?;
    let counts = house.control.salesforce_counts(acme.number()).await?;
    let calls: u64 = counts.operations.values().map(|counts| counts.calls).sum();
    println!("{many} matches linked in {} ms with {calls} calls", began.elapsed().as_millis());
    let sent = writes(&house, &acme).await?;
    assert!(sent.iter().all(|write| write.kind == WriteKind::Update), "nobody was made anew: {sent:?}");
    let mut evidence = house.salesforce_evidence(&[&acme]).await?;
    evidence.ledger = Ledger::read(&house.folder.join("ledger.ndjson"))?;
    let report = judge(&evidence);
    println!("the judge: {report}");
    assert_eq!((report.equal, report.failures), (many as u64, Vec::new()));
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_lost_is_found_by_polling_and_one_that_comes_twice_does_no_harm()
-> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme").polled(500)).await?;
    let one = shared(&house, &acme, 1).await?.remove(0);
    let lost = FaultOrder::new(FaultKind::WebhookLost).portal(acme.number()).times(2);
    house.control.order(&lost).await?;
    next_second(&house).await?;
    person_edits(&house, &acme, &one.external, json!({ "Title": "Captain", "MailingCity": null })).await?;
    house
        .control
        .salesforce_person_creates(acme.number(), json!({ "LastName": "Li", "Email": "li@acme.example" }))
        .await?;
    becomes_here(&house, "acme", &one.internal, &json!({ "job_title": "Captain", "city": null })).await?;
    let (li, _) = here(&house, "acme", "li@acme.example").await?;
    let counts = house.control.salesforce_counts(acme.number()).await?.outbound;
    assert_eq!(counts.lost, 2, "{counts:?}");
    house.quiet(SOON).await?;

    let twice =
        FaultOrder::new(FaultKind::WebhookDuplicated { delay_ms: 300 }).portal(acme.number()).times(1);
    house.control.order(&twice).await?;
    next_second(&house).await?;
    let (_, document) = here(&house, "acme", "li@acme.example").await?;
    assert!(document.get("city").is_none_or(Value::is_null), "{document}");
    let before = writes(&house, &acme).await?.len();
    let external = there(&acme, "li@acme.example").await?["Id"].as_str().unwrap().to_owned();
    person_edits(&house, &acme, &external, json!({ "MailingCity": "Bonn" })).await?;
    becomes_here(&house, "acme", &li, &json!({ "city": "Bonn" })).await?;
    house.quiet(SOON).await?;
    let counts = house.control.salesforce_counts(acme.number()).await?.outbound;
    assert_eq!((counts.duplicated, counts.failed), (1, 0), "{counts:?}");
    assert_eq!(writes(&house, &acme).await?.len(), before, "nothing is written there");
    nothing_is_wrong(&house).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_in_mid_flight_is_renewed_once_and_nothing_is_lost() -> Result<(), Error> {
    const MANY: usize = 60;
    let mut house = house().await?;
    let mut wanted = Wanted::new("acme").without_pushes();
    // A refresh token that is used twice ends everything: two renewals at once would show.
    wanted.org.settings.rotate_refresh_tokens = true;
    let acme = house.salesforce_customer(&wanted).await?;
    let sessions = async |house: &House| -> Result<usize, Error> {
        Ok(house.control.salesforce_tokens(acme.number()).await?.len())
    };
    let before = sessions(&house).await?;
    let ends = FaultOrder::new(FaultKind::ExpireToken).portal(acme.number());
    house.control.order(&ends.operation("salesforce.upsert").after(20).times(1)).await?;
    let lines: Vec<Value> = (0..MANY)
        .map(|number| {
            json!({"op": "create", "document": {"email": format!("p{number}@acme.example"), "family_name": "Li"}})
        })
        .collect();
    let answers = house.system_a("acme").batch(&lines).await?;
    let ids: Vec<String> = answers.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids.len(), MANY, "{answers:?}");
    house.quiet(SOON).await?;
    let all = house.control.salesforce_contacts(acme.number()).await?;
    assert_eq!(all.len(), MANY);
    let emails: std::collections::BTreeSet<_> =
        all.iter().map(|record| record.values["Email"].to_string()).collect();
    assert_eq!(emails.len(), MANY);
    let counts = house.control.salesforce_counts(acme.number()).await?;
    let refused: u64 = counts.operations.values().map(|counts| counts.refused).sum();
    println!("{refused} calls met the end of the session");
    assert!((1..=AT_ONCE as u64).contains(&refused), "{:?}", counts.operations);
    assert_eq!(sessions(&house).await?, before + 1, "renewed once");

    // The refresh token that was given last is kept over a restart.
    house.stop().await?;
    house.start().await?;
    patch(&house, "acme", &ids[7], json!({ "city": "Bonn" })).await?;
    until("the edit is there", SOON, async || {
        let all = house.control.salesforce_contacts(acme.number()).await?;
        let there =
            all.iter().filter(|record| record.values.get("MailingCity") == Some(&json!("Bonn"))).count();
        Ok(if there == 1 { Ok(()) } else { Err(house.get("/v1/status").await?.to_string()) })
    })
    .await?;
    assert_eq!(sessions(&house).await?, before + 2);
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
async fn a_days_calls_are_used_up_without_a_refusal_and_nothing_is_lost() -> Result<(), Error> {
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

fn with_custom_fields() -> Wanted {
    let settings = "fields = { \"/company_name\" = \"Company__c\", \"/tags\" = \"Labels__c\", \"/lifecycle_stage\" = \"Stage__c\", \
                    \"/annual_revenue\" = \"Revenue__c\", \"/phone\" = \"OtherPhone\" }\n\
                    stages = { lead = \"Open\", customer = \"Won\" }\n\
                    ignore = [\"/notes\"]\n\
                    [settings.custom]\n\
                    \"/custom/tier\" = { property = \"Tier__c\", type = \"enumeration\", options = { gold = \"Tier 1\", silver = \"Tier 2\" } }\n\
                    \"/custom/regions\" = { property = \"Regions__c\", type = \"set\" }\n\
                    \"/custom/seats\" = { property = \"Seats__c\", type = \"integer\" }\n\
                    \"/custom/renewal\" = { property = \"Renewal__c\", type = \"date\" }\n\
                    \"/custom/seen\" = { property = \"Seen__c\", type = \"datetime\" }\n\
                    \"/custom/vip\" = { property = \"Vip__c\", type = \"boolean\" }\n\
                    \"/custom/score\" = { property = \"Score__c\", type = \"decimal\" }\n";
    let mut wanted = Wanted::new("acme").settings(settings);
    wanted.org.fields = vec![
        field("Company__c", FieldKind::String, &[]),
        field("Labels__c", FieldKind::MultiPicklist, &["vip", "new", "old"]),
        field("Stage__c", FieldKind::Picklist, &["Open", "Won", "Negotiation"]),
        field("Revenue__c", FieldKind::Currency, &[]),
        field("Tier__c", FieldKind::Picklist, &["Tier 1", "Tier 2"]),
        field("Regions__c", FieldKind::MultiPicklist, &["North", "South", "East"]),
        field("Seats__c", FieldKind::Double, &[]),
        field("Renewal__c", FieldKind::Date, &[]),
        field("Seen__c", FieldKind::DateTime, &[]),
        field("Vip__c", FieldKind::Boolean, &[]),
        field("Score__c", FieldKind::Double, &[]),
    ];
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_fields_of_the_settings_cross_both_ways() -> Result<(), Error> {
    let house = house().await?;
    let acme = house.salesforce_customer(&with_custom_fields()).await?;
    let document = json!({
        "email": "ann@acme.example", "family_name": "Ann", "phone": "+49 30 1", "company_name": "Example & Söhne",
        "tags": ["new", "vip"], "lifecycle_stage": "customer", "annual_revenue": "1200000.5", "notes": "stays here",
        "custom": {
            "tier": "gold", "regions": ["North", "South"], "seats": 12, "renewal": "2027-01-31",
            "seen": "2026-01-02T03:04:05Z", "vip": true, "score": "0.75", "unknown": "stays here",
        },
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
        ("Tier__c", json!("Tier 1")),
        ("Seats__c", json!(12.0)),
        ("Renewal__c", json!("2027-01-31")),
        ("Seen__c", json!("2026-01-02T03:04:05.000+0000")),
        ("Vip__c", json!(true)),
        ("Score__c", json!(0.75)),
        ("Description", Value::Null),
    ] {
        let found = &record[name];
        let same =
            found == &value || found.as_f64().zip(value.as_f64()).is_some_and(|(left, right)| left == right);
        assert!(same, "{name} is {found}, not {value}");
    }
    let set = |name: &str| -> Vec<String> {
        let mut all: Vec<String> =
            record[name].as_str().unwrap_or_default().split(';').map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(set("Labels__c"), ["new", "vip"]);
    assert_eq!(set("Regions__c"), ["North", "South"]);
    house.quiet(SOON).await?;

    next_second(&house).await?;
    let external = record["Id"].as_str().unwrap();
    let edits = json!({
        "Tier__c": "Tier 2", "Seats__c": 13, "Renewal__c": "2028-02-29", "Seen__c": "2027-03-04T05:06:07.000+0000",
        "Vip__c": false, "Score__c": 1.25, "Regions__c": "East;North", "Labels__c": "old", "Stage__c": "Negotiation",
        "Revenue__c": 99.99, "OtherPhone": "+49 30 2", "Company__c": "Other", "Description": "stays there",
    });
    person_edits(&house, &acme, external, edits).await?;
    let document = becomes_here(
        &house,
        "acme",
        &internal,
        &json!({ "phone": "+49 30 2", "company_name": "Other", "lifecycle_stage": "other", "annual_revenue": "99.99", "tags": ["old"] }),
    )
    .await?;
    let expected = json!({
        "tier": "silver", "regions": ["East", "North"], "seats": 13, "renewal": "2028-02-29",
        "seen": "2027-03-04T05:06:07Z", "vip": false, "score": "1.25", "unknown": "stays here",
    });
    assert_eq!(document["custom"], expected);
    assert_eq!(document["notes"], json!("stays here"), "it is ignored");
    house.quiet(SOON).await?;
    // A stage that is not named stays as it is there.
    assert_eq!(acme.api.read(external).await?.unwrap_or_default()["Stage__c"], json!("Negotiation"));

    // What is cleared there is cleared here, although a message does not name what is empty.
    next_second(&house).await?;
    person_edits(&house, &acme, external, json!({ "Seats__c": null, "Labels__c": null, "Tier__c": null }))
        .await?;
    until("what was cleared there is cleared here", SOON, async || {
        let now = house.system_a("acme").read(&internal).await?.unwrap_or_default();
        let none = |value: &Value| value.is_null() || value == &json!([]);
        let cleared = none(&now["custom"]["seats"]) && none(&now["tags"]) && none(&now["custom"]["tier"]);
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
    let acme = house.salesforce_customer(&with_custom_fields()).await?;
    let cases = [
        // Salesforce wants a last name.
        (json!({ "email": "nameless@acme.example" }), "/family_name", json!({ "family_name": "Li" })),
        // A picklist has no such value.
        (
            json!({ "email": "far@acme.example", "family_name": "Li", "custom": { "regions": ["Nowhere"] } }),
            "/custom/regions",
            json!({ "custom": { "regions": ["East"] } }),
        ),
        // Longer than the field.
        (
            json!({ "email": "long@acme.example", "family_name": "Li", "given_name": "L".repeat(41) }),
            "/given_name",
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
    for ((document, pointer, _), id) in cases.iter().zip(&ids) {
        let letter = list.as_array().into_iter().flatten().find(|row| row["internal"] == json!(id));
        let letter = letter.ok_or_else(|| format!("{document} was not set aside: {list}"))?;
        let problem = &letter["problems"][0];
        println!("{problem}");
        assert_eq!(problem["pointer"], json!(pointer), "{letter}");
    }
    assert_eq!(house.control.salesforce_contacts(acme.number()).await?.len(), 0);
    for ((_, _, mended), id) in cases.iter().zip(&ids) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_lost_or_that_a_kill_cuts_off_is_made_once() -> Result<(), Error> {
    let mut house = house().await?;
    let acme = house.salesforce_customer(&Wanted::new("acme").without_pushes()).await?;
    let upserts =
        |kind: FaultKind| FaultOrder::new(kind).portal(acme.number()).operation("salesforce.upsert");
    let records = async |house: &House| -> Result<Vec<SalesforceRecord>, Error> {
        Ok(house.control.salesforce_contacts(acme.number()).await?)
    };

    // It takes effect and nobody hears of it.
    house.control.order(&upserts(FaultKind::DropAfter).times(2)).await?;
    let document = json!({ "email": "ann@acme.example", "family_name": "Ann" });
    house.system_a("acme").create(&document).await?;
    house.quiet(SOON).await?;
    assert_eq!(records(&house).await?.len(), 1);
    let creates = writes(&house, &acme).await?;
    assert!(creates.iter().any(|write| write.kind == WriteKind::Create && write.taken), "{creates:?}");

    // It takes effect and the daemon dies before it hears of it.
    house.control.clear_faults().await?;
    house.control.order(&upserts(FaultKind::WithholdAfter { ms: 20_000 }).times(1)).await?;
    let document = json!({ "email": "bob@acme.example", "family_name": "Bob", "job_title": "Pilot" });
    let id = house.system_a("acme").create(&document).await?.id.ok_or("not taken")?;
    until("the contact is made", SOON, async || {
        let there = records(&house).await?.len();
        Ok(if there == 2 { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    house.kill().await?;
    house.start().await?;
    patch(&house, "acme", &id, json!({ "job_title": "Captain" })).await?;
    until("the edit is there", SOON, async || {
        let all = records(&house).await?;
        let titled =
            all.iter().filter(|record| record.values.get("Title") == Some(&json!("Captain"))).count();
        Ok(if titled == 1 { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    let all = records(&house).await?;
    assert_eq!(all.len(), 2, "{all:?}");
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
