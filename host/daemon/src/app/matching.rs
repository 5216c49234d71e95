//! Reports of what a first sync would find: made beside the daemon's own work, kept until the next one of the same connection
//! and object.
//!
//! A report reads both sides and writes neither. Its rows (ids and names of fields, no values) go to a file in
//! `data_dir/match` while records are gone through, so that memory grows by some bytes for each record and not by the
//! records. Reports of an earlier run are taken away at the start; those that may name a record go when it is erased.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::matching::{Closed, Differences, Kind, Ledger, MOST, Row, Tally, Told};

use super::Engine;
use crate::admin::ControlError;
use crate::admin::matches::{MatchAsked, MatchReport, MatchRows, MatchState, MatchTarget};
use crate::pipeline::{Clock as _, Connection, Piece};
use crate::quota::Cause;

/// The folder of the reports' rows, in the data folder.
const FOLDER: &str = "match";

/// A report that has to wait is asked for again after this at the latest.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Tries in a row without a piece, before a report is given up.
const TRIES: u32 = 1_000;

/// The reports since the start.
#[derive(Default)]
pub(super) struct Reports(Mutex<BTreeMap<MatchTarget, Arc<Report>>>);

struct Report {
    shown: Mutex<MatchReport>,
    rows: PathBuf,
    /// It goes no further and leaves no file: what it names was erased.
    dropped: AtomicBool,
}

impl Report {
    /// Its rows while the CRM's records are gone through.
    fn raw(&self) -> PathBuf {
        self.rows.with_extension("raw")
    }

