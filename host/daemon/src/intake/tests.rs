//! A door of an app: whose each event is, what is nobody's, and that all of it is on disk before it is acknowledged.

use serde_json::json;

use super::*;
use crate::store::memory::MemoryStore;

/// 2026-01-02T12:00:00Z.
const NOW: Millis = 1_767_355_200_000;

struct Hall {
    intake: Intake<MemoryStore>,
    store: Arc<MemoryStore>,
    metrics: Arc<Metrics>,
    arrived: Arc<parking_lot::Mutex<Vec<Hint>>>,
}

fn hall() -> Hall {
    let (store, metrics) = (Arc::new(MemoryStore::default()), Arc::new(Metrics::new()));
    let arrived: Arc<parking_lot::Mutex<Vec<Hint>>> = Arc::default();
    let hints = Arc::clone(&arrived);
    let intake = Intake::new(
        store.clone(),
        metrics.clone(),
        Box::new(|| NOW),
        Arc::new(move |arrived| hints.lock().extend(arrived)),
    );
    Hall { intake, store, metrics, arrived }
}

/// A door of an app with the accounts 7, of `acme`, and 8, of `globex`.
fn door(webhooks: Value) -> Door {
    Door {
        path: "app/crm".into(),
        provider: "crm".into(),
        webhooks: serde_json::from_value(webhooks).unwrap(),
        secrets: vec!["the app's".into()],
        route: Route::Accounts(HashMap::from([("7".into(), "acme".into()), ("8".into(), "globex".into())])),
        strangers: Strangers::default(),
    }
}

fn token() -> Value {
    json!({ "scheme": "token", "secret": "webhook", "place": "query:key" })
}

impl Hall {
    async fn take_in(&self, door: &Door, body: &[u8]) -> Result<(), Refusal> {
        self.intake.take_in(door, "/hooks/app/crm?key=the+app%27s", &HeaderMap::new(), body).await
    }

    /// What is stored, by connection.
    fn stored(&self) -> Vec<(String, Value)> {
        let arrived = self.arrived.lock();
        arrived
            .iter()
            .map(|hint| {
                let Subject::Delivery(seq) = hint.subject else { panic!("a delivery") };
                let stored = self.store.delivery(seq).unwrap().unwrap();
                assert_eq!(stored.connection, hint.connection);
                (stored.connection.to_string(), serde_json::from_slice(&stored.delivery.body).unwrap())
            })
            .collect()
    }

    fn unroutable(&self) -> bool {
        self.metrics.render(&[]).lines().any(|line| line.contains("unroutable") && line.ends_with(" 2"))
    }
}

#[tokio::test]
async fn a_batch_of_several_accounts_goes_to_each_ones_connection_and_strangers_are_dropped() {
    let hall = hall();
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    let event = |portal: Value, n: u64| json!({ "portal": portal, "n": n });
    let body = json!([
        event(json!(7), 1),
        event(json!("8"), 2),
        event(json!(9), 3),
        event(json!(7), 4),
        json!({ "n": 5 }),
    ]);
    hall.take_in(&door, body.to_string().as_bytes()).await.ok().unwrap();
    let expected = [
        ("acme".to_owned(), json!([event(json!(7), 1), event(json!(7), 4)])),
        ("globex".to_owned(), json!([event(json!("8"), 2)])),
    ];
    assert_eq!(hall.stored(), expected);
    assert!(hall.unroutable(), "each event of a stranger is counted");
    assert_eq!(door.strangers.tell(NOW), None, "the log was told");
}

#[tokio::test]
async fn a_delivery_of_strangers_alone_is_answered_and_leaves_nothing() {
    let hall = hall();
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    hall.take_in(&door, br#"[{"portal":9},{"portal":10}]"#).await.ok().unwrap();
    assert!(hall.stored().is_empty() && hall.unroutable());
}

#[tokio::test]
async fn an_account_may_stand_deep_in_a_single_event_or_in_an_element() {
    let hall = hall();
    let single = door(json!({ "verify": token(), "account": "/meta/company" }));
    hall.take_in(&single, br#"{"meta":{"company":8},"data":{}}"#).await.ok().unwrap();
    assert_eq!(hall.stored(), [("globex".to_owned(), json!({ "meta": { "company": 8 }, "data": {} }))]);
    let xml = door(json!({ "verify": token(), "format": "xml", "account": "/Envelope/Organisation" }));
    let text = b"<Envelope><Organisation>7</Organisation></Envelope>";
    hall.take_in(&xml, text).await.ok().unwrap();
    let hint = hall.arrived.lock().last().cloned().unwrap();
    assert_eq!(hint.connection.as_str(), "acme");
}

#[tokio::test]
async fn what_does_not_prove_its_sender_is_read_by_nobody() {
    let hall = hall();
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    let taken = hall.intake.take_in(&door, "/hooks/app/crm?key=other", &HeaderMap::new(), b"no JSON").await;
    assert!(matches!(taken, Err(Refusal::Signature(_))));
    assert!(hall.stored().is_empty());
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    let hall = hall();
    hall.store.fail();
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    let taken = hall.take_in(&door, br#"[{"portal":7},{"portal":8}]"#).await;
    assert!(matches!(taken, Err(Refusal::Store(_))));
    assert!(hall.arrived.lock().is_empty(), "nobody is told of it");
}

/// Lets the other tasks run until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    let turns = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), turns).await.unwrap();
}

#[tokio::test]
async fn what_is_being_written_down_is_told_of_though_its_sender_hangs_up() {
    let hall = hall();
    hall.store.hold(true);
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    let written = until(|| !hall.store.busy().unwrap().is_empty());
    tokio::select! {
        _ = hall.take_in(&door, br#"[{"portal":7}]"#) => panic!("it is not durable yet"),
        () = written => {}
    }
    assert!(hall.arrived.lock().is_empty(), "nobody works on what may be lost still");
    hall.store.hold(false);
    until(|| !hall.arrived.lock().is_empty()).await;
    assert_eq!(hall.stored(), [("acme".to_owned(), json!([{ "portal": 7 }]))]);
}

#[tokio::test]
async fn no_more_than_so_many_are_written_down_at_once_whoever_waits_for_them() {
    let hall = hall();
    hall.store.hold(true);
    let door = door(json!({ "verify": token(), "array": true, "account": "/portal" }));
    let pending = || hall.store.backlog(&"acme".into()).unwrap().ready;
    for _ in 0..MOST_WRITING + 5 {
        // A sender that hangs up as soon as it has written.
        let before = pending();
        let settled = async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
                if pending() > before {
                    break;
                }
            }
        };
        tokio::select! {
            _ = hall.take_in(&door, br#"[{"portal":7}]"#) => panic!("it is not durable yet"),
            () = settled => {}
        }
    }
    assert_eq!(pending(), MOST_WRITING as u64);
}

#[tokio::test]
async fn an_event_at_a_connections_own_door_stays_as_it_was_written() {
    let hall = hall();
    let door = Door {
        route: Route::Connection("acme".into()),
        ..door(json!({ "verify": token(), "account": "/account" }))
    };
    let body = br#"{"account":9,"amount":0.10000000000000000001}"#;
    hall.take_in(&door, body).await.ok().unwrap();
    let Subject::Delivery(seq) = hall.arrived.lock()[0].subject else { panic!("a delivery") };
    assert_eq!(hall.store.delivery(seq).unwrap().unwrap().delivery.body, body);
    let taken = hall.take_in(&door, b"no JSON").await;
    assert!(matches!(taken, Err(Refusal::Malformed(_))));
}
