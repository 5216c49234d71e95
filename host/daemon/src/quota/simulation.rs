//! A CRM that counts strictly, in virtual time: nothing is ever refused, and while work waits nearly all that is permitted is used.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use tandem_core::Millis;
use tandem_core::descriptor::{QuotaDescriptor, QuotaKind, QuotaScope};
use tandem_core::id::ConnectionId;

use super::{Admission, Outcome, Permit, QuotaConfig, Quotas};
use crate::store::Class;

const START: Millis = 1_763_856_000_000;

/// The model: refuses the call that is one too many in its window or its day.
struct Crm {
    limit: usize,
    per: Millis,
    seen: VecDeque<Millis>,
    daily: u64,
    day: Millis,
    today: u64,
    counted: u64,
    refused: u64,
}

impl Crm {
    fn arrive(&mut self, at: Millis) {
        while self.seen.front().is_some_and(|&first| first + self.per < at) {
            self.seen.pop_front();
        }
        let day = at / 86_400_000;
        if day != self.day {
            (self.day, self.today) = (day, 0);
        }
        if self.seen.len() >= self.limit || self.today >= self.daily {
            self.refused += 1;
            return;
        }
        self.seen.push_back(at);
        self.today += 1;
        self.counted += 1;
    }
}

struct Plan {
    limit: u64,
    per: Millis,
    daily: u64,
    latency: std::ops::RangeInclusive<Millis>,
    /// Mean pause between two bursts of new work; 0: work waits all the time.
    pause: Millis,
    from: Millis,
    length: Millis,
    seed: u64,
}

enum Event {
    Work,
    Arrival,
    Answer(Box<Permit>),
}

fn run(plan: &Plan) -> (Crm, u64) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let quotas = Quotas::new(QuotaConfig::default());
    let connection = ConnectionId::from("acme");
    let window = QuotaDescriptor {
        name: "burst".into(),
        kind: QuotaKind::Window,
        limit: plan.limit,
        per_ms: Some(plan.per),
        time_zone: None,
        scope: QuotaScope::Connection,
        also: vec!["daily".into()],
    };
    let daily = QuotaDescriptor {
        name: "daily".into(),
        kind: QuotaKind::Daily,
        limit: plan.daily,
        per_ms: None,
        also: Vec::new(),
        ..window.clone()
    };
    quotas.configure(&connection, None, &[window, daily]).unwrap();
    let mut crm = Crm {
        limit: plan.limit as usize,
        per: plan.per,
        seen: VecDeque::new(),
        daily: plan.daily,
        day: 0,
        today: 0,
        counted: 0,
        refused: 0,
    };
    let mut events: BinaryHeap<Reverse<(Millis, u64)>> = BinaryHeap::new();
    let mut contents: std::collections::HashMap<u64, Event> = std::collections::HashMap::new();
    let mut number = 0;
    let mut at = |events: &mut BinaryHeap<_>,
                  contents: &mut std::collections::HashMap<u64, Event>,
                  when: Millis,
                  event: Event| {
        number += 1;
        events.push(Reverse((when, number)));
        contents.insert(number, event);
    };
    let end = plan.from + plan.length;
    let mut waiting: u64 = if plan.pause == 0 { u64::MAX / 2 } else { 0 };
    let mut admitted = 0;
    at(&mut events, &mut contents, plan.from, Event::Work);
    while let Some(Reverse((now, number))) = events.pop() {
        if now >= end {
            break;
        }
        match contents.remove(&number).unwrap() {
            Event::Arrival => crm.arrive(now),
            Event::Answer(permit) => drop(permit.finish(Outcome::Sent, now)),
            Event::Work => {
                if plan.pause > 0 {
                    // Also called when a wait ends: new work comes with some of them.
                    waiting += random.random_range(0..plan.limit);
                }
                let mut next = now + random.random_range(1..=plan.pause.max(1) * 2);
                while waiting > 0 {
                    match quotas.admit(&connection, &[], Class::Live, now) {
                        Admission::Go(permit) => {
                            waiting -= 1;
                            admitted += 1;
                            let latency = random.random_range(plan.latency.clone());
                            let arrives = now + random.random_range(0..=latency);
                            at(&mut events, &mut contents, arrives, Event::Arrival);
                            at(&mut events, &mut contents, now + latency, Event::Answer(Box::new(permit)));
                        }
                        Admission::Wait { until, .. } => {
                            assert!(until > now, "a wait leads forward");
                            next = if plan.pause == 0 { until } else { next.min(until) };
                            break;
                        }
                    }
                }
                at(&mut events, &mut contents, next, Event::Work);
            }
        }
    }
    (crm, admitted)
}

#[test]
fn nothing_is_refused_whatever_the_arrivals_and_latencies() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(1_000 + seed);
        let limit = random.random_range(1..200);
        let slow = random.random_range(1..1_500);
        let (crm, admitted) = run(&Plan {
            limit,
            per: *[1_000, 2_000, 10_000, 300_000].get(random.random_range(0..4)).unwrap(),
            daily: random.random_range(limit..limit * 50),
            latency: 0..=slow,
            pause: random.random_range(0..3_000),
            from: START + random.random_range(0..86_400_000),
            length: 1_200_000,
            seed,
        });
        assert_eq!(crm.refused, 0, "seed {seed}: {admitted} calls were admitted");
        assert!(crm.counted > 0, "seed {seed}");
    }
}

#[test]
fn nothing_is_refused_over_midnight() {
    for seed in 0..20 {
        let (crm, _) = run(&Plan {
            limit: 100,
            per: 10_000,
            daily: 500,
            latency: 0..=900,
            pause: 0,
            from: START + 86_400_000 - 45_000,
            length: 120_000,
            seed,
        });
        assert_eq!(crm.refused, 0, "seed {seed}");
        assert!(crm.counted > 900, "seed {seed}: both days' budgets are used, {} of 1000", crm.counted);
    }
}

#[test]
fn nearly_all_that_is_permitted_is_used_while_work_waits() {
    for (limit, per) in [(100, 10_000), (110, 10_000), (80, 2_000), (6_000, 300_000)] {
        for seed in 0..5 {
            let length = per * 60;
            let (crm, _) = run(&Plan {
                limit,
                per,
                daily: 100_000_000,
                latency: 5..=60,
                pause: 0,
                from: START,
                length,
                seed,
            });
            let permitted = limit * length / per;
            assert_eq!(crm.refused, 0);
            assert!(
                crm.counted * 100 >= permitted * 95,
                "{limit} in {per} ms: {} of {permitted} were used",
                crm.counted
            );
        }
    }
}

#[test]
fn a_whole_daily_budget_is_used() {
    let (crm, _) = run(&Plan {
        limit: 100,
        per: 10_000,
        daily: 5_000,
        latency: 20..=200,
        pause: 0,
        from: START + 3_600_000,
        length: 3_600_000,
        seed: 7,
    });
    assert_eq!((crm.refused, crm.counted), (0, 5_000));
}
