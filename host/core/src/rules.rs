//! Customers' rules: whether a record takes part, as conditions in CEL over canonical documents.
//!
//! Rules are named and stand in an order; the first whose condition holds decides, and without one the record is kept the
//! same. Conditions see
//!
//! | name | what |
//! | --- | --- |
//! | `record` | the record as it will be; for a deletion, as it was when both sides last agreed |
//! | `before` | as it was when both sides last agreed; every member null if they never did |
//! | `after` | as it will be; every member null for a deletion |
//! | `changed` | pointers of the fields that differ between `before` and `after`: `"/email"` |
//! | `operation` | `"create"`, `"update"` or `"delete"` |
//! | `origin` | where the change comes from: `"internal"` (System A) or `"external"` (the CRM) |
//! | `object`, `connection` | names |
//!
//! Members that the canonical schema declares and the document does not have read as null, so that a condition needs no
//! `has()`; `custom` is a map with what is there. The language has no loops without end: macros over lists (`exists`, `all`,
//! `filter`, `map`) may be nested [`DEEPEST`] deep, so that a condition ends after a bounded time. A condition that fails, or
//! that is neither true nor false, decides nothing: the record is set aside with the rule's name, and the next one goes on.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr};
use cel::{Context, Env, ExecutionError, IdedExpr, Program};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{self, CUSTOM};
use crate::schema::CanonicalSchema;

/// Macros within each other.
pub const DEEPEST: usize = 2;

/// Longest condition, in bytes.
pub const LONGEST: usize = 4096;

const NAMES: [&str; 8] =
    ["record", "before", "after", "changed", "operation", "origin", "object", "connection"];

/// What a rule says of the records that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They are kept the same.
    Sync,
    /// They are left alone on both sides for as long as the rule decides.
    Skip,
    /// They are set aside for a person.
    Hold,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Skip => "skip",
            Self::Hold => "hold",
        })
    }
}

/// A rule as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Its name, for history and for people.
    pub name: String,
    /// The canonical object that it is about. None: all.
    pub object: Option<String>,
    /// The condition.
    pub when: String,
    /// What follows.
    pub then: Action,
}

/// A change that rules judge.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    /// The connection.
    pub connection: &'c str,
    /// The canonical object.
    pub object: &'c str,
    /// Its schema: which members read as null.
    pub schema: &'c CanonicalSchema,
    /// `"internal"` or `"external"`.
    pub origin: &'c str,
    /// When both sides last agreed. None: never.
    pub before: Option<&'c Value>,
    /// As it will be. None: deleted.
    pub after: Option<&'c Value>,
}

/// What was decided, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'r> {
    /// The rule's name.
    pub rule: &'r str,
    /// What follows.
    pub action: Action,
}

/// A rule could not be judged by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {why}")]
pub struct RuleError {
    /// The rule's name.
    pub rule: String,
    /// Why, without values of the record.
    pub why: String,
}

struct Rule {
    text: RuleText,
    program: Program,
}

/// Compiled rules, in their order. Cloning shares them.
#[derive(Clone, Default)]
pub struct Rules(Arc<Vec<Rule>>);

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|rule| &rule.text)).finish()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|rule| &rule.text).eq(other.0.iter().map(|rule| &rule.text))
    }
}

impl Rules {
    /// Compiles rules.
    ///
    /// # Errors
    /// What is wrong with which one, by its position.
    pub fn compile(texts: Vec<RuleText>) -> Result<Self, Vec<(usize, String)>> {
        let mut wrong = Vec::new();
        let mut rules = Vec::with_capacity(texts.len());
        let mut names = BTreeSet::new();
        let env = Env::stdlib();
        for (position, text) in texts.into_iter().enumerate() {
            if !names.insert(text.name.clone()) {
                wrong.push((
                    position,
                    format!("there is another rule named {:?}; give each its own name", text.name),
                ));
            }
            match compiled(&env, &text.when) {
                Ok(program) => rules.push(Rule { text, program }),
                Err(why) => wrong.push((position, why)),
            }
        }
        if wrong.is_empty() { Ok(Self(Arc::new(rules))) } else { Err(wrong) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a rule of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|rule| rule.text.name == name)
    }

