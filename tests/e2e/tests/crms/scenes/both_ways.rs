//! Live, both ways: records are made, edited, deleted and taken back on either side.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::WriteKind;

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, SOON, changed, ensure, numbered, scene};

pub(crate) async fn a_record_made_on_either_side_comes_to_the_other_once_and_whole<R: Row>()
-> Result<(), Error> {
    scene::<R>("made on either side", Wanted::new(SCOPE), async |stage| {
        let ann = json!({
            "email": "ann.obrien@acme.example", "given_name": "Mary Ann", "family_name": "O'Brien & \"Sons\" <Ltd>",
            "phone": "+44 20 7946 0018", "mobile_phone": "+44 7700 900123", "job_title": "Head of R&D",
            "street": "1 High Street\nFloor 2", "city": "Zürich", "region": "ZH", "postal_code": "8001",
            "country": "Switzerland", "date_of_birth": "1980-02-29", "notes": "Said: <b>no</b>.\nCall in May. 日本",
        });
        stage.make_here(&ann).await?;
        let there = stage.comes_there("ann.obrien@acme.example").await?;
        let ann_there = stage.record_there(&there).await?.unwrap_or_default();
        for (member, value) in ann.as_object().into_iter().flatten() {
            assert_eq!(ann_there[member], *value, "{member}");
        }

        let bob = json!({
            "email": "bob@acme.example", "given_name": "Bob", "family_name": "Łukasz", "phone": "030 / 1",
            "mobile_phone": "+48 500 100 200", "street": "Hauptstraße 1\nHinterhaus", "city": "Kraków",
            "date_of_birth": "1999-12-31", "job_title": "VP, \"Sales\"",
        });
        stage.make_there(&bob).await?;
        let here = stage.comes_here("bob@acme.example").await?;
        let bob_here = stage.record_here(&here).await?.unwrap_or_default();
        for (member, value) in bob.as_object().into_iter().flatten() {
            assert_eq!(bob_here[member], *value, "{member}");
        }

        // Pushes tell of the daemon's own writes as well: nothing is written because of them.
        stage.quiet().await?;
        let kinds: Vec<WriteKind> = stage.written().await?.iter().map(|write| write.kind).collect();
        assert_eq!(kinds, [WriteKind::Create], "one create, and nothing else is written");
        let pushes = stage.counted().await?.pushes;
        ensure(pushes.delivered > 0 && pushes.failed == 0, || format!("{pushes:?}"))?;
        Ok(2)
    })
    .await
}

pub(crate) async fn an_edit_of_one_field_crosses_and_leaves_the_others_alone<R: Row>() -> Result<(), Error> {
    scene::<R>("one field edited", Wanted::new(SCOPE), async |stage| {
        let all = stage.shared(2).await?;
        let (one, other) = (&all[0], &all[1]);
        let before = stage.written().await?.len();

        let there = stage.record_there(&one.external).await?.unwrap_or_default();
        stage.edit_here(one, json!({ "job_title": "Captain" })).await?;
        let now = stage.becomes_there(one, &json!({ "job_title": "Captain" })).await?;
        assert_eq!(now, changed(&there, &json!({ "job_title": "Captain" })), "nothing else changed");
        stage.settles().await?;
        let sent = stage.written().await?.split_off(before);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(R::set_by(&sent[0].members), [stage.name_of("job_title")?], "nothing else was sent");

        stage.next_second().await?;
        let here = stage.record_here(&one.internal).await?.unwrap_or_default();
        stage.edit_there(one, json!({ "city": "Bonn" })).await?;
        let now = stage.becomes_here(one, &json!({ "city": "Bonn" })).await?;
        assert_eq!(now, changed(&here, &json!({ "city": "Bonn" })), "nothing else changed");
        stage.settles().await?;
        assert_eq!(stage.written().await?.len(), before + 1, "the edit there is not written back");

        // Different fields of one record at the same time: both stand on both sides.
        stage.edit_there(other, json!({ "mobile_phone": "+49 170 1" })).await?;
        stage.edit_here(other, json!({ "phone": "+49 30 200" })).await?;
        stage.both_become(other, &json!({ "mobile_phone": "+49 170 1", "phone": "+49 30 200" })).await?;

        // Nothing is a value too, and crosses as such.
        stage.edit_here(one, json!({ "phone": null })).await?;
        stage.becomes_there(one, &json!({ "phone": null, "job_title": "Captain" })).await?;
        stage.settles().await?;
        stage.next_second().await?;
        stage.edit_there(one, json!({ "city": null, "job_title": "Chief" })).await?;
        let now = stage.becomes_here(one, &json!({ "city": null, "job_title": "Chief" })).await?;
        assert_eq!(now["family_name"], json!("Person 0"));
        Ok(2)
    })
    .await
}

