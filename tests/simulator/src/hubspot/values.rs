//! What HubSpot accepts as a value of a property, and the form in which it keeps it.

use super::catalogue::{LIFECYCLE, Property, PropertyType};
use crate::clock;

/// The longest text.
const LONGEST: usize = 65_536;

/// Why a value is refused: HubSpot's code and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

fn refused(code: &'static str, message: String) -> Result<String, Refused> {
    Err(Refused { code, message })
}

/// Checks a value that is to be set and gives the form in which it is kept. `current` is what the record has, for
/// values that are appended to. An empty value clears and is always accepted.
pub(crate) fn admit(property: &Property, raw: &str, current: Option<&str>) -> Result<String, Refused> {
    if raw.is_empty() {
        return Ok(String::new());
    }
    if &*property.name == "email" {
        return email(raw);
    }
    if property.kind == PropertyType::String {
        if raw.len() > LONGEST && raw.chars().count() > LONGEST {
            return refused(
                "INVALID_LENGTH",
                format!("Property values must not be longer than {LONGEST} characters"),
            );
        }
        return Ok(raw.to_owned());
    }
    if raw.trim() != raw || raw.starts_with('\u{200b}') || raw.ends_with('\u{200b}') {
        return refused(
            "LEADING_TRAILING_WHITESPACE",
            format!("\"{raw}\" includes leading or trailing whitespace."),
        );
    }
    match property.kind {
        PropertyType::String => Ok(raw.to_owned()),
        PropertyType::Number => number(raw),
        PropertyType::Date => date(raw),
        PropertyType::DateTime => match instant(raw) {
            Some(ms) => Ok(clock::iso(ms)),
            None => refused("INVALID_DATE", format!("{raw} was not a valid date or datetime.")),
        },
        PropertyType::Bool => {
            if raw == "true" || raw == "false" {
                Ok(raw.to_owned())
            } else {
                refused("INVALID_OPTION", format!("{raw} was not one of the allowed options: [true, false]"))
            }
        }
        PropertyType::Enumeration => enumeration(property, raw, current),
    }
}

fn email(raw: &str) -> Result<String, Refused> {
    let address = raw.trim().to_lowercase();
    let valid = address.len() <= 254
        && !address.chars().any(|c| c.is_whitespace() || c.is_control() || "\"(),:;<>[\\]".contains(c))
        && address.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !local.starts_with('.')
                && !local.ends_with('.')
                && !local.contains("..")
                && !domain.contains('@')
                && domain.contains('.')
                && domain
                    .split('.')
                    .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if valid { Ok(address) } else { refused("INVALID_EMAIL", format!("Email address {raw} is invalid")) }
}

fn number(raw: &str) -> Result<String, Refused> {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let numeric = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if numeric(whole) && numeric(fraction) && numeric(exponent) {
        Ok(raw.to_owned())
    } else {
        refused("INVALID_INTEGER", format!("{raw} was not a valid number."))
    }
}

fn date(raw: &str) -> Result<String, Refused> {
    if let Some(ms) = clock::parse_date(raw) {
        return Ok(clock::iso_date(ms));
    }
    match raw.parse::<i64>() {
        Ok(ms) if clock::is_midnight(ms) => Ok(clock::iso_date(ms)),
        Ok(ms) => refused("INVALID_DATE", format!("{raw} is at {}, not midnight!", clock::iso(ms))),
        Err(_) => refused("INVALID_DATE", format!("{raw} was not a valid date.")),
    }
}

/// Milliseconds of an instant in either form that is accepted; a day stands for its midnight in UTC.
pub(crate) fn instant(raw: &str) -> Option<i64> {
    raw.parse::<i64>().ok().or_else(|| clock::parse_instant(raw)).or_else(|| clock::parse_date(raw))
}

