//! Salesforce: outbound messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tandem_simulator::control::salesforce::OutboundSettings;
use tandem_simulator::control::types::{FaultKind, FaultOrder};
use tokio::net::TcpListener;

use crate::salesforce_setting::Force;
use crate::setting::until;

const ACK: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body><notificationsResponse xmlns=\"http://soap.sforce.com/2005/09/outbound\"><Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>";

#[derive(Debug, Default)]
struct State {
    messages: Vec<String>,
    answers: VecDeque<(u16, &'static str)>,
    held: bool,
}

/// A listener that acknowledges, unless told otherwise.
#[derive(Debug, Clone)]
struct Listener {
    port: u16,
    state: Arc<Mutex<State>>,
    open: Arc<tokio::sync::Notify>,
}

impl Listener {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let listener = Self { port, state: Arc::default(), open: Arc::default() };
        let own = listener.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let own = own.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let own = own.clone();
                        async move {
                            assert_eq!(request.headers()["content-type"], "text/xml; charset=utf-8");
                            assert!(request.headers().contains_key("soapaction"));
                            let body = request.into_body().collect().await?.to_bytes();
                            let ((status, answer), held) = {
                                let mut state = own.state.lock().unwrap();
                                state.messages.push(String::from_utf8(body.to_vec()).unwrap());
                                (state.answers.pop_front().unwrap_or((200, ACK)), state.held)
                            };
                            if held {
                                own.open.notified().await;
                            }
                            let response =
                                http::Response::builder().status(status).body(Full::new(Bytes::from(answer)));
                            Ok::<_, hyper::Error>(response.unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        listener
    }

    fn messages(&self) -> Vec<String> {
        self.state.lock().unwrap().messages.clone()
    }

    /// The records of all messages, in the order in which they came.
    fn records(&self) -> Vec<String> {
        self.messages().iter().flat_map(|message| all(message, "sf:Id")).collect()
    }

    /// The first message holds the sender up until it is let go.
    fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    fn let_go(&self) {
        self.state.lock().unwrap().held = false;
        self.open.notify_one();
    }

    fn settings(&self) -> OutboundSettings {
        OutboundSettings {
            target_url: Some(format!("http://127.0.0.1:{}/outbound", self.port)),
            retry_base_ms: 10,
            retry_max_ms: 40,
            timeout_ms: 60_000,
            ..OutboundSettings::default()
        }
    }

    async fn force(&self) -> Force {
        Force::with(|new| new.outbound = self.settings()).await
    }
}

/// The texts of all elements of a name.
fn all(message: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    message.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

fn one(message: &str, name: &str) -> String {
    let mut found = all(message, name);
    assert_eq!(found.len(), 1, "{name}: {message}");
    found.remove(0)
}

#[tokio::test]
async fn a_message_is_an_envelope_with_org_action_and_record() {
    let listener = Listener::start().await;
    let f = listener.force().await;
    let id = f.contact(json!({ "FirstName": "A<&>\"B", "LastName": "Doe", "Phone": "1" })).await;
    until("a message", || listener.messages().len() == 1).await;
    let message = listener.messages().remove(0);
    assert!(message.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"));
    assert!(message.contains("<notifications xmlns=\"http://soap.sforce.com/2005/09/outbound\">"));
    assert_eq!(one(&message, "OrganizationId"), f.org.organization_id);
    assert!(one(&message, "ActionId").starts_with("04k"));
    assert!(message.contains("<SessionId xsi:nil=\"true\"/>"));
    assert!(one(&message, "EnterpriseUrl").starts_with(&format!("{}/services/Soap/c/", f.org.instance_url)));
    assert!(one(&message, "Id").starts_with("04l"));
    assert!(
        message.contains(
            "<sObject xsi:type=\"sf:Contact\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\">"
        )
    );
    assert_eq!((one(&message, "sf:Id"), one(&message, "sf:LastName")), (id, "Doe".to_owned()));
    assert_eq!(one(&message, "sf:FirstName"), "A&lt;&amp;&gt;&quot;B");
    assert!(one(&message, "sf:SystemModstamp").ends_with(".000Z"));
    assert!(!message.contains("sf:Phone") && !message.contains("sf:Email"), "{message}");
}

#[tokio::test]
async fn edits_of_anybody_are_told_and_deletions_are_not() {
    let listener = Listener::start().await;
    let f = listener.force().await;
    let id = f.contact(json!({})).await;
    f.update(&id, json!({ "Title": "x" })).await;
    f.control.salesforce_person_edits(f.number(), &id, json!({ "Title": "y" })).await.unwrap();
    f.delete(&format!("/sobjects/Contact/{id}")).await;
    f.control.salesforce_person_undeletes(f.number(), &id).await.unwrap();
    until("four notifications", || listener.records().len() == 4).await;
    let counts = f.control.salesforce_counts(f.number()).await.unwrap().outbound;
    assert_eq!(counts.notifications, 4);
}

#[tokio::test]
async fn a_user_that_sends_no_messages_is_silent() {
    let listener = Listener::start().await;
    let f = Force::with(|new| new.outbound = OutboundSettings { mute_api_user: true, ..listener.settings() })
        .await;
    let id = f.contact(json!({})).await;
    f.control.salesforce_person_edits(f.number(), &id, json!({ "Title": "y" })).await.unwrap();
    until("the person's message", || listener.records().len() == 1).await;
    assert_eq!(f.control.salesforce_counts(f.number()).await.unwrap().outbound.notifications, 1);
    let message = listener.messages().remove(0);
    assert_eq!(one(&message, "sf:LastModifiedById"), f.org.person_user_id);
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_as_the_same_notification() {
    let listener = Listener::start().await;
    listener.state.lock().unwrap().answers.extend([
        (500, ACK),
        (200, ""),
        (200, "<soapenv:Envelope xmlns:soapenv=\"x\"><notificationsResponse><Ack>false</Ack></notificationsResponse></soapenv:Envelope>"),
    ]);
    let f = listener.force().await;
    f.contact(json!({})).await;
    until("the fourth attempt", || listener.messages().len() == 4).await;
    let ids: Vec<String> = listener.messages().iter().map(|message| one(message, "Id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    loop {
        let counts = f.control.salesforce_counts(f.number()).await.unwrap().outbound;
        if counts.under_way == 0 {
            assert_eq!((counts.acknowledged, counts.failed, counts.messages), (1, 3, 4));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_message_is_given_up_after_the_last_retry() {
    let listener = Listener::start().await;
    listener.state.lock().unwrap().answers.extend([(500, ""); 3]);
    let f =
        Force::with(|new| new.outbound = OutboundSettings { max_retries: 2, ..listener.settings() }).await;
    f.contact(json!({})).await;
    loop {
        let counts = f.control.salesforce_counts(f.number()).await.unwrap().outbound;
        if counts.under_way == 0 {
            assert_eq!((counts.given_up, counts.acknowledged), (1, 0));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(listener.messages().len(), 3);
}

#[tokio::test]
async fn a_message_shows_the_newest_state_and_has_a_hundred_notifications_at_most() {
    let listener = Listener::start().await;
    listener.hold();
    let f = listener.force().await;
    let first = f.contact(json!({})).await;
    until("the first message", || listener.messages().len() == 1).await;
    let mut ids = Vec::new();
    for _ in 0..101 {
        ids.push(f.contact(json!({ "FirstName": "old" })).await);
    }
    f.update(&ids[0], json!({ "FirstName": "new" })).await;
    f.delete(&format!("/sobjects/Contact/{}", ids[1])).await;
    listener.let_go();
    until("all notifications", || listener.records().len() == 103).await;
    let messages = listener.messages();
    assert_eq!(all(&messages[0], "sf:Id"), [first]);
    assert_eq!(all(&messages[1], "sf:Id"), ids[..100]);
    let records: Vec<&str> = messages[1].split("<Notification>").skip(1).collect();
    assert_eq!(all(records[0], "sf:FirstName"), ["new"]);
    assert!(all(records[1], "sf:FirstName").is_empty(), "what was deleted has no values");
    assert_eq!(all(&messages[2], "sf:Id"), [ids[100].clone(), ids[0].clone()]);
}

#[tokio::test]
async fn a_message_may_have_the_id_of_a_live_session() {
    let listener = Listener::start().await;
    let f =
        Force::with(|new| new.outbound = OutboundSettings { include_session: true, ..listener.settings() })
            .await;
    f.contact(json!({})).await;
    until("a message", || listener.messages().len() == 1).await;
    let session = one(&listener.messages()[0], "SessionId");
    let url = format!("{}/services/data/v60.0/limits", f.simulator.api_url());
    let bearer = format!("Bearer {session}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(f.raw(http::Method::GET, &url, &headers, "").await.unwrap().status, 200);
}

#[tokio::test]
async fn notifications_may_be_lost_doubled_late_and_out_of_order() {
    let listener = Listener::start().await;
    let f = listener.force().await;
    f.control.order(&FaultOrder::new(FaultKind::WebhookLost).times(1)).await.unwrap();
    f.contact(json!({})).await;
    f.control.order(&FaultOrder::new(FaultKind::WebhookDuplicated { delay_ms: 5 }).times(1)).await.unwrap();
    let doubled = f.contact(json!({})).await;
    until("both copies", || listener.records().len() == 2).await;
    assert_eq!(listener.records(), [doubled.clone(), doubled]);
    let messages = listener.messages();
    assert_eq!(one(&messages[0], "Id"), one(&messages[1], "Id"));
    let counts = f.control.salesforce_counts(f.number()).await.unwrap().outbound;
    assert_eq!((counts.lost, counts.duplicated), (1, 1));
    f.control
        .order(&FaultOrder::new(FaultKind::WebhookReordered { window_ms: 200 }).portal(f.number()))
        .await
        .unwrap();
    let mut made = Vec::new();
    for _ in 0..20 {
        made.push(f.contact(json!({})).await);
    }
    until("all of them", || listener.records().len() == 22).await;
    let told = listener.records()[2..].to_vec();
    assert_ne!(told, made);
    let mut sorted = told;
    sorted.sort();
    assert_eq!(sorted, made);
}

#[tokio::test]
async fn targets_and_fields_of_messages_are_checked() {
    let f = Force::new().await;
    for wrong in [
        json!({ "targetUrl": "nowhere" }),
        json!({ "targetUrl": "https://example.com/x" }),
        json!({ "fields": ["Nope__c"] }),
        json!({ "unknown": Value::Null }),
    ] {
        assert!(f.control.set_salesforce_outbound(f.number(), &wrong).await.is_err(), "{wrong}");
    }
    let proxied = json!({ "targetUrl": "https://example.com/x", "connectTo": "127.0.0.1:1" });
    f.control.set_salesforce_outbound(f.number(), &proxied).await.unwrap();
}
