//! What only Pipedrive has, in the real daemon against the simulator: lists of addresses and numbers, its webhook, the windows of a
//! small plan, kinds of custom fields, and where its secrets are not. What all CRMs have in common is in `crms`.
//!
//! What is asserted is what the account and System A show; tests print what they counted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::crm::Crm;
use tandem_e2e::house::House;
use tandem_e2e::marker::Markers;
use tandem_e2e::memory::Shim;
use tandem_e2e::pipedrive::{CLIENT_SECRET, Customer, Wanted, field, plan};
use tandem_e2e::system_a::Listed;
use tandem_e2e::{Error, client, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedCall, NotedWrite, WriteKind, Writer};
use tandem_simulator::pipedrive::control::PipedriveQuota;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);

/// A customer, and what tests ask of the account and of System A.
struct Stage {
    house: House,
    customer: Customer,
    crm: Crm,
}

impl Stage {
    async fn new(wanted: &Wanted) -> Result<Self, Error> {
        let house = House::build(plan()).await?;
        house.bring_pipedrive()?;
        let customer = house.pipedrive_customer(wanted).await?;
        let crm = house.pipedrive_crm(&customer);
        Ok(Self { house, customer, crm })
    }

    fn scope(&self) -> &str {
        &self.customer.scope
    }

    /// Everybody in the account, deleted ones too, past every limit.
    async fn persons(&self) -> Result<Vec<Value>, Error> {
        Ok(self.house.control.pipedrive_dump(self.customer.company()).await?.persons)
    }

    async fn person(&self, id: &str) -> Result<Value, Error> {
        let all = self.persons().await?;
        let number: u64 = id.parse()?;
        let found = all.into_iter().find(|person| person["id"] == number);
        found.ok_or_else(|| format!("no person {id}").into())
    }

    /// How many are in the account and not deleted.
    async fn live(&self) -> Result<usize, Error> {
        Ok(self.house.control.pipedrive_counts(self.customer.company()).await?.live)
    }

    async fn all_arrive(&self, many: usize) -> Result<(), Error> {
        until(&format!("all {many} are in the account"), LONG, async || {
            let live = self.live().await?;
            Ok(if live == many { Ok(()) } else { Err(format!("{live} of {many}")) })
        })
        .await
    }

    async fn create(&self, document: &Value) -> Result<String, Error> {
        let answer = self.house.system_a(self.scope()).create(document).await?;
        answer.id.ok_or_else(|| format!("not taken: {}", answer.body).into())
    }

    async fn create_many(&self, documents: &[Value]) -> Result<Vec<String>, Error> {
        let lines: Vec<Value> =
            documents.iter().map(|document| json!({ "op": "create", "document": document })).collect();
        let answers = self.house.system_a(self.scope()).batch(&lines).await?;
        let ids: Vec<String> =
            answers.iter().filter_map(|answer| Some(answer["id"].as_str()?.to_owned())).collect();
        assert_eq!(ids.len(), documents.len(), "{answers:?}");
        Ok(ids)
    }

    async fn patch(&self, id: &str, patch: &Value) -> Result<(), Error> {
        let answer = self.house.system_a(self.scope()).patch(id, patch).await?;
        assert!(answer.status.is_success(), "{} {}", answer.status, answer.body);
        Ok(())
    }

    /// A record of System A without what has no value.
    async fn document(&self, id: &str) -> Result<Value, Error> {
        let document = self.house.system_a(self.scope()).read(id).await?.ok_or("no such record")?;
        Ok(valued(&document))
    }

    /// Waits until System A has somebody with this address; gives the id.
    async fn taken_in(&self, email: &str) -> Result<String, Error> {
        until(&format!("{email} is in System A"), SOON, async || {
            let records = self.house.system_a(self.scope()).list().await?;
            let is = |record: &&Listed| {
                record.document["email"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(email))
            };
            let found = records.iter().find(is);
            Ok(found.map(|record| record.id.clone()).ok_or_else(|| format!("{} records", records.len())))
        })
        .await
    }

    /// Waits until the account has somebody with this address; gives the id.
    async fn carried(&self, email: &str) -> Result<String, Error> {
        until(&format!("{email} is in the account"), SOON, async || {
            let contacts = self.crm.list().await?;
            let found = contacts.iter().find(|contact| {
                self.crm.canonical(contact).get("email").is_some_and(|it| it.eq_ignore_ascii_case(email))
            });
            Ok(found.map(|contact| contact.id.clone()).ok_or_else(|| format!("{} persons", contacts.len())))
        })
        .await
    }

