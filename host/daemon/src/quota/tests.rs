use tandem_core::Millis;
use tandem_core::descriptor::{QuotaDescriptor, QuotaKind, QuotaScope};
use tandem_core::exchange::{Charge, QuotaState, Wait};
use tandem_core::id::ConnectionId;

use super::{Admission, Answered, Cause, Extent, NEVER, Outcome, Permit, QuotaConfig, Quotas};
use crate::store::Class;

const NOW: Millis = 1_763_898_000_000;

fn acme() -> ConnectionId {
    ConnectionId::from("acme")
}

fn quota(name: &str, kind: QuotaKind, limit: u64) -> QuotaDescriptor {
    QuotaDescriptor {
        name: name.into(),
        kind,
        limit,
        per_ms: (kind == QuotaKind::Window).then_some(10_000),
        time_zone: None,
        scope: QuotaScope::Connection,
        also: Vec::new(),
    }
}

/// burst 10 in 10 s (also daily), daily 25, search 2 in 10 s (also daily).
fn hubspot() -> Quotas {
    hubspot_in(Quotas::new(QuotaConfig::default()))
}

fn hubspot_in(quotas: Quotas) -> Quotas {
    let mut burst = quota("burst", QuotaKind::Window, 10);
    burst.also = vec!["daily".into()];
    let mut search = quota("search", QuotaKind::Window, 2);
    search.also = vec!["daily".into()];
    quotas.configure(&acme(), Some("app"), &[burst, quota("daily", QuotaKind::Daily, 25), search]).unwrap();
    quotas
}

fn charge(quota: &str, amount: u32) -> Vec<Charge> {
    vec![Charge { quota: quota.into(), amount }]
}

fn go(quotas: &Quotas, charges: &[Charge], class: Class, now: Millis) -> Permit {
    match quotas.admit(&acme(), charges, class, now) {
        Admission::Go(permit) => permit,
        Admission::Wait { until, cause, .. } => panic!("has to wait until {until}: {cause:?}"),
    }
}

fn wait(quotas: &Quotas, charges: &[Charge], class: Class, now: Millis) -> (Millis, String) {
    match quotas.admit(&acme(), charges, class, now) {
        Admission::Go(_) => panic!("goes"),
        Admission::Wait { until, cause: Cause::Quota, detail } => (until, detail),
        Admission::Wait { cause, .. } => panic!("waits for {cause:?}"),
    }
}

fn used(quotas: &Quotas, name: &str, now: Millis) -> u64 {
    quotas.standing(&acme(), now).quotas.iter().find(|quota| quota.quota == name).unwrap().used
}

fn spend(quotas: &Quotas, calls: usize, now: Millis) {
    for _ in 0..calls {
        go(quotas, &[], Class::Live, now).finish(Outcome::Sent, now);
    }
}

/// What answers say to which no call is known.
fn observe(quotas: &Quotas, states: &[QuotaState], now: Millis) {
    quotas.observe(&acme(), states, &Answered::default(), now);
}

fn said(quota: &str, limit: Option<u64>, remaining: u64) -> QuotaState {
    QuotaState { quota: quota.into(), limit, remaining: Some(remaining), resets: Wait::Unknown }
}

/// What is on a disk.
type Disk = std::collections::BTreeMap<String, Vec<u8>>;

fn save(quotas: &Quotas, extent: Extent, disk: &mut Disk) -> usize {
    let mut saving = quotas.to_save(extent);
    let values = std::mem::take(&mut saving.values);
    let many = values.len();
    disk.extend(values);
    quotas.saved(saving);
    many
}

/// The next run, before its connections are configured.
fn next_run(disk: &Disk) -> Quotas {
    let quotas = Quotas::new(QuotaConfig::default());
    for name in quotas.to_restore(&acme(), Some("app")) {
        if let Some(value) = disk.get(&name) {
            quotas.restore(&name, value).unwrap();
        }
    }
    quotas
}

/// Sends what may be sent as a call must be: what it takes is on disk before. The answer says what the CRM counts.
fn send(quotas: &Quotas, disk: &mut Disk, crm: &mut u64, limit: u64, now: Millis) -> bool {
    let Admission::Go(permit) = quotas.admit(&acme(), &[], Class::Live, now) else { return false };
    if !permit.is_saved() {
        save(quotas, Extent::Due, disk);
    }
    assert!(permit.is_saved());
    *crm += 1;
    let answered = permit.finish(Outcome::Sent, now);
    quotas.observe(&acme(), &[said("daily", Some(limit), limit.saturating_sub(*crm))], &answered, now);
    true
}

