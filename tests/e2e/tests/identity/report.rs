//! What a first sync would find, before it: told in numbers and rows, with nothing written and nothing linked; and then it comes
//! true.

use serde_json::{Value, json};
use tandem_e2e::{Error, until};

use super::support::{Rest, SOON, nothing_aside, tandem};

/// How many of a kind a report tells of.
fn of(report: &Value, kind: &str) -> u64 {
    report["tally"]["kinds"][kind].as_u64().unwrap_or(0)
}

fn rows(said: &str) -> Result<Vec<Value>, Error> {
    // What a failed command prints beside its answer begins with `error:`.
    let json = said.split("\nerror:").next().unwrap_or_default();
    let told: Value = serde_json::from_str(json.trim_end_matches("error:"))?;
    Ok(told[0]["rows"].as_array().cloned().unwrap_or_default())
}

/// Both sides before the first sync: five matches of which two differ, a pair of twins, and some on one side only.
async fn before(rest: &Rest) -> Result<(), Error> {
    for number in 0..5 {
        let mail = format!("same{number}@acme.example");
        let phone = if number < 2 { "+49 30 2" } else { "+49 731 1" };
        rest.person(json!({ "Mail": mail, "Phone": phone, "Title": "Dr" })).await?;
        rest.create(json!({ "email": mail.to_uppercase(), "phone": "+49 731 1", "city": "Ulm" })).await?;
    }
    for name in ["One", "Two"] {
        rest.person(json!({ "Mail": "twin@acme.example", "GivenName": name })).await?;
    }
    rest.create(json!({ "email": "twin@acme.example" })).await?;
    for number in 0..3 {
        rest.person(json!({ "Mail": format!("there{number}@acme.example") })).await?;
        rest.create(json!({ "email": format!("here{number}@acme.example") })).await?;
    }
    rest.person(json!({ "GivenName": "Nameless", "City": "Ulm" })).await?;
    rest.create(json!({ "given_name": "Nobody" })).await?;
    rest.create(json!({ "given_name": "Nobody else" })).await?;
    Ok(())
}

