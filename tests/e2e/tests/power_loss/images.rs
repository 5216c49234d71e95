//! What a power loss leaves behind, and what a daemon that is started on it has.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House};
use tandem_e2e::power::{Keep, Recording};
use tandem_e2e::process::{self, Running};
use tandem_e2e::system_a::{Listed, SystemA};
use tandem_e2e::{Error, until};
use tokio::process::Command;

use super::changes::{Changes, Write, number};
use super::load::Person;
use super::{PATIENCE, SCOPES};

/// A daemon looks at the listings of its accounts for the first time within a second of its start, and passes over those of
/// paused connections; from then on once a day.
const FIRST_LOOK: Duration = Duration::from_millis(1_100);

/// Takes images of a recording and looks at them.
pub(crate) struct Judge {
    inner: Arc<Inner>,
}

struct Inner {
    /// The house's folder: connections, secrets and providers are those of the recorded daemon.
    house: PathBuf,
    recording: Recording,
    changes: Changes,
    people: Vec<Person>,
    client: reqwest::Client,
}

/// What an image may say of a record of System A, and nothing else.
struct Fate<'a> {
    /// The last acknowledged write.
    acknowledged: Option<&'a Write>,
    /// Later ones, on their way.
    under_way: Vec<&'a Write>,
}

impl Judge {
    pub(crate) fn new(
        house: &House,
        recording: Recording,
        changes: Changes,
        people: Vec<Person>,
    ) -> Result<Self, Error> {
        let inner =
            Inner { house: house.folder.clone(), recording, changes, people, client: tandem_e2e::client()? };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes images at moments spread over the run, two at a time, and says what is wrong with them. Half of them are taken right
    /// behind an acknowledgement.
    pub(crate) async fn images(&self, count: u64, keep: fn(u64) -> Keep) -> Result<Vec<String>, Error> {
        let acknowledged = self.inner.changes.acknowledgements();
        let first = acknowledged.first().copied().unwrap_or(0) as u64;
        let last = self.inner.recording.len() as u64;
        let position = |round: u64| {
            let at = first + (last - first) * (round + 1) / count;
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let before = acknowledged.partition_point(|ack| *ack < at).checked_sub(1);
            match before.and_then(|before| acknowledged.get(before)) {
                // Keeps its turn among the ways of keeping, which change in steps of four.
                Some(ack) if round / 4 % 2 == 1 => ack + 1,
                _ => at,
            }
        };
        let rounds = RefCell::new(0..count);
        let worker = async || {
            let mut wrong = Vec::new();
            loop {
                let Some(round) = rounds.borrow_mut().next() else { return Ok::<_, Error>(wrong) };
                wrong.extend(self.image(position(round), keep(round), PATIENCE).await?.err());
            }
        };
        let (mut wrong, more) = tokio::try_join!(worker(), worker())?;
        wrong.extend(more);
        Ok(wrong)
    }

    /// Takes an image, starts a daemon on it and looks at what it has. The inner error is what is wrong with it.
    pub(crate) async fn image(
        &self,
        at: usize,
        keep: Keep,
        patience: Duration,
    ) -> Result<Result<(), String>, Error> {
        let keep_folder = tempfile::Builder::new().prefix("image-").tempdir_in(&self.inner.house)?;
        let folder = keep_folder.path().to_owned();
        let inner = self.inner.clone();
        let into = folder.clone();
        tokio::task::spawn_blocking(move || inner.lay_out(at, keep, &into)).await??;
        let found = self.inner.look(at, &folder, patience).await;
        Ok(found.map_err(|error| {
            let kept = keep_folder.keep();
            format!("image at {at}, {keep:?}, kept in {}: {error}", kept.display())
        }))
    }
}

impl Inner {
    /// The disk, and beside it what the recorded daemon had from elsewhere.
    fn lay_out(&self, at: usize, keep: Keep, folder: &Path) -> Result<(), Error> {
        let data = folder.join("data");
        std::fs::create_dir(&data)?;
        self.recording.image(at, keep).write_to(&data)?;
        // It was compiled before the recording began.
        copy(&self.house.join("data/compiled"), &data.join("compiled"))?;
        for name in ["providers", "secrets"] {
            std::os::unix::fs::symlink(self.house.join(name), folder.join(name))?;
        }
        std::fs::create_dir(folder.join("connections"))?;
        for scope in SCOPES {
            let name = format!("connections/{scope}.toml");
            let text = std::fs::read_to_string(self.house.join(&name))?;
            std::fs::write(folder.join(&name), format!("paused = true\n{text}"))?;
        }
        let main = std::fs::read_to_string(self.house.join("tandem.toml"))?;
        let main: Vec<&str> = main
            .lines()
            .map(|line| if line.starts_with("listen =") { "listen = \"127.0.0.1:0\"" } else { line })
            .collect();
        Ok(std::fs::write(folder.join("tandem.toml"), main.join("\n"))?)
    }