#[test]
fn a_call_takes_from_all_its_quotas_or_from_none() {
    let quotas = hubspot();
    for _ in 0..2 {
        go(&quotas, &charge("search", 1), Class::Live, NOW).finish(Outcome::Sent, NOW);
    }
    assert_eq!((used(&quotas, "burst", NOW), used(&quotas, "daily", NOW)), (0, 2));
    let (until, name) = wait(&quotas, &charge("search", 1), Class::Live, NOW);
    assert_eq!(name, "search");
    assert!(until > NOW + 10_200 && until <= NOW + 10_400, "{}", until - NOW);
    assert_eq!(used(&quotas, "daily", NOW), 2, "the refused call took nothing");
}

#[test]
fn a_call_without_charges_takes_one_of_the_first_quota() {
    let quotas = hubspot();
    spend(&quotas, 10, NOW);
    assert_eq!(wait(&quotas, &[], Class::Live, NOW).1, "burst");
    assert_eq!(used(&quotas, "daily", NOW), 10);
}

#[test]
fn a_window_gives_units_back_one_window_after_the_answer() {
    let quotas = hubspot();
    let permit = go(&quotas, &charge("burst", 10), Class::Live, NOW);
    permit.finish(Outcome::Sent, NOW + 500);
    let (until, _) = wait(&quotas, &[], Class::Live, NOW + 10_400);
    assert!(until > NOW + 10_500, "{}", until - NOW);
    go(&quotas, &[], Class::Live, until);
}

#[test]
fn what_was_not_sent_comes_back_and_what_was_forgotten_does_not() {
    let quotas = hubspot();
    go(&quotas, &charge("burst", 10), Class::Live, NOW).finish(Outcome::NotSent, NOW);
    assert_eq!((used(&quotas, "burst", NOW), used(&quotas, "daily", NOW)), (0, 0));
    drop(go(&quotas, &charge("burst", 10), Class::Live, NOW));
    let (until, _) = wait(&quotas, &[], Class::Live, NOW + 5_000);
    assert!(until >= NOW + 15_000, "its time is not known: it counts from the next look");
}

#[test]
fn a_daily_budget_comes_back_at_midnight_of_its_zone() {
    let quotas = Quotas::new(QuotaConfig::default());
    let mut daily = quota("daily", QuotaKind::Daily, 3);
    daily.time_zone = Some("Asia/Tokyo".into());
    quotas.configure(&acme(), Some("app"), &[daily]).unwrap();
    spend(&quotas, 3, NOW);
    let (until, _) = wait(&quotas, &[], Class::Live, NOW);
    // Midnight in Tokyo is 15:00 UTC; NOW is 11:40 UTC.
    assert_eq!(until, NOW - NOW % 86_400_000 + 15 * 3_600_000 + super::day::SLACK);
    spend(&quotas, 3, until);
}

#[test]
fn a_counter_survives_a_restart_on_its_day_only() {
    let before = hubspot();
    let mut disk = Disk::new();
    spend(&before, 10, NOW);
    assert_eq!(save(&before, Extent::Changed, &mut disk), 1);
    assert_eq!(save(&before, Extent::Changed, &mut disk), 0, "nothing changed since");
    assert_eq!(used(&hubspot_in(next_run(&disk)), "daily", NOW), 11, "it is saved ahead of what is used");
    assert_eq!(save(&before, Extent::Last, &mut disk), 1, "and exactly at the end");
    assert_eq!(save(&before, Extent::Last, &mut disk), 0);

    let after = hubspot_in(next_run(&disk));
    assert_eq!(save(&after, Extent::Changed, &mut disk), 0, "nothing was used yet");
    assert_eq!(used(&after, "daily", NOW + 60_000), 10);
    let tomorrow = hubspot_in(next_run(&disk));
    assert_eq!(used(&tomorrow, "daily", NOW + 86_400_000), 0);
    assert!(after.restore("quota/connection/acme", b"garbage").is_err());
}

