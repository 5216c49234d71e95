//! The mix of the design at an offered rate, both directions, from workers that never share a customer.
//!
//! What changes nothing is an upsert of what System A has already, or an event that the account tells once more: both
//! reach the daemon. The echoes of the daemon's own writes come on top and are not counted as records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::House;
use tandem_e2e::people::Dice;
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, until};
use tandem_simulator::control::Client as Control;
use tandem_simulator::control::types::PersonDeed;

use crate::people;

/// Lines of one request of the NDJSON intake, and deeds that are told to the simulator at once.
const LINES: usize = 16;

/// What a customer's records are known as to the generator. Each record is edited on one side only, so that no conflict
/// arises by the generator's making.
pub(crate) struct Customer {
    scope: String,
    portal: u64,
    system_a: SystemA,
    /// Edited in System A: id and document.
    ours: Vec<(String, Value)>,
    /// Edited in the account: id and job title.
    theirs: Vec<(u64, String)>,
    next: u64,
}

/// What was offered and taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    pub(crate) updates: u64,
    pub(crate) creates: u64,
    pub(crate) deletes: u64,
    pub(crate) no_ops: u64,
    pub(crate) outward: u64,
    pub(crate) inward: u64,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<String>,
}

impl Offered {
    pub(crate) fn all(&self) -> u64 {
        self.updates + self.creates + self.deletes + self.no_ops
    }

    /// Changes that the other side has to show.
    pub(crate) fn changes(&self) -> u64 {
        self.updates + self.creates + self.deletes
    }

    fn add(&mut self, other: Self) {
        self.updates += other.updates;
        self.creates += other.creates;
        self.deletes += other.deletes;
        self.no_ops += other.no_ops;
        self.outward += other.outward;
        self.inward += other.inward;
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }

    fn count(&mut self, act: Act) {
        match act {
            Act::Update => self.updates += 1,
            Act::Create => self.creates += 1,
            Act::Delete => self.deletes += 1,
            Act::NoOp => self.no_ops += 1,
        }
    }

    fn refuse(&mut self, why: impl std::fmt::Display) {
        self.refused += 1;
        self.first_refusal.get_or_insert_with(|| why.to_string());
    }
}

#[derive(Clone, Copy)]
enum Act {
    Update,
    Create,
    Delete,
    NoOp,
}

impl Act {
    fn roll(dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..70 => Self::Update,
            70..80 => Self::Create,
            80..82 => Self::Delete,
            _ => Self::NoOp,
        }
    }
}

/// Gives every customer its records, waits until the accounts have them, and learns their ids there.
pub(crate) async fn fill(house: &House, each: u64, deadline: Duration) -> Result<Vec<Customer>, Error> {
    let house_customers =
        house.customers.iter().map(|customer| (customer.scope.clone(), customer.info.portal_id));
    let mut customers = Vec::new();
    for (scope, portal) in house_customers {
        let system_a = house.system_a(&scope);
        let documents: Vec<Value> = (0..each).map(|number| people::document(&scope, number)).collect();
        let lines: Vec<Value> =
            documents.iter().map(|document| json!({"op": "create", "document": document})).collect();
        let mut ours = Vec::new();
        for (document, answer) in documents.into_iter().zip(system_a.batch(&lines).await?) {
            let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| format!("refused: {answer}"))?;
            ours.push((id.to_owned(), document));
        }
        customers.push(Customer { scope, portal, system_a, ours, theirs: Vec::new(), next: each });
    }
    let wanted = customers.len() * usize::try_from(each)?;
    until("the accounts are filled", deadline, async || {
        let live = house.control.counts().await?.live;
        Ok(if live >= wanted { Ok(()) } else { Err(format!("{live} of {wanted}")) })
    })
    .await?;
    house.quiet(deadline).await?;
    for customer in &mut customers {
        let dump = house.control.dump(customer.portal).await?;
        let ids: HashMap<String, u64> = dump
            .records
            .iter()
            .filter_map(|record| Some((record.properties.get("email")?.clone(), record.id)))
            .collect();
        // Every second record belongs to the people of the account.
        for number in (0..each).rev().filter(|number| number % 2 == 1) {
            let _ours = customer.ours.remove(usize::try_from(number)?);
            let address = people::address(&customer.scope, number);
            let id = ids.get(&address).ok_or_else(|| format!("{address} is not in its account"))?;
            customer.theirs.push((*id, format!("Head of Procurement {number}")));
        }
    }
    Ok(customers)
}

