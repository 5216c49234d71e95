//! Salesforce: what was updated and deleted between two moments, the recycle bin, merges.

use serde_json::{Value, json};
use tandem_simulator::control::salesforce::SalesforceMerge;

use crate::salesforce_setting::{Force, Reply, encoded};

const MINUTE: i64 = 60_000;

/// The simulated time, moved to the beginning of a minute.
async fn whole_minute(f: &Force) -> i64 {
    let now = f.control.advance(0).await.unwrap();
    let left = MINUTE - now.rem_euclid(MINUTE);
    f.control.advance(u32::try_from(left).unwrap()).await.unwrap()
}

fn stamp(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

async fn span(f: &Force, which: &str, from: i64, to: i64) -> Reply {
    let (from, to) = (encoded(&stamp(from)), encoded(&stamp(to)));
    f.get(&format!("/sobjects/Contact/{which}/?start={from}&end={to}")).await
}

fn ids(reply: &Reply) -> Vec<&str> {
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    match reply.body.get("ids") {
        Some(ids) => ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect(),
        None => {
            let rows = reply.body["deletedRecords"].as_array().unwrap();
            rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
        }
    }
}

fn covered(reply: &Reply) -> i64 {
    let shown = reply.body["latestDateCovered"].as_str().unwrap();
    shown.replace("+0000", "Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn updated_gives_the_ids_of_whole_minutes_and_up_to_where_it_is_complete() {
    let f = Force::new().await;
    let start = whole_minute(&f).await / MINUTE * MINUTE;
    let first = f.contact(json!({ "LastName": "A" })).await;
    let deleted = f.contact(json!({ "LastName": "B" })).await;
    f.delete(&format!("/sobjects/Contact/{deleted}")).await;
    whole_minute(&f).await;
    let second = f.contact(json!({ "LastName": "C" })).await;
    // The seconds are not looked at: the second minute has only begun.
    let reply = span(&f, "updated", start + 59_000, start + MINUTE + 59_000).await;
    assert_eq!((ids(&reply), covered(&reply)), (vec![first.as_str()], start + MINUTE));
    // A moment to come is not covered.
    let reply = span(&f, "updated", start, start + 10 * MINUTE).await;
    assert_eq!((ids(&reply), covered(&reply)), (vec![first.as_str(), second.as_str()], start + MINUTE));
    // Where it ended the next one begins, and nothing is missing.
    whole_minute(&f).await;
    let reply = span(&f, "updated", start + MINUTE, start + 3 * MINUTE).await;
    assert_eq!((ids(&reply), covered(&reply)), (vec![second.as_str()], start + 2 * MINUTE));
    f.control.touch_salesforce_contact(f.number(), &first).await.unwrap();
    let reply = span(&f, "updated", start + 2 * MINUTE, start + 3 * MINUTE).await;
    assert_eq!(ids(&reply), [first.as_str()], "SystemModstamp is looked at");
}

#[tokio::test]
async fn deleted_gives_ids_with_their_moments_until_they_come_back() {
    let f = Force::new().await;
    let start = whole_minute(&f).await / MINUTE * MINUTE;
    let id = f.contact(json!({})).await;
    f.delete(&format!("/sobjects/Contact/{id}")).await;
    whole_minute(&f).await;
    let reply = span(&f, "deleted", start, start + MINUTE).await;
    assert_eq!((ids(&reply), covered(&reply)), (vec![id.as_str()], start + MINUTE));
    let at = reply.body["deletedRecords"][0]["deletedDate"].as_str().unwrap();
    assert!(at.ends_with(".000+0000"), "{at}");
    assert!(reply.body["earliestDateAvailable"].is_string());
    assert_eq!(ids(&span(&f, "updated", start, start + MINUTE).await), Vec::<&str>::new());
    f.control.salesforce_person_undeletes(f.number(), &id).await.unwrap();
    assert_eq!(ids(&span(&f, "deleted", start, start + 2 * MINUTE).await), Vec::<&str>::new());
    assert_eq!(f.read(&id, "IsDeleted").await["IsDeleted"], false);
}

#[tokio::test]
async fn spans_must_begin_before_they_end_and_not_too_long_ago() {
    let f = Force::new().await;
    let now = f.control.advance(0).await.unwrap();
    let day = 86_400_000;
    for (which, from, to) in [
        ("updated", now, now - MINUTE),
        ("updated", now, now),
        ("updated", now - 31 * day, now),
        ("deleted", now - 16 * day, now),
    ] {
        assert_eq!(span(&f, which, from, to).await.refusal(), (400, "INVALID_REPLICATION_DATE"), "{which}");
    }
    assert_eq!(span(&f, "updated", now - 29 * day, now).await.status, 200);
    assert_eq!(span(&f, "deleted", now - 14 * day, now).await.status, 200);
    let reply = f.get("/sobjects/Contact/updated?start=2026-01-01&end=2026-01-02").await;
    assert_eq!(reply.refusal(), (400, "INVALID_REPLICATION_DATE"));
    assert_eq!(f.get("/sobjects/Contact/updated").await.status, 400);
}

#[tokio::test]
async fn too_many_ids_are_refused() {
    let f = Force::with(|new| new.settings.replication_ids = 2).await;
    let start = whole_minute(&f).await;
    for _ in 0..3 {
        f.contact(json!({})).await;
    }
    let reply = span(&f, "updated", start, start + MINUTE).await;
    assert_eq!(reply.refusal(), (400, "EXCEEDED_ID_LIMIT"));
}

#[tokio::test]
async fn what_the_org_is_busy_with_is_not_covered_yet() {
    let f = Force::with(|new| new.settings.replication_lag_seconds = 120).await;
    let start = whole_minute(&f).await / MINUTE * MINUTE;
    let id = f.contact(json!({})).await;
    whole_minute(&f).await;
    let reply = span(&f, "updated", start, start + MINUTE).await;
    assert!(ids(&reply).is_empty() && covered(&reply) <= start, "{:?}", reply.body);
    f.control.advance(120_000).await.unwrap();
    let reply = span(&f, "updated", start, start + MINUTE).await;
    assert_eq!((ids(&reply), covered(&reply)), (vec![id.as_str()], start + MINUTE));
}

#[tokio::test]
async fn the_recycle_bin_keeps_a_record_for_fifteen_days() {
    let f = Force::with(|new| new.settings.session_seconds = 100_000_000).await;
    let (old, young) = (f.contact(json!({})).await, f.contact(json!({})).await);
    f.delete(&format!("/sobjects/Contact/{old}")).await;
    f.control.advance(14 * 86_400_000).await.unwrap();
    f.delete(&format!("/sobjects/Contact/{young}")).await;
    f.control.advance(86_400_000 + 1_000).await.unwrap();
    let all = f.get(&format!("/queryAll?q={}", encoded("SELECT Id FROM Contact"))).await;
    assert_eq!(all.ids(), [young.as_str()]);
    assert!(f.control.salesforce_person_undeletes(f.number(), &old).await.is_err());
    f.control.salesforce_person_purges(f.number(), &young).await.unwrap();
    assert_eq!(f.get(&format!("/sobjects/Contact/{young}")).await.refusal(), (404, "ENTITY_IS_DELETED"));
    let now = f.control.advance(0).await.unwrap();
    let reply = span(&f, "deleted", now - 14 * 86_400_000, now).await;
    assert!(ids(&reply).is_empty());
    let earliest = reply.body["earliestDateAvailable"].as_str().unwrap().replace("+0000", "Z");
    let earliest = earliest.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert!(
        now - earliest < 2 * 86_400_000,
        "the log of deletions is complete only since the last one that is gone"
    );
}

#[tokio::test]
async fn an_answer_has_the_time_by_which_records_are_stamped() {
    let f = Force::new().await;
    let now = f.control.advance(3_600_000).await.unwrap();
    let id = f.contact(json!({})).await;
    let reply = f.get(&format!("/sobjects/Contact/{id}?fields=SystemModstamp")).await;
    let date = jiff::fmt::rfc2822::parse(reply.header("date").unwrap()).unwrap().timestamp();
    let stamped = reply.body["SystemModstamp"].as_str().unwrap().replace("+0000", "Z");
    let stamped = stamped.parse::<jiff::Timestamp>().unwrap();
    assert!(stamped.as_millisecond() >= now / 1_000 * 1_000, "the clock was moved");
    assert!((0..60).contains(&(date.as_second() - stamped.as_second())), "{date} {stamped}");
}

#[tokio::test]
async fn a_merge_deletes_the_losers_and_names_their_master() {
    let f = Force::new().await;
    let master = f.contact(json!({ "LastName": "Master", "Title": "x" })).await;
    let loser = f.contact(json!({ "LastName": "Loser", "Phone": "1", "Key__c": "k" })).await;
    f.next_second().await;
    let merge = SalesforceMerge {
        master: master.clone(),
        losers: vec![loser.clone()],
        values: json!({ "Phone": "1", "Key__c": "k" }).as_object().unwrap().clone(),
    };
    let merged = f.control.salesforce_person_merges(f.number(), &merge).await.unwrap();
    assert_eq!((&merged.values["Title"], &merged.values["Key__c"]), (&json!("x"), &json!("k")));
    assert_eq!(f.get(&format!("/sobjects/Contact/{loser}")).await.refusal(), (404, "ENTITY_IS_DELETED"));
    let soql = "SELECT Id, MasterRecordId FROM Contact WHERE MasterRecordId != null";
    let rows = f.get(&format!("/queryAll?q={}", encoded(soql))).await;
    assert_eq!(rows.ids(), [loser.as_str()]);
    assert_eq!(rows.body["records"][0]["MasterRecordId"], json!(master));
    let read = f.read(&master, "LastModifiedById,LastModifiedDate,CreatedDate").await;
    assert_eq!(read["LastModifiedById"], json!(f.org.person_user_id));
    assert_ne!(read["LastModifiedDate"], read["CreatedDate"]);
    let itself = SalesforceMerge {
        master: master.clone(),
        losers: vec![master.clone()],
        ..SalesforceMerge::default()
    };
    assert!(f.control.salesforce_person_merges(f.number(), &itself).await.is_err());
    // A merge that is refused has no effect on anybody.
    let other = f.contact(json!({ "LastName": "Other" })).await;
    let wrong = SalesforceMerge {
        master: master.clone(),
        losers: vec![other.clone()],
        values: json!({ "LastName": Value::Null }).as_object().unwrap().clone(),
    };
    assert!(f.control.salesforce_person_merges(f.number(), &wrong).await.is_err());
    assert_eq!(f.read(&other, "IsDeleted").await["IsDeleted"], false);
}
