//! One account at a model CRM: records, people who edit them, a small HTTP API, an index that lags, and a strict count of calls.
//!
//! It is written without a look at the engine: it judges what comes in over the wire by its own rules, and keeps the public history of
//! each of its records.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};
use tandem_core::Millis;
use tandem_core::descriptor::Condition;
use tandem_core::exchange::{Attribute, HttpRequest, HttpResponse, Target};

use crate::habits::{Habits, Returns, Says};
use crate::history::{Change, History, Side, What, Who};
use crate::values::{CODE, EMAIL, FIELDS, NAME, blank, pointer_of, property_of};

/// Where a record is that people do not see any more.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gone {
    Deleted,
    /// For good: it is in no bin.
    Erased,
    Merged(String),
}

/// A record of the account.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) fields: BTreeMap<&'static str, Value>,
    key: Option<String>,
    tag: u64,
    modified: Millis,
    /// Tandem was the last who changed it.
    own: bool,
    gone: Option<Gone>,
    /// What a replica shows of it until a moment, once Tandem has deleted it.
    ghost: Option<(Millis, Value)>,
    /// Until when reads know nothing of it; once in its life.
    hidden: Option<Millis>,
}

impl Record {
    pub(crate) fn live(&self) -> bool {
        self.gone.is_none()
    }
}

/// What the index has seen of a record.
struct Entry {
    number: u64,
    visible: Millis,
    id: String,
    record: Record,
}

/// Something that subscribers are told.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) event: Value,
    /// Nothing but this says that a record is gone: a CRM that lists no deletions does not lose it.
    pub(crate) precious: bool,
}

/// Moments of the calls that a window counts, with the run of the daemon that made them.
#[derive(Default)]
struct Window(VecDeque<(Millis, u64)>);

impl Window {
    /// How many calls are in the window: all, and those of this run.
    fn count(&mut self, now: Millis, per: Millis, run: u64) -> (u64, u64) {
        while self.0.front().is_some_and(|(at, _)| at + per <= now) {
            self.0.pop_front();
        }
        let own = self.0.iter().filter(|(_, of)| *of == run).count();
        (self.0.len() as u64, own as u64)
    }
}

/// One account.
pub(crate) struct Account {
    pub(crate) place: usize,
    pub(crate) habits: Habits,
    pub(crate) records: BTreeMap<String, Record>,
    next: u64,
    index: Vec<Entry>,
    burst: Window,
    search: Window,
    /// Calls that are being worked on, of this run.
    pub(crate) working: u64,
    pub(crate) notices: Vec<Notice>,
}

/// Who asks, and when.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) now: Millis,
    pub(crate) run: u64,
}

/// What the world knows of a change while it is made.
pub(crate) struct Pen<'a> {
    pub(crate) history: &'a mut History,
    pub(crate) now: Millis,
    pub(crate) number: u64,
    pub(crate) who: Who,
    /// How long the index takes to see it.
    pub(crate) lag: Millis,
}

impl Account {
    pub(crate) fn new(place: usize, habits: Habits) -> Self {
        Self {
            place,
            habits,
            records: BTreeMap::new(),
            next: 0,
            index: Vec::new(),
            burst: Window::default(),
            search: Window::default(),
            working: 0,
            notices: Vec::new(),
        }
    }

    fn clock(&self, now: Millis) -> Millis {
        now.saturating_add_signed(self.habits.skew)
    }

    /// Another live record with this address.
    fn holder(&self, address: &Value, but: Option<&str>) -> Option<String> {
        let lower = |value: &Value| value.as_str().map(str::to_lowercase).filter(|text| !text.is_empty());
        let wanted = lower(address)?;
        self.records
            .iter()
            .filter(|(id, record)| record.live() && but != Some(id.as_str()))
            .find(|(_, record)| record.fields.get(EMAIL).and_then(lower).as_ref() == Some(&wanted))
            .map(|(id, _)| id.clone())
    }

