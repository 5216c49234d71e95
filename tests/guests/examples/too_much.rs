//! Answers with more than anybody asked for.

use tandem_guests::bindings::tandem::provider::types::{
    Answer, Context, Observed, Operation, Page, Problem, Reply, State,
};
use tandem_guests::{Behaviour, Json, asks_for_it, guest, ledger};

/// Answers too much: a document of 6 MiB, listings without end.
pub struct TooMuch;

fn row(id: String, keep: Option<Vec<u8>>) -> Observed {
    Observed {
        object: "contact".into(),
        id,
        state: State::Touched,
        version: None,
        stamp: None,
        key: None,
        keep,
        author: None,
        account: None,
        attributes: Vec::new(),
    }
}

impl Behaviour for TooMuch {
    const ID: &'static str = "too-much";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        if asks_for_it(document) {
            // In one piece: growing it step by step would take more memory than there is.
            let mut document = Vec::with_capacity((6 << 20) + 12);
            document.extend_from_slice(b"{\"notes\":\"");
            document.resize(document.len() + (6 << 20), b'x');
            document.extend_from_slice(b"\"}");
            return Ok(document);
        }
        ledger::to_canonical(object, document)
    }

    fn start(operation: Operation, context: Context) -> Reply {
        let answer = match &operation {
            Operation::Walk(listing) => Answer::Page(Page {
                rows: (0..20_000).map(|id| row(id.to_string(), None)).collect(),
                cursor: listing.cursor.clone().unwrap_or_default(),
                more: true,
            }),
            Operation::Changes(_) => Answer::Page(Page {
                rows: vec![row("1".into(), Some(vec![0; 17 * 1024]))],
                cursor: Vec::new(),
                more: false,
            }),
            _ => return ledger::start(&operation, &context),
        };
        Reply { answer, quotas: Vec::new() }
    }
}

guest!(TooMuch);
