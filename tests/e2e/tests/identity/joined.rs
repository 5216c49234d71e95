//! The same person on both sides before anything is linked: one record on each side afterwards, whoever was met by whom, and
//! whether the account has a unique property of Tandem's own or, as most have, none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::account::Contact;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::system_a::Listed;
use tandem_e2e::{Error, until};

const SOON: Duration = Duration::from_secs(60);

/// People of each kind.
const EACH: usize = 5;

/// With Tandem's own property, and without.
const SETTINGS: [&str; 2] = ["key_property = \"tandem_key\"\n", ""];

/// Runs a test in a house with these settings; where it fails, the house's folder is kept and named.
async fn in_houses(test: impl AsyncFn(&House) -> Result<(), Error>) -> Result<(), Error> {
    for settings in SETTINGS {
        let connection = format!("[settings]\n{settings}settle_ms = 500\npoll_every_ms = 3600000\n");
        let mut house = House::build(Plan { connection, ..Plan::roomy(&["acme"]) }).await?;
        let result = async {
            house.walked(SOON).await?;
            test(&house).await?;
            let violations = house.control.violations().await?;
            ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed.first()))
        };
        if let Err(error) = result.await {
            let folder = house.keep();
            return Err(format!("{settings}: {error}; everything is kept in {}", folder.display()).into());
        }
    }
    Ok(())
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

fn rows(list: &Value) -> Vec<Value> {
    let rows = list.as_array().or_else(|| list.as_object()?.values().find_map(Value::as_array));
    rows.cloned().unwrap_or_default()
}

/// What the two sides know of a person beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The same.
    Equal,
    /// System A has the telephone, the account the job.
    Disjoint,
    /// Different telephones.
    Contrary,
}

const KINDS: [Kind; 3] = [Kind::Equal, Kind::Disjoint, Kind::Contrary];

/// Everybody's kind and address.
fn people() -> Vec<(Kind, String)> {
    KINDS
        .iter()
        .flat_map(|kind| {
            (0..EACH).map(move |number| (*kind, format!("{kind:?}.{number}@acme.example").to_lowercase()))
        })
        .collect()
}

/// What System A has; its people write the address as they like.
fn internal(kind: Kind, address: &str) -> Value {
    let address = address.to_uppercase();
    match kind {
        Kind::Equal => json!({"email": address, "city": "Ulm", "phone": "+49 731 1", "job_title": "Clerk"}),
        Kind::Disjoint => json!({"email": address, "city": "Ulm", "phone": "+49 731 1"}),
        Kind::Contrary => json!({"email": address, "phone": "+49 731 1"}),
    }
}

/// What the account has.
fn external(kind: Kind, address: &str) -> Vec<(&'static str, String)> {
    let mut properties = vec![("email", address.to_owned())];
    let more: &[(&str, &str)] = match kind {
        Kind::Equal => &[("city", "Ulm"), ("phone", "+49 731 1"), ("jobtitle", "Clerk")],
        Kind::Disjoint => &[("city", "Ulm"), ("jobtitle", "Clerk")],
        Kind::Contrary => &[("phone", "+49 30 2")],
    };
    properties.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    properties
}

/// The two records of a person; an error where there is not exactly one on each side.
async fn pair(house: &House, address: &str) -> Result<(Listed, Contact), Error> {
    let here = |record: &Listed| {
        record
            .document
            .get("email")
            .and_then(Value::as_str)
            .is_some_and(|it| it.eq_ignore_ascii_case(address))
    };
    let there = |contact: &Contact| contact.properties.get("email").is_some_and(|email| email == address);
    let mut system_a: Vec<Listed> = house.system_a("acme").list().await?;
    system_a.retain(here);
    let mut account: Vec<Contact> = house.customer("acme")?.account.list().await?;
    account.retain(there);
    match (system_a.pop(), account.pop(), system_a.len(), account.len()) {
        (Some(here), Some(there), 0, 0) => Ok((here, there)),
        (here, there, more_here, more_there) => Err(format!(
            "{address}: {} in system a, {} in the account",
            usize::from(here.is_some()) + more_here,
            usize::from(there.is_some()) + more_there
        )
        .into()),
    }
}

