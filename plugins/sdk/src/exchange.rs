//! What host and provider say to each other: the types of `wit/types.wit` as plain Rust, with the conveniences of an author.
//!
//! Documents stay bytes until somebody reads them: `resume` is given the whole operation again and rarely looks at it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, Node};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = u64;

/// A name and a value from an open set. Unknown names are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribute {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Attribute {
    /// An attribute.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// The first value of a name.
#[must_use]
pub fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
}

/// What an exchange may know besides its operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The only clock there is.
    pub now: Millis,
    /// Open set.
    pub attributes: Vec<Attribute>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Path and query below the connection's base URL.
    Path(String),
    /// A link that the CRM itself gave.
    Url(String),
}

/// What a request costs of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The quota's name in the connection descriptor.
    pub quota: String,
    /// Units.
    pub amount: u32,
}

/// A secret that the host puts into the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// Text that stands for it.
    pub marker: String,
    /// Its name in the descriptor.
    pub secret: String,
    /// "json", "form", "xml" or "header".
    pub escape: String,
}

/// A request for the host to send. Begin with [`Request::get`] and its sisters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Where it goes.
    pub target: Target,
    /// Headers; never authorisation, cookies or host.
    pub headers: Vec<Attribute>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// Empty: one unit of the default quota.
    pub charges: Vec<Charge>,
    /// A second sending after a lost answer does no harm.
    pub repeatable: bool,
    /// Secrets in body or headers.
    pub secrets: Vec<Placeholder>,
}

impl Request {
    /// A request of any method. Not repeatable until it says so.
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            target: Target::Path(path.into()),
            headers: Vec::new(),
            body: None,
            charges: Vec::new(),
            repeatable: false,
            secrets: Vec::new(),
        }
    }

    /// A GET, which is repeatable.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path).repeatable()
    }

    /// A POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    /// A PATCH.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new("PATCH", path)
    }

    /// A PUT.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new("PUT", path)
    }

    /// A DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// A GET of a link that the CRM gave.
    pub fn follow(url: impl Into<String>) -> Self {
        Self { target: Target::Url(url.into()), ..Self::get("") }
    }

    /// Appends a path segment, percent-encoded. Only sensible before the first [`query`](Self::query).
    #[must_use]
    pub fn segment(mut self, segment: &str) -> Self {
        let (Target::Path(text) | Target::Url(text)) = &mut self.target;
        text.push('/');
        percent_encode(segment, text);
        self
    }

    /// Appends a query parameter, percent-encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let (Target::Path(text) | Target::Url(text)) = &mut self.target;
        text.push(if text.contains('?') { '&' } else { '?' });
        percent_encode(name, text);
        text.push('=');
        percent_encode(value, text);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Attribute::new(name, value));
        self
    }

    /// Takes so many units of a quota.
    #[must_use]
    pub fn charge(mut self, quota: &str, amount: u32) -> Self {
        self.charges.push(Charge { quota: quota.to_owned(), amount });
        self
    }

    /// Says that a second sending does no harm.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Sets a JSON body that is written already.
    #[must_use]
    pub fn json_bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self.header("content-type", "application/json")
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        // Serialising one's own plain types to memory does not fail; an empty body would be refused by the CRM.
        self.json_bytes(serde_json::to_vec(body).unwrap_or_default())
    }

    /// Sets a JSON body from a [`Node`].
    #[must_use]
    pub fn json_node(self, body: &Node<'_>) -> Self {
        self.json_bytes(body.to_bytes())
    }

    /// Puts a secret in place of `marker`. The descriptor has to declare it for the operation ([`Descriptor::secrets`](crate::Descriptor)).
    #[must_use]
    pub fn secret(mut self, marker: &str, secret: &str, escape: &str) -> Self {
        self.secrets.push(Placeholder {
            marker: marker.to_owned(),
            secret: secret.to_owned(),
            escape: escape.to_owned(),
        });
        self
    }

    /// The reply that sends this request; `note` comes back to `resume`.
    pub fn then(self, note: impl Into<Vec<u8>>) -> Reply {
        Answer::Send(Box::new(Step { request: self, note: note.into(), so_far: None })).into()
    }

    /// As [`then`](Self::then), with a note that is written as JSON.
    pub fn then_note<T: Serialize + ?Sized>(self, note: &T) -> Reply {
        self.then(serde_json::to_vec(note).unwrap_or_default())
    }

    /// Path (or URL) with query, as it will be sent.
    #[must_use]
    pub fn path(&self) -> &str {
        let (Target::Path(text) | Target::Url(text)) = &self.target;
        text
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b',') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.push(char::from(HEX.get(usize::from(digit)).copied().unwrap_or(b'0')));
            }
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers of the descriptor's allow-list, names in lower case.
    pub headers: Vec<Attribute>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        attribute(&self.headers, name)
    }

    /// A header's value as a whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a type of the author's. Numbers that matter should be declared as integers or text, never as floats.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("answer with status {}: {error}", self.status))
    }

    /// The body as a document.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn node(&self) -> Result<Node<'_>, String> {
        json::parse(&self.body).map_err(|error| format!("answer with status {}: {error}", self.status))
    }
}