    /// Makes a record; None when its address is taken.
    pub(crate) fn create(
        &mut self,
        fields: &BTreeMap<&'static str, Value>,
        key: Option<&str>,
        pen: Pen<'_>,
    ) -> Result<String, String> {
        if self.habits.unique
            && let Some(address) = fields.get(EMAIL)
            && let Some(other) = self.holder(address, None)
        {
            return Err(other);
        }
        self.next += 1;
        let id = format!("{}{}", ["x", "y", "z"].get(self.place).unwrap_or(&"w"), self.next);
        let record = Record {
            fields: BTreeMap::new(),
            key: key.map(Into::into),
            tag: 0,
            modified: 0,
            own: false,
            gone: None,
            ghost: None,
            hidden: None,
        };
        self.records.insert(id.clone(), record);
        self.change(&id, fields, What::Born, pen);
        Ok(id)
    }

    /// Lays fields on a record, as the server stores them, and tells everybody.
    #[expect(clippy::needless_pass_by_value, reason = "one pen is one change")]
    pub(crate) fn change(
        &mut self,
        id: &str,
        fields: &BTreeMap<&'static str, Value>,
        what: What,
        pen: Pen<'_>,
    ) {
        let clock = self.clock(pen.now);
        let side = Side::There(self.place);
        let Some(record) = self.records.get_mut(id) else { return };
        let mut changed = BTreeMap::new();
        for (pointer, value) in fields {
            let stored = self.habits.rewrite(pointer, value);
            let before = record.fields.get(pointer).unwrap_or(&Value::Null);
            if *before == stored || blank(before) && blank(&stored) {
                continue;
            }
            changed.insert(*pointer, stored.clone());
            record.fields.insert(pointer, stored);
        }
        match &what {
            What::Died => record.gone = Some(Gone::Deleted),
            What::Merged(to) => record.gone = Some(Gone::Merged(to.clone())),
            What::Back => record.gone = None,
            What::Born | What::Edited => {}
        }
        if changed.is_empty()
            && what == What::Edited
            && let Who::Tandem(_, call) = pen.who
        {
            // A person may have written the same a moment before, and nobody has seen it yet.
            let track = pen.history.tracks.get(&(side, id.to_owned()));
            let last = track.and_then(|track| {
                track
                    .changes
                    .iter()
                    .rfind(|change| fields.keys().any(|pointer| change.fields.contains_key(pointer)))
            });
            let states = (self.place, id.to_owned(), 0)..=(self.place, id.to_owned(), u64::MAX);
            let is_seen = |at: Millis| {
                pen.history.reads.range(states).any(|(_, times)| times.iter().any(|time| *time >= at))
            };
            if last.is_none_or(|last| last.who != Who::Person || is_seen(last.at)) {
                pen.history.needless.push((side, id.to_owned(), call));
            }
            return;
        }
        record.tag += 1;
        // No two changes of a record have the same time, unless it is told to the second.
        record.modified = clock.max(record.modified + 1);
        record.own = matches!(pen.who, Who::Tandem(..));
        let record = record.clone();
        let visible = (pen.now + pen.lag).max(self.index.last().map_or(0, |entry| entry.visible));
        self.index.push(Entry { number: pen.number, visible, id: id.to_owned(), record });
        self.tell(id, &changed, &what, clock);
        let change = Change { number: pen.number, at: pen.now, who: pen.who, what, fields: changed };
        pen.history.note(side, id, change);
    }

