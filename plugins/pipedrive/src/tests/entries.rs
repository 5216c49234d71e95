use serde_json::{Value, json};
use tandem_provider::json::Node;

use crate::entries::{Pick, change, picked};

fn list(value: &Value) -> Vec<Node<'static>> {
    Node::from(value).into_owned().as_list().unwrap().to_vec()
}

fn changed(before: &Value, pick: Pick<'_>, to: &str) -> Value {
    let mut entries = list(before);
    change(&mut entries, pick, to);
    serde_json::from_slice(&Node::List(entries).to_bytes()).unwrap()
}

const MOBILE: Pick<'static> = Pick::Labelled("mobile");
const OTHER: Pick<'static> = Pick::Otherwise("mobile");

#[test]
fn the_primary_entry_is_meant_and_the_first_where_nothing_is_said() {
    for (entries, expected) in [
        (json!([{ "value": "a" }, { "value": "b", "primary": true }]), Some("b")),
        (json!([{ "value": "a" }, { "value": "b" }]), Some("a")),
        (json!([{ "value": "a", "primary": false }, { "value": "b", "primary": false }]), None),
        (json!([{ "value": "", "primary": true }, { "value": "b", "primary": false }]), None),
        (json!([{ "value": "a", "primary": null }]), Some("a")),
        (json!([]), None),
    ] {
        assert_eq!(picked(&list(&entries), Pick::Primary), expected, "{entries}");
    }
}

#[test]
fn mobile_goes_by_the_label_whichever_is_primary() {
    let entries = list(&json!([
        { "value": "1", "primary": true, "label": "Mobile" },
        { "value": "2", "primary": false, "label": "home" },
        { "value": "3", "primary": false, "label": "mobile" },
        { "value": "4" },
    ]));
    assert_eq!(picked(&entries, MOBILE), Some("1"));
    assert_eq!(picked(&entries, OTHER), Some("2"));
}

#[test]
fn only_the_entry_that_is_meant_changes() {
    let before = json!([
        { "value": "a", "primary": false, "label": "home", "more": 1 },
        { "value": "b", "primary": true, "label": "work" },
    ]);
    assert_eq!(
        changed(&before, Pick::Primary, "c"),
        json!([
            { "value": "a", "primary": false, "label": "home", "more": 1 },
            { "value": "c", "primary": true, "label": "work" },
        ])
    );
    // What was there already is not there twice.
    assert_eq!(
        changed(&before, Pick::Primary, "a"),
        json!([{ "value": "a", "primary": true, "label": "work" }])
    );
}

#[test]
fn a_new_entry_is_primary_where_there_was_none() {
    assert_eq!(
        changed(&json!([]), Pick::Primary, "a"),
        json!([{ "value": "a", "primary": true, "label": "work" }])
    );
    let work = json!([{ "value": "1", "primary": true, "label": "work" }]);
    assert_eq!(
        changed(&work, MOBILE, "2"),
        json!([{ "value": "1", "primary": true, "label": "work" }, { "value": "2", "primary": false, "label": "mobile" }])
    );
    assert_eq!(
        changed(&json!([]), MOBILE, "2"),
        json!([{ "value": "2", "primary": true, "label": "mobile" }])
    );
}

#[test]
fn clearing_takes_one_entry_out_and_leaves_no_other_in_its_place() {
    let before = json!([{ "value": "a", "primary": true }, { "value": "b" }]);
    let after = changed(&before, Pick::Primary, "");
    assert_eq!(after, json!([{ "value": "b", "primary": false }]));
    assert_eq!(picked(&list(&after), Pick::Primary), None);
    assert_eq!(changed(&json!([]), Pick::Primary, ""), json!([]));
    assert_eq!(changed(&before, MOBILE, ""), before);
}

#[test]
fn entries_without_a_value_are_not_sent_back() {
    let before = json!([{ "value": "", "primary": true }, { "value": "1", "label": "home" }]);
    assert_eq!(changed(&before, MOBILE, "2").as_array().unwrap().len(), 2);
}
