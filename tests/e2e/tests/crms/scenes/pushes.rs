//! Pushes that are lost, come twice, or come in a storm.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};
use tandem_e2e::feed::{Change, Feed};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, SOON, Shared, Stage, ensure, long, numbered, scene, torture};

pub(crate) async fn a_push_that_is_lost_is_found_by_polling<R: Row>() -> Result<(), Error> {
    scene::<R>("lost pushes", Wanted::new(SCOPE).polled(500), async |stage| {
        let one = stage.shared(1).await?.remove(0);
        let before = stage.counted().await?.pushes;
        stage.order(FaultOrder::new(FaultKind::WebhookLost)).await?;
        stage.next_second().await?;
        stage.edit_there(&one, json!({ "job_title": "Captain", "city": null })).await?;
        stage
            .make_there(&json!({ "email": "li@acme.example", "family_name": "Li", "given_name": "Bo" }))
            .await?;
        stage
            .becomes_here(&one, &json!({ "job_title": "Captain", "city": null, "phone": "+44 20 7946 0000" }))
            .await?;
        stage.comes_here("li@acme.example").await?;
        let after = stage.counted().await?.pushes;
        assert!(after.lost >= before.lost + 2, "{after:?}");
        assert_eq!(after.delivered, before.delivered, "no push told of it");
        Ok(2)
    })
    .await
}

pub(crate) async fn a_push_that_comes_twice_does_no_harm<R: Row>() -> Result<(), Error> {
    scene::<R>("doubled pushes", Wanted::new(SCOPE), async |stage| {
        let one = stage.shared(1).await?.remove(0);
        stage.next_second().await?;
        let before = (stage.counted().await?.pushes.delivered, stage.written().await?.len());
        stage.order(FaultOrder::new(FaultKind::WebhookDuplicated { delay_ms: 300 }).times(1)).await?;
        stage.edit_there(&one, json!({ "city": "Bonn" })).await?;
        stage.becomes_here(&one, &json!({ "city": "Bonn", "job_title": "Pilot 0" })).await?;
        stage.quiet().await?;
        let pushes = stage.counted().await?.pushes;
        assert_eq!((pushes.delivered, pushes.failed), (before.0 + 2, 0), "it came twice");
        assert_eq!(stage.written().await?.len(), before.1, "nothing is written there");
        Ok(1)
    })
    .await
}

/// Of the records that a storm touches, how many were written in System A before a moment.
fn before(storm: &[Change], at: i64) -> usize {
    storm.iter().filter(|change| change.at <= at).count()
}

pub(crate) async fn edits_on_both_sides_go_ahead_of_a_storm_of_pushes<R: Row>() -> Result<(), Error> {
    let many: usize = if torture() { 20_000 } else { 2_000 };
    scene::<R>("a storm of pushes", Wanted::new(SCOPE), async |stage| {
        let edited = stage.shared(10).await?;
        stage.next_second().await?;
        let feed = Feed::follow(&stage.house, SCOPE).await?;
        let began = Instant::now();
        let storm: Vec<Value> = (100..100 + many).map(numbered).collect();
        stage.import_there(&storm, false).await?;
        until("the storm has begun", SOON, async || {
            Ok(if feed.changes().is_empty() { Err("nothing came".to_owned()) } else { Ok(()) })
        })
        .await?;
        edit_on_both_sides(stage, &edited).await?;
        let made = feed.changes().len();
        ensure(made < many / 2, || format!("{made} of {many} had come before anybody edited: nothing was shown"))?;
        let (there, here) = arrivals(stage, &feed, &edited, many).await?;
        stage.say(format!(
            "{many} pushed in {} ms; edits were made after {made} of them; arrived in the CRM after {there:?}, in System A after {here:?}",
            began.elapsed().as_millis()
        ));
        // An edit in the CRM is told by a push behind those of the storm, and still goes before records that nobody has linked yet. What
        // had been worked until then is most of what comes before it.
        let ahead = there.iter().chain(&here).all(|before| *before < made + many / 4);
        ensure(ahead, || format!("edits came after {there:?} and {here:?} of {many}: not ahead of the storm"))?;
        Ok((many + edited.len()) as u64)
    })
    .await
}

/// Somebody edited many that both sides have, in the CRM's list.
pub(crate) async fn edits_on_both_sides_go_ahead_of_an_edit_of_many<R: Row>() -> Result<(), Error> {
    let many: usize = if torture() { 20_000 } else { 1_000 };
    scene::<R>("an edit of many", Wanted::new(SCOPE), async |stage| {
        let shared = stage.shared(10 + many).await?;
        let (edited, others) = shared.split_at(10);
        let act = async |stage: &Stage<R>| stage.edit_many_there(others, json!({ "city": "Bonn" })).await;
        go_ahead_of_what_waits(stage, edited, many, act).await?;
        Ok(shared.len() as u64)
    })
    .await
}

