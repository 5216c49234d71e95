//! Laws over random histories of edits, hints in any order, stale rows, races and crashes.

use proptest::prelude::*;

use super::world::{ALL, Habits, IN, Mishap, OUT, PLAIN, World};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    EditInternal(usize, Option<u8>),
    EditExternal(usize, Option<u8>),
    /// System A says that its record changed.
    HintInternal,
    Touched,
    /// One of the events that were not delivered yet; the number picks it.
    Event(usize),
    /// An event that was delivered or not, again.
    OldEvent(usize),
    Row(usize),
    Read,
    Dies(usize),
    Race(usize, Option<u8>),
}

fn value(field: usize, value: Option<u8>) -> (String, Option<Value>) {
    let pointer = ALL[field % ALL.len()];
    let value = value.map(|value| {
        if pointer == "/tags" {
            let tags: Vec<String> =
                (0..4).filter(|bit| value & (1 << bit) != 0).map(|bit| format!("t{bit}")).collect();
            json!(tags)
        } else {
            json!(format!("x{}", value % 5))
        }
    });
    // A cleared set is an empty one.
    let value = if pointer == "/tags" { Some(value.unwrap_or(json!([]))) } else { value };
    (pointer.to_owned(), value)
}

fn step() -> impl Strategy<Value = Step> {
    let field = 0..ALL.len();
    let content = prop::option::weighted(0.9, any::<u8>());
    prop_oneof![
        4 => (field.clone(), content.clone()).prop_map(|(f, v)| Step::EditInternal(f, v)),
        4 => (field.clone(), content.clone()).prop_map(|(f, v)| Step::EditExternal(f, v)),
        3 => Just(Step::HintInternal),
        1 => Just(Step::Touched),
        4 => any::<usize>().prop_map(Step::Event),
        1 => any::<usize>().prop_map(Step::OldEvent),
        2 => any::<usize>().prop_map(Step::Row),
        1 => Just(Step::Read),
        1 => (1usize..3).prop_map(Step::Dies),
        1 => (field, content).prop_map(|(f, v)| Step::Race(f, v)),
    ]
}

fn habits() -> impl Strategy<Value = Habits> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(rewrites, returns, stamps, versions, times, authors)| Habits {
            rewrites,
            returns,
            stamps,
            versions,
            times: times && stamps && (returns || !rewrites),
            authors,
        },
    )
}

fn on_conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![Just(OnConflict::Internal), Just(OnConflict::External), Just(OnConflict::Review)]
}

fn apply(world: &mut World, step: &Step) {
    match step {
        Step::EditInternal(field, content) => {
            let (pointer, value) = value(*field, *content);
            world.edit_internal(&pointer, value);
        }
        Step::EditExternal(field, content) => {
            let (pointer, value) = value(*field, *content);
            world.edit_external(&pointer, value);
        }
        Step::HintInternal => world.work(External::Unseen, Mishap::default()),
        Step::Touched => world.work(External::Touched, Mishap::default()),
        Step::Event(which) => {
            if !world.events.is_empty() {
                let event = world.events.remove(which % world.events.len());
                world.deliver(&event, Mishap::default());
            }
        }
        Step::OldEvent(which) => {
            if !world.events.is_empty() {
                let event = world.events[which % world.events.len()].clone();
                world.deliver(&event, Mishap::default());
            }
        }
        Step::Row(which) => {
            let row = world.row(*which);
            world.work(row, Mishap::default());
        }
        Step::Read => {
            let read = world.read();
            world.work(read, Mishap::default());
        }
        Step::Dies(after) => {
            let read = world.read();
            world.work(read, Mishap { die_after: Some(*after), race: None });
        }
        Step::Race(field, content) => {
            let race = Some(value(*field, *content));
            world.work(External::Unseen, Mishap { die_after: None, race });
        }
    }
}

/// Delivers what is still under way, in the given order, and looks once at both sides.
fn settle(world: &mut World, order: &[usize]) {
    let mut order = order.iter().copied().cycle();
    while !world.events.is_empty() {
        let which = order.next().unwrap_or(0) % world.events.len();
        let event = world.events.remove(which);
        world.deliver(&event, Mishap::default());
    }
    world.work(External::Unseen, Mishap::default());
    let read = world.read();
    world.work(read, Mishap::default());
}

