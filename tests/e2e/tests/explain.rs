//! A record's story, and review as a place to work in, on a real daemon and a real account: what happened and why, what was known at
//! a moment, and decisions by field while hints keep arriving.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

const SOON: Duration = Duration::from_secs(60);

/// A customer whose account is told of by webhooks alone. `more`: the object's policies and what follows them.
fn plan(scopes: &[&str], more: &str) -> Plan {
    Plan {
        connection: format!(
            "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 3600000\n[objects.contact]\n{more}\n"
        ),
        ..Plan::roomy(scopes)
    }
}

async fn explained(house: &House, scope: &str, id: &str, more: &str) -> Result<Value, Error> {
    house.get(&format!("/v1/explain?scope={scope}&object=contact&id={id}{more}")).await
}

fn history(told: &Value) -> Vec<Value> {
    told["history"].as_array().cloned().unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of one kind that move a field, or are about it, newest first.
fn entries(told: &Value, what: &str, field: &str) -> Vec<Value> {
    let about = |entry: &Value| {
        entry["delta"].get(field).is_some()
            || entry["fields"].as_array().is_some_and(|fields| fields.contains(&json!(field)))
    };
    history(told).into_iter().filter(|entry| entry["what"] == json!(what) && about(entry)).collect()
}

fn entry(told: &Value, what: &str, field: &str) -> Result<Value, Error> {
    let found = entries(told, what, field).into_iter().next();
    found.ok_or_else(|| format!("no {what} of {field}: {told:#}").into())
}

/// Waits until an entry of a kind about a field is told.
async fn told_of(house: &House, scope: &str, id: &str, what: &str, field: &str) -> Result<Value, Error> {
    until(&format!("{what} of {field} is told"), SOON, async || {
        let told = explained(house, scope, id, "").await?;
        Ok(entry(&told, what, field).map_err(|error| error.to_string()))
    })
    .await
}

async fn made(house: &House, scope: &str, document: &Value) -> Result<(String, u64), Error> {
    let id = house.system_a(scope).create(document).await?.id.ok_or("not taken")?;
    house.quiet(SOON).await?;
    let told = explained(house, scope, &id, "").await?;
    Ok((id, text(&told, "/links/0/external").parse()?))
}

async fn edit(house: &House, scope: &str, id: &str, patch: &Value) -> Result<(), Error> {
    let answer = house.system_a(scope).patch(id, patch).await?;
    if answer.status.is_success() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body).into()) }
}

/// What a command says, and how it ends.
fn run(house: &House, arguments: &[&str]) -> Result<(i32, String, String), Error> {
    let output = house.command(arguments)?.output()?;
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), of(&output.stdout), of(&output.stderr)))
}

