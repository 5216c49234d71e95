//! A small organisation in memory: rows that become visible late, a bin, a log of deletions, batches.

use std::collections::BTreeMap;

use tandem_provider::{Listing, Page, Proof, time};

use super::*;

/// Seconds.
const T0: u64 = NOW / 1_000;

#[derive(Clone, Default)]
struct Row {
    modified: u64,
    /// When the transaction that modified it ended.
    visible: u64,
    deleted: bool,
    master: Option<String>,
    /// Out of the bin.
    purged: bool,
}

#[derive(Default)]
struct Org {
    rows: BTreeMap<String, Row>,
    /// Id to deletion time.
    log: Vec<(String, u64)>,
    /// What the log reaches back to.
    earliest: u64,
    /// How late the log is.
    lag: u64,
    now: u64,
    calls: u32,
    listings: u32,
}

fn id(number: u64) -> String {
    format!("003{number:012}AAA")
}

fn iso(seconds: u64) -> String {
    let text = time::format_datetime(i64::try_from(seconds * 1_000).unwrap()).unwrap();
    format!("{}.000+0000", text.trim_end_matches('Z'))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    Some(rest.split_once(to).map_or(rest, |(found, _)| found))
}

fn seconds(text: &str) -> u64 {
    time::stamp(text).unwrap() / 1_000
}

