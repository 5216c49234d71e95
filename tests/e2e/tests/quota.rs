//! A CRM's limits: those that are known are never run into, those that are not are met once and then kept; a spent one
//! delays its own connection only, is said in the status, and loses nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedCall, QuotaSizes};

const LONG: Duration = Duration::from_secs(120);
/// Calls that a connection has under way at the most.
const AT_ONCE: usize = 8;

/// Houses whose accounts have these limits, polled every so many milliseconds, their calls noted.
async fn build(scopes: &[&str], quota: QuotaSizes, poll_every_ms: u64) -> Result<House, Error> {
    let connection = format!(
        "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = {poll_every_ms}\n"
    );
    let house = House::build(Plan { quota, connection, ..Plan::roomy(scopes) }).await?;
    for customer in &house.customers {
        house.control.set_settings(customer.info.portal_id, json!({ "journal": true })).await?;
    }
    Ok(house)
}

async fn create(house: &House, scope: &str, count: usize) -> Result<Vec<String>, Error> {
    let lines: Vec<Value> = (0..count)
        .map(|number| json!({"op": "create", "document": {"email": format!("p{number}@{scope}.example"), "given_name": "First"}}))
        .collect();
    let answers = house.system_a(scope).batch(&lines).await?;
    let id = |answer: &Value| answer.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
    let ids: Vec<String> = answers.iter().filter_map(id).collect();
    assert_eq!(ids.len(), count, "{answers:?}");
    Ok(ids)
}

async fn rename(house: &House, scope: &str, ids: &[String], name: &str) -> Result<(), Error> {
    let lines: Vec<Value> =
        ids.iter().enumerate().map(|(number, id)| json!({"op": "upsert", "id": id, "document": {"email": format!("p{number}@{scope}.example"), "given_name": name}})).collect();
    for answer in house.system_a(scope).batch(&lines).await? {
        let status = answer.get("status").and_then(Value::as_u64).unwrap_or(0);
        assert!((200..300).contains(&status), "{answer}");
    }
    Ok(())
}

/// Records of the account with this first name.
async fn there(house: &House, scope: &str, name: &str) -> Result<usize, Error> {
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    Ok(dump.records.iter().filter(|it| it.properties.get("firstname").is_some_and(|it| it == name)).count())
}

/// Why a connection waits, and in words.
async fn cause(house: &House, scope: &str) -> Result<(String, String), Error> {
    let status = house.get(&format!("/v1/status?connection={scope}")).await?;
    let row = status.pointer("/connections/0").cloned().unwrap_or_default();
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("cause"), text("detail")))
}

async fn waits_for_quota(house: &House, scope: &str, word: &str) -> Result<(), Error> {
    until("the status says that it waits for a quota", LONG, async || {
        let (cause, detail) = cause(house, scope).await?;
        Ok(if cause == "quota" && detail.contains(word) { Ok(()) } else { Err(format!("{cause}: {detail}")) })
    })
    .await
}

async fn calls(house: &House, scope: &str) -> Result<Vec<NotedCall>, Error> {
    Ok(house.control.calls(house.customer(scope)?.info.portal_id).await?)
}

fn refused(calls: &[NotedCall]) -> usize {
    calls.iter().filter(|call| call.status == Some(429)).count()
}

