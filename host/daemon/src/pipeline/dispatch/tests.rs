use tandem_core::link::Link;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Commit, Op, Until};

fn connection() -> ConnectionId {
    ConnectionId::from("c")
}

fn hint(seq: u64, class: Class, subject: Subject) -> Hint {
    Hint {
        seq,
        connection: connection(),
        object: if matches!(subject, Subject::Delivery(_)) { "".into() } else { "contact".into() },
        subject,
        class,
        noticed_at: 0,
        due: 0,
        attempts: 0,
        cause: "test".into(),
        observed: None,
    }
}

fn edit(seq: u64) -> Hint {
    hint(seq, Class::Interactive, Subject::Internal(format!("i{seq}").as_str().into()))
}

fn delivery(seq: u64) -> Hint {
    hint(seq, Class::Live, Subject::Delivery(seq))
}

/// A dispatcher that has loaded what its store has: nothing.
fn dispatch(store: &MemoryStore) -> Dispatch {
    let mut dispatch = Dispatch::new(4);
    dispatch.register(&connection(), &"s".into());
    assert_eq!(dispatch.take(store, 0).unwrap(), None);
    dispatch
}

fn taken(dispatch: &mut Dispatch, store: &MemoryStore) -> Option<Work> {
    dispatch.take(store, 0).unwrap()
}

#[test]
fn no_record_is_taken_before_the_deliveries_that_wait_were_read() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([edit(1), edit(2), delivery(3), delivery(4)]);
    let first = taken(&mut dispatch, &store).expect("a delivery");
    let second = taken(&mut dispatch, &store).expect("the other delivery");
    assert_eq!((&first.subject, &second.subject), (&Subject::Delivery(3), &Subject::Delivery(4)));
    assert_eq!(taken(&mut dispatch, &store), None, "both are still being read");
    dispatch.finish(&first);
    assert_eq!(taken(&mut dispatch, &store), None, "one is still being read");
    dispatch.finish(&second);
    let record = taken(&mut dispatch, &store).expect("a record");
    assert_eq!(record.subject, Subject::Internal("i1".into()));
    // One that comes meanwhile goes before the next record.
    dispatch.arrived([delivery(5)]);
    assert_eq!(taken(&mut dispatch, &store).expect("the delivery").subject, Subject::Delivery(5));
}

#[test]
fn a_delivery_goes_before_records_also_when_the_window_is_full_of_them() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    let many = WINDOW as u64 + 100;
    dispatch.arrived((1..=many).map(edit));
    dispatch.arrived([delivery(many + 1)]);
    assert_eq!(taken(&mut dispatch, &store).expect("work").subject, Subject::Delivery(many + 1));
}

/// An edit that nobody waits for.
fn live(seq: u64) -> Hint {
    hint(seq, Class::Live, Subject::Internal(format!("i{seq}").as_str().into()))
}

/// A push about a record that is linked to nothing.
fn background(seq: u64) -> Hint {
    hint(seq, Class::Background, Subject::External(format!("x{seq}").as_str().into()))
}

#[test]
fn an_edit_goes_before_an_import_that_fills_its_window_and_more() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    let many = 2 * WINDOW as u64;
    dispatch.arrived((1..=many).map(background));
    dispatch.arrived([live(many + 1), live(many + 2)]);
    let classes: Vec<Class> =
        (0..3).filter_map(|_| taken(&mut dispatch, &store)).map(|work| work.class()).collect();
    assert_eq!(classes, [Class::Live, Class::Live, Class::Background]);
}

#[tokio::test]
async fn an_edit_that_waits_in_the_store_goes_before_an_import_that_waits_in_memory() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived((2..=WINDOW as u64).map(background));
    let mut commit = Commit::new();
    commit.push(Op::AddHint(live(1)));
    store.commit(commit, Until::Applied).await.unwrap();
    // What is in the store is looked for.
    dispatch.register(&connection(), &"s".into());
    assert_eq!(taken(&mut dispatch, &store).expect("work").class(), Class::Live);
}

