//! The two threads: one makes commits durable, one carries them into the tree.
//!
//! The committer takes whatever was applied since its last round, writes it as one frame and syncs it: while it waits for the
//! disk the next round gathers, so groups grow with the load and a lone commit waits for one sync only. Rounds that follow each
//! other keep a distance ([`Options::pace`](super::Options::pace)). Commits that nobody waits for may wait
//! [`Options::lazy`](super::Options::lazy).
//!
//! A failed write or sync ends both threads for good. The waiters are failed, and nothing more is accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::codec;
use super::engine::{CHECKPOINT, Closing, Engine, Writer};
use super::journal::{self, Frame, Journal};
use super::keys;
use super::tables::Rows;

/// How often the free space is looked up.
const LOOK: Duration = Duration::from_millis(500);
/// A lazy round is written early when it is this large.
const LARGE_ROUND: usize = 1 << 20;

/// A generation, and the number of the first journal file that is not in it.
type Task = (Arc<Rows>, u64);

/// Both threads.
pub(super) struct Threads {
    committer: JoinHandle<()>,
    carrier: JoinHandle<()>,
}

impl Threads {
    pub(super) fn start(engine: &Arc<Engine>, journal: Journal) -> std::io::Result<Self> {
        let (tasks, received) = sync_channel::<Task>(1);
        let shared = engine.clone();
        let carrier = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || guarded(&shared, |engine| carry(engine, &received)))?;
        let shared = engine.clone();
        let committer = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || guarded(&shared, |engine| commit(engine, journal, &tasks)))?;
        Ok(Self { committer, carrier })
    }

    /// Waits for their end. Their panics were turned into a failed store.
    pub(super) fn join(self) {
        let _ = self.committer.join();
        let _ = self.carrier.join();
    }
}

fn guarded(engine: &Arc<Engine>, body: impl FnOnce(&Engine) -> Result<(), String>) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(engine)));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(what)) => engine.fail(what),
        Err(_) => engine.fail("a thread of the store gave up".to_owned()),
    }
}

/// Waits until there is something to write. `None`: the store is being closed, and nothing is left.
fn await_round<'a>(
    engine: &'a Engine,
    looked: &mut Instant,
    last: &mut Instant,
) -> Option<MutexGuard<'a, Writer>> {
    let mut writer = engine.writer.lock();
    let mut lazy_until = None;
    loop {
        if engine.failed.get().is_some() {
            return None;
        }
        if looked.elapsed() >= LOOK {
            *looked = Instant::now();
            look_at_space(engine);
        }
        if writer.frame.is_empty() && writer.waiters.is_empty() {
            if writer.closing.is_some() {
                return None;
            }
            let crowded = engine.crowded.load(Ordering::SeqCst) && !engine.tables.read().has_frozen();
            if writer.checkpoint || crowded {
                return Some(writer);
            }
            let _ = engine.wake.wait_for(&mut writer, LOOK);
            continue;
        }
        let urgent = !writer.waiters.is_empty()
            || writer.closing.is_some()
            || writer.checkpoint
            || writer.frame.len() > LARGE_ROUND;
        let until = *lazy_until.get_or_insert_with(|| Instant::now() + engine.options.lazy);
        if urgent || engine.wake.wait_until(&mut writer, until).timed_out() {
            let early = engine.options.pace.saturating_sub(last.elapsed());
            if !early.is_zero() && writer.closing.is_none() && writer.frame.len() <= LARGE_ROUND {
                MutexGuard::unlocked(&mut writer, || std::thread::sleep(early));
            }
            *last = Instant::now();
            return Some(writer);
        }
    }
}

fn commit(engine: &Engine, mut journal: Journal, tasks: &SyncSender<Task>) -> Result<(), String> {
    let mut spare = Frame::default();
    let (mut looked, mut last) = (Instant::now(), Instant::now());
    look_at_space(engine);
    while let Some(mut writer) = await_round(engine, &mut looked, &mut last) {
        let wanted = std::mem::take(&mut writer.checkpoint);
        std::mem::swap(&mut writer.frame, &mut spare);
        let waiters = std::mem::take(&mut writer.waiters);
        let seq_high = writer.seq_high;
        drop(writer);
        if !spare.is_empty() {
            append(engine, &mut journal, &mut spare, seq_high)?;
        }
        // A commit that changed nothing waits for those before it, and they are durable by now.
        for waiter in waiters {
            let _ = waiter.send(());
        }
        let tables = engine.tables.read();
        let (bytes, busy) = (tables.active_bytes(), tables.has_frozen());
        drop(tables);
        let full = bytes > engine.options.memory_bytes || journal.len() > engine.options.journal_bytes;
        if (full || wanted) && !busy {
            begin_checkpoint(engine, &mut journal, &mut spare, tasks)?;
        } else if wanted {
            engine.writer.lock().checkpoint = true;
            await_thaw(engine);
        }
        relieve(engine);
    }
    if engine.failed.get().is_none() && engine.writer.lock().closing == Some(Closing::Checkpoint) {
        await_thaw(engine);
        begin_checkpoint(engine, &mut journal, &mut spare, tasks)?;
    }
    Ok(())
}

