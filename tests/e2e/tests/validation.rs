//! Bad records at the four points: at System A's door, in what a CRM says, in what it becomes, and in what a CRM is told.
//! Each is named exactly, kept out, and stops nobody.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

const LONG: Duration = Duration::from_secs(60);

/// Fields of the customer's own, kept in text properties, so that the account itself takes anything for them; and three in
/// properties whose values HubSpot checks.
const SETTINGS: &str = r#"
[settings]
key_property = "tandem_key"
settle_ms = 500
poll_every_ms = 600000
[settings.properties]
"/employees" = "fax"
"/opted_out" = "salutation"
"/tags" = "industry"
[settings.custom]
"/custom/seats" = { property = "twitterhandle", type = "integer" }
"/custom/renewal" = { property = "gender", type = "date" }
"/custom/score" = { property = "hs_linkedin_url", type = "decimal" }
"/custom/seen" = { property = "hs_timezone", type = "datetime" }
"/custom/tier" = { property = "notes", type = "enumeration", options = { gold = "tier_1", silver = "tier_2" } }
"/custom/persona" = { property = "hs_persona", type = "text" }
"/custom/closing" = { property = "closedate", type = "text" }
"/custom/turnover" = { property = "total_revenue", type = "text" }
"#;

fn odd_house() -> Plan {
    Plan { connection: SETTINGS.to_owned(), ..Plan::roomy(&["acme"]) }
}

/// A body at the door: what it is, its bytes, the status, and the pointer of the problem that is told.
type Body = (&'static str, Vec<u8>, u16, Option<&'static str>);

