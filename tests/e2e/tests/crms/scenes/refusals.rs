//! Values that the CRM does not take: the record is set aside with what the CRM said, and nobody else waits for it.

use serde_json::{Value, json};
use tandem_e2e::{Error, until};

use crate::rows::{Refused, Row, Wanted};
use crate::stage::{SCOPE, SOON, Shared, Stage, changed, ensure, scene};

/// Somebody with an address, and with these members.
fn somebody(name: &str, members: &Value) -> Value {
    let document =
        json!({ "email": format!("{name}@acme.example"), "given_name": "Ann", "family_name": "Li" });
    changed(&document, members)
}

/// Waits until a record of System A is set aside for what the CRM says of one field.
async fn is_set_aside<R: Row>(stage: &Stage<R>, internal: &str, refused: &Refused) -> Result<Value, Error> {
    until(&format!("{} is set aside", refused.members), SOON, async || {
        let list = stage.house.get("/v1/dead?limit=100").await?;
        let letter =
            list.as_array().into_iter().flatten().find(|letter| letter["internal"] == json!(internal));
        let said = letter.and_then(|letter| letter["problems"].as_array()).map(Vec::as_slice);
        let is = said.is_some_and(|problems| match problems {
            [only] => only["pointer"] == json!(refused.pointer) && only["message"] == json!(refused.words),
            _ => false,
        });
        Ok(match letter {
            Some(letter) if is => Ok(letter["seq"].clone()),
            _ => Err(format!("{said:?}, and not {}: {}", refused.pointer, refused.words)),
        })
    })
    .await
}

pub(crate) async fn what_a_crm_refuses_is_set_aside_in_its_own_words_and_others_go_on<R: Row>()
-> Result<(), Error> {
    scene::<R>("refusals", Wanted::new(SCOPE).with_customs(), async |stage| {
        let refused = R::refused();
        let edited = stage.shared(refused.len()).await?;
        let mut all: Vec<(Shared, &Refused)> = Vec::new();
        let mut letters = Vec::new();
        for (number, (edited, refused)) in edited.into_iter().zip(&refused).enumerate() {
            // One record is refused when it is made, and one when it is edited.
            let document = somebody(&format!("refused{number}"), &refused.members);
            let internal = stage.make_here(&document).await?;
            letters.push(is_set_aside(stage, &internal, refused).await?);
            let person = format!("refused{number}@acme.example");
            let before = stage.row.fields(&stage.house, &edited.external).await?;
            stage.edit_here(&edited, refused.members.clone()).await?;
            letters.push(is_set_aside(stage, &edited.internal, refused).await?);
            let after = stage.row.fields(&stage.house, &edited.external).await?;
            ensure(before == after, || format!("written in part: {before:?} became {after:?}"))?;
            all.push((Shared { person, internal, external: String::new() }, refused));
            all.push((edited, refused));
            // The next ones cross, in both directions.
            stage.make_here(&somebody(&format!("next{number}"), &json!({}))).await?;
            stage.comes_there(&format!("next{number}@acme.example")).await?;
            stage.make_there(&somebody(&format!("other{number}"), &json!({}))).await?;
            stage.comes_here(&format!("other{number}@acme.example")).await?;
        }
        let there = stage.everybody_there().await?;
        ensure(there.keys().all(|person| !person.starts_with("refused")), || format!("made: {there:?}"))?;
        // Whoever looks on the command line reads the same.
        for (letter, (_, refused)) in letters.iter().zip(&all) {
            let shown = stage.house.command(&["dead", "show", &letter.to_string()])?.output()?;
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            ensure(shown.contains(&refused.words) && shown.contains(refused.pointer), || {
                format!("{shown} does not say {}", refused.words)
            })?;
        }

        for (shared, refused) in &all {
            stage.edit_here(shared, refused.mended.clone()).await?;
        }
        let people = 4 * refused.len();
        stage.all_come_there(people).await?;
        stage.quiet().await?;
        let words: Vec<&str> = refused.iter().map(|refused| refused.pointer).collect();
        stage.say(format!("refused: {}", words.join(", ")));
        Ok(people as u64)
    })
    .await
}
