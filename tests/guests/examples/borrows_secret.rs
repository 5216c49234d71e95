//! Asks for the secret of one operation in the requests of others.

use serde_json::{Value, json};
use tandem_guests::bindings::tandem::provider::types::{
    Answer, Attribute, Context, HttpRequest, Operation, Placeholder, Reply, Step, Target,
};
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Declares a secret for `watch` alone.
pub struct BorrowsSecret;

const MARKER: &str = "in-place-of-the-hook";

fn bearing(headers: Vec<Attribute>, body: Option<Json>) -> Reply {
    let request = HttpRequest {
        method: "POST".into(),
        target: Target::Path("/somewhere".into()),
        headers,
        body,
        charges: Vec::new(),
        repeatable: true,
        secrets: vec![Placeholder { marker: MARKER.into(), secret: "hook".into(), escape: "json".into() }],
    };
    Reply { answer: Answer::Send(Step { request, note: Vec::new(), so_far: None }), quotas: Vec::new() }
}

impl Behaviour for BorrowsSecret {
    const ID: &'static str = "borrows-secret";

    fn describe() -> Json {
        let mut descriptor: Value = serde_json::from_slice(&ledger::describe(Self::ID)).unwrap_or_default();
        if let Some(members) = descriptor.as_object_mut() {
            members.insert("secrets".into(), json!({ "watch": ["hook"] }));
        }
        descriptor.to_string().into_bytes()
    }

    fn start(operation: Operation, context: Context) -> Reply {
        let body = || Some(json!({ "hooks": [{ "password": MARKER }] }).to_string().into_bytes());
        match operation {
            Operation::Watch(_) => bearing(Vec::new(), body()),
            Operation::Read(_) => bearing(Vec::new(), body()),
            Operation::Find(_) => {
                bearing(vec![Attribute { name: "X-Hook".into(), value: format!("key {MARKER}") }], None)
            }
            other => ledger::start(&other, &context),
        }
    }
}

guest!(BorrowsSecret);