impl Org {
    fn at(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    fn edit(&mut self, number: u64, modified: u64) {
        let row = Row { modified, visible: modified, ..Row::default() };
        self.rows.insert(id(number), row);
    }

    fn delete(&mut self, number: u64, at: u64, master: Option<u64>) {
        let row = self.rows.entry(id(number)).or_default();
        (row.modified, row.visible, row.deleted, row.master) = (at, at, true, master.map(id));
        self.log.push((id(number), at));
    }

    fn answer(&mut self, request: &Request) -> Response {
        self.calls += 1;
        let mut response =
            if path(request).ends_with("/deleted/") { self.deleted(request) } else { self.query(request) };
        let date = time::format_http_date(i64::try_from(self.now * 1_000).unwrap()).unwrap();
        response = with_header(response, "date", &date);
        response
    }

    fn query(&self, request: &Request) -> Response {
        assert_eq!(path(request), format!("{ROOT}/queryAll"), "changes show the bin too");
        let soql = parameter(request, "q").unwrap();
        let wanted = condition(request);
        let limit: usize = soql.rsplit(' ').next().unwrap().parse().unwrap();
        let mut rows: Vec<(u64, &String, &Row)> = self
            .rows
            .iter()
            .filter(|(_, row)| row.visible <= self.now && !row.purged)
            .map(|(id, row)| (row.modified, id, row))
            .collect();
        if let Some(list) = between(&wanted, "Id IN (", ")") {
            let list: Vec<&str> = list.split(',').map(|it| it.trim_matches('\'')).collect();
            rows.retain(|(_, id, _)| list.contains(&id.as_str()));
        } else if let Some(since) = wanted.strip_prefix("SystemModstamp >= ") {
            rows.retain(|(modified, ..)| *modified >= seconds(since));
        } else {
            let at = seconds(between(&wanted, "(SystemModstamp > ", " OR (").unwrap());
            assert_eq!(seconds(between(&wanted, "SystemModstamp = ", " AND ").unwrap()), at);
            let last = between(&wanted, "Id > '", "'))").unwrap();
            rows.retain(|(modified, id, _)| *modified > at || *modified == at && id.as_str() > last);
        }
        rows.sort_unstable_by_key(|(modified, id, _)| (*modified, *id));
        rows.truncate(limit);
        let rows: Vec<Value> = rows
            .into_iter()
            .map(|(modified, id, row)| {
                contact(id, &json!({ "SystemModstamp": iso(modified), "IsDeleted": row.deleted, "MasterRecordId": row.master }))
            })
            .collect();
        records(&rows)
    }

    fn deleted(&mut self, request: &Request) -> Response {
        self.listings += 1;
        let moment = |name: &str| seconds(&parameter(request, name).unwrap());
        let (start, end) = (moment("start"), moment("end"));
        assert!(end > start + 60, "more than a minute");
        assert!(end <= self.now, "nothing of the future");
        if self.now - start > 15 * 86_400 {
            return error(
                400,
                "INVALID_REPLICATION_DATE",
                "startDate before org replication enabled date",
                &[],
            );
        }
        let covered = end.min(self.now.saturating_sub(self.lag)) / 60 * 60;
        let rows: Vec<Value> = self
            .log
            .iter()
            .filter(|(_, at)| (start..covered).contains(at))
            .map(|(id, at)| json!({ "id": id, "deletedDate": iso(*at) }))
            .collect();
        answer(
            200,
            &json!({ "deletedRecords": rows, "earliestDateAvailable": iso(self.earliest), "latestDateCovered": iso(covered) }),
        )
    }
}

fn one_page(provider: &Salesforce, org: &mut Org, operation: &Operation) -> Page {
    let context = Context { now: org.now * 1_000, attributes: Vec::new() };
    let mut reply = provider.start(operation, &context);
    loop {
        match reply.answer {
            Answer::Send(step) => {
                lawful(&step.request);
                assert!(step.note.len() <= 1024 * 1024);
                let response = org.answer(&step.request);
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
fn look(provider: &Salesforce, org: &mut Org, cursor: &mut Option<Vec<u8>>, now: u64) -> Vec<Observed> {
    org.now = now;
    let mut rows = Vec::new();
    loop {
        let operation =
            Operation::Changes(Listing { object: "contact".into(), cursor: cursor.take(), limit: 100 });
        let page = one_page(provider, org, &operation);
        assert!(page.rows.len() <= 100);
        rows.extend(page.rows);
        *cursor = Some(page.cursor);
        if !page.more {
            return rows;
        }
    }
}

fn numbers(rows: &[Observed]) -> Vec<u64> {
    let mut numbers: Vec<u64> = rows.iter().map(|row| row.id[3..15].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Does not ask for the listing of deleted contacts.
fn quiet() -> Salesforce {
    salesforce(&json!({ "deletions_every_ms": 86_400_000 }))
}

fn listing() -> Salesforce {
    salesforce(&json!({ "deletions_every_ms": 300_000 }))
}

#[test]
fn the_first_look_begins_now_and_costs_nothing() {
    let mut org = Org::at(T0);
    org.edit(1, T0 - 3_600);
    let mut cursor = None;
    assert!(look(&quiet(), &mut org, &mut cursor, T0).is_empty());
    assert_eq!(org.calls, 0);
    org.edit(2, T0 + 5);
    let rows = look(&quiet(), &mut org, &mut cursor, T0 + 60);
    assert_eq!(numbers(&rows), [2]);
    assert!(matches!(rows[0].state, State::Whole(_)));
    assert_eq!(rows[0].stamp, Some((T0 + 5) * 1_000));
    assert_eq!(org.calls, 1);
}

#[test]
fn a_row_is_shown_once_and_again_when_it_changed() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    org.edit(1, T0 + 10);
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 60)), [1]);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 90).is_empty());
    org.edit(1, T0 + 95);
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 150)), [1]);
    for minutes in 3..10 {
        assert!(look(&quiet(), &mut org, &mut cursor, T0 + 60 * minutes).is_empty());
    }
}

#[test]
fn a_second_edit_in_the_second_that_was_shown_is_shown_too() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    org.edit(1, T0 + 10);
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 10)), [1]);
    // Edited once more in that second: the stamp is the same.
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 40)), [1]);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 70).is_empty());
}

#[test]
fn a_transaction_that_ends_late_is_not_missed() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    org.edit(1, T0 + 50);
    org.rows.insert(id(2), Row { modified: T0 + 20, visible: T0 + 130, ..Row::default() });
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 70)), [1]);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 110).is_empty());
    assert_eq!(numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 135)), [2]);
}

#[test]
fn an_import_in_one_second_is_shown_page_by_page() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    for number in 1..=1_234 {
        org.edit(number, T0 + 7);
    }
    org.edit(2_000, T0 + 6);
    org.edit(2_001, T0 + 8);
    let rows = look(&quiet(), &mut org, &mut cursor, T0 + 60);
    let mut found = numbers(&rows);
    found.dedup();
    assert_eq!((found.len(), rows.len()), (1_236, 1_236));
    assert_eq!(org.calls, 13);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 90).is_empty());
}

