//! Values of fields: what the API takes, what is stored, and how it is shown.
//!
//! JSON types are not converted: a number in a text field is refused as a body that cannot be read. What is stored is
//! what a read gives back, save moments, which are stored in milliseconds and shown to the second.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::fields::{Field, FieldKind};
use crate::clock::{iso, parse_date, parse_instant};

/// How an org treats texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts {
    pub(crate) trim: bool,
    pub(crate) lower_email: bool,
}

/// `2026-01-31T10:00:00.000+0000`, as the REST API shows moments.
pub(crate) fn shown_time(ms: i64) -> String {
    let seconds = iso(ms.div_euclid(1_000) * 1_000);
    format!("{}.000+0000", seconds.trim_end_matches('Z'))
}

/// `2026-01-31T10:00:00.000Z`, as SOAP shows moments.
pub(crate) fn soap_time(ms: i64) -> String {
    let seconds = iso(ms.div_euclid(1_000) * 1_000);
    format!("{}.000Z", seconds.trim_end_matches('Z'))
}

/// A moment in one of the forms that the API takes: with `Z`, or an offset with or without a colon, with or without a fraction.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if !text.contains('T') {
        return None;
    }
    if let Some(ms) = parse_instant(text) {
        return Some(ms);
    }
    // `+0000` without a colon.
    let (head, offset) = text.split_at_checked(text.len().checked_sub(5)?)?;
    let (hours, minutes) = offset.split_at_checked(3)?;
    parse_instant(&format!("{head}{hours}:{minutes}"))
}

fn mismatch(field: &Field, value: &Value) -> ApiError {
    let (token, text) = match value {
        Value::String(text) => ("VALUE_STRING", text.clone()),
        Value::Bool(true) => ("VALUE_TRUE", "true".to_owned()),
        Value::Bool(false) => ("VALUE_FALSE", "false".to_owned()),
        Value::Number(number) if number.is_f64() => ("VALUE_NUMBER_FLOAT", number.to_string()),
        Value::Number(number) => ("VALUE_NUMBER_INT", number.to_string()),
        Value::Array(_) => ("START_ARRAY", "[".to_owned()),
        _ => ("START_OBJECT", "{".to_owned()),
    };
    let kind = match field.kind {
        kind if kind.is_text() => "string",
        FieldKind::Id | FieldKind::Reference => "reference",
        FieldKind::Currency | FieldKind::Percent => "double",
        kind => kind.name(),
    };
    let message = format!(
        "Cannot deserialize instance of {kind} from {token} value {text} or request may be missing a required field at \
         [line:1, column:1]"
    );
    ApiError::bad("JSON_PARSER_ERROR", message)
}

/// What is stored for a value that was given. None: the field is cleared.
pub(crate) fn stored(field: &Field, value: &Value, texts: Texts) -> Result<Option<Value>, ApiError> {
    let wrong =
        || mismatch(field, value).violating(format!("the value of {} is not of its type", field.name));
    match (field.kind, value) {
        (FieldKind::Boolean, Value::Null) => Err(ApiError::write(
            "INVALID_TYPE_ON_FIELD_IN_RECORD",
            format!("{}: value not of required type: ", field.label),
            &[&field.name],
        )),
        (_, Value::Null) => Ok(None),
        (FieldKind::Boolean, Value::Bool(_)) => Ok(Some(value.clone())),
        (kind, Value::Number(number)) if kind.is_number() => {
            if kind == FieldKind::Int && number.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
                return Err(wrong());
            }
            // Two decimals, as the fields here are made.
            let whole = number.as_i64().map(Value::from);
            let rounded =
                number.as_f64().map(|number| (number * 100.0).round() / 100.0).map(|number| json!(number));
            let exact = field.name.ends_with("tude");
            Ok(if exact { Some(value.clone()) } else { whole.or(rounded) })
        }
        (FieldKind::Date, Value::String(text)) if !text.is_empty() => {
            let day = parse_date(text).map(|_| value.clone());
            let moment = || parse_time(text).map(|ms| Value::from(crate::clock::iso_date(ms)));
            day.or_else(moment).map(Some).ok_or_else(|| mismatch(field, value))
        }
        (FieldKind::DateTime, Value::String(text)) if !text.is_empty() => {
            let ms = parse_time(text).or_else(|| parse_date(text)).ok_or_else(|| mismatch(field, value))?;
            Ok(Some(Value::from(ms.div_euclid(1_000) * 1_000)))
        }
        (FieldKind::Date | FieldKind::DateTime, Value::String(_)) => Ok(None),
        (FieldKind::Reference, Value::String(text)) => {
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()).map(Value::from))
        }
        (kind, Value::String(text)) if kind.is_text() => text_of(field, text, texts),
        _ => Err(wrong()),
    }
}

