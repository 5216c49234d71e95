//! What happened to a record, for its history: from the hint to the base afterwards, one entry for each write and each decision.
//!
//! Invariant: whatever a commit moves of the base is told by an entry of the same commit, also what was moved beside the thing that
//! an entry is about. What an echo or a double brings is not told: it moved nothing and cost no call.

use std::collections::BTreeMap;

use tandem_core::Millis;
use tandem_core::exchange::Problem;
use tandem_core::link::{Base, Link, Pair, Said};
use tandem_core::plan::{self, Differs, External, ExternalWrite, Internal, InternalWrite, Plan, Source};
use tandem_core::policy::ObjectPolicy;

use super::Work;
use super::observe::{author, occurred_at};
use super::record::Case;
use super::settle::End;
use crate::store::{Commit, Exchanged, Extent, HistoryEntry, Moved, Noticed, Op, Origin, Sight};

/// Collects the history of one piece of work.
pub(super) struct Trail {
    /// The oldest hint's word.
    pub(super) cause: String,
    /// The provider's label.
    provider: String,
    noticed: Noticed,
    /// When the CRM's record was edited, as the last word of it says.
    edited_at: Option<Millis>,
    /// What the rules said of the write that comes next.
    pub(super) ruling: Option<String>,
    /// Exchanges since the last entry.
    exchanges: Vec<Exchanged>,
    /// Where the fields of the plan at hand differ.
    differs: BTreeMap<String, Differs>,
    /// The base as the entries so far tell it.
    told: Base,
    entries: Vec<HistoryEntry>,
}

impl Trail {
    /// Of a work that begins now, with what its hints say.
    pub(super) fn new(work: &Work, link: &Link, said: &External, provider: String, now: Millis) -> Self {
        let cause = work.hints.first().map_or("", |hint| hint.cause.as_str());
        let mut also: Vec<String> = Vec::new();
        for hint in &work.hints {
            if hint.cause != cause && !also.contains(&hint.cause) {
                also.push(hint.cause.clone());
            }
        }
        // The last edit that somebody else made; where none is told with its time, the last word that says who it was.
        let told = || work.hints.iter().filter_map(|hint| hint.observed.as_ref());
        let by_others = told().filter(|told| told.author.as_deref() != Some("own"));
        let last = by_others
            .filter(|told| occurred_at(told).is_some())
            .max_by_key(|told| occurred_at(told))
            .or_else(|| told().rfind(|told| told.author.is_some()));
        let noticed = Noticed {
            work: work.hints.iter().map(|hint| hint.seq).min().unwrap_or(0),
            at: work.hints.iter().map(|hint| hint.noticed_at).min().unwrap_or(now),
            began: now,
            class: work.class(),
            hints: u32::try_from(work.hints.len()).unwrap_or(u32::MAX),
            attempts: work.hints.iter().map(|hint| hint.attempts).max().unwrap_or(0),
            also,
            said: extent(said),
            author: last.and_then(author),
        };
        let edited_at = last.and_then(occurred_at);
        Self {
            cause: cause.into(),
            provider,
            noticed,
            edited_at,
            ruling: None,
            exchanges: Vec::new(),
            differs: BTreeMap::new(),
            told: link.base.clone(),
            entries: Vec::new(),
        }
    }

    /// When the work began.
    pub(super) fn began(&self) -> Millis {
        self.noticed.began
    }

    /// Remembers an exchange for the entry that comes next. One that sent nothing is none.
    pub(super) fn exchanged(&mut self, exchange: Exchanged) {
        if exchange.requests > 0 {
            self.exchanges.push(exchange);
        }
    }

    /// Remembers where the fields that a plan writes differ.
    pub(super) fn planned(
        &mut self,
        plan: &Plan,
        link: &Link,
        internal: &Internal,
        external: &External,
        policy: &ObjectPolicy,
    ) {
        self.differs.clear();
        let inward = match &plan.internal {
            Some(InternalWrite::Update { changed, .. }) => Some(changed),
            _ => None,
        };
        let outward = match &plan.external {
            Some(ExternalWrite::Update { changed, .. }) => Some(changed),
            _ => None,
        };
        for field in inward.into_iter().chain(outward).flatten() {
            self.differs.insert(field.clone(), plan::differs(link, internal, external, policy, field));
        }
    }

