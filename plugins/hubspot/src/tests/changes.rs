//! A small CRM in memory: an index that lags, a cap on what a query shows, archived records.

use std::collections::BTreeMap;

use serde_json::json;
use tandem_provider::{Listing, Observed, Page, Proof, State, time};

use super::*;

#[derive(Default)]
struct Crm {
    /// Id to modification time, in the order of the index when it is sorted.
    contacts: BTreeMap<u64, u64>,
    /// Id to archiving time.
    archived: BTreeMap<u64, u64>,
    /// Rows modified after this are not in the index yet.
    visible: u64,
    calls: u32,
}

fn iso(millis: u64) -> String {
    time::format_datetime(i64::try_from(millis).unwrap()).unwrap()
}

impl Crm {
    fn row(id: u64, modified: u64) -> Value {
        json!({
            "id": id.to_string(), "createdAt": iso(0), "updatedAt": iso(modified), "archived": false,
            "properties": { "email": format!("{id}@example.com"), "lastmodifieddate": iso(modified) },
        })
    }

    fn answer(&mut self, request: &Request) -> Response {
        self.calls += 1;
        if request.method == "POST" { self.search(&body(request)) } else { self.list(request) }
    }

    fn search(&self, body: &Value) -> Response {
        let filters = body["filterGroups"][0]["filters"].as_array().unwrap();
        let holds = |id: u64, modified: u64| {
            filters.iter().all(|filter| {
                let value: u64 = filter["value"].as_str().unwrap().parse().unwrap();
                let left = if filter["propertyName"] == "lastmodifieddate" { modified } else { id };
                match filter["operator"].as_str().unwrap() {
                    "GTE" => left >= value,
                    "EQ" => left == value,
                    _ => left > value,
                }
            })
        };
        let mut rows: Vec<(u64, u64)> = self
            .contacts
            .iter()
            .map(|(id, modified)| (*id, *modified))
            .filter(|(id, modified)| *modified <= self.visible && holds(*id, *modified))
            .collect();
        if body["sorts"][0] == "lastmodifieddate" {
            rows.sort_by_key(|(id, modified)| (*modified, *id));
        }
        let after: usize = body["after"].as_str().unwrap().parse().unwrap();
        let limit = usize::try_from(body["limit"].as_u64().unwrap()).unwrap();
        assert!(after + limit <= 10_000, "beyond what HubSpot shows");
        let total = rows.len();
        let shown: Vec<Value> =
            rows.into_iter().skip(after).take(limit).map(|(id, modified)| Self::row(id, modified)).collect();
        let mut out = json!({ "total": total, "results": shown });
        if after + limit < total {
            out["paging"] = json!({ "next": { "after": (after + limit).to_string() } });
        }
        answer(200, &out)
    }

    fn list(&self, request: &Request) -> Response {
        let archived = parameter(request, "archived").as_deref() == Some("true");
        let after: u64 = parameter(request, "after").map_or(0, |it| it.parse().unwrap());
        let limit: usize = parameter(request, "limit").unwrap().parse().unwrap();
        assert!(limit <= 100);
        let source = if archived { &self.archived } else { &self.contacts };
        let mut rows: Vec<(u64, u64)> =
            source.range(after + 1..).map(|(id, at)| (*id, *at)).take(limit + 1).collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let mut out = json!({ "results": rows.iter().map(|(id, at)| {
            let mut row = Self::row(*id, *at);
            if archived {
                row["archived"] = json!(true);
                row["archivedAt"] = json!(iso(*at));
            }
            row
        }).collect::<Vec<_>>() });
        if more {
            out["paging"] =
                json!({ "next": { "after": rows.last().unwrap().0.to_string(), "link": "?after=x" } });
        }
        answer(200, &out)
    }
}