/// The most calls of a kind that any stretch of so many milliseconds has.
fn densest(calls: &[NotedCall], searches: bool, ms: i64) -> usize {
    let moments: Vec<i64> = calls
        .iter()
        .filter(|call| (call.operation == "contacts.search") == searches)
        .map(|call| call.at)
        .collect();
    let from = |start: &i64| moments.iter().filter(|at| *at >= start && **at < start + ms).count();
    moments.iter().map(from).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_known_are_used_and_never_run_into_while_others_go_on() -> Result<(), Error> {
    const WAITING: usize = 300;
    // More polls than the account allows searches, so that their limit is met as well.
    let house = build(&["acme", "globex"], QuotaSizes { daily: None, ..QuotaSizes::PRIVATE }, 100).await?;
    house.walked(LONG).await?;
    let _made = create(&house, "acme", WAITING).await?;
    waits_for_quota(&house, "acme", "burst").await?;
    let _made = create(&house, "globex", 20).await?;
    until("the other customer's records are there", LONG, async || {
        let arrived = there(&house, "globex", "First").await?;
        Ok(if arrived == 20 { Ok(()) } else { Err(format!("{arrived} of 20")) })
    })
    .await?;
    let meanwhile = there(&house, "acme", "First").await?;
    assert!(meanwhile < WAITING, "all {meanwhile} had arrived: nothing was shown");
    until("all of them arrive", LONG, async || {
        let arrived = there(&house, "acme", "First").await?;
        Ok(if arrived == WAITING { Ok(()) } else { Err(format!("{arrived} of {WAITING}")) })
    })
    .await?;
    // Each poll waits for the answer to the one before: a busy machine comes near their limit a little later.
    let calls = until("a second has three searches", LONG, async || {
        let calls = calls(&house, "acme").await?;
        let searches = densest(&calls, true, 1_000);
        Ok(if searches >= 3 { Ok(calls) } else { Err(format!("{searches} searches")) })
    })
    .await?;
    assert_eq!(refused(&calls), 0, "of {} calls", calls.len());
    let (burst, searches) = (densest(&calls, false, 10_000), densest(&calls, true, 1_000));
    assert!((171..=190).contains(&burst), "ten seconds had {burst} calls: 190 are allowed");
    assert!((3..=5).contains(&searches), "a second had {searches} searches: five are allowed");
    assert_eq!(house.get("/v1/dead?limit=10").await?, json!([]));
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_limit_is_never_overrun_also_across_restarts_and_nothing_is_lost() -> Result<(), Error> {
    const DAILY: u32 = 60;
    const WAITING: usize = 150;
    let quota = QuotaSizes { burst: 20_000, daily: Some(DAILY), search: 50 };
    let mut house = build(&["acme"], quota, 600_000).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let _made = create(&house, "acme", WAITING).await?;
    for round in 0..3 {
        waits_for_quota(&house, "acme", "daily").await?;
        let counts = house.control.account_counts(portal).await?;
        let spent = counts.total_calls() - counts.calls("contacts.search");
        assert!(spent <= u64::from(DAILY), "{spent} calls on a day of {DAILY}, round {round}");
        assert!(spent >= u64::from(DAILY) * 9 / 10, "only {spent} calls of {DAILY} were made");
        assert_eq!(counts.throttled(), 0);
        if round < 2 {
            house.stop().await?;
            house.start().await?;
        }
    }
    assert_eq!(house.get("/v1/dead?limit=10").await?, json!([]), "what waits is not lost");
    // The customer buys more; the operator says so.
    house.control.set_quota(portal, QuotaSizes { daily: Some(100_000), ..quota }).await?;
    let file = house.folder.join("connections/acme.toml");
    let text = std::fs::read_to_string(&file)?;
    let raised = text.replace(&format!("[quotas.daily]\nlimit = {DAILY}"), "[quotas.daily]\nlimit = 100000");
    assert_ne!(text, raised);
    std::fs::write(&file, raised)?;
    house.post("/v1/connections/reload", &json!({})).await?;
    until("all of them arrive", LONG, async || {
        let arrived = there(&house, "acme", "First").await?;
        Ok(if arrived == WAITING { Ok(()) } else { Err(format!("{arrived} of {WAITING}")) })
    })
    .await?;
    assert_eq!(house.control.account_counts(portal).await?.throttled(), 0);
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_shrinks_unsaid_is_met_by_what_is_under_way_and_then_kept() -> Result<(), Error> {
    const WAITING: usize = 60;
    let roomy = QuotaSizes { burst: 20_000, daily: None, search: 50 };
    let house = build(&["acme"], roomy, 600_000).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let ids = create(&house, "acme", WAITING).await?;
    house.quiet(LONG).await?;
    let before = calls(&house, "acme").await?.len();
    house.control.set_quota(portal, QuotaSizes { burst: 40, ..roomy }).await?;
    rename(&house, "acme", &ids, "Second").await?;
    waits_for_quota(&house, "acme", "").await?;
    until("all of them arrive", LONG, async || {
        let arrived = there(&house, "acme", "Second").await?;
        Ok(if arrived == WAITING { Ok(()) } else { Err(format!("{arrived} of {WAITING}")) })
    })
    .await?;
    let calls: Vec<NotedCall> = calls(&house, "acme").await?.split_off(before);
    let refused = refused(&calls);
    assert!(refused <= AT_ONCE, "{refused} of {} calls were refused", calls.len());
    assert_eq!(house.get("/v1/dead?limit=10").await?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_before_a_retry_after_has_passed() -> Result<(), Error> {
    const WAITING: usize = 300;
    const SECONDS: u64 = 3;
    /// By when, after the refusal, what was sent before it was read has arrived: the account's own count of milliseconds.
    const UNDER_WAY_MS: i64 = 1_500;
    let house = build(&["acme"], QuotaSizes { burst: 20_000, daily: None, search: 50 }, 600_000).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let ids = create(&house, "acme", WAITING).await?;
    house.quiet(LONG).await?;
    let kind = FaultKind::Status { status: 429, retry_after: Some(SECONDS) };
    house
        .control
        .order(&FaultOrder::new(kind).portal(portal).operation("contacts.update").after(20).times(1))
        .await?;
    let before = calls(&house, "acme").await?.len();
    rename(&house, "acme", &ids, "Second").await?;
    waits_for_quota(&house, "acme", "").await?;
    until("all of them arrive", LONG, async || {
        let arrived = there(&house, "acme", "Second").await?;
        Ok(if arrived == WAITING { Ok(()) } else { Err(format!("{arrived} of {WAITING}")) })
    })
    .await?;
    let calls: Vec<NotedCall> = calls(&house, "acme").await?.split_off(before);
    assert_eq!(refused(&calls), 1, "one was ordered");
    let at = calls.iter().find(|call| call.status == Some(429)).map(|call| call.at).ok_or("no 429")?;
    let ends = at + 1_000 * i64::try_from(SECONDS)?;
    let early: Vec<i64> =
        calls.iter().filter(|call| call.at > at && call.at < ends).map(|call| call.at - at).collect();
    // What had been sent when the refusal was read may still arrive; whoever comes later was sent in the pause.
    assert!(
        early.iter().all(|after| *after <= UNDER_WAY_MS),
        "sent in the pause, ms after its beginning: {early:?}"
    );
    assert!(
        early.len() < AT_ONCE,
        "{early:?} came before the pause was over; those under way are fewer than {AT_ONCE}"
    );
    let after = calls.iter().filter(|call| call.at >= ends).count();
    assert!(after > WAITING / 2, "only {after} calls waited for it");
    Ok(())
}