    /// Who gave the CRM's values, and when, as far as the hints say; else when that was noticed.
    fn external_said(&self) -> Said {
        let noticed = self.noticed.said.is_some().then_some(self.noticed.at);
        Said { by: self.noticed.author.clone(), at: self.edited_at.or(noticed) }
    }

    /// Adds an entry. It tells what moved of the base since the one before.
    fn entry(&mut self, link: &Link, seen: &External, about: About, what: &str, why: &str, at: Millis) {
        let mut delta = Moved::between(&self.told, &link.base);
        for moved in &mut delta {
            moved.differs = self.differs.get(&moved.field).copied();
        }
        self.told = link.base.clone();
        let exchanges = std::mem::take(&mut self.exchanges);
        let mut entry = HistoryEntry {
            what: what.into(),
            why: why.into(),
            cause: self.cause.clone(),
            calls: exchanges.iter().map(|exchange| exchange.requests).sum(),
            delta,
            fields: about.fields,
            overtaken: about.overtaken,
            noticed: Some(self.noticed.clone()),
            seen: self.sight(seen),
            ruling: self.ruling.take(),
            exchanges,
            ..HistoryEntry::new(link, at, self.provider.clone())
        };
        entry.fit();
        self.entries.push(entry);
    }

    fn sight(&self, seen: &External) -> Option<Sight> {
        let extent = extent(seen)?;
        Some(match seen {
            External::Whole { version, stamp, source, .. } => {
                let origin = match source {
                    Source::Read { .. } => Origin::Read,
                    Source::Answer => Origin::Answer,
                    Source::Event => Origin::Event,
                    Source::Listing { .. } if self.cause == "webhook" => Origin::Event,
                    Source::Listing { .. } => Origin::Listing,
                };
                Sight { extent, origin: Some(origin), version: version.clone(), stamp: *stamp }
            }
            External::Partial { stamp, .. } => Sight { extent, origin: None, version: None, stamp: *stamp },
            _ => Sight { extent, origin: None, version: None, stamp: None },
        })
    }

    /// Moves the entries into a commit that leaves the link as it is now. `is_first`: the store does not know the link yet.
    pub(super) fn flush(&mut self, link: &Link, is_first: bool, commit: &mut Commit) {
        if self.told != link.base {
            let at = link.committed_at;
            let why = "both sides had the same beside what was written";
            self.entry(link, &External::Unseen, About::default(), "agreed", why, at);
        }
        for (number, mut entry) in self.entries.drain(..).enumerate() {
            entry.is_first = is_first && number == 0;
            commit.push(Op::AddHistory(entry));
        }
    }
}

/// What an entry is about besides what moved of the base.
#[derive(Default)]
struct About {
    fields: Vec<String>,
    overtaken: BTreeMap<String, Option<Pair>>,
}

impl From<Vec<String>> for About {
    fn from(fields: Vec<String>) -> Self {
        Self { fields, ..Self::default() }
    }
}

fn extent(seen: &External) -> Option<Extent> {
    match seen {
        External::Unseen => None,
        External::Touched => Some(Extent::Touched),
        External::Partial { .. } => Some(Extent::Partial),
        External::Whole { .. } => Some(Extent::Whole),
        External::Gone { .. } => Some(Extent::Gone),
        External::Moved { .. } => Some(Extent::Moved),
    }
}

