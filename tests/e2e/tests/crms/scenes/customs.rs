//! Fields of the customer's own, as the settings name them.

use serde_json::{Map, Value, json};
use tandem_e2e::{Error, until};

use crate::rows::{Custom, Row, Wanted};
use crate::stage::{SCOPE, SOON, Shared, Stage, scene};

/// Whether two values are one, as far as order in a set and the digits of a number do not count.
fn alike(found: &Value, wanted: &Value) -> bool {
    let parts = |value: &Value| -> Option<Vec<String>> {
        let mut parts: Vec<String> = match value {
            Value::Array(parts) => parts.iter().map(ToString::to_string).collect(),
            Value::String(text) if text.contains(';') => text.split(';').map(str::to_owned).collect(),
            _ => return None,
        };
        parts.sort();
        Some(parts)
    };
    match (parts(found), parts(wanted)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => {
            found == wanted || found.as_f64().zip(wanted.as_f64()).is_some_and(|(left, right)| left == right)
        }
    }
}

/// What the canonical document has below `custom`: the first or the second values.
fn canonical(customs: &[Custom], which: usize) -> Value {
    Value::Object(
        customs.iter().map(|custom| (custom.member.to_owned(), custom.here[which].clone())).collect(),
    )
}

async fn becomes<R: Row>(
    stage: &Stage<R>,
    shared: &Shared,
    customs: &[Custom],
    which: usize,
) -> Result<(), Error> {
    until("both sides have the values", SOON, async || {
        let here = stage.record_here(&shared.internal).await?.unwrap_or_default();
        let there = stage.row.fields(&stage.house, &shared.external).await?;
        let differs = customs.iter().find(|custom| {
            let found = there.get(&custom.name).cloned().unwrap_or_default();
            !alike(&here["custom"][custom.member], &custom.here[which])
                || !alike(&found, &custom.there[which])
        });
        Ok(match differs {
            None => Ok(()),
            Some(custom) => Err(format!("{}: {} and {there:?}", custom.member, here["custom"])),
        })
    })
    .await
}

pub(crate) async fn custom_fields_cross_both_ways_and_one_by_one<R: Row>() -> Result<(), Error> {
    scene::<R>("custom fields", Wanted::new(SCOPE).with_customs(), async |stage| {
        let customs = stage.row.customs().await?;
        let person = "ann@acme.example";
        let mut first = canonical(&customs, 0);
        first["unknown"] = json!("stays here");
        let document = json!({ "email": person, "given_name": "Ann", "family_name": "Li", "custom": first });
        let internal = stage.make_here(&document).await?;
        let external = stage.comes_there(person).await?;
        let ann = Shared { person: person.to_owned(), internal, external };
        becomes(stage, &ann, &customs, 0).await?;
        stage.settles().await?;

        stage.next_second().await?;
        let second: Map<String, Value> =
            customs.iter().map(|custom| (custom.name.clone(), custom.there[1].clone())).collect();
        stage.row.save(&stage.house, &ann.external, second).await?;
        becomes(stage, &ann, &customs, 1).await?;
        stage.settles().await?;
        let here = stage.record_here(&ann.internal).await?.unwrap_or_default();
        assert_eq!(
            here["custom"]["unknown"],
            json!("stays here"),
            "what the settings do not name is left alone"
        );

        // Here one is cleared and one is set: no other is sent.
        let before = stage.written().await?.len();
        let cleared = customs.iter().find(|custom| custom.member == "tier").ok_or("no tier")?;
        let set = customs.iter().find(|custom| custom.member == "seats").ok_or("no seats")?;
        stage.edit_here(&ann, json!({ "custom": { "tier": null, "seats": set.here[0] } })).await?;
        until("both are there", SOON, async || {
            let there = stage.row.fields(&stage.house, &ann.external).await?;
            let found = |name: &str| there.get(name).cloned().unwrap_or_default();
            let is_cleared = matches!(found(&cleared.name), Value::Null) || found(&cleared.name) == json!("");
            let done = is_cleared && alike(&found(&set.name), &set.there[0]);
            Ok(if done { Ok(()) } else { Err(format!("{there:?}")) })
        })
        .await?;
        stage.settles().await?;
        let sent = stage.written().await?.split_off(before);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let mut names = R::set_by(&sent[0].members);
        names.sort();
        let mut expected = [cleared.name.clone(), set.name.clone()];
        expected.sort();
        assert_eq!(names, expected, "no other is sent");

        // What is cleared there is cleared here, although no push may name what is empty.
        stage.next_second().await?;
        let gone: Map<String, Value> = ["seats", "regions"]
            .iter()
            .filter_map(|member| {
                let custom = customs.iter().find(|custom| custom.member == *member)?;
                Some((custom.name.clone(), Value::Null))
            })
            .collect();
        stage.row.save(&stage.house, &ann.external, gone).await?;
        until("what was cleared there is cleared here", SOON, async || {
            let here = stage.record_here(&ann.internal).await?.unwrap_or_default();
            let none = |value: &Value| value.is_null() || *value == json!([]);
            let done = none(&here["custom"]["seats"]) && none(&here["custom"]["regions"]);
            Ok(if done { Ok(()) } else { Err(here.to_string()) })
        })
        .await?;
        stage.quiet().await?;
        assert_eq!(stage.written().await?.len(), before + 1, "nothing of it is written back");
        let names: Vec<&str> = customs.iter().map(|custom| custom.member).collect();
        stage.say(format!("fields: {}", names.join(", ")));
        Ok(1)
    })
    .await
}
