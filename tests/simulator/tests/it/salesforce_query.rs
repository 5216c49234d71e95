//! Salesforce: SOQL and the pages of its results.

use http::Method;
use serde_json::{Map, Value, json};
use tandem_simulator::control::salesforce::SalesforceImport;

use crate::salesforce_setting::{Force, encoded};

/// Imports so many contacts, named `Doe 0000` and so on.
async fn many(f: &Force, count: usize) {
    let record = |n: usize| Map::from_iter([("LastName".to_owned(), json!(format!("Doe {n:04}")))]);
    let import = SalesforceImport { records: (0..count).map(record).collect(), quiet: true };
    let imported = f.control.salesforce_person_imports(f.number(), &import).await.unwrap();
    assert_eq!((imported.ids.len(), imported.refused), (count, Vec::<String>::new()));
}

/// The last names that a condition finds.
async fn found(f: &Force, rest: &str) -> Vec<String> {
    let reply = f.query(&format!("SELECT LastName FROM Contact {rest}")).await;
    assert_eq!(reply.status, 200, "{rest}: {:?}", reply.body);
    let records = reply.body["records"].as_array().unwrap();
    records.iter().map(|record| record["LastName"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_query_shows_what_it_selects_with_attributes_and_a_total() {
    let f = Force::new().await;
    let id =
        f.contact(json!({ "FirstName": "Ann", "Email": "ann@example.com", "Birthdate": "1980-01-02" })).await;
    let reply = f
        .query("SELECT Id, name, Birthdate, MailingAddress FROM contact WHERE Email = 'ANN@example.com'")
        .await;
    let url = format!("/services/data/v60.0/sobjects/Contact/{id}");
    assert_eq!(
        reply.body,
        json!({
            "totalSize": 1, "done": true, "records": [{
                "attributes": { "type": "Contact", "url": url }, "Id": id, "Name": "Ann Doe",
                "Birthdate": "1980-01-02", "MailingAddress": null
            }]
        })
    );
    let all = f.query("SELECT FIELDS(ALL) FROM Contact LIMIT 200").await;
    assert_eq!(all.body["records"][0]["Key__c"], Value::Null);
    assert_eq!(all.body["records"][0]["FirstName"], "Ann");
    let own = f.query("SELECT Id, FIELDS(CUSTOM) FROM Contact LIMIT 1").await;
    assert_eq!(own.body["records"][0].get("FirstName"), None);
}

#[tokio::test]
async fn conditions_hold_as_documented() {
    let f = Force::new().await;
    for (name, values) in [
        ("Ann", json!({ "Title": "Boss", "Score__c": 1.5, "Birthdate": "1980-01-01", "DoNotCall": true })),
        ("bob", json!({ "Title": "boss", "Score__c": 20, "Seen__c": "2026-01-31T10:00:00Z" })),
        ("Cy_d", json!({ "Count__c": 3, "Birthdate": "1990-01-01" })),
        ("O'Neil", json!({ "Title": "50% off" })),
    ] {
        let mut values = values;
        values["LastName"] = json!(name);
        f.contact(values).await;
    }
    for (condition, names) in [
        ("Title = 'BOSS'", vec!["Ann", "bob"]),
        ("Title != 'boss'", vec!["Cy_d", "O'Neil"]),
        ("Title <> 'boss' AND Title != null", vec!["O'Neil"]),
        ("Title = null", vec!["Cy_d"]),
        ("Title = ''", vec!["Cy_d"]),
        ("Title IN ('boss', 'x')", vec!["Ann", "bob"]),
        ("Title NOT IN ('boss')", vec!["Cy_d", "O'Neil"]),
        ("NOT Title LIKE 'b%'", vec!["Cy_d", "O'Neil"]),
        ("(NOT (Title = 'boss' OR LastName = 'Cy_d'))", vec!["O'Neil"]),
        ("LastName LIKE '_n%'", vec!["Ann"]),
        ("LastName LIKE 'cy\\_%'", vec!["Cy_d"]),
        ("LastName LIKE '%NE%'", vec!["O'Neil"]),
        ("Title LIKE '%\\%%'", vec!["O'Neil"]),
        ("LastName = 'O\\'Neil'", vec!["O'Neil"]),
        ("LastName > 'b' AND LastName < 'd'", vec!["bob", "Cy_d"]),
        ("Score__c > 1.5", vec!["bob"]),
        ("Score__c <= 20", vec!["Ann", "bob"]),
        ("Count__c = 3", vec!["Cy_d"]),
        ("Birthdate < 1990-01-01", vec!["Ann"]),
        ("Birthdate >= 1990-01-01", vec!["Cy_d"]),
        ("Seen__c = 2026-01-31T11:00:00+01:00", vec!["bob"]),
        ("Seen__c < 2026-01-31T10:00:00.000Z", vec![]),
        ("DoNotCall = true", vec!["Ann"]),
        ("IsDeleted = true", vec![]),
        ("LastModifiedDate >= 2000-01-01T00:00:00Z AND (Count__c = 3 OR Score__c = 20)", vec!["bob", "Cy_d"]),
    ] {
        assert_eq!(found(&f, &format!("WHERE {condition}")).await, names, "{condition}");
    }
    assert_eq!(f.reasons().await, Vec::<String>::new());
}

#[tokio::test]
async fn conditions_on_ids_take_both_lengths() {
    let f = Force::new().await;
    let (a, b) = (f.contact(json!({ "LastName": "A" })).await, f.contact(json!({ "LastName": "B" })).await);
    assert_eq!(found(&f, &format!("WHERE Id = '{}'", &a[..15])).await, ["A"]);
    assert_eq!(found(&f, &format!("WHERE Id IN ('{a}', '{b}')")).await, ["A", "B"]);
    assert_eq!(found(&f, &format!("WHERE Id != '{a}'")).await, ["B"]);
    assert_eq!(found(&f, &format!("WHERE Id > '{a}'")).await, ["B"]);
    assert_eq!(found(&f, &format!("WHERE LastModifiedById = '{}'", f.org.api_user_id)).await, ["A", "B"]);
    f.control.salesforce_person_edits(f.number(), &b, json!({ "Title": "x" })).await.unwrap();
    assert_eq!(found(&f, &format!("WHERE LastModifiedById != '{}'", f.org.api_user_id)).await, ["B"]);
    let wrong = f.query("SELECT Id FROM Contact WHERE Id = 'me'").await;
    assert_eq!(wrong.refusal(), (400, "INVALID_QUERY_FILTER_OPERATOR"));
}

#[tokio::test]
async fn rows_are_ordered_by_several_fields_and_nulls_come_first() {
    let f = Force::new().await;
    for (name, title, score) in
        [("A", Some("x"), 2), ("B", None, 1), ("C", Some("X"), 1), ("D", Some("y"), 3)]
    {
        f.contact(json!({ "LastName": name, "Title": title, "Score__c": score })).await;
    }
    assert_eq!(found(&f, "ORDER BY Title, Score__c").await, ["B", "C", "A", "D"]);
    assert_eq!(found(&f, "ORDER BY Title DESC NULLS LAST, Score__c DESC").await, ["D", "A", "C", "B"]);
    assert_eq!(found(&f, "ORDER BY Title DESC, Id DESC").await, ["B", "D", "C", "A"]);
    assert_eq!(found(&f, "ORDER BY Title ASC NULLS LAST, LastName LIMIT 2 OFFSET 1").await, ["C", "D"]);
    assert_eq!(found(&f, "LIMIT 0").await, Vec::<String>::new());
}

#[tokio::test]
async fn who_asks_for_no_order_may_get_none() {
    let f = Force::new().await;
    many(&f, 20).await;
    let sorted: Vec<String> = (0..20).map(|n| format!("Doe {n:04}")).collect();
    assert_eq!(found(&f, "").await, sorted);
    f.settings(json!({ "scrambledQueries": true })).await;
    let names = found(&f, "").await;
    assert!(names != sorted && names.len() == 20, "{names:?}");
    assert_eq!(found(&f, "ORDER BY LastName").await, sorted);
}

#[tokio::test]
async fn count_gives_a_total_and_no_records() {
    let f = Force::new().await;
    many(&f, 3).await;
    let reply = f.query("SELECT COUNT() FROM Contact WHERE LastName LIKE 'Doe 000%'").await;
    assert_eq!(reply.body, json!({ "totalSize": 3, "done": true, "records": [] }));
}

#[tokio::test]
async fn malformed_queries_are_refused_as_salesforce_does() {
    let f = Force::new().await;
    for (query, code) in [
        ("SELECT Id FORM Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE Title = 'a' AND Title = 'b' OR Title = 'c'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE LastName = 'O'Neil'", "MALFORMED_QUERY"),
        ("SELECT Nope__c FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE LastModifiedDate > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
    ] {
        let reply = f.query(query).await;
        assert_eq!(reply.refusal(), (400, code), "{query}");
        assert!(reply.message().contains("ERROR at Row:1:Column:"), "{:?}", reply.body);
        assert!(reply.body[0].get("fields").is_none());
    }
    assert_eq!(f.get("/query").await.refusal(), (400, "MALFORMED_QUERY"));
    // A plus sign that was not encoded is a blank.
    let plus = f.get("/query?q=SELECT+Id+FROM+Contact+WHERE+CreatedDate+%3E+2026-01-01T00:00:00+00:00").await;
    assert_eq!(plus.refusal(), (400, "INVALID_FIELD"));
    assert_eq!(f.reasons().await.len(), 10);
}

#[tokio::test]
async fn a_result_has_pages_of_two_thousand_or_of_what_is_asked_for() {
    let f = Force::new().await;
    many(&f, 2_001).await;
    let query = format!("/query?q={}", encoded("SELECT Id, LastName FROM Contact ORDER BY LastName"));
    let first = f.get(&query).await;
    assert_eq!(
        (&first.body["totalSize"], &first.body["done"], first.ids().len()),
        (&json!(2_001), &json!(false), 2_000)
    );
    let next = first.body["nextRecordsUrl"].as_str().unwrap();
    assert!(next.starts_with("/services/data/v60.0/query/01g") && next.ends_with("-2000"), "{next}");
    let last = f.get(next.strip_prefix("/services/data/v60.0").unwrap()).await;
    assert_eq!((&last.body["done"], last.ids().len()), (&json!(true), 1));
    assert_eq!(last.body.get("nextRecordsUrl"), None);
    let options = [("sforce-query-options", "batchSize=200")];
    let mut page = f.call(Method::GET, &query, &options, Value::Null).await;
    let mut ids = page.ids();
    while let Some(next) = page.body["nextRecordsUrl"].as_str() {
        page = f.get(next.strip_prefix("/services/data/v60.0").unwrap()).await;
        assert!(page.ids().len() <= 200);
        ids.extend(page.ids());
    }
    assert_eq!(ids.len(), 2_001);
    assert_eq!(f.reasons().await, Vec::<String>::new());
    f.call(Method::GET, &query, &[("sforce-query-options", "batchSize=10")], Value::Null).await;
    assert_eq!(f.reasons().await, ["batchSize is not a number from 200 to 2,000"]);
}

#[tokio::test]
async fn a_page_shows_what_is_there_when_it_is_fetched() {
    let f = Force::new().await;
    many(&f, 203).await;
    let query = format!("/query?q={}", encoded("SELECT Id, Title FROM Contact ORDER BY LastName"));
    let options = [("sforce-query-options", "batchSize=200")];
    let first = f.call(Method::GET, &query, &options, Value::Null).await;
    let next = first.body["nextRecordsUrl"].as_str().unwrap().to_owned();
    let dump = f.control.salesforce_contacts(f.number()).await.unwrap();
    f.control.salesforce_person_edits(f.number(), &dump[201].id, json!({ "Title": "new" })).await.unwrap();
    f.control.salesforce_person_deletes(f.number(), &dump[202].id).await.unwrap();
    let second = f.get(next.strip_prefix("/services/data/v60.0").unwrap()).await;
    assert_eq!(second.ids(), [dump[200].id.clone(), dump[201].id.clone()]);
    assert_eq!(second.body["records"][1]["Title"], "new");
}

#[tokio::test]
async fn query_locators_are_forgotten() {
    let f = Force::with(|new| new.settings.cursors = 1).await;
    many(&f, 201).await;
    let query = format!("/query?q={}", encoded("SELECT Id FROM Contact"));
    let options = [("sforce-query-options", "batchSize=200")];
    let mut locators = Vec::new();
    for _ in 0..2 {
        let page = f.call(Method::GET, &query, &options, Value::Null).await;
        locators.push(
            page.body["nextRecordsUrl"]
                .as_str()
                .unwrap()
                .strip_prefix("/services/data/v60.0")
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(f.get(&locators[0]).await.refusal(), (400, "INVALID_QUERY_LOCATOR"));
    assert_eq!(f.get(&locators[1]).await.status, 200);
    f.control.advance(49 * 3_600_000).await.unwrap();
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", f.org.refresh_token.as_str()),
        ("client_id", f.org.client_id.as_str()),
        ("client_secret", f.org.client_secret.as_str()),
    ];
    let reply = f.form("/services/oauth2/token", &grant).await;
    let token = reply.body["access_token"].as_str().unwrap();
    let url = format!("{}/services/data/v60.0{}", f.simulator.api_url(), locators[1]);
    let late =
        f.raw(Method::GET, &url, &[("authorization", format!("Bearer {token}").as_str())], "").await.unwrap();
    assert_eq!(late.refusal(), (400, "INVALID_QUERY_LOCATOR"));
    assert_eq!(f.get("/query/nothing").await.status, 401);
}

#[tokio::test]
async fn query_all_sees_the_recycle_bin_and_a_query_does_not() {
    let f = Force::new().await;
    let (a, b) = (
        f.contact(json!({ "LastName": "A", "Key__c": "a" })).await,
        f.contact(json!({ "LastName": "B" })).await,
    );
    f.delete(&format!("/sobjects/Contact/{a}")).await;
    assert_eq!(f.query("SELECT Id FROM Contact").await.ids(), [b.as_str()]);
    let all = |soql: &str| format!("/queryAll?q={}", encoded(soql));
    let reply = f.get(&all("SELECT Id, IsDeleted FROM Contact")).await;
    assert_eq!(reply.ids(), [a.clone(), b]);
    assert_eq!(reply.body["records"][0]["IsDeleted"], true);
    assert_eq!(f.get(&all("SELECT Id FROM Contact WHERE IsDeleted = true")).await.ids(), [a.as_str()]);
    assert_eq!(f.get(&all("SELECT Id FROM Contact WHERE Key__c = 'A'")).await.ids(), [a.as_str()]);
    assert_eq!(f.query("SELECT Id FROM Contact WHERE Key__c = 'A'").await.ids(), Vec::<String>::new());
    assert_eq!(f.query("SELECT Id FROM Contact WHERE IsDeleted = true ALL ROWS").await.ids(), [a]);
}