impl Case<'_> {
    /// The work is about another link than it was begun with.
    pub(super) fn turn_to(&mut self, link: Link, stored: Option<Link>) {
        self.trail.told = link.base.clone();
        self.link = link;
        self.stored = stored;
        self.take_up_places();
    }

    /// Adds an entry to the record's history. It tells what moved of the base since the entry before.
    pub(super) fn note(&mut self, what: &str, why: &str, at: Millis) {
        self.trail.entry(&self.link, &self.external, About::default(), what, why, at);
    }

    /// The same, about fields whose base may not have moved.
    pub(super) fn note_fields(&mut self, fields: Vec<String>, what: &str, why: &str, at: Millis) {
        self.trail.entry(&self.link, &self.external, fields.into(), what, why, at);
    }

    /// The same, with what edits that a write of ours overtook had made of fields.
    pub(super) fn note_overtaken(
        &mut self,
        overtaken: BTreeMap<String, Option<Pair>>,
        fields: Vec<String>,
        what: &str,
        why: &str,
        at: Millis,
    ) {
        self.trail.entry(&self.link, &self.external, About { fields, overtaken }, what, why, at);
    }

    /// Tells of a plan that writes nothing: what both sides agreed on, or that the CRM was asked in vain.
    pub(super) fn note_quiet(&mut self, why: &str, at: Millis) {
        if self.trail.told != self.link.base {
            self.note("agreed", why, at);
        } else if !self.trail.exchanges.is_empty() {
            self.note("looked", why, at);
        }
    }

    /// Tells of an end that is a failure of this record: one more entry in its commit.
    pub(super) fn tell(&mut self, mut end: End, now: Millis) -> End {
        let (what, why, fields, commit) = match &mut end {
            End::Again { problem, point, touched, commit, .. } => {
                let what = if *touched { "unknown" } else { "failed" };
                (
                    what,
                    in_words(point, std::slice::from_ref(problem)),
                    pointers(std::slice::from_ref(problem)),
                    commit,
                )
            }
            End::SetAside { point, problems, commit, .. } => {
                ("set-aside", in_words(point, problems), pointers(problems), commit)
            }
            End::Done(_)
            | End::PutBack { .. }
            | End::Later { .. }
            | End::Missed { .. }
            | End::Clash { .. } => return end,
        };
        self.note_fields(fields, what, &why, now);
        self.trail.flush(&self.link, self.stored.is_none(), commit);
        end
    }

    /// Signs what is held with who gave the values, before it takes the place of the case's link.
    pub(super) fn sign(&self, next: &mut Link, internal: &Internal) {
        if next.held.is_empty() {
            return;
        }
        let at = match internal {
            Internal::Present { changed_at, .. } | Internal::Deleted { changed_at, .. } => *changed_at,
            Internal::Absent => None,
        };
        let by = (!self.internal_origin.is_empty()).then(|| self.internal_origin.clone());
        next.sign(&self.link, &Said { by, at }, &self.trail.external_said());
    }
}

/// Problems as they stand in a dead letter: a CRM's words are redacted by then.
fn in_words(point: &str, problems: &[Problem]) -> String {
    let words = problems.iter().map(|problem| match &problem.pointer {
        Some(pointer) => format!("{pointer}: {}", problem.message),
        None => problem.message.clone(),
    });
    format!("{point}: {}", words.collect::<Vec<_>>().join("; "))
}