/// Somebody imported many into the CRM whom nobody has linked yet.
pub(crate) async fn edits_on_both_sides_go_ahead_of_an_import_that_waits<R: Row>() -> Result<(), Error> {
    let many: usize = if torture() { 20_000 } else { 1_000 };
    scene::<R>("an import that waits", Wanted::new(SCOPE), async |stage| {
        let edited = stage.shared(10).await?;
        let imported: Vec<Value> = (100..100 + many).map(numbered).collect();
        let act = async |stage: &Stage<R>| stage.import_there(&imported, false).await;
        go_ahead_of_what_waits(stage, &edited, many, act).await?;
        Ok((many + edited.len()) as u64)
    })
    .await
}

/// What is done to many in the CRM has all been told, and waits, when the ten are edited.
async fn go_ahead_of_what_waits<R: Row>(
    stage: &Stage<R>,
    edited: &[Shared],
    many: usize,
    act: impl AsyncFnOnce(&Stage<R>) -> Result<(), Error>,
) -> Result<(), Error> {
    stage.next_second().await?;
    let feed = Feed::follow(&stage.house, SCOPE).await?;
    stage.pause().await?;
    let (before, calls) = {
        let counted = stage.counted().await?;
        (counted.pushes.delivered, counted.calls())
    };
    act(stage).await?;
    let delivered = told(stage, before + many as u64).await?;
    edit_on_both_sides(stage, edited).await?;
    told(stage, delivered + edited.len() as u64 / 2).await?;
    let at_rest = feed.changes().iter().all(|change| !change.is_tandems());
    ensure(at_rest, || "it was worked while it was paused".to_owned())?;
    assert_eq!(stage.counted().await?.calls(), calls, "while it is paused it costs the account nothing");
    stage.resume().await?;
    let (there, here) = arrivals(stage, &feed, edited, many).await?;
    stage.say(format!(
        "{many} waited; edits arrived in the CRM after {there:?} of them, in System A after {here:?}"
    ));
    // Pushes are read before what they tell of is worked, so that the last ones are known soon.
    let ahead = there.iter().chain(&here).all(|before| *before < many / 4);
    ensure(ahead, || format!("edits came after {there:?} and {here:?} of {many}: not ahead of the storm"))
}

/// Waits until so many pushes were delivered and no other is under way; how many were.
async fn told<R: Row>(stage: &Stage<R>, wanted: u64) -> Result<u64, Error> {
    until("the pushes are delivered", long(), async || {
        let pushes = stage.counted().await?.pushes;
        let all = pushes.delivered >= wanted && pushes.under_way == 0;
        Ok(if all { Ok(pushes.delivered) } else { Err(format!("{pushes:?}, and not {wanted}")) })
    })
    .await
}

/// The first half of these is edited in System A, the other half in the CRM.
async fn edit_on_both_sides<R: Row>(stage: &Stage<R>, edited: &[Shared]) -> Result<(), Error> {
    let (here, there) = edited.split_at(edited.len() / 2);
    for shared in here {
        stage.edit_here(shared, json!({ "job_title": "Captain" })).await?;
    }
    for shared in there {
        stage.edit_there(shared, json!({ "city": "Kiel" })).await?;
    }
    Ok(())
}

/// Waits until a storm of so many is worked off; then how much of it was in System A when each edit arrived in the CRM, and when each
/// arrived in System A.
async fn arrivals<R: Row>(
    stage: &Stage<R>,
    feed: &Feed,
    edited: &[Shared],
    many: usize,
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    until("the storm is worked off", long(), async || {
        let seen = feed.changes().len();
        Ok(if seen >= many { Ok(()) } else { Err(format!("{seen} of {many}")) })
    })
    .await?;
    stage.quiet().await?;
    let records = stage.house.system_a(SCOPE).list().await?;
    let last = records.iter().map(|record| record.version).max().unwrap_or(0);
    feed.reaches(last, SOON).await?;
    let ours: BTreeSet<&str> = edited.iter().map(|shared| shared.internal.as_str()).collect();
    let (of_ours, of_storm): (Vec<Change>, Vec<Change>) =
        feed.changes().into_iter().partition(|change| ours.contains(change.id.as_str()));
    let title = stage.name_of("job_title")?;
    let written = stage.written().await?;
    let (edited_here, edited_there) = edited.split_at(edited.len() / 2);
    let pushes = stage.counted().await?.pushes;
    let mut here = Vec::new();
    for shared in edited_there {
        let arrived = of_ours.iter().find(|change| change.id == shared.internal && change.is_tandems());
        let arrived = arrived.ok_or_else(|| format!("an edit did not arrive in System A; {pushes:?}"))?;
        here.push(before(&of_storm, arrived.at));
    }
    let mut there = Vec::new();
    for shared in edited_here {
        let arrived = written.iter().find(|write| {
            write.id.as_deref() == Some(&shared.external)
                && write.taken
                && write.members.get(title) == Some(&json!("Captain"))
        });
        let arrived = arrived.ok_or_else(|| format!("an edit did not arrive in the CRM; {pushes:?}"))?;
        there.push(before(&of_storm, arrived.at));
    }
    Ok((there, here))
}