    /// Takes its files away. Whether none is left.
    fn remove(&self) -> bool {
        [&self.rows, &self.raw()].into_iter().fold(true, |none, file| {
            let removed = std::fs::remove_file(file);
            none & removed.err().is_none_or(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
    }

    fn note(&self, change: impl FnOnce(&mut MatchReport)) {
        change(&mut self.shown.lock());
    }
}

fn on_disk(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}; make room, or look at the folder's permissions", path.display())
}

/// Takes away what reports left that an earlier run made: nobody can ask for their rows any more.
///
/// # Errors
/// The folder cannot be removed.
pub(super) fn forget_reports(data_dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(data_dir.join(FOLDER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Engine {
    /// Drops the reports that may name a record which was erased: those of its scope, and those of connections that are not
    /// known any more. One that is being made goes no further. How many there were, and whether nothing is left of them.
    pub(super) fn drop_reports(&self, entity: &EntityKey) -> (usize, bool) {
        let connections = self.pipeline.connections();
        let is_other = |target: &MatchTarget| {
            connections.iter().any(|known| known.id == target.connection && known.scope != entity.scope)
        };
        let mut reports = self.reports.0.lock();
        let named: Vec<MatchTarget> = reports.keys().filter(|target| !is_other(target)).cloned().collect();
        let dropped: Vec<Arc<Report>> = named.iter().filter_map(|target| reports.remove(target)).collect();
        drop(reports);
        let gone = dropped.iter().fold(true, |gone, report| {
            report.dropped.store(true, Ordering::Release);
            gone & report.remove()
        });
        (dropped.len(), gone)
    }

    /// The connections and objects that a report is wanted of.
    fn match_targets(
        &self,
        connection: Option<&ConnectionId>,
        object: Option<&ObjectName>,
    ) -> Result<Vec<MatchTarget>, ControlError> {
        let mut all: Vec<MatchTarget> = Vec::new();
        for known in self.pipeline.connections() {
            if connection.is_some_and(|wanted| *wanted != known.id) {
                continue;
            }
            let objects = known.objects.keys().filter(|name| object.is_none_or(|wanted| wanted == *name));
            all.extend(
                objects.map(|name| MatchTarget { connection: known.id.clone(), object: name.clone() }),
            );
        }
        all.sort();
        match (all.is_empty(), connection) {
            (true, Some(connection)) => Err(ControlError::NotFound(match object {
                Some(object) => {
                    format!("connection {connection} cannot be used, or keeps no object {object}")
                }
                None => format!(
                    "there is no connection {connection} that can be used; `tandem status` lists them"
                ),
            })),
            _ => Ok(all),
        }
    }

    /// Begins reports.
    pub(super) fn begin_reports(
        self: &Arc<Self>,
        connection: Option<&ConnectionId>,
        object: Option<&ObjectName>,
    ) -> Result<Vec<MatchReport>, ControlError> {
        let targets = self.match_targets(connection, object)?;
        let folder = self.config.data_dir.join(FOLDER);
        let failed = |error: std::io::Error| ControlError::Failed(on_disk(&folder, &error));
        make_private(&folder).map_err(failed)?;
        let mut reports = self.reports.0.lock();
        let running = |target: &MatchTarget, reports: &BTreeMap<MatchTarget, Arc<Report>>| {
            reports.get(target).is_some_and(|known| known.shown.lock().state == MatchState::Running)
        };
        if let Some(target) = targets.iter().find(|target| running(target, &reports)) {
            return Err(ControlError::Conflict(format!(
                "a report of {} {} is being made; `tandem match --report --last` waits for it",
                target.connection, target.object
            )));
        }
        let mut begun = Vec::with_capacity(targets.len());
        for target in targets {
            let shown = MatchReport {
                connection: target.connection.clone(),
                object: target.object.clone(),
                state: MatchState::Running,
                began_at: self.clock.now(),
                ended_at: None,
                crm: 0,
                system_a: 0,
                calls: 0,
                detail: "the account is asked about itself".to_owned(),
                tally: Tally::default(),
            };
            begun.push(shown.clone());
            let rows = folder.join(format!("{}.{}.rows", target.connection, target.object));
            let report = Arc::new(Report { shown: Mutex::new(shown), rows, dropped: AtomicBool::new(false) });
            reports.insert(target.clone(), report.clone());
            let engine = self.clone();
            tokio::spawn(async move {
                let ended = engine.make_report(&target, &report).await;
                if report.dropped.load(Ordering::Acquire) {
                    report.remove();
                }
                let now = engine.clock.now();
                report.note(|shown| {
                    shown.ended_at = Some(now);
                    match ended {
                        Ok(tally) => {
                            shown.tally = tally;
                            shown.state = MatchState::Done;
                            shown.detail.clear();
                        }
                        Err(why) => {
                            shown.state = MatchState::Failed;
                            shown.detail = why;
                        }
                    }
                });
            });
        }
        Ok(begun)
    }

    /// The reports as they are.
    pub(super) fn reports_of(
        &self,
        connection: Option<&ConnectionId>,
        object: Option<&ObjectName>,
    ) -> Vec<MatchReport> {
        let reports = self.reports.0.lock();
        let wanted = reports.iter().filter(|(target, _)| {
            connection.is_none_or(|wanted| *wanted == target.connection)
                && object.is_none_or(|wanted| *wanted == target.object)
        });
        wanted.map(|(_, report)| report.shown.lock().clone()).collect()
    }

    /// Rows of a report that is done.
    pub(super) async fn report_rows(&self, asked: MatchAsked) -> Result<MatchRows, ControlError> {
        let MatchTarget { connection, object } = &asked.target;
        let report = self.reports.0.lock().get(&asked.target).cloned();
        let report = report
            .filter(|report| report.shown.lock().state == MatchState::Done)
            .ok_or_else(|| {
                ControlError::NotFound(format!(
                    "there is no report of {connection} {object} since the daemon was started; `tandem match --report` makes one"
                ))
            })?;
        let read = tokio::task::spawn_blocking(move || {
            read_rows(&report.rows, asked.kind, asked.from, asked.limit)
                .map_err(|error| ControlError::Failed(on_disk(&report.rows, &error)))
        });
        read.await.map_err(|error| ControlError::Failed(error.to_string()))?
    }

    async fn make_report(
        self: &Arc<Self>,
        target: &MatchTarget,
        report: &Arc<Report>,
    ) -> Result<Tally, String> {
        self.learn(&target.connection).await.map_err(|error| error.to_string())?;
        let raw = report.raw();
        let closed = self.walk_crm(target, report, &raw).await;
        let closed = match closed {
            Ok(closed) => Arc::new(closed),
            Err(why) => {
                let _ = std::fs::remove_file(&raw);
                return Err(why);
            }
        };
        report.note(|shown| shown.detail = "the CRM's records are compared".to_owned());
        let (from, to, known) = (raw.clone(), report.rows.clone(), closed.clone());
        let sorted = tokio::task::spawn_blocking(move || {
            let sorted = sort_out(&from, &to, &known).map_err(|error| on_disk(&to, &error));
            let _ = std::fs::remove_file(&from);
            sorted
        });
        let (mut tally, mut out) = sorted.await.map_err(|error| error.to_string())??;
        report.note(|shown| shown.detail = "System A's records are gone through".to_owned());
        self.walk_system_a(target, report, &closed, &mut tally, &mut out).await?;
        out.flush().map_err(|error| on_disk(&report.rows, &error))?;
        Ok(tally)
    }

    /// The connection as it is now: it may be changed while a report is made.
    fn reported(&self, target: &MatchTarget, report: &Report) -> Result<Arc<Connection>, String> {
        if report.dropped.load(Ordering::Acquire) {
            return Err("a record was erased meanwhile; ask again".to_owned());
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err("the daemon ended; ask again".to_owned());
        }
        let found = self.pipeline.connection(&target.connection);
        let usable = found.filter(|known| !known.directions.disabled());
        usable.ok_or_else(|| format!("connection {} cannot be used any more", target.connection))
    }

    /// Goes through the CRM's records; each becomes a row of the file.
    async fn walk_crm(&self, target: &MatchTarget, report: &Report, raw: &Path) -> Result<Closed, String> {
        let mut out = create(raw).map_err(|error| on_disk(raw, &error))?;
        let (mut ledger, mut cursor, mut tries) = (Ledger::default(), None, 0_u32);
        loop {
            let connection = self.reported(target, report)?;
            let piece = self.pipeline.compare_external(&connection, &target.object, cursor.clone()).await;
            // A version of the provider that was replaced must come to its end.
            drop(connection);
            let (records, more, calls) = match piece.map_err(|error| error.to_string())? {
                Piece::Records { records, cursor: next, more, calls } => {
                    cursor = Some(next);
                    (records, more, calls)
                }
                Piece::Refused(why) => return Err(why),
                Piece::NotBefore(until) => {
                    tries += 1;
                    self.wait_for_crm(target, report, until, tries).await?;
                    continue;
                }
            };
            tries = 0;
            for compared in &records {
                if ledger.len() >= MOST {
                    return Err(format!(
                        "the account has more than {MOST} records; a report goes no further"
                    ));
                }
                ledger.note(&compared.identity, &compared.row.internal);
                write_row(&mut out, &compared.row).map_err(|error| on_disk(raw, &error))?;
            }
            report.note(|shown| {
                shown.crm += records.len() as u64;
                shown.calls += u64::from(calls);
                shown.detail = "the CRM's records are gone through".to_owned();
            });
            if !more {
                break;
            }
        }
        out.flush().map_err(|error| on_disk(raw, &error))?;
        let closed = tokio::task::spawn_blocking(move || ledger.close());
        closed.await.map_err(|error| error.to_string())
    }

    async fn wait_for_crm(
        &self,
        target: &MatchTarget,
        report: &Report,
        until: Millis,
        tries: u32,
    ) -> Result<(), String> {
        let now = self.clock.now();
        let standing = self.quotas.standing(&target.connection, now);
        match standing.cause {
            Cause::Authorisation => {
                return Err(format!(
                    "the CRM does not accept the credentials: {}; mend them",
                    standing.detail
                ));
            }
            Cause::Blocked => return Err(format!("the CRM does not allow it: {}", standing.detail)),
            _ if tries >= TRIES => return Err("the CRM gave no answer for too long; ask again".to_owned()),
            _ => {}
        }
        report.note(|shown| shown.detail = "it waits for a quota of the CRM, or for the CRM".to_owned());
        let wait = Duration::from_millis(until.saturating_sub(now).max(10)).min(LONGEST_WAIT);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Goes through System A's records; those that are not in the CRM become rows.
    async fn walk_system_a(
        &self,
        target: &MatchTarget,
        report: &Report,
        closed: &Closed,
        tally: &mut Tally,
        out: &mut BufWriter<File>,
    ) -> Result<(), String> {
        let mut cursor: Option<Vec<u8>> = None;
        // A record that is edited meanwhile is named twice.
        let mut told = Told::default();
        loop {
            let connection = self.reported(target, report)?;
            let piece = self
                .pipeline
                .compare_internal(&connection, &target.object, cursor.as_deref(), closed)
                .await
                .map_err(|error| error.to_string())?;
            drop(connection);
            for row in piece.rows {
                if row.internal.first().is_some_and(|id| told.is_new(id)) {
                    tally.count(&row);
                    write_row(out, &row).map_err(|error| on_disk(&report.rows, &error))?;
                }
            }
            if told.len() > MOST as usize {
                return Err(format!("System A has more than {MOST} such records; a report goes no further"));
            }
            report.note(|shown| shown.system_a += piece.seen);
            if !piece.more {
                return Ok(());
            }
            cursor = Some(piece.cursor);
        }
    }
}

/// A folder that only the daemon's user can read.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn create(path: &Path) -> std::io::Result<BufWriter<File>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(BufWriter::new(file))
}

fn write_row(out: &mut BufWriter<File>, row: &Row) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

fn parsed(line: &str) -> std::io::Result<Row> {
    Ok(serde_json::from_str(line)?)
}

/// Everybody was seen: who is there more than once is no match.
fn sort_out(from: &Path, to: &Path, closed: &Closed) -> std::io::Result<(Tally, BufWriter<File>)> {
    let (mut tally, mut out) = (Tally::default(), create(to)?);
    for (number, line) in (0_u32..).zip(BufReader::new(File::open(from)?).lines()) {
        let mut row = parsed(&line?)?;
        if closed.is_doubled(number) && matches!(row.kind, Kind::Match | Kind::OnlyCrm) {
            row.kind = Kind::Ambiguous;
            row.differences = Differences::default();
            "another record of the CRM has the same identity".clone_into(&mut row.why);
        }
        tally.count(&row);
        write_row(&mut out, &row)?;
    }
    Ok((tally, out))
}

fn read_rows(path: &Path, kind: Option<Kind>, from: u64, limit: usize) -> std::io::Result<MatchRows> {
    let mut file = BufReader::new(File::open(path)?);
    file.seek(SeekFrom::Start(from))?;
    let (mut found, mut at, mut line) = (MatchRows::default(), from, String::new());
    while found.rows.len() < limit {
        line.clear();
        let read = file.read_line(&mut line)?;
        if read == 0 {
            return Ok(found);
        }
        at += read as u64;
        let row = parsed(&line)?;
        if kind.is_none_or(|kind| kind == row.kind) {
            found.rows.push(row);
        }
    }
    found.next = Some(at);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, external: &str) -> Row {
        Row {
            kind,
            external: Some(external.into()),
            internal: Vec::new(),
            differences: Differences { to_internal: vec!["/city".to_owned()], ..Differences::default() },
            why: String::new(),
        }
    }

    #[test]
    fn who_is_there_twice_is_ambiguous_and_rows_are_read_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let (raw, rows) = (folder.path().join("a.raw"), folder.path().join("a.rows"));
        let mut out = create(&raw).unwrap();
        let mut ledger = Ledger::default();
        for (kind, id, mail) in [
            (Kind::Match, "p-1", "a"),
            (Kind::OnlyCrm, "p-2", "b"),
            (Kind::Linked, "p-3", "a"),
            (Kind::Match, "p-4", "c"),
        ] {
            ledger.note(&[("/email".to_owned(), mail.to_owned())], &[]);
            write_row(&mut out, &row(kind, id)).unwrap();
        }
        out.flush().unwrap();
        let (tally, mut out) = sort_out(&raw, &rows, &ledger.close()).unwrap();
        out.flush().unwrap();
        let counts = [Kind::Ambiguous, Kind::OnlyCrm, Kind::Linked, Kind::Match].map(|kind| tally.of(kind));
        assert_eq!(counts, [1, 1, 1, 1], "a linked record stays one");
        assert_eq!(tally.fields.get("/city").map(|city| city.to_internal), Some(1), "of the match alone");
        let ids = |found: &MatchRows| -> Vec<String> {
            found.rows.iter().filter_map(|row| row.external.as_ref()).map(ToString::to_string).collect()
        };
        let first = read_rows(&rows, None, 0, 3).unwrap();
        assert_eq!(ids(&first), ["p-1", "p-2", "p-3"]);
        let rest = read_rows(&rows, None, first.next.unwrap(), 3).unwrap();
        assert_eq!((ids(&rest), rest.next), (vec!["p-4".to_owned()], None));
        let ambiguous = read_rows(&rows, Some(Kind::Ambiguous), 0, 3).unwrap();
        assert_eq!(ids(&ambiguous), ["p-1"]);
        assert!(ambiguous.rows.iter().all(|row| row.differences.is_empty() && !row.why.is_empty()));
    }

    #[test]
    fn rows_are_for_the_daemon_s_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("match");
        make_private(&inner).unwrap();
        let path = inner.join("a.rows");
        drop(create(&path).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&path)), (0o700, 0o600));
    }
}
