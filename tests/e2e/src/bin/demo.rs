//! The demonstration: two customers, both directions, a conflict, a bad record, a quota, a SIGKILL, and a judge.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan, is_in_memory};
use tandem_e2e::ledger::{Act, Ledger, Side, key_of_document};
use tandem_e2e::people::{Dice, edit, person};
use tandem_e2e::{Error, process, until};
use tandem_simulator::control::types::QuotaSizes;
use tokio::signal::unix::{SignalKind, signal};

/// Shows Tandem at work in about a minute: a daemon, two simulated HubSpot accounts and a judge, all on this machine.
#[derive(Parser)]
struct Options {
    /// Leave everything running afterwards and say how to play with it.
    #[arg(long)]
    stay: bool,
    /// Contacts to begin with, over both customers.
    #[arg(long, default_value_t = 2_000)]
    contacts: u64,
    /// Seconds of edits on both sides.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
}

const SCOPES: [&str; 2] = ["acme", "globex"];

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let plan =
        Plan { connection: "[objects.contact]\non_conflict = \"internal\"\n".into(), ..Plan::roomy(&SCOPES) };
    let mut house = match House::build(plan).await {
        Ok(house) => house,
        Err(error) => {
            println!("the demonstration could not begin: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut ended = match signal(SignalKind::terminate()) {
        Ok(ended) => ended,
        Err(error) => {
            println!("the demonstration could not begin: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut interrupted = async || {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = ended.recv() => {}
        }
    };
    let shown = tokio::select! {
        shown = show(&mut house, &options) => shown,
        () = interrupted() => Err("interrupted".into()),
    };
    match shown {
        Ok(known) => {
            if options.stay {
                invite(&house, known.as_ref());
                interrupted().await;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let folder = house.keep();
            println!(
                "\nFAILED: {error}\nEverything is kept in {} (daemon.log, ledger.ndjson)",
                folder.display()
            );
            ExitCode::FAILURE
        }
    }
}

/// What the demonstration remembers of a record.
#[derive(Clone)]
struct Known {
    scope: &'static str,
    person: String,
    id: String,
}

struct Show<'a> {
    house: &'a mut House,
    ledger: Ledger,
    began: Instant,
    known: Vec<Known>,
}

impl Show<'_> {
    fn say(&self, text: &str) {
        println!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    async fn contacts(&self) -> Result<u64, Error> {
        let mut sum = 0;
        for customer in &self.house.customers {
            let counts =
                serde_json::to_value(self.house.control.account_counts(customer.info.portal_id).await?)?;
            sum += counts.get("live").or_else(|| counts.get("contacts")).and_then(Value::as_u64).unwrap_or(0);
        }
        Ok(sum)
    }

    async fn quiet(&self, seconds: u64) -> Result<(), Error> {
        self.house.quiet(Duration::from_secs(seconds)).await?;
        self.ledger.note_quiet()
    }

    /// HubSpot ids by person, from the accounts themselves.
    async fn ids(&self, scope: &str) -> Result<HashMap<String, u64>, Error> {
        let contacts = self.house.customer(scope)?.account.list().await?;
        Ok(contacts
            .iter()
            .filter_map(|contact| {
                let get = |name: &str| contact.properties.get(name).map(String::as_str);
                let key = tandem_e2e::ledger::key_of(get("email"), get("firstname"), get("lastname"));
                Some((key, contact.id.parse().ok()?))
            })
            .collect())
    }

    async fn edit_internal(&self, known: &Known, member: &str, value: &Value) -> Result<(), Error> {
        let answer = self.house.system_a(known.scope).patch(&known.id, &json!({ member: value })).await?;
        if !answer.status.is_success() {
            return Err(format!("system a refused an edit: {} {}", answer.status, answer.body).into());
        }
        self.note(known, Side::SystemA, member, value)
    }

    async fn edit_external(&self, known: &Known, id: u64, member: &str, value: &Value) -> Result<(), Error> {
        let text = value.as_str().unwrap_or_default();
        self.house.crm(known.scope)?.edit(&id.to_string(), &[(member, text)]).await?;
        self.note(known, Side::Account, member, value)
    }

    fn note(&self, known: &Known, side: Side, member: &str, value: &Value) -> Result<(), Error> {
        let members = [(member.to_owned(), value.clone())].into_iter().collect();
        self.ledger.note(known.scope, &known.person, side, Act::Wrote(members))
    }
}

/// The whole of it; gives a record to play with.
async fn show(house: &mut House, options: &Options) -> Result<Option<Known>, Error> {
    if is_in_memory(&house.folder)? {
        return Err("a crash is not shown in memory: build into a folder on a real disk".into());
    }
    let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;
    println!(
        "Tandem: two customers (acme, globex), each with a part of System A and a simulated HubSpot account of one app."
    );
    println!(
        "The accounts have larger quotas than real ones (20,000 calls in ten seconds), so that this takes a minute."
    );
    println!("Everything is on 127.0.0.1, in {}\n", house.folder.display());
    let mut show = Show { house, ledger, began: Instant::now(), known: Vec::new() };
    fill(&mut show, options.contacts).await?;
    both_ways(&show, options.seconds).await?;
    conflict(&show).await?;
    bad_record(&show).await?;
    quota(&show).await?;
    killed(&mut show).await?;
    show.quiet(60).await?;
    judge(&show).await?;
    Ok(show.known.first().cloned())
}

async fn fill(show: &mut Show<'_>, contacts: u64) -> Result<(), Error> {
    show.say(&format!("loading {contacts} contacts into System A (many languages, missing and odd values)"));
    let began = Instant::now();
    let each = contacts / 2;
    for scope in SCOPES {
        let people: Vec<Value> = (0..each).map(|number| person(scope, number)).collect();
        let lines: Vec<Value> =
            people.iter().map(|document| json!({"op": "create", "document": document})).collect();
        let answers = show.house.system_a(scope).batch(&lines).await?;
        for (document, answer) in people.iter().zip(&answers) {
            let id = answer.get("id").and_then(Value::as_str);
            let (Some(201), Some(id)) = (answer.get("status").and_then(Value::as_u64), id) else {
                return Err(format!("system a refused a contact: {answer}").into());
            };
            let who = key_of_document(document);
            let members = document.as_object().cloned().unwrap_or_default();
            show.ledger.note(scope, &who, Side::SystemA, Act::Wrote(members))?;
            show.known.push(Known { scope, person: who, id: id.to_owned() });
        }
    }
    show.say(&format!(
        "System A has them, durably ({:.0} a second)",
        contacts as f64 / began.elapsed().as_secs_f64()
    ));
    let shown = std::cell::Cell::new(0);
    until("the accounts are filled", Duration::from_secs(90), async || {
        let there = show.contacts().await?;
        if there >= shown.get() + contacts / 4 && there < contacts {
            shown.set(there);
            show.say(&format!("  {there} contacts are in the accounts"));
        }
        Ok(if there >= contacts { Ok(()) } else { Err(format!("{there} of {contacts}")) })
    })
    .await?;
    show.say(&format!(
        "both accounts are filled ({:.0} contacts a second)",
        contacts as f64 / began.elapsed().as_secs_f64()
    ));
    show.quiet(60).await
}

async fn both_ways(show: &Show<'_>, seconds: u64) -> Result<(), Error> {
    show.say(&format!("people edit on both sides for {seconds} s"));
    let mut dice = Dice(7);
    let mut ids = HashMap::new();
    for scope in SCOPES {
        ids.insert(scope, show.ids(scope).await?);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut inward, mut outward) = (0_u64, 0_u64);
    let mut next = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        for _ in 0..8 {
            let Some(known) = dice.pick(&show.known).cloned() else { return Err("nobody to edit".into()) };
            let (member, value) = edit(&mut dice);
            // One side for each record, so that the only conflict is the one that is shown below.
            let number: u64 = known.id.bytes().map(u64::from).sum();
            if number.is_multiple_of(2) {
                show.edit_internal(&known, member, &value).await?;
                outward += 1;
            } else if let Some(id) = ids.get(known.scope).and_then(|ids| ids.get(&known.person)) {
                show.edit_external(&known, *id, member, &value).await?;
                inward += 1;
            }
        }
        if Instant::now() >= next {
            next += Duration::from_secs(3);
            show.say(&format!(
                "  {outward} edits in System A, {inward} in the accounts, {} hints under way",
                show.house.undone().await?
            ));
        }
    }
    show.quiet(60).await?;
    show.say(&format!("{outward} edits went out, {inward} came in; nothing is under way"));
    Ok(())
}

async fn conflict(show: &Show<'_>) -> Result<(), Error> {
    let known = show.known.iter().find(|known| known.scope == "acme" && known.person.contains('@'));
    let known = known.ok_or("nobody to quarrel about")?.clone();
    let id = *show.ids("acme").await?.get(&known.person).ok_or("the contact is not in the account")?;
    show.house.post("/v1/pause", &json!({"connection": "acme"})).await?;
    show.edit_internal(&known, "phone", &json!("+49 221 2222222")).await?;
    show.edit_external(&known, id, "phone", &json!("+49 221 1111111")).await?;
    show.house.post("/v1/resume", &json!({"connection": "acme"})).await?;
    show.quiet(60).await?;
    let document = show.house.system_a("acme").read(&known.id).await?.unwrap_or_default();
    let contacts = show.house.customer("acme")?.account.list().await?;
    let there = contacts.iter().find(|contact| contact.id == id.to_string());
    let there = there.and_then(|contact| contact.properties.get("phone").cloned()).unwrap_or_default();
    let here = document.get("phone").and_then(Value::as_str).unwrap_or_default().to_owned();
    if here != there || here != "+49 221 2222222" {
        return Err(
            format!("the conflict was not decided by policy: system a {here:?}, account {there:?}").into()
        );
    }
    show.say("a conflict: both sides changed one phone number; on_conflict = \"internal\", so System A's stands on both sides");
    Ok(())
}

async fn bad_record(show: &Show<'_>) -> Result<(), Error> {
    let system_a = show.house.system_a("acme");
    let refused = system_a.create(&json!({"email": "no address", "employees": "many"})).await?;
    let pointers: Vec<&str> = refused
        .body
        .get("problems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|problem| problem.get("pointer").and_then(Value::as_str))
        .collect();
    show.say(&format!(
        "a bad record at System A's door: {}, {}",
        refused.status.as_u16(),
        pointers.join(" and ")
    ));
    // System A takes this address; HubSpot wants a top-level domain.
    let odd = json!({"email": "somebody@localhost", "given_name": "Odd", "family_name": "Address"});
    let taken = system_a.create(&odd).await?;
    let odd_id = taken.id.clone().ok_or_else(|| format!("refused: {} {}", taken.status, taken.body))?;
    show.ledger.note(
        "acme",
        &key_of_document(&odd),
        Side::SystemA,
        Act::Wrote(odd.as_object().cloned().unwrap_or_default()),
    )?;
    let good =
        json!({"email": "after.the.odd.one@acme.example", "given_name": "Next", "family_name": "In Line"});
    system_a.create(&good).await?;
    show.ledger.note(
        "acme",
        &key_of_document(&good),
        Side::SystemA,
        Act::Wrote(good.as_object().cloned().unwrap_or_default()),
    )?;
    let why = until("the odd record is set aside", Duration::from_secs(30), async || {
        let list = show.house.get("/v1/dead?limit=100").await?;
        let rows = list
            .as_array()
            .cloned()
            .or_else(|| list.as_object()?.values().find_map(|v| v.as_array().cloned()));
        let row = rows
            .into_iter()
            .flatten()
            .find(|row| row.get("internal").and_then(Value::as_str) == Some(&odd_id));
        Ok(row.ok_or_else(|| "no dead letter".to_owned()))
    })
    .await?;
    show.quiet(30).await?;
    let message = why.pointer("/problems/0/message").and_then(Value::as_str).unwrap_or_default();
    let pointer = why.pointer("/problems/0/pointer").and_then(Value::as_str).unwrap_or_default();
    show.say(&format!(
        "a record that HubSpot refuses is set aside ({pointer}: {message}); the next one went through"
    ));
    Ok(())
}

/// Calls that a connection has under way at the most.
const AT_ONCE: u64 = 8;

async fn quota(show: &Show<'_>) -> Result<(), Error> {
    let portal = show.house.customer("globex")?.info.portal_id;
    show.house.control.set_quota(portal, QuotaSizes { burst: 60, daily: None, search: 50 }).await?;
    let before = show.house.control.account_counts(portal).await?.throttled();
    let began = Instant::now();
    let mut dice = Dice(11);
    let of: Vec<Known> =
        show.known.iter().filter(|known| known.scope == "globex").take(120).cloned().collect();
    for known in &of {
        let (member, value) = edit(&mut dice);
        show.edit_internal(known, member, &value).await?;
    }
    let cause = until("the quota is met", Duration::from_secs(20), async || {
        let status = show.house.get("/v1/status?connection=globex").await?;
        let row = status.pointer("/connections/0").cloned().unwrap_or_default();
        let cause = row.get("cause").and_then(Value::as_str).unwrap_or_default().to_owned();
        let detail = row.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(if cause == "quota" { Ok(detail) } else { Err(cause) })
    })
    .await?;
    show.say(&format!("globex' account now allows 60 calls in ten seconds, and 120 edits wait: {cause}"));
    show.quiet(60).await?;
    let throttled = show.house.control.account_counts(portal).await?.throttled() - before;
    // Nobody told Tandem that the limit would shrink: the calls under way then may be refused, and nothing after them.
    if throttled > AT_ONCE {
        return Err(format!(
            "the account refused {throttled} calls, more than the {AT_ONCE} that were under way"
        )
        .into());
    }
    show.say(&format!(
        "all of them arrived after {:.0} s; the account refused {throttled} calls for their frequency",
        began.elapsed().as_secs_f64()
    ));
    show.house.control.set_quota(portal, QuotaSizes { burst: 20_000, daily: None, search: 50 }).await?;
    Ok(())
}

async fn killed(show: &mut Show<'_>) -> Result<(), Error> {
    let mut created = Vec::new();
    for scope in SCOPES {
        let people: Vec<Value> = (100_000..100_100).map(|number| person(scope, number)).collect();
        let lines: Vec<Value> =
            people.iter().map(|document| json!({"op": "create", "document": document})).collect();
        let answers = show.house.system_a(scope).batch(&lines).await?;
        for (document, answer) in people.iter().zip(&answers) {
            let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| format!("refused: {answer}"))?;
            let who = key_of_document(document);
            show.ledger.note(
                scope,
                &who,
                Side::SystemA,
                Act::Wrote(document.as_object().cloned().unwrap_or_default()),
            )?;
            created.push(Known { scope, person: who, id: id.to_owned() });
        }
    }
    show.house.kill().await?;
    let there = show.contacts().await?;
    show.say(&format!("SIGKILL, with 200 new contacts on their way ({there} contacts are in the accounts)"));
    // While the daemon is down, people go on in their CRM; the webhooks of this are tried again later.
    let ids = show.ids("globex").await?;
    let mut dice = Dice(13);
    for known in show.known.iter().filter(|known| known.scope == "globex").skip(200).take(20) {
        if let Some(id) = ids.get(&known.person) {
            let (member, value) = edit(&mut dice);
            show.edit_external(known, *id, member, &value).await?;
        }
    }
    let began = Instant::now();
    show.house.start().await?;
    show.say(&format!("started again: ready after {:.1} s", began.elapsed().as_secs_f64()));
    show.known.extend(created);
    let wanted = show.known.len() as u64 + 1;
    until("the new contacts arrive", Duration::from_secs(60), async || {
        let there = show.contacts().await?;
        Ok(if there >= wanted { Ok(()) } else { Err(format!("{there} of {wanted}")) })
    })
    .await?;
    show.quiet(60).await?;
    show.say("everything that was acknowledged before the kill has arrived");
    Ok(())
}

async fn judge(show: &Show<'_>) -> Result<(), Error> {
    let customers: Vec<Value> = show
        .house
        .customers
        .iter()
        .map(|customer| json!({"scope": customer.scope, "token": customer.info.access_token}))
        .collect();
    let case = show.house.folder.join("case.json");
    let text = json!({
        "daemon": show.house.base, "token": ADMIN, "api": show.house.api,
        "ledger": show.house.folder.join("ledger.ndjson"), "customers": customers,
    });
    std::fs::write(&case, text.to_string())?;
    let output = tokio::process::Command::new(process::binary("tandem-judge")?).arg(&case).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    show.say(&format!("the judge, in a process of its own, reads both sides: {text}"));
    let violations = show.house.control.violations().await?;
    show.say(&format!("requests that HubSpot's published description does not allow: {}", violations.total));
    if !output.status.success() {
        return Err("the judge is not content".into());
    }
    if violations.total > 0 {
        return Err(format!("{:?}", violations.listed.first()).into());
    }
    if !text.contains("under review 0, set aside 1,") {
        return Err("one bad record was set aside and nothing was left to a person, says the script".into());
    }
    println!("\nNothing was lost, doubled or overwritten.");
    Ok(())
}

/// Says how to play with it.
fn invite(house: &House, known: Option<&Known>) {
    let tandem = process::binary("tandem").unwrap_or_else(|_| "tandem".into());
    println!("\nIt stays up until Ctrl-C. To play with it:");
    println!(
        "  export TANDEM_CONFIG={} TANDEM_URL={} TANDEM_TOKEN={ADMIN}",
        house.config().display(),
        house.base
    );
    println!("  {} status", tandem.display());
    println!("  {} dead list", tandem.display());
    if let Some(known) = known {
        println!("  {} explain contact {} --scope {}", tandem.display(), known.id, known.scope);
    }
    println!("  curl -H 'authorization: Bearer {ADMIN}' {}/v1/scopes/acme/contact?limit=2", house.base);
    println!("  the accounts: {} (HubSpot's API), tokens in {}/secrets", house.api, house.folder.display());
}