fn text_of(field: &Field, text: &str, texts: Texts) -> Result<Option<Value>, ApiError> {
    let text = if texts.trim { text.trim() } else { text };
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > field.length as usize {
        let message = format!("{}: data value too large: {text} (max length={})", field.label, field.length);
        return Err(ApiError::write("STRING_TOO_LONG", message, &[&field.name]));
    }
    match field.kind {
        FieldKind::Email => {
            if !is_address(text) {
                let message = format!("{}: invalid email address: {text}", field.label);
                return Err(ApiError::write("INVALID_EMAIL_ADDRESS", message, &[&field.name]));
            }
            let stored = if texts.lower_email { text.to_lowercase() } else { text.to_owned() };
            Ok(Some(stored.into()))
        }
        FieldKind::Picklist | FieldKind::MultiPicklist if field.restricted => {
            let several = field.kind == FieldKind::MultiPicklist;
            let parts: Vec<&str> =
                if several { text.split(';').map(str::trim).collect() } else { vec![text] };
            let mut chosen = Vec::with_capacity(parts.len());
            for part in parts {
                match field.values.iter().find(|value| value.eq_ignore_ascii_case(part)) {
                    Some(value) => chosen.push(value.as_str()),
                    None => {
                        let message =
                            format!("{}: bad value for restricted picklist field: {part}", field.label);
                        return Err(ApiError::write(
                            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                            message,
                            &[&field.name],
                        ));
                    }
                }
            }
            Ok(Some(chosen.join(";").into()))
        }
        FieldKind::String | FieldKind::Phone | FieldKind::Url if text.contains(['\n', '\r']) => {
            // A line has no breaks.
            Ok(Some(text.replace(['\n', '\r'], " ").into()))
        }
        _ => Ok(Some(text.into())),
    }
}

/// Whether Salesforce would take it as an address, by the characters that its help page lists.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_ok = !local.is_empty()
        && local.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*/=?^_+-`{|}~.".contains(c))
        && !local.starts_with('.')
        && !local.ends_with('.');
    let labels: Vec<&str> = domain.split('.').collect();
    local_ok
        && labels.len() > 1
        && labels.iter().all(|label| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_each_form_and_shown_to_the_second() {
        for text in [
            "2026-01-31T10:00:00Z",
            "2026-01-31T10:00:00.000Z",
            "2026-01-31T10:00:00.000+0000",
            "2026-01-31T11:00:00+01:00",
            "2026-01-31T05:00:00-05:00",
        ] {
            assert_eq!(
                parse_time(text).map(shown_time).as_deref(),
                Some("2026-01-31T10:00:00.000+0000"),
                "{text}"
            );
        }
        assert_eq!(shown_time(1_769_853_600_999), "2026-01-31T10:00:00.000+0000");
        for text in ["2026-01-31", "2026-01-31T10:00:00", "yesterday", "T", "2026-01-31T10:00:00é0000"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_judged_by_the_listed_characters() {
        for good in ["a@example.com", "A.b+c@sub.example.com", "o'neil@x-y.de", "a&b@example.com"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@b",
            "@example.com",
            ".a@example.com",
            "a.@example.com",
            "a b@example.com",
            "ä@example.com",
            "a@-x.com",
            "a@example..com",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
