//! Customers at work in both directions, and what was acknowledged to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::House;
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, until};
use tandem_simulator::control::Client as Control;

use super::lead;

/// A record that somebody of ours made, with its last acknowledged state.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) city: Option<String>,
    pub(crate) deleted: bool,
}

/// Everything that was acknowledged in one scope, by address.
#[derive(Default)]
pub(crate) struct Acknowledged {
    /// Made, edited and deleted in System A.
    pub(crate) ours: BTreeMap<String, Made>,
    /// Made and edited in the account: the city that was given last.
    pub(crate) theirs: BTreeMap<String, Option<String>>,
}

/// People who work on one scope without end: of ten deeds in System A some six are edits, one is a deletion and the others make
/// somebody new; beside them others work in the account.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    ours: tokio::task::JoinHandle<Result<BTreeMap<String, Made>, String>>,
    theirs: tokio::task::JoinHandle<Result<BTreeMap<String, Option<String>>, String>>,
}

impl Load {
    /// Begins; between two deeds of the same people lies a pause.
    pub(crate) fn start(house: &House, scope: &str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ours = tokio::spawn(at_home(house.system_a(scope), pause, stop.clone()));
        let theirs =
            tokio::spawn(in_the_account(house.control.clone(), scope.to_owned(), pause, stop.clone()));
        Self { stop, ours, theirs }
    }

    /// Work in the account alone, which goes on while the daemon does not run.
    pub(crate) fn in_the_account(house: &House, scope: &str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ours = tokio::spawn(async { Ok(BTreeMap::new()) });
        let theirs =
            tokio::spawn(in_the_account(house.control.clone(), scope.to_owned(), pause, stop.clone()));
        Self { stop, ours, theirs }
    }

    /// Ends it; everything that was acknowledged.
    pub(crate) async fn end(self) -> Result<Acknowledged, Error> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(Acknowledged { ours: self.ours.await??, theirs: self.theirs.await?? })
    }
}

async fn at_home(
    system_a: SystemA,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Result<BTreeMap<String, Made>, String> {
    let mut made: Vec<(String, Made)> = Vec::new();
    let mut deed: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        deed += 1;
        // The same numbers in every run, over all that were made so far.
        let at = deed.wrapping_mul(2_654_435_761) % made.len().max(1);
        let written = match (deed % 10, made.get_mut(at)) {
            (1..=6, Some((_, one))) if !one.deleted => {
                let city = format!("City {deed}");
                let written = system_a.patch(&one.id, &json!({ "city": city })).await;
                one.city = Some(city);
                written
            }
            (7, Some((_, one))) if !one.deleted => {
                one.deleted = true;
                system_a.delete(&one.id).await
            }
            _ => {
                let number = 1_000_000 + deed as u64;
                let written = system_a.create(&lead(number)).await.map_err(|error| error.to_string())?;
                let id = written.id.clone().ok_or_else(|| format!("refused: {written:?}"))?;
                made.push((format!("lead{number}@example.com"), Made { id, city: None, deleted: false }));
                Ok(written)
            }
        };
        let written = written.map_err(|error| error.to_string())?;
        if !written.status.is_success() {
            return Err(format!("refused: {written:?}"));
        }
        tokio::time::sleep(pause).await;
    }
    Ok(made.into_iter().collect())
}

async fn in_the_account(
    control: Control,
    scope: String,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Result<BTreeMap<String, Option<String>>, String> {
    let mut made: Vec<(String, String, Option<String>)> = Vec::new();
    let mut deed: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        deed += 1;
        let at = deed.wrapping_mul(2_654_435_761) % made.len().max(1);
        match (deed % 3, made.get_mut(at)) {
            (1 | 2, Some((_, id, city))) => {
                let new = format!("Town {deed}");
                let edit = json!({ "City": new });
                control.rest_person_edits(&scope, id, &edit).await.map_err(|error| error.to_string())?;
                *city = Some(new);
            }
            _ => {
                let mail = format!("theirs{deed}@example.com");
                let person = json!({ "Mail": mail, "GivenName": "Their", "Stage": "Customer" });
                let person = control.rest_person_creates(&scope, &person).await;
                let person = person.map_err(|error| error.to_string())?;
                let id = person["Id"].as_str().unwrap_or_default().to_owned();
                made.push((mail, id, None));
            }
        }
        tokio::time::sleep(pause * 4).await;
    }
    Ok(made.into_iter().map(|(mail, _, city)| (mail, city)).collect())
}

/// The account's people by address, once everything that was acknowledged is on the other side as it was said last: nobody
/// twice, nobody missing, nobody who was deleted.
pub(crate) async fn all_there(
    house: &House,
    scope: &str,
    acknowledged: &Acknowledged,
) -> Result<BTreeMap<String, Value>, Error> {
    until(&format!("everything of {scope} is on the other side"), Duration::from_secs(120), async || {
        let people = house.control.rest_people(scope).await?;
        let by_mail: BTreeMap<String, Value> = people
            .iter()
            .map(|person| (person["Mail"].as_str().unwrap_or_default().to_owned(), person.clone()))
            .collect();
        if by_mail.len() != people.len() {
            return Err("somebody is in the account twice".into());
        }
        let differs = acknowledged.ours.iter().find(|(mail, made)| match by_mail.get(*mail) {
            Some(person) => made.deleted || person["City"].as_str() != made.city.as_deref(),
            None => !made.deleted,
        });
        if let Some((mail, made)) = differs {
            return Ok(Err(format!("{mail}: {made:?}, the account has {:?}", by_mail.get(mail))));
        }
        let records = house.system_a(scope).list().await?;
        let cities: BTreeMap<&str, Option<&str>> = records
            .iter()
            .map(|one| (one.document["email"].as_str().unwrap_or_default(), one.document["city"].as_str()))
            .collect();
        let mails: BTreeSet<&str> =
            records.iter().map(|one| one.document["email"].as_str().unwrap_or_default()).collect();
        if mails.len() != records.len() {
            return Err("somebody is in System A twice".into());
        }
        let differs = acknowledged
            .theirs
            .iter()
            .find(|(mail, city)| cities.get(mail.as_str()).copied() != Some(city.as_deref()));
        Ok(match differs {
            Some((mail, city)) => {
                Err(format!("{mail}: {city:?}, System A has {:?}", cities.get(mail.as_str())))
            }
            None => Ok(by_mail),
        })
    })
    .await
}
