//! A small CRM in memory: listings by modification time and by id, with pages that are found again by where the last one ended.

use std::collections::BTreeMap;

use serde_json::json;
use tandem_provider::{Listing, Page, Proof, Provider, time};

use super::*;

#[derive(Default)]
struct Crm {
    /// Id to modification time and name.
    persons: BTreeMap<u64, (u64, String)>,
    calls: u32,
    /// Cursors are not known any more.
    forgetful: bool,
}

fn iso(millis: u64) -> String {
    time::format_datetime(i64::try_from(millis / 1_000 * 1_000).unwrap()).unwrap()
}

impl Crm {
    fn set(&mut self, id: u64, modified: u64, name: &str) {
        self.persons.insert(id, (modified, name.to_owned()));
    }

    fn answer(&mut self, request: &Request) -> Response {
        self.calls += 1;
        let limit: usize = parameter(request, "limit").unwrap().parse().unwrap();
        let since = parameter(request, "updated_since")
            .map(|it| u64::try_from(time::parse_datetime(&it.replace("%3A", ":")).unwrap()).unwrap());
        assert_eq!(parameter(request, "sort_direction").as_deref(), Some("asc"));
        let mut rows: Vec<(u64, u64, String)> = self
            .persons
            .iter()
            .map(|(id, (modified, name))| (*modified / 1_000 * 1_000, *id, name.clone()))
            .filter(|(modified, ..)| since.is_none_or(|since| *modified >= since))
            .collect();
        if since.is_some() {
            assert_eq!(parameter(request, "sort_by").as_deref(), Some("update_time"));
            rows.sort();
        } else {
            assert_eq!(parameter(request, "sort_by").as_deref(), Some("id"));
            rows.sort_by_key(|(_, id, _)| *id);
        }
        let place = |row: &(u64, u64, String)| {
            if since.is_some() { format!("{}-{}", row.0, row.1) } else { row.1.to_string() }
        };
        if let Some(cursor) = parameter(request, "cursor") {
            if self.forgetful {
                return failed(400, "Invalid cursor");
            }
            let at = rows.iter().position(|row| place(row) == cursor).unwrap();
            rows.drain(..at);
        }
        let next = rows.get(limit).map(place);
        rows.truncate(limit);
        let rows: Vec<Value> = rows
            .iter()
            .map(|(modified, id, name)| {
                person(*id, &json!({ "first_name": name, "update_time": iso(*modified) }))
            })
            .collect();
        answer(200, &json!({ "success": true, "data": rows, "additional_data": { "next_cursor": next } }))
    }
}

