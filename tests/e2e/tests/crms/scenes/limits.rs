//! What the account permits in a day is used up, and credentials end while calls are under way.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tandem_e2e::ledger::key_of_document;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

use crate::rows::{Bursts, Row, Wanted};
use crate::stage::{SCOPE, Shared, Stage, ensure, long, numbered, scene, torture};

const MANY: usize = 60;

/// Waits until nothing more can be sent today, and the status says why and until when.
async fn limit_is_reached<R: Row>(stage: &Stage<R>) -> Result<u64, Error> {
    let permitted = u64::from(R::PERMITTED);
    // What was under way when the daemon was killed counts as sent, whether or not the CRM has seen it.
    let least = permitted * 3 / 4;
    until("the day is spent, and the rest waits", long(), async || {
        let (status, counted) = (stage.status().await?, stage.counted().await?);
        let count = |name: &str| status[name].as_u64().unwrap_or(0);
        let waits = count("waiting") + count("delayed") > 0;
        let detail = status["detail"].as_str().unwrap_or_default();
        let told = detail.contains(R::LIMIT) && detail.contains("it goes on in ");
        let spent = counted.spent();
        Ok(if spent >= least && waits && told && status["cause"] == json!("quota") {
            Ok(spent)
        } else {
            Err(format!("{spent} of {permitted} {}: {status}", R::UNIT))
        })
    })
    .await
}

async fn within_the_limit<R: Row>(stage: &Stage<R>, when: &str) -> Result<(), Error> {
    let (counted, permitted) = (stage.counted().await?, u64::from(R::PERMITTED));
    let (spent, refused) = (counted.spent(), counted.throttled());
    ensure(spent <= permitted && refused == 0, || {
        format!("{spent} of {permitted}, {refused} refused, {when}: {:?}", counted.operations)
    })
}

pub(crate) async fn a_days_limit_is_used_up_without_a_refusal_and_nothing_is_lost<R: Row>()
-> Result<(), Error> {
    a_days_limit::<R>("a day's limit", Wanted::new(SCOPE)).await
}

pub(crate) async fn a_days_limit_that_no_answer_tells_of_is_used_up_without_a_refusal<R: Row>()
-> Result<(), Error> {
    a_days_limit::<R>("a day's limit of which no answer tells", Wanted::new(SCOPE).untold()).await
}

async fn a_days_limit<R: Row>(name: &str, wanted: Wanted) -> Result<(), Error> {
    // What was under way at a kill counts as sent, since it may have been. What an answer tells mends that, as far as it tells of it;
    // where none does, it is so for good.
    let least = if wanted.untold { 75 } else { 90 };
    scene::<R>(name, wanted.permitted(R::PERMITTED), async |stage| {
        let permitted = u64::from(R::PERMITTED);
        stage.make_many_here(&(0..MANY).map(numbered).collect::<Vec<_>>()).await?;
        until("half of the day is spent", long(), async || {
            let spent = stage.counted().await?.spent();
            Ok(if spent >= permitted / 2 { Ok(()) } else { Err(spent.to_string()) })
        })
        .await?;
        stage.house.kill().await?;
        stage.house.start().await?;
        let mut used = limit_is_reached(stage).await?;
        within_the_limit(stage, "after a kill in the middle of it").await?;
        // What was used up stays so, however the daemon ends.
        stage.house.kill().await?;
        stage.house.start().await?;
        used = used.max(limit_is_reached(stage).await?);
        within_the_limit(stage, "after a kill at its end").await?;
        stage.house.stop().await?;
        stage.house.start().await?;
        used = used.max(limit_is_reached(stage).await?);
        within_the_limit(stage, "after a restart").await?;
        let carried = stage.counted().await?.live;
        ensure(carried < MANY, || "all had arrived: nothing waited".to_owned())?;

        // The customer buys more, and the operator says so.
        stage.row.permit(&stage.house, &stage.wanted.clone().permitted(50_000)).await?;
        stage.house.post("/v1/connections/reload", &json!({})).await?;
        stage.all_come_there(MANY).await?;
        stage.quiet().await?;
        let refused = stage.counted().await?.throttled();
        stage.say(format!(
            "permitted {permitted} {}, used {used}, refused {refused}, {carried} of {MANY} records for it",
            R::UNIT
        ));
        ensure(refused == 0, || format!("{refused} refused"))?;
        ensure(used * 100 >= permitted * least, || {
            format!("{used} of {permitted} {} were used while work waited", R::UNIT)
        })?;
        assert_eq!(stage.made_by_us().await?, MANY, "each was made once");
        Ok(MANY as u64)
    })
    .await
}

