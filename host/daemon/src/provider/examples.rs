//! Runs a version's golden examples: the mapping answers what they say, and the same bytes on a fresh instance and on one
//! that has seen all the others, in either order.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tandem_core::descriptor::{Direction, Example};

use super::Provider as _;
use super::instance::{Instance, Workshop};
use super::load::said;
use super::registry::Version;

/// Examples that a version may have.
const AT_MOST: usize = 1_000;

/// Both answers to one example, as bytes; None where the example says nothing.
type Answers = (Option<Vec<u8>>, Option<Vec<u8>>);

pub(super) fn run(workshop: &Workshop, version: &Version) -> Result<(), String> {
    let examples = &version.descriptor.examples;
    if examples.len() > AT_MOST {
        return Err(format!("there are {} of them, more than {AT_MOST}", examples.len()));
    }
    let mut expected = Vec::with_capacity(examples.len());
    let mut groups: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (index, example) in examples.iter().enumerate() {
        let mut fresh = configured(workshop, version, example)?;
        let answers = answer(&mut fresh, example)?;
        compare(example, &answers)?;
        expected.push((example, answers));
        groups.entry((text(&example.settings), text(&example.facts))).or_default().push(index);
    }
    for group in groups.into_values() {
        let Some((first, _)) = group.first().and_then(|index| expected.get(*index)) else { continue };
        let mut warm = configured(workshop, version, first)?;
        for index in group.iter().chain(group.iter().rev()) {
            let Some((example, answers)) = expected.get(*index) else { continue };
            if answer(&mut warm, example)? != *answers {
                return Err(format!(
                    "example {:?}: an instance that has been used answers other bytes than a fresh one",
                    example.name
                ));
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    if value.is_null() { "{}".to_owned() } else { value.to_string() }
}

fn configured(workshop: &Workshop, version: &Version, example: &Example) -> Result<Instance, String> {
    let failed = |reason: String| format!("example {:?}: {reason}", example.name);
    let nobody: Arc<str> = "".into();
    let mut instance = Instance::of(workshop, version, &nobody).map_err(|fault| failed(fault.to_string()))?;
    instance
        .configure(text(&example.settings).as_bytes(), text(&example.facts).as_bytes())
        .map_err(|fault| failed(fault.to_string()))?
        .map_err(|problems| failed(format!("configure: {}", said(&problems))))?;
    Ok(instance)
}

fn answer(instance: &mut Instance, example: &Example) -> Result<Answers, String> {
    let failed = |reason: String| format!("example {:?}: {reason}", example.name);
    let mut answers = (None, None);
    if example.direction != Direction::ToCanonical {
        let document = instance
            .to_provider(&example.object, example.canonical.to_string().as_bytes(), None)
            .map_err(|fault| failed(fault.to_string()))?
            .map_err(|problems| failed(format!("to-provider: {}", said(&problems))))?;
        answers.0 = Some(document);
    }
    if example.direction != Direction::ToProvider {
        let canonical = instance
            .to_canonical(&example.object, example.document.to_string().as_bytes())
            .map_err(|fault| failed(fault.to_string()))?
            .map_err(|problems| failed(format!("to-canonical: {}", said(&problems))))?;
        answers.1 = Some(canonical);
    }
    Ok(answers)
}

fn compare(example: &Example, answers: &Answers) -> Result<(), String> {
    let wanted =
        [("to-provider", &answers.0, &example.document), ("to-canonical", &answers.1, &example.canonical)];
    for (function, found, wanted) in wanted {
        let Some(found) = found else { continue };
        let found: Value = serde_json::from_slice(found).map_err(|error| error.to_string())?;
        if let Some(place) = difference(&found, wanted, String::new()) {
            return Err(format!("example {:?}: {function} differs at {place:?}", example.name));
        }
    }
    Ok(())
}

/// The JSON pointer of the first difference.
fn difference(found: &Value, wanted: &Value, place: String) -> Option<String> {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let names = wanted.keys().chain(found.keys().filter(|name| !wanted.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let place = format!("{place}/{name}");
                match (found.get(name), wanted.get(name)) {
                    (Some(found), Some(wanted)) => difference(found, wanted, place),
                    _ => Some(place),
                }
            })
        }
        _ if found == wanted => None,
        _ => Some(place),
    }
}