fn one_page(provider: &HubSpot, crm: &mut Crm, operation: &Operation, now: u64) -> Page {
    let context = Context { now, attributes: Vec::new() };
    let mut reply = provider.start(operation, &context);
    loop {
        match reply.answer {
            Answer::Send(step) => {
                lawful(&step.request);
                let response = crm.answer(&step.request);
                reply = provider.resume(operation, &step.note, &response, &context);
            }
            Answer::Page(page) => {
                assert!(page.cursor.len() <= 64 * 1024, "{} bytes of cursor", page.cursor.len());
                return page;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Looks until there is nothing more at once.
fn look(provider: &HubSpot, crm: &mut Crm, cursor: &mut Option<Vec<u8>>, now: u64) -> Vec<Observed> {
    let mut rows = Vec::new();
    loop {
        let operation =
            Operation::Changes(Listing { object: "contact".into(), cursor: cursor.take(), limit: 200 });
        let page = one_page(provider, crm, &operation, now);
        rows.extend(page.rows);
        *cursor = Some(page.cursor);
        if !page.more {
            return rows;
        }
    }
}

fn ids(rows: &[Observed]) -> Vec<u64> {
    let mut ids: Vec<u64> = rows.iter().map(|row| row.id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

fn quiet() -> HubSpot {
    hubspot(&json!({ "deletions_every_ms": 3_600_000 }))
}

#[test]
fn the_first_look_begins_now_and_costs_nothing() {
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    crm.contacts.insert(1, NOW - 3_600_000);
    let mut cursor = None;
    assert!(look(&quiet(), &mut crm, &mut cursor, NOW).is_empty());
    assert_eq!(crm.calls, 0);
    crm.contacts.insert(2, NOW + 5);
    let rows = look(&quiet(), &mut crm, &mut cursor, NOW + 1_000);
    assert_eq!(ids(&rows), [2]);
    assert!(matches!(rows[0].state, State::Whole(_)));
    assert_eq!(rows[0].stamp, Some(NOW + 5));
    assert_eq!(crm.calls, 1);
}

#[test]
fn a_row_is_shown_once_and_again_when_it_changed() {
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    let mut cursor = None;
    look(&quiet(), &mut crm, &mut cursor, NOW);
    crm.contacts.insert(1, NOW + 10);
    assert_eq!(ids(&look(&quiet(), &mut crm, &mut cursor, NOW + 100)), [1]);
    assert!(look(&quiet(), &mut crm, &mut cursor, NOW + 200).is_empty());
    crm.contacts.insert(1, NOW + 250);
    assert_eq!(ids(&look(&quiet(), &mut crm, &mut cursor, NOW + 300)), [1]);
    assert!(look(&quiet(), &mut crm, &mut cursor, NOW + 3_000_000).is_empty());
}

#[test]
fn a_row_that_the_index_shows_late_is_not_missed() {
    let mut crm = Crm { visible: NOW + 60_000, ..Crm::default() };
    let mut cursor = None;
    look(&quiet(), &mut crm, &mut cursor, NOW);
    crm.contacts.insert(1, NOW + 60_000);
    assert_eq!(ids(&look(&quiet(), &mut crm, &mut cursor, NOW + 61_000)), [1]);
    // Modified before the row that was shown, but in the index only now.
    crm.contacts.insert(2, NOW + 51_000);
    assert_eq!(ids(&look(&quiet(), &mut crm, &mut cursor, NOW + 62_000)), [2]);
}

#[test]
fn more_rows_than_a_query_shows_are_taken_in_slices() {
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    let mut cursor = None;
    look(&quiet(), &mut crm, &mut cursor, NOW);
    for id in 1..=23_456 {
        crm.contacts.insert(id, NOW + id / 7);
    }
    let rows = look(&quiet(), &mut crm, &mut cursor, NOW + 60_000);
    let mut found = ids(&rows);
    found.dedup();
    assert_eq!(found.len(), 23_456);
    assert!(rows.len() < 23_456 + 1_000, "{} rows shown", rows.len());
    assert!(crm.calls < 125, "{} calls", crm.calls);
}

#[test]
fn an_import_in_one_millisecond_is_taken_by_ids() {
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    let mut cursor = None;
    look(&quiet(), &mut crm, &mut cursor, NOW);
    for id in 1..=12_345 {
        crm.contacts.insert(id, NOW + 777);
    }
    crm.contacts.insert(20_000, NOW + 776);
    crm.contacts.insert(20_001, NOW + 778);
    let rows = look(&quiet(), &mut crm, &mut cursor, NOW + 60_000);
    let mut found = ids(&rows);
    found.dedup();
    assert_eq!(found.len(), 12_347);
}

#[test]
fn deletions_come_from_the_archive_now_and_then() {
    let provider = hubspot(&json!({ "deletions_every_ms": 60_000 }));
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    for id in 1..=250 {
        crm.archived.insert(id, NOW - 3_600_000);
    }
    let mut cursor = None;
    look(&provider, &mut crm, &mut cursor, NOW);
    crm.archived.insert(300, NOW + 500);
    assert!(look(&provider, &mut crm, &mut cursor, NOW + 30_000).is_empty(), "not due yet");
    let rows = look(&provider, &mut crm, &mut cursor, NOW + 60_000);
    assert_eq!(ids(&rows), [300], "what was archived before the first look is not news");
    assert_eq!(rows[0].state, State::Gone(Proof::Confirmed));
    crm.archived.insert(4, NOW + 70_000);
    assert_eq!(ids(&look(&provider, &mut crm, &mut cursor, NOW + 120_000)), [4]);
    assert!(look(&provider, &mut crm, &mut cursor, NOW + 180_000).is_empty());
}

#[test]
fn a_walk_shows_every_record_once() {
    let provider = plain();
    let mut crm = Crm { visible: 0, ..Crm::default() };
    for id in 1..=333 {
        crm.contacts.insert(id, NOW);
    }
    let mut cursor = None;
    let mut found = Vec::new();
    loop {
        let operation =
            Operation::Walk(Listing { object: "contact".into(), cursor: cursor.take(), limit: 500 });
        let page = one_page(&provider, &mut crm, &operation, NOW);
        found.extend(ids(&page.rows));
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    assert_eq!(found, (1..=333).collect::<Vec<_>>());
    assert_eq!(crm.calls, 4);
    // The end stays the end.
    let operation = Operation::Walk(Listing { object: "contact".into(), cursor, limit: 500 });
    let page = one_page(&provider, &mut crm, &operation, NOW);
    assert!(page.rows.is_empty() && !page.more);
    assert_eq!(crm.calls, 4);
}

#[test]
fn a_cursor_that_cannot_be_read_is_lost() {
    for cursor in [b"x".to_vec(), b"{}".to_vec(), br#"{"v":9,"after":null,"done":false}"#.to_vec()] {
        for operation in [
            Operation::Changes(Listing { object: "contact".into(), cursor: Some(cursor.clone()), limit: 10 }),
            Operation::Walk(Listing { object: "contact".into(), cursor: Some(cursor.clone()), limit: 10 }),
        ] {
            assert!(matches!(plain().start(&operation, &context()).answer, Answer::CursorLost(_)));
        }
    }
}

#[test]
fn a_refused_page_loses_no_place() {
    let provider = quiet();
    let mut crm = Crm { visible: u64::MAX, ..Crm::default() };
    let mut cursor = None;
    look(&provider, &mut crm, &mut cursor, NOW);
    let operation = Operation::Changes(Listing { object: "contact".into(), cursor, limit: 10 });
    let limit = json!({ "message": "You have reached your secondly limit.", "policyName": "SECONDLY" });
    let (_, reply) = run(&provider, &operation, &[answer(429, &limit)]);
    assert!(matches!(reply.answer, Answer::Throttled { quota: Some(quota), .. } if quota == "search"));
    let (_, reply) = run(&provider, &operation, &[answer(200, &json!({ "nothing": 1 }))]);
    assert!(matches!(reply.answer, Answer::Again { .. }));
}

/// What a page of a listing says of each record: its id, and where it lives on.
fn told(reply: Reply) -> Vec<(String, Option<String>)> {
    let Answer::Page(page) = reply.answer else { panic!("{:?}", reply.answer) };
    page.rows
        .into_iter()
        .map(|row| match row.state {
            State::Moved(to) => (row.id, Some(to.id)),
            State::Whole(_) => (row.id, None),
            state => panic!("{state:?}"),
        })
        .collect()
}

#[test]
fn a_merge_that_no_webhook_told_of_is_told_by_the_record_that_came_of_it() {
    let provider = quiet();
    let results = json!({ "results": [
        contact("7", &json!({ "hs_merged_object_ids": null })),
        contact("90", &json!({ "hs_merged_object_ids": "12; 13;12;90;;x13" })),
        contact("91", &json!({ "hs_merged_object_ids": "14;15;16" })),
    ]});
    let expected = [
        ("7".to_owned(), None),
        ("12".to_owned(), Some("90".to_owned())),
        ("13".to_owned(), Some("90".to_owned())),
        ("90".to_owned(), None),
        ("15".to_owned(), Some("14".to_owned())),
        ("16".to_owned(), Some("14".to_owned())),
        ("14".to_owned(), Some("91".to_owned())),
        ("91".to_owned(), None),
    ];
    let mut crm = Crm::default();
    let mut cursor = None;
    look(&provider, &mut crm, &mut cursor, NOW - 3_600_000);
    let changes = Operation::Changes(Listing { object: "contact".into(), cursor, limit: 100 });
    let (requests, reply) = run(&provider, &changes, &[answer(200, &results)]);
    let asked = body(&requests[0]);
    assert!(asked["properties"].as_array().unwrap().contains(&json!("hs_merged_object_ids")));
    assert_eq!(told(reply), expected);
    let walk = Operation::Walk(Listing { object: "contact".into(), cursor: None, limit: 100 });
    let (_, reply) = run(&provider, &walk, &[answer(200, &results)]);
    assert_eq!(told(reply), expected);
}

#[test]
fn a_record_of_very_many_merges_fills_no_page() {
    let many = |from: u64| (from..from + 5_000).map(|id| id.to_string()).collect::<Vec<_>>().join(";");
    let rows: Vec<Value> = (1..=8)
        .map(|id| contact(&id.to_string(), &json!({ "hs_merged_object_ids": many(id * 10_000) })))
        .collect();
    let walk = Operation::Walk(Listing { object: "contact".into(), cursor: None, limit: 100 });
    let (_, reply) = run(&plain(), &walk, &[answer(200, &json!({ "results": rows }))]);
    let rows = told(reply);
    assert_eq!(rows.iter().filter(|(_, to)| to.is_none()).count(), 8);
    assert_eq!(rows.len(), 408);
}
