//! One world from one seed: accounts, System A, people, a network, and a daemon that is killed now and then.
//!
//! Phases: people edit while everything goes wrong; then faults and people stop, and everything has to drain within a bound; what
//! was set aside is tried once more; then nothing may be written any more.

mod erasing;
mod people;
mod scenes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem::telemetry::Metrics;
use tandem_core::Millis;
use tandem_core::exchange::HttpResponse;

use crate::account::{Account, Asked, Pen, answer, header};
use crate::daemon::{Daemon, Parts, connection_id};
use crate::dice::Dice;
use crate::erasure::Erasures;
use crate::habits::Habits;
use crate::history::{History, Side, Told, Who};
use crate::plant::Plant;
use crate::scenario::Scenario;
use crate::setting::{Guard, Setting};
use crate::shared::{BEGINNING, Due, Shared};
use crate::store::Disk;
use crate::system_a::SystemA;
use crate::wire::{Fate, Faults, Sending, Slot};

/// What happens in a world.
pub(crate) enum Event {
    /// A request reaches its account.
    Arrive(Box<Sending>),
    /// The account is done with a request of a run.
    Free(usize, u64),
    /// An answer reaches the daemon, or the wait for it ends.
    Answer(Arc<Slot>, Result<HttpResponse, ()>),
    /// A webhook is sent, for the first time or again.
    Hook(u64),
    /// Somebody does something.
    Act,
    /// Somebody edits a record that was just looked at.
    React(Side, String),
    /// Somebody is to be erased; one who was chosen before is asked about again.
    Erase(Option<usize>),
    /// What this world has of its own.
    Scene,
    /// The process dies after so many more steps.
    Crash(u64),
    /// The process is started again.
    Start,
    /// The pipeline may have something to do.
    Timer,
}

/// A webhook that was not acknowledged yet.
struct Hook {
    place: usize,
    body: Vec<u8>,
    tries: u32,
    precious: bool,
}

/// How a world is drawn beside its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug that is planted.
    pub plant: Option<Plant>,
    /// The trace is kept.
    pub traced: bool,
    /// Nothing but what the common dice say: nobody is erased.
    pub plain: bool,
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, each in a line. Empty: nothing.
    pub wrong: Vec<String>,
    /// What happened, line by line, if it was asked for.
    pub trace: String,
    /// What the world was like, in a line.
    pub setting: String,
    /// How often what was met, for the summary of many worlds.
    pub met: BTreeMap<&'static str, u64>,
}

/// A request is on its way no longer than this.
pub(crate) const LONGEST_FLIGHT: Millis = 1_000;

/// A simulated world.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared<Event>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) system_a: Arc<SystemA>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) disk: Arc<Disk<Event>>,
    pub(crate) setting: Setting,
    pub(crate) erasures: Arc<Mutex<Erasures>>,
    pub(crate) scenario: Scenario,
    faults: Arc<Mutex<Faults>>,
    metrics: Arc<Metrics>,
    daemon: Option<Daemon>,
    run: u64,
    dies_in: Option<u64>,
    hooks: BTreeMap<u64, Hook>,
    busy: Vec<(usize, u64)>,
    persons: u64,
    token: u64,
    acts_left: u64,
    awake: bool,
    plant: Option<Plant>,
    pub(crate) wrong: Vec<String>,
    pub(crate) met: BTreeMap<&'static str, u64>,
}

