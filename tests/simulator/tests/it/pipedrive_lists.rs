//! Pipedrive: the list of persons and the search.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::pipedrive_setting::{PERSONS, Setting};

/// Names persons one second after the other; gives their ids.
async fn people(s: &Setting, names: &[&str]) -> Vec<u64> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(s.named(name).await);
        s.control.advance(1_000).await.unwrap();
    }
    ids
}

/// Walks all pages of a list.
async fn walk(s: &Setting, query: &str) -> Vec<u64> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = s.get(&format!("{PERSONS}?{query}{cursor}")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        ids.extend(reply.ids());
        match reply.cursor() {
            None => return ids,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

#[tokio::test]
async fn a_list_has_a_hundred_rows_by_default_and_five_hundred_at_most() {
    let s = Setting::new().await;
    for n in 0..101 {
        s.control.pipedrive_person_creates(s.company(), json!({ "name": format!("P{n}") })).await.unwrap();
    }
    let reply = s.get(PERSONS).await;
    assert_eq!((reply.ids().len(), reply.cursor().is_some()), (100, true));
    let reply = s.get(&format!("{PERSONS}?limit=500")).await;
    assert_eq!((reply.ids().len(), &reply.body["additional_data"]["next_cursor"]), (101, &Value::Null));
    for limit in ["501", "0", "many"] {
        assert_eq!(s.get(&format!("{PERSONS}?limit={limit}")).await.status, 400);
    }
}

#[tokio::test]
async fn a_cursor_names_the_first_person_of_the_next_page() {
    let s = Setting::new().await;
    let ids = people(&s, &["A", "B", "C", "D", "E"]).await;
    assert_eq!(walk(&s, "limit=2").await, ids);
    let cursor = s.get(&format!("{PERSONS}?limit=2")).await.cursor().unwrap();
    let inside: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    assert_eq!(inside, json!({ "field": "id", "fieldValue": 3, "sortDirection": "asc", "id": 3 }));
    // The one of the specification's example can be read.
    let published = "eyJmaWVsZCI6ImlkIiwiZmllbGRWYWx1ZSI6Nywic29ydERpcmVjdGlvbiI6ImFzYyIsImlkIjo3fQ";
    assert!(s.get(&format!("{PERSONS}?cursor={published}")).await.ids().is_empty());
    for wrong in ["cursor=x", &format!("cursor={cursor}&sort_by=update_time")] {
        let reply = s.get(&format!("{PERSONS}?{wrong}")).await;
        assert_eq!((reply.status, reply.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"));
    }
}

#[tokio::test]
async fn a_list_goes_by_id_by_creation_or_by_change_in_either_direction() {
    let s = Setting::new().await;
    let ids = people(&s, &["A", "B", "C"]).await;
    s.patch(ids[0], json!({ "name": "A2" })).await;
    let late = s.person(json!({ "name": "D", "add_time": "2020-01-01T00:00:00Z" })).await;
    let (a, b, c, d) = (ids[0], ids[1], ids[2], late);
    for (query, order) in [
        ("sort_by=id", [a, b, c, d]),
        ("sort_by=id&sort_direction=desc", [d, c, b, a]),
        ("sort_by=add_time", [d, a, b, c]),
        ("sort_by=update_time", [b, c, a, d]),
        ("sort_by=update_time&sort_direction=desc", [d, a, c, b]),
    ] {
        assert_eq!(walk(&s, &format!("{query}&limit=1")).await, order, "{query}");
    }
    assert_eq!(s.get(&format!("{PERSONS}?sort_by=name")).await.status, 400);
    assert_eq!(s.get(&format!("{PERSONS}?sort_direction=up")).await.status, 400);
}

#[tokio::test]
async fn changes_are_listed_from_a_second_on_and_up_to_another() {
    let s = Setting::new().await;
    let ids = people(&s, &["A", "B", "C"]).await;
    let (a, b, c) = (ids[0], ids[1], ids[2]);
    let time = s.read(b).await["update_time"].as_str().unwrap().to_owned();
    for sort in ["", "&sort_by=update_time", "&sort_by=update_time&sort_direction=desc"] {
        let mut since = walk(&s, &format!("updated_since={time}&limit=1{sort}")).await;
        since.sort_unstable();
        assert_eq!(since, [b, c], "{sort}");
        assert_eq!(walk(&s, &format!("updated_until={time}{sort}")).await, [a]);
    }
    assert_eq!(walk(&s, &format!("updated_since={time}&updated_until={time}")).await, [0; 0]);
}

#[tokio::test]
async fn fractions_of_a_second_are_no_moment_of_a_list() {
    let s = Setting::new().await;
    for wrong in ["2025-01-01T10:20:00.123Z", "2025-01-01", "yesterday"] {
        let reply = s.get(&format!("{PERSONS}?updated_since={wrong}")).await;
        assert_eq!((reply.status, reply.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"));
        assert!(reply.error().contains("not a valid datetime"), "{}", reply.error());
    }
    assert_eq!(s.get(&format!("{PERSONS}?updated_since=2025-01-01T10:20:00%2B02:00")).await.status, 200);
}

#[tokio::test]
async fn a_hundred_ids_can_be_asked_for_and_those_that_are_not_there_are_left_out() {
    let s = Setting::new().await;
    let ids = people(&s, &["A", "B", "C"]).await;
    assert_eq!(s.get(&format!("{PERSONS}?ids={},999,{}", ids[2], ids[0])).await.ids(), [ids[0], ids[2]]);
    let many: Vec<String> = (1..=101).map(|id| id.to_string()).collect();
    assert_eq!(s.get(&format!("{PERSONS}?ids={}", many.join(","))).await.status, 400);
    assert_eq!(s.get(&format!("{PERSONS}?ids=a")).await.status, 400);
}

#[tokio::test]
async fn a_list_is_narrowed_by_owner_and_organization() {
    let s = Setting::with(|new| new.organizations = vec!["Acme".to_owned()]).await;
    let (a, b) = (s.named("A").await, s.person(json!({ "name": "B", "org_id": 1 })).await);
    assert_eq!(s.get(&format!("{PERSONS}?org_id=1")).await.ids(), [b]);
    assert_eq!(s.get(&format!("{PERSONS}?owner_id={}", s.account.user_id)).await.ids(), [a, b]);
    assert_eq!(s.get(&format!("{PERSONS}?owner_id=5")).await.ids(), [0; 0]);
    assert_eq!(s.get(&format!("{PERSONS}?deal_id=5")).await.ids(), [0; 0]);
    assert_eq!(s.get(&format!("{PERSONS}?filter_id=5")).await.status, 404);
}

#[tokio::test]
async fn a_person_who_changes_during_a_walk_by_change_comes_again() {
    let s = Setting::new().await;
    let ids = people(&s, &["A", "B", "C"]).await;
    let first = s.get(&format!("{PERSONS}?sort_by=update_time&limit=1")).await;
    assert_eq!(first.ids(), [ids[0]]);
    s.patch(ids[0], json!({ "name": "A2" })).await;
    // The second one moves to the end as well, and the page begins where it was.
    s.patch(ids[1], json!({ "name": "B2" })).await;
    let cursor = first.cursor().unwrap();
    assert_eq!(walk(&s, &format!("limit=500&cursor={cursor}")).await, [ids[2], ids[0], ids[1]]);
}

#[tokio::test]
async fn a_search_gives_items_with_a_score() {
    let s = Setting::with(|new| new.organizations = vec!["Acme".to_owned()]).await;
    let body = json!({ "name": "Ada King", "org_id": 1, "emails": [{ "value": "ada@x.org" }], "phones": [{ "value": "12" }] });
    let id = s.person(body).await;
    let reply = s.get(&format!("{PERSONS}/search?term=ada")).await;
    assert_eq!(reply.status, 200);
    let row = &reply.body["data"]["items"][0];
    assert!(row["result_score"].as_f64().unwrap() > 0.0);
    assert_eq!(
        row["item"],
        json!({
            "id": id, "type": "person", "name": "Ada King", "phones": ["12"], "emails": ["ada@x.org"],
            "visible_to": 3, "owner": { "id": s.account.user_id },
            "organization": { "id": 1, "name": "Acme", "address": null }, "custom_fields": [], "notes": [],
        })
    );
    assert_eq!(reply.body["additional_data"], json!({ "next_cursor": null }));
}

#[tokio::test]
async fn a_term_has_two_characters_or_one_for_an_exact_match() {
    let s = Setting::new().await;
    let id = s.named("X").await;
    for query in ["term=x", "term=", "exact_match=true&term=", "fields=name"] {
        let reply = s.get(&format!("{PERSONS}/search?{query}")).await;
        assert_eq!((reply.status, reply.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"), "{query}");
    }
    assert_eq!(s.found("exact_match=true&term=x").await, [id]);
}

#[tokio::test]
async fn an_exact_match_is_of_the_whole_value_without_regard_to_case() {
    let s = Setting::new().await;
    let whole = s.person(json!({ "name": "A", "emails": [{ "value": "Ada@X.org" }] })).await;
    let part = s.person(json!({ "name": "B", "emails": [{ "value": "ada@x.org.uk" }] })).await;
    assert_eq!(s.found("term=ada@x.ORG&exact_match=true&fields=email").await, [whole]);
    assert_eq!(s.found("term=ada@x.ORG&fields=email").await, [whole, part]);
}

#[tokio::test]
async fn a_search_looks_into_the_fields_that_are_named() {
    let s = Setting::with(|new| {
        new.fields = ["varchar", "double", "date"]
            .map(|kind| json!({ "field_name": kind, "field_type": kind }).as_object().unwrap().clone())
            .to_vec();
    })
    .await;
    let name = s.named("Needle").await;
    let mail = s.person(json!({ "name": "B", "emails": [{ "value": "needle@x.org" }] })).await;
    let custom = json!({ s.key("varchar"): "needle", s.key("double"): 4711, s.key("date"): "2024-05-05" });
    let own = s.person(json!({ "name": "C", "custom_fields": custom })).await;
    assert_eq!(s.found("term=needle&fields=name").await, [name]);
    assert_eq!(s.found("term=needle&fields=email,phone").await, [mail]);
    assert_eq!(s.found("term=needle&fields=custom_fields&exact_match=true").await, [own]);
    assert_eq!(s.found("term=4711").await, [own]);
    assert!(s.found("term=2024-05-05").await.is_empty(), "dates are not looked into");
    assert_eq!(s.found("term=needle").await.len(), 3);
    assert_eq!(s.get(&format!("{PERSONS}/search?term=needle&fields=first_name")).await.status, 400);
}

#[tokio::test]
async fn a_search_has_pages_and_is_narrowed_to_an_organization() {
    let s = Setting::with(|new| new.organizations = vec!["Acme".to_owned()]).await;
    let mut ids = people(&s, &["Ada 1", "Ada 2"]).await;
    ids.push(s.person(json!({ "name": "Ada 3", "org_id": 1 })).await);
    let first = s.get(&format!("{PERSONS}/search?term=ada&limit=2")).await;
    let cursor = first.body["additional_data"]["next_cursor"].as_str().unwrap();
    assert_eq!(s.found(&format!("term=ada&limit=2&cursor={cursor}")).await, [ids[2]]);
    assert_eq!(s.found("term=ada&organization_id=1").await, [ids[2]]);
    assert_eq!(s.get(&format!("{PERSONS}/search?term=ada&cursor=x")).await.status, 400);
}

#[tokio::test]
async fn the_search_index_lags_behind_and_may_stand_still() {
    let s = Setting::new().await;
    s.settings(json!({ "indexLagMinMs": 3_600_000, "indexLagMaxMs": 3_600_000 })).await;
    let id = s.named("Ada").await;
    assert!(s.found("term=ada").await.is_empty());
    assert_eq!(s.get(PERSONS).await.ids(), [id], "the list is not behind");
    s.control.advance(3_600_000).await.unwrap();
    assert_eq!(s.found("term=ada").await, [id]);
    s.patch(id, json!({ "name": "Eve" })).await;
    assert_eq!((s.found("term=ada").await, s.found("term=eve").await), (vec![id], vec![]));
    s.settings(json!({ "indexFrozen": true })).await;
    s.control.advance(7_200_000).await.unwrap();
    assert_eq!(s.found("term=ada").await, [id]);
    s.settings(json!({ "indexFrozen": false })).await;
    assert_eq!(s.found("term=eve").await, [id]);
}