/// Offers the mix at `rate` records a second for so long. A worker that falls behind goes on without pauses: what was
/// not offered in time shows in the counts.
pub(crate) async fn offer(
    control: &Control,
    customers: Vec<Customer>,
    rate: u64,
    time: Duration,
    workers: usize,
) -> Result<(Offered, Vec<Customer>), Error> {
    let workers = workers.clamp(1, customers.len().max(1));
    let mut shares: Vec<Vec<Customer>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, customer) in customers.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(at % workers) {
            share.push(customer);
        }
    }
    let control = Arc::new(control.clone());
    let begin = Instant::now() + Duration::from_millis(50);
    let running: Vec<_> = shares
        .into_iter()
        .enumerate()
        .map(|(number, share)| {
            let worker = Worker {
                control: Arc::clone(&control),
                dice: Dice(number as u64 + 1),
                number: number as u64,
                offered: Offered::default(),
                pace: workers as f64 / rate.max(1) as f64,
                offset: number as f64 / rate.max(1) as f64,
            };
            tokio::spawn(worker.work(share, begin, begin + time))
        })
        .collect();
    let (mut offered, mut customers) = (Offered::default(), Vec::new());
    for worker in running {
        let (more, share) = worker.await?;
        offered.add(more);
        customers.extend(share);
    }
    Ok((offered, customers))
}

struct Worker {
    control: Arc<Control>,
    dice: Dice,
    number: u64,
    offered: Offered,
    /// Seconds between two records of this worker.
    pace: f64,
    offset: f64,
}

impl Worker {
    async fn work(
        mut self,
        mut share: Vec<Customer>,
        begin: Instant,
        end: Instant,
    ) -> (Offered, Vec<Customer>) {
        let mut at = 0;
        let mut done = 0_u64;
        let length = share.len().max(1);
        loop {
            let due = begin + Duration::from_secs_f64(self.offset + self.pace * done as f64);
            if due >= end || Instant::now() >= end {
                return (self.offered, share);
            }
            tokio::time::sleep_until(due.into()).await;
            // Lines in one direction and deeds of people in the other, so that the generator needs little of the processor.
            if let Some(customer) = share.get_mut(at % length) {
                self.outward(customer).await;
            }
            done += LINES as u64;
            let due = begin + Duration::from_secs_f64(self.offset + self.pace * done as f64);
            if due >= end || Instant::now() >= end {
                return (self.offered, share);
            }
            tokio::time::sleep_until(due.into()).await;
            at += 1;
            self.inward(&mut share, at).await;
            done += LINES as u64;
            at += LINES;
        }
    }

    async fn outward(&mut self, customer: &mut Customer) {
        let mut lines = Vec::with_capacity(LINES);
        let mut acts = Vec::with_capacity(LINES);
        for _ in 0..LINES {
            let mut act = Act::roll(&mut self.dice);
            if customer.ours.is_empty() {
                act = Act::Create;
            }
            let mark = self.dice.roll();
            let chosen = usize::try_from(mark % customer.ours.len().max(1) as u64).unwrap_or(0);
            let (line, document) = match (act, customer.ours.get_mut(chosen)) {
                (Act::Update, Some((id, document))) => {
                    if let Some(members) = document.as_object_mut() {
                        members
                            .insert("job_title".to_owned(), json!(format!("Buyer {}-{mark:x}", self.number)));
                    }
                    (json!({"op": "upsert", "id": id, "document": document}), None)
                }
                (Act::NoOp, Some((id, document))) => {
                    (json!({"op": "upsert", "id": id, "document": document}), None)
                }
                (Act::Delete, Some(_)) => {
                    let (id, _) = customer.ours.swap_remove(chosen);
                    (json!({"op": "delete", "id": id}), None)
                }
                _ => {
                    act = Act::Create;
                    let document = people::document(&customer.scope, customer.next);
                    customer.next += 1;
                    (json!({"op": "create", "document": document}), Some(document))
                }
            };
            lines.push(line);
            acts.push((act, document));
        }
        match customer.system_a.batch(&lines).await {
            Ok(answers) => {
                for ((act, document), answer) in acts.into_iter().zip(answers) {
                    let status = answer.get("status").and_then(Value::as_u64).unwrap_or(0);
                    if !(200..300).contains(&status) {
                        self.offered.refuse(&answer);
                        continue;
                    }
                    self.offered.count(act);
                    self.offered.outward += 1;
                    if let (Some(document), Some(id)) = (document, answer.get("id").and_then(Value::as_str)) {
                        customer.ours.push((id.to_owned(), document));
                    }
                }
            }
            Err(error) => {
                self.offered.refuse(error);
                self.offered.refused += LINES as u64 - 1;
            }
        }
    }