fn pointers(problems: &[Problem]) -> Vec<String> {
    problems.iter().filter_map(|problem| problem.pointer.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_core::exchange::{Attribute, Observed, State};
    use tandem_core::id::EntityKey;

    use super::*;
    use crate::pipeline::dispatch::Hand;
    use crate::store::{Before, Class, Hint, Subject};

    fn pair(value: &str) -> Pair {
        Pair { internal: Some(json!(value)), external: Some(json!(value)), ..Pair::default() }
    }

    fn link(base: &[(&str, &str)]) -> Link {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "c1".into() };
        let mut link = Link::new(entity, "acme-hubspot".into());
        for (field, value) in base {
            link.base.insert((*field).to_owned(), pair(value));
        }
        link
    }

    fn hint(seq: u64, cause: &str, noticed_at: Millis, author: Option<&str>) -> Hint {
        let mut observed = Observed::touched("contact", "501");
        observed.state = State::Partial(b"{}".to_vec());
        observed.author = author.map(str::to_owned);
        Hint {
            seq,
            connection: "acme-hubspot".into(),
            object: "contact".into(),
            subject: Subject::Internal("c1".into()),
            class: Class::Live,
            noticed_at,
            due: 0,
            attempts: u32::from(cause == "poll") * 3,
            cause: cause.to_owned(),
            observed: Some(observed),
        }
    }

    fn trail(link: &Link, hints: Vec<Hint>) -> Trail {
        let work = Work {
            connection: "acme-hubspot".into(),
            object: "contact".into(),
            subject: Subject::Internal("c1".into()),
            hints,
            hand: Hand::Entity(link.entity.clone()),
            went_ahead: false,
        };
        let said = External::Partial { fields: tandem_core::link::Fields::new(), stamp: Some(4) };
        Trail::new(&work, link, &said, "hubspot@0.1.0#1a2b3c4d".to_owned(), 1_000)
    }

    #[test]
    fn who_made_an_edit_and_when_is_said_in_the_crms_words_where_it_tells() {
        let link = link(&[]);
        let said = |author: &str, told: &[(&str, &str)]| {
            let mut hint = hint(1, "webhook", 500, Some(author));
            let told = told
                .iter()
                .map(|(name, value)| Attribute { name: (*name).to_owned(), value: (*value).to_owned() });
            hint.observed.as_mut().unwrap().attributes = told.collect();
            trail(&link, vec![hint]).external_said()
        };
        let by = |by: &str, at| Said { by: Some(by.to_owned()), at: Some(at) };
        let named = [("by", "CRM_UI userId:7"), ("occurred-at", "400")];
        assert_eq!(said("other", &named), by("CRM_UI userId:7", 400));
        assert_eq!(said("own", &named), by("own", 400));
        assert_eq!(said("other", &[]), by("other", 500), "when it was noticed");
    }

    fn flushed(trail: &mut Trail, link: &Link, is_first: bool) -> Vec<HistoryEntry> {
        let mut commit = Commit::new();
        trail.flush(link, is_first, &mut commit);
        let history = commit.ops.into_iter().map(|op| match op {
            Op::AddHistory(entry) => entry,
            other => panic!("{other:?}"),
        });
        history.collect()
    }

    fn moves(entry: &HistoryEntry) -> Vec<(&str, Before, Option<Pair>)> {
        entry.delta.iter().map(|moved| (&*moved.field, moved.before.clone(), moved.after.clone())).collect()
    }

    #[test]
    fn hints_that_were_merged_are_told_as_one() {
        let mut trail = trail(
            &link(&[]),
            vec![hint(7, "edit", 900, None), hint(5, "poll", 700, Some("other")), hint(9, "edit", 950, None)],
        );
        trail.entry(&link(&[]), &External::Unseen, About::default(), "looked", "", 1_200);
        let told = flushed(&mut trail, &link(&[]), false);
        let [entry] = &told[..] else { panic!("one entry") };
        assert_eq!((entry.cause.as_str(), entry.calls), ("edit", 0));
        let expected = Noticed {
            work: 5,
            at: 700,
            began: 1_000,
            class: Class::Live,
            hints: 3,
            attempts: 3,
            also: vec!["poll".to_owned()],
            said: Some(Extent::Partial),
            author: Some("other".to_owned()),
        };
        assert_eq!(entry.noticed.as_ref(), Some(&expected));
        assert_eq!(entry.seen, None, "nobody looked");
    }

    #[test]
    fn whatever_moved_of_the_base_is_told_once_and_nothing_is_left_untold() {
        let first = link(&[("/a", "1"), ("/b", "1")]);
        let mut trail = trail(&first, vec![hint(1, "edit", 900, None)]);
        let mut second = first.clone();
        second.base.insert("/a".to_owned(), pair("2"));
        trail.differs.insert("/a".to_owned(), Differs::Internal);
        trail.entry(&second, &External::Unseen, About::default(), "wrote-external", "", 1_100);
        trail.entry(&second, &External::Unseen, vec!["/b".to_owned()].into(), "held", "", 1_100);
        // Beside it something was agreed on, and something let go of, that no entry was about.
        let mut third = second.clone();
        third.base.remove("/b");
        third.base.insert("/c".to_owned(), pair("3"));
        third.committed_at = 1_150;
        let told = flushed(&mut trail, &third, true);
        let whats: Vec<(&str, bool)> = told.iter().map(|entry| (&*entry.what, entry.is_first)).collect();
        assert_eq!(whats, [("wrote-external", true), ("held", false), ("agreed", false)]);
        assert_eq!(moves(&told[0]), [("/a", Before::Pair(pair("1")), Some(pair("2")))]);
        assert_eq!(told[0].delta[0].differs, Some(Differs::Internal));
        assert_eq!((moves(&told[1]), &told[1].fields), (Vec::new(), &vec!["/b".to_owned()]));
        assert_eq!(
            moves(&told[2]),
            [("/c", Before::Nothing, Some(pair("3"))), ("/b", Before::Pair(pair("1")), None)]
        );
        assert_eq!(told[2].at, 1_150);
        assert_eq!(flushed(&mut trail, &third, false), Vec::new(), "told already");
    }

    #[test]
    fn an_exchange_is_told_with_the_entry_that_follows_it_and_counts_its_requests() {
        let link = link(&[]);
        let mut trail = trail(&link, vec![hint(1, "webhook", 900, None)]);
        let exchange = |operation: &str, requests| Exchanged {
            operation: operation.to_owned(),
            requests,
            status: 200,
            took_ms: 5,
            answer: "current".to_owned(),
        };
        trail.exchanged(exchange("read", 2));
        trail.exchanged(exchange("update", 0));
        trail.exchanged(exchange("update", 1));
        trail.ruling = Some("rule a: sync".to_owned());
        let whole = External::Whole {
            id: "501".into(),
            fields: tandem_core::link::Fields::new(),
            version: Some("v1".to_owned()),
            stamp: Some(9),
            source: Source::Listing { began: 1, consistent: false },
            changed_at: BTreeMap::new(),
            by_other: false,
        };
        trail.entry(&link, &whole, About::default(), "wrote-external", "", 1_100);
        trail.entry(&link, &External::Touched, About::default(), "linked", "", 1_100);
        let told = flushed(&mut trail, &link, false);
        let asked: Vec<&str> = told[0].exchanges.iter().map(|one| &*one.operation).collect();
        assert_eq!((asked, told[0].calls), (vec!["read", "update"], 3), "what sent nothing is no exchange");
        assert_eq!((told[1].exchanges.len(), told[1].calls, &told[1].ruling), (0, 0, &None));
        let seen = Sight {
            extent: Extent::Whole,
            origin: Some(Origin::Event),
            version: Some("v1".to_owned()),
            stamp: Some(9),
        };
        assert_eq!(told[0].seen, Some(seen), "a row of a webhook is an event");
        assert_eq!(told[1].seen.as_ref().map(|seen| seen.extent), Some(Extent::Touched));
    }

    #[test]
    fn what_an_overtaken_edit_had_made_of_a_field_stands_beside_what_moved() {
        let first = link(&[("/a", "1"), ("/b", "1")]);
        let mut trail = trail(&first, vec![hint(1, "webhook", 900, None)]);
        let overtaken: BTreeMap<String, Option<Pair>> = [("/a".to_owned(), Some(pair("lost")))].into();
        let about = About { fields: vec!["/b".to_owned()], overtaken: overtaken.clone() };
        trail.entry(&first, &External::Unseen, about, "overtaken", "", 1_100);
        let told = flushed(&mut trail, &first, false);
        assert_eq!((&told[0].overtaken, moves(&told[0])), (&overtaken, Vec::new()));
        assert!(told[0].concerns("/a") && told[0].concerns("/b") && !told[0].concerns("/c"));
    }

    #[test]
    fn problems_are_told_with_their_place() {
        let problem = |pointer: Option<&str>| Problem {
            code: "invalid".to_owned(),
            message: "[value] is no address".to_owned(),
            pointer: pointer.map(str::to_owned),
        };
        let problems = [problem(Some("/email")), problem(None)];
        assert_eq!(
            in_words("rejected", &problems),
            "rejected: /email: [value] is no address; [value] is no address"
        );
        assert_eq!(pointers(&problems), ["/email"]);
    }
}
