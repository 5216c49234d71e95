//! Documents that a provider's mapping makes and its own schema does not allow: none of them leaves the daemon, each is
//! named exactly, and nobody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, process};

const LONG: Duration = Duration::from_secs(60);
const GUEST: &str = "odd-documents";

/// What the CRM of the guests has: its records, and every body that it was sent.
#[derive(Default)]
struct Crm {
    records: BTreeMap<u64, Map<String, Value>>,
    sent: Vec<Value>,
}

type Shared = Arc<Mutex<Crm>>;

fn row(id: u64, fields: &Map<String, Value>) -> Value {
    json!({ "id": id.to_string(), "key": fields.get("key"), "fields": fields })
}

async fn create(State(crm): State<Shared>, Json(body): Json<Map<String, Value>>) -> Json<Value> {
    let mut crm = crm.lock();
    crm.sent.push(Value::Object(body.clone()));
    let id = crm.records.len() as u64 + 1;
    crm.records.insert(id, body.clone());
    Json(row(id, &body))
}

async fn update(
    State(crm): State<Shared>,
    Path(id): Path<u64>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, StatusCode> {
    let mut crm = crm.lock();
    crm.sent.push(Value::Object(body.clone()));
    let fields = crm.records.get_mut(&id).ok_or(StatusCode::NOT_FOUND)?;
    fields.extend(body);
    Ok(Json(row(id, fields)))
}

async fn read(State(crm): State<Shared>, Path(id): Path<u64>) -> Result<Json<Value>, StatusCode> {
    crm.lock().records.get(&id).map(|fields| Json(row(id, fields))).ok_or(StatusCode::NOT_FOUND)
}

/// The ledger that the guests of `tests/guests` speak to, as far as they ask here: nobody but Tandem writes to it.
async fn crm() -> Result<(String, Shared), Error> {
    let crm = Shared::default();
    let nothing = || async { Json(json!({ "rows": [], "cursor": "end", "more": false })) };
    let router = Router::new()
        .route("/me", get(|| async { Json(json!({})) }))
        .route("/records/contact", post(create).get(nothing))
        .route("/records/contact/{id}", get(read).patch(update))
        .route("/find/contact", post(nothing))
        .route("/changes/contact", get(nothing))
        .with_state(crm.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((format!("http://{address}"), crm))
}

async fn build() -> Result<(House, Shared), Error> {
    let mut house = House::build(Plan::roomy(&["beside"])).await?;
    house.stop().await?;
    let (url, crm) = crm().await?;
    let component = process::component("examples/odd_documents.wasm")?;
    std::fs::copy(component, house.folder.join("providers").join("odd.wasm"))?;
    house.secret(GUEST, "token-of-a-guest")?;
    let text = format!(
        "provider = \"{GUEST}\"\nscope = \"acme\"\nbase_url = \"{url}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
         auth = {{ scheme = \"token\", token = {{ file = \"../secrets/{GUEST}\" }} }}\n[settings]\nbase-url = \"{url}\"\n[objects.contact]\n"
    );
    std::fs::write(house.folder.join("connections").join("acme.toml"), text)?;
    house.start().await?;
    Ok((house, crm))
}

/// What the mapping makes, by the word that the guest knows it by, and where the schema finds it.
const ODD: [(&str, &str); 29] = [
    ("number-for-text", "/email"),
    ("text-for-number", "/age"),
    ("text-for-boolean", "/active"),
    ("list-for-text", "/notes"),
    ("object-for-text", "/notes"),
    ("null-for-text", "/notes"),
    ("missing", "/email"),
    ("missing-inside", "/address/city"),
    ("extra", "/shoe_size"),
    ("too-long", "/first_name"),
    ("too-short", "/first_name"),
    ("no-such-day", "/birthday"),
    ("no-day", "/birthday"),
    ("no-such-hour", "/seen"),
    ("no-such-option", "/status"),
    ("no-address", "/email"),
    ("no-uri", "/website"),
    ("no-match", "/postal_code"),
    ("too-many", "/age"),
    ("fewer-than-none", "/age"),
    ("fraction", "/age"),
    ("beyond-2-53", "/age"),
    ("beyond-every-reader", "/age"),
    ("half-a-surrogate-pair", "/notes"),
    ("twice", "/notes"),
    ("a-thousand-deep", "/notes/a/a/a"),
    ("too-many-items", "/tags"),
    ("equal-items", "/tags"),
    ("number-among-texts", "/tags/1"),
];

/// The dead letters by internal record.
async fn letters(house: &House) -> Result<BTreeMap<String, Value>, Error> {
    let list = house.get("/v1/dead?limit=1000").await?;
    let rows = list.as_array().cloned().unwrap_or_default();
    let id = |row: &Value| row.get("internal").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(rows.into_iter().map(|row| (id(&row), row)).collect())
}

/// What is wrong with a letter, which should name this pointer and none of the record's values.
fn wrong_with(kind: &str, pointer: &str, letter: Option<&Value>) -> Option<String> {
    let Some(letter) = letter else { return Some(format!("{kind}: not set aside")) };
    let text = |pointer: &str| letter.pointer(pointer).and_then(Value::as_str).unwrap_or("none");
    let (point, at, why) = (text("/point"), text("/problems/0/pointer"), text("/problems/0/message"));
    let named = (point, at) == ("provider-out", pointer);
    let quotes =
        ["many", "whale", "nobody", "1234x", "nnnn", "@acme.example"].iter().any(|it| why.contains(it));
    (!named || why.is_empty() || quotes)
        .then(|| format!("{kind}: wanted provider-out at {pointer}: {letter}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mapping_makes_against_its_schema_never_leaves_and_the_next_one_goes_out() -> Result<(), Error>
{
    let (house, crm) = build().await?;
    let system_a = house.system_a("acme");
    let mut made = Vec::new();
    for (number, (kind, _)) in ODD.iter().enumerate() {
        let document =
            json!({"email": format!("odd.{number}@acme.example"), "notes": format!("{kind} {number}")});
        let taken = system_a.create(&document).await?;
        made.push(taken.id.ok_or_else(|| format!("{kind}: {} {}", taken.status, taken.body))?);
        let next = system_a.create(&json!({ "email": format!("next.{number}@acme.example") })).await?;
        assert!(next.status.is_success(), "{} {}", next.status, next.body);
    }
    house.quiet(LONG).await?;
    let found = letters(&house).await?;
    let wrong: Vec<String> = made
        .iter()
        .zip(ODD)
        .filter_map(|(id, (kind, pointer))| wrong_with(kind, pointer, found.get(id)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(found.len(), ODD.len(), "nothing else was set aside");
    let sent = crm.lock().sent.clone();
    let next = |body: &Value| {
        body.pointer("/email").and_then(Value::as_str).is_some_and(|it| it.starts_with("next."))
    };
    assert_eq!(
        (sent.len(), sent.iter().filter(|body| next(body)).count()),
        (ODD.len(), ODD.len()),
        "{sent:?}"
    );

    // The component is not at fault in the daemon's eyes: it goes on with the next record.
    let status = house.get("/v1/status").await?;
    let rows = status.get("connections").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row.get("connection") == Some(&json!("acme"))).ok_or("no row")?;
    assert_eq!((row.get("cause"), row.get("dead")), (Some(&json!("none")), Some(&json!(ODD.len()))), "{row}");

    for id in &made {
        let mended = system_a.patch(id, &json!({ "notes": "fine" })).await?;
        assert!(mended.status.is_success(), "{} {}", mended.status, mended.body);
    }
    house.quiet(LONG).await?;
    assert_eq!(letters(&house).await?, BTreeMap::new(), "their own edits brought them through");
    let fine =
        crm.lock().records.values().filter(|fields| fields.get("notes") == Some(&json!("fine"))).count();
    assert_eq!((crm.lock().records.len(), fine), (2 * ODD.len(), ODD.len()), "each is there once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_in_the_crm_keeps_what_it_had_while_its_update_cannot_be_sent() -> Result<(), Error> {
    let (house, crm) = build().await?;
    let system_a = house.system_a("acme");
    let mut made = Vec::new();
    for (number, _) in ODD.iter().enumerate() {
        let document = json!({"email": format!("ann.{number}@acme.example"), "notes": "first"});
        made.push(system_a.create(&document).await?.id.ok_or("not taken")?);
    }
    house.quiet(LONG).await?;
    let before = crm.lock().records.clone();
    assert_eq!(before.len(), ODD.len());
    for (id, (kind, _)) in made.iter().zip(ODD) {
        system_a.patch(id, &json!({ "notes": kind })).await?;
    }
    house.quiet(LONG).await?;
    let found = letters(&house).await?;
    let wrong: Vec<String> = made
        .iter()
        .zip(ODD)
        .filter_map(|(id, (kind, pointer))| wrong_with(kind, pointer, found.get(id)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(crm.lock().records, before, "nothing of them was sent");
    // What was set aside is tried again on request, with the record as it is then.
    for id in &made {
        system_a.patch(id, &json!({ "notes": "second" })).await?;
    }
    house.quiet(LONG).await?;
    assert_eq!(letters(&house).await?, BTreeMap::new());
    let second =
        crm.lock().records.values().filter(|fields| fields.get("notes") == Some(&json!("second"))).count();
    assert_eq!(second, ODD.len());
    Ok(())
}