#[test]
fn more_rows_than_are_remembered_are_shown_again_and_none_is_lost() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    for number in 1..=5_000 {
        org.edit(number, T0 + 1 + number / 200);
    }
    let mut found = numbers(&look(&quiet(), &mut org, &mut cursor, T0 + 60));
    found.dedup();
    assert_eq!(found.len(), 5_000);
    look(&quiet(), &mut org, &mut cursor, T0 + 90);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 400).len() <= 5_000);
    assert!(look(&quiet(), &mut org, &mut cursor, T0 + 800).is_empty());
}

#[test]
fn deleted_and_merged_contacts_are_shown_with_the_others() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    org.delete(1, T0 + 5, None);
    org.delete(2, T0 + 6, Some(3));
    org.edit(3, T0 + 6);
    let rows = look(&quiet(), &mut org, &mut cursor, T0 + 60);
    assert_eq!(rows[0].state, State::Gone(Proof::Confirmed));
    assert_eq!(rows[1].state, State::Moved(Reference { object: "contact".into(), id: id(3) }));
    assert!(matches!(rows[2].state, State::Whole(_)));
    assert_eq!(rows[0].stamp, Some((T0 + 5) * 1_000));
}

#[test]
fn what_was_purged_from_the_bin_comes_from_the_listing() {
    let provider = listing();
    let mut org = Org::at(T0);
    org.lag = 90;
    let mut cursor = None;
    look(&provider, &mut org, &mut cursor, T0);
    org.delete(1, T0 + 20, None);
    org.rows.get_mut(&id(1)).unwrap().purged = true;
    assert!(look(&provider, &mut org, &mut cursor, T0 + 60).is_empty(), "the listing is not due yet");
    assert_eq!(org.listings, 0);
    let rows = look(&provider, &mut org, &mut cursor, T0 + 300);
    assert_eq!(numbers(&rows), [1]);
    assert_eq!((&rows[0].state, rows[0].stamp), (&State::Gone(Proof::Confirmed), Some((T0 + 20) * 1_000)));
    // Later than the log was when it was asked: the next one begins where it ended.
    org.delete(4, T0 + 260, None);
    org.rows.get_mut(&id(4)).unwrap().purged = true;
    assert_eq!(numbers(&look(&provider, &mut org, &mut cursor, T0 + 600)), [4]);
    assert!(look(&provider, &mut org, &mut cursor, T0 + 900).is_empty());
    assert_eq!(org.listings, 3);
}

#[test]
fn the_listing_repeats_nothing_and_never_takes_a_merge_for_a_deletion() {
    let provider = listing();
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&provider, &mut org, &mut cursor, T0);
    org.delete(1, T0 + 100, None);
    assert_eq!(numbers(&look(&provider, &mut org, &mut cursor, T0 + 120)), [1]);
    // Merged where the look of the rows had passed already: only the listing names it.
    org.delete(2, T0 + 130, Some(3));
    org.rows.get_mut(&id(2)).unwrap().modified = T0 - 9_000;
    // Deleted and restored meanwhile.
    org.delete(5, T0 + 131, None);
    org.edit(5, T0 - 9_000);
    let rows = look(&provider, &mut org, &mut cursor, T0 + 300);
    assert_eq!(numbers(&rows), [2, 5]);
    assert_eq!(rows[0].state, State::Moved(Reference { object: "contact".into(), id: id(3) }));
    assert!(matches!(rows[1].state, State::Whole(_)));
}

#[test]
fn many_deletions_of_one_window_are_shown_page_by_page() {
    let provider = listing();
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&provider, &mut org, &mut cursor, T0);
    for number in 1..=250 {
        org.delete(number, T0 + 30, None);
        org.rows.get_mut(&id(number)).unwrap().purged = true;
    }
    let rows = look(&provider, &mut org, &mut cursor, T0 + 300);
    assert_eq!(numbers(&rows), (1..=250).collect::<Vec<_>>());
    assert_eq!(org.listings, 3);
}

#[test]
fn a_day_at_a_time_is_listed_after_a_pause() {
    let provider = listing();
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&provider, &mut org, &mut cursor, T0);
    for day in 0..5 {
        org.delete(day + 1, T0 + day * 86_400 + 500, None);
        org.rows.get_mut(&id(day + 1)).unwrap().purged = true;
    }
    let rows = look(&provider, &mut org, &mut cursor, T0 + 5 * 86_400);
    assert_eq!(numbers(&rows), [1, 2, 3, 4, 5]);
    assert_eq!(org.listings, 6);
}

