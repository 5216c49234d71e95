//! Edit to visible: from the moment before an edit is sent until a reader of the other side sees it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tandem_e2e::house::House;
use tandem_e2e::ledger::Side;
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, until};
use tandem_simulator::control::Client as Control;

use crate::people;

/// Between two looks of a probe: the resolution of the figures.
const LOOK: Duration = Duration::from_millis(2);
/// After this an edit counts as not seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record that only this probe edits, on one side only: on both it would make conflicts.
pub(crate) struct Probe {
    control: Control,
    portal: u64,
    system_a: SystemA,
    internal: String,
    external: u64,
    edited: Side,
}

/// What the probes of one direction saw.
pub(crate) struct Seen {
    times: Histogram<u64>,
    missed: u64,
}

impl Seen {
    fn new() -> Result<Self, Error> {
        Ok(Self { times: Histogram::new(3)?, missed: 0 })
    }

    fn add(&mut self, began: Instant, seen: bool) -> Result<(), Error> {
        if seen {
            self.times.record(u64::try_from(began.elapsed().as_micros())?)?;
        } else {
            self.missed += 1;
        }
        Ok(())
    }

    /// Milliseconds, and how many there were.
    pub(crate) fn figures(&self) -> Value {
        let at = |quantile: f64| self.times.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "samples": self.times.len(), "not_seen": self.missed,
            "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": self.times.max() as f64 / 1e3,
        })
    }
}

impl Probe {
    /// Makes the record in the last customer, which the load leaves alone.
    pub(crate) async fn new(house: &House, edited: Side, deadline: Duration) -> Result<Self, Error> {
        let customer = house.customers.last().ok_or("no customer")?;
        let (portal, system_a) = (customer.info.portal_id, house.system_a(&customer.scope));
        let number = if edited == Side::SystemA { 1_000_000 } else { 2_000_000 };
        let made = system_a.create(&people::document(&customer.scope, number)).await?;
        let internal = made.id.ok_or_else(|| format!("refused: {}", made.body))?;
        let address = people::address(&customer.scope, number);
        let external = until("the probe's record crosses", deadline, async || {
            let dump = house.control.dump(portal).await?;
            let found = dump.records.iter().find(|record| record.properties.get("email") == Some(&address));
            Ok(found.map(|record| record.id).ok_or_else(|| "not there".to_owned()))
        })
        .await?;
        Ok(Self { control: house.control.clone(), portal, system_a, internal, external, edited })
    }

    /// Edits the record on one side until the end.
    pub(crate) async fn run(&self, end: Instant, pause: Duration) -> Result<Seen, Error> {
        let mut seen = Seen::new()?;
        let mut number = 0_u64;
        while Instant::now() < end {
            number += 1;
            let title = format!("probe {number}");
            let began = Instant::now();
            let shows = match self.edited {
                Side::SystemA => {
                    let answer = self.system_a.patch(&self.internal, &json!({"job_title": title})).await?;
                    if !answer.status.is_success() {
                        return Err(
                            format!("system a refused a probe: {} {}", answer.status, answer.body).into()
                        );
                    }
                    Side::Account
                }
                Side::Account => {
                    self.control.person_edits(self.portal, self.external, &[("jobtitle", &title)]).await?;
                    Side::SystemA
                }
            };
            let shown = self.wait(began, shows, &title).await?;
            seen.add(began, shown)?;
            tokio::time::sleep(pause).await;
        }
        Ok(seen)
    }

    async fn wait(&self, began: Instant, side: Side, title: &str) -> Result<bool, Error> {
        while began.elapsed() < PATIENCE {
            let seen = match side {
                Side::Account => self.there(title).await?,
                Side::SystemA => self.here(title).await?,
            };
            if seen {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    async fn there(&self, title: &str) -> Result<bool, Error> {
        let dump = self.control.dump(self.portal).await?;
        Ok(dump.records.iter().any(|record| {
            record.id == self.external
                && record.properties.get("jobtitle").is_some_and(|found| found == title)
        }))
    }

    async fn here(&self, title: &str) -> Result<bool, Error> {
        let document = self.system_a.read(&self.internal).await?.unwrap_or_default();
        let found = document.get("job_title").or_else(|| document.pointer("/document/job_title"));
        Ok(found.and_then(Value::as_str) == Some(title))
    }
}