    async fn look(&self, at: usize, folder: &Path, patience: Duration) -> Result<(), Error> {
        let log = folder.join("daemon.log");
        let mut command = Command::new(process::binary("tandem")?);
        command.arg("--config").arg(folder.join("tandem.toml")).args([
            "run",
            "--json",
            "--until-stdin-closes",
        ]);
        let mut daemon = Running::start(command, &log, Duration::from_secs(60)).await?;
        let base = daemon.announced("api")?;
        let started = Instant::now();
        let mut problems = self.records(at, &base).await?;
        // What a listing says would hide the loss of a webhook.
        tokio::time::sleep(FIRST_LOOK.saturating_sub(started.elapsed())).await;
        if let Err(error) = self.edits(at, &base, patience).await {
            problems.push(error.to_string());
        }
        daemon.kill().await?;
        let errors = std::fs::read_to_string(&log)?;
        problems.extend(errors.lines().filter(|line| line.contains("ERROR")).map(ToOwned::to_owned));
        if problems.is_empty() { Ok(()) } else { Err(super::few(&problems).into()) }
    }

    async fn listed(&self, base: &str, scope: &str) -> Result<HashMap<String, Listed>, Error> {
        let all = SystemA::new(self.client.clone(), base, ADMIN, scope).list().await?;
        Ok(all.into_iter().map(|record| (record.id.clone(), record)).collect())
    }

    /// Every record of System A is as it was acknowledged last, or as a later write that was on its way made it.
    async fn records(&self, at: usize, base: &str) -> Result<Vec<String>, Error> {
        let mut fates: BTreeMap<(&str, &str), Fate<'_>> = BTreeMap::new();
        for write in self.changes.writes.iter().filter(|write| write.asked < at) {
            let Some(id) = &write.id else { continue };
            let fate = fates
                .entry((&write.scope, id))
                .or_insert_with(|| Fate { acknowledged: None, under_way: Vec::new() });
            // A record's writes follow one another, each when the one before it was answered.
            if write.acked.is_some_and(|(acked, _)| acked < at) {
                fate.acknowledged = Some(write);
                fate.under_way.clear();
            } else {
                fate.under_way.push(write);
            }
        }
        let mut problems = Vec::new();
        let mut there = HashMap::new();
        for scope in SCOPES {
            there.insert(scope, self.listed(base, scope).await?);
        }
        for ((scope, id), fate) in fates {
            let found = there.get(scope).and_then(|records| records.get(id));
            let notes = found.and_then(|record| record.document.get("notes")).and_then(Value::as_str);
            let found_marker = notes.and_then(|notes| notes.split(' ').next()).and_then(number);
            let fits = |write: &Write| match write.marker {
                Some(_) => found_marker == write.marker,
                None => found.is_none(),
            };
            let fits_now = match fate.acknowledged {
                Some(write) => fits(write),
                None => found.is_none(),
            };
            let version = fate.acknowledged.and_then(|write| write.acked).map_or(0, |(_, version)| version);
            let is_old = found.is_some_and(|record| record.version < version);
            if is_old || !(fits_now || fate.under_way.iter().any(|write| fits(write))) {
                let wanted = fate.acknowledged.map(|write| write.marker);
                problems.push(format!(
                    "{scope}/{id}: {wanted:?} was acknowledged as version {version}, {found_marker:?} is there as version {:?}",
                    found.map(|record| record.version)
                ));
            }
        }
        Ok(problems)
    }

    /// The title that the account has, of records whose title waits for a person, by the record's id.
    async fn reviewed(&self, base: &str) -> Result<HashMap<String, u64>, Error> {
        let url = format!("{base}/v1/review?limit=10000");
        let answer = self.client.get(url).bearer_auth(ADMIN).send().await?.error_for_status()?;
        let reviews: Vec<Value> = answer.json().await?;
        Ok(reviews
            .iter()
            .filter_map(|review| {
                let id = review.pointer("/entity/id")?.as_str()?.to_owned();
                let title = review.get("external_values")?.get("/job_title")?.as_str()?;
                Some((id, number(title)?))
            })
            .collect())
    }

    /// Every edit that a webhook told of arrives in System A, though the webhook is not sent again and nothing is polled. Where
    /// the power went between an edit's write to System A and the link's commit, and the title was edited again since, the two
    /// look like a conflict: the edit is then in a review, as `docs/architecture.md` says.
    async fn edits(&self, at: usize, base: &str, patience: Duration) -> Result<(), Error> {
        let mut told: HashMap<(u64, u64), u64> = HashMap::new();
        for delivery in self.changes.deliveries.iter().filter(|delivery| delivery.acked < at) {
            for one in &delivery.told {
                if let Some(marker) = one.marker {
                    let newest = told.entry(one.record).or_default();
                    *newest = (*newest).max(marker);
                }
            }
        }
        let resumed = self
            .client
            .post(format!("{base}/v1/resume"))
            .bearer_auth(ADMIN)
            .json(&json!({ "direction": "to-internal" }))
            .send()
            .await?;
        resumed.error_for_status()?;
        until("what the webhooks told of is in system a", patience, async || {
            let mut missing = Vec::new();
            let reviewed = self.reviewed(base).await?;
            for scope in SCOPES {
                let there = self.listed(base, scope).await?;
                for person in self.people.iter().filter(|person| person.scope == scope) {
                    let Some(wanted) = told.get(&(person.portal, person.external)) else { continue };
                    let title = there
                        .get(&person.internal)
                        .and_then(|record| record.document.get("job_title"))
                        .and_then(Value::as_str);
                    let found = title.and_then(number).max(reviewed.get(&person.internal).copied());
                    if found.is_none_or(|found| found < *wanted) {
                        missing.push(format!(
                            "{scope}/{}: the webhook of {wanted} was acknowledged, {title:?} is there",
                            person.internal
                        ));
                    }
                }
            }
            Ok(if missing.is_empty() { Ok(()) } else { Err(super::few(&missing)) })
        })
        .await
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