    /// The first rule whose condition holds. None: no rule says anything.
    ///
    /// # Errors
    /// A condition before that one failed, or was neither true nor false.
    pub fn judge(&self, case: &Case<'_>) -> Result<Option<Judged<'_>>, RuleError> {
        let mut fitting =
            self.0.iter().filter(|rule| rule.text.object.as_deref().is_none_or(|own| own == case.object));
        let Some(first) = fitting.next() else { return Ok(None) };
        let failed = |rule: &Rule, why: String| RuleError { rule: rule.text.name.clone(), why };
        let context = context(case);
        for rule in std::iter::once(first).chain(fitting) {
            match rule.program.execute(&context) {
                Ok(cel::Value::Bool(true)) => {
                    return Ok(Some(Judged { rule: &rule.text.name, action: rule.text.then }));
                }
                Ok(cel::Value::Bool(false)) => {}
                Ok(_) => return Err(failed(rule, "the condition is neither true nor false".to_owned())),
                Err(error) => return Err(failed(rule, told(&error))),
            }
        }
        Ok(None)
    }
}

fn compiled(env: &Env, when: &str) -> Result<Program, String> {
    if when.len() > LONGEST {
        return Err(format!("the condition is longer than {LONGEST} bytes"));
    }
    let program = env.compile(when).map_err(|errors| {
        let text: String =
            errors.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        format!("the condition is no CEL: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
    })?;
    let expression = program.expression();
    if depth(expression) > DEEPEST {
        return Err(format!("macros over lists are nested more than {DEEPEST} deep"));
    }
    let mut bound = BTreeSet::new();
    binds(expression, &mut bound);
    let references = program.references();
    let unknown = references
        .variables()
        .into_iter()
        .filter(|name| !name.starts_with('@') && !bound.contains(*name))
        .find(|name| !NAMES.contains(name));
    if let Some(unknown) = unknown {
        return Err(format!("there is no {unknown:?}; a condition sees {}", NAMES.join(", ")));
    }
    Ok(program)
}

/// Visits what an expression is made of.
fn parts<'e>(expression: &'e IdedExpr, visit: &mut dyn FnMut(&'e IdedExpr)) {
    match &expression.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| visit(target));
            call.args.iter().for_each(&mut *visit);
        }
        Expr::Comprehension(one) => {
            for part in [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result] {
                visit(part);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(&mut *visit),
        Expr::Select(select) => visit(&select.operand),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    visit(&entry.key);
                    visit(&entry.value);
                }
            }
        }
        Expr::Struct(one) => {
            for entry in &one.entries {
                if let EntryExpr::StructField(field) = &entry.expr {
                    visit(&field.value);
                }
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn depth(expression: &IdedExpr) -> usize {
    let mut deepest = 0;
    parts(expression, &mut |part| deepest = deepest.max(depth(part)));
    deepest + usize::from(matches!(expression.expr, Expr::Comprehension(_)))
}

/// Names that macros bind.
fn binds(expression: &IdedExpr, bound: &mut BTreeSet<String>) {
    if let Expr::Comprehension(one) = &expression.expr {
        bound.insert(one.iter_var.clone());
        bound.extend(one.iter_var2.clone());
        bound.insert(one.accu_var.clone());
    }
    parts(expression, &mut |part| binds(part, bound));
}

/// What went wrong, in words that hold no value of a record.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no member {name}"),
        ExecutionError::UndeclaredReference(name) => format!("there is no function or name {name}"),
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types();
            let hint =
                if types.iter().any(|kind| kind.contains("null")) { "; test for null first" } else { "" };
            let given = if types.is_empty() { "nothing".to_owned() } else { types.join(" and ") };
            format!("{} does not take {given}{hint}", overload.function().trim_matches('_'))
        }
        ExecutionError::UnexpectedType { got, want } => format!("{got} stands where {want} is needed"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("{actual} arguments where {expected} are needed")
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::Overflow(operator, ..) => format!("{operator} is out of range"),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        ExecutionError::FunctionError { function, .. } => {
            format!("{function} cannot be done with this value")
        }
        _ => "values of these types cannot be compared or combined; test for null first".to_owned(),
    }
}

fn context<'c>(case: &Case<'c>) -> Context<'c, 'c> {
    let (before, after) = (whole(case.schema, case.before), whole(case.schema, case.after));
    let changed: Vec<String> = {
        let (before, after) = (document::fields(&before), document::fields(&after));
        let pointers: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differs = |pointer: &&String| {
            let value = |fields: &crate::link::Fields| fields.get(*pointer).cloned().unwrap_or_default();
            value(&before) != value(&after)
        };
        pointers.into_iter().filter(differs).cloned().collect()
    };
    let operation = match (case.before, case.after) {
        (_, None) => "delete",
        (None, _) => "create",
        _ => "update",
    };
    let mut context = Context::default();
    let record = if case.after.is_some() { &after } else { &before };
    for (name, value) in [("record", record), ("before", &before), ("after", &after)] {
        context.add_variable_from_value(name, cel_value(value));
    }
    context.add_variable_from_value("changed", changed);
    for (name, word) in [
        ("operation", operation),
        ("origin", case.origin),
        ("object", case.object),
        ("connection", case.connection),
    ] {
        context.add_variable_from_value(name, word.to_owned());
    }
    context
}

/// Whole numbers are `int`, never `uint`: conditions calculate with plain literals.
fn cel_value(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => cel::Value::Int(whole),
            None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel_value).collect::<Vec<_>>().into(),
        Value::Object(members) => {
            let members: HashMap<String, cel::Value> =
                members.iter().map(|(name, value)| (name.clone(), cel_value(value))).collect();
            members.into()
        }
    }
}

/// A document with every declared member, null where it has none.
fn whole(schema: &CanonicalSchema, document: Option<&Value>) -> Value {
    let mut members: Map<String, Value> = schema.names().map(|name| (name.to_owned(), Value::Null)).collect();
    members.insert(CUSTOM.to_owned(), Value::Object(Map::new()));
    if let Some(Value::Object(own)) = document {
        for (name, value) in own {
            members.insert(name.clone(), value.clone());
        }
    }
    Value::Object(members)
}

#[cfg(test)]
mod tests;