#[test]
fn a_long_window_survives_a_restart() {
    let make = |quotas: Quotas| {
        let mut day = quota("rolling", QuotaKind::Window, 100);
        day.per_ms = Some(86_400_000);
        quotas.configure(&acme(), Some("app"), &[day]).unwrap();
        quotas
    };
    let before = make(Quotas::new(QuotaConfig::default()));
    let mut disk = Disk::new();
    spend(&before, 60, NOW);
    let hanging = go(&before, &charge("rolling", 5), Class::Live, NOW);
    save(&before, Extent::Last, &mut disk);
    drop(hanging);
    let after = make(next_run(&disk));
    assert_eq!(used(&after, "rolling", NOW + 3_600_000), 65);
    assert_eq!(used(&after, "rolling", NOW + 2 * 86_400_000), 0);
}

#[test]
fn counters_of_the_one_value_of_earlier_versions_are_taken_over() {
    // As it was written: the counter of a day that began at its first number, with the second one used.
    type All = Vec<(String, Vec<(String, (u32, Millis, u64))>)>;
    let day = NOW - NOW % 86_400_000;
    let all: All = vec![("connection/acme".into(), vec![("daily".into(), (0, day, 21))])];
    let stored = postcard::to_extend(&all, vec![1]).unwrap();
    let disk: Disk = Quotas::separated(&stored).unwrap().into_iter().collect();
    let quotas = hubspot_in(next_run(&disk));
    assert_eq!(used(&quotas, "daily", NOW), 21);
    assert_eq!(used(&hubspot_in(next_run(&disk)), "daily", NOW + 86_400_000), 0);
    assert!(Quotas::separated(b"garbage").is_err());
}

#[test]
fn a_limit_that_only_answers_tell_is_not_passed_over_a_kill_at_any_moment() {
    for kind in [QuotaKind::Daily, QuotaKind::Window] {
        let make = |quotas: Quotas| {
            let mut day = quota("daily", kind, 15_000);
            day.per_ms = (kind == QuotaKind::Window).then_some(86_400_000);
            quotas.configure(&acme(), Some("app"), &[day]).unwrap();
            quotas
        };
        for killed_after in 0..40 {
            let (mut disk, mut crm) = (Disk::new(), 0);
            let mut quotas = make(Quotas::new(QuotaConfig::default()));
            let mut sent = 0;
            let mut now = NOW;
            while send(&quotas, &mut disk, &mut crm, 60, now) {
                sent += 1;
                now += 1;
                if sent % 40 == killed_after {
                    // Nothing is saved: what is on the disk now is all that the next run knows.
                    quotas = make(next_run(&disk));
                }
                assert!(sent <= 60, "{sent} calls, {kind:?}, killed after {killed_after}");
            }
            assert!(sent >= 54, "only {sent} calls, {kind:?}, killed after {killed_after}");
            let again = make(next_run(&disk));
            assert!(!send(&again, &mut disk, &mut crm, 60, now + 60_000), "{kind:?}: the day is spent");
        }
    }
}

#[test]
fn a_call_waits_for_the_disk_only_where_its_budget_outlasts_the_daemon_and_what_is_saved_is_used_up() {
    let quotas = Quotas::new(QuotaConfig::default());
    let mut burst = quota("burst", QuotaKind::Window, 1_000);
    burst.also = vec!["daily".into()];
    let search = quota("search", QuotaKind::Window, 1_000);
    quotas
        .configure(&acme(), Some("app"), &[burst, quota("daily", QuotaKind::Daily, 25_600), search])
        .unwrap();
    let mut disk = Disk::new();
    let mut saves = 0;
    for _ in 0..505 {
        let permit = go(&quotas, &[], Class::Live, NOW);
        if !permit.is_saved() {
            saves += save(&quotas, Extent::Due, &mut disk);
        }
        assert!(permit.is_saved());
        permit.finish(Outcome::Sent, NOW);
    }
    assert_eq!(saves, 5, "one for each 101 calls: the one that asks, and a 256th of the limit");
    assert!(go(&quotas, &charge("search", 1), Class::Live, NOW).is_saved());
    let killed = next_run(&disk);
    killed.configure(&acme(), Some("app"), &[quota("daily", QuotaKind::Daily, 25_600)]).unwrap();
    assert_eq!(used(&killed, "daily", NOW), 505, "all that was saved counts as used");
}