#[test]
fn every_less_urgent_class_has_its_turn_while_urgent_work_waits() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived((1..=200).map(live));
    dispatch.arrived((201..=220).map(background));
    let last = |seq| hint(seq, Class::Backfill, Subject::Internal(format!("b{seq}").as_str().into()));
    dispatch.arrived((221..=240).map(last));
    let mut others = Vec::new();
    for _ in 0..4 * AGEING {
        let work = taken(&mut dispatch, &store).expect("work");
        if work.class() != Class::Live {
            others.push(work.class());
        }
        dispatch.finish(&work);
    }
    assert_eq!(others, [Class::Backfill, Class::Background, Class::Backfill, Class::Background]);
}

#[test]
fn a_delivery_that_could_not_be_read_holds_nobody_up_until_its_time() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([edit(1), edit(2), delivery(3)]);
    let delivery = taken(&mut dispatch, &store).expect("the delivery");
    dispatch.put_back(delivery, 1_000, false);
    let record = taken(&mut dispatch, &store).expect("a record");
    assert_eq!(record.subject, Subject::Internal("i1".into()));
    let again = dispatch.take(&store, 1_000).unwrap().expect("the delivery again");
    assert_eq!(again.subject, Subject::Delivery(3));
}

#[tokio::test]
async fn an_edit_takes_along_what_was_put_back_about_the_other_side_of_its_link() {
    let store = MemoryStore::default();
    let entity = EntityKey { scope: "s".into(), object: "contact".into(), id: "i1".into() };
    let mut commit = Commit::new();
    commit.push(Op::PutLink(Link { external: Some("x1".into()), ..Link::new(entity, connection()) }));
    store.commit(commit, Until::Applied).await.unwrap();
    let mut dispatch = dispatch(&store);
    let seqs = |work: &Work| work.hints.iter().map(|hint| hint.seq).collect::<Vec<_>>();

    dispatch.arrived([hint(1, Class::Live, Subject::External("x1".into()))]);
    let look = taken(&mut dispatch, &store).expect("the look");
    dispatch.put_back(look, 1_000, false);
    assert_eq!(taken(&mut dispatch, &store), None, "it waits for its moment");
    dispatch.arrived([edit(2), hint(3, Class::Interactive, Subject::Internal("i1".into()))]);
    let other = taken(&mut dispatch, &store).expect("somebody else's edit");
    assert_eq!(seqs(&other), [2]);
    let both = taken(&mut dispatch, &store).expect("the edit, and the look with it");
    assert_eq!(seqs(&both), [3, 1]);
    dispatch.put_back(both, 2_000, false);
    assert_eq!(dispatch.take(&store, 1_000).unwrap(), None, "it is not there twice");
    assert_eq!(seqs(&dispatch.take(&store, 2_000).unwrap().expect("both again")), [3, 1]);
}

#[tokio::test]
async fn what_waits_about_a_record_goes_to_the_entity_that_has_it_now() {
    let store = MemoryStore::default();
    let entity = |id: &str| EntityKey { scope: "s".into(), object: "contact".into(), id: id.into() };
    let link = |id: &str| Link { external: Some("x1".into()), ..Link::new(entity(id), connection()) };
    let mut commit = Commit::new();
    // The second one took the record over; the first one's link names it still.
    commit.push(Op::PutLink(link("i1"))).push(Op::PutLink(link("i2")));
    store.commit(commit, Until::Applied).await.unwrap();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([edit(1), hint(2, Class::Live, Subject::External("x1".into()))]);
    let first = taken(&mut dispatch, &store).expect("the edit");
    assert_eq!((&first.hand, first.hints.len()), (&Hand::Entity(entity("i1")), 1));
    let second = taken(&mut dispatch, &store).expect("word of the record");
    assert_eq!((&second.hand, second.hints.len()), (&Hand::Entity(entity("i2")), 1));
}

#[test]
fn a_connection_that_moved_to_another_scope_is_given_the_records_of_that_scope() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([edit(1)]);
    dispatch.register(&connection(), &"other".into());
    let work = taken(&mut dispatch, &store).expect("a record");
    let entity = EntityKey { scope: "other".into(), object: "contact".into(), id: "i1".into() };
    assert_eq!(work.hand, Hand::Entity(entity));
}