#[tokio::test]
async fn a_report_before_the_first_sync_writes_nothing_and_comes_true() -> Result<(), Error> {
    let rest = Rest::without_connection(true).await?;
    before(&rest).await?;
    rest.connect("paused = true\n").await?;
    let (people, records) = (rest.people().await?, rest.house.system_a("acme").list().await?);

    // Ambiguous records make a difference to the exit status.
    let said = tandem(&rest.house, &["match", "acme", "contact", "--report", "--json"], 1)?;
    assert!(said.contains("2 records are ambiguous and 0 cannot be taken in"), "{said}");
    let json = said.split("\nerror:").next().unwrap_or_default();
    let told: Value = serde_json::from_str(json.trim_end_matches("error:"))?;
    let report = &told[0];
    let counts = ["linked", "match", "ambiguous", "only-crm", "only-system-a", "without-identity", "invalid"]
        .map(|kind| of(report, kind));
    assert_eq!(counts, [0, 5, 2, 3, 3, 3, 0], "{report}");
    assert_eq!((&report["crm"], &report["system_a"]), (&json!(11), &json!(11)), "{report}");
    assert_eq!(report["tally"]["in_conflict"], json!(2), "{report}");
    let fields = &report["tally"]["fields"];
    assert_eq!(fields["/phone"]["review"], json!(2), "{fields}");
    assert_eq!(
        (&fields["/city"]["to_external"], &fields["/job_title"]["to_internal"]),
        (&json!(5), &json!(5))
    );
    assert_eq!(fields["/email"], Value::Null, "addresses differ by case only: {fields}");

    let listed = |kind: &str| -> Result<Vec<Value>, Error> {
        let arguments = ["match", "acme", "contact", "--report", "--last", "--list", kind, "--json"];
        rows(&tandem(&rest.house, &arguments, 1)?)
    };
    let ambiguous = listed("ambiguous")?;
    assert_eq!(ambiguous.len(), 2, "{ambiguous:?}");
    assert!(ambiguous.iter().all(|row| !row["why"].as_str().unwrap_or_default().is_empty()));
    let conflicts = listed("match")?
        .iter()
        .filter(|row| row["differences"]["conflicts"] == json!({ "/phone": "review" }))
        .count();
    assert_eq!(conflicts, 2);
    assert_eq!(listed("only-system-a")?.len(), 3);
    let text =
        tandem(&rest.house, &["match", "--report", "--last", "--list", "ambiguous", "--limit", "1"], 1)?;
    assert!(text.contains("ambiguous: 1 of 2") && text.contains("2 matches differ"), "{text}");

    // Neither side has moved, and nothing is linked.
    let now = (rest.people().await?, rest.house.system_a("acme").list().await?);
    assert_eq!((&now.0, now.1.len()), (&people, records.len()));
    assert!(now.1.iter().zip(&records).all(|(now, before)| now.version == before.version));
    let counts = rest.house.control.rest_counts("acme").await?;
    let writes: u64 =
        counts.calls.iter().filter(|(call, _)| !call.starts_with("GET")).map(|(_, count)| count).sum();
    assert_eq!(writes, 0, "{counts:?}");
    for record in &records {
        let known =
            rest.house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", record.id)).await?;
        assert_eq!(known["links"], json!([]), "{known}");
    }

    // Then it is let go on, and what was told happens.
    tandem(&rest.house, &["resume", "acme"], 0)?;
    rest.house.quiet(SOON).await?;
    let reviews = until("what was told", SOON, async || {
        let (people, records, reviews) = (
            rest.people().await?.len(),
            rest.house.system_a("acme").list().await?.len(),
            rest.reviews().await?,
        );
        // Three of each side only, one and two without an address.
        let there = people == 11 + 3 + 2;
        let here = records == 11 + 3 + 1;
        Ok(if there && here && reviews.len() == 3 {
            Ok(reviews)
        } else {
            Err(format!("{people} {records} {reviews:?}"))
        })
    })
    .await?;
    let of_kind = |kind: &str| reviews.iter().filter(|review| review["kind"] == json!(kind)).count();
    assert_eq!(of_kind("held"), 2, "{reviews:?}");
    assert_eq!(of_kind("ambiguous"), 1, "which of the twins it is: {reviews:?}");
    nothing_aside(&rest.house).await?;

    // Once linked, that is what is told.
    let said = tandem(&rest.house, &["match", "acme", "contact", "--report", "--json"], 1)?;
    let json = said.split("\nerror:").next().unwrap_or_default();
    let told: Value = serde_json::from_str(json.trim_end_matches("error:"))?;
    assert_eq!(of(&told[0], "match"), 0, "{}", told[0]);
    assert_eq!((of(&told[0], "linked"), of(&told[0], "ambiguous")), (14, 2), "{}", told[0]);
    Ok(())
}

#[tokio::test]
async fn a_report_goes_through_many_pages_and_ends_well_where_nothing_is_in_doubt() -> Result<(), Error> {
    let rest = Rest::without_connection(false).await?;
    let lines: Vec<Value> = (0..450)
        .map(|number| json!({ "op": "create", "document": { "email": format!("p{number}@acme.example") } }))
        .collect();
    rest.house.system_a("acme").batch(&lines).await?;
    for number in 200..450 {
        rest.person(json!({ "Mail": format!("p{number}@acme.example") })).await?;
    }
    rest.connect("paused = true\n").await?;
    let told: Value = serde_json::from_str(&tandem(
        &rest.house,
        &["match", "acme", "--report", "--json", "--list", "match", "--limit", "10000"],
        0,
    )?)?;
    let report = &told[0];
    assert_eq!((of(report, "match"), of(report, "only-system-a")), (250, 200), "{report}");
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(250));
    assert_eq!(report["calls"], json!(3), "pages of a hundred: {report}");

    // A report that cannot be made says why.
    let refused = tandem(&rest.house, &["match", "nobody", "--report"], 1)?;
    assert!(refused.contains("there is no connection nobody"), "{refused}");
    let refused = tandem(&rest.house, &["match", "acme", "company", "--report"], 1)?;
    assert!(refused.contains("keeps no object company"), "{refused}");
    Ok(())
}
