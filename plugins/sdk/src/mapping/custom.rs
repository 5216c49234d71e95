//! Fields that a connection's settings add: `{"/custom/tier": {"property": "tier", "type": "enumeration", "options": {...}}}`.

use serde_json::Value;

use crate::descriptor::Direction;
use crate::exchange::Problem;

use super::convert::{Convert, Table};
use super::{Form, Mapping};

/// Why a decimal does not come back as it went where the CRM's JSON has it as a number.
pub const ROUNDED: &str = "a number in the CRM's JSON: what has more than 15 digits is rounded";

/// How sets are compared where the settings do not say: a separator with nothing on either side is a set without parts, and that is none.
const SET: &str = "trim|set|empty-is-absent";

impl Mapping {
    /// Adds the fields of a connection's settings. `place` makes the provider's pointer from a property's name.
    ///
    /// Each entry: `property` and `type` ("text", "integer", "decimal", "boolean", "date", "datetime", "enumeration", "set"),
    /// and, if wanted, `options` (canonical to provider), `direction` and `normalise`.
    ///
    /// # Errors
    /// What is wrong with the settings, with pointers into `settings`.
    pub fn custom(mut self, settings: &Value, place: impl Fn(&str) -> String) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let native = self.form == Form::Native;
        let Some(entries) = settings.as_object() else {
            return Err(vec![Problem::new("invalid-setting", "an object was expected").at("")]);
        };
        for (canonical, entry) in entries {
            let pointer = format!("/{}", canonical.replace('~', "~0").replace('/', "~1"));
            match read(canonical, entry) {
                Ok(custom) => {
                    let mut declaration =
                        self.field(canonical, &place(custom.property)).direction(custom.direction);
                    let usual = matches!(custom.convert, Convert::Set { .. }).then_some(SET);
                    if let Some(name) = custom.normalise.or(usual) {
                        declaration = declaration.normalise(name);
                    }
                    if native && matches!(custom.convert, Convert::Decimal) {
                        declaration = declaration.lossy(ROUNDED);
                    }
                    self = declaration.convert(custom.convert);
                }
                Err(message) => problems.push(Problem::new("invalid-setting", message).at(pointer)),
            }
        }
        if problems.is_empty() { Ok(self) } else { Err(problems) }
    }
}

struct Custom<'a> {
    property: &'a str,
    convert: Convert,
    direction: Direction,
    normalise: Option<&'a str>,
}

fn read<'a>(canonical: &str, entry: &'a Value) -> Result<Custom<'a>, String> {
    if !canonical.starts_with('/') || canonical.ends_with('/') {
        return Err("the key must be a JSON pointer such as /custom/tier".to_owned());
    }
    let text = |name: &str| -> Result<Option<&'a str>, String> {
        match entry.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(format!("{name} must be text")),
        }
    };
    if let Some(members) = entry.as_object()
        && let Some(name) = members
            .keys()
            .find(|name| !["property", "type", "options", "direction", "normalise"].contains(&name.as_str()))
    {
        return Err(format!("{name} is unknown: property, type, options, direction and normalise are known"));
    }
    let property = text("property")?.ok_or("property is missing")?;
    let table = match entry.get("options") {
        None => None,
        Some(Value::Object(options)) => {
            let mut rows = Vec::with_capacity(options.len());
            for (canonical, provider) in options {
                let provider = provider.as_str().ok_or("options must be texts")?;
                rows.push((canonical.clone(), provider.to_owned()));
            }
            Some(Table { rows, otherwise: None })
        }
        Some(_) => return Err("options must be an object of canonical to provider values".to_owned()),
    };
    let convert = match (text("type")?.ok_or("type is missing")?, table) {
        ("enumeration", Some(table)) => Convert::Options(table),
        // Without a list the CRM's own options are taken as they are.
        ("enumeration" | "text", None) => Convert::Text,
        ("set", table) => Convert::Set { separator: Some(';'), table },
        ("integer", None) => Convert::Integer,
        ("decimal", None) => Convert::Decimal,
        ("boolean", None) => Convert::Boolean,
        ("date", None) => Convert::Date { millis: false },
        ("datetime", None) => Convert::DateTime { millis: false },
        ("text" | "integer" | "decimal" | "boolean" | "date" | "datetime", Some(_)) => {
            return Err("options belong to an enumeration or a set".to_owned());
        }
        (other, _) => {
            return Err(format!(
                "type {other} is unknown: text, integer, decimal, boolean, date, datetime, enumeration and set are known"
            ));
        }
    };
    let direction = match text("direction")? {
        None | Some("both") => Direction::Both,
        Some("to-provider") => Direction::ToProvider,
        Some("to-canonical") => Direction::ToCanonical,
        Some(other) => {
            return Err(format!("direction {other} is unknown: both, to-provider or to-canonical"));
        }
    };
    Ok(Custom { property, convert, direction, normalise: text("normalise")? })
}