#[test]
fn a_flood_of_deliveries_starves_no_record() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([edit(1)]);
    let mut read = 0;
    for seq in 2..2_000 {
        dispatch.arrived([delivery(seq)]);
        let work = taken(&mut dispatch, &store).expect("work");
        dispatch.finish(&work);
        if matches!(work.subject, Subject::Internal(_)) {
            break;
        }
        read += 1;
    }
    assert_eq!(read, DELIVERIES_IN_A_ROW);
    // Deliveries alone do not count: the next edit waits for those before it.
    for seq in 3_000..3_600 {
        dispatch.arrived([delivery(seq)]);
        while let Some(work) = taken(&mut dispatch, &store) {
            dispatch.finish(&work);
        }
    }
    dispatch.arrived([edit(4_000), delivery(4_001)]);
    assert_eq!(taken(&mut dispatch, &store).expect("work").subject, Subject::Delivery(4_001));
}

#[test]
fn everybody_who_waits_for_a_hand_is_woken_also_behind_one_that_is_held_up() {
    let store = MemoryStore::default();
    let mut dispatch = Dispatch::new(4);
    for id in ["c", "d", "e"] {
        dispatch.register(&id.into(), &"s".into());
    }
    assert_eq!(taken(&mut dispatch, &store), None);
    let of = |seq: u64, id: &str, record: &str| Hint {
        connection: id.into(),
        ..hint(seq, Class::Interactive, Subject::Internal(record.into()))
    };
    dispatch.arrived([of(1, "c", "shared")]);
    let first = taken(&mut dispatch, &store).expect("work of the first connection");
    dispatch.arrived([of(2, "d", "shared"), of(3, "d", "own")]);
    let own = taken(&mut dispatch, &store).expect("its other record");
    assert_eq!(own.subject, Subject::Internal("own".into()));
    dispatch.put_back(own, 1_000, true);
    dispatch.arrived([of(4, "e", "shared")]);
    assert_eq!(taken(&mut dispatch, &store), None, "both want what the first one holds");
    dispatch.finish(&first);
    let next = taken(&mut dispatch, &store).expect("work of the one that is not held up");
    assert_eq!((next.connection.as_str(), next.subject), ("e", Subject::Internal("shared".into())));
}

#[test]
fn while_records_rest_deliveries_are_read_and_a_release_ends_the_rest() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    dispatch.arrived([live(1), live(2)]);
    let work = taken(&mut dispatch, &store).expect("a record");
    dispatch.rest(&connection(), 5_000);
    dispatch.put_back(work, 5_000, false);
    dispatch.arrived([delivery(3)]);
    let read = taken(&mut dispatch, &store).expect("the delivery");
    assert_eq!(read.subject, Subject::Delivery(3));
    dispatch.finish(&read);
    assert_eq!(taken(&mut dispatch, &store), None, "no record");
    assert_eq!(dispatch.next_timer(), Some(5_000));
    dispatch.release(&connection());
    let after: Vec<u64> = (0..2)
        .filter_map(|_| taken(&mut dispatch, &store))
        .flat_map(|work| work.hints)
        .map(|hint| hint.seq)
        .collect();
    assert_eq!(after, [2, 1]);
}

#[test]
fn work_that_goes_ahead_of_word_of_the_crm_in_the_store_says_so() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    let many = WINDOW as u64 + 1;
    dispatch.arrived([live(1)]);
    assert!(!taken(&mut dispatch, &store).expect("an edit").went_ahead, "there is nothing else");
    dispatch.arrived((2..=many).map(background));
    dispatch.arrived([live(many + 1)]);
    assert!(!taken(&mut dispatch, &store).expect("an edit").went_ahead, "all of it is in memory");
    dispatch.arrived([background(many + 2), background(many + 3), live(many + 4)]);
    assert!(taken(&mut dispatch, &store).expect("an edit").went_ahead);
    assert!(taken(&mut dispatch, &store).expect("of the storm").went_ahead, "a turn of age is no reason");
}

#[test]
fn edits_of_system_a_that_wait_in_the_store_are_no_word_of_the_crm() {
    let store = MemoryStore::default();
    let mut dispatch = dispatch(&store);
    let many = WINDOW as u64 + 1;
    dispatch.arrived((1..=many + 1).map(live));
    assert!(!taken(&mut dispatch, &store).expect("an edit").went_ahead);
    dispatch.arrived([hint(many + 2, Class::Live, Subject::External("x1".into()))]);
    assert!(
        taken(&mut dispatch, &store).expect("an edit").went_ahead,
        "it waits behind them in the same class"
    );
}