#[test]
fn calls_that_wait_for_the_disk_at_the_same_time_share_one_save() {
    let quotas = hubspot();
    let permits: Vec<Permit> = (0..5).map(|_| go(&quotas, &[], Class::Live, NOW)).collect();
    assert!(permits.iter().all(|permit| !permit.is_saved()));
    let mut disk = Disk::new();
    assert_eq!(save(&quotas, Extent::Due, &mut disk), 1);
    assert!(permits.iter().all(Permit::is_saved));
    // A save that was begun before a call was admitted says nothing of it.
    go(&quotas, &[], Class::Live, NOW).finish(Outcome::Sent, NOW);
    let early = quotas.to_save(Extent::Changed);
    let two = (go(&quotas, &[], Class::Live, NOW), go(&quotas, &[], Class::Live, NOW));
    quotas.saved(early);
    assert!(two.0.is_saved() && !two.1.is_saved(), "the first was saved ahead, the second was not");
}

#[test]
fn a_refusal_and_its_pause_survive_a_restart() {
    let quotas = hubspot();
    let mut disk = Disk::new();
    quotas.throttled(&acme(), Some("daily"), Wait::Until(NOW + 900_000), NOW, 1);
    assert_eq!(save(&quotas, Extent::Due, &mut disk), 1, "it is saved before anything else is sent");
    let after = hubspot_in(next_run(&disk));
    assert_eq!(wait(&after, &[], Class::Live, NOW + 1_000), (NOW + 900_000, "daily".into()));

    let quotas = hubspot();
    let mut disk = Disk::new();
    quotas.throttled(&acme(), None, Wait::Until(NOW + 900_000), NOW, 1);
    save(&quotas, Extent::Due, &mut disk);
    let after = hubspot_in(next_run(&disk));
    assert_eq!(wait(&after, &charge("search", 1), Class::Live, NOW + 1_000).0, NOW + 900_000);

    let quotas = hubspot();
    let mut disk = Disk::new();
    quotas.throttled(&acme(), Some("daily"), Wait::Unknown, NOW, 1);
    save(&quotas, Extent::Due, &mut disk);
    wait(&hubspot_in(next_run(&disk)), &[], Class::Live, NOW + 1_000);
}

#[test]
fn what_was_said_of_a_limit_holds_no_more_when_another_one_was_configured_meanwhile() {
    let with = |quotas: Quotas, limit| {
        quotas.configure(&acme(), Some("app"), &[quota("daily", QuotaKind::Daily, limit)]).unwrap();
        quotas
    };
    let quotas = with(Quotas::new(QuotaConfig::default()), 100);
    let mut disk = Disk::new();
    spend(&quotas, 3, NOW);
    observe(&quotas, &[said("daily", Some(5), 0)], NOW);
    quotas.throttled(&acme(), Some("daily"), Wait::Until(NOW + 900_000), NOW, 1);
    save(&quotas, Extent::Last, &mut disk);
    wait(&with(next_run(&disk), 100), &[], Class::Live, NOW);
    let more = with(next_run(&disk), 1_000);
    assert_eq!(used(&more, "daily", NOW), 5, "what is used stays used");
    spend(&more, 995, NOW);
    wait(&more, &[], Class::Live, NOW);
}

#[test]
fn a_limit_that_the_operator_raises_ends_the_pause_for_the_old_one() {
    let with = |quotas: &Quotas, limit| {
        quotas.configure(&acme(), Some("app"), &[quota("daily", QuotaKind::Daily, limit)]).unwrap();
    };
    let quotas = Quotas::new(QuotaConfig::default());
    with(&quotas, 100);
    observe(&quotas, &[said("daily", Some(5), 0)], NOW);
    quotas.throttled(&acme(), Some("daily"), Wait::Until(NOW + 900_000), NOW, 1);
    with(&quotas, 100);
    wait(&quotas, &[], Class::Live, NOW);
    with(&quotas, 3);
    wait(&quotas, &[], Class::Live, NOW);
    with(&quotas, 50);
    spend(&quotas, 45, NOW);
    assert_eq!(quotas.standing(&acme(), NOW).quotas[0].limit, 50);
    wait(&quotas, &[], Class::Live, NOW);
}