fn bodies() -> Vec<Body> {
    let text = |text: &str| text.as_bytes().to_vec();
    let document = |value: Value| value.to_string().into_bytes();
    let deep = format!("{{\"custom\":{}1{}}}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    let broad =
        json!({ "custom": (0..501).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>() });
    vec![
        ("a number for an address", document(json!({"email": 5})), 422, Some("/email")),
        ("text for a number", document(json!({"employees": "many"})), 422, Some("/employees")),
        ("text for yes or no", document(json!({"opted_out": "yes"})), 422, Some("/opted_out")),
        ("a list for a document", document(json!([])), 422, Some("")),
        ("nothing at all", text(""), 400, Some("")),
        ("an unknown member", document(json!({"shoe_size": 38})), 422, Some("/shoe_size")),
        ("a member without a name", document(json!({"custom": {"": 1}})), 422, Some("/custom")),
        ("an object for a field", document(json!({"custom": {"a": {"b": 1}}})), 422, Some("/custom/a")),
        ("too long a name", document(json!({"given_name": "x".repeat(256)})), 422, Some("/given_name")),
        ("too long a title", document(json!({"job_title": "y".repeat(10_000)})), 422, Some("/job_title")),
        ("an empty tag", document(json!({"tags": ["good", ""]})), 422, Some("/tags/1")),
        ("too many tags", document(json!({"tags": vec!["t"; 1_001]})), 422, Some("/tags")),
        ("too many fields", document(broad), 422, Some("/custom")),
        ("no such day", document(json!({"date_of_birth": "2026-02-30"})), 422, Some("/date_of_birth")),
        ("no day at all", document(json!({"date_of_birth": "30.1.1970"})), 422, Some("/date_of_birth")),
        ("no such stage", document(json!({"lifecycle_stage": "whale"})), 422, Some("/lifecycle_stage")),
        ("no address", document(json!({"email": "nobody"})), 422, Some("/email")),
        ("a web address with a gap", document(json!({"website": "a b.example"})), 422, Some("/website")),
        ("no language", document(json!({"language": "much too long for one"})), 422, Some("/language")),
        ("an exponent for money", document(json!({"annual_revenue": "1e5"})), 422, Some("/annual_revenue")),
        ("fewer than none", document(json!({"employees": -1})), 422, Some("/employees")),
        ("2^53", text("{\"employees\": 9007199254740992}"), 422, Some("/employees")),
        ("a fraction", text("{\"employees\": 1.5}"), 422, Some("/employees")),
        ("beyond every reader", text("{\"employees\": 1e999}"), 422, Some("/employees")),
        ("half a surrogate pair", text("{\"notes\": \"\\ud800\"}"), 422, Some("/notes")),
        ("a thousand deep", text(&deep), 422, Some("/custom/a/a/a")),
        ("a member twice", text("{\"phone\": \"1\", \"phone\": \"2\"}"), 422, Some("/phone")),
        ("a raw control character", text("{\"notes\": \"a\u{1}b\"}"), 400, Some("/notes")),
        ("half a document", text("{\"notes\": \"a\""), 400, Some("")),
        ("two documents", text("{} {}"), 400, Some("")),
        ("no UTF-8", b"{\"notes\": \"\xff\"}".to_vec(), 400, None),
        ("too large", document(json!({"notes": "z".repeat(2 << 20)})), 413, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_are_refused_at_the_door_and_the_next_one_is_delivered() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let http = client()?;
    let system_a = house.system_a("acme");
    let mut wrong = Vec::new();
    let bodies = bodies();
    for (number, (what, body, status, pointer)) in bodies.iter().enumerate() {
        let answer = http
            .post(format!("{}/v1/scopes/acme/contact", house.base))
            .bearer_auth(ADMIN)
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
            .await;
        let (got, said): (u16, Value) = match answer {
            // Whoever sends far too much may be cut off while it still sends.
            Err(error) if *status == 413 && error.is_request() && !error.is_connect() => (413, Value::Null),
            answer => {
                let answer = answer?;
                (answer.status().as_u16(), answer.json().await?)
            }
        };
        let at = said.pointer("/problems/0/pointer").and_then(Value::as_str);
        if got != *status || at != *pointer {
            wrong.push(format!("{what}: {got} at {at:?}, wanted {status} at {pointer:?}: {said}"));
        }
        let good = json!({ "email": format!("good.{number}@acme.example"), "given_name": "Good" });
        let taken = system_a.create(&good).await?;
        assert_eq!(taken.status.as_u16(), 201, "after {what}: {}", taken.body);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(system_a.list().await?.len(), bodies.len(), "only the good ones are stored");
    let account = &house.customer("acme")?.account;
    until("the good ones are in the account", LONG, async || {
        let there = account.list().await?.len();
        Ok(if there == bodies.len() { Ok(()) } else { Err(format!("{there} of {}", bodies.len())) })
    })
    .await?;
    house.quiet(LONG).await?;
    let there = account.list().await?;
    let good =
        there.iter().filter(|contact| contact.properties.get("firstname").is_some_and(|name| name == "Good"));
    assert_eq!((there.len(), good.count()), (bodies.len(), bodies.len()), "nothing else went out");
    assert_eq!(house.get("/v1/dead?limit=100").await?, json!([]));
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_of_a_batch_are_told_one_by_one() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let system_a = house.system_a("acme");
    let good = |name: &str| json!({"op": "create", "document": {"email": format!("{name}@acme.example")}});
    let lines = [
        good("first"),
        json!({"op": "create"}),
        good("second"),
        json!({"op": "replace", "document": {}}),
        json!({"op": "create", "document": {"date_of_birth": "never"}}),
        json!({"op": "delete"}),
        json!(["create"]),
        good("third"),
    ];
    let answers = system_a.batch(&lines).await?;
    let statuses: Vec<u64> =
        answers.iter().filter_map(|answer| answer.get("status").and_then(Value::as_u64)).collect();
    assert_eq!(statuses.len(), lines.len(), "{answers:?}");
    for (line, status) in statuses.iter().enumerate() {
        let is_good = [0, 2, 7].contains(&line);
        assert_eq!(*status == 201, is_good, "line {line}: {answers:?}");
        assert!(is_good || (400..500).contains(status), "line {line}: {answers:?}");
    }
    let pointer = answers.get(4).and_then(|answer| answer.pointer("/problems/0/pointer"));
    assert_eq!(pointer.and_then(Value::as_str), Some("/document/date_of_birth"), "{answers:?}");
    let account = &house.customer("acme")?.account;
    until("the good lines are in the account", LONG, async || {
        let there = account.list().await?.len();
        Ok(if there == 3 { Ok(()) } else { Err(there.to_string()) })
    })
    .await
}

/// The dead letter of a record of the CRM or of System A, once everything else is done.
async fn letter(house: &House, member: &str, id: &str) -> Result<Value, Error> {
    let list = house.get("/v1/dead?limit=1000").await?;
    let rows = list.as_array().cloned().unwrap_or_default();
    let mine = rows.into_iter().rfind(|row| row.get(member).and_then(Value::as_str) == Some(id));
    Ok(mine.unwrap_or(Value::Null))
}

fn point_and_pointer(letter: &Value) -> (String, String) {
    let text = |pointer: &str| letter.pointer(pointer).and_then(Value::as_str).unwrap_or("none").to_owned();
    (text("/point"), text("/problems/0/pointer"))
}

/// Replays everything that is set aside, one letter for each record, and waits until nothing is.
async fn replay(house: &House, records: usize) -> Result<(), Error> {
    let said = house.post("/v1/dead/replay", &json!("all")).await?;
    assert_eq!(said, json!({ "count": records }), "one letter for each record");
    nothing_is_left(house).await
}

/// Waits until all is done; nothing is set aside then.
async fn nothing_is_left(house: &House) -> Result<(), Error> {
    house.quiet(LONG).await?;
    assert_eq!(
        house.get("/v1/dead?limit=1000").await?,
        json!([]),
        "all of them could be worked after the mending"
    );
    Ok(())
}

/// What a person types: property, value, a good value, where it fails, the pointer.
type Typed = (&'static str, String, &'static str, &'static str, &'static str);

fn typed() -> Vec<Typed> {
    let row =
        |property, value: &str, good, point, pointer| (property, value.to_owned(), good, point, pointer);
    vec![
        // What the mapping cannot read.
        row("fax", "many", "7", "provider-in", "/properties/fax"),
        row("fax", "12.5", "7", "provider-in", "/properties/fax"),
        row("fax", "9007199254740993", "7", "canonical-in", "/employees"),
        row("fax", "0x10", "7", "provider-in", "/properties/fax"),
        row("salutation", "maybe", "true", "provider-in", "/properties/salutation"),
        row("salutation", "1.0", "false", "provider-in", "/properties/salutation"),
        row("twitterhandle", "seven", "7", "provider-in", "/properties/twitterhandle"),
        row("twitterhandle", "1e3", "7", "provider-in", "/properties/twitterhandle"),
        row("twitterhandle", "-99999999999999999999", "7", "canonical-in", "/custom/seats"),
        row("gender", "yesterday", "2026-01-31", "provider-in", "/properties/gender"),
        row("gender", "2026-02-30", "2026-02-28", "provider-in", "/properties/gender"),
        row("gender", "31.12.2026", "2026-12-31", "provider-in", "/properties/gender"),
        row("gender", "1572480000001", "2026-12-31", "provider-in", "/properties/gender"),
        row("hs_linkedin_url", "1,5", "1.5", "provider-in", "/properties/hs_linkedin_url"),
        row("hs_linkedin_url", "NaN", "1.5", "provider-in", "/properties/hs_linkedin_url"),
        row("hs_linkedin_url", "12 000", "12000", "provider-in", "/properties/hs_linkedin_url"),
        row("hs_timezone", "noon", "2026-01-31T12:00:00Z", "provider-in", "/properties/hs_timezone"),
        row(
            "hs_timezone",
            "2026-01-31T25:00:00Z",
            "2026-01-31T12:00:00Z",
            "provider-in",
            "/properties/hs_timezone",
        ),
        row("notes", "platinum", "tier_1", "provider-in", "/properties/notes"),
        row("notes", "TIER_1", "tier_2", "provider-in", "/properties/notes"),
        // What the mapping reads, and the canonical schema does not allow.
        row("firstname", &"n".repeat(256), "Ann", "canonical-in", "/given_name"),
        row("lastname", &"ü".repeat(256), "Lee", "canonical-in", "/family_name"),
        row("phone", &"1".repeat(65), "+49 1", "canonical-in", "/phone"),
        row("mobilephone", &"2".repeat(10_000), "+49 2", "canonical-in", "/mobile_phone"),
        row("jobtitle", &"j".repeat(10_000), "Head", "canonical-in", "/job_title"),
        row("jobtitle", &"k".repeat(65_536), "Head", "canonical-in", "/job_title"),
        row("company", &"\u{1f600}".repeat(256), "Example", "canonical-in", "/company_name"),
        row("website", "no web address at all", "a.example", "canonical-in", "/website"),
        row(
            "website",
            &format!("https://a.example/{}", "w".repeat(2_048)),
            "a.example",
            "canonical-in",
            "/website",
        ),
        row("address", &"s".repeat(1_025), "Street 1", "canonical-in", "/street"),
        row("city", &"c".repeat(256), "Köln", "canonical-in", "/city"),
        row("state", &"r".repeat(256), "Bavaria", "canonical-in", "/region"),
        row("zip", &"5".repeat(33), "50667", "canonical-in", "/postal_code"),
        row("country", &"l".repeat(256), "Ghana", "canonical-in", "/country"),
        row("fax", "-1", "1", "canonical-in", "/employees"),
        row("industry", &"t".repeat(256), "good;better", "canonical-in", "/tags/0"),
        row("industry", &format!("fine;{}", "t".repeat(300)), "fine", "canonical-in", "/tags/1"),
        row(
            "industry",
            &(0..1_001).map(|n| n.to_string()).collect::<Vec<_>>().join(";"),
            "few",
            "canonical-in",
            "/tags",
        ),
        row("company", &"long ".repeat(60), "Example", "canonical-in", "/company_name"),
        row("firstname", &"語".repeat(20_000), "Go", "canonical-in", "/given_name"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_values_of_an_account_are_set_aside_and_come_in_once_they_are_mended() -> Result<(), Error> {
    let house = House::build(odd_house()).await?;
    let customer = house.customer("acme")?;
    let portal = customer.info.portal_id;
    // Else the first look at the account could come late and find people whom somebody has mended before the replay.
    house.walked(LONG).await?;
    let typed = typed();
    let mut made = Vec::new();
    for (number, (property, value, ..)) in typed.iter().enumerate() {
        let address = format!("odd.{number}@acme.example");
        let record = house.control.person_creates(portal, &[("email", &address), (property, value)]).await?;
        made.push(record.id.to_string());
        let address = format!("next.{number}@acme.example");
        house.control.person_creates(portal, &[("email", &address)]).await?;
    }
    house.quiet(LONG).await?;
    let mut wrong = Vec::new();
    for (id, (property, value, _, point, pointer)) in made.iter().zip(&typed) {
        let letter = letter(&house, "external", id).await?;
        let value: String = value.chars().take(20).collect();
        let found = point_and_pointer(&letter);
        if found != ((*point).to_owned(), (*pointer).to_owned()) {
            wrong.push(format!("{property} = {value}: {found:?}, wanted {point} at {pointer}"));
        }
        if letter
            .get("problems")
            .is_some_and(|problems| value.len() > 8 && problems.to_string().contains(&value))
        {
            wrong.push(format!("{property}: the problem repeats the value: {letter}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    until("the next ones are in System A", LONG, async || {
        let records = house.system_a("acme").list().await?;
        Ok(if records.len() == typed.len() { Ok(()) } else { Err(format!("{} records", records.len())) })
    })
    .await?;
    house.quiet(LONG).await?;
    let records = house.system_a("acme").list().await?;
    assert!(
        records.iter().all(|it| it
            .document
            .get("email")
            .and_then(Value::as_str)
            .is_some_and(|it| it.starts_with("next."))),
        "only the good ones came in: {records:?}"
    );
    // The person mends the records; the events of it are lost, so that only the replay can bring them in.
    let lost = FaultOrder::new(FaultKind::WebhookLost);
    house.control.order(&lost).await?;
    for (id, (property, _, good, ..)) in made.iter().zip(&typed) {
        house.control.person_edits(portal, id.parse()?, &[(property, good)]).await?;
    }
    house.control.clear_faults().await?;
    replay(&house, typed.len()).await?;
    let records = house.system_a("acme").list().await?;
    assert_eq!(records.len(), 2 * typed.len(), "each came in once");
    let find = |number: usize| {
        let address = format!("odd.{number}@acme.example");
        records.iter().find(|it| it.document.get("email") == Some(&json!(address))).map(|it| &it.document)
    };
    assert_eq!(find(0).and_then(|it| it.get("employees")), Some(&json!(7)));
    assert_eq!(find(24).and_then(|it| it.get("job_title")), Some(&json!("Head")));
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

/// What HubSpot answers to a read: what it is, the bytes for a record's id, and the pointer of the problem.
type Answered = (&'static str, Vec<u8>, &'static str);

fn answered(id: &str) -> Vec<Answered> {
    let with = |properties: &str| {
        format!("{{\"id\":\"{id}\",\"properties\":{{{properties}}},\"archived\":false}}").into_bytes()
    };
    let whole = |text: &str| text.replace("ID", id).into_bytes();
    let first = "/properties/firstname";
    let deep = format!("\"deep\":{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    let not_utf8 = [with("\"firstname\":\"a\"").as_slice(), b"\xff"].concat();
    vec![
        ("half a surrogate pair", with("\"firstname\":\"a\\ud83dz\""), first),
        ("the other half", with("\"firstname\":\"\\ude00\""), first),
        ("a member twice", with("\"firstname\":\"a\",\"firstname\":\"b\""), first),
        ("a thousand deep", with(&deep), "/properties/deep/a/a"),
        ("2^53 + 1 for text", with("\"fax\":9007199254740993"), "/properties/fax"),
        ("beyond every reader", with("\"fax\":1e999"), "/properties/fax"),
        ("no number at all", with("\"fax\":NaN"), "/properties/fax"),
        ("a raw control character", with("\"firstname\":\"a\u{1}b\""), first),
        ("torn in a name", whole("{\"id\":\"ID\",\"properties\":{\"firstname\":\"An"), first),
        ("torn after the properties", whole("{\"id\":\"ID\",\"properties\":{}"), ""),
        ("two documents", [with(""), with("")].concat(), ""),
        ("no UTF-8", not_utf8, "none"),
        ("no JSON", whole("{id: ID}"), ""),
        ("a number for text", with("\"firstname\":5"), first),
        ("yes or no for text", with("\"firstname\":true"), first),
        ("a list for text", with("\"firstname\":[\"a\"]"), first),
        ("an object for text", with("\"firstname\":{\"value\":\"a\"}"), first),
        ("too long a text", with(&format!("\"firstname\":\"{}\"", "f".repeat(65_537))), first),
        ("an object for an unmapped text", with("\"annual\":{\"value\":\"a\"}"), "/properties/annual"),
        ("a list of properties", whole("{\"id\":\"ID\",\"properties\":[]}"), "/properties"),
        ("no properties", whole("{\"id\":\"ID\"}"), "/properties"),
        ("no id", whole("{\"properties\":{\"firstname\":\"a\"}}"), "/id"),
        ("an empty id", whole("{\"id\":\"\",\"properties\":{}}"), "/id"),
        ("a number for an id", whole("{\"id\":ID,\"properties\":{}}"), "/id"),
        ("too long an id", whole(&format!("{{\"id\":\"{}\",\"properties\":{{}}}}", "7".repeat(65))), "/id"),
        ("text for yes or no", whole("{\"id\":\"ID\",\"properties\":{},\"archived\":\"no\"}"), "/archived"),
        ("a number for a time", whole("{\"id\":\"ID\",\"properties\":{},\"updatedAt\":5}"), "/updatedAt"),
        ("a list for a record", whole("[]"), ""),
        ("null for a record", whole("null"), ""),
        ("text for a record", whole("\"ID\""), ""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_to_a_read_are_set_aside_and_come_in_once_they_are_mended() -> Result<(), Error> {
    let house = House::build(odd_house()).await?;
    let customer = house.customer("acme")?;
    let portal = customer.info.portal_id;
    let count = answered("1").len();
    // Else the first look at the account would find the people before their reads are disturbed.
    house.walked(LONG).await?;
    // They are there before anybody tells of them, so that each read is disturbed.
    let quiet = (0..count)
        .map(|number| [("email".to_owned(), format!("odd.{number}@acme.example"))].into())
        .collect::<Vec<_>>();
    let imported = house.control.person_imports(portal, quiet, true).await?;
    let made: Vec<u64> = imported.ids.into_iter().flatten().collect();
    assert_eq!((made.len(), imported.refused), (count, Vec::new()));
    for (number, id) in made.iter().enumerate() {
        let (_, body, _) = answered(&id.to_string()).swap_remove(number);
        let kind = FaultKind::AnswerBody { body, object_id: Some(*id) };
        house.control.order(&FaultOrder::new(kind)).await?;
        house.control.person_edits(portal, *id, &[("jobtitle", "Head")]).await?;
        let address = format!("next.{number}@acme.example");
        house.control.person_creates(portal, &[("email", &address)]).await?;
    }
    house.quiet(LONG).await?;
    let mut wrong = Vec::new();
    for (number, id) in made.iter().enumerate() {
        let (what, _, pointer) = answered(&id.to_string()).swap_remove(number);
        let letter = letter(&house, "external", &id.to_string()).await?;
        let found = point_and_pointer(&letter);
        if found != ("provider-in".to_owned(), pointer.to_owned()) {
            wrong.push(format!("{what}: {found:?}, wanted provider-in at {pointer}: {letter}"));
        }
        let told = letter.pointer("/problems/0/message").and_then(Value::as_str).unwrap_or_default();
        if told.is_empty() || told.contains(&"f".repeat(20)) {
            wrong.push(format!("{what}: the reason is {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let records = house.system_a("acme").list().await?;
    let next = |document: &Value| {
        document.get("email").and_then(Value::as_str).is_some_and(|email| email.starts_with("next."))
    };
    assert_eq!(records.len(), count, "the next ones came in");
    assert!(records.iter().all(|record| next(&record.document)), "only the next ones came in: {records:?}");
    house.control.clear_faults().await?;
    replay(&house, count).await?;
    let records = house.system_a("acme").list().await?;
    let heads = records.iter().filter(|it| it.document.get("job_title") == Some(&json!("Head"))).count();
    assert_eq!((records.len(), heads), (2 * count, count), "each came in once");
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_something_in_between_is_asked_again_and_nothing_is_set_aside() -> Result<(), Error> {
    let house = House::build(odd_house()).await?;
    let portal = house.customer("acme")?.info.portal_id;
    for (before, body) in ["<html>we will be back</html>", " \n", ""].into_iter().enumerate() {
        let kind = FaultKind::AnswerBody { body: body.as_bytes().to_vec(), object_id: None };
        house.control.order(&FaultOrder::new(kind).after(u32::try_from(before)?).times(1)).await?;
    }
    house.control.person_creates(portal, &[("email", "ann@acme.example")]).await?;
    until("she is in System A", LONG, async || {
        let records = house.system_a("acme").list().await?.len();
        Ok(if records == 1 { Ok(()) } else { Err(house.get("/v1/status").await?.to_string()) })
    })
    .await?;
    let fired: u64 = house.control.faults().await?.faults.iter().map(|fault| fault.fired).sum();
    assert_eq!(fired, 3, "each page was seen");
    assert_eq!(house.get("/v1/dead?limit=10").await?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_record_that_turns_bad_is_set_aside_and_keeps_what_it_had() -> Result<(), Error> {
    let house = House::build(odd_house()).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let system_a = house.system_a("acme");
    let taken = system_a.create(&json!({"email": "ann@acme.example", "job_title": "Head"})).await?;
    let id = taken.id.ok_or("not taken")?;
    house.quiet(LONG).await?;
    let account = &house.customer("acme")?.account;
    let there = account.list().await?;
    let external = there.first().ok_or("not delivered")?.id.clone();
    house.control.person_edits(portal, external.parse()?, &[("jobtitle", &"j".repeat(10_000))]).await?;
    until("it is set aside", LONG, async || {
        let list = house.get("/v1/dead?limit=10").await?;
        Ok(if list == json!([]) { Err("nothing is".to_owned()) } else { Ok(()) })
    })
    .await?;
    house.quiet(LONG).await?;
    let letter = letter(&house, "internal", &id).await?;
    assert_eq!(point_and_pointer(&letter), ("canonical-in".to_owned(), "/job_title".to_owned()), "{letter}");
    let document = system_a.read(&id).await?.unwrap_or_default();
    assert_eq!(document.get("job_title"), Some(&json!("Head")));
    // Another edit in System A gets through, and says nothing of the value that cannot be taken in.
    system_a.patch(&id, &json!({ "city": "Bonn" })).await?;
    house.quiet(LONG).await?;
    let second = self::letter(&house, "internal", &id).await?;
    assert_eq!(second.get("seq"), letter.get("seq"), "it is still the same letter: {second}");
    assert!(second.get("count").and_then(Value::as_u64) >= Some(2), "{second}");
    let there = account.list().await?;
    let city = there.first().and_then(|it| it.properties.get("city").cloned());
    assert_eq!(city.as_deref(), Some("Bonn"), "{there:?}");
    assert_eq!(house.get("/v1/dead?limit=10").await?.as_array().map(Vec::len), Some(1));
    // The person mends it: its own event brings it in, and the letter is gone.
    house.control.person_edits(portal, external.parse()?, &[("jobtitle", "Chief")]).await?;
    until("it is taken in", LONG, async || {
        let document = system_a.read(&id).await?.unwrap_or_default();
        Ok(if document.get("job_title") == Some(&json!("Chief")) {
            Ok(())
        } else {
            Err(document.to_string())
        })
    })
    .await?;
    nothing_is_left(&house).await?;
    let document = system_a.read(&id).await?.unwrap_or_default();
    assert_eq!(document.get("job_title"), Some(&json!("Chief")));
    Ok(())
}

/// What System A takes and HubSpot cannot have: the document, a patch that mends it, where it fails, the pointer.
type Sent = (Value, Value, &'static str, &'static str);

fn sent() -> Vec<Sent> {
    let custom = |name: &str, bad: Value, good: Value, point, pointer| {
        (json!({ "custom": { name: bad } }), json!({ "custom": { name: good } }), point, pointer)
    };
    let address = |bad: &str, number: usize| {
        let good = format!("mended.{number}@acme.example");
        (json!({ "email": bad }), json!({ "email": good }), "rejected", "/email")
    };
    vec![
        custom("seats", json!("many"), json!(1), "provider-out", "/custom/seats"),
        custom("seats", json!(true), json!(2), "provider-out", "/custom/seats"),
        custom("seats", json!([1, 2]), json!(3), "provider-out", "/custom/seats"),
        custom("renewal", json!("soon"), json!("2027-01-31"), "provider-out", "/custom/renewal"),
        custom("renewal", json!("2027-02-30"), json!("2027-02-28"), "provider-out", "/custom/renewal"),
        custom("renewal", json!(20_270_131), json!("2027-01-31"), "provider-out", "/custom/renewal"),
        custom("score", json!("1,5"), json!("1.5"), "provider-out", "/custom/score"),
        custom("score", json!("a lot"), json!("100000"), "provider-out", "/custom/score"),
        custom("score", json!(false), json!("0"), "provider-out", "/custom/score"),
        custom("seen", json!("noon"), json!("2026-01-31T12:00:00Z"), "provider-out", "/custom/seen"),
        custom(
            "seen",
            json!("2026-01-31T25:00:00Z"),
            json!("2026-01-31T12:00:00Z"),
            "provider-out",
            "/custom/seen",
        ),
        custom("tier", json!("platinum"), json!("gold"), "provider-out", "/custom/tier"),
        custom("tier", json!(1), json!("silver"), "provider-out", "/custom/tier"),
        custom("persona", json!(5), json!("persona_1"), "provider-out", "/custom/persona"),
        custom("persona", json!("nobody"), json!("persona_2"), "rejected", "/custom/persona"),
        custom(
            "closing",
            json!("some day"),
            json!("2026-01-31T12:00:00.000Z"),
            "rejected",
            "/custom/closing",
        ),
        custom("turnover", json!("1,5"), json!("1.5"), "rejected", "/custom/turnover"),
        (json!({"language": "tlh"}), json!({"language": "de"}), "rejected", "/language"),
        address("somebody@localhost", 0),
        address("\"some body\"@acme.example", 1),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hubspot_cannot_have_is_set_aside_and_goes_out_once_it_is_mended() -> Result<(), Error> {
    let house = House::build(odd_house()).await?;
    let system_a = house.system_a("acme");
    let sent = sent();
    let mut made = Vec::new();
    for (number, (document, ..)) in sent.iter().enumerate() {
        let mut document = document.clone();
        if let Some(members) = document.as_object_mut() {
            members.entry("email").or_insert_with(|| json!(format!("odd.{number}@acme.example")));
        }
        let taken = system_a.create(&document).await?;
        made.push(taken.id.ok_or_else(|| format!("{document}: {} {}", taken.status, taken.body))?);
        system_a.create(&json!({ "email": format!("next.{number}@acme.example") })).await?;
    }
    house.quiet(LONG).await?;
    let mut wrong = Vec::new();
    for (id, (document, _, point, pointer)) in made.iter().zip(&sent) {
        let letter = letter(&house, "internal", id).await?;
        let found = point_and_pointer(&letter);
        if found != ((*point).to_owned(), (*pointer).to_owned()) {
            wrong.push(format!("{document}: {found:?}, wanted {point} at {pointer}: {letter}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    house.quiet(LONG).await?;
    let account = &house.customer("acme")?.account;
    let there = account.list().await?;
    let is_next = |address: &String| address.starts_with("next.");
    let next = there.iter().filter(|it| it.properties.get("email").is_some_and(is_next)).count();
    assert_eq!((there.len(), next), (sent.len(), sent.len()), "the next ones went out, the odd ones did not");
    for (id, (_, patch, ..)) in made.iter().zip(&sent) {
        let mended = system_a.patch(id, patch).await?;
        assert!(mended.status.is_success(), "{} {}", mended.status, mended.body);
    }
    // Nobody has to replay what was mended: its own edit brings it through.
    nothing_is_left(&house).await?;
    let there = account.list().await?;
    assert_eq!(there.len(), 2 * sent.len(), "each went out once");
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}
