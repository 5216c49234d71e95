use serde_json::{Value, json};
use tandem_provider::{Effect, Provider, Scope, Wait, Watch};

use super::*;

const HERE: &str = "https://tandem.example/hooks/connection/acme";

fn watch(active: bool, channel: Option<&[u8]>) -> Operation {
    Operation::Watch(Watch {
        callback: HERE.into(),
        objects: vec!["contact".into()],
        channel: channel.map(<[u8]>::to_vec),
        active,
    })
}

fn hook(id: u64, more: &Value) -> Value {
    let mut hook = json!({
        "id": id, "subscription_url": HERE, "event_action": "*", "event_object": "person", "version": "2.0", "is_active": 1,
        "last_http_status": 200, "http_auth_user": "tandem",
    });
    for (name, value) in more.as_object().unwrap() {
        hook[name] = value.clone();
    }
    hook
}

fn stands(reply: &Reply, id: u64) {
    let state = json!({ "v": 1, "webhook": id.to_string() }).to_string().into_bytes();
    assert_eq!(reply.answer, Answer::Watching { state, check_at: NOW + 21_600_000 });
}

#[test]
fn a_webhook_is_made_with_the_hosts_secrets_where_there_is_none() {
    for listed in
        [json!([]), Value::Null, json!([hook(1, &json!({ "subscription_url": "https://other.example" }))])]
    {
        let (requests, reply) =
            run(&plain(), &watch(true, None), &[done(&listed), answer(201, &json!({ "data": { "id": 5 } }))]);
        stands(&reply, 5);
        let made = body(&requests[1]);
        assert_eq!((made["subscription_url"].as_str(), made["version"].as_str()), (Some(HERE), Some("2.0")));
        for (member, secret) in
            [("http_auth_user", "webhook_user"), ("http_auth_password", "webhook_password")]
        {
            let placeholder = requests[1].secrets.iter().find(|it| it.secret == secret).unwrap();
            assert_eq!(made[member], placeholder.marker);
            assert_eq!(placeholder.escape, "json");
            assert!(placeholder.marker.len() >= 8, "the host wants that");
            assert!(Pipedrive::describe().secrets["watch"].contains(&secret.to_owned()));
        }
    }
}

#[test]
fn the_password_that_a_listing_shows_is_named_so_that_the_host_blanks_it() {
    let reply = plain().start(&watch(true, None), &context());
    let secrets: Vec<&str> = sent(&reply).secrets.iter().map(|it| it.secret.as_str()).collect();
    // Not the user: it may stand in an address by chance, and the address tells which webhooks are ours.
    assert_eq!(secrets, ["webhook_password"]);
    assert!(sent(&reply).body.is_none());
}

#[test]
fn one_that_is_well_stands_and_is_looked_after_again() {
    let (requests, reply) =
        run(&plain(), &watch(true, Some(b"{}")), &[done(&json!([hook(1, &json!({ "is_active": true }))]))]);
    assert_eq!(requests.len(), 1);
    stands(&reply, 1);
}

#[test]
fn one_that_was_switched_off_or_refused_is_replaced() {
    for ill in [
        json!({ "is_active": 0 }),
        json!({ "is_active": false }),
        json!({ "last_http_status": 401 }),
        json!({ "version": "1.0" }),
        json!({ "event_action": "create" }),
        json!({ "event_object": "deal" }),
    ] {
        let (requests, reply) = run(
            &plain(),
            &watch(true, None),
            &[done(&json!([hook(1, &ill)])), done(&json!({})), answer(201, &json!({ "data": { "id": 5 } }))],
        );
        assert_eq!(requests[1].path(), "/v1/webhooks/1", "{ill}");
        stands(&reply, 5);
    }
}

#[test]
fn all_of_ours_are_removed_when_none_is_wanted() {
    let listed = json!([
        hook(1, &json!({})),
        hook(2, &json!({ "is_active": 0 })),
        hook(3, &json!({ "subscription_url": "x" }))
    ]);
    let gone = failed(404, "not found");
    let (requests, reply) = run(&plain(), &watch(false, None), &[done(&listed), gone, done(&json!({}))]);
    let paths: Vec<_> = requests.iter().map(Request::path).collect();
    assert_eq!(paths, ["/v1/webhooks", "/v1/webhooks/2", "/v1/webhooks/1"]);
    assert!(matches!(reply.answer, Answer::Watching { .. }));
}

#[test]
fn a_refusal_blocks_no_more_than_the_webhook_and_a_lost_answer_is_asked_again() {
    let (_, reply) = run(&plain(), &watch(true, None), &[failed(403, "Scope and URL mismatch")]);
    assert!(matches!(reply.answer, Answer::Blocked { scope: Scope::Object, .. }));
    let (_, reply) = run(&plain(), &watch(true, None), &[done(&json!([])), answer(201, &json!({}))]);
    assert_eq!(reply.answer, Answer::Again { wait: Wait::Unknown, took_effect: Effect::Unknown });
    let (_, reply) = run(&plain(), &watch(true, None), &[answer(200, &json!({}))]);
    assert!(matches!(reply.answer, Answer::Again { .. }));
    let reply = plain().resume(&watch(true, None), b"x", &done(&json!([])), &context());
    assert!(matches!(reply.answer, Answer::Again { .. }));
}
