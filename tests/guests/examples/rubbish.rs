//! Answers what is not in the contract, a different piece of rubbish for each word.

use tandem_guests::bindings::tandem::provider::types::{
    Answer, Attribute, Context, HttpRequest, Operation, Page, Problem, Reply, Step, Target,
};
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Rubbish of every kind.
pub struct Rubbish;

fn send(request: HttpRequest) -> Answer {
    Answer::Send(Step { request, note: Vec::new(), so_far: None })
}

fn request() -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        target: Target::Path("/".into()),
        headers: Vec::new(),
        body: None,
        charges: Vec::new(),
        repeatable: true,
        secrets: Vec::new(),
    }
}

impl Behaviour for Rubbish {
    const ID: &'static str = "rubbish";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let wanted = String::from_utf8_lossy(document);
        let kind = |word: &str| wanted.contains(word);
        Ok(if kind("not-json") {
            b"{\"email\": PRIVATE-VALUE}".to_vec()
        } else if kind("not-utf8") {
            b"{\"email\": \"\xff\xfe\"}".to_vec()
        } else if kind("surrogate") {
            b"{\"email\": \"\\ud800\"}".to_vec()
        } else if kind("array") {
            b"[1, 2]".to_vec()
        } else if kind("deep") {
            let mut deep = b"{\"a\":".repeat(1000);
            deep.push(b'1');
            deep.extend(b"}".repeat(1000));
            deep
        } else if kind("trailing") {
            b"{} {}".to_vec()
        } else if kind("twice") {
            b"{\"email\": 1, \"email\": 2}".to_vec()
        } else if kind("no-problem") {
            return Err(Vec::new());
        } else {
            return ledger::to_canonical(object, document);
        })
    }

    fn start(operation: Operation, _context: Context) -> Reply {
        let Operation::Other((word, _)) = operation else {
            return Reply { answer: Answer::Refused, quotas: Vec::new() };
        };
        let header = |name: &str, value: &str| vec![Attribute { name: name.into(), value: value.into() }];
        let answer = match word.as_str() {
            "method" => send(HttpRequest { method: "BREW".into(), ..request() }),
            "path" => send(HttpRequest { target: Target::Path("records".into()), ..request() }),
            "double-slash" => {
                send(HttpRequest { target: Target::Path("//evil.example/".into()), ..request() })
            }
            "url" => send(HttpRequest { target: Target::Url("file:///etc/passwd".into()), ..request() }),
            "authorization" => {
                send(HttpRequest { headers: header("Authorization", "Bearer stolen"), ..request() })
            }
            "split" => send(HttpRequest { headers: header("x-a", "b\r\nhost: evil"), ..request() }),
            "facts" => Answer::Facts(b"3".to_vec()),
            "cursor" => Answer::Page(Page { rows: Vec::new(), cursor: vec![0; 65 * 1024], more: false }),
            "note" => Answer::Send(Step { request: request(), note: vec![0; 65 * 1024], so_far: None }),
            _ => Answer::Refused,
        };
        Reply { answer, quotas: Vec::new() }
    }
}

guest!(Rubbish);
