//! Strict mode, the control API and the program itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::control::types::{
    FaultKind, FaultOrder, NewAccounts, NewApp, PersonDeed, Rewrite, WriteKind, Writer,
};
use tandem_simulator::{Config, Simulator, control};

use crate::receiver::Receiver;
use crate::setting::{CONTACTS, SEARCH, Setting, until};

#[tokio::test]
async fn allowed_requests_are_no_violations() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    s.get(&format!("{CONTACTS}/{id}?properties=email&archived=false&idProperty=hs_object_id")).await;
    s.get(&format!("{CONTACTS}?limit=100&archived=true&properties=email")).await;
    s.patch(id, json!({ "city": "Ulm" })).await;
    s.post(
        SEARCH,
        json!({ "filterGroups": [], "sorts": [], "query": "ann", "limit": 100, "after": "0", "properties": ["email"] }),
    )
    .await;
    s.delete(&format!("{CONTACTS}/{id}")).await;
    assert_eq!(s.control.violations().await.unwrap().total, 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_counted() {
    let s = Setting::new().await;
    assert_eq!(s.get("/crm/v3/objects/unicorns").await.status, 404);
    assert_eq!(s.send(Method::PUT, CONTACTS, json!({})).await.status, 405);
    assert_eq!(s.raw(Method::GET, "/", None, None, "").await.unwrap().status, 404);
    let violations = s.control.violations().await.unwrap();
    assert_eq!(violations.total, 3);
    assert_eq!(violations.listed[1].method, "PUT");
    assert_eq!(violations.listed[1].path, CONTACTS);
}

#[tokio::test]
async fn unknown_query_parameters_and_members_are_counted_but_answered() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    assert_eq!(s.get(&format!("{CONTACTS}/{id}?fields=email")).await.status, 200);
    let reply = s
        .send(Method::PATCH, &format!("{CONTACTS}/{id}"), json!({ "properties": { "city": "x" }, "id": "1" }))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(s.reasons().await, ["unknown query parameter fields", "unknown member /id"]);
    s.control.clear_violations().await.unwrap();
    assert_eq!(s.control.violations().await.unwrap().total, 0);
}

#[tokio::test]
async fn a_body_must_be_declared_and_be_json() {
    let s = Setting::new().await;
    let token = Some(s.account.access_token.as_str());
    let body = json!({ "properties": { "firstname": "Ann" } }).to_string();
    for content_type in [None, Some("text/plain")] {
        let reply = s.raw(Method::POST, CONTACTS, token, content_type, &body).await.unwrap();
        assert_eq!(reply.status, 415);
    }
    let reply =
        s.raw(Method::POST, CONTACTS, token, Some("application/json"), "{\"properties\":").await.unwrap();
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    assert!(reply.body["message"].as_str().unwrap().starts_with("Invalid input JSON on line 1"));
    assert_eq!(s.reasons().await.len(), 3);
}

#[tokio::test]
async fn two_thousand_accounts_are_made_in_one_call() {
    let s = Setting::new().await;
    let made = s.control.create_accounts(&NewAccounts::new(s.app.app_id, 2_000)).await.unwrap();
    assert_eq!(made.len(), 2_000);
    let tokens: std::collections::BTreeSet<_> = made.iter().map(|a| a.access_token.clone()).collect();
    assert_eq!(tokens.len(), 2_000);
    let last = &made[1_999];
    let reply =
        s.raw(Method::GET, "/account-info/v3/details", Some(&last.access_token), None, "").await.unwrap();
    assert_eq!(reply.body["portalId"], last.portal_id);
    assert_eq!(s.control.accounts().await.unwrap().len(), 2_001);
}

#[tokio::test]
async fn people_act_past_the_quotas_and_are_checked() {
    let s = Setting::with(NewApp::default(), |new| new.quota = None).await;
    let portal = s.portal();
    let left = s.get(CONTACTS).await.number("x-hubspot-ratelimit-remaining").unwrap();
    let made = s.control.person_creates(portal, &[("email", "Ann@Example.com")]).await.unwrap();
    assert_eq!(made.properties["email"], "ann@example.com");
    assert_eq!(made.properties["hs_object_source"], "CRM_UI");
    let edited = s.control.person_edits(portal, made.id, &[("city", "Ulm"), ("zip", "5")]).await.unwrap();
    assert_eq!(edited.properties["zip"], "5");
    assert!(s.control.person_edits(portal, made.id, &[("nope", "1")]).await.is_err());
    assert!(s.control.person_deletes(portal, made.id).await.unwrap().archived);
    s.control.person_restores(portal, made.id).await.unwrap();
    let other = s.control.person_creates(portal, &[("firstname", "Bob")]).await.unwrap();
    let merged = s.control.person_merges(portal, made.id, other.id).await.unwrap();
    s.control.person_erases(portal, merged.id).await.unwrap();
    assert_eq!(s.control.dump(portal).await.unwrap().redirects[&other.id], merged.id);
    let now = s.get(CONTACTS).await.number("x-hubspot-ratelimit-remaining").unwrap();
    assert_eq!(now, left - 1);
}

