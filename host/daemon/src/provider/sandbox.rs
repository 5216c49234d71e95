//! What surrounds one instance on the host's side: its bounds, its clock, its randomness, what it writes to log and stderr.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use super::engine::{Engine, one_line};
use super::limits::Limits;

/// Instances, tables and memories that the parts of one component may have.
const PARTS: usize = 64;
/// Handles of the WASI shell that one instance may be given in its life.
const HANDLES: u32 = 100_000;

/// The data of a store.
pub(super) struct Sandbox {
    pub(super) limits: Arc<Limits>,
    /// Provider and connection, for the log.
    label: Arc<str>,
    connection: Arc<str>,
    pub(super) room: Room,
    /// What the clocks say, in milliseconds since the epoch.
    pub(super) now: u64,
    random: u64,
    handles: u32,
    stderr: VecDeque<u8>,
    log: LogBudget,
    meter: Meter,
}

/// Memory and tables of an instance.
pub(super) struct Room {
    memory_limit: usize,
    table_limit: usize,
    pub(super) memory: usize,
    table: usize,
    /// Which bound it ran into.
    pub(super) refused: Option<Refused>,
}

/// A bound that growth ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Memory,
    Table,
}

/// The time of the call that is running. Nothing is measured for a call that ends within a tick.
struct Meter {
    limit: Duration,
    wall_limit: Duration,
    began: Option<(Duration, Instant)>,
}

/// A flood of log lines is told of once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A bucket for log bytes.
struct LogBudget {
    left: usize,
    filled: Instant,
    dropped: u64,
    told: Option<Instant>,
}

impl Sandbox {
    /// A store with its bounds set.
    pub(super) fn store(
        engine: &Engine,
        limits: &Arc<Limits>,
        label: &Arc<str>,
        connection: &Arc<str>,
    ) -> Store<Self> {
        let mut store = Store::new(
            engine.inner(),
            Self {
                limits: Arc::clone(limits),
                label: Arc::clone(label),
                connection: Arc::clone(connection),
                room: Room {
                    memory_limit: limits.memory_bytes,
                    table_limit: limits.table_elements,
                    memory: 0,
                    table: 0,
                    refused: None,
                },
                now: 0,
                random: 0,
                handles: 0,
                stderr: VecDeque::new(),
                log: LogBudget { left: limits.log_bytes, filled: Instant::now(), dropped: 0, told: None },
                meter: Meter { limit: Duration::ZERO, wall_limit: Duration::ZERO, began: None },
            },
        );
        store.limiter(|sandbox| &mut sandbox.room);
        store.set_hostcall_fuel(limits.copied_bytes);
        store.epoch_deadline_callback(|mut context: StoreContextMut<'_, Self>| {
            Ok(context.data_mut().meter.tick())
        });
        store
    }

    /// Makes ready for a call: the clock stands at `now`, randomness begins anew, the deadline runs.
    ///
    /// Calls that have no context see the clock at 0. Randomness is the same for each call with the same time: whoever
    /// depends on it gives the same bytes on fresh and on warm instances.
    pub(super) fn prepare(store: &mut Store<Self>, now: u64, deadline: Duration) {
        store.set_epoch_deadline(1);
        let sandbox = store.data_mut();
        sandbox.now = now;
        sandbox.random = now ^ 0x7461_6e64_656d_0001;
        sandbox.meter.limit = deadline;
        sandbox.meter.wall_limit = deadline.saturating_mul(sandbox.limits.wall_factor);
        sandbox.meter.began = None;
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): enough to seed a guest's hash tables, the same every time.
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Counts a handle that the shell gives out.
    pub(super) fn give_handle(&mut self) -> wasmtime::Result<()> {
        self.handles += 1;
        if self.handles > HANDLES {
            wasmtime::bail!("it opened more than {HANDLES} handles");
        }
        Ok(())
    }

    /// Keeps the end of what is written to stderr.
    pub(super) fn write_stderr(&mut self, bytes: &[u8]) {
        let keep = self.limits.stderr_bytes;
        let bytes = bytes.get(bytes.len().saturating_sub(keep)..).unwrap_or_default();
        let excess = (self.stderr.len() + bytes.len()).saturating_sub(keep);
        self.stderr.drain(..excess.min(self.stderr.len()));
        self.stderr.extend(bytes);
    }

    /// The end of stderr on one line.
    pub(super) fn stderr(&mut self) -> String {
        one_line(&String::from_utf8_lossy(self.stderr.make_contiguous()))
    }

    /// A line from the guest: cut, cleaned, counted.
    pub(super) fn log(&mut self, level: &str, message: &str) {
        let limits = Arc::clone(&self.limits);
        self.log.refill(limits.log_bytes);
        let mut end = message.len().min(limits.log_line_bytes);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let cut = message.get(..end).unwrap_or_default();
        let cost = cut.len().max(32);
        if self.log.left < cost {
            self.log.dropped += 1;
            if self.log.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                self.log.told = Some(Instant::now());
                let (provider, connection, most) = (&*self.label, &*self.connection, limits.log_bytes);
                tracing::warn!(
                    target: "tandem::guest", provider, connection,
                    "it floods the log: more than its {most} bytes a minute; what is more is dropped and counted"
                );
            }
            return;
        }
        self.log.left -= cost;
        let dropped = std::mem::take(&mut self.log.dropped);
        let message = one_line(cut);
        let (provider, connection) = (&*self.label, &*self.connection);
        match level {
            "trace" => tracing::trace!(target: "tandem::guest", provider, connection, dropped, "{message}"),
            "debug" => tracing::debug!(target: "tandem::guest", provider, connection, dropped, "{message}"),
            "warn" => tracing::warn!(target: "tandem::guest", provider, connection, dropped, "{message}"),
            "error" => tracing::error!(target: "tandem::guest", provider, connection, dropped, "{message}"),
            _ => tracing::info!(target: "tandem::guest", provider, connection, dropped, "{message}"),
        }
    }
}

impl LogBudget {
    fn refill(&mut self, full: usize) {
        let since = self.filled.elapsed();
        if since >= Duration::from_secs(1) {
            let seconds = usize::try_from(since.as_secs()).unwrap_or(usize::MAX);
            self.left = self.left.saturating_add((full / 60).saturating_mul(seconds)).min(full);
            self.filled = Instant::now();
        }
    }
}

impl Meter {
    /// Called once a tick while a guest runs. Its own CPU time counts, so that a busy machine makes no lawful provider
    /// look slow; the clock on the wall counts too, much more generously.
    fn tick(&mut self) -> UpdateDeadline {
        let cpu = thread_time();
        let (began, wall) = *self.began.get_or_insert_with(|| (cpu, Instant::now()));
        if cpu.saturating_sub(began) >= self.limit || wall.elapsed() >= self.wall_limit {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(1)
        }
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

impl ResourceLimiter for Room {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.memory_limit {
            self.refused = Some(Refused::Memory);
            wasmtime::bail!("it asked for {total} bytes of memory");
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table.saturating_sub(current).saturating_add(desired);
        if total > self.table_limit {
            self.refused = Some(Refused::Table);
            wasmtime::bail!("it asked for {total} table elements");
        }
        self.table = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = Some(Refused::Memory);
        Err(error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = Some(Refused::Table);
        Err(error)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}
