//! Set fields: merged element by element, each side's additions and removals against its own half. There are no conflicts,
//! and an element that only one side knows (because the other cannot express it) stays where it is.
//!
//! An element that one side added and the other removed stays. An element that the CRM stores in another form than was
//! sent is recognised when as many elements appeared as vanished; its later removal by System A is not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::link::Pair;
use crate::normalise::normal_form;
use crate::policy::Flow;

/// Elements by normal form.
struct Elements<'a> {
    chain: Option<&'a str>,
    by_form: BTreeMap<String, &'a Value>,
}

impl<'a> Elements<'a> {
    fn of(chain: Option<&'a str>, value: Option<&'a Value>) -> Self {
        let mut by_form = BTreeMap::new();
        for element in value.and_then(Value::as_array).into_iter().flatten() {
            by_form.entry(key(chain, element)).or_insert(element);
        }
        Self { chain, by_form }
    }

    fn has(&self, element: &Value) -> bool {
        self.by_form.contains_key(&key(self.chain, element))
    }

    fn minus(&self, other: &Self) -> Vec<&'a Value> {
        self.by_form
            .iter()
            .filter(|(form, _)| !other.by_form.contains_key(*form))
            .map(|(_, element)| *element)
            .collect()
    }
}

/// An element's normal form as text. `set` in a chain is about the whole and does nothing to one element.
fn key(chain: Option<&str>, element: &Value) -> String {
    match chain {
        Some(chain) => normal_form(chain, element).to_string(),
        None => element.to_string(),
    }
}

/// Whether two sets have the same elements. What is no array has none.
pub(super) fn same(chain: Option<&str>, a: Option<&Value>, b: Option<&Value>) -> bool {
    Elements::of(chain, a).by_form.keys().eq(Elements::of(chain, b).by_form.keys())
}

/// `value` with elements taken out and put in; what stays keeps its place.
fn change(chain: Option<&str>, value: Option<&Value>, out: &[&Value], put: &[&Value]) -> Value {
    let out: Vec<String> = out.iter().map(|element| key(chain, element)).collect();
    let mut elements: Vec<Value> = value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|element| !out.contains(&key(chain, element)))
        .cloned()
        .collect();
    let mut forms: Vec<String> = elements.iter().map(|element| key(chain, element)).collect();
    for element in put {
        let form = key(chain, element);
        if !forms.contains(&form) {
            forms.push(form);
            elements.push((*element).clone());
        }
    }
    Value::Array(elements)
}

/// What a merge comes to.
pub(super) struct Merged {
    /// What System A should have, when that is not what it has.
    pub(super) to_internal: Option<Value>,
    /// What the CRM should have, when that is not what it has.
    pub(super) to_external: Option<Value>,
    /// Either side differs from its half.
    pub(super) moved: bool,
}

impl Merged {
    /// Lays an edit on both sides that was made from `before` and is on neither: elements that it added and removed.
    pub(super) fn lay_on(
        &mut self,
        chain: Option<&str>,
        before: Option<&Value>,
        edited: Option<&Value>,
        internal: Option<&Value>,
        external: Option<&Value>,
    ) {
        let (old, new) = (Elements::of(chain, before), Elements::of(chain, edited));
        let (added, removed) = (new.minus(&old), old.minus(&new));
        for (wanted, has) in [(&mut self.to_internal, internal), (&mut self.to_external, external)] {
            let value = change(chain, wanted.as_ref().or(has), &removed, &added);
            *wanted = if same(chain, Some(&value), has) { None } else { Some(value) };
        }
    }
}

/// Whether a set has what an edit made from `before` added, and nothing of what it removed.
pub(super) fn carries(
    chain: Option<&str>,
    before: Option<&Value>,
    edited: Option<&Value>,
    value: Option<&Value>,
) -> bool {
    let (old, new) = (Elements::of(chain, before), Elements::of(chain, edited));
    let has = Elements::of(chain, value);
    new.minus(&old).into_iter().all(|added| has.has(added))
        && !old.minus(&new).into_iter().any(|removed| has.has(removed))
}

/// Merges both sides against the base.
pub(super) fn merge(
    chain: Option<&str>,
    pair: Option<&Pair>,
    internal: Option<&Value>,
    external: Option<&Value>,
    flow: Flow,
) -> Merged {
    let here = Elements::of(chain, internal);
    let there = Elements::of(chain, external);
    let base_here = Elements::of(chain, pair.and_then(|pair| pair.internal.as_ref()));
    let base_there = Elements::of(chain, pair.and_then(|pair| pair.external.as_ref()));
    let added_here = here.minus(&base_here);
    let removed_here = base_here.minus(&here);
    let added_there = there.minus(&base_there);
    let removed_there = base_there.minus(&there);
    let moved =
        [&added_here, &removed_here, &added_there, &removed_there].iter().any(|list| !list.is_empty());
    let without = |removed: &[&'_ Value], added: &[&Value]| -> Vec<Value> {
        let added: Vec<String> = added.iter().map(|element| key(chain, element)).collect();
        removed
            .iter()
            .filter(|element| !added.contains(&key(chain, element)))
            .map(|element| (*element).clone())
            .collect()
    };
    let differs =
        |new: Value, old: Option<&Value>| if same(chain, Some(&new), old) { None } else { Some(new) };
    let to_external = if flow == Flow::ToInternal {
        None
    } else {
        let out = without(&removed_here, &added_there);
        differs(change(chain, external, &out.iter().collect::<Vec<_>>(), &added_here), external)
    };
    let to_internal = if flow == Flow::ToExternal {
        None
    } else {
        let out = without(&removed_there, &added_here);
        differs(change(chain, internal, &out.iter().collect::<Vec<_>>(), &added_there), internal)
    };
    Merged { to_internal, to_external, moved }
}

/// The base after one side was written: `written` went to the target, `source` is the other side's value, `returned` what the
/// target has since. Only elements that were delivered move; the target's own changes are still to be planned.
pub(super) fn delivered(
    chain: Option<&str>,
    source_half: Option<&Value>,
    target_half: Option<&Value>,
    source: Option<&Value>,
    written: Option<&Value>,
    returned: Option<&Value>,
) -> (Value, Value) {
    let base = Elements::of(chain, source_half);
    let here = Elements::of(chain, source);
    let sent = Elements::of(chain, written);
    let added: Vec<&Value> = here.minus(&base).into_iter().filter(|element| sent.has(element)).collect();
    let removed: Vec<&Value> = base.minus(&here).into_iter().filter(|element| !sent.has(element)).collect();
    let source_half = change(chain, source_half, &removed, &added);
    let target_half = change(chain, target_half, &removed, &added);
    let target_half = match returned {
        Some(_) => rewritten(chain, &target_half, written, returned),
        None => target_half,
    };
    (source_half, target_half)
}

/// The target's half when it has `found` instead of `expected`: what vanished goes; what appeared counts as the other form
/// of what vanished when there are as many of both, and otherwise as a change that is still to be planned.
pub(super) fn rewritten(
    chain: Option<&str>,
    half: &Value,
    expected: Option<&Value>,
    found: Option<&Value>,
) -> Value {
    let expected = Elements::of(chain, expected);
    let found = Elements::of(chain, found);
    let vanished = expected.minus(&found);
    let appeared = found.minus(&expected);
    let put: &[&Value] = if vanished.len() == appeared.len() { &appeared } else { &[] };
    change(chain, Some(half), &vanished, put)
}