#[tokio::test]
async fn an_import_says_what_was_refused() {
    let s = Setting::new().await;
    let record = |email: &str| [("email".to_owned(), email.to_owned())].into();
    let imported = s
        .control
        .person_imports(
            s.portal(),
            vec![record("a@x.de"), record("a@x.de"), record("nope"), record("b@x.de")],
            true,
        )
        .await
        .unwrap();
    assert_eq!(imported.ids.iter().filter(|id| id.is_some()).count(), 2);
    assert_eq!(imported.refused.len(), 2);
    assert!(imported.refused[0].starts_with("Contact already exists"));
}

#[tokio::test]
async fn people_act_in_many_accounts_at_once() {
    let s = Setting::new().await;
    let portal = s.portal();
    let values = |value: &str| [("email".to_owned(), value.to_owned())].into();
    let create = |portal, value| PersonDeed::Create { portal, properties: values(value) };
    let made = s.control.people_act(vec![create(portal, "a@x.de"), create(portal, "b@x.de")]).await.unwrap();
    let ids: Vec<u64> = made.ids.into_iter().flatten().collect();
    let acted = s
        .control
        .people_act(vec![
            PersonDeed::Edit { portal, id: ids[0], properties: values("c@x.de") },
            create(1, "d@x.de"),
            PersonDeed::Edit { portal, id: ids[0], properties: values("nope") },
            PersonDeed::Delete { portal, id: ids[1] },
        ])
        .await
        .unwrap();
    assert_eq!(acted.ids.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true]);
    assert_eq!(acted.refused.len(), 2);
    let records = s.control.dump(portal).await.unwrap().records;
    assert_eq!((records[0].id, records[0].properties["email"].as_str()), (ids[0], "c@x.de"));
    assert_eq!((records[1].id, records[1].archived), (ids[1], true));
}

#[tokio::test]
async fn the_event_of_the_newest_value_is_delivered_once_more() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    s.patch(id, json!({ "city": "Ulm" })).await;
    until("the events of both writes", || {
        receiver.events().last().is_some_and(|e| e["propertyName"] == "city")
    })
    .await;
    let (told, before) = (receiver.events().len(), s.control.dump(s.portal()).await.unwrap());
    let repeat = |id| PersonDeed::Repeat { portal: s.portal(), id };
    let done = s.control.people_act(vec![repeat(id), repeat(id + 1)]).await.unwrap();
    assert_eq!((done.ids, done.refused.len()), (vec![Some(id), None], 1));
    until("the repeated event", || receiver.events().len() == told + 1).await;
    let events = receiver.events();
    for member in [
        "subscriptionType",
        "objectId",
        "propertyName",
        "propertyValue",
        "occurredAt",
        "changeSource",
        "sourceId",
    ] {
        assert_eq!(events[told][member], events[told - 1][member], "{member}");
    }
    assert_eq!(s.control.dump(s.portal()).await.unwrap(), before, "nothing is changed by it");
}

#[tokio::test]
async fn calls_are_counted_by_account_and_operation() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    s.post(CONTACTS, json!({ "properties": { "email": "ann@example.com" } })).await;
    s.read(id, "email").await;
    let counts = s.control.account_counts(s.portal()).await.unwrap();
    assert_eq!((counts.calls("contacts.create"), counts.operations["contacts.create"].refused), (2, 1));
    assert_eq!((counts.total_calls(), counts.live), (3, 1));
    assert_eq!(s.control.counts().await.unwrap().total_calls(), 3);
    s.control.clear_account(s.portal()).await.unwrap();
    assert_eq!(s.control.account_counts(s.portal()).await.unwrap().live, 0);
}

#[tokio::test]
async fn an_account_notes_its_calls_when_it_is_asked_to() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    assert_eq!(s.control.calls(s.portal()).await.unwrap(), []);
    s.control.set_settings(s.portal(), json!({ "journal": true })).await.unwrap();
    s.read(id, "email").await;
    s.patch(id, json!({ "email": "nope" })).await;
    let calls = s.control.calls(s.portal()).await.unwrap();
    let told: Vec<_> = calls.iter().map(|call| (call.operation.as_str(), call.status)).collect();
    assert_eq!(told, [("contacts.read", Some(200)), ("contacts.update", Some(400))]);
    assert!(calls[0].at <= calls[1].at && calls[0].at > 1_600_000_000_000);
}