    /// The members of a person by their canonical names.
    async fn seen(&self, id: &str) -> Result<BTreeMap<&'static str, String>, Error> {
        let contacts = self.crm.list().await?;
        let contact = contacts.iter().find(|contact| contact.id == id).ok_or("no such person")?;
        Ok(self.crm.canonical(contact))
    }

    /// Waits until both sides have this value.
    async fn agree(&self, internal: &str, external: &str, member: &str, value: &str) -> Result<(), Error> {
        until(&format!("both sides have {value} as {member}"), SOON, async || {
            let here = self.document(internal).await?[member].clone();
            let there = self.seen(external).await?.get(member).cloned().unwrap_or_default();
            Ok(if here == json!(value) && there == value {
                Ok(())
            } else {
                Err(format!("{here} and {there:?}"))
            })
        })
        .await
    }

    /// Waits until the second of the last write of a person is over. Times there are whole seconds: what somebody edits within the
    /// second of our own write cannot be told from what the account made of it.
    async fn second_is_over(&self, external: &str) -> Result<(), Error> {
        let writes = self.crm.writes().await?;
        let of_person = writes.iter().filter(|write| write.id.as_deref() == Some(external));
        let last = of_person.map(|write| write.at.div_euclid(1_000)).max().ok_or("it was never written")?;
        until("the second is over", SOON, async || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
            Ok(if i64::try_from(now)? > last { Ok(()) } else { Err(now.to_string()) })
        })
        .await
    }

    /// What clients of the API wrote.
    async fn written(&self) -> Result<Vec<NotedWrite>, Error> {
        Ok(self.crm.writes().await?.into_iter().filter(|write| write.by == Writer::Api).collect())
    }

    async fn calls(&self) -> Result<Vec<NotedCall>, Error> {
        Ok(self.house.control.pipedrive_calls(self.customer.company()).await?)
    }

    /// Calls and tokens so far, in words.
    async fn costs(&self) -> Result<String, Error> {
        let counts = self.house.control.pipedrive_counts(self.customer.company()).await?;
        let calls: Vec<String> =
            counts.operations.iter().map(|(name, counts)| format!("{name} {}", counts.calls)).collect();
        Ok(format!("{} tokens; {}", counts.tokens, calls.join(", ")))
    }

    async fn row(&self) -> Result<Value, Error> {
        let status = self.house.get(&format!("/v1/status?connection={}", self.scope())).await?;
        Ok(status["connections"][0].clone())
    }

    async fn waits_for(&self, cause: &str, word: &str) -> Result<(), Error> {
        until(&format!("the status says {cause}"), LONG, async || {
            let row = self.row().await?;
            let told = row["detail"].as_str().is_some_and(|detail| detail.contains(word));
            Ok(if row["cause"] == json!(cause) && told { Ok(()) } else { Err(row.to_string()) })
        })
        .await
    }

    /// Nothing was set aside, and no request was made that the description does not allow.
    async fn is_sound(&self) -> Result<(), Error> {
        let dead = self.house.get("/v1/dead?limit=10").await?;
        if dead != json!([]) {
            return Err(format!("set aside: {dead}").into());
        }
        let violations = self.house.control.violations().await?;
        if violations.total == 0 {
            Ok(())
        } else {
            Err(format!("not allowed: {:?}", violations.listed).into())
        }
    }

    /// What is told of a failure: where everything is kept.
    fn keeping(mut self, result: Result<(), Error>) -> Result<(), Error> {
        result.map_err(|error| {
            let log = self.house.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            format!("{error}; everything is kept in {}\n{end}", self.house.keep().display()).into()
        })
    }
}

/// Runs a test on a stage; where it fails, the house's folder is kept and named.
async fn on(stage: Stage, test: impl AsyncFnOnce(&mut Stage) -> Result<(), Error>) -> Result<(), Error> {
    let mut stage = stage;
    let mut result = Box::pin(test(&mut stage)).await;
    if result.is_ok() {
        result = stage.is_sound().await;
    }
    stage.keeping(result)
}

