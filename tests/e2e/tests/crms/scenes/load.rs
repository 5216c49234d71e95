//! The initial load: both sides have records already, most of them the same people.

use std::time::Instant;

use serde_json::{Value, json};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::WriteKind;

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, Shared, ensure, long, scene_before_connection, torture, valued};

pub(crate) async fn an_initial_load_links_those_that_match_and_doubles_none<R: Row>() -> Result<(), Error> {
    let many: usize = if torture() { 2_000 } else { 60 };
    scene_before_connection::<R>("initial load", Wanted::new(SCOPE), async |stage| {
        // Of every other match both sides have the same; of the rest System A knows the title and the CRM the city. One is known to
        // System A alone, and one to the CRM. An address in other letters is the same address.
        let person = |number: usize, address: String| {
            json!({ "email": address, "given_name": "Pat", "family_name": format!("Person {number}"),
                "job_title": format!("Pilot {number}"), "city": format!("City {number}") })
        };
        let is_whole = |number: usize| number.is_multiple_of(2) || number >= many;
        let without = |mut document: Value, member: &str, number: usize| {
            if !is_whole(number) {
                document[member] = Value::Null;
            }
            valued(&document)
        };
        let key = |number: usize| format!("p{number}@acme.example");
        let here: Vec<Value> =
            (0..=many).map(|number| without(person(number, key(number)), "city", number)).collect();
        let there: Vec<Value> = (0..many)
            .chain([many + 1])
            .map(|number| without(person(number, format!("P{number}@Acme.example")), "job_title", number))
            .collect();
        stage.import_there(&there, true).await?;
        // They have been there for a while. Who is made on both sides at once is another scene's: where nothing is unique and the search
        // does not show them yet, they are doubled and reported.
        stage.search_catches_up().await?;
        let ids = stage.make_many_here(&here).await?;

        let began = Instant::now();
        stage.connect().await?;
        until("everybody is linked and whole", long(), async || {
            let records = stage.house.system_a(SCOPE).list().await?;
            let whole = records.iter().filter(|record| record.document["city"].is_string()).count();
            let there = stage.everybody_there().await?;
            let title = stage.name_of("job_title")?;
            let titled = there.values().filter(|contact| contact.properties.contains_key(title)).count();
            let all = [whole, titled, records.len(), there.len()] == [many + 2; 4];
            Ok(if all {
                Ok(())
            } else {
                Err(format!("{whole} of {} here, {titled} of {} there", records.len(), there.len()))
            })
        })
        .await?;
        stage.settles().await?;
        let counted = stage.counted().await?;
        let tokens = counted.tokens.map_or_else(String::new, |tokens| format!(" and {tokens} tokens"));
        stage.say(format!(
            "{many} matches linked in {} ms with {} calls{tokens}",
            began.elapsed().as_millis(),
            counted.calls()
        ));
        let written = stage.written().await?;
        let taken =
            |kind: WriteKind| written.iter().filter(|write| write.kind == kind && write.taken).count();
        ensure((taken(WriteKind::Create), taken(WriteKind::Update)) == (1, many / 2), || {
            format!("one is made, and what differs is written once: {written:?}")
        })?;
        let status = stage.status().await?;
        ensure(status["review"] == json!(0) && status["cause"] == json!("none"), || status.to_string())?;

        // They are linked with each other, and not with anybody else.
        let there = stage.everybody_there().await?;
        for number in [0, many / 2, many - 1] {
            let key = key(number);
            let external = there.get(&key).ok_or("nobody has that address")?.id.clone();
            let shared = Shared { person: key, internal: ids[number].clone(), external };
            stage.edit_here(&shared, json!({ "job_title": "Captain" })).await?;
            stage.both_become(&shared, &json!({ "job_title": "Captain" })).await?;
            stage.next_second().await?;
            stage.edit_there(&shared, json!({ "city": "Kiel" })).await?;
            stage.both_become(&shared, &json!({ "city": "Kiel" })).await?;
        }
        Ok(many as u64 + 2)
    })
    .await
}
