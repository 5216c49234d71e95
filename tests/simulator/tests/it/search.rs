//! Search.

use serde_json::{Value, json};

use crate::setting::{CONTACTS, SEARCH, Setting, filter, ids};

/// Five contacts of known values.
async fn five() -> (Setting, Vec<u64>) {
    let s = Setting::new().await;
    let mut made = Vec::new();
    for (first, email, employees) in [
        ("Ann", "ann@alpha.example", "1-5"),
        ("Bob", "bob@alpha.example", "5-25"),
        ("Cid", "cid@beta.example", "5-25"),
        ("Dora Ann", "dora@beta.example", ""),
        ("Emil", "", "1000+"),
    ] {
        s.control.advance(10).await.unwrap();
        made.push(s.contact(json!({ "firstname": first, "email": email, "numemployees": employees })).await);
    }
    (s, made)
}

/// The places, among the five, of what a filter finds.
async fn places(s: &Setting, made: &[u64], group: Value) -> Vec<usize> {
    let found = s.found(json!({ "filterGroups": [group] })).await;
    found.iter().map(|id| made.iter().position(|m| m == id).unwrap()).collect()
}

#[tokio::test]
async fn every_published_operator_works() {
    let (s, made) = five().await;
    let at = |group: Value| places(&s, &made, group);
    let one = |operator: &str, property: &str, value: &str| filter(property, operator, value);
    assert_eq!(at(one("EQ", "firstname", "ann")).await, [0]);
    assert_eq!(at(one("NEQ", "firstname", "Ann")).await, [1, 2, 3, 4]);
    assert_eq!(at(one("GT", "hs_object_id", &made[3].to_string())).await, [4]);
    assert_eq!(at(one("GTE", "hs_object_id", &made[3].to_string())).await, [3, 4]);
    assert_eq!(at(one("LT", "hs_object_id", &made[1].to_string())).await, [0]);
    assert_eq!(at(one("LTE", "hs_object_id", &made[1].to_string())).await, [0, 1]);
    let between = json!({ "filters": [{ "propertyName": "hs_object_id", "operator": "BETWEEN",
        "value": made[1].to_string(), "highValue": made[2].to_string() }] });
    assert_eq!(at(between).await, [1, 2]);
    let has = |operator: &str| json!({ "filters": [{ "propertyName": "email", "operator": operator }] });
    assert_eq!(at(has("HAS_PROPERTY")).await, [0, 1, 2, 3]);
    assert_eq!(at(has("NOT_HAS_PROPERTY")).await, [4]);
    let among = |operator: &str| {
        json!({ "filters": [{ "propertyName": "firstname", "operator": operator,
        "values": ["ann", "emil"] }] })
    };
    assert_eq!(at(among("IN")).await, [0, 4]);
    assert_eq!(at(among("NOT_IN")).await, [1, 2, 3]);
    assert_eq!(at(one("CONTAINS_TOKEN", "firstname", "ann")).await, [0, 3]);
    assert_eq!(at(one("CONTAINS_TOKEN", "email", "*@beta.example")).await, [2, 3]);
    assert_eq!(at(one("NOT_CONTAINS_TOKEN", "firstname", "ann")).await, [1, 2, 4]);
    assert_eq!(at(one("CONTAINS_TOKEN", "firstname", "an")).await, [] as [usize; 0]);
    assert!(s.reasons().await.is_empty());
}

#[tokio::test]
async fn filters_are_joined_by_and_groups_by_or() {
    let (s, made) = five().await;
    let both = json!({ "filters": [
        { "propertyName": "numemployees", "operator": "EQ", "value": "5-25" },
        { "propertyName": "email", "operator": "CONTAINS_TOKEN", "value": "*beta*" },
    ] });
    assert_eq!(s.found(json!({ "filterGroups": [both] })).await, [made[2]]);
    let found = s.found(json!({ "filterGroups": [both, filter("firstname", "EQ", "emil")] })).await;
    assert_eq!(found, [made[2], made[4]]);
    // Without filters: everything.
    assert_eq!(s.found(json!({})).await, made);
}

#[tokio::test]
async fn text_is_compared_without_case_but_in_needs_lower_case_and_options_their_own() {
    let (s, made) = five().await;
    assert_eq!(places(&s, &made, filter("email", "EQ", "ANN@alpha.example")).await, [0]);
    let among = json!({ "filters": [{ "propertyName": "firstname", "operator": "IN", "values": ["Ann"] }] });
    assert_eq!(places(&s, &made, among).await, [] as [usize; 0]);
    s.patch(made[0], json!({ "hs_lead_status": "OPEN" })).await;
    assert_eq!(places(&s, &made, filter("hs_lead_status", "EQ", "open")).await, [] as [usize; 0]);
    assert_eq!(places(&s, &made, filter("hs_lead_status", "EQ", "OPEN")).await, [0]);
}