/// Something wrong with a record, a setting or a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// A short word, fit for grouping.
    pub code: String,
    /// One line for a person.
    pub message: String,
    /// JSON pointer into what was given.
    pub pointer: Option<String>,
}

impl Problem {
    /// A problem without a place.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), pointer: None }
    }

    /// Gives it a place.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}

/// How sure it is that a record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The CRM says so.
    Confirmed,
    /// It was not found; the host asks again.
    Unconfirmed,
}

/// One record of the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The canonical object.
    pub object: String,
    /// The CRM's id.
    pub id: String,
}

/// What an observation says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has to be read.
    Touched,
    /// These members only.
    Partial(Vec<u8>),
    /// The whole document in read form.
    Whole(Vec<u8>),
    /// Not there any more.
    Gone(Proof),
    /// It lives on elsewhere.
    Moved(Reference),
}

/// What was seen of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The canonical object.
    pub object: String,
    /// The CRM's id.
    pub id: String,
    /// What was seen.
    pub state: State,
    /// Equality only.
    pub version: Option<String>,
    /// Greater is newer.
    pub stamp: Option<u64>,
    /// The key that Tandem stored in it.
    pub key: Option<String>,
    /// What a write must not destroy; at most 16 KiB.
    pub keep: Option<Vec<u8>>,
    /// "own", "other" or none.
    pub author: Option<String>,
    /// The account it belongs to.
    pub account: Option<String>,
    /// Open set.
    pub attributes: Vec<Attribute>,
}

impl Observed {
    /// An observation that says nothing but its state.
    pub fn new(object: impl Into<String>, id: impl Into<String>, state: State) -> Self {
        Self {
            object: object.into(),
            id: id.into(),
            state,
            version: None,
            stamp: None,
            key: None,
            keep: None,
            author: None,
            account: None,
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push(Attribute::new(name, value));
        self
    }
}

/// Find by key or identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// The canonical object.
    pub object: String,
    /// The key that Tandem alone writes.
    pub key: Option<String>,
    /// Canonical pointers and normalised values.
    pub identity: Vec<Attribute>,
}

/// Create or update one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The canonical object.
    pub object: String,
    /// None: create.
    pub id: Option<String>,
    /// The whole provider document in read form.
    pub document: Vec<u8>,
    /// Canonical pointers of what is to be written.
    pub changed: Vec<String>,
    /// Precondition.
    pub version: Option<String>,
    /// Precondition.
    pub stamp: Option<u64>,
    /// Unique for the entity.
    pub key: String,
    /// What a former answer gave to keep.
    pub keep: Option<Vec<u8>>,
    /// The canonical document at the last agreement.
    pub previous: Option<Vec<u8>>,
    /// Open set.
    pub attributes: Vec<Attribute>,
}

impl Write {
    /// The document, parsed.
    ///
    /// # Errors
    /// The document is not JSON: the host's mistake, reported as a problem.
    pub fn node(&self) -> Result<Node<'_>, Problem> {
        json::parse(&self.document).map_err(|error| Problem::new("invalid-json", error.to_string()))
    }
}

/// Delete or archive one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    /// The canonical object.
    pub object: String,
    /// The CRM's id.
    pub id: String,
    /// Precondition.
    pub version: Option<String>,
    /// Precondition.
    pub stamp: Option<u64>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The canonical object.
    pub object: String,
    /// None: from now on, or from the start.
    pub cursor: Option<Vec<u8>>,
    /// Rows wanted at the most.
    pub limit: u32,
}

/// A webhook registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Where webhooks are to go.
    pub callback: String,
    /// Canonical objects.
    pub objects: Vec<String>,
    /// What the last answer gave.
    pub channel: Option<Vec<u8>>,
    /// False: remove it.
    pub active: bool,
}

/// Everything that can be said to a CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who are we.
    Probe,
    /// Fields of an object.
    Discover(String),
    /// Read one record.
    Read(Reference),
    /// Find by key or identity.
    Find(Find),
    /// Create or update.
    Write(Write),
    /// Delete or archive.
    Remove(Remove),
    /// What changed.
    Changes(Listing),
    /// All records.
    Walk(Listing),
    /// Webhook registration.
    Watch(Watch),
    /// Anything later.
    Other(String, Vec<u8>),
}

impl Operation {
    /// The operation's word.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Probe => "probe",
            Self::Discover(_) => "discover",
            Self::Read(_) => "read",
            Self::Find(_) => "find",
            Self::Write(write) if write.id.is_none() => "create",
            Self::Write(_) => "update",
            Self::Remove(_) => "remove",
            Self::Changes(_) => "changes",
            Self::Walk(_) => "walk",
            Self::Watch(_) => "watch",
            Self::Other(name, _) => name,
        }
    }

    /// The canonical object that it is about.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Discover(object) => Some(object),
            Self::Read(Reference { object, .. })
            | Self::Find(Find { object, .. })
            | Self::Write(Write { object, .. })
            | Self::Remove(Remove { object, .. })
            | Self::Changes(Listing { object, .. })
            | Self::Walk(Listing { object, .. }) => Some(object),
            Self::Probe | Self::Watch(_) | Self::Other(..) => None,
        }
    }

    /// It may change something in the CRM: a lost answer leaves the outcome unknown.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Remove(_) | Self::Watch(_) | Self::Other(..))
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until this moment.
    Until(Millis),
    /// The CRM did not say.
    Unknown,
}

