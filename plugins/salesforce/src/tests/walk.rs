use tandem_provider::Listing;

use super::*;

fn walk(cursor: Option<Vec<u8>>, limit: u32) -> Operation {
    Operation::Walk(Listing { object: "contact".into(), cursor, limit })
}

fn id(number: u32) -> String {
    format!("003{number:012}AAA")
}

/// Answers a walk's query out of so many contacts, in batches of `batch` whatever was asked for.
fn page(request: &Request, contacts: u32, batch: u32) -> Response {
    assert_eq!(path(request), format!("{ROOT}/query"));
    let soql = parameter(request, "q").unwrap();
    let limit: u32 = soql.rsplit(' ').next().unwrap().parse().unwrap();
    let after = soql.split_once("Id > '").map_or(0, |(_, rest)| rest[3..15].parse().unwrap());
    let found: Vec<Value> =
        (after + 1..=contacts).take(limit as usize).map(|number| contact(&id(number), &json!({}))).collect();
    let shown = &found[..found.len().min(batch as usize)];
    let next = (shown.len() < found.len()).then_some("/services/data/v60.0/query/01gD-2000");
    answer(
        200,
        &json!({ "totalSize": found.len(), "done": next.is_none(), "records": shown, "nextRecordsUrl": next }),
    )
}

#[test]
fn a_walk_shows_every_record_once_in_batches_of_any_size() {
    for (contacts, limit, batch, calls) in
        [(333, 100, 2_000, 4), (333, 100, 40, 9), (333, 1, 1, 334), (2_500, 5_000, 2_000, 2)]
    {
        let provider = plain();
        let (mut cursor, mut found, mut asked) = (None, Vec::new(), 0);
        loop {
            let operation = walk(cursor, limit);
            let Answer::Send(step) = provider.start(&operation, &context()).answer else {
                panic!("a request")
            };
            lawful(&step.request);
            asked += 1;
            let response = page(&step.request, contacts, batch);
            let Answer::Page(page) = provider.resume(&operation, &step.note, &response, &context()).answer
            else {
                panic!("a page")
            };
            assert!(page.rows.len() <= limit as usize);
            found.extend(page.rows.iter().map(|row| row.id.clone()));
            cursor = Some(page.cursor);
            if !page.more {
                break;
            }
        }
        assert_eq!(found, (1..=contacts).map(id).collect::<Vec<_>>(), "limit {limit}");
        assert_eq!(asked, calls, "limit {limit}, batches of {batch}");
        // The end stays the end.
        let Answer::Page(end) = provider.start(&walk(cursor, limit), &context()).answer else {
            panic!("a page")
        };
        assert!(end.rows.is_empty() && !end.more);
    }
}

#[test]
fn a_cursor_of_a_walk_that_cannot_be_read_is_lost() {
    for cursor in [b"x".to_vec(), b"{}".to_vec(), br#"{"v":9,"after":null,"done":false}"#.to_vec()] {
        let answer = plain().start(&walk(Some(cursor), 10), &context()).answer;
        assert!(matches!(answer, Answer::CursorLost(_)), "{answer:?}");
    }
}

#[test]
fn rows_of_a_walk_are_whole_and_one_that_is_no_record_stops_nothing() {
    let rows = [
        contact(&id(1), &json!({ "Email": "a@b.c" })),
        json!({ "LastName": "nobody" }),
        contact(&id(2), &json!({})),
    ];
    let Answer::Page(page) = run(&plain(), &walk(None, 10), &[records(&rows)]).1.answer else {
        panic!("a page")
    };
    assert_eq!(page.rows.len(), 2);
    assert_eq!(document(&page.rows[0].state)["Email"], "a@b.c");
    assert_eq!(page.rows[0].stamp, Some(STAMP));
}

#[test]
fn a_refused_page_of_a_walk_loses_no_place() {
    let limit = error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", &[]);
    assert!(matches!(run(&plain(), &walk(None, 10), &[limit]).1.answer, Answer::Throttled { .. }));
    for garbage in [json!({ "done": true }), Value::Null] {
        let reply = run(&plain(), &walk(None, 10), &[answer(200, &garbage)]).1;
        assert!(matches!(reply.answer, Answer::Again { .. }), "{:?}", reply.answer);
    }
}