#[test]
fn an_answer_that_tells_a_higher_limit_or_a_lower_use_lets_what_waits_go_on() {
    let quotas = hubspot();
    let answer = |states: &[QuotaState]| {
        let answered = go(&quotas, &charge("search", 1), Class::Live, NOW).finish(Outcome::Sent, NOW);
        quotas.observe(&acme(), states, &answered, NOW)
    };
    assert!(!answer(&[said("daily", Some(10), 3)]), "others used six");
    assert_eq!(used(&quotas, "daily", NOW), 7);
    assert!(answer(&[said("daily", Some(40), 32)]), "somebody bought more");
    assert_eq!(used(&quotas, "daily", NOW), 8);

    // The pause is for one quota, and a call that does not take from it brings the news.
    let later = NOW + 20_000;
    quotas.throttled(&acme(), Some("burst"), Wait::Until(later + 900_000), later, 1);
    wait(&quotas, &[], Class::Live, later);
    let other = go(&quotas, &charge("search", 1), Class::Live, later).finish(Outcome::Sent, later);
    assert!(!quotas.observe(&acme(), &[said("burst", None, 4)], &other, later), "the count does not fall");
    let other = go(&quotas, &charge("search", 1), Class::Live, later).finish(Outcome::Sent, later);
    assert!(quotas.observe(&acme(), &[said("burst", None, 9)], &other, later), "it fell from 6 to 1");
    spend(&quotas, 9, later);
    wait(&quotas, &[], Class::Live, later);
}

#[test]
fn a_lower_count_takes_back_what_was_others_and_never_what_we_sent_ourselves() {
    let quotas = hubspot();
    let send = || go(&quotas, &charge("search", 1), Class::Live, NOW);
    let early = send();
    let answered = send().finish(Outcome::Sent, NOW);
    quotas.observe(&acme(), &[said("daily", Some(25), 15)], &answered, NOW);
    assert_eq!(used(&quotas, "daily", NOW), 10);
    // It was counted before the other one, and comes in after it: it tells nothing new.
    let answered = early.finish(Outcome::Sent, NOW);
    assert!(!quotas.observe(&acme(), &[said("daily", Some(25), 16)], &answered, NOW));
    assert_eq!(used(&quotas, "daily", NOW), 10);
    let later = NOW + 20_000;
    let answered = go(&quotas, &charge("search", 1), Class::Live, later).finish(Outcome::Sent, later);
    quotas.observe(&acme(), &[said("daily", Some(25), 25)], &answered, later);
    assert_eq!(used(&quotas, "daily", later), 3, "what we sent was sent, whatever it says");
}

#[test]
fn what_waits_for_more_than_is_left_is_told_though_a_cheaper_call_could_go() {
    let quotas = Quotas::new(QuotaConfig::default());
    let mut burst = quota("burst", QuotaKind::Window, 100);
    burst.also = vec!["daily".into()];
    quotas.configure(&acme(), Some("app"), &[burst, quota("daily", QuotaKind::Daily, 12)]).unwrap();
    let write = [charge("burst", 1), charge("daily", 5)].concat();
    for _ in 0..2 {
        go(&quotas, &write, Class::Live, NOW).finish(Outcome::Sent, NOW);
    }
    assert_eq!(quotas.standing(&acme(), NOW).cause, Cause::None, "nothing was turned away");
    let (until, _) = wait(&quotas, &write, Class::Live, NOW);
    let standing = quotas.standing(&acme(), NOW);
    assert_eq!((standing.cause, standing.not_before), (Cause::Quota, until));
    assert_eq!((standing.detail.as_str(), quotas.not_before(&acme(), Class::Live, NOW)), ("daily", 0));
    assert_eq!(quotas.standing(&acme(), until).cause, Cause::None, "it could go now");

    let bulk = Quotas::new(QuotaConfig::default());
    bulk.configure(&acme(), Some("app"), &[quota("daily", QuotaKind::Daily, 10)]).unwrap();
    spend(&bulk, 8, NOW);
    wait(&bulk, &[], Class::Backfill, NOW);
    assert_eq!(bulk.standing(&acme(), NOW).cause, Cause::None, "bulk work leaves the reserve to edits");
}

#[test]
fn bulk_work_leaves_a_reserve() {
    let quotas = Quotas::new(QuotaConfig::default());
    quotas.configure(&acme(), Some("app"), &[quota("daily", QuotaKind::Daily, 100)]).unwrap();
    for _ in 0..80 {
        go(&quotas, &[], Class::Backfill, NOW).finish(Outcome::Sent, NOW);
    }
    wait(&quotas, &[], Class::Backfill, NOW);
    wait(&quotas, &[], Class::Reconcile, NOW);
    for _ in 0..15 {
        go(&quotas, &[], Class::Retry, NOW).finish(Outcome::Sent, NOW);
    }
    wait(&quotas, &[], Class::Retry, NOW);
    spend(&quotas, 5, NOW);
    wait(&quotas, &[], Class::Interactive, NOW);
}