fn enumeration(property: &Property, raw: &str, current: Option<&str>) -> Result<String, Refused> {
    let wrong = |value: &str| {
        let allowed = property
            .options
            .iter()
            .map(|o| {
                format!(
                    "label: \"{}\"\nvalue: \"{}\"\ndisplay_order: {}\n",
                    o.label, o.value, o.display_order
                )
            })
            .collect::<Vec<_>>()
            .join(", ");
        refused("INVALID_OPTION", format!("{value} was not one of the allowed options: [{allowed}]"))
    };
    if !property.multiple() {
        return if property.has_option(raw) { Ok(raw.to_owned()) } else { wrong(raw) };
    }
    let appends = raw.starts_with(';');
    let mut kept: Vec<&str> = Vec::new();
    let before = if appends { current.unwrap_or_default() } else { "" };
    for value in before.split(';').chain(raw.split(';')).filter(|value| !value.is_empty()) {
        if !property.has_option(value) {
            return wrong(value);
        }
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    Ok(kept.join(";"))
}

/// Whether a lifecycle stage may follow the current one: forward only, unless the current one is cleared first.
pub(crate) fn lifecycle_moves(current: Option<&str>, next: &str) -> bool {
    let place = |stage: &str| LIFECYCLE.iter().position(|s| *s == stage);
    match (current.filter(|c| !c.is_empty()).and_then(place), place(next)) {
        (Some(from), Some(to)) => to >= from,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hubspot::catalogue::{PropertyOption, standard};

    fn property(kind: PropertyType, field_type: &str, options: &[&str]) -> Property {
        Property {
            name: Arc::from("custom"),
            label: String::new(),
            description: String::new(),
            group: String::new(),
            kind,
            field_type: field_type.to_owned(),
            options: options
                .iter()
                .map(|v| PropertyOption {
                    label: (*v).into(),
                    value: (*v).into(),
                    display_order: 0,
                    hidden: false,
                })
                .collect(),
            read_only: false,
            calculated: false,
            unique: false,
            defined_by_hubspot: false,
            created: 0,
        }
    }

    #[test]
    fn addresses_are_trimmed_lowered_and_checked() {
        let email = standard("email").unwrap();
        assert_eq!(admit(email, "  Ann.Lee@Example.COM ", None), Ok("ann.lee@example.com".into()));
        for wrong in ["ann", "@example.com", "ann@", "ann@example", "a b@example.com", "a@b@c.de", "a@-x.de"]
        {
            assert_eq!(admit(email, wrong, None).unwrap_err().code, "INVALID_EMAIL", "{wrong}");
        }
    }

    #[test]
    fn dates_take_their_form_and_must_be_midnight() {
        let date = property(PropertyType::Date, "date", &[]);
        assert_eq!(admit(&date, "1572480000000", None), Ok("2019-10-31".into()));
        assert_eq!(admit(&date, "2019-10-31", None), Ok("2019-10-31".into()));
        for wrong in ["1572480000001", "2019-02-30", "31.10.2019", "yesterday", " 2019-10-31"] {
            assert!(admit(&date, wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_options_are_joined_checked_and_appended() {
        let colours = property(PropertyType::Enumeration, "checkbox", &["red", "green", "blue"]);
        assert_eq!(admit(&colours, "red;blue", None), Ok("red;blue".into()));
        assert_eq!(admit(&colours, ";green", Some("red")), Ok("red;green".into()));
        assert_eq!(admit(&colours, "red;pink", None).unwrap_err().code, "INVALID_OPTION");
        let one = property(PropertyType::Enumeration, "select", &["red"]);
        assert_eq!(admit(&one, "Red", None).unwrap_err().code, "INVALID_OPTION");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let number = property(PropertyType::Number, "number", &[]);
        for good in ["17", "-17.50", "9007199254740993", "1e6"] {
            assert_eq!(admit(&number, good, None), Ok(good.into()));
        }
        for wrong in ["1,5", "abc", "0x10", "NaN", "1.", "--1"] {
            assert_eq!(admit(&number, wrong, None).unwrap_err().code, "INVALID_INTEGER", "{wrong}");
        }
    }
}
