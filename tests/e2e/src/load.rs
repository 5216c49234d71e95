//! A customer's people at work while the daemon is ended again and again: they make, edit and delete records on both sides, and the
//! ledger has what was acknowledged.
//!
//! Each field is edited on one side only and whoever is deleted is not edited, so that nothing is a conflict. A request to System A that
//! was not answered is settled when the daemon is back, by what it says then: nobody wrote those fields since.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::crm::Crm;
use crate::ledger::{Act, Ledger, Side, key_of_document};
use crate::people::{Dice, edit};
use crate::system_a::SystemA;

/// Between two acts of the people of an account, who wait for nobody (System A's wait for answers): else they make thousands a second,
/// more than eight workers of a connection carry, and the judge has to wait for what lags behind.
const BREATH: Duration = Duration::from_millis(1);

/// Members that a newcomer to the account has.
const ENTERED: [&str; 4] = ["email", "given_name", "family_name", "city"];

/// A record that is on both sides.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who it is, as the ledger calls them.
    pub person: String,
    /// Its id in System A.
    pub internal: String,
    /// Its id in the account.
    pub external: String,
}

/// What was asked of System A and not answered, because the daemon was ended meanwhile.
enum Unanswered {
    Create { person: String },
    Edit { person: String, internal: String, member: &'static str },
    Delete(Known),
}

/// One customer's load.
pub struct Load<'a> {
    scope: String,
    crm: Crm,
    system_a: SystemA,
    ledger: &'a Ledger,
    known: &'a [Known],
    /// Who is to be deleted, on either side.
    doomed: RefCell<Vec<Known>>,
    somebody_new: fn(&str, u64) -> Value,
    /// Between two acts in System A.
    pause: Duration,
    /// Between two acts in the account.
    breath: Duration,
    dice: RefCell<Dice>,
    number: Cell<u64>,
    acts: Cell<u64>,
    done: RefCell<BTreeSet<(&'static str, &'static str)>>,
    unanswered: RefCell<Vec<Unanswered>>,
}

impl<'a> Load<'a> {
    /// People of a scope and of its account. The first `edited` of those that are known are edited, the others are deleted in the course
    /// of time. `somebody_new` makes people who are not known yet, from numbers of a million on.
    ///
    /// # Errors
    /// There are not so many who could be edited.
    pub fn new(
        scope: &str,
        (system_a, crm): (SystemA, Crm),
        ledger: &'a Ledger,
        (known, edited): (&'a [Known], usize),
        somebody_new: fn(&str, u64) -> Value,
    ) -> Result<Self, Error> {
        let (known, doomed) = known.split_at_checked(edited).ok_or("too few people")?;
        Ok(Self {
            scope: scope.to_owned(),
            crm,
            system_a,
            ledger,
            known,
            doomed: RefCell::new(doomed.to_vec()),
            somebody_new,
            pause: Duration::ZERO,
            breath: BREATH,
            dice: RefCell::new(Dice(scope.len() as u64)),
            number: Cell::new(1_000_000),
            acts: Cell::new(0),
            done: RefCell::default(),
            unanswered: RefCell::new(Vec::new()),
        })
    }

    /// People who wait so long between two acts, on either side.
    #[must_use]
    pub fn slower(mut self, breath: Duration) -> Self {
        (self.pause, self.breath) = (breath, breath);
        self
    }

    /// How much was done and acknowledged.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.acts.get()
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.borrow_mut().below(bound)
    }

    fn somebody(&self) -> Result<&Known, Error> {
        self.dice.borrow_mut().pick(self.known).ok_or_else(|| "nobody to edit".into())
    }

    /// Now and then somebody to delete.
    fn somebody_doomed(&self) -> Option<Known> {
        if self.below(60) == 0 { self.doomed.borrow_mut().pop() } else { None }
    }

    fn newcomer(&self) -> Value {
        self.number.set(self.number.get() + 1);
        (self.somebody_new)(&self.scope, self.number.get())
    }

    /// What was done and acknowledged, by the side and by what it was: made, edited, deleted.
    #[must_use]
    pub fn done(&self) -> BTreeSet<(&'static str, &'static str)> {
        self.done.borrow().clone()
    }

    fn did(&self, side: Side, what: &'static str) {
        let side = if side == Side::SystemA { "System A" } else { "account" };
        self.done.borrow_mut().insert((side, what));
    }

    fn note(&self, person: &str, side: Side, members: Map<String, Value>) -> Result<(), Error> {
        self.acts.set(self.acts.get() + 1);
        self.did(side, if members.contains_key("family_name") { "made" } else { "edited" });
        self.ledger.note(&self.scope, person, side, Act::Wrote(members))
    }

    fn note_removed(&self, person: &str, side: Side) -> Result<(), Error> {
        self.acts.set(self.acts.get() + 1);
        self.did(side, "deleted");
        self.ledger.note(&self.scope, person, side, Act::Removed)
    }

    /// An edit of a field that this side edits and the account has: phones in System A, jobs in the account.
    fn change(&self, side: Side) -> (&'static str, Value) {
        loop {
            let (member, value) = edit(&mut self.dice.borrow_mut());
            let is_ours = matches!(member, "phone" | "mobile_phone") == (side == Side::SystemA);
            if is_ours && self.crm.name_of(member).is_ok() {
                return (member, value);
            }
        }
    }