#[test]
fn bulk_work_is_paced_inside_a_window_and_edits_are_not() {
    let quotas = Quotas::new(QuotaConfig::default());
    quotas.configure(&acme(), Some("app"), &[quota("burst", QuotaKind::Window, 100)]).unwrap();
    let mut bulk = 0;
    while let Admission::Go(permit) = quotas.admit(&acme(), &[], Class::Backfill, NOW) {
        permit.finish(Outcome::Sent, NOW);
        bulk += 1;
    }
    assert_eq!(bulk, 8, "a tenth of what bulk may use");
    let (until, _) = wait(&quotas, &[], Class::Backfill, NOW);
    assert_eq!(until, NOW + 125, "80 in 10 s");
    spend(&quotas, 92, NOW);
    wait(&quotas, &[], Class::Live, NOW);
}

#[test]
fn a_limit_of_one_is_open_to_bulk_work_and_to_costly_calls() {
    let quotas = Quotas::new(QuotaConfig::default());
    quotas.configure(&acme(), Some("app"), &[quota("burst", QuotaKind::Window, 1)]).unwrap();
    go(&quotas, &[], Class::Backfill, NOW).finish(Outcome::Sent, NOW);
    let (until, _) = wait(&quotas, &charge("burst", 50), Class::Live, NOW + 1);
    go(&quotas, &charge("burst", 50), Class::Live, until);
}

#[test]
fn calls_at_once_are_limited_and_come_back() {
    let quotas = Quotas::new(QuotaConfig::default());
    quotas.configure(&acme(), Some("app"), &[quota("at-once", QuotaKind::Concurrency, 2)]).unwrap();
    let first = go(&quotas, &[], Class::Live, NOW);
    let second = go(&quotas, &[], Class::Live, NOW);
    assert_eq!(wait(&quotas, &[], Class::Live, NOW).1, "at-once");
    drop(first);
    let third = go(&quotas, &[], Class::Live, NOW);
    wait(&quotas, &[], Class::Live, NOW);
    second.finish(Outcome::Sent, NOW + 1);
    third.finish(Outcome::NotSent, NOW + 1);
    let _both = (go(&quotas, &[], Class::Live, NOW + 1), go(&quotas, &[], Class::Live, NOW + 1));
}

