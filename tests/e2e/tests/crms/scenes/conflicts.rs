//! Both sides edit the same field and neither knows of the other. Four records, each contested in the field of one policy.

use serde_json::{Value, json};
use tandem_e2e::round::{Guarantee, Policy};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedWrite, Writer};

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, SOON, Shared, Stage, ensure, scene};

const HERE: &str = "Said here";
const THERE: &str = "Said there";

/// The contested fields, each under a policy of its own. All are written without a look at the record, whatever the CRM: Pipedrive's
/// provider reads a person before it writes lists and addresses, which would show an edit that nobody told of.
const CONTESTED: [(&str, Policy); 4] = [
    ("job_title", Policy::Internal),
    ("given_name", Policy::External),
    // No CRM tells the times of single fields, and both edits are closer together than clocks are trusted: it means review.
    ("notes", Policy::Newest),
    ("family_name", Policy::Review),
];

/// How long the pushes of edits are held back, so that our writes come first. A run in which they did not is no run.
const HELD_BACK_MS: u64 = 8_000;

fn policies() -> String {
    let lines: Vec<String> = CONTESTED
        .iter()
        .map(|(member, policy)| format!("\"/{member}\" = {{ on_conflict = \"{}\" }}", policy.name()))
        .collect();
    format!("[objects.contact.fields]\n{}", lines.join("\n"))
}

/// What both sides have in the end; none: the field is held with both values.
fn by(policy: Policy) -> Option<&'static str> {
    match policy {
        Policy::Internal => Some(HERE),
        Policy::External => Some(THERE),
        Policy::Newest | Policy::Review => None,
    }
}

/// Somebody decides what is held, for one side and for the other; everything else is as it was said already.
async fn decided<R: Row>(stage: &Stage<R>, all: &[Shared]) -> Result<(), Error> {
    for ((shared, (member, policy)), side) in all.iter().zip(CONTESTED).zip(["", "", "internal", "external"])
    {
        if by(policy).is_none() {
            stage.decide(shared, member, side).await?;
            let value = if side == "internal" { HERE } else { THERE };
            stage.both_become(shared, &json!({ member: value })).await?;
        }
    }
    stage.quiet().await?;
    let review = stage.review().await?;
    ensure(review.is_empty(), || format!("still under review: {review:?}"))
}

pub(crate) async fn a_conflict_that_both_sides_know_of_ends_as_the_policy_says<R: Row>() -> Result<(), Error>
{
    scene::<R>("a conflict that is told", Wanted::new(SCOPE).policy(&policies()), async |stage| {
        let all = stage.shared(CONTESTED.len()).await?;
        stage.next_second().await?;
        stage.pause().await?;
        for (shared, (member, _)) in all.iter().zip(CONTESTED) {
            stage.edit_there(shared, json!({ member: THERE, "city": "Kiel" })).await?;
            stage.edit_here(shared, json!({ member: HERE, "phone": "+49 30 7" })).await?;
        }
        until("the pushes are delivered", SOON, async || {
            let pushes = stage.counted().await?.pushes;
            Ok(if pushes.under_way == 0 { Ok(()) } else { Err(format!("{pushes:?}")) })
        })
        .await?;
        stage.resume().await?;
        stage.quiet().await?;
        for (shared, (member, policy)) in all.iter().zip(CONTESTED) {
            let (here, there) = by(policy).map_or((HERE, THERE), |value| (value, value));
            // What nobody disputes crosses under every policy.
            stage.becomes_here(shared, &json!({ member: here, "city": "Kiel", "phone": "+49 30 7" })).await?;
            stage
                .becomes_there(shared, &json!({ member: there, "city": "Kiel", "phone": "+49 30 7" }))
                .await?;
        }
        let review = stage.review().await?;
        assert_eq!(review.len(), 2, "{review:?}");
        decided(stage, &all).await?;
        Ok(CONTESTED.len() as u64)
    })
    .await
}

/// Whether the daemon wrote or tried to write after the person did, and was taken. None: it did neither.
fn overtaking(writes: &[NotedWrite], shared: &Shared, name: &str) -> Option<bool> {
    let of_record = || writes.iter().filter(|write| write.id.as_deref() == Some(&shared.external));
    let carries = |write: &NotedWrite, value: &str| write.members.get(name) == Some(&Value::from(value));
    let edit = of_record().position(|write| write.by == Writer::Person && carries(write, THERE))?;
    let ours = of_record().skip(edit).find(|write| write.by == Writer::Api && carries(write, HERE))?;
    Some(ours.taken)
}

pub(crate) async fn an_edit_that_nobody_told_of_ends_as_the_crm_can_promise<R: Row>() -> Result<(), Error> {
    scene::<R>("a conflict that is not told", Wanted::new(SCOPE).policy(&policies()), async |stage| {
        let all = stage.shared(CONTESTED.len()).await?;
        stage.next_second().await?;
        // Where the CRM refuses, nothing else tells; elsewhere pushes tell, but only when our writes are there already.
        let refuses = matches!(R::GUARANTEE, Guarantee::Exact | Guarantee::ToTheSecond);
        let kind = if refuses {
            FaultKind::WebhookLost
        } else {
            FaultKind::WebhookDelayed { ms: HELD_BACK_MS, jitter_ms: 0 }
        };
        let untold = stage.order(FaultOrder::new(kind)).await?;
        for (shared, (member, _)) in all.iter().zip(CONTESTED) {
            stage.edit_there(shared, json!({ member: THERE, "city": "Kiel" })).await?;
        }
        stage.house.control.withdraw(untold).await?;
        let held_back = stage.counted().await?.pushes.under_way;
        for (shared, (member, _)) in all.iter().zip(CONTESTED) {
            stage.edit_here(shared, json!({ member: HERE })).await?;
        }
        let mut taken = Vec::new();
        for (shared, (member, _)) in all.iter().zip(CONTESTED) {
            let name = stage.name_of(member)?;
            taken.push(
                until(&format!("{member} is written over or refused"), SOON, async || {
                    Ok(overtaking(&stage.writes().await?, shared, name).ok_or_else(|| "neither".to_owned()))
                })
                .await?,
            );
        }
        let still = stage.counted().await?.pushes.under_way;
        ensure(refuses || (held_back > 0 && still >= held_back), || {
            format!("{still} of {held_back} pushes were still held back: nothing was shown")
        })?;
        assert_eq!(taken, [!refuses; CONTESTED.len()], "{:?}", R::GUARANTEE);

        stage.quiet().await?;
        let decides = R::GUARANTEE != Guarantee::NarrowWindow;
        for (shared, (member, policy)) in all.iter().zip(CONTESTED) {
            let (here, there) = match by(policy) {
                // It was overwritten, and nothing tells of it.
                _ if !decides => (HERE, HERE),
                Some(value) => (value, value),
                None if refuses => (HERE, THERE),
                // It was overwritten before it was found: both values are in the review.
                None => (HERE, HERE),
            };
            stage.becomes_here(shared, &json!({ member: here, "city": "Kiel" })).await?;
            stage.becomes_there(shared, &json!({ member: there, "city": "Kiel" })).await?;
        }
        let review = stage.review().await?;
        assert_eq!(review.len(), if decides { 2 } else { 0 }, "{review:?}");
        if decides {
            decided(stage, &all).await?;
        }
        let class = R::GUARANTEE;
        stage.say(format!("{class:?}: refused at first {}", taken.iter().filter(|taken| !**taken).count()));
        Ok(CONTESTED.len() as u64)
    })
    .await
}