    fn tell(&mut self, id: &str, changed: &BTreeMap<&'static str, Value>, what: &What, clock: Millis) {
        let stamp = self.habits.stamps.then(|| self.stamp(clock));
        let edited = self.records.get(id).filter(|_| self.habits.event_times && *what == What::Edited);
        let mut say = |kind: &str, properties: Value, precious: bool| {
            let mut event = json!({ "id": id, "kind": kind, "properties": properties, "stamp": stamp });
            if let (Some(record), Some(members)) = (edited, event.as_object_mut()) {
                // The time of the edit, by the clock of the records' stamps; it is no stamp, since events come in any order.
                members.remove("stamp");
                members.insert("at".into(), json!(record.modified));
                if self.habits.names_author {
                    members.insert("by".into(), json!(author(record)));
                }
            }
            self.notices.push(Notice { event, precious });
        };
        let precious = !self.habits.shows_deleted;
        match what {
            What::Died => say("deleted", Value::Null, precious),
            What::Merged(to) => say("merged", json!(to), precious),
            What::Back | What::Born => say("touched", Value::Null, !self.habits.changes),
            What::Edited => {
                let properties = |all: &[(&&'static str, &Value)]| {
                    let all = all.iter().filter_map(|(pointer, value)| {
                        Some((property_of(pointer)?.to_owned(), (*value).clone()))
                    });
                    Value::Object(all.collect::<Map<_, _>>())
                };
                let all: Vec<_> = changed.iter().collect();
                match self.habits.says {
                    Says::Touched => say("touched", Value::Null, !self.habits.changes),
                    Says::Changed => say("changed", properties(&all), !self.habits.changes),
                    Says::Each => {
                        for one in &all {
                            say("changed", properties(std::slice::from_ref(one)), !self.habits.changes);
                        }
                    }
                }
            }
        }
    }

    fn stamp(&self, modified: Millis) -> Millis {
        if self.habits.condition == Condition::Second { modified / 1_000 * 1_000 } else { modified }
    }

    fn row(&self, id: &str, record: &Record) -> Value {
        let mut properties = Map::new();
        for field in &FIELDS {
            let value = record.fields.get(field.pointer).cloned().unwrap_or(Value::Null);
            properties.insert(field.property.to_owned(), value);
        }
        json!({
            "id": id,
            "tag": (self.habits.condition == Condition::Etag).then(|| format!("v{}", record.tag)),
            "stamp": self.habits.stamps.then(|| self.stamp(record.modified)),
            "key": record.key.as_ref().filter(|_| self.habits.key),
            "by": self.habits.names_author.then(|| author(record)),
            "gone": !record.live(),
            "properties": properties,
        })
    }

    /// What the index has seen of each record by now, oldest change first.
    fn seen(&self, now: Millis) -> Vec<&Entry> {
        self.index.iter().take_while(|entry| entry.visible <= now).collect()
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, request: &HttpRequest, asked: Asked, pen: Pen<'_>) -> HttpResponse {
        let (path, body) = match &request.target {
            Target::Path(path) | Target::Url(path) => (path.clone(), request.body.as_deref()),
        };
        let body: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or(Value::Null);
        let searches = matches!(path.as_str(), "/find" | "/changes" | "/walk");
        if let Some(refusal) = self.count(searches, asked, pen.history) {
            return refusal;
        }
        match (request.method.as_str(), path.as_str()) {
            ("POST", "/find") => self.listed(self.find(&body, asked.now), asked.now, pen.history),
            ("POST", "/changes") => self.listed(self.listing(&body, asked.now), asked.now, pen.history),
            ("POST", "/walk") => self.listed(self.walk(&body, asked.now), asked.now, pen.history),
            ("POST", "/people") => self.post(&body, pen),
            (method, path) => match path.strip_prefix("/people/") {
                Some(id) if self.hides(id, method, &pen) => answer(404, &Value::Null),
                Some(id) => self.one(method, id.trim_end_matches("/erase"), request, &body, pen),
                None => answer(400, &json!({ "message": "no such address" })),
            },
        }
    }

    fn count(&mut self, searches: bool, asked: Asked, history: &mut History) -> Option<HttpResponse> {
        let Asked { now, run, .. } = asked;
        let mut windows = vec![("burst", &mut self.burst, self.habits.burst)];
        if searches {
            windows.push(("search", &mut self.search, self.habits.search));
        }
        for (name, window, (limit, per)) in &mut windows {
            let (all, own) = window.count(now, *per, run);
            if own >= *limit {
                history.wrong.push(format!("quota {name} of account {} was exceeded", self.place));
            }
            if all >= *limit {
                let message = format!("{name} is used up");
                return Some(answer(429, &json!({ "message": message, "quota": name })));
            }
        }
        for (_, window, _) in windows {
            window.0.push_back((now, run));
        }
        if self.working > self.habits.at_once {
            history.wrong.push(format!("account {} was called {} times at once", self.place, self.working));
        }
        None
    }

    fn find(&self, body: &Value, now: Millis) -> HttpResponse {
        let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
        for entry in self.seen(now) {
            last.insert(&entry.id, &entry.record);
        }
        let lower = |value: &Value| value.as_str().map(str::to_lowercase).filter(|text| !text.is_empty());
        let key = body.get("key").and_then(Value::as_str);
        let address = body.get("Mail").and_then(lower);
        let found = |record: &Record| {
            record.live()
                && (key.is_some() && record.key.as_deref() == key
                    || address.is_some() && record.fields.get(EMAIL).and_then(lower) == address)
        };
        let mut rows: Vec<Value> = Vec::new();
        for (id, record) in last {
            if found(record) {
                rows.push(self.row(id, record));
            }
        }
        rows.sort_by_key(|row| row.get("key").and_then(Value::as_str) != key);
        answer(200, &json!({ "rows": rows }))
    }

    /// Keeps what a listing or a search shows of each record.
    fn listed(&self, response: HttpResponse, now: Millis, history: &mut History) -> HttpResponse {
        let body: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        for row in body.get("rows").and_then(Value::as_array).into_iter().flatten() {
            let Some(id) = row.get("id").and_then(Value::as_str) else { continue };
            let shown = row.get("properties").cloned().unwrap_or(Value::Null);
            history.listed.entry((self.place, id.to_owned())).or_default().push((now, shown));
        }
        response
    }

    fn listing(&self, body: &Value, now: Millis) -> HttpResponse {
        let after = body.get("after").and_then(Value::as_u64).unwrap_or(0);
        let limit = body.get("limit").and_then(Value::as_u64).unwrap_or(100);
        let fresh: Vec<&Entry> = self.seen(now).into_iter().filter(|entry| entry.number > after).collect();
        let page: Vec<&&Entry> = fresh.iter().take(usize::try_from(limit).unwrap_or(100)).collect();
        let cursor = page.last().map_or(after, |entry| entry.number);
        let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
        for entry in &page {
            // An index that lags shows what it saw then; one that does not shows what there is.
            let now = self.records.get(&entry.id).filter(|_| self.habits.consistent);
            last.insert(&entry.id, now.unwrap_or(&entry.record));
        }
        let shown = last.into_iter().filter(|(_, record)| record.live() || self.habits.shows_deleted);
        let rows: Vec<Value> = shown.map(|(id, record)| self.row(id, record)).collect();
        answer(200, &json!({ "rows": rows, "cursor": cursor, "more": page.len() < fresh.len() }))
    }

    fn walk(&self, body: &Value, now: Millis) -> HttpResponse {
        let after = body.get("after").and_then(Value::as_str).unwrap_or("");
        let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
        for entry in self.seen(now) {
            last.insert(&entry.id, &entry.record);
        }
        let live = last.into_iter().filter(|(id, record)| record.live() && *id > after);
        let rows: Vec<(&str, &Record)> = live.take(3).collect();
        let cursor = rows.last().map_or(after, |(id, _)| *id).to_owned();
        let more = rows.len() == 3;
        let rows: Vec<Value> = rows.into_iter().map(|(id, record)| self.row(id, record)).collect();
        answer(200, &json!({ "rows": rows, "cursor": cursor, "more": more }))
    }

    /// The fields of a body, or the refusal.
    fn fields(&self, body: &Value, id: Option<&str>) -> Result<BTreeMap<&'static str, Value>, HttpResponse> {
        let mut fields = BTreeMap::new();
        for (property, value) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let Some(pointer) = pointer_of(property) else {
                return Err(answer(400, &json!({ "message": "unknown property", "property": property })));
            };
            if pointer == NAME && value.as_str().is_some_and(|text| text.contains('!')) {
                return Err(answer(400, &json!({ "message": "not a name", "property": property })));
            }
            fields.insert(pointer, value.clone());
        }
        if self.habits.unique
            && id.is_some()
            && let Some(address) = fields.get(EMAIL)
            && self.holder(address, id).is_some()
        {
            return Err(answer(400, &json!({ "message": "the address is taken", "property": "Mail" })));
        }
        Ok(fields)
    }

    fn written(&self, status: u16, id: &str, asked: &BTreeMap<&'static str, Value>) -> HttpResponse {
        let Some(record) = self.records.get(id) else { return answer(404, &Value::Null) };
        let mut row = self.row(id, record);
        if let Some(members) = row.as_object_mut() {
            match self.habits.returns {
                Returns::Whole => {}
                Returns::Written => {
                    let partial = asked.keys().filter_map(|pointer| {
                        let value = record.fields.get(pointer).cloned().unwrap_or(Value::Null);
                        Some((property_of(pointer)?.to_owned(), value))
                    });
                    members.insert("properties".into(), Value::Object(partial.collect()));
                    members.insert("partial".into(), Value::Bool(true));
                }
                Returns::Nothing => {
                    members.remove("properties");
                }
            }
        }
        answer(status, &row)
    }

    fn post(&mut self, body: &Value, pen: Pen<'_>) -> HttpResponse {
        let fields = match self.fields(body, None) {
            Ok(fields) => fields,
            Err(refusal) => return refusal,
        };
        let key = body.get("key").and_then(Value::as_str);
        if self.habits.key && key.is_some() {
            let known = self.records.iter().find(|(_, record)| record.live() && record.key.as_deref() == key);
            if let Some(id) = known.map(|(id, _)| id.clone()) {
                if self.habits.unique
                    && let Some(address) = fields.get(EMAIL)
                    && self.holder(address, Some(&id)).is_some()
                {
                    return answer(400, &json!({ "message": "the address is taken", "property": "Mail" }));
                }
                self.change(&id, &fields, What::Edited, pen);
                return self.written(200, &id, &fields);
            }
        }
        match self.create(&fields, key, pen) {
            Ok(id) => self.written(201, &id, &fields),
            Err(other) => answer(409, &json!({ "message": "it exists", "id": other })),
        }
    }

    /// Whether a read knows nothing of a record that is there: for a while, which begins with one of the first reads.
    fn hides(&mut self, id: &str, method: &str, pen: &Pen<'_>) -> bool {
        let long = self.habits.hides;
        let Some(record) = self.records.get_mut(id).filter(|record| record.live() && method == "GET") else {
            return false;
        };
        if long > 0 && record.hidden.is_none() && pen.number.is_multiple_of(2) {
            record.hidden = Some(pen.now + long);
        }
        record.hidden.is_some_and(|until| pen.now < until)
    }

    fn one(
        &mut self,
        method: &str,
        id: &str,
        request: &HttpRequest,
        body: &Value,
        pen: Pen<'_>,
    ) -> HttpResponse {
        let Some(record) = self.records.get(id) else { return answer(404, &Value::Null) };
        if let Some((until, row)) = &record.ghost
            && !record.live()
            && method == "GET"
            && pen.now < *until
            && pen.number.is_multiple_of(2)
        {
            return answer(200, row);
        }
        match &record.gone {
            Some(Gone::Merged(to)) => {
                return match self.records.get(to) {
                    Some(winner) if self.habits.follows && method == "GET" => {
                        answer(200, &self.row(to, winner))
                    }
                    _ => answer(301, &json!({ "to": to })),
                };
            }
            Some(Gone::Deleted) if method == "POST" && self.habits.erases => {
                if let Some(record) = self.records.get_mut(id) {
                    record.gone = Some(Gone::Erased);
                }
                return answer(204, &Value::Null);
            }
            Some(Gone::Deleted | Gone::Erased) => {
                return answer(if self.habits.proves { 410 } else { 404 }, &Value::Null);
            }
            None => {}
        }
        if method == "GET" {
            pen.history.reads.entry((self.place, id.to_owned(), record.tag)).or_default().push(pen.now);
            return answer(200, &self.row(id, record));
        }
        let header = |name: &str| {
            request.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
        };
        let holds = match self.habits.condition {
            Condition::Etag => header("if-match").is_none_or(|tag| tag == format!("v{}", record.tag)),
            Condition::Second => header("if-unmodified-since")
                .and_then(|since| since.parse::<u64>().ok())
                .is_none_or(|since| self.stamp(record.modified) <= since),
            Condition::None => true,
        };
        if !holds {
            return answer(412, &Value::Null);
        }
        match method {
            "PATCH" => match self.fields(body, Some(id)) {
                Ok(fields) => {
                    self.change(id, &fields, What::Edited, pen);
                    self.written(200, id, &fields)
                }
                Err(refusal) => refusal,
            },
            "DELETE" => {
                self.leave_ghost(id, pen.now);
                self.change(id, &BTreeMap::new(), What::Died, pen);
                answer(204, &Value::Null)
            }
            "POST" if self.habits.erases => {
                self.leave_ghost(id, pen.now);
                self.change(id, &BTreeMap::new(), What::Died, pen);
                if let Some(record) = self.records.get_mut(id) {
                    record.gone = Some(Gone::Erased);
                }
                answer(204, &Value::Null)
            }
            _ => answer(405, &Value::Null),
        }
    }

    /// Where replicas lag, reads show a record for a while as it was.
    fn leave_ghost(&mut self, id: &str, now: Millis) {
        // Without a time nothing tells a record that was restored from one that a replica still has.
        if self.habits.ghosts == 0 || !self.habits.stamps {
            return;
        }
        let Some(row) = self.records.get(id).map(|record| self.row(id, record)) else { return };
        if let Some(record) = self.records.get_mut(id) {
            record.ghost = Some((now + self.habits.ghosts, row));
        }
    }

    /// Ids of the records that people see.
    pub(crate) fn live(&self) -> Vec<String> {
        self.records.iter().filter(|(_, record)| record.live()).map(|(id, _)| id.clone()).collect()
    }

    /// Tandem's key in a record.
    pub(crate) fn key_of(&self, id: &str) -> Option<&str> {
        self.records.get(id)?.key.as_deref()
    }

    /// Ids of what is in the bin.
    pub(crate) fn bin(&self) -> Vec<String> {
        let deleted = self.records.iter().filter(|(_, record)| record.gone == Some(Gone::Deleted));
        deleted.map(|(id, _)| id.clone()).collect()
    }

    /// Whose record it is.
    pub(crate) fn code(&self, id: &str) -> String {
        let record = self.records.get(id);
        record.and_then(|record| record.fields.get(CODE)?.as_str()).unwrap_or_default().to_owned()
    }

    /// A person's change of an address, or the return of a record, may meet another record with it.
    pub(crate) fn takes(&self, id: &str, address: &Value) -> bool {
        !self.habits.unique || self.holder(address, Some(id)).is_none()
    }
}

/// Who was the last who changed a record, as the record says it.
fn author(record: &Record) -> &'static str {
    if record.own { "own" } else { "other" }
}

/// A response.
pub(crate) fn answer(status: u16, body: &Value) -> HttpResponse {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    HttpResponse { status, headers: Vec::new(), body }
}

/// A header.
pub(crate) fn header(name: &str, value: String) -> Attribute {
    Attribute { name: name.into(), value }
}