#[test]
fn connections_of_an_app_share_its_quotas_and_nothing_else() {
    let quotas = Quotas::new(QuotaConfig::default());
    let mut shared = quota("app", QuotaKind::Window, 3);
    shared.scope = QuotaScope::App;
    let mut own = quota("own", QuotaKind::Window, 2);
    own.also = vec!["app".into()];
    let all = [own, shared];
    for name in ["acme", "other"] {
        quotas.configure(&ConnectionId::from(name), Some("crm"), &all).unwrap();
    }
    quotas.configure(&ConnectionId::from("stranger"), Some("another-app"), &all).unwrap();
    spend(&quotas, 2, NOW);
    let other = ConnectionId::from("other");
    assert!(matches!(quotas.admit(&other, &[], Class::Live, NOW), Admission::Go(_)));
    match quotas.admit(&other, &[], Class::Live, NOW) {
        Admission::Wait { cause: Cause::Quota, detail, .. } => assert_eq!(detail, "app"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(quotas.admit(&ConnectionId::from("stranger"), &[], Class::Live, NOW), Admission::Go(_)));
}

#[test]
fn remaining_headers_lower_our_view_and_never_raise_it() {
    let quotas = hubspot();
    spend(&quotas, 3, NOW);
    observe(&quotas, &[said("burst", None, 9), said("daily", None, 24), said("nonsense", None, 0)], NOW);
    assert_eq!((used(&quotas, "burst", NOW), used(&quotas, "daily", NOW)), (3, 3), "never raised");
    observe(&quotas, &[said("burst", None, 1), said("daily", None, 20)], NOW);
    assert_eq!((used(&quotas, "burst", NOW), used(&quotas, "daily", NOW)), (9, 5));
    spend(&quotas, 1, NOW);
    wait(&quotas, &[], Class::Live, NOW);
    assert_eq!(used(&quotas, "burst", NOW + 10_400), 0, "foreign calls leave the window too");

    observe(&quotas, &[said("burst", Some(18), 18)], NOW + 10_400);
    spend(&quotas, 18, NOW + 10_400);
    assert_eq!(wait(&quotas, &[], Class::Live, NOW + 10_400).1, "burst");
}

#[test]
fn nothing_goes_before_a_named_wait_has_passed() {
    let quotas = hubspot();
    let burst = Some("burst");
    assert_eq!(quotas.throttled(&acme(), burst, Wait::Until(NOW + 45_000), NOW, 1), NOW + 45_000);
    assert_eq!(quotas.throttled(&acme(), burst, Wait::Until(NOW + 5_000), NOW + 1, 1), NOW + 45_000);
    assert_eq!(wait(&quotas, &[], Class::Interactive, NOW + 44_999), (NOW + 45_000, "burst".into()));
    go(&quotas, &charge("search", 1), Class::Live, NOW);
    go(&quotas, &[], Class::Live, NOW + 45_000);

    quotas.throttled(&acme(), None, Wait::Until(NOW + 70_000), NOW + 50_000, 1);
    assert_eq!(wait(&quotas, &charge("search", 1), Class::Live, NOW + 69_999).0, NOW + 70_000);
    assert_eq!(quotas.standing(&acme(), NOW + 60_000).not_before, NOW + 70_000);
}

#[test]
fn a_refusal_without_a_time_halves_the_rate_and_success_brings_it_back() {
    let quotas = Quotas::new(QuotaConfig::default());
    quotas.configure(&acme(), Some("app"), &[quota("burst", QuotaKind::Window, 64)]).unwrap();
    let rate = |now| quotas.standing(&acme(), now).quotas.first().unwrap().limit;
    quotas.throttled(&acme(), Some("burst"), Wait::Unknown, NOW, 12_345);
    quotas.throttled(&acme(), Some("burst"), Wait::Unknown, NOW + 1, 12_345);
    assert_eq!(rate(NOW), 32, "refusals of one burst count once");
    let first = quotas.not_before(&acme(), Class::Live, NOW) - NOW;
    assert!((625..=1_250).contains(&first), "{first}");
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        now = quotas.not_before(&acme(), Class::Live, now).max(now);
        quotas.throttled(&acme(), Some("burst"), Wait::Unknown, now, u64::MAX);
        pauses.push(quotas.not_before(&acme(), Class::Live, now) - now);
    }
    assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0]) && pauses.last() > pauses.first(), "{pauses:?}");
    assert_eq!(rate(now), 8, "the floor");
    now += 1_000_000;
    for _ in 0..20 {
        quotas.succeeded(&acme(), now);
    }
    assert_eq!(rate(now), 12);
    for _ in 0..20 * 14 {
        quotas.succeeded(&acme(), now);
    }
    assert_eq!(rate(now), 64, "and never above");
}

#[test]
fn a_daily_refusal_without_a_time_waits_for_midnight() {
    let quotas = hubspot();
    quotas.throttled(&acme(), Some("daily"), Wait::Unknown, NOW, 1);
    let (until, name) = wait(&quotas, &[], Class::Live, NOW);
    assert_eq!((until, name.as_str()), (NOW - NOW % 86_400_000 + 86_400_000 + super::day::SLACK, "daily"));
}

#[test]
fn the_breaker_opens_tries_one_call_and_closes() {
    let quotas = hubspot();
    for _ in 0..4 {
        quotas.failed(&acme(), NOW, 7);
    }
    drop(go(&quotas, &[], Class::Live, NOW));
    quotas.failed(&acme(), NOW, 7);
    let open = |now| {
        let standing = quotas.standing(&acme(), now);
        assert_eq!(standing.cause, Cause::Breaker);
        standing.not_before
    };
    let until = open(NOW);
    assert!(until > NOW && until <= NOW + 1_000);
    quotas.failed(&acme(), NOW, 7);
    assert_eq!(open(NOW), until, "what was under way changes nothing");

    let probe = go(&quotas, &[], Class::Live, until);
    assert!(matches!(
        quotas.admit(&acme(), &[], Class::Live, until),
        Admission::Wait { cause: Cause::Breaker, .. }
    ));
    quotas.failed(&acme(), until, 0);
    probe.finish(Outcome::Sent, until);
    let later = open(until);
    assert!(later - until >= 1_000, "the pause grows");

    drop(go(&quotas, &[], Class::Live, later));
    let probe = go(&quotas, &[], Class::Live, later + 1);
    quotas.succeeded(&acme(), later + 1);
    probe.finish(Outcome::Sent, later + 1);
    assert_eq!(quotas.standing(&acme(), later + 1).cause, Cause::None);
}