    /// One deed in each of the next accounts.
    async fn inward(&mut self, share: &mut [Customer], from: usize) {
        let length = share.len().max(1);
        let mut deeds = Vec::with_capacity(LINES);
        let mut acts = Vec::with_capacity(LINES);
        for at in (from..from + LINES).map(|at| at % length) {
            let Some(customer) = share.get_mut(at) else { continue };
            let (act, deed, number) = self.deed(customer);
            deeds.push(deed);
            acts.push((at, act, number));
        }
        let wanted = deeds.len() as u64;
        match self.control.people_act(deeds).await {
            Ok(done) => {
                for ((at, act, number), id) in acts.into_iter().zip(done.ids) {
                    let Some(id) = id else { continue };
                    self.offered.count(act);
                    self.offered.inward += 1;
                    if let (Act::Create, Some(customer)) = (act, share.get_mut(at)) {
                        customer.theirs.push((id, format!("Head of Procurement {number}")));
                    }
                }
                for refused in done.refused {
                    self.offered.refuse(refused);
                }
            }
            Err(error) => {
                self.offered.refuse(error);
                self.offered.refused += wanted.saturating_sub(1);
            }
        }
    }

    /// What somebody does next in this account, and the number of the record if it is a new one.
    fn deed(&mut self, customer: &mut Customer) -> (Act, PersonDeed, u64) {
        let mut act = Act::roll(&mut self.dice);
        let mark = self.dice.roll();
        let chosen = usize::try_from(mark % customer.theirs.len().max(1) as u64).unwrap_or(0);
        let portal = customer.portal;
        let edit = |id: u64, title: &str| PersonDeed::Edit {
            portal,
            id,
            properties: [("jobtitle".to_owned(), title.to_owned())].into(),
        };
        let deed = match (act, customer.theirs.get_mut(chosen)) {
            (Act::Update, Some((id, title))) => {
                *title = format!("Seller {}-{mark:x}", self.number);
                edit(*id, title)
            }
            (Act::NoOp, Some((id, _))) => PersonDeed::Repeat { portal, id: *id },
            (Act::Delete, Some(_)) => {
                let (id, _) = customer.theirs.swap_remove(chosen);
                PersonDeed::Delete { portal, id }
            }
            _ => {
                act = Act::Create;
                let number = customer.next;
                customer.next += 1;
                let properties = people::properties(&customer.scope, number);
                let properties =
                    properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                return (act, PersonDeed::Create { portal, properties }, number);
            }
        };
        (act, deed, 0)
    }
}

/// Records of the first `most` customers that do not show on the other side what was written last; and how many were
/// looked at.
pub(crate) async fn diverged(
    house: &House,
    customers: &[Customer],
    most: usize,
) -> Result<(u64, u64), Error> {
    let (mut looked, mut wrong) = (0, 0);
    for customer in customers.iter().take(most) {
        let there: HashMap<u64, String> = house
            .control
            .dump(customer.portal)
            .await?
            .records
            .into_iter()
            .filter(|record| !record.archived)
            .map(|record| (record.id, record.properties.get("jobtitle").cloned().unwrap_or_default()))
            .collect();
        let titles: Vec<String> = there.values().cloned().collect();
        for (_, document) in &customer.ours {
            looked += 1;
            let title = document.get("job_title").and_then(Value::as_str).unwrap_or_default();
            wrong += u64::from(!titles.iter().any(|found| found == title));
        }
        let here = customer.system_a.list().await?;
        for (_, title) in &customer.theirs {
            looked += 1;
            let found =
                here.iter().any(|row| row.document.get("job_title").and_then(Value::as_str) == Some(title));
            wrong += u64::from(!found);
        }
        // Deleted records have to be gone.
        let expected = customer.ours.len() + customer.theirs.len();
        wrong += (here.len().abs_diff(expected) + there.len().abs_diff(expected)) as u64;
    }
    Ok((looked, wrong))
}