/// Everybody is there once on each side, joined as their kind wants it, and linked: an edit of either side crosses.
async fn joined(house: &House) -> Result<(), Error> {
    house.quiet(SOON).await?;
    let dead = rows(&house.get("/v1/dead?limit=100").await?);
    ensure(dead.is_empty(), || format!("set aside: {dead:?}"))?;
    let people = people();
    let counts =
        (house.system_a("acme").list().await?.len(), house.customer("acme")?.account.list().await?.len());
    ensure(counts == (people.len(), people.len()), || {
        format!("records in system a and in the account: {counts:?}")
    })?;
    let reviews = rows(&house.get("/v1/review?limit=100").await?);
    ensure(reviews.len() == EACH, || format!("{} reviews: {reviews:?}", reviews.len()))?;
    let portal = house.customer("acme")?.info.portal_id;
    for (kind, address) in &people {
        let (here, there) = pair(house, address).await?;
        let members = ["city", "phone", "job_title"]
            .map(|name| here.document.get(name).and_then(Value::as_str).unwrap_or(""));
        let properties =
            ["city", "phone", "jobtitle"].map(|name| there.properties.get(name).map_or("", String::as_str));
        let (wanted_here, wanted_there) = match kind {
            Kind::Equal | Kind::Disjoint => (["Ulm", "+49 731 1", "Clerk"], ["Ulm", "+49 731 1", "Clerk"]),
            Kind::Contrary => (["", "+49 731 1", ""], ["", "+49 30 2", ""]),
        };
        ensure((members, properties) == (wanted_here, wanted_there), || {
            format!("{address}: {members:?} in system a, {properties:?} in the account")
        })?;
        let held = reviews.iter().find(|row| row.pointer("/entity/id") == Some(&json!(here.id)));
        let fields = held.and_then(|row| row.get("fields")).cloned();
        let wanted = (*kind == Kind::Contrary).then(|| json!(["/phone"]));
        ensure(fields == wanted, || format!("{address}: under review: {fields:?}"))?;
        let id = there.id.parse()?;
        house.control.person_edits(portal, id, &[("lastname", "Of the account")]).await?;
        let answer = house.system_a("acme").patch(&here.id, &json!({"given_name": "Of system a"})).await?;
        ensure(answer.status.is_success(), || format!("{}", answer.body))?;
    }
    house.quiet(SOON).await?;
    for (_, address) in &people {
        let (here, there) = pair(house, address).await?;
        let crossed = (
            here.document.get("family_name").and_then(Value::as_str),
            there.properties.get("firstname").map(String::as_str),
        );
        ensure(crossed == (Some("Of the account"), Some("Of system a")), || {
            format!("{address}: {crossed:?}")
        })?;
    }
    Ok(())
}

async fn create_in_system_a(house: &House) -> Result<(), Error> {
    let lines: Vec<Value> = people()
        .iter()
        .map(|(kind, address)| json!({"op": "create", "document": internal(*kind, address)}))
        .collect();
    let answers = house.system_a("acme").batch(&lines).await?;
    let taken = answers.iter().filter(|answer| answer.get("status") == Some(&json!(201))).count();
    ensure(taken == lines.len(), || format!("refused: {answers:?}"))
}

fn contacts() -> Vec<BTreeMap<String, String>> {
    let contact = |(kind, address): (Kind, String)| {
        external(kind, &address).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    people().into_iter().map(contact).collect()
}

/// All at once, so that nobody is quicker with some of them.
async fn create_in_the_account(house: &House) -> Result<(), Error> {
    let portal = house.customer("acme")?.info.portal_id;
    let imported = house.control.person_imports(portal, contacts(), false).await?;
    ensure(imported.refused.is_empty(), || format!("they were there before: {:?}", imported.refused))
}

#[tokio::test]
async fn a_create_that_meets_the_person_in_the_account_links_and_joins_the_two() -> Result<(), Error> {
    in_houses(async |house| {
        // No webhook tells of them, and no poll comes: only the refused create does.
        let portal = house.customer("acme")?.info.portal_id;
        let imported = house.control.person_imports(portal, contacts(), true).await?;
        ensure(imported.refused.is_empty(), || format!("{:?}", imported.refused))?;
        create_in_system_a(house).await?;
        joined(house).await
    })
    .await
}

#[tokio::test]
async fn a_person_of_the_account_who_is_in_system_a_already_is_linked_and_joined() -> Result<(), Error> {
    in_houses(async |house| {
        // Nothing goes out, so that what comes in meets records that are not linked.
        let outward = json!({"connection": "acme", "direction": "to-external"});
        house.post("/v1/pause", &outward).await?;
        create_in_system_a(house).await?;
        create_in_the_account(house).await?;
        until("each person's record was looked at", SOON, async || {
            let counts = house.control.account_counts(house.customer("acme")?.info.portal_id).await?;
            let reads = counts.calls("contacts.read") + counts.calls("contacts.batch-read");
            Ok(if reads >= people().len() as u64 { Ok(()) } else { Err(format!("{reads} reads")) })
        })
        .await?;
        house.post("/v1/resume", &outward).await?;
        joined(house).await
    })
    .await
}

#[tokio::test]
async fn a_person_who_comes_up_on_both_sides_at_once_is_there_once() -> Result<(), Error> {
    in_houses(async |house| {
        tokio::try_join!(create_in_the_account(house), create_in_system_a(house))?;
        joined(house).await
    })
    .await
}
