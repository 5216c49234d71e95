//! Creates whose answer is never heard: lost on the way, or since the daemon was killed, or since the power failed.

use serde_json::{Value, json};
use tandem_e2e::ledger::key_of_document;
use tandem_e2e::power::Keep;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, SOON, Shared, Stage, ensure, numbered, scene, torture, valued};

/// Every other one has no address: there is only Tandem's key to find them by.
fn with_and_without_address(number: usize) -> Value {
    let mut document = numbered(number);
    if number.is_multiple_of(2) {
        document["email"] = Value::Null;
    }
    valued(&document)
}

pub(crate) async fn a_create_whose_answer_is_lost_makes_no_second_record<R: Row>() -> Result<(), Error> {
    const MANY: usize = 12;
    const LOST: u32 = 4;
    scene::<R>("lost answers to creates", Wanted::new(SCOPE), async |stage| {
        let lost = FaultOrder::new(FaultKind::DropAfter).operation(R::CREATE).times(LOST);
        let lost = stage.order(lost).await?;
        let documents: Vec<Value> = (0..MANY).map(with_and_without_address).collect();
        stage.make_many_here(&documents).await?;
        stage.all_come_there(MANY).await?;
        stage.quiet().await?;
        assert_eq!(stage.fired(lost).await?, u64::from(LOST), "so many answers were lost");
        assert_eq!(
            (stage.counted().await?.live, stage.made_by_us().await?),
            (MANY, MANY),
            "each is made once"
        );
        Ok(MANY as u64)
    })
    .await
}

pub(crate) async fn a_kill_before_a_creates_answer_is_kept_makes_no_second_record<R: Row>()
-> Result<(), Error> {
    const MANY: usize = 4;
    let rounds: usize = if torture() { 200 } else { 2 };
    scene::<R>("killed with creates under way", Wanted::new(SCOPE), async |stage| {
        for round in 0..rounds {
            // They take effect, and nobody hears of it as long as this daemon lives.
            let withheld = FaultOrder::new(FaultKind::WithholdAfter { ms: 60_000 }).operation(R::CREATE);
            let withheld = stage.order(withheld).await?;
            let documents: Vec<Value> =
                (round * MANY..(round + 1) * MANY).map(with_and_without_address).collect();
            let ids = stage.make_many_here(&documents).await?;
            let wanted = (round + 1) * MANY;
            until("the records are made", SOON, async || {
                let live = stage.counted().await?.live;
                Ok(if live == wanted { Ok(()) } else { Err(format!("{live} of {wanted}")) })
            })
            .await?;
            stage.house.kill().await?;
            stage.house.control.withdraw(withheld).await?;
            stage.house.start().await?;
            all_are_linked(stage, &documents, &ids).await?;
            assert_eq!(
                (stage.counted().await?.live, stage.made_by_us().await?),
                (wanted, wanted),
                "made once"
            );
        }
        stage.say(format!("{rounds} kills, {} creates under way", rounds * MANY));
        Ok((rounds * MANY) as u64)
    })
    .await
}

/// Everybody is in the CRM once, and what is edited in System A crosses.
async fn all_are_linked<R: Row>(stage: &Stage<R>, documents: &[Value], ids: &[String]) -> Result<(), Error> {
    for (document, internal) in documents.iter().zip(ids) {
        let person = key_of_document(document);
        let external = stage.comes_there(&person).await?;
        let shared = Shared { person, internal: internal.clone(), external };
        stage.edit_here(&shared, json!({ "job_title": "Captain" })).await?;
        stage.both_become(&shared, &json!({ "job_title": "Captain" })).await?;
    }
    stage.quiet().await
}

/// The power fails while so many creates were answered and the others took effect without an answer.
async fn power_fails_with_creates_under_way<R: Row>(answered: u32, keep: Keep) -> Result<(), Error> {
    const MANY: usize = 10;
    let name =
        format!("the power fails, {answered} of {MANY} creates answered, {keep:?} of the unsynced is left");
    scene::<R>(&name, Wanted::new(SCOPE), async |stage| {
        stage.house.start_recorded(&[]).await?;
        stage.row.runs(&stage.house).await?;
        let withheld = FaultOrder::new(FaultKind::WithholdAfter { ms: 60_000 });
        let withheld = stage.order(withheld.operation(R::CREATE).after(answered)).await?;
        let documents: Vec<Value> = (0..MANY).map(with_and_without_address).collect();
        let ids = stage.make_many_here(&documents).await?;
        // No more creates are under way than the connection may have calls.
        let wanted = MANY.min(answered as usize + R::AT_ONCE as usize);
        until("the records are made", SOON, async || {
            let live = stage.counted().await?.live;
            Ok(if live == wanted { Ok(()) } else { Err(format!("{live} of {wanted}")) })
        })
        .await?;
        let unheard = stage.fired(withheld).await?;
        ensure(unheard > 0, || "all creates were answered: nothing was shown".to_owned())?;
        stage.house.power_fails(keep).await?;
        stage.house.control.withdraw(withheld).await?;
        stage.house.start().await?;
        all_are_linked(stage, &documents, &ids).await?;
        let made = (stage.counted().await?.live, stage.made_by_us().await?);
        ensure(made == (MANY, MANY), || format!("{made:?} are there and were made, and not {MANY} each"))?;
        stage.say(format!("{unheard} creates were not answered"));
        Ok(MANY as u64)
    })
    .await
}

pub(crate) async fn a_loss_of_power_under_creates_makes_no_second_record<R: Row>() -> Result<(), Error> {
    let rounds = if torture() { 200 } else { 2 };
    for round in 0..rounds {
        let keep = match round % 4 {
            0 => Keep::Nothing,
            1 => Keep::Torn(round),
            _ => Keep::Some(round),
        };
        power_fails_with_creates_under_way::<R>(u32::try_from(round * 3 % 7)?, keep).await?;
    }
    Ok(())
}