/// A document without members that have no value.
fn valued(document: &Value) -> Value {
    let members = document.as_object().into_iter().flatten();
    let members = members.filter(|(_, value)| !value.is_null());
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn numbered(number: usize) -> Value {
    json!({
        "email": format!("p{number}@acme.example"), "given_name": format!("Pat {number}"),
        "family_name": format!("Person {number}"), "phone": format!("+44 20 7946 {number:04}"),
        "job_title": format!("Pilot {number}"), "city": "Ulm",
    })
}

// ---- persons ----

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_named_whole_and_read_by_the_entries_that_are_meant() -> Result<(), Error> {
    on(Stage::new(&Wanted::new("acme")).await?, async |stage| {
        let ann = json!({ "email": "ann@acme.example", "given_name": "Mary Ann", "family_name": "van der Berg" });
        let made = stage.create(&ann).await?;
        let id = stage.carried("ann@acme.example").await?;
        let person = stage.person(&id).await?;
        assert_eq!(person["name"], "Mary Ann van der Berg");
        let key = person["custom_fields"][stage.customer.key_field()].as_str().unwrap_or_default();
        assert!(key.len() > 8, "Tandem's key is there: {person}");

        let bob = json!({
            "first_name": "Bob", "last_name": "Li", "job_title": "Pilot", "birthday": "1990-12-31",
            "emails": [{ "value": "old@acme.example", "label": "home" },
                       { "value": "bob@acme.example", "primary": true, "label": "work" }],
            "phones": [{ "value": "+372 5555 0001", "primary": true, "label": "mobile" },
                       { "value": "+372 600 0002", "label": "work" }],
            "postal_address": { "value": "Pikk 5, Tallinn", "route": "Pikk", "street_number": "5", "locality": "Tallinn" },
        });
        stage.house.control.pipedrive_person_creates(stage.customer.company(), bob).await?;
        let internal = stage.taken_in("bob@acme.example").await?;
        let document = json!({
            "email": "bob@acme.example", "given_name": "Bob", "family_name": "Li", "phone": "+372 600 0002",
            "mobile_phone": "+372 5555 0001", "job_title": "Pilot", "date_of_birth": "1990-12-31", "street": "Pikk 5",
            "city": "Tallinn",
        });
        assert_eq!(stage.document(&internal).await?, document);
        stage.house.quiet(SOON).await?;
        let written = stage.written().await?;
        let kinds: Vec<WriteKind> = written.iter().map(|write| write.kind).collect();
        assert_eq!(kinds, [WriteKind::Create], "one create, and nothing else was written: {written:?}");
        println!("a create each way: {}", stage.costs().await?);

        // What is deleted stays in Pipedrive's bin.
        stage.house.system_a("acme").delete(&made).await?;
        until("it is deleted in the account", SOON, async || {
            let person = stage.person(&id).await?;
            Ok(if person["is_deleted"] == true { Ok(()) } else { Err(person.to_string()) })
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_one_field_crosses_and_leaves_everything_else_alone() -> Result<(), Error> {
    on(Stage::new(&Wanted::new("acme")).await?, async |stage| {
        let company = stage.customer.company();
        let given = json!({
            "first_name": "Ann", "last_name": "Li", "job_title": "Head", "notes": "Kept.", "label_ids": [2], "visible_to": 7,
            "emails": [{ "value": "ann@acme.example", "primary": true, "label": "work" },
                       { "value": "ann@home.example", "label": "home" }],
            "phones": [{ "value": "+44 1", "label": "home" },
                       { "value": "+44 7700 900123", "label": "mobile" },
                       { "value": "+44 20 7946 0018", "primary": true, "label": "work" }],
            "postal_address": { "value": "1 High Street, London", "route": "1 High Street", "locality": "London",
                                "sublocality": "Soho" },
        });
        stage.house.control.pipedrive_person_creates(company, given).await?;
        let internal = stage.taken_in("ann@acme.example").await?;
        let external = stage.carried("ann@acme.example").await?;
        stage.house.quiet(SOON).await?;

        // What each edit of System A changes in the account, by the person's member.
        for (patch, member, place, value) in [
            (json!({ "phone": "+44 20 7946 0999" }), "phones", "/phones/2/value", json!("+44 20 7946 0999")),
            (json!({ "email": "ann.li@acme.example" }), "emails", "/emails/0/value", json!("ann.li@acme.example")),
            (json!({ "city": "Leeds" }), "postal_address", "/postal_address/locality", json!("Leeds")),
            (json!({ "job_title": "Chief" }), "job_title", "/job_title", json!("Chief")),
            (json!({ "family_name": null }), "last_name", "/last_name", Value::Null),
        ] {
            let (before, here) = (stage.person(&external).await?, stage.document(&internal).await?);
            stage.patch(&internal, &patch).await?;
            until(&format!("{patch} arrives"), SOON, async || {
                let person = stage.person(&external).await?;
                let there = person.pointer(place).cloned().unwrap_or_default();
                Ok(if there == value { Ok(()) } else { Err(person.to_string()) })
            })
            .await?;
            stage.house.quiet(SOON).await?;
            let after = stage.person(&external).await?;
            let differ: Vec<&String> = before.as_object().unwrap().keys().filter(|it| before[*it] != after[*it]).collect();
            let expected: &[&str] = if member == "last_name" { &["name", "last_name"] } else { &[member] };
            let differ: Vec<&str> =
                differ.into_iter().map(String::as_str).filter(|it| *it != "update_time").collect();
            assert_eq!(differ, expected, "{patch}: {before} {after}");
            // Of a list or an address only what is meant.
            if let (Some(old), Some(new)) = (before[member].as_array(), after[member].as_array()) {
                let changed = old.iter().zip(new).filter(|(old, new)| old != new).count();
                assert_eq!((old.len(), changed), (new.len(), 1), "{patch}: {before} {after}");
            }
            assert_eq!(after["postal_address"]["sublocality"], "Soho");
            let mut wanted = here;
            for (name, value) in patch.as_object().unwrap() {
                wanted[name] = value.clone();
            }
            assert_eq!(stage.document(&internal).await?, valued(&wanted));
            let last = stage.written().await?.pop().ok_or("nothing was written")?;
            let sent: Vec<&str> = last.members.keys().map(String::as_str).collect();
            let expected: &[&str] = if member == "last_name" { &["first_name", "last_name"] } else { &[member] };
            assert_eq!(sent, expected, "no more is sent than was edited");
        }

        // And the other way.
        let writes = stage.written().await?.len();
        for (member, value) in [("job_title", "Captain"), ("mobile_phone", "+44 7700 900999"), ("city", "York")] {
            let before = stage.document(&internal).await?;
            stage.second_is_over(&external).await?;
            stage.crm.edit(&external, &[(member, value)]).await?;
            stage.agree(&internal, &external, member, value).await?;
            stage.house.quiet(SOON).await?;
            let mut wanted = before;
            wanted[member] = json!(value);
            assert_eq!(stage.document(&internal).await?, wanted, "{member}");
        }
        assert_eq!(stage.written().await?.len(), writes, "nothing of it is written back");
        println!("five edits there and three back: {}", stage.costs().await?);
        Ok(())
    })
    .await
}

/// Which fields there are is the account's to say: contact sync alone has job titles.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_before_the_account_was_asked_about_itself_is_carried_whole() -> Result<(), Error> {
    let house = House::build(plan()).await?;
    house.bring_pipedrive()?;
    let wanted = Wanted::new("acme");
    let customer = house.pipedrive_account(&wanted).await?;
    let crm = house.pipedrive_crm(&customer);
    on(Stage { house, customer, crm }, async |stage| {
        let slow = FaultOrder::new(FaultKind::Latency { ms: 3_000, jitter_ms: 0 });
        let slow = slow.operation("person-fields.list").portal(stage.customer.company());
        stage.house.control.order(&slow).await?;
        stage.house.connect_pipedrive(&stage.customer, &wanted)?;
        until("the connection is known", LONG, async || {
            Ok(stage.row().await.map_err(|error| error.to_string()).and_then(|row| {
                if row["connection"] == json!("acme") { Ok(()) } else { Err(row.to_string()) }
            }))
        })
        .await?;
        stage.create(&numbered(1)).await?;
        let external = stage.carried("p1@acme.example").await?;
        assert_eq!(stage.seen(&external).await?.get("job_title").map(String::as_str), Some("Pilot 1"));
        Ok(())
    })
    .await
}

// ---- webhooks ----

#[tokio::test(flavor = "multi_thread")]
async fn one_webhook_is_made_and_only_its_password_opens_the_door() -> Result<(), Error> {
    on(Stage::new(&Wanted::new("acme")).await?, async |stage| {
        let company = stage.customer.company();
        let control = stage.house.control.clone();
        let webhooks = async || Ok::<_, Error>(control.pipedrive_webhooks(company).await?);
        let made = webhooks().await?;
        let [hook] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!(
            (hook.action.as_str(), hook.object.as_str(), hook.url.as_str()),
            ("*", "person", stage.customer.callback().as_str())
        );

        let internal = stage.create(&numbered(1)).await?;
        let external = stage.carried("p1@acme.example").await?;
        stage.house.quiet(SOON).await?;
        let forged = json!({
            "data": { "id": external.parse::<u64>()?, "job_title": "Forged", "update_time": "2099-01-01T00:00:00Z" },
            "previous": { "job_title": "Pilot 1" },
            "meta": { "action": "change", "entity": "person", "entity_id": external, "change_source": "app", "version": "2.0" },
        });
        let door = format!("{}/hooks/connection/acme", stage.house.base);
        for password in [None, Some("wrong"), Some("")] {
            let request = client()?.post(&door).json(&forged);
            let request = match password {
                Some(password) => request.basic_auth(stage.customer.webhook_user(), Some(password)),
                None => request,
            };
            let status = request.send().await?.status().as_u16();
            assert_eq!(status, 401, "{password:?}");
        }
        stage.house.quiet(SOON).await?;
        assert_eq!(stage.document(&internal).await?["job_title"], "Pilot 1");

        // It is kept over a restart, and what is told meanwhile is told again.
        stage.second_is_over(&external).await?;
        stage.house.stop().await?;
        stage.crm.edit(&external, &[("job_title", "Captain")]).await?;
        stage.house.start().await?;
        stage.agree(&internal, &external, "job_title", "Captain").await?;
        let again = webhooks().await?;
        assert_eq!((again.len(), again[0].id), (1, hook.id), "none is made twice");
        Ok(())
    })
    .await
}

/// A registration is asked for before anybody waits for it, looked after while it stands, and ended with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_once_though_its_answer_is_lost_made_anew_when_it_is_gone_and_ended()
-> Result<(), Error> {
    let house = House::build(plan()).await?;
    house.bring_pipedrive()?;
    let wanted = Wanted::new("acme").settings("watch_every_ms = 10000");
    let customer = house.pipedrive_account(&wanted).await?;
    let crm = house.pipedrive_crm(&customer);
    on(Stage { house, customer, crm }, async |stage| {
        let company = stage.customer.company();
        let control = stage.house.control.clone();
        let webhooks = async || Ok::<_, Error>(control.pipedrive_webhooks(company).await?);
        let stands = async |except: Option<u64>| {
            until("one webhook stands", LONG, async || {
                let standing = webhooks().await?;
                let one = matches!(standing.as_slice(), [hook] if Some(hook.id) != except);
                Ok(if one { Ok(standing[0].id) } else { Err(format!("{standing:?}")) })
            })
            .await
        };
        let lost = FaultOrder::new(FaultKind::DropAfter).operation("hooks.create").portal(company).times(1);
        let lost = control.order(&lost).await?;
        stage.house.connect_pipedrive(&stage.customer, &wanted)?;
        until("the answer is lost and told of", LONG, async || {
            let row = stage.row().await.unwrap_or_default();
            Ok(if row.to_string().contains("no webhooks, it is asked for what changed") {
                Ok(())
            } else {
                Err(row.to_string())
            })
        })
        .await?;
        let made = stands(None).await?;
        // What was tried is on disk: the next run finds the one that was made.
        stage.house.kill().await?;
        stage.house.start().await?;
        until("the next run has looked for it", LONG, async || {
            let (row, counts) = (stage.row().await?, control.pipedrive_counts(company).await?);
            let looked = counts.calls("hooks.list") >= 2 && !row.to_string().contains("no webhooks");
            Ok(if looked { Ok(()) } else { Err(format!("{row} {:?}", counts.operations)) })
        })
        .await?;
        assert_eq!(
            (
                stands(None).await?,
                control.faults().await?.faults.iter().find(|it| it.id == lost).map(|it| it.fired)
            ),
            (made, Some(1))
        );

        // Somebody removes it; it is missed at the next look, and what happens from then on is told.
        let gone = client()?
            .delete(format!("{}/api/v1/webhooks/{made}", stage.customer.account.api_domain))
            .header("x-api-token", &stage.customer.account.api_token)
            .send()
            .await?;
        assert!(gone.status().is_success(), "{}", gone.status());
        let anew = stands(Some(made)).await?;
        assert_ne!(anew, made);
        let internal = stage.create(&numbered(1)).await?;
        let external = stage.carried("p1@acme.example").await?;
        stage.house.quiet(SOON).await?;
        stage.second_is_over(&external).await?;
        stage.crm.edit(&external, &[("job_title", "Captain")]).await?;
        stage.agree(&internal, &external, "job_title", "Captain").await?;

        // The operator wants none any more.
        stage.house.connect_pipedrive(&stage.customer, &Wanted { pushes: false, ..wanted.clone() })?;
        until("none stands", LONG, async || {
            let standing = webhooks().await?;
            Ok(if standing.is_empty() { Ok(()) } else { Err(format!("{standing:?}")) })
        })
        .await?;
        // And one again, which goes with its connection.
        stage.house.connect_pipedrive(&stage.customer, &wanted)?;
        stands(None).await?;
        std::fs::remove_file(stage.house.connection_path("acme"))?;
        until("none stands without a connection", LONG, async || {
            let standing = webhooks().await?;
            Ok(if standing.is_empty() { Ok(()) } else { Err(format!("{standing:?}")) })
        })
        .await
    })
    .await
}

// ---- limits ----

/// The most calls that any two seconds have.
fn densest(calls: &[NotedCall], wanted: impl Fn(&NotedCall) -> bool) -> usize {
    let moments: Vec<i64> = calls.iter().filter(|call| wanted(call)).map(|call| call.at).collect();
    let from = |start: &i64| moments.iter().filter(|at| **at >= *start && **at < start + 2_000).count();
    moments.iter().map(from).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_small_plan_are_used_and_never_run_into() -> Result<(), Error> {
    const MANY: usize = 60;
    let small = PipedriveQuota { daily: None, ..PipedriveQuota::LITE };
    on(Stage::new(&Wanted::new("acme").limited(small)).await?, async |stage| {
        let begun = Instant::now();
        let ids = stage.create_many(&(0..MANY).map(numbered).collect::<Vec<_>>()).await?;
        stage.waits_for("quota", "").await?;
        stage.all_arrive(MANY).await?;
        // Edits cost no search: the window of all calls is the one that is met.
        for id in &ids {
            stage.patch(id, &json!({ "job_title": "Captain" })).await?;
        }
        until("all edits arrive", LONG, async || {
            let persons = stage.persons().await?;
            let there = persons.iter().filter(|person| person["job_title"] == "Captain").count();
            Ok(if there == MANY { Ok(()) } else { Err(format!("{there} of {MANY}")) })
        })
        .await?;
        stage.house.quiet(SOON).await?;
        let calls = stage.calls().await?;
        let searches = densest(&calls, |call| call.operation == "persons.search");
        let all = densest(&calls, |_| true);
        let refused = calls.iter().filter(|call| call.status == Some(429)).count();
        println!(
            "{MANY} creates and edits in {} ms; two seconds had {all} calls of 20 and {searches} searches of 10; {}",
            begun.elapsed().as_millis(),
            stage.costs().await?
        );
        assert_eq!(refused, 0, "of {} calls", calls.len());
        assert!((18..=20).contains(&all), "two seconds had {all} calls: 20 are allowed");
        assert!(searches <= 10, "two seconds had {searches} searches: ten are allowed");
        assert_eq!(stage.live().await?, MANY);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_smaller_than_was_said_is_waited_for_and_nothing_is_lost() -> Result<(), Error> {
    const MANY: usize = 40;
    on(Stage::new(&Wanted::new("acme")).await?, async |stage| {
        let company = stage.customer.company();
        let ids = stage.create_many(&(0..MANY).map(numbered).collect::<Vec<_>>()).await?;
        stage.house.quiet(LONG).await?;
        let before = stage.calls().await?.len();
        let small = PipedriveQuota { token_burst: 10, ..Wanted::new("acme").account.quota };
        stage.house.control.set_pipedrive_quota(company, small).await?;
        for id in &ids {
            stage.patch(id, &json!({ "job_title": "Captain" })).await?;
        }
        until("all edits arrive", LONG, async || {
            let persons = stage.persons().await?;
            let there = persons.iter().filter(|person| person["job_title"] == "Captain").count();
            Ok(if there == MANY { Ok(()) } else { Err(format!("{there} of {MANY}")) })
        })
        .await?;
        let calls = stage.calls().await?.split_off(before);
        let refused = calls.iter().filter(|call| call.status == Some(429)).count();
        println!("{refused} of {} calls were refused before the limit was known", calls.len());
        // Those that are under way when it is met, no more: whoever goes on is shut out.
        assert!(refused <= 8, "{refused} of {} calls were refused", calls.len());
        Ok(())
    })
    .await
}

/// Pipedrive answers 403 with a page of markup to whoever goes on after 429, and does not say for how long.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_shuts_us_out_is_left_alone_and_nothing_is_lost() -> Result<(), Error> {
    const MANY: usize = 6;
    let mut wanted = Wanted::new("acme");
    wanted.account.settings.abuse_after = 1;
    wanted.account.settings.abuse_seconds = 86_400;
    on(Stage::new(&wanted).await?, async |stage| {
        let company = stage.customer.company();
        let ids = stage.create_many(&(0..MANY).map(numbered).collect::<Vec<_>>()).await?;
        stage.house.quiet(LONG).await?;
        let before = stage.calls().await?.len();
        let none = PipedriveQuota { token_burst: 0, ..wanted.account.quota };
        stage.house.control.set_pipedrive_quota(company, none).await?;
        stage.patch(&ids[0], &json!({ "job_title": "Captain" })).await?;
        stage.waits_for("quota", "min").await?;
        let calls = stage.calls().await?.split_off(before);
        let statuses: Vec<u16> = calls.iter().filter_map(|call| call.status).collect();
        println!("{statuses:?}, then {}", stage.row().await?["detail"]);
        assert_eq!(statuses, [429, 403], "one was refused, the next one was shut out");
        // Nothing is sent from then on, and what people do is kept.
        for id in ids.iter().skip(1) {
            stage.patch(id, &json!({ "job_title": "Captain" })).await?;
        }
        until("all edits wait", SOON, async || {
            let row = stage.row().await?;
            Ok(if row["delayed"] == json!(MANY) { Ok(()) } else { Err(row.to_string()) })
        })
        .await?;
        assert_eq!(stage.calls().await?.len(), before + 2, "somebody asked on");
        Ok(())
    })
    .await
}

/// A merge is told as the deletion of one person and the change of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_that_is_merged_into_another_is_followed_and_deletes_nobody() -> Result<(), Error> {
    on(Stage::new(&Wanted::new("acme")).await?, async |stage| {
        let company = stage.customer.company();
        let keeps = stage.create(&json!({ "email": "ann@acme.example", "family_name": "Berg" })).await?;
        let goes = stage
            .create(&json!({ "email": "an@acme.example", "family_name": "Berg", "job_title": "Pilot" }))
            .await?;
        let survivor = stage.carried("ann@acme.example").await?;
        let loser = stage.carried("an@acme.example").await?;
        stage.house.quiet(SOON).await?;
        stage.second_is_over(&survivor).await?;
        let written = stage.written().await?.len();
        stage.house.control.pipedrive_person_merges(company, loser.parse()?, survivor.parse()?).await?;
        stage.agree(&keeps, &survivor, "job_title", "Pilot").await?;
        until("the merge is in the review", SOON, async || {
            let list = stage.house.get("/v1/review?limit=100").await?;
            let rows: Vec<(&str, &str)> = list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| Some((row["kind"].as_str()?, row["entity"]["id"].as_str()?)))
                .collect();
            Ok(if rows == [("merged", goes.as_str())] { Ok(()) } else { Err(list.to_string()) })
        })
        .await?;
        stage.house.quiet(SOON).await?;
        assert_eq!(stage.document(&goes).await?["job_title"], "Pilot", "nobody deleted it");
        assert_eq!(stage.written().await?.len(), written, "nothing is written to the account");
        assert_eq!(stage.live().await?, 1);
        Ok(())
    })
    .await
}

// ---- custom fields ----

#[tokio::test(flavor = "multi_thread")]
async fn custom_fields_are_kept_the_same_as_the_settings_say() -> Result<(), Error> {
    const TIER: &str = "1111111111111111111111111111111111111111";
    const AREAS: &str = "2222222222222222222222222222222222222222";
    const FEE: &str = "3333333333333333333333333333333333333333";
    const SEATS: &str = "4444444444444444444444444444444444444444";
    const RENEWAL: &str = "5555555555555555555555555555555555555555";
    const SITE: &str = "6666666666666666666666666666666666666666";
    const TERM: &str = "7777777777777777777777777777777777777777";
    const OTHER: &str = "8888888888888888888888888888888888888888";
    let mut wanted = Wanted::new("acme").settings(&format!(
        "[settings.custom]\n\
         \"/custom/tier\" = {{ field = \"{TIER}\", type = \"enumeration\" }}\n\
         \"/custom/areas\" = {{ field = \"{AREAS}\", type = \"set\", options = {{ north = \"North\", south = \"South\", east = \"East\" }} }}\n\
         \"/custom/fee\" = {{ field = \"{FEE}\", type = \"decimal\" }}\n\
         \"/custom/seats\" = {{ field = \"{SEATS}\", type = \"integer\" }}\n\
         \"/custom/renewal\" = {{ field = \"{RENEWAL}\", type = \"date\" }}\n\
         \"/custom/begin\" = {{ field = \"{TERM}\", type = \"date\", direction = \"to-canonical\" }}\n\
         \"/website\" = {{ field = \"{SITE}\", type = \"text\" }}\n"
    ));
    let kinds: [(&str, &str, &str, &[&str]); 8] = [
        (TIER, "Tier", "enum", &["Gold", "Silver"]),
        (AREAS, "Areas", "set", &["North", "South", "East"]),
        (FEE, "Fee", "monetary", &[]),
        (SEATS, "Seats", "double", &[]),
        (RENEWAL, "Renewal", "date", &[]),
        (TERM, "Term", "daterange", &[]),
        (SITE, "Site", "varchar", &[]),
        (OTHER, "Other", "varchar", &[]),
    ];
    for (code, name, kind, options) in kinds {
        let mut field = field(name, kind, options);
        field.insert("field_code".to_owned(), code.into());
        wanted.account.fields.push(field);
    }
    on(Stage::new(&wanted).await?, async |stage| {
        let company = stage.customer.company();
        let api = stage.customer.api.clone();
        let option = async |code: &str, label: &str| api.option(code, label).await;
        let (gold, silver) = (option(TIER, "Gold").await?, option(TIER, "Silver").await?);
        let north = option(AREAS, "North").await?;
        let (south, east) = (option(AREAS, "South").await?, option(AREAS, "East").await?);
        let document = json!({
            "email": "ann@acme.example", "given_name": "Ann", "website": "https://example.com",
            "custom": { "tier": "Gold", "areas": ["north", "south"], "fee": "12.5", "seats": 3, "renewal": "2027-01-31" },
        });
        let internal = stage.create(&document).await?;
        let external = stage.carried("ann@acme.example").await?;
        let fields = stage.person(&external).await?["custom_fields"].clone();
        for (code, value) in [
            (TIER, json!(gold)),
            (AREAS, json!([north, south])),
            (FEE, json!({ "value": 12.5, "currency": "EUR" })),
            (SEATS, json!(3)),
            (RENEWAL, json!("2027-01-31")),
            (SITE, json!("https://example.com")),
            (TERM, Value::Null),
            (OTHER, Value::Null),
        ] {
            assert_eq!(fields.get(code).unwrap_or(&Value::Null), &value, "{fields}");
        }
        stage.house.quiet(SOON).await?;

        stage.second_is_over(&external).await?;
        let given = json!({ "custom_fields": {
            TIER: silver, AREAS: [south, east], FEE: { "value": 99.95, "currency": "USD" }, SEATS: 7, RENEWAL: null,
            SITE: "https://example.org", TERM: { "value": "2027-02-01", "until": "2027-02-28" }, OTHER: "not mapped",
        }});
        stage.house.control.pipedrive_person_edits(company, external.parse()?, given).await?;
        let expected = json!({ "areas": ["east", "south"], "begin": "2027-02-01", "fee": "99.95", "seats": 7, "tier": "Silver" });
        until("the edit comes to System A", SOON, async || {
            let here = stage.document(&internal).await?;
            let mut custom = valued(&here["custom"]);
            if let Some(areas) = custom["areas"].as_array_mut() {
                areas.sort_by_key(ToString::to_string);
            }
            let same = custom == expected && here["website"] == "https://example.org";
            Ok(if same { Ok(()) } else { Err(here.to_string()) })
        })
        .await?;
        stage.house.quiet(SOON).await?;

        // One is cleared, one is set: no other is sent. An amount keeps its currency.
        stage.patch(&internal, &json!({ "custom": { "tier": null, "fee": "100" } })).await?;
        until("the edit comes to the account", SOON, async || {
            let fields = stage.person(&external).await?["custom_fields"].clone();
            let tier = fields.get(TIER).cloned().unwrap_or_default();
            Ok(if tier == Value::Null { Ok(()) } else { Err(fields.to_string()) })
        })
        .await?;
        stage.house.quiet(SOON).await?;
        let fields = stage.person(&external).await?["custom_fields"].clone();
        assert_eq!((&fields[FEE]["currency"], fields[FEE]["value"].as_f64()), (&json!("USD"), Some(100.0)));
        assert_eq!((&fields[OTHER], &fields[SEATS]), (&json!("not mapped"), &json!(7)));
        let last = stage.written().await?.pop().ok_or("nothing was written")?;
        let sent: Vec<&String> = last.members["custom_fields"].as_object().unwrap().keys().collect();
        assert_eq!((last.members.len(), sent.len()), (1, 2), "{last:?}");
        Ok(())
    })
    .await
}

// ---- secrets ----

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_the_guest_sees_nor_in_the_log_or_the_store() -> Result<(), Error> {
    const NOTE: &str = "zqx-note-7431";
    for app in [false, true] {
        let shim = Shim::compile()?;
        let mut house_plan = plan();
        house_plan.environment.extend(shim.environment());
        house_plan.environment.insert("TANDEM_LOG".to_owned(), "trace".to_owned());
        let house = House::build(house_plan).await?;
        house.bring_pipedrive()?;
        let wanted = if app { Wanted::new("acme").app() } else { Wanted::new("acme") };
        let customer = house.pipedrive_account(&wanted).await?;
        // One that stands already, as after a lost answer: the listing shows its password.
        let hook = json!({
            "subscription_url": customer.callback(), "event_action": "*", "event_object": "person", "name": "Tandem",
            "version": "2.0", "http_auth_user": customer.webhook_user(), "http_auth_password": customer.webhook_password,
        });
        customer.api.make_webhook(&hook).await?;
        house.connect_pipedrive(&customer, &wanted)?;
        house.pipedrive_runs(&customer, true, SOON).await?;
        let crm = house.pipedrive_crm(&customer);
        on(Stage { house, customer, crm }, async |stage| {
            let company = stage.customer.company();
            let listed = until("the webhooks are listed", SOON, async || {
                let counts = stage.house.control.pipedrive_counts(company).await?;
                let listed = counts.calls("hooks.list");
                Ok(if listed > 0 { Ok(counts.calls("hooks.create")) } else { Err("never".to_owned()) })
            })
            .await?;
            assert_eq!(listed, 1, "the one that stood was found: none was made beside it");
            let account = stage.house.control.pipedrive_accounts().await?.remove(0);
            let secrets = [
                account.api_token.as_str(),
                account.refresh_token.as_str(),
                account.access_token.as_str(),
                CLIENT_SECRET,
                stage.customer.webhook_password.as_str(),
            ];
            let secrets = Markers::new(secrets);
            let contents = Markers::new([NOTE]);
            // A webhook that shows the password comes in, too.
            let internal = stage.create(&numbered(1)).await?;
            let external = stage.carried("p1@acme.example").await?;
            let mut passed = false;
            stage.second_is_over(&external).await?;
            for number in 0..20 {
                let note = format!("{NOTE} {number}");
                stage.crm.edit(&external, &[("notes", note.as_str())]).await?;
                stage.agree(&internal, &external, "notes", &note).await?;
                for guest in shim.guests()? {
                    let found = secrets.find(&guest.bytes);
                    assert_eq!(found, Vec::<String>::new(), "a guest at {:x} holds it", guest.start);
                    passed |= !contents.find(&guest.bytes).is_empty();
                }
                if passed && number > 2 {
                    break;
                }
            }
            assert!(passed, "no guest ever held what passed through it: the search does not work");
            let held = shim.rest()?.iter().any(|region| !secrets.find(&region.bytes).is_empty());
            assert!(held, "the daemon holds its own secrets: the search does not work");
            stage.house.stop().await?;
            for line in stage.house.log().lines() {
                assert_eq!(secrets.find(line.as_bytes()), Vec::<String>::new(), "in the log: {line}");
            }
            assert_eq!(secrets.search(&stage.house.folder.join("data"))?, [], "in a file of the store");
            stage.house.start().await
        })
        .await?;
    }
    Ok(())
}