#[tokio::test]
async fn the_modification_time_is_compared_in_milliseconds() {
    let (s, made) = five().await;
    let dump = s.control.dump(s.portal()).await.unwrap();
    let stamp = dump.records[2].updated_at;
    let body = |operator: &str, value: String| {
        json!({
            "filterGroups": [filter("lastmodifieddate", operator, &value)],
            "sorts": [{ "propertyName": "lastmodifieddate", "direction": "ASCENDING" }],
            "limit": 200, "after": "0", "properties": ["email"],
        })
    };
    assert_eq!(s.found(body("GTE", stamp.to_string())).await, made[2..]);
    assert_eq!(s.found(body("GTE", (stamp + 1).to_string())).await, made[3..]);
    assert_eq!(s.found(body("LT", stamp.to_string())).await, made[..2]);
    let row = s.read(made[2], "email").await;
    assert_eq!(s.found(body("EQ", row["updatedAt"].as_str().unwrap().to_owned())).await, [made[2]]);
}

#[tokio::test]
async fn results_are_sorted_by_one_property_in_either_form() {
    let (s, made) = five().await;
    let reversed: Vec<u64> = made.iter().rev().copied().collect();
    for sort in [json!("-createdate"), json!({ "propertyName": "createdate", "direction": "DESCENDING" })] {
        assert_eq!(s.found(json!({ "sorts": [sort] })).await, reversed);
    }
    assert_eq!(s.found(json!({ "sorts": ["firstname"] })).await, made);
    s.control.advance(10).await.unwrap();
    s.patch(made[0], json!({ "phone": "1" })).await;
    let by_change = s.found(json!({ "sorts": ["lastmodifieddate"] })).await;
    assert_eq!(by_change.last(), Some(&made[0]));
    assert!(s.reasons().await.is_empty());
    s.found(json!({ "sorts": ["firstname", "email"] })).await;
    assert_eq!(s.reasons().await.len(), 1);
}