    /// Creates, edits and deletes in System A until the daemon is gone.
    ///
    /// # Errors
    /// Something was refused.
    pub async fn internal(&self, ended: &Cell<bool>) -> Result<(), Error> {
        while !ended.get() {
            if let Some(known) = self.somebody_doomed() {
                let Ok(answer) = self.system_a.delete(&known.internal).await else {
                    self.unanswered.borrow_mut().push(Unanswered::Delete(known));
                    return Ok(());
                };
                if !answer.status.is_success() {
                    return Err(format!("a deletion was refused: {} {}", answer.status, answer.body).into());
                }
                self.note_removed(&known.person, Side::SystemA)?;
            } else if self.below(4) == 0 {
                let people: Vec<Value> = (0..3).map(|_| self.newcomer()).collect();
                let lines: Vec<Value> =
                    people.iter().map(|document| json!({"op": "create", "document": document})).collect();
                let Ok(answers) = self.system_a.batch(&lines).await else {
                    let persons = people
                        .iter()
                        .map(|document| Unanswered::Create { person: key_of_document(document) });
                    self.unanswered.borrow_mut().extend(persons);
                    return Ok(());
                };
                for (at, document) in people.iter().enumerate() {
                    let who = key_of_document(document);
                    match answers.get(at).and_then(|answer| answer.get("status")).and_then(Value::as_u64) {
                        Some(201) => self.note(&who, Side::SystemA, members(document))?,
                        None => self.unanswered.borrow_mut().push(Unanswered::Create { person: who }),
                        Some(status) => return Err(format!("a create was refused: {status}").into()),
                    }
                }
            } else {
                let known = self.somebody()?;
                let (member, value) = self.change(Side::SystemA);
                let Ok(answer) = self.system_a.patch(&known.internal, &json!({ member: value })).await else {
                    let (person, internal) = (known.person.clone(), known.internal.clone());
                    self.unanswered.borrow_mut().push(Unanswered::Edit { person, internal, member });
                    return Ok(());
                };
                if !answer.status.is_success() {
                    return Err(format!("an edit was refused: {} {}", answer.status, answer.body).into());
                }
                self.note(&known.person, Side::SystemA, [(member.to_owned(), value)].into_iter().collect())?;
            }
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
        }
        Ok(())
    }

    /// Creates, edits and deletes in the account until the daemon is gone, and one more: a person does not notice.
    ///
    /// # Errors
    /// Something was refused.
    pub async fn external(&self, ended: &Cell<bool>) -> Result<(), Error> {
        loop {
            let last = ended.get();
            if let Some(known) = self.somebody_doomed() {
                self.crm.delete(&known.external).await?;
                self.note_removed(&known.person, Side::Account)?;
            } else if self.below(6) == 0 {
                let document = self.newcomer();
                let text = |name| document.get(name).and_then(Value::as_str).unwrap_or_default();
                let entered: Vec<(&str, &str)> = ENTERED
                    .iter()
                    .map(|member| (*member, text(*member)))
                    .filter(|(_, value)| !value.is_empty())
                    .collect();
                self.crm.make(&entered).await?;
                let wrote =
                    entered.iter().map(|(member, value)| ((*member).to_owned(), json!(value))).collect();
                self.note(&key_of_document(&document), Side::Account, wrote)?;
            } else {
                let known = self.somebody()?;
                let (member, value) = self.change(Side::Account);
                self.crm.edit(&known.external, &[(member, value.as_str().unwrap_or_default())]).await?;
                self.note(&known.person, Side::Account, [(member.to_owned(), value)].into_iter().collect())?;
            }
            if last {
                return Ok(());
            }
            tokio::time::sleep(self.breath).await;
        }
    }

    /// What became of unanswered requests is what System A says now.
    ///
    /// # Errors
    /// It does not answer, or an edited record is gone.
    pub async fn settle(&self) -> Result<(), Error> {
        let unanswered: Vec<Unanswered> = self.unanswered.borrow_mut().drain(..).collect();
        if unanswered.is_empty() {
            return Ok(());
        }
        let there: BTreeMap<String, Value> = self
            .system_a
            .list()
            .await?
            .into_iter()
            .map(|record| (key_of_document(&record.document), record.document))
            .collect();
        for request in unanswered {
            match request {
                Unanswered::Create { person } => {
                    if let Some(document) = there.get(&person) {
                        self.note(&person, Side::SystemA, members(document))?;
                    }
                }
                Unanswered::Edit { person, internal, member } => {
                    let document = self.system_a.read(&internal).await?.ok_or("an edited record is gone")?;
                    let value = document.get(member).cloned().unwrap_or(Value::Null);
                    self.note(&person, Side::SystemA, [(member.to_owned(), value)].into_iter().collect())?;
                }
                Unanswered::Delete(known) => {
                    if self.system_a.read(&known.internal).await?.is_none() {
                        self.note_removed(&known.person, Side::SystemA)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn members(document: &Value) -> Map<String, Value> {
    document.as_object().cloned().unwrap_or_default()
}