#[test]
fn a_window_with_too_many_deletions_is_halved() {
    let provider = listing();
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&provider, &mut org, &mut cursor, T0);
    org.now = T0 + 600;
    let operation = |cursor| Operation::Changes(Listing { object: "contact".into(), cursor, limit: 100 });
    let page = one_page(&provider, &mut org, &operation(cursor));
    assert!(page.more, "the listing is due");
    let context = Context { now: org.now * 1_000, attributes: Vec::new() };
    let refuse = |cursor: Vec<u8>| {
        let operation = operation(Some(cursor));
        let Answer::Send(step) = provider.start(&operation, &context).answer else { panic!("a request") };
        let end = parameter(&step.request, "end").unwrap();
        let many = error(400, "EXCEEDED_ID_LIMIT", "exceeded the limit of ids", &[]);
        (end, provider.resume(&operation, &step.note, &many, &context).answer)
    };
    let (whole, answer) = refuse(page.cursor);
    let Answer::Page(halved) = answer else { panic!("{answer:?}") };
    assert!(halved.more && halved.rows.is_empty());
    let (half, answer) = refuse(halved.cursor);
    assert!(half < whole);
    let Answer::Page(quarter) = answer else { panic!("{answer:?}") };
    let (_, answer) = refuse(quarter.cursor);
    assert!(matches!(answer, Answer::CursorLost(_)), "{answer:?}");
}

#[test]
fn a_cursor_beyond_the_log_of_deletions_is_lost() {
    let provider = listing();
    let operation = |cursor| Operation::Changes(Listing { object: "contact".into(), cursor, limit: 100 });
    let begun = |org: &mut Org| one_page(&provider, org, &operation(None)).cursor;
    // Older than 15 days.
    let cursor = begun(&mut Org::at(T0));
    let late = Context { now: NOW + 15 * 86_400_000, attributes: Vec::new() };
    assert!(matches!(provider.start(&operation(Some(cursor.clone())), &late).answer, Answer::CursorLost(_)));
    // The log was shortened.
    let mut org = Org::at(T0 + 600);
    org.earliest = T0 + 300;
    let page = one_page(&provider, &mut org, &operation(Some(cursor)));
    let context = Context { now: org.now * 1_000, attributes: Vec::new() };
    let listed = operation(Some(page.cursor));
    let Answer::Send(step) = provider.start(&listed, &context).answer else { panic!("a request") };
    let response = org.answer(&step.request);
    assert!(matches!(
        provider.resume(&listed, &step.note, &response, &context).answer,
        Answer::CursorLost(_)
    ));
    // Salesforce refuses the date.
    let refused =
        error(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date", &[]);
    assert!(matches!(provider.resume(&listed, &step.note, &refused, &context).answer, Answer::CursorLost(_)));
}

#[test]
fn a_cursor_that_cannot_be_read_is_lost() {
    for cursor in [b"x".to_vec(), b"{}".to_vec(), br#"{"v":9}"#.to_vec()] {
        let operation =
            Operation::Changes(Listing { object: "contact".into(), cursor: Some(cursor), limit: 10 });
        assert!(matches!(plain().start(&operation, &context()).answer, Answer::CursorLost(_)));
        assert!(matches!(
            plain().resume(&operation, &[], &records(&[]), &context()).answer,
            Answer::CursorLost(_)
        ));
    }
}

#[test]
fn a_refused_page_loses_no_place() {
    let mut org = Org::at(T0);
    let mut cursor = None;
    look(&quiet(), &mut org, &mut cursor, T0);
    let operation = Operation::Changes(Listing { object: "contact".into(), cursor, limit: 10 });
    let limit = error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", &[]);
    assert!(matches!(run(&quiet(), &operation, &[limit]).1.answer, Answer::Throttled { .. }));
    for garbage in [json!({ "nothing": 1 }), Value::Null] {
        assert!(matches!(run(&quiet(), &operation, &[answer(200, &garbage)]).1.answer, Answer::Again { .. }));
    }
    let full: Vec<Value> = (0..10).map(|_| json!({ "LastName": "no id" })).collect();
    assert!(matches!(run(&quiet(), &operation, &[records(&full)]).1.answer, Answer::Again { .. }));
}