#[tokio::test]
async fn pages_are_counted_by_an_integer_cursor() {
    let (s, made) = five().await;
    let (mut seen, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let body = s.post(SEARCH, json!({ "limit": 2, "after": after })).await.body;
        assert_eq!(body["total"], 5);
        seen.extend(ids(&body));
        let Some(next) = body["paging"]["next"]["after"].as_str() else { break };
        assert_eq!(next, seen.len().to_string());
        next.clone_into(&mut after);
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_page_has_ten_rows_by_default_and_200_at_most() {
    let s = Setting::new().await;
    let records = (0..250).map(|n| [("firstname".to_owned(), format!("n{n}"))].into()).collect();
    s.control.person_imports(s.portal(), records, true).await.unwrap();
    assert_eq!(s.found(json!({})).await.len(), 10);
    assert_eq!(s.found(json!({ "limit": 200 })).await.len(), 200);
    for limit in [json!(201), json!(0), json!("ten")] {
        let reply = s.post(SEARCH, json!({ "limit": limit })).await;
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"), "{limit}");
    }
    assert_eq!(s.reasons().await.len(), 3);
}

#[tokio::test]
async fn paging_ends_at_ten_thousand_results() {
    let s = Setting::new().await;
    let records = (0..10_050).map(|n| [("firstname".to_owned(), format!("n{n}"))].into()).collect();
    s.control.person_imports(s.portal(), records, true).await.unwrap();
    let last = s.post(SEARCH, json!({ "limit": 200, "after": "9800" })).await;
    assert_eq!(ids(&last.body).len(), 200);
    assert_eq!(last.body["total"], 10_050);
    // A next page is still named; asking for it is refused.
    assert_eq!(last.body["paging"]["next"]["after"], "10000");
    let beyond = s.post(SEARCH, json!({ "limit": 200, "after": "10000" })).await;
    assert_eq!((beyond.status, beyond.category()), (400, "VALIDATION_ERROR"));
    assert_eq!(ids(&s.post(SEARCH, json!({ "limit": 200, "after": "9900" })).await.body).len(), 100);
}

#[tokio::test]
async fn a_search_lags_behind_and_may_show_a_stale_row() {
    let s = Setting::new().await;
    s.settings(json!({ "indexLagMinMs": 2000, "indexLagMaxMs": 2000 })).await;
    let id = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    let by_email =
        json!({ "filterGroups": [filter("email", "EQ", "ann@example.com")], "properties": ["city"] });
    assert!(s.found(by_email.clone()).await.is_empty());
    assert_eq!(s.get(&format!("{CONTACTS}/{id}")).await.status, 200);
    s.control.advance(2_001).await.unwrap();
    assert_eq!(s.found(by_email.clone()).await, [id]);
    s.patch(id, json!({ "city": "Ulm" })).await;
    let stale = s.post(SEARCH, by_email.clone()).await.body;
    assert_eq!(stale["results"][0]["properties"]["city"], "Bonn");
    s.control.advance(2_001).await.unwrap();
    let fresh = s.post(SEARCH, by_email).await.body;
    assert_eq!(fresh["results"][0]["properties"]["city"], "Ulm");
}

#[tokio::test]
async fn changes_become_visible_out_of_order_but_never_backwards() {
    let s = Setting::new().await;
    s.settings(json!({ "indexLagMinMs": 0, "indexLagMaxMs": 5000 })).await;
    let mut made = Vec::new();
    for n in 0..40 {
        made.push(s.contact(json!({ "firstname": format!("n{n}"), "city": "0" })).await);
        s.control.advance(20).await.unwrap();
    }
    let own_id = made[0].to_string();
    let (mut orders, mut last) = (Vec::new(), 0);
    for step in 0..60 {
        s.patch(made[0], json!({ "city": step.to_string() })).await;
        s.control.advance(100).await.unwrap();
        let rows = s.post(SEARCH, json!({ "limit": 200, "properties": ["city"] })).await.body;
        orders.push(ids(&rows));
        let own = rows["results"].as_array().unwrap().iter().find(|r| r["id"].as_str() == Some(&own_id));
        let seen = own.map_or(0, |row| row["properties"]["city"].as_str().unwrap().parse().unwrap());
        assert!(seen >= last, "the row went from {last} back to {seen}");
        last = seen;
    }
    let gap = orders.iter().any(|seen| seen.iter().zip(&made).any(|(a, b)| a != b));
    assert!(gap, "no later record was ever visible before an earlier one");
    assert!(last > 0);
}

#[tokio::test]
async fn archived_contacts_never_appear() {
    let (s, made) = five().await;
    s.delete(&format!("{CONTACTS}/{}", made[0])).await;
    assert_eq!(s.found(json!({})).await, made[1..]);
    s.control.person_restores(s.portal(), made[0]).await.unwrap();
    assert_eq!(s.found(json!({})).await, made);
    // A change that was still on its way does not bring it back.
    s.settings(json!({ "indexLagMinMs": 1000, "indexLagMaxMs": 1000 })).await;
    s.patch(made[1], json!({ "city": "Ulm" })).await;
    s.delete(&format!("{CONTACTS}/{}", made[1])).await;
    s.control.advance(5_000).await.unwrap();
    assert!(!s.found(json!({})).await.contains(&made[1]));
}

#[tokio::test]
async fn a_search_shows_defaults_or_what_is_asked_for() {
    let (s, _) = five().await;
    let names = |body: &Value| -> Vec<String> {
        body["results"][0]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let body = s.post(SEARCH, json!({})).await.body;
    assert_eq!(
        names(&body),
        ["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"]
    );
    let body = s.post(SEARCH, json!({ "properties": ["phone", "nope"] })).await.body;
    assert_eq!(names(&body), ["createdate", "hs_object_id", "lastmodifieddate", "phone"]);
    assert_eq!(body["results"][0]["properties"]["phone"], Value::Null);
}

#[tokio::test]
async fn a_query_looks_into_names_and_addresses() {
    let (s, made) = five().await;
    assert_eq!(s.found(json!({ "query": "ANN" })).await, [made[0], made[3]]);
    assert_eq!(s.found(json!({ "query": "beta.example" })).await, made[2..4]);
    assert_eq!(s.post(SEARCH, json!({ "query": "x".repeat(3_001) })).await.status, 400);
}

#[tokio::test]
async fn too_many_groups_or_filters_are_refused() {
    let (s, _) = five().await;
    let one = json!({ "propertyName": "email", "operator": "HAS_PROPERTY" });
    let group = |n: usize| json!({ "filters": vec![one.clone(); n] });
    assert_eq!(s.post(SEARCH, json!({ "filterGroups": vec![group(3); 5] })).await.status, 200);
    for groups in [vec![group(1); 6], vec![group(7)], vec![group(4); 5]] {
        let reply = s.post(SEARCH, json!({ "filterGroups": groups })).await;
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    }
}

#[tokio::test]
async fn malformed_searches_are_refused_and_counted() {
    let (s, _) = five().await;
    let bodies = [
        json!({ "filterGroups": [filter("nope", "EQ", "1")] }),
        json!({ "filterGroups": [filter("email", "LIKE", "1")] }),
        json!({ "filterGroups": [filter("lastmodifieddate", "GTE", "yesterday")] }),
        json!({ "filterGroups": [{ "filters": [{ "propertyName": "email", "operator": "EQ" }] }] }),
        json!({ "filterGroups": {} }),
        json!({ "after": "next" }),
        json!({ "sorts": [{ "propertyName": "email", "direction": "UP" }] }),
        json!({ "sorts": ["nope"] }),
        json!({ "properties": "email" }),
    ];
    for body in bodies {
        s.control.clear_violations().await.unwrap();
        let reply = s.post(SEARCH, body.clone()).await;
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"), "{body}");
        assert_eq!(s.reasons().await.len(), 1, "{body}");
    }
}