fn append(engine: &Engine, journal: &mut Journal, frame: &mut Frame, seq_high: u64) -> Result<(), String> {
    journal.append(frame).map_err(|error| format!("journal {:016x}: {error}", journal.number()))?;
    frame.clear();
    let mut durable = engine.seq_durable.lock();
    if seq_high > *durable {
        *durable = seq_high;
        engine.seq_wake.notify_all();
    }
    Ok(())
}

/// Freezes the active generation. What it holds is in the journal before, or a checkpoint that stops half way would leave half
/// a commit behind.
fn begin_checkpoint(
    engine: &Engine,
    journal: &mut Journal,
    spare: &mut Frame,
    tasks: &SyncSender<Task>,
) -> Result<(), String> {
    let mut writer = engine.writer.lock();
    if !writer.frame.is_empty() {
        std::mem::swap(&mut writer.frame, spare);
        append(engine, journal, spare, writer.seq_high)?;
    }
    for waiter in std::mem::take(&mut writer.waiters) {
        let _ = waiter.send(());
    }
    let rows = engine.tables.write().freeze();
    writer.floor = engine.seq.load(Ordering::SeqCst) + 1;
    drop(writer);
    journal.rotate().map_err(|error| format!("journal {:016x}: {error}", journal.number() + 1))?;
    tasks.send((rows, journal.number())).map_err(|_| "the checkpoint's thread is gone".to_owned())
}

fn await_thaw(engine: &Engine) {
    let mut writer = engine.writer.lock();
    while engine.failed.get().is_none() && engine.tables.read().has_frozen() {
        let _ = engine.wake.wait_for(&mut writer, Duration::from_millis(20));
    }
}

/// Lets commits go on when there is room again.
fn relieve(engine: &Engine) {
    if !engine.crowded.load(Ordering::SeqCst) {
        return;
    }
    let tables = engine.tables.read();
    let room = tables.active_bytes() <= 2 * engine.options.memory_bytes || !tables.has_frozen();
    drop(tables);
    if room {
        engine.crowded.store(false, Ordering::SeqCst);
        engine.room.notify_waiters();
    }
}

fn look_at_space(engine: &Engine) {
    let limit = engine.options.min_free_bytes;
    match rustix::fs::statvfs(&engine.path) {
        Ok(space) => {
            let scarce = space.f_bavail.saturating_mul(space.f_frsize) < limit;
            if engine.scarce.swap(scarce, Ordering::Relaxed) != scarce {
                tracing::warn!(path = %engine.path.display(), scarce, limit, "store: free space");
            }
        }
        Err(error) => tracing::warn!(path = %engine.path.display(), %error, "store: free space is unknown"),
    }
}

/// Carries frozen generations into the tree.
fn carry(engine: &Engine, tasks: &Receiver<Task>) -> Result<(), String> {
    while let Ok((rows, number)) = tasks.recv() {
        let begun = Instant::now();
        let failed = |error: super::tree::TreeError| error.to_string();
        for (key, value) in rows.iter() {
            engine.tree.write(key, value.as_deref()).map_err(failed)?;
        }
        engine.tree.sync().map_err(failed)?;
        let key = keys::meta(CHECKPOINT);
        let value =
            codec::seal("a number", &key, &number.to_le_bytes()).map_err(|error| error.to_string())?;
        engine.tree.write(&key, Some(&value)).map_err(failed)?;
        engine.tree.sync().map_err(failed)?;
        engine.tables.write().thaw();
        journal::remove_before(&journal::folder(&engine.path), number)
            .map_err(|error| format!("journal: {error}"))?;
        tracing::debug!(rows = rows.len(), elapsed = ?begun.elapsed(), "store: checkpoint");
        engine.wake.notify_all();
        engine.crowded.store(false, Ordering::SeqCst);
        engine.room.notify_waiters();
    }
    Ok(())
}
