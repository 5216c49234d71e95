//! What all parts of one simulated world share: virtual time, chance, the queue of what is to happen, and the trace.
//!
//! There is one thread, so that the locks are never waited for; they are there because the pipeline's traits ask for `Sync`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tandem::pipeline::Clock;
use tandem_core::Millis;

use crate::dice::Dice;

/// When each world begins.
pub(crate) const BEGINNING: Millis = 1_763_856_000_000;

/// Something that happens at a moment. What it is the driver knows; a wake belongs to a sleeping task.
pub(crate) enum Due<E> {
    Wake(Waker),
    Event(E),
}

struct State<E> {
    now: Millis,
    dice: Dice,
    queue: BTreeMap<(Millis, u64), Due<E>>,
    number: u64,
    /// Tasks that can go on, in the order in which they were woken.
    ready: Vec<u64>,
    trace: Option<String>,
}

/// Time, chance and what is to come.
pub(crate) struct Shared<E> {
    state: Mutex<State<E>>,
}

impl<E: Send + 'static> Shared<E> {
    pub(crate) fn new(seed: u64, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                now: BEGINNING,
                dice: Dice::new(seed),
                queue: BTreeMap::new(),
                number: 0,
                ready: Vec::new(),
                trace: traced.then(String::new),
            }),
        })
    }

    pub(crate) fn now(&self) -> Millis {
        self.state.lock().now
    }

    /// Asks chance.
    pub(crate) fn roll<R>(&self, ask: impl FnOnce(&mut Dice) -> R) -> R {
        ask(&mut self.state.lock().dice)
    }

    /// A number that was never given before: what has a greater one happened later.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.number += 1;
        state.number
    }

    /// Lets something happen so many milliseconds from now.
    pub(crate) fn after(&self, wait: Millis, event: E) {
        self.put(wait, Due::Event(event));
    }

    fn put(&self, wait: Millis, due: Due<E>) {
        let mut state = self.state.lock();
        state.number += 1;
        let place = (state.now.saturating_add(wait), state.number);
        state.queue.insert(place, due);
    }

    /// The next thing that happens, not later than `end`; the clock is set to its moment.
    pub(crate) fn next(&self, end: Millis) -> Option<Due<E>> {
        let mut state = self.state.lock();
        let (at, _) = *state.queue.first_key_value()?.0;
        if at > end {
            return None;
        }
        state.now = state.now.max(at);
        state.queue.pop_first().map(|(_, due)| due)
    }

    /// Sets the clock, never back.
    pub(crate) fn set(&self, now: Millis) {
        let mut state = self.state.lock();
        state.now = state.now.max(now);
    }

    /// A task that can go on, by chance.
    pub(crate) fn ready(&self) -> Option<u64> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.ready.is_empty() {
            return None;
        }
        let place = state.dice.place(state.ready.len());
        Some(state.ready.swap_remove(place))
    }

    pub(crate) fn make_ready(&self, task: u64) {
        let mut state = self.state.lock();
        if !state.ready.contains(&task) {
            state.ready.push(task);
        }
    }

    /// Writes a line of the trace, if there is one.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(trace) = &mut state.trace {
            let at = state.now - BEGINNING;
            let _written = writeln!(trace, "{:>6}.{:03} {}", at / 1_000, at % 1_000, line());
        }
    }

    pub(crate) fn take_trace(&self) -> String {
        self.state.lock().trace.take().unwrap_or_default()
    }

    /// Sleeps for so many milliseconds of virtual time.
    pub(crate) fn sleep(self: &Arc<Self>, wait: Millis) -> Sleep<E> {
        Sleep { shared: self.clone(), until: self.now().saturating_add(wait), asked: false }
    }

    /// Nothing, a turn for others, or some milliseconds: what lies between two steps of a program.
    pub(crate) async fn nap(self: &Arc<Self>, longest: Millis) {
        enum Nap {
            No,
            Turn,
            Some(Millis),
        }
        let nap = self.roll(|dice| match dice.below(10) {
            0..=4 => Nap::No,
            5..=7 => Nap::Turn,
            _ => Nap::Some(dice.between(1, longest.max(1))),
        });
        match nap {
            Nap::No => {}
            Nap::Turn => Turn(false).await,
            Nap::Some(wait) => self.sleep(wait).await,
        }
    }
}

/// A sleep in virtual time.
pub(crate) struct Sleep<E> {
    shared: Arc<Shared<E>>,
    until: Millis,
    asked: bool,
}

impl<E: Send + 'static> Future for Sleep<E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.shared.now();
        if now >= self.until {
            return Poll::Ready(());
        }
        if !self.asked {
            self.asked = true;
            self.shared.put(self.until - now, Due::Wake(context.waker().clone()));
        }
        Poll::Pending
    }
}

/// Lets others go first, once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

struct TaskWake<E> {
    task: u64,
    shared: Arc<Shared<E>>,
}

impl<E: Send + 'static> Wake for TaskWake<E> {
    fn wake(self: Arc<Self>) {
        self.shared.make_ready(self.task);
    }
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of one run of the daemon. Dropping it is the end of the process: nothing of them goes on.
pub(crate) struct Tasks<E> {
    shared: Arc<Shared<E>>,
    jobs: BTreeMap<u64, (Job, Waker)>,
}

impl<E: Send + 'static> Tasks<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        Self { shared, jobs: BTreeMap::new() }
    }

    pub(crate) fn spawn(&mut self, job: impl Future<Output = ()> + Send + 'static) {
        let task = self.shared.number();
        let waker = Waker::from(Arc::new(TaskWake { task, shared: self.shared.clone() }));
        self.jobs.insert(task, (Box::pin(job), waker));
        self.shared.make_ready(task);
    }

    /// Lets one task that can go on do its next step; false when none can. A task of an earlier run is passed over.
    pub(crate) fn step(&mut self) -> bool {
        let Some(task) = self.shared.ready() else { return false };
        if let Some((job, waker)) = self.jobs.get_mut(&task)
            && job.as_mut().poll(&mut Context::from_waker(waker)).is_ready()
        {
            self.jobs.remove(&task);
        }
        true
    }
}

/// The clock that the pipeline is given.
pub(crate) struct VirtualClock<E>(pub(crate) Arc<Shared<E>>);

impl<E: Send + 'static> Clock for VirtualClock<E> {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn jitter(&self, bound: u64) -> u64 {
        self.0.roll(|dice| dice.below(bound))
    }

    async fn sleep(&self, ms: u64) {
        self.0.sleep(ms).await;
    }
}