/// A CRM that answers without record, version or stamp, and does not say who changed a record last, leaves nothing to tell a
/// rewrite from an edit in the moment after our write: what is assumed there counts as a rewrite (see `rewrites`).
fn tells_edits_from_rewrites(habits: Habits) -> bool {
    habits.returns || habits.stamps || habits.versions || habits.authors
}

proptest! {
    #![proptest_config(crate::thoroughly(1_500))]

    #[test]
    fn whatever_happens_both_sides_end_the_same_in_a_stated_number_of_rounds(
        habits in habits().prop_filter("blind", |habits| tells_edits_from_rewrites(*habits)),
        by in on_conflict(),
        steps in prop::collection::vec(step(), 0..30),
        order in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        let mut world = World::new(habits, by);
        for step in &steps {
            apply(&mut world, step);
            prop_assert!(world.rounds <= SETTLES_WITHIN, "{} rounds after {step:?}", world.rounds);
        }
        settle(&mut world, &order);
        world.assert_the_same();
        // Where the CRM answers with nothing, what it has may be what it made of our own write: then somebody is asked.
        let may_ask = by == OnConflict::Review || by == OnConflict::External && !habits.returns;
        prop_assert!(world.link.held.is_empty() || may_ask);
    }

    #[test]
    fn once_settled_no_echo_event_row_or_look_causes_a_write(
        habits in habits(),
        by in on_conflict(),
        steps in prop::collection::vec(step(), 0..20),
        rows in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut world = World::new(habits, by);
        for step in &steps {
            apply(&mut world, step);
        }
        let events = world.events.clone();
        settle(&mut world, &[0]);
        let before = (world.writes_in, world.writes_out, world.internal.clone(), world.external.clone());
        let link = world.link.clone();
        for event in &events {
            world.deliver(event, Mishap::default());
        }
        for which in rows {
            let row = world.row(which);
            world.work(row, Mishap::default());
        }
        for _ in 0..3 {
            let read = world.read();
            world.work(read, Mishap::default());
            world.work(External::Unseen, Mishap::default());
            world.work(External::Touched, Mishap::default());
        }
        prop_assert_eq!(before, (world.writes_in, world.writes_out, world.internal, world.external));
        prop_assert_eq!(link.base, world.link.base);
    }

    #[test]
    fn a_change_of_one_side_only_is_never_lost(
        habits in habits().prop_filter("blind", |habits| tells_edits_from_rewrites(*habits)),
        by in on_conflict(),
        steps in prop::collection::vec(step(), 0..30),
        order in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        // /a is edited in System A only, /b in the CRM only; the pair, the set and the one-way fields by both.
        let only = |step: &Step| match step {
            Step::EditInternal(field, _) => ALL[*field] != PLAIN[1] && ALL[*field] != IN,
            Step::EditExternal(field, _) | Step::Race(field, _) => ALL[*field] != PLAIN[0] && ALL[*field] != OUT,
            _ => true,
        };
        let mut world = World::new(habits, by);
        for step in steps.iter().filter(|step| only(step)) {
            apply(&mut world, step);
            if let Step::Dies(_) = step {
                // After a start the hint comes again before anything else: an edit of the same field in between
                // would look like a conflict with what our own lost write left there.
                apply(&mut world, &Step::Read);
            }
        }
        let (here, there) = (world.internal.clone(), world.external.clone());
        settle(&mut world, &order);
        for pointer in ["/a", OUT] {
            prop_assert_eq!(world.internal.get(pointer), here.get(pointer), "{}", pointer);
            prop_assert_eq!(world.external.get(pointer), here.get(pointer), "{}", pointer);
        }
        for pointer in ["/b", IN] {
            prop_assert_eq!(world.internal.get(pointer), there.get(pointer), "{}", pointer);
            prop_assert_eq!(world.external.get(pointer), there.get(pointer), "{}", pointer);
        }
        prop_assert!(world.link.held.keys().all(|group| group == "pair"));
    }

    /// Only where writes are conditional: elsewhere an edit that nobody has hinted at yet can be overtaken, in a narrow
    /// window, by a change of the same field from the other side.
    #[test]
    fn the_order_of_hints_does_not_matter_for_the_end(
        habits in habits().prop_map(|habits| Habits { versions: true, ..habits }),
        by in on_conflict(),
        edits in prop::collection::vec(step().prop_filter("edit", |step| matches!(step, Step::EditInternal(..) | Step::EditExternal(..))), 1..12),
        rows in prop::collection::vec(any::<usize>(), 0..3),
        first in prop::collection::vec(any::<usize>(), 1..8),
        second in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        let mut start = World::new(habits, by);
        for edit in &edits {
            apply(&mut start, edit);
        }
        let mut ends = Vec::new();
        for order in [&first, &second] {
            let mut world = start.clone();
            // A row from before all edits, or the current one: one from in between is a look at another state.
            for which in &rows {
                if order[0] % 2 == 0 {
                    let last = world.past.len() - 1;
                    let row = world.row(if which % 2 == 0 { 0 } else { last });
                    world.work(row, Mishap::default());
                }
            }
            if order[0] % 3 == 0 {
                let read = world.read();
                world.work(read, Mishap::default());
            }
            settle(&mut world, order);
            ends.push((world.internal, world.external, world.link.held.keys().cloned().collect::<Vec<_>>()));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }

    /// Where nothing is conditional, but events tell the times of edits: an edit that our write overtook is found afterwards.
    /// A group is left out: an edit of another field of it than was written is not overtaken, and stays beside what was written.
    #[test]
    fn with_events_that_tell_times_the_order_of_hints_does_not_matter_either(
        rewrites in any::<bool>(),
        by in on_conflict(),
        edits in prop::collection::vec((any::<bool>(), prop_oneof![Just("/a"), Just("/b"), Just(IN), Just(OUT)]), 1..12),
        tags in (any::<u8>(), any::<u8>()),
        twice in any::<bool>(),
        first in prop::collection::vec(any::<usize>(), 1..8),
        second in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        let habits = Habits { rewrites, returns: true, stamps: true, times: true, ..Habits::default() };
        let mut start = World::new(habits, by);
        let set = |bits: u8| value(6, Some(bits % 16));
        start.edit_internal("/tags", set(tags.0).1);
        start.edit_external("/tags", set(tags.1).1);
        for (number, (inside, pointer)) in edits.iter().enumerate() {
            // No value twice: what was taken back before our write came is another story (see `late`).
            let value = Some(json!(format!("x{number}")));
            if *inside { start.edit_internal(pointer, value) } else { start.edit_external(pointer, value) }
        }
        let mut ends = Vec::new();
        for (early, order) in [(false, &first), (true, &second)] {
            let mut world = start.clone();
            let told = world.events.clone();
            if early {
                world.work(External::Unseen, Mishap::default());
            }
            settle(&mut world, order);
            if twice {
                for event in &told {
                    world.deliver(event, Mishap::default());
                }
            }
            let held: BTreeMap<String, (Fields, Fields)> = world
                .link
                .held
                .iter()
                .map(|(group, held)| (group.clone(), (held.internal.clone(), held.external.clone())))
                .collect();
            // What is held of an overtaken edit is not in the CRM any more.
            world.external.retain(|pointer, _| !held.contains_key(pointer));
            let sorted = |fields: &Fields| {
                let mut fields = fields.clone();
                if let Some(Value::Array(tags)) = fields.get_mut("/tags") {
                    tags.sort_by_key(ToString::to_string);
                }
                fields
            };
            ends.push((sorted(&world.internal), sorted(&world.external), held));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }

    #[test]
    fn the_same_hint_again_changes_nothing(
        habits in habits(),
        by in on_conflict(),
        steps in prop::collection::vec(step(), 0..15),
        edit in step().prop_filter("edit", |step| matches!(step, Step::EditInternal(..) | Step::EditExternal(..))),
        row in any::<usize>(),
        which in any::<usize>(),
    ) {
        let mut world = World::new(habits, by);
        for step in &steps {
            apply(&mut world, step);
        }
        settle(&mut world, &[0]);
        apply(&mut world, &edit);
        let mut hints = vec![External::Unseen, External::Touched, world.row(row), world.read()];
        hints.extend(world.events.iter().map(|event| world.event(event)).collect::<Vec<_>>());
        let hint = hints.swap_remove(which % hints.len());
        world.work(hint.clone(), Mishap::default());
        let before = (world.writes_in, world.writes_out, world.internal.clone(), world.external.clone());
        let held = world.link.held.clone();
        world.work(hint, Mishap::default());
        prop_assert_eq!(before, (world.writes_in, world.writes_out, world.internal, world.external));
        prop_assert_eq!(held, world.link.held);
    }

    #[test]
    fn a_plan_made_of_a_plan_is_the_same_plan(
        habits in habits(),
        by in on_conflict(),
        steps in prop::collection::vec(step(), 0..15),
        row in any::<usize>(),
    ) {
        let mut world = World::new(habits, by);
        for step in &steps {
            apply(&mut world, step);
        }
        let internal = world.present();
        let mut hints = vec![External::Unseen, External::Touched, world.row(row), world.read()];
        hints.extend(world.events.iter().map(|event| world.event(event)).collect::<Vec<_>>());
        for hint in hints {
            let once = super::super::plan(&world.link, &internal, &hint, &world.policy, world.now);
            let twice = super::super::plan(&once.link, &internal, &hint, &world.policy, world.now);
            prop_assert_eq!(&once.link, &twice.link);
        }
    }
}

#[test]
fn one_read_serves_a_burst_of_events() {
    let mut world =
        World::new(Habits { returns: true, stamps: true, ..Habits::default() }, OnConflict::Review);
    for (pointer, value) in [("/a", "1"), ("/b", "2"), ("/c", "3"), ("/d", "4"), (IN, "5")] {
        world.edit_external(pointer, Some(json!(value)));
    }
    settle_events(&mut world);
    assert_eq!((world.reads, world.writes_in, world.writes_out), (1, 1, 0));
}

#[test]
fn the_events_of_our_own_write_cause_no_call() {
    let mut world = World::new(Habits { returns: true, ..Habits::default() }, OnConflict::Review);
    for (pointer, value) in [("/a", "1"), ("/b", "2"), ("/c", "3")] {
        world.edit_internal(pointer, Some(json!(value)));
    }
    world.work(External::Unseen, Mishap::default());
    settle_events(&mut world);
    assert_eq!((world.reads, world.writes_in, world.writes_out), (0, 0, 1));
}

fn settle_events(world: &mut World) {
    while let Some(event) = world.events.pop() {
        world.deliver(&event, Mishap::default());
    }
}

/// Not a check: prints what planning costs (`cargo nextest run -p tandem-core costs --run-ignored all --no-capture`).
#[test]
#[ignore = "a measurement"]
fn what_planning_costs() {
    let schema = crate::schema::CanonicalSchema::built_in("contact").unwrap().unwrap();
    let mut policy = schema.policy_base();
    policy.mapped = schema.fields().keys().cloned().collect();
    let document = json!({
        "email": "ann@example.com", "given_name": "Ann", "family_name": "O'Neill", "phone": "+49 30 123456",
        "mobile_phone": "+49 170 123456", "job_title": "CTO", "company_name": "Example", "website": "example.com",
        "street": "Main Street 1", "city": "Berlin", "region": "Berlin", "postal_code": "10115", "country": "Germany",
        "language": "de", "lifecycle_stage": "lead", "date_of_birth": "1990-02-28", "annual_revenue": "12.25",
        "employees": 12, "notes": "some notes", "tags": ["a", "b"],
    });
    let here = crate::document::fields(&document);
    let mut link = agreed(&[]);
    link.base.clear();
    for (pointer, value) in &here {
        let half = Some(value.clone());
        link.base.insert(pointer.clone(), Pair { internal: half.clone(), external: half, ..Pair::default() });
    }
    let there = External::Whole {
        id: "e1".into(),
        fields: here.clone(),
        version: None,
        stamp: Some(5),
        source: Source::Read { began: NOW },
        changed_at: BTreeMap::new(),
        by_other: false,
    };
    let mut changed = here.clone();
    changed.insert("/given_name".into(), json!("Anna"));
    let bytes = document.to_string();
    let cost = |name: &str, run: &dyn Fn()| {
        let start = std::time::Instant::now();
        for _ in 0..20_000 {
            run();
        }
        println!("{name}: {:.2} us", start.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    };
    let internal =
        |fields: &Fields, version| Internal::Present { fields: fields.clone(), version, changed_at: None };
    let (same, edited) = (internal(&here, 1), internal(&changed, 2));
    cost("plan, nothing to do, believed", &|| {
        super::super::plan(&link, &same, &External::Unseen, &policy, NOW).reason.clear();
    });
    cost("plan, nothing to do, seen", &|| {
        super::super::plan(&link, &same, &there, &policy, NOW).reason.clear();
    });
    cost("plan, one field to the CRM", &|| {
        super::super::plan(&link, &edited, &External::Unseen, &policy, NOW).reason.clear();
    });
    cost("document: parse", &|| assert!(crate::document::parse(bytes.as_bytes()).is_ok()));
    cost("schema: validate", &|| assert!(schema.validate(&document).is_ok()));
}