fn one_page(provider: &Pipedrive, crm: &mut Crm, operation: &Operation, now: u64) -> Page {
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
fn look(provider: &Pipedrive, crm: &mut Crm, cursor: &mut Option<Vec<u8>>, limit: u32) -> Vec<String> {
    look_at(provider, crm, cursor, limit, NOW)
}

fn look_at(
    provider: &Pipedrive,
    crm: &mut Crm,
    cursor: &mut Option<Vec<u8>>,
    limit: u32,
    now: u64,
) -> Vec<String> {
    let mut rows = Vec::new();
    loop {
        let listing = Listing { object: "contact".into(), cursor: cursor.clone(), limit };
        let page = one_page(provider, crm, &Operation::Changes(listing), now);
        assert!(page.rows.len() <= limit as usize);
        rows.extend(page.rows.into_iter().map(|row| row.id));
        *cursor = Some(page.cursor);
        if !page.more {
            return rows;
        }
    }
}

#[test]
fn the_first_look_asks_nothing_and_the_next_ones_show_what_is_new() {
    let (provider, mut crm, mut cursor) = (plain(), Crm::default(), None);
    crm.set(1, NOW - 3_600_000, "old");
    assert!(look(&provider, &mut crm, &mut cursor, 100).is_empty());
    assert_eq!(crm.calls, 0);
    crm.set(2, NOW + 1_000, "a");
    crm.set(3, NOW + 2_000, "b");
    assert_eq!(look(&provider, &mut crm, &mut cursor, 100), ["2", "3"]);
    assert!(look(&provider, &mut crm, &mut cursor, 100).is_empty(), "they were shown");
    crm.set(2, NOW + 3_000, "c");
    assert_eq!(look(&provider, &mut crm, &mut cursor, 100), ["2"]);
}

#[test]
fn a_person_that_shows_up_late_and_one_that_is_edited_twice_in_a_second_are_shown() {
    let (provider, mut crm, mut cursor) = (plain(), Crm::default(), None);
    look(&provider, &mut crm, &mut cursor, 100);
    crm.set(1, NOW + 20_000, "a");
    assert_eq!(look(&provider, &mut crm, &mut cursor, 100), ["1"]);
    crm.set(2, NOW + 12_000, "late");
    crm.set(1, NOW + 20_400, "b");
    assert_eq!(look(&provider, &mut crm, &mut cursor, 100), ["2", "1"]);
    assert!(look(&provider, &mut crm, &mut cursor, 100).is_empty());
}

#[test]
fn pages_go_through_many_persons_of_one_second() {
    let (provider, mut crm, mut cursor) = (plain(), Crm::default(), None);
    look(&provider, &mut crm, &mut cursor, 100);
    for id in 1..=2_500 {
        crm.set(id, NOW + 5_000, "import");
    }
    let shown = look(&provider, &mut crm, &mut cursor, 100);
    assert_eq!(shown.len(), 2_500);
    // More than are remembered: some are shown again, until that second is surely past, and none is lost.
    let again = look(&provider, &mut crm, &mut cursor, 100);
    assert_eq!(again.len(), 1_500);
    look_at(&provider, &mut crm, &mut cursor, 100, NOW + 11_000);
    crm.set(2_501, NOW + 6_000, "next");
    assert_eq!(look_at(&provider, &mut crm, &mut cursor, 100, NOW + 12_000), ["2501"]);
}

#[test]
fn a_page_that_is_not_known_any_more_begins_the_look_again() {
    let (provider, mut crm, mut cursor) = (plain(), Crm::default(), None);
    look(&provider, &mut crm, &mut cursor, 2);
    for id in 1..=3 {
        crm.set(id, NOW + id * 1_000, "a");
    }
    let listing = Listing { object: "contact".into(), cursor: cursor.clone(), limit: 2 };
    let page = one_page(&provider, &mut crm, &Operation::Changes(listing), NOW);
    assert!(page.more);
    cursor = Some(page.cursor);
    crm.forgetful = true;
    assert!(look(&provider, &mut crm, &mut cursor, 2).is_empty());
    crm.forgetful = false;
    assert_eq!(look(&provider, &mut crm, &mut cursor, 2), ["3"]);
}

#[test]
fn a_walk_shows_everyone_once_and_ends() {
    let (provider, mut crm) = (keyed(), Crm::default());
    for id in 1..=7 {
        crm.set(id, NOW - id * 1_000, "a");
    }
    let (mut cursor, mut all) = (None, Vec::new());
    loop {
        let listing = Listing { object: "contact".into(), cursor, limit: 3 };
        let page = one_page(&provider, &mut crm, &Operation::Walk(listing), NOW);
        all.extend(page.rows.iter().map(|row| row.id.clone()));
        assert!(page.rows.iter().all(|row| matches!(row.state, State::Whole(_))));
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    assert_eq!(all, ["1", "2", "3", "4", "5", "6", "7"]);
    let calls = crm.calls;
    let listing = Listing { object: "contact".into(), cursor, limit: 3 };
    assert!(!one_page(&provider, &mut crm, &Operation::Walk(listing), NOW).more);
    assert_eq!(crm.calls, calls, "after the end nothing is asked");
}

#[test]
fn pages_are_long_only_where_the_account_does_not_decide_how_long_rows_are() {
    let limit = |provider: &Pipedrive| {
        let listing = Listing { object: "contact".into(), cursor: None, limit: 10_000 };
        parameter(sent(&provider.start(&Operation::Walk(listing), &context())), "limit").unwrap()
    };
    assert_eq!((limit(&plain()).as_str(), limit(&keyed()).as_str()), ("100", "500"));
}

#[test]
fn a_deleted_person_in_a_listing_is_gone() {
    let listing = Listing { object: "contact".into(), cursor: None, limit: 10 };
    let rows = json!([person(1, &json!({ "is_deleted": true })), person(2, &json!({})), { "no": "person" }]);
    let (_, reply) = run(&plain(), &Operation::Walk(listing), &[done(&rows)]);
    let Answer::Page(page) = reply.answer else { panic!("a page") };
    assert_eq!(page.rows.len(), 2);
    assert_eq!(page.rows[0].state, State::Gone(Proof::Confirmed));
}

#[test]
fn cursors_that_cannot_be_read_are_lost_and_answers_that_cannot_be_read_are_asked_again() {
    let listing =
        |cursor: &[u8]| Listing { object: "contact".into(), cursor: Some(cursor.to_vec()), limit: 10 };
    for cursor in [b"x".as_slice(), br#"{"v":9,"since":0,"seen":{},"newest":0,"page":null,"done":false}"#] {
        for operation in [Operation::Changes(listing(cursor)), Operation::Walk(listing(cursor))] {
            assert!(matches!(plain().start(&operation, &context()).answer, Answer::CursorLost(_)));
        }
    }
    let walk = Operation::Walk(listing(br#"{"v":1,"page":"p","done":false}"#));
    assert!(matches!(run(&plain(), &walk, &[failed(400, "Invalid cursor")]).1.answer, Answer::CursorLost(_)));
    let (_, reply) = run(&plain(), &walk, &[answer(200, &json!({ "success": true }))]);
    assert!(matches!(reply.answer, Answer::Again { .. }));
    let (_, reply) = run(&plain(), &walk, &[done(&Value::Null)]);
    assert!(matches!(reply.answer, Answer::Page(Page { more: false, .. })));
}