pub(crate) async fn a_token_that_ends_in_mid_flight_is_renewed_once_and_nothing_is_lost<R: Row>()
-> Result<(), Error> {
    scene::<R>("a token's end", Wanted::new(SCOPE).renewed(), async |stage| {
        let renewals = stage.count_renewals().await?;
        let ends = FaultOrder::new(FaultKind::ExpireToken).operation(R::CREATE).after(20).times(1);
        let ends = stage.order(ends).await?;
        let documents: Vec<Value> = (0..MANY).map(numbered).collect();
        let ids = stage.make_many_here(&documents).await?;
        stage.all_come_there(MANY).await?;
        stage.quiet().await?;
        let refused = stage.counted().await?.refused();
        assert_eq!((stage.fired(ends).await?, stage.fired(renewals).await?), (1, 1), "one renewal for all");
        assert!((1..=R::AT_ONCE).contains(&refused), "{refused} calls met the end of the token");
        assert_eq!(stage.made_by_us().await?, MANY, "nobody was made twice");
        let there: BTreeSet<String> = stage.everybody_there().await?.into_keys().collect();
        assert_eq!(there, documents.iter().map(key_of_document).collect(), "everybody is there");

        // The credential that came with the renewal is kept over a restart: the one that the file names has ended.
        stage.house.stop().await?;
        stage.house.start().await?;
        let external = stage.comes_there("p7@acme.example").await?;
        let one = Shared { person: "p7@acme.example".to_owned(), internal: ids[7].clone(), external };
        stage.edit_here(&one, json!({ "city": "Bonn" })).await?;
        stage.becomes_there(&one, &json!({ "city": "Bonn" })).await?;
        // And all of them end while nothing is under way.
        stage.row.end_tokens(&stage.house).await?;
        stage.edit_here(&one, json!({ "city": "Kiel" })).await?;
        stage.becomes_there(&one, &json!({ "city": "Kiel" })).await?;
        let again = stage.fired(renewals).await?;
        assert_eq!(again, 3, "once in mid-flight, once after the restart, once at the end");
        stage.say(format!("{refused} calls met the end of the token, renewed {again} times"));
        Ok(MANY as u64)
    })
    .await
}

pub(crate) async fn what_a_burst_permits_is_used_while_work_waits_and_nothing_is_refused<R: Bursts>()
-> Result<(), Error> {
    let long_ms: i64 = if torture() { 60_000 } else { 20_000 };
    let limit = R::BURST as usize;
    // Each edit costs a call: there is work for one window more.
    let many = limit * usize::try_from(long_ms / R::WINDOW_MS + 1)?;
    scene::<R>("bursts", Wanted::new(SCOPE), async |stage| {
        let shared = stage.shared(many).await?;
        stage.row.permit(&stage.house, &stage.wanted.clone().bursts()).await?;
        stage.house.post("/v1/connections/reload", &json!({})).await?;
        let before = stage.row.calls(&stage.house).await?.len();
        for one in &shared {
            stage.edit_here(one, json!({ "job_title": "Captain" })).await?;
        }
        stage.quiet().await?;
        let calls = stage.row.calls(&stage.house).await?.split_off(before);
        let moments: Vec<i64> = calls.iter().map(|call| call.at).collect();
        let (first, last) = (moments.iter().min(), moments.iter().max());
        let (first, last) = first.zip(last).ok_or("no call was made")?;
        // While there is a later call, work waited: whole windows are looked at, and the last one is left out.
        let windows = (last - first) / R::WINDOW_MS;
        let end = first + windows * R::WINDOW_MS;
        let used = moments.iter().filter(|at| **at < end).count();
        let permitted = limit * usize::try_from(windows)?;
        let refused = calls.iter().filter(|call| call.status == Some(429)).count();
        let densest = moments.iter().map(|from| {
            moments.iter().filter(|at| *at >= from && **at < from + R::WINDOW_MS).count()
        });
        let densest = densest.max().unwrap_or(0);
        stage.say(format!(
            "{used} of {permitted} calls that {windows} windows of {} ms permit, {densest} in one at the most, {refused} refused of {}",
            R::WINDOW_MS,
            calls.len()
        ));
        ensure(windows >= 2, || format!("{} calls in {windows} windows: nothing waited", calls.len()))?;
        ensure(refused == 0, || format!("{refused} of {} calls were refused", calls.len()))?;
        ensure(densest <= limit, || format!("{densest} calls in a window that permits {limit}"))?;
        // Of a short run the first window is a large part, in which the edits are made one by one while it has begun.
        let least = if torture() { 95 } else { 90 };
        ensure(used * 100 >= permitted * least, || format!("{used} of {permitted} calls were made"))?;
        Ok(many as u64)
    })
    .await
}