#[test]
fn standing_causes_hold_until_they_are_cleared() {
    let quotas = hubspot();
    quotas.unauthorised(&acme(), "the token was revoked");
    assert_eq!(quotas.not_before(&acme(), Class::Interactive, NOW), NEVER);
    quotas.blocked(&acme(), "scope crm.contacts.write is missing");
    let standing = quotas.standing(&acme(), NOW);
    assert_eq!((standing.cause, standing.not_before), (Cause::Blocked, NEVER));
    assert_eq!(standing.detail, "scope crm.contacts.write is missing");
    quotas.clear(&acme());
    assert_eq!(quotas.standing(&acme(), NOW).cause, Cause::None);
    assert_eq!(quotas.standing(&ConnectionId::from("nobody"), NOW).cause, Cause::Blocked);
}

#[test]
fn a_share_of_the_quotas_is_left_to_others() {
    let quotas = hubspot_in(Quotas::new(QuotaConfig { share: 60, reserve: 0 }));
    spend(&quotas, 6, NOW);
    wait(&quotas, &[], Class::Live, NOW);
    let quotas = hubspot_in(Quotas::new(QuotaConfig { share: 60, reserve: 0 }));
    observe(&quotas, &[said("burst", None, 6)], NOW);
    assert_eq!(used(&quotas, "burst", NOW), 0, "others used no more than their part");
    observe(&quotas, &[said("burst", None, 2)], NOW);
    spend(&quotas, 2, NOW);
    wait(&quotas, &[], Class::Live, NOW);
}

#[test]
fn a_changed_descriptor_keeps_what_is_used() {
    let quotas = hubspot();
    spend(&quotas, 4, NOW);
    let hanging = go(&quotas, &[], Class::Live, NOW);
    let mut burst = quota("burst", QuotaKind::Window, 20);
    burst.also = vec!["daily".into(), "at-once".into()];
    let changed = [quota("at-once", QuotaKind::Concurrency, 9), burst, quota("daily", QuotaKind::Daily, 50)];
    quotas.configure(&acme(), Some("app"), &changed).unwrap();
    hanging.finish(Outcome::Sent, NOW);
    assert_eq!((used(&quotas, "burst", NOW), used(&quotas, "daily", NOW)), (5, 5));
    let permit = go(&quotas, &charge("burst", 1), Class::Live, NOW);
    assert_eq!(used(&quotas, "at-once", NOW), 1);
    drop(permit);
}

#[test]
fn a_quota_that_cannot_be_understood_is_named() {
    let quotas = Quotas::new(QuotaConfig::default());
    let refused =
        |quota: QuotaDescriptor| quotas.configure(&acme(), Some("app"), &[quota]).unwrap_err().to_string();
    let mut zone = quota("daily", QuotaKind::Daily, 1);
    zone.time_zone = Some("Mars/Olympus".into());
    assert!(refused(zone).contains("quota daily: time-zone Mars/Olympus"));
    assert!(refused(quota("none", QuotaKind::Daily, 0)).contains("quota none"));
    let mut window = quota("w", QuotaKind::Window, 1);
    window.per_ms = None;
    assert!(refused(window).contains("per-ms"));
    let mut also = quota("a", QuotaKind::Daily, 1);
    also.also = vec!["b".into()];
    assert!(refused(also).contains("also names b"));
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_for_longer_than_a_window() {
    let quotas = hubspot();
    spend(&quotas, 10, NOW);
    let earlier = NOW - 3_600_000;
    let (until, _) = wait(&quotas, &[], Class::Live, earlier);
    assert!(until <= earlier + 10_400, "{}", until - earlier);
}

#[test]
fn ten_thousand_idle_connections_are_small() {
    // Sizes that matter for memory, not timings: an account with three quotas.
    let line = std::mem::size_of::<super::Line>();
    let meter = std::mem::size_of::<super::Meter>() + std::mem::size_of::<Box<str>>();
    let account = std::mem::size_of::<super::Account>() + 3 * (line + meter);
    assert!(account < 1_500, "{account} bytes");
}