// ---- a record's story ----

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_a_story_in_both_directions_from_the_hint_to_the_base() -> Result<(), Error> {
    let rule = "[[rules]]\nname = \"everybody\"\nwhen = \"true\"\nthen = \"sync\"";
    let house = House::build(plan(&["acme"], rule)).await?;
    house.walked(SOON).await?;
    let (id, external) =
        made(&house, "acme", &json!({ "email": "ann@acme.example", "job_title": "Head" })).await?;

    // To the CRM: made there.
    let told = explained(&house, "acme", &id, "").await?;
    let born = entry(&told, "created-external", "/email")?;
    assert_eq!(born["exchanges"][0]["operation"], json!("create"), "{born:#}");
    // By its key: HubSpot makes what it does not know.
    assert_eq!(born["exchanges"][0]["status"], json!(200));
    assert_eq!(born["exchanges"][0]["answer"], json!("written"));
    assert!(born["before"].get("/email").is_none(), "nothing was there before: {born:#}");

    // And changed there.
    edit(&house, "acme", &id, &json!({ "job_title": "Chief" })).await?;
    house.quiet(SOON).await?;
    let told = explained(&house, "acme", &id, "").await?;
    let out = entry(&told, "wrote-external", "/job_title")?;
    assert_eq!(text(&out, "/cause"), "edit");
    assert_eq!(text(&out, "/why"), "to the CRM: /job_title");
    assert_eq!(out["differs"], json!({ "/job_title": "internal" }));
    assert_eq!(out["ruling"], json!("rule everybody: sync"));
    assert_eq!(out.pointer("/before/~1job_title/external"), Some(&json!("Head")));
    assert_eq!(out.pointer("/delta/~1job_title/external"), Some(&json!("Chief")));
    assert_eq!(out["exchanges"][0]["operation"], json!("update"));
    assert_eq!((&out["exchanges"][0]["requests"], &out["exchanges"][0]["status"]), (&json!(1), &json!(200)));
    let (noticed, at) = (&out["noticed"], out["at"].as_u64().unwrap_or(0));
    let (since, began) = (noticed["at"].as_u64().unwrap_or(0), noticed["began"].as_u64().unwrap_or(0));
    assert!(since > 0 && since <= began && began <= at, "noticed, begun, done: {out:#}");
    assert_eq!((&noticed["class"], &noticed["hints"]), (&json!("live"), &json!(1)));
    assert!(out.get("seen").is_none(), "nobody had to look: {out:#}");

    // What the CRM's webhooks about our own writes said is known, and nobody tells of it: only of the stage that HubSpot gave it.
    let so_far = history(&told);
    let so_far: Vec<&str> = so_far.iter().map(|entry| text(entry, "/what")).collect();
    assert_eq!(so_far, ["wrote-external", "wrote-internal", "created-external"], "{told:#}");
    entry(&told, "wrote-internal", "/lifecycle_stage")?;

    // To System A.
    let portal = house.customer("acme")?.info.portal_id;
    house.control.person_edits(portal, external, &[("city", "Bonn")]).await?;
    let inward = until("the edit in the CRM is told", SOON, async || {
        let told = explained(&house, "acme", &id, "").await?;
        let newest = entries(&told, "wrote-internal", "/city").into_iter().next().unwrap_or_default();
        let is_it = newest.pointer("/delta/~1city/external") == Some(&json!("Bonn"));
        Ok(if is_it { Ok(newest) } else { Err(told.to_string()) })
    })
    .await?;
    assert_eq!(text(&inward, "/cause"), "webhook");
    assert_eq!(inward["differs"], json!({ "/city": "external" }));
    assert_eq!(inward["noticed"]["said"], json!("partial"));
    assert!(text(&inward, "/noticed/author").starts_with("CRM_UI userId:"), "{inward:#}");
    assert_eq!((&inward["seen"]["extent"], &inward["seen"]["origin"]), (&json!("whole"), &json!("read")));
    assert!(inward["seen"]["stamp"].as_u64().is_some(), "{inward:#}");
    assert_eq!(inward["exchanges"][0]["operation"], json!("read"));
    assert_eq!(inward["exchanges"][0]["answer"], json!("current"));
    assert_eq!(inward["ruling"], json!("rule everybody: sync"));

    // An answer that is lost, and what became of it.
    house.quiet(SOON).await?;
    let lost = FaultOrder::new(FaultKind::DropAfter).operation("contacts.update").times(1).portal(portal);
    house.control.order(&lost).await?;
    edit(&house, "acme", &id, &json!({ "company_name": "Secret & Sons" })).await?;
    let (unknown, settled) = until("it is told how a lost answer ended", SOON, async || {
        let told = explained(&house, "acme", &id, "").await?;
        let unknown = history(&told).into_iter().find(|entry| entry["what"] == json!("unknown"));
        Ok(match (unknown, entry(&told, "settled", "/company_name")) {
            (Some(unknown), Ok(settled)) => Ok((unknown, settled)),
            _ => Err(told.to_string()),
        })
    })
    .await?;
    assert_eq!(
        (&unknown["exchanges"][0]["status"], &unknown["exchanges"][0]["answer"]),
        (&json!(0), &json!("unknown"))
    );
    assert_eq!(settled["exchanges"][0]["operation"], json!("read"), "by looking: {settled:#}");

    // A refusal, in the CRM's words without the record's.
    house.quiet(SOON).await?;
    edit(&house, "acme", &id, &json!({ "email": "ann@localhost" })).await?;
    let aside = told_of(&house, "acme", &id, "set-aside", "/email").await?;
    assert!(text(&aside, "/why").starts_with("rejected: /email: "), "{aside:#}");
    assert_eq!(aside["exchanges"][0]["answer"], json!("rejected"));

    // Values stand in deltas and nowhere else.
    let told = explained(&house, "acme", &id, "").await?;
    for mut entry in history(&told) {
        for values in ["delta", "before"] {
            entry.as_object_mut().unwrap().remove(values);
        }
        for value in ["ann@", "Head", "Chief", "Bonn", "Secret"] {
            assert!(!entry.to_string().contains(value), "{value} is in {entry:#}");
        }
    }

    let (status, said, _) = run(&house, &["explain", "contact", &id, "--scope", "acme"])?;
    assert_eq!(status, 0);
    for words in [
        "wrote-external  after edit",
        "/job_title: \"Chief\", was \"Head\", changed in System A",
        "; it told of some fields, changed by CRM_UI userId:",
        "saw the whole record by a read",
        "rule everybody: sync",
        "update: 1 request, ",
        "no answer, unknown",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_has_a_story_of_its_own_and_a_moment_between_two_edits_knows_the_first_only()
-> Result<(), Error> {
    let mut house = House::build(plan(&["acme"], "")).await?;
    house.walked(SOON).await?;
    let before = now();
    let first = json!({ "email": "ann@acme.example", "job_title": "Head", "city": "Ulm" });
    let (id, _) = made(&house, "acme", &first).await?;
    edit(&house, "acme", &id, &json!({ "job_title": "Chief" })).await?;
    let chief =
        told_of(&house, "acme", &id, "wrote-external", "/job_title").await?["at"].as_u64().ok_or("at")?;
    edit(&house, "acme", &id, &json!({ "city": "Bonn" })).await?;
    told_of(&house, "acme", &id, "wrote-external", "/city").await?;
    edit(&house, "acme", &id, &json!({ "job_title": "Boss" })).await?;
    until("the last edit is told", SOON, async || {
        let told = explained(&house, "acme", &id, "").await?;
        Ok(if entries(&told, "wrote-external", "/job_title").len() == 2 {
            Ok(())
        } else {
            Err(told.to_string())
        })
    })
    .await?;

    let story = explained(&house, "acme", &id, "&field=/job_title").await?;
    let moved: Vec<&str> = history(&story)
        .iter()
        .map(|entry| match entry.pointer("/delta/~1job_title/external").and_then(Value::as_str) {
            Some("Boss") => "Boss",
            Some("Chief") => "Chief",
            Some("Head") => "Head",
            _ => "something else",
        })
        .collect();
    assert_eq!(moved, ["Boss", "Chief", "Head"], "{story:#}");
    assert_eq!(story["links"][0]["base"].as_object().map(serde_json::Map::len), Some(1), "{story:#}");

    // Also after a restart: what is asked of is on disk.
    house.stop().await?;
    house.start().await?;
    let at = explained(&house, "acme", &id, &format!("&at={chief}")).await?;
    let base = |field: &str| at.pointer(&format!("/past/0/base/{}", field.replace('/', "~1"))).cloned();
    assert_eq!(base("/job_title"), Some(json!({ "internal": "Chief", "external": "Chief" })), "{at:#}");
    assert_eq!(base("/city"), Some(json!({ "internal": "Ulm", "external": "Ulm" })), "{at:#}");
    assert_eq!(text(&at, "/past/0/last/what"), "wrote-external");
    assert_eq!(at["past"][0]["last"]["at"], json!(chief));
    assert!(
        history(&at).iter().all(|entry| entry["at"].as_u64() <= Some(chief)),
        "nothing later is told: {at:#}"
    );
    let now = at.pointer("/links/0/base/~1job_title/external");
    assert_eq!(now, Some(&json!("Boss")), "beside what is known today");

    let at = explained(&house, "acme", &id, &format!("&at={before}")).await?;
    assert_eq!(at["past"][0]["is_before_first"], json!(true), "{at:#}");
    assert_eq!((&at["past"][0]["base"], history(&at).len()), (&json!({}), 0));

    let moment = format!("{}.{:03}Z", stamp(chief), chief % 1_000);
    let arguments = ["explain", "contact", &id, "--scope", "acme", "--field", "/job_title", "--at", &moment];
    let (status, said, error) = run(&house, &arguments)?;
    assert_eq!(status, 0, "{error}");
    assert!(said.contains("/job_title  \"Chief\"   =") && !said.contains("/city"), "{said}");
    let (status, said, error) = run(&house, &["explain", "contact", &id, "--scope", "acme", "--at", "-0s"])?;
    assert_eq!(status, 0, "{error}");
    assert!(said.contains("As of ") && said.matches("\"Boss\"").count() >= 2, "{said}");
    let (status, _, error) =
        run(&house, &["explain", "contact", &id, "--scope", "acme", "--at", "yesterday"])?;
    assert!(status == 1 && error.contains("-2h"), "{error}");
    Ok(())
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0)
}

/// A moment in RFC 3339, to the second and without the zone.
fn stamp(at: u64) -> String {
    let (days, left) = (at / 86_400_000, at / 1_000 % 86_400);
    // Howard Hinnant's civil_from_days, for days after 1970.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", left / 3_600, left / 60 % 60, left % 60)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_bounded_and_what_was_known_at_a_moment_stays_right_as_far_as_it_reaches()
-> Result<(), Error> {
    const EDITS: u64 = 48;
    let house = House::build(plan(&["acme"], "")).await?;
    house.walked(SOON).await?;
    let first = json!({ "email": "ann@acme.example", "job_title": "first of all", "city": "Ulm" });
    let (id, _) = made(&house, "acme", &first).await?;
    // Long notes fill the history; the job title is what it was until the very end.
    let mut moments: Vec<(u64, String)> = Vec::new();
    for number in 0..EDITS {
        let notes = format!("{number}: {}", "n".repeat(1_500));
        edit(&house, "acme", &id, &json!({ "notes": notes })).await?;
        let at = until("the edit is told", SOON, async || {
            let told = explained(&house, "acme", &id, "&field=/notes").await?;
            let newest = history(&told).into_iter().next().unwrap_or_default();
            let arrived =
                newest.pointer("/delta/~1notes/external").and_then(Value::as_str) == Some(notes.as_str());
            Ok(if arrived { newest["at"].as_u64().ok_or_else(String::new) } else { Err(newest.to_string()) })
        })
        .await?;
        moments.push((at, notes));
    }
    edit(&house, "acme", &id, &json!({ "job_title": "last of all" })).await?;
    told_of(&house, "acme", &id, "wrote-external", "/job_title").await?;

    let told = explained(&house, "acme", &id, "").await?;
    let kept = history(&told);
    assert!(kept.len() < usize::try_from(EDITS)?, "the oldest are gone: {} are kept", kept.len());
    assert!(entries(&told, "created-external", "/email").is_empty());
    let bytes: usize =
        kept.iter().map(|entry| entry["delta"].to_string().len() + entry["before"].to_string().len()).sum();
    // The halves are equal and stored once, but shown twice.
    assert!(bytes / 2 < 33 << 10, "{bytes} bytes of values are shown of {} entries", kept.len());

    let oldest = kept.last().and_then(|entry| entry["at"].as_u64()).ok_or("nothing is kept")?;
    let (mut known, mut beyond) = (0, 0);
    for (at, notes) in &moments {
        let told = explained(&house, "acme", &id, &format!("&at={at}")).await?;
        let past = &told["past"][0];
        if *at < oldest {
            assert_eq!((&past["short_of"], &past["base"]), (&json!(oldest), &json!({})), "{past:#}");
            beyond += 1;
            continue;
        }
        let half = |field: &str| past.pointer(&format!("/base/{field}/internal")).cloned();
        assert_eq!(past["short_of"], Value::Null, "{past:#}");
        assert_eq!(half("~1notes"), Some(json!(notes)));
        // Its last change before the moment is in an entry that is gone, or it was never changed.
        assert_eq!(half("~1job_title"), Some(json!("first of all")), "at {at}");
        assert_eq!(half("~1city"), Some(json!("Ulm")));
        known += 1;
    }
    assert!(known > 5 && beyond > 5, "{known} moments are known, {beyond} are not");
    let (at, _) = &moments[0];
    let (_, said, _) = run(&house, &["explain", "contact", &id, "--scope", "acme", "--at", &at.to_string()])?;
    assert!(said.contains("acme: not known any more; the history that is kept of it begins "), "{said}");
    println!("{} of {} entries are kept; {known} moments are known, {beyond} are not", kept.len(), EDITS + 2);
    Ok(())
}

// ---- review ----

async fn reviews(house: &House, more: &str) -> Result<Vec<Value>, Error> {
    Ok(house.get(&format!("/v1/review?{more}")).await?.as_array().cloned().unwrap_or_default())
}

/// The held groups of a record, by name, once their values in the CRM are these.
async fn held(house: &House, id: &str, wanted: &[(&str, &str, &str)]) -> Result<Vec<Value>, Error> {
    until("both sides' values are under review", SOON, async || {
        let found = reviews(house, &format!("object=contact&id={id}&kind=held")).await?;
        let has = |(group, field, value): &(&str, &str, &str)| {
            found.iter().any(|review| {
                review["group"] == json!(group)
                    && review["external_values"].get(*field) == Some(&json!(value))
            })
        };
        Ok(if found.len() == wanted.len() && wanted.iter().all(has) {
            Ok(found)
        } else {
            Err(json!(found).to_string())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_decided_field_by_field_and_not_on_values_that_have_changed_since() -> Result<(), Error> {
    let house = House::build(plan(&["acme"], "on_conflict = \"review\"")).await?;
    house.walked(SOON).await?;
    let first = json!({ "email": "ann@acme.example", "job_title": "Head", "street": "Old 1", "city": "Ulm" });
    let (id, external) = made(&house, "acme", &first).await?;
    let portal = house.customer("acme")?.info.portal_id;

    // Found while nothing may be written there: both edits are there before either is carried over.
    house.post("/v1/pause", &json!({ "connection": "acme", "direction": "to-external" })).await?;
    edit(&house, "acme", &id, &json!({ "job_title": "Chief", "street": "Ours 3", "city": "Berlin" })).await?;
    house
        .control
        .person_edits(portal, external, &[("jobtitle", "Boss"), ("city", "Bonn"), ("address", "Theirs 2")])
        .await?;
    let shown =
        held(&house, &id, &[("/job_title", "/job_title", "Boss"), ("address", "/city", "Bonn")]).await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    house.quiet(SOON).await?;

    let address = shown.iter().find(|review| review["group"] == json!("address")).ok_or("no address")?;
    assert_eq!(
        address.pointer("/base/~1city"),
        Some(&json!({ "internal": "Ulm", "external": "Ulm" })),
        "{address:#}"
    );
    assert_eq!(address.pointer("/internal_values/~1city"), Some(&json!("Berlin")));
    assert_eq!(text(address, "/internal_said/by"), "api", "{address:#}");
    assert!(address["internal_said"]["at"].as_u64().is_some());
    assert!(text(address, "/external_said/by").starts_with("CRM_UI userId:"), "{address:#}");
    assert!(address["external_said"]["at"].as_u64().is_some(), "{address:#}");
    assert_eq!(address["choices"], json!(["internal", "external", "value"]));
    let (status, said, _) = run(&house, &["review", "list", "--connection", "acme", "--field", "/city"])?;
    assert!(status == 0 && said.contains("address") && !said.contains("/job_title"), "{said}");
    let (_, said, _) = run(&house, &["review", "show", "contact", &id])?;
    assert!(
        said.contains("AGREED")
            && said.contains("\"Ulm\"")
            && said.contains("by api, changed ")
            && said.contains("by CRM_UI userId:"),
        "{said}"
    );

    // While a person looks at it, the CRM's city changes once more, and System A's job title.
    house.control.person_edits(portal, external, &[("city", "Kiel")]).await?;
    edit(&house, "acme", &id, &json!({ "job_title": "Captain" })).await?;
    let fresh =
        held(&house, &id, &[("/job_title", "/job_title", "Boss"), ("address", "/city", "Kiel")]).await?;
    house.quiet(SOON).await?;
    let since = |reviews: &[Value], group: &str| {
        reviews.iter().find(|review| review["group"] == json!(group)).map(|review| review["since"].clone())
    };
    assert_eq!(since(&fresh, "address"), since(&shown, "address"), "held as long as before");

    let seen =
        |reviews: &[Value]| reviews.iter().map(|review| text(review, "/seen").to_owned()).collect::<Vec<_>>();
    let decide = |seen: Vec<String>| {
        json!({ "scope": "acme", "object": "contact", "id": id, "connection": "acme", "seen": seen, "choice": "internal",
            "fields": { "/city": "external", "/job_title": { "value": "Captain & Boss" } } })
    };
    let url = format!("{}/v1/review/decide", house.base);
    let stale = client()?.post(url).bearer_auth(ADMIN).json(&decide(seen(&shown))).send().await?;
    assert_eq!(stale.status().as_u16(), 409);
    let why: Value = stale.json().await?;
    let why = text(&why, "/detail");
    assert!(why.contains("the CRM's values of address have changed since they were shown"), "{why}");
    assert!(why.contains("System A's values of /job_title have changed since they were shown"), "{why}");
    assert!(!why.contains("Kiel") && !why.contains("Captain"), "without the values: {why}");
    assert_eq!(reviews(&house, &format!("id={id}")).await?.len(), 2, "nothing was decided");
    let (status, _, error) = run(
        &house,
        &[
            "review",
            "decide",
            "contact",
            &id,
            "--group",
            "address",
            "--take",
            "external",
            "--seen",
            text(address, "/seen"),
        ],
    )?;
    assert!(status == 1 && error.contains("nothing was decided"), "{error}");

    // Looked at again, and decided: each field for itself.
    let latest = reviews(&house, &format!("id={id}")).await?;
    assert_eq!(house.post("/v1/review/decide", &decide(seen(&latest))).await?, json!({ "count": 2 }));
    let wanted = [("job_title", "Captain & Boss"), ("street", "Ours 3"), ("city", "Kiel")];
    until("both sides have what was decided", SOON, async || {
        let ours = house.system_a("acme").read(&id).await?.unwrap_or_default();
        let dump = house.control.dump(portal).await?;
        let theirs =
            dump.records.iter().find(|record| !record.archived).map(|record| json!(record.properties));
        let theirs = theirs.unwrap_or_default();
        let same = wanted.iter().all(|(member, value)| {
            let property = match *member {
                "job_title" => "jobtitle",
                "street" => "address",
                other => other,
            };
            ours[*member] == json!(value) && theirs[property] == json!(value)
        });
        Ok(if same { Ok(()) } else { Err(format!("{ours} {theirs}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(reviews(&house, "").await?, Vec::<Value>::new());

    let told = explained(&house, "acme", &id, "").await?;
    entry(&told, "held", "/city")?;
    let decided = entry(&told, "decided", "/city")?;
    assert_eq!(text(&decided, "/cause"), "review");
    let why = text(&decided, "/why");
    assert!(why.contains("/job_title: another value") && why.contains("/city the CRM's value"), "{why}");
    for value in ["Captain", "Kiel", "Ours"] {
        assert!(!why.contains(value), "{why}");
    }
    let out = entry(&told, "wrote-external", "/street")?;
    assert!(text(&out, "/why").contains("decided in review"), "through the pipeline: {out:#}");
    entry(&told, "wrote-internal", "/city")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_decided_at_once_after_their_number_was_told() -> Result<(), Error> {
    let house = House::build(plan(&["acme"], "on_conflict = \"review\"")).await?;
    house.walked(SOON).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let mut people = Vec::new();
    for number in 0..4 {
        let document =
            json!({ "email": format!("p{number}@acme.example"), "job_title": "Head", "company_name": "Old" });
        people.push(made(&house, "acme", &document).await?);
    }
    house.post("/v1/pause", &json!({ "connection": "acme" })).await?;
    for (number, (id, external)) in people.iter().enumerate() {
        house.control.person_edits(portal, *external, &[("jobtitle", "Boss"), ("company", "Theirs")]).await?;
        // The last one's company is in conflict, and not its job title.
        let ours =
            if number < 3 { json!({ "job_title": "Chief" }) } else { json!({ "company_name": "Ours" }) };
        edit(&house, "acme", id, &ours).await?;
    }
    // Nothing is held while something else of the record would have to be written: it is found when that may be.
    house.post("/v1/resume", &json!({ "connection": "acme", "direction": "to-internal" })).await?;
    until("four groups are held", SOON, async || {
        let found = reviews(&house, "").await?;
        Ok(if found.len() == 4 { Ok(()) } else { Err(json!(found).to_string()) })
    })
    .await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    house.quiet(SOON).await?;

    let many =
        ["review", "decide", "contact", "--all", "internal", "--connection", "acme", "--only", "/job_title"];
    let (status, _, error) = run(&house, &many)?;
    assert_eq!(status, 1);
    assert!(error.contains("3 groups of 3 records would take System A's values; say --yes"), "{error}");
    assert_eq!(reviews(&house, "").await?.len(), 4, "nothing was decided");
    let order = json!({ "filter": { "field": "/job_title" }, "take": "internal", "expected": 2 });
    let url = format!("{}/v1/review/decide-many", house.base);
    let refused = client()?.post(url).bearer_auth(ADMIN).json(&order).send().await?;
    assert_eq!(refused.status().as_u16(), 409, "another number than was told");

    let (status, said, error) = run(&house, &[&many[..], &["--yes"]].concat())?;
    assert_eq!((status, said.as_str()), (0, "decided 3 groups\n"), "{error}");
    house.quiet(SOON).await?;
    let left = reviews(&house, "").await?;
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0]["group"], json!("/company_name"));
    let dump = house.control.dump(portal).await?;
    let chiefs = dump
        .records
        .iter()
        .filter(|record| record.properties.get("jobtitle").is_some_and(|title| title == "Chief"));
    assert_eq!(chiefs.count(), 3);
    Ok(())
}