pub(crate) async fn a_deletion_on_either_side_crosses_and_what_is_restored_comes_back<R: Row>()
-> Result<(), Error> {
    let mut wanted = Wanted::new(SCOPE).policy("confirm_after = \"200ms\"");
    if let Some(why) = R::UNTOLD_DELETIONS {
        println!("{}: {why}: polls find what is deleted", R::CRM);
        wanted = wanted.polled(300);
    }
    scene::<R>("deleted and restored", wanted, async |stage| {
        let all = stage.shared(4).await?;
        stage.delete_here(&all[0]).await?;
        stage.goes_there(&all[0]).await?;

        stage.delete_there(&all[1]).await?;
        stage.goes_here(&all[1]).await?;
        stage.delete_there(&all[2]).await?;
        stage.goes_here(&all[2]).await?;

        // Somebody takes one back in the CRM: it is in System A once more.
        stage.settles().await?;
        stage.next_second().await?;
        stage.restore_there(&all[2], &numbered(2)).await?;
        let here = stage.comes_here(&all[2].person).await?;
        let back = stage.record_here(&here).await?.unwrap_or_default();
        for (member, value) in numbered(2).as_object().into_iter().flatten() {
            assert_eq!(back[member], *value, "{member}");
        }

        // Nobody touched the last one.
        stage.quiet().await?;
        assert!(stage.record_there(&all[3].external).await?.is_some());
        let kept: Option<Value> = stage.record_here(&all[3].internal).await?;
        assert!(kept.is_some(), "nobody deleted it");
        Ok(2)
    })
    .await
}

pub(crate) async fn what_a_paused_direction_held_up_crosses_when_it_is_resumed<R: Row>() -> Result<(), Error>
{
    // Less than it would be looked at again by itself.
    const AT_ONCE: Duration = Duration::from_secs(20);
    scene::<R>("a paused direction", Wanted::new(SCOPE), async |stage| {
        let shared = stage.shared(2).await?;
        stage.next_second().await?;
        let direction = json!({ "connection": stage.wanted.connection, "direction": "to-internal" });
        stage.house.post("/v1/pause", &direction).await?;
        stage.edit_there(&shared[0], json!({ "city": "Bonn" })).await?;
        until("it was read, and waits", SOON, async || {
            let told = stage.house.get("/v1/status").await?;
            Ok(if told["connections"][0]["waiting"] == json!(1) { Ok(()) } else { Err(told.to_string()) })
        })
        .await?;
        stage.edit_here(&shared[1], json!({ "job_title": "Captain" })).await?;
        stage.becomes_there(&shared[1], &json!({ "job_title": "Captain" })).await?;
        let here = stage.record_here(&shared[0].internal).await?.unwrap_or_default();
        assert_eq!(here["city"], json!("Ulm"), "the other direction goes on alone");
        stage.house.post("/v1/resume", &direction).await?;
        until("it crosses at once", AT_ONCE, async || {
            let here = stage.record_here(&shared[0].internal).await?.unwrap_or_default();
            Ok(if here["city"] == json!("Bonn") { Ok(()) } else { Err(here.to_string()) })
        })
        .await?;
        Ok(2)
    })
    .await
}