#[tokio::test]
async fn an_account_notes_who_wrote_what_when_it_is_asked_to() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    assert_eq!(s.control.writes(s.portal()).await.unwrap(), []);
    s.control.set_settings(s.portal(), json!({ "journal": true })).await.unwrap();
    let upper = FaultKind::Automation { property: "city".into(), rewrite: Rewrite::Upper, in_response: true };
    s.control.order(&FaultOrder::new(upper)).await.unwrap();
    s.patch(id, json!({ "city": "Ulm" })).await;
    s.control.person_edits(s.portal(), id, &[("city", "ULM")]).await.unwrap();
    s.patch(id, json!({ "email": "nope" })).await;
    s.control.person_deletes(s.portal(), id).await.unwrap();
    let writes = s.control.writes(s.portal()).await.unwrap();
    let told: Vec<_> = writes
        .iter()
        .map(|write| {
            (write.by, write.kind, write.members.get("city").and_then(|city| city.as_str()), write.taken)
        })
        .collect();
    assert_eq!(
        told,
        [
            (Writer::Api, WriteKind::Update, Some("Ulm"), true),
            (Writer::Automation, WriteKind::Update, Some("ULM"), true),
            // It changes nothing and is a write all the same.
            (Writer::Person, WriteKind::Update, Some("ULM"), true),
            (Writer::Api, WriteKind::Update, None, false),
            (Writer::Person, WriteKind::Delete, None, true),
        ]
    );
    assert!(writes.iter().all(|write| write.id == Some(id.to_string()) && write.at > 1_600_000_000_000));
}

#[tokio::test]
async fn a_reset_forgets_everything() {
    let s = Setting::new().await;
    s.control.reset().await.unwrap();
    assert_eq!(s.get(CONTACTS).await.status, 401);
    assert!(s.control.accounts().await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_members_of_control_documents_are_refused() {
    let s = Setting::new().await;
    assert!(s.control.set_settings(s.portal(), json!({ "indexLag": 1 })).await.is_err());
    assert!(s.control.set_webhooks(s.app.app_id, json!({ "target": "x" })).await.is_err());
    assert!(s.control.set_webhooks(s.app.app_id, json!({ "targetUrl": "nowhere" })).await.is_err());
    assert!(s.control.set_settings(1, json!({})).await.is_err());
}

#[tokio::test]
async fn tls_is_spoken_with_a_test_authority() {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let simulator = Simulator::start(Config { tls: Some(any), ..Config::default() }).await.unwrap();
    let control = simulator.client();
    let app = control.create_app(&NewApp::default()).await.unwrap();
    let account = control.create_accounts(&NewAccounts::new(app.app_id, 1)).await.unwrap().remove(0);
    let pem = simulator.authority().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let certificate =
        <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            pem.as_bytes(),
        );
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let url: http::Uri = simulator.tls_url().unwrap().parse().unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", url.port_u16().unwrap())).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/account-info/v3/details")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", account.access_token))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_program_announces_itself_takes_a_file_and_ends_with_its_parent() {
    let folder = std::env::temp_dir().join(format!("tandem-simulator-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (accounts, ca) = (folder.join("accounts.json"), folder.join("ca.pem"));
    let file =
        json!([{ "app": { "name": "file" }, "accounts": [{ "appId": 0, "count": 3, "kind": "oauth" }] }]);
    std::fs::write(&accounts, file.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tandem-simulator"))
        .args(["--exit-with-parent", "--tls", "--ca-out"])
        .arg(&ca)
        .arg("--accounts-file")
        .arg(&accounts)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();
    assert!(announced["api"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(announced["tls"].as_str().unwrap().starts_with("https://localhost:"));
    assert!(
        std::fs::read_to_string(announced["ca"].as_str().unwrap()).unwrap().contains("BEGIN CERTIFICATE")
    );
    let client = control::Client::new(announced["control"].as_str().unwrap());
    assert_eq!(client.accounts().await.unwrap().len(), 3);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"still here\n").unwrap();
    client.counts().await.unwrap();
    drop(stdin);
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert!(status.success());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_control_api_ends_the_simulator() {
    let simulator = Simulator::start(Config::default()).await.unwrap();
    simulator.client().shutdown().await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(10), simulator.ended()).await.unwrap();
}