/// Whether an operation that failed took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It did not.
    No,
    /// Nobody knows.
    Unknown,
}

impl Effect {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// What a block covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All records of the object.
    Object,
    /// The whole connection.
    Connection,
}

impl Scope {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Connection => "connection",
        }
    }
}

/// A write that the CRM took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it answered with. `Partial`: it returned some members only.
    pub observed: Observed,
    /// Fields that it did not take.
    pub unapplied: Vec<Problem>,
}

/// One more request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The request.
    pub request: Request,
    /// Given back to `resume`.
    pub note: Vec<u8>,
    /// What is already true in the CRM.
    pub so_far: Option<Written>,
}

/// A page of observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Observed>,
    /// Where the next page starts.
    pub cursor: Vec<u8>,
    /// There is more at once.
    pub more: bool,
}

/// How an operation ends, or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One more request.
    Send(Box<Step>),
    /// The CRM took the write.
    Written(Box<Written>),
    /// What was read.
    Current(Box<Observed>),
    /// What was found.
    Found(Vec<Observed>),
    /// A page of a listing.
    Page(Page),
    /// A registration that stands.
    Watching {
        /// The provider's own bytes.
        state: Vec<u8>,
        /// When to look after it.
        check_at: Millis,
    },
    /// What probe or discover learnt, as JSON.
    Facts(Vec<u8>),
    /// Create met an existing record.
    Exists(Reference),
    /// The precondition did not hold.
    Refused,
    /// Too many calls.
    Throttled {
        /// Which quota, if the CRM said so.
        quota: Option<String>,
        /// How long.
        wait: Wait,
    },
    /// The whole operation again.
    Again {
        /// When.
        wait: Wait,
        /// Whether it took effect.
        took_effect: Effect,
    },
    /// The record cannot be written as it is.
    Rejected(Vec<Problem>),
    /// Not this record's fault.
    Blocked {
        /// What it covers.
        scope: Scope,
        /// What is wrong.
        problem: Problem,
    },
    /// The credentials were not accepted.
    Unauthorised(String),
    /// The cursor is of no use any more.
    CursorLost(String),
    /// Anything later.
    Other(String, Vec<u8>),
}

impl Answer {
    /// A write that was taken whole.
    #[must_use]
    pub fn written(observed: Observed) -> Self {
        Self::Written(Box::new(Written { observed, unapplied: Vec::new() }))
    }

    /// What was read.
    #[must_use]
    pub fn current(observed: Observed) -> Self {
        Self::Current(Box::new(observed))
    }

    /// An operation that the provider does not know.
    #[must_use]
    pub fn unsupported(operation: &Operation) -> Self {
        Self::Blocked {
            scope: Scope::Object,
            problem: Problem::new(
                "unsupported",
                format!(
                    "this provider has no {} for {}",
                    operation.name(),
                    operation.object().unwrap_or("accounts")
                ),
            ),
        }
    }
}

/// What a response said of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// The quota's name.
    pub quota: String,
    /// Its size.
    pub limit: Option<u64>,
    /// What is left.
    pub remaining: Option<u64>,
    /// When it is full again.
    pub resets: Wait,
}

/// An answer and what the response said of quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Quota states.
    pub quotas: Vec<QuotaState>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, quotas: Vec::new() }
    }
}

impl Reply {
    /// Adds what the response said of quotas.
    #[must_use]
    pub fn with_quotas(mut self, quotas: Vec<QuotaState>) -> Self {
        self.quotas.extend(quotas);
        self
    }
}

/// A webhook, verified, split and stored by the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Headers of the descriptor's list.
    pub headers: Vec<Attribute>,
    /// Query parameters.
    pub query: Vec<Attribute>,
    /// The body.
    pub body: Vec<u8>,
}

/// What `decide` judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The canonical object.
    pub object: String,
    /// "internal" or "external".
    pub origin: String,
    /// Canonical document at the last agreement.
    pub before: Option<Vec<u8>>,
    /// Canonical document now.
    pub after: Option<Vec<u8>>,
    /// Canonical pointers that differ.
    pub changed: Vec<String>,
}

/// Whether a record takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Sync,
    /// It does not; why.
    Skip(String),
    /// Not now; why.
    Hold(String),
    /// It leaves; why.
    Remove(String),
    /// It has to be read first.
    Read,
}

/// A decision and the name of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The decision.
    pub decision: Decision,
    /// The rule's name.
    pub rule: String,
}

impl Ruling {
    /// The record takes part: what most providers always answer.
    #[must_use]
    pub fn sync() -> Self {
        Self { decision: Decision::Sync, rule: "default".to_owned() }
    }
}