thread_local! {
    /// Metrics are counted and never looked at: one set for all worlds of a thread.
    static METRICS: Arc<Metrics> = Arc::new(Metrics::new());
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let shared = Shared::new(seed, options.traced);
        let mut setting = shared.roll(Setting::draw).guarded(Guard::of(seed), options.plant);
        let history = Arc::new(Mutex::new(History::default()));
        let mut habits: Vec<Habits> =
            setting.accounts.iter().map(|(habits, _)| Habits::clone(habits)).collect();
        let erasures = Erasures::draw(seed, options.plain, &mut habits);
        let scenario = Scenario::draw(seed, options.plain, &mut habits, &mut setting.faults);
        for ((known, policy), habits) in setting.accounts.iter_mut().zip(&habits) {
            *known = Arc::new(habits.clone());
            policy.event_times = habits.event_times;
        }
        let accounts = habits.into_iter().enumerate();
        let accounts = accounts.map(|(place, habits)| Account::new(place, habits)).collect();
        let faults = Arc::new(Mutex::new(setting.faults));
        Self {
            system_a: Arc::new(SystemA::new(shared.clone(), history.clone(), faults.clone(), options.plant)),
            disk: Arc::new(Disk::new(shared.clone(), options.plant)),
            acts_left: setting.acts,
            shared,
            history,
            accounts,
            faults,
            setting,
            erasures: Arc::new(Mutex::new(erasures)),
            scenario,
            metrics: METRICS.with(Arc::clone),
            daemon: None,
            run: 0,
            dies_in: None,
            hooks: BTreeMap::new(),
            busy: Vec::new(),
            persons: 0,
            token: 0,
            awake: true,
            plant: options.plant,
            wrong: Vec::new(),
            met: BTreeMap::new(),
        }
    }

    fn roll<R>(&self, ask: impl FnOnce(&mut Dice) -> R) -> R {
        self.shared.roll(ask)
    }

    fn chance(&self, per_mille: u64) -> bool {
        self.roll(|dice| dice.chance(per_mille))
    }

    fn met(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn fail(&mut self, what: String) {
        self.shared.trace(|| format!("WRONG: {what}"));
        self.wrong.push(what);
    }

    // ---- the daemon

    fn start(&mut self) {
        self.run += 1;
        self.shared.trace(|| format!("the daemon starts, run {}", self.run));
        let parts = Parts {
            shared: self.shared.clone(),
            history: self.history.clone(),
            disk: self.disk.clone(),
            system_a: self.system_a.clone(),
            faults: self.faults.clone(),
            metrics: self.metrics.clone(),
            accounts: self.setting.accounts.clone(),
            limits: self.setting.limits,
            workers: self.setting.workers,
            run: self.run,
            plant: self.plant,
        };
        match Daemon::start(&parts) {
            Ok(daemon) => self.daemon = Some(daemon),
            Err(error) => self.fail(format!("the daemon does not start: {error}")),
        }
    }

    fn crash(&mut self) {
        self.dies_in = None;
        if self.daemon.take().is_none() {
            return;
        }
        self.met("crashes");
        self.shared.trace(|| "the daemon is killed".into());
        self.history.lock().crashes.push(self.shared.now());
        self.disk = Arc::new(self.disk.crash());
        // What was sent before arrives before the next run begins, or never.
        let down = self.roll(|dice| if dice.chance(300) { dice.below(20_000) } else { dice.below(500) });
        let down = down + LONGEST_FLIGHT;
        self.shared.after(down, Event::Start);
    }

    /// Lets everything happen until `end`, or until nothing is left to do where `until_idle`. True: it was reached.
    fn go(&mut self, end: Millis, until_idle: bool) -> bool {
        loop {
            while let Some(daemon) = &mut self.daemon {
                if let Err(error) = daemon.hand_out() {
                    self.fail(format!("nothing can be taken: {error}"));
                    return false;
                }
                if !daemon.step() {
                    break;
                }
                if let Some(why) = daemon.why_failed() {
                    self.fail(format!("the daemon ended: {why}"));
                    return false;
                }
                if let Some(left) = &mut self.dies_in {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.crash();
                    }
                }
            }
            if until_idle && self.idle() {
                return true;
            }
            match self.shared.next(end) {
                None => {
                    self.shared.set(end);
                    return !until_idle;
                }
                Some(Due::Wake(waker)) => waker.wake(),
                Some(Due::Event(event)) => self.happen(event),
            }
            let disk = self.disk.clone();
            let mut late = std::pin::pin!(disk.sync_late());
            let _at_once = late.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    fn idle(&self) -> bool {
        self.hooks.is_empty()
            && self.busy.is_empty()
            && self.erasures.lock().done()
            && self.daemon.as_ref().is_some_and(Daemon::idle)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(sending) => self.arrive(*sending),
            Event::Free(place, run) => {
                if let Some(at) = self.busy.iter().position(|busy| *busy == (place, run)) {
                    self.busy.swap_remove(at);
                }
            }
            Event::Answer(slot, result) => slot.fill(result),
            Event::Hook(number) => self.hook(number),
            Event::Act => self.act(),
            Event::React(side, id) => {
                if self.awake {
                    self.edit(side, &id);
                }
            }
            Event::Scene => self.scene(),
            Event::Erase(None) => self.choose(),
            Event::Erase(Some(place)) => self.ask_to_erase(place),
            Event::Crash(steps) => {
                if self.awake {
                    self.dies_in = Some(steps);
                }
            }
            Event::Start => self.start(),
            Event::Timer => {}
        }
    }

    // ---- the network

    fn pen(&self, who: Who, place: usize) -> (u64, Millis, Who, Millis) {
        let lag = self.accounts.get(place).map_or(0, |account| account.habits.lag);
        (self.shared.number(), self.shared.now(), who, self.roll(|dice| dice.below(lag + 1)))
    }

    fn arrive(&mut self, sending: Sending) {
        let Sending { slot, place, request, run, call, fate } = sending;
        let no_effect = |status: u16, wait: bool, seconds: u64| {
            let mut response = answer(status, &json!({ "message": "not now" }));
            if wait {
                response.headers.push(header("retry-after", seconds.to_string()));
            }
            response
        };
        let seconds = self.roll(|dice| dice.between(1, 5));
        let (number, now, who, lag) = self.pen(Who::Tandem(place, call), place);
        self.busy.push((place, run));
        let own = self.busy.iter().filter(|busy| **busy == (place, run)).count() as u64;
        let result = match fate {
            Fate::LostBefore => Err(()),
            Fate::BrokenBefore { wait } => Ok(no_effect(503, wait, seconds)),
            Fate::Throttled { wait } => Ok(no_effect(429, wait, seconds)),
            Fate::Fine | Fate::LostAfter | Fate::BrokenAfter { .. } => {
                let cursor_lost = self.faults.lock().cursor_lost;
                let lost = crate::wire::line(&request).contains("/changes") && self.chance(cursor_lost);
                let mut history = self.history.lock();
                let Some(account) = self.accounts.get_mut(place) else { return };
                account.working = own;
                let pen = Pen { history: &mut history, now, number, who, lag };
                let response = account.answer(&request, Asked { now, run }, pen);
                match fate {
                    Fate::LostAfter => Err(()),
                    Fate::BrokenAfter { wait } => Ok(no_effect(502, wait, seconds)),
                    _ if lost => Ok(answer(410, &json!({ "message": "the cursor is not known" }))),
                    _ => Ok(response),
                }
            }
        };
        let line = crate::wire::line(&request);
        self.shared.trace(|| format!("call {call} reaches account {place}: {fate:?} {line}"));
        if let Some(id) = line.strip_prefix("GET /people/").and_then(|rest| rest.split(' ').next()) {
            let react = self.faults.lock().react;
            if self.awake && self.chance(react) {
                let wait = self.roll(|dice| dice.below(60));
                self.shared.after(wait, Event::React(Side::There(place), id.to_owned()));
            }
        }
        let work = self.roll(|dice| if dice.chance(50) { dice.below(2_000) } else { dice.below(40) });
        self.shared.after(work, Event::Free(place, run));
        let waits = if result.is_err() { self.roll(|dice| dice.between(3_000, 10_000)) } else { work };
        self.shared.after(waits, Event::Answer(slot, result));
        self.tell(place);
    }

    /// Sends what an account has to tell.
    fn tell(&mut self, place: usize) {
        let Some(account) = self.accounts.get_mut(place) else { return };
        let mut notices = Vec::new();
        for notice in std::mem::take(&mut account.notices) {
            match notices.last_mut() {
                Some((events, precious)) if account.habits.batches => {
                    Vec::push(events, notice.event);
                    *precious |= notice.precious;
                }
                _ => notices.push((vec![notice.event], notice.precious)),
            }
        }
        let faults = *self.faults.lock();
        for (events, precious) in notices {
            if !precious && self.chance(faults.hook_lost) {
                self.met("webhooks lost");
                continue;
            }
            let times = if self.chance(faults.hook_twice) { 2 } else { 1 };
            for _ in 0..times {
                let wait = if self.chance(faults.hook_late) {
                    self.roll(|dice| dice.below(30_000))
                } else {
                    self.roll(|dice| dice.below(60))
                };
                let number = self.shared.number();
                self.note_told(place, number, &events);
                let body = Value::Array(events.clone()).to_string().into_bytes();
                self.hooks.insert(number, Hook { place, body, tries: 0, precious });
                self.shared.after(wait, Event::Hook(number));
            }
        }
    }

    fn note_told(&self, place: usize, hook: u64, events: &[Value]) {
        let mut history = self.history.lock();
        for id in events.iter().filter_map(|event| event.get("id").and_then(Value::as_str)) {
            let track = history.tracks.get(&(Side::There(place), id.to_owned()));
            let Some(number) = track.and_then(|track| track.changes.last()).map(|last| last.number) else {
                continue;
            };
            let told = Told { place, id: id.to_owned(), number, acknowledged: None };
            history.told.entry(hook).or_default().push(told);
        }
    }

    fn hook(&mut self, number: u64) {
        if let Some(daemon) = &self.daemon {
            for done in daemon.acknowledged.lock().drain(..) {
                self.hooks.remove(&done);
            }
        }
        let Some(hook) = self.hooks.get_mut(&number) else { return };
        hook.tries += 1;
        if hook.tries > 6 && !hook.precious && !self.awake {
            self.hooks.remove(&number);
            return;
        }
        let (place, body) = (hook.place, hook.body.clone());
        if let Some(daemon) = &mut self.daemon {
            self.shared.trace(|| format!("webhook {number}: {}", String::from_utf8_lossy(&body)));
            daemon.take_in(number, place, body);
        }
        let wait = self.roll(|dice| dice.between(1_000, 8_000));
        self.shared.after(wait, Event::Hook(number));
    }

    // ---- people

    // ---- the whole

    pub(crate) fn run(mut self) -> Outcome {
        self.start();
        self.shared.after(self.roll(|dice| dice.below(3_000)), Event::Act);
        for _ in 0..self.setting.crashes {
            let (at, steps) = self.roll(|dice| (dice.below(90_000), dice.between(1, 60)));
            self.shared.after(at, Event::Crash(steps));
        }
        for at in self.scenario.times.clone() {
            self.shared.after(at, Event::Scene);
        }
        for at in self.erasures.lock().times.clone() {
            self.shared.after(at, Event::Erase(None));
        }
        let active = BEGINNING + self.roll(|dice| dice.between(20_000, 120_000));
        if self.go(active, false) {
            self.finish();
        }
        Outcome {
            setting: self.setting.line(),
            wrong: self.judged(),
            trace: self.shared.take_trace(),
            met: std::mem::take(&mut self.met),
        }
    }

    /// Everything drains, and then nothing happens any more.
    fn finish(&mut self) {
        *self.faults.lock() = Faults::default();
        self.awake = false;
        self.dies_in = None;
        self.shared.trace(|| "---- faults and people stop".into());
        let longest = self.setting.accounts.iter().map(|(habits, _)| habits.poll + habits.lag).max();
        let stretch = longest.unwrap_or(0) * 2 + 40_000;
        for round in 0..2 {
            if !self.drain() {
                return;
            }
            self.go(self.shared.now() + stretch, false);
            if !self.drain() {
                return;
            }
            if round == 0 {
                let letters = self.daemon.as_mut().map_or(0, Daemon::replay);
                self.shared.trace(|| format!("---- {letters} letters are replayed"));
                if letters > 0 {
                    self.met("letters replayed");
                }
                if matches!(self.setting.guard, Guard::Ruled(_)) {
                    self.approve();
                }
            }
        }
        self.shared.trace(|| "---- quiet".into());
        let quiet = self.shared.number();
        self.go(self.shared.now() + stretch, false);
        let late = self.history.lock().writes_since(quiet);
        for write in late {
            self.fail(format!("written although nobody did anything: {write}"));
        }
    }

    fn drain(&mut self) -> bool {
        let bound = 30 * 60_000;
        let done = self.go(self.shared.now() + bound, true);
        if !done && self.wrong.is_empty() {
            let busy: Vec<String> = self
                .setting
                .accounts
                .iter()
                .enumerate()
                .filter_map(|(place, _)| {
                    use tandem::store::Store as _;
                    let backlog = self.disk.backlog(&connection_id(place)).ok()?;
                    Some(format!("c{place}: {backlog:?}"))
                })
                .collect();
            let mut erasing = String::new();
            for order in self.erasures.lock().orders.iter().filter(|order| order.done.is_none()) {
                let left: Vec<_> = order.places.iter().filter(|place| !place.gone).collect();
                erasing.push_str(&format!(", {} is not erased: {left:?}", order.entity.id));
            }
            self.fail(format!(
                "not drained within {bound} ms: {}, {} webhooks{erasing}",
                busy.join(", "),
                self.hooks.len()
            ));
        }
        done
    }

    fn judged(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.extend(self.history.lock().wrong.iter().cloned());
        if wrong.is_empty() {
            let (found, let_pass) = crate::check::check(self);
            wrong.extend(found);
            for what in let_pass {
                self.met(what);
            }
        }
        for what in &wrong {
            self.shared.trace(|| format!("WRONG: {what}"));
        }
        wrong
    }
}
