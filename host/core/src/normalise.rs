//! Normalisers of the host: when two values of a field count as the same.
//!
//! A normaliser is chosen by name and is a total function of one value: it never fails, and leaves alone what it does not
//! understand. Each is idempotent: N(N(x)) = N(x). Names can be chained from left to right with `|` (or `+`):
//! `trim|lower`. On arrays the text normalisers work element by element, so that a chain serves for sets too.
//!
//! A normal form is for comparing. What is written to either side is the value as it stands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use crate::document::composed;

/// A normaliser's name and what it does, in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normaliser {
    /// The name in schemas and descriptors.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
}

/// All normalisers.
pub const ALL: &[Normaliser] = &[
    Normaliser { name: "exact", description: "the value as it stands" },
    Normaliser { name: "trim", description: "text without white space at both ends" },
    Normaliser { name: "lower", description: "text in lower case" },
    Normaliser { name: "text", description: "text in NFC, line ends as LF, trimmed" },
    Normaliser { name: "email", description: "an address trimmed and in lower case" },
    Normaliser {
        name: "phone",
        description: "digits, a leading + (also for 00), an extension as ;ext=; no country is guessed",
    },
    Normaliser {
        name: "language",
        description: "a language tag trimmed, in lower case, parts joined by hyphens",
    },
    Normaliser {
        name: "url",
        description: "scheme (https if missing) and host in lower case, no default port, no lone final slash",
    },
    Normaliser {
        name: "date",
        description: "YYYY-MM-DD, also from midnight UTC as a date-time or epoch milliseconds",
    },
    Normaliser {
        name: "datetime",
        description: "RFC 3339 in UTC with milliseconds, also from epoch milliseconds; finer parts are cut off",
    },
    Normaliser {
        name: "decimal",
        description: "a decimal number as text in its shortest form, without an exponent",
    },
    Normaliser { name: "set", description: "an array sorted and without repetitions" },
    Normaliser { name: "empty-is-absent", description: "empty text, array or object counts as no value" },
];

/// Whether every link of a chain is known.
#[must_use]
pub fn is_known(chain: &str) -> bool {
    links(chain).all(|name| ALL.iter().any(|normaliser| normaliser.name == name))
}

fn links(chain: &str) -> impl Iterator<Item = &str> {
    chain.split(['|', '+']).map(str::trim)
}

/// The normal form of a value. A name that is not known counts as `exact` (descriptors and schemas are checked with
/// [`is_known`] when they are loaded).
#[must_use]
pub fn normal_form(chain: &str, value: &Value) -> Value {
    links(chain).fold(value.clone(), one)
}

fn one(value: Value, name: &str) -> Value {
    match name {
        "trim" => text(value, |text| text.trim().to_owned()),
        "lower" => text(value, lower),
        "text" => text(value, plain),
        "email" => text(value, |text| lower(composed(text.trim()).trim())),
        "phone" => each(value, &phone),
        "language" => text(value, |text| lower(text.trim()).replace('_', "-")),
        "url" => text(value, url),
        "date" => each(value, &date),
        "datetime" => each(value, &datetime),
        "decimal" => each(value, &decimal),
        "set" => set(value),
        "empty-is-absent" => empty_is_absent(value),
        _ => value,
    }
}

/// Applies to elements of arrays, and to everything else as a whole.
fn each(value: Value, change: &dyn Fn(Value) -> Value) -> Value {
    match value {
        Value::Array(elements) => {
            Value::Array(elements.into_iter().map(|element| each(element, change)).collect())
        }
        value => change(value),
    }
}

fn text(value: Value, change: impl Fn(&str) -> String) -> Value {
    each(value, &|value| match value {
        Value::String(text) => Value::String(change(&text)),
        value => value,
    })
}

/// Lower case, composed. Twice, since composing after lowering may give a letter that has a lower case of its own.
fn lower(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Letter by letter: `str::to_lowercase` treats a final sigma by its neighbours, which is not idempotent after trimming.
    let fold =
        |text: &str| composed(&text.chars().flat_map(char::to_lowercase).collect::<String>()).into_owned();
    fold(&fold(text))
}

fn plain(text: &str) -> String {
    let text = composed(text);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into_owned() }
        .trim()
        .to_owned()
}

/// Digits with an optional leading plus. `00` at the start is a plus; a trunk zero in brackets goes when there is a plus.
/// An extension (`x`, `ext`, `ext.`, `extension`, `#`, `;ext=` and digits at the end) becomes `;ext=DIGITS`. What has
/// other letters, or no digit, is only trimmed: it is not a number.
fn phone(value: Value) -> Value {
    let Value::String(raw) = value else { return value };
    let trimmed = raw.trim();
    let lowered = trimmed.to_lowercase();
    let (main, extension) = split_extension(&lowered);
    let main = main.strip_prefix("tel:").unwrap_or(main).trim();
    let allowed = |c: char| {
        c.is_ascii_digit()
            || c.is_whitespace()
            || matches!(c, '+' | '-' | '.' | '/' | '(' | ')' | '–' | '‑' | '\u{2010}')
    };
    if !main.chars().all(allowed) || !main.chars().any(|c| c.is_ascii_digit()) {
        return Value::String(trimmed.to_owned());
    }
    let dialled: String = main.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect();
    let international = dialled.starts_with('+') || dialled.starts_with("00");
    let main = if international { main.replacen("(0)", "", 1) } else { main.to_owned() };
    let digits: String = main.chars().filter(char::is_ascii_digit).collect();
    let digits = if international && !main.contains('+') {
        digits.strip_prefix("00").unwrap_or(&digits).to_owned()
    } else {
        digits
    };
    if digits.is_empty() {
        return Value::String(trimmed.to_owned());
    }
    let plus = if international { "+" } else { "" };
    Value::String(match extension {
        Some(extension) => format!("{plus}{digits};ext={extension}"),
        None => format!("{plus}{digits}"),
    })
}

fn split_extension(text: &str) -> (&str, Option<&str>) {
    let head = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let extension = text.get(head.len()..).unwrap_or_default();
    if extension.is_empty() {
        return (text, None);
    }
    let before = head.trim_end();
    for mark in [";ext=", "extension", "ext.", "ext", "x", "#"] {
        if let Some(main) = before.strip_suffix(mark) {
            return (main.trim_end_matches([' ', ',', ';']), Some(extension));
        }
    }
    (text, None)
}

/// Scheme and host in lower case; a missing scheme counts as https; no default port; a path that is only `/` goes.
fn url(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return text.to_owned();
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest))
            if !scheme.is_empty()
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) =>
        {
            (scheme.to_ascii_lowercase(), rest)
        }
        Some(_) => return text.to_owned(),
        None if text.starts_with("mailto:") || text.starts_with("tel:") => return text.to_owned(),
        None => ("https".to_owned(), text.trim_start_matches('/')),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, tail) = rest.split_at(end);
    let host = host.to_ascii_lowercase();
    let host = match scheme.as_str() {
        "https" => host.strip_suffix(":443").unwrap_or(&host),
        "http" => host.strip_suffix(":80").unwrap_or(&host),
        _ => &host,
    };
    if host.is_empty() {
        return text.to_owned();
    }
    let tail = if tail == "/" { "" } else { tail };
    format!("{scheme}://{host}{tail}")
}

/// Epoch milliseconds from a number or from text of digits.
fn epoch(value: &Value) -> Option<Timestamp> {
    let milliseconds = match value {
        Value::Number(number) => number.as_i64()?,
        // Fewer digits could be a year or a day.
        Value::String(text) if text.trim().len() >= 9 => text.trim().parse().ok()?,
        _ => return None,
    };
    Timestamp::from_millisecond(milliseconds).ok()
}

fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.trim().parse().ok().or_else(|| epoch(value)),
        _ => epoch(value),
    }
}

fn date(value: Value) -> Value {
    if let Value::String(text) = &value
        && let Ok(date) = Date::strptime("%Y-%m-%d", text.trim())
    {
        return Value::String(date.to_string());
    }
    let Some(moment) = moment(&value) else { return value };
    if moment.as_millisecond().rem_euclid(86_400_000) != 0 || moment.subsec_nanosecond() != 0 {
        return value;
    }
    Value::String(moment.strftime("%Y-%m-%d").to_string())
}

fn datetime(value: Value) -> Value {
    let Some(moment) = moment(&value) else { return value };
    match Timestamp::from_millisecond(
        moment.as_nanosecond().div_euclid(1_000_000).try_into().unwrap_or_default(),
    ) {
        Ok(moment) => Value::String(moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()),
        Err(_) => value,
    }
}

/// How many digits an exponent may move the point: what is beyond is left alone.
const GREATEST_EXPONENT: i32 = 40;

fn decimal(value: Value) -> Value {
    let shortest = match &value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(text) => shortest(text.trim()),
        _ => None,
    };
    shortest.map_or(value, Value::String)
}

fn shortest(text: &str) -> Option<String> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    if exponent.abs() > GREATEST_EXPONENT {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let (whole, fraction) = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => (format!("{digits:0<point$}"), String::new()),
        Ok(point) => (digits.get(..point)?.to_owned(), digits.get(point..)?.to_owned()),
        Err(_) => (String::new(), format!("{}{digits}", "0".repeat(usize::try_from(-point).ok()?))),
    };
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

fn set(value: Value) -> Value {
    let Value::Array(elements) = value else { return value };
    let sorted: BTreeMap<String, Value> =
        elements.into_iter().map(|element| (element.to_string(), element)).collect();
    Value::Array(sorted.into_values().collect())
}

fn empty_is_absent(value: Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(elements) if elements.is_empty() => Value::Null,
        Value::Object(members) if members.is_empty() => Value::Null,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn same(chain: &str, pairs: &[(&str, &str)]) {
        for (from, to) in pairs {
            assert_eq!(normal_form(chain, &json!(from)), json!(to), "{chain} of {from:?}");
        }
    }

    #[test]
    fn text_normalisers_do_what_they_say() {
        same("exact", &[(" A ", " A ")]);
        same("trim", &[("  a b \n", "a b"), ("\u{00a0}x", "x")]);
        // A sigma at the end stays what it is elsewhere: the next letter may be cut off, and then nothing changes.
        same("lower", &[("ÄrA", "ära"), ("ΑΣ", "ασ")]);
        same("text", &[("a\r\nb\rc \n", "a\nb\nc"), ("e\u{0301}", "é")]);
        same("email", &[(" Ann@Example.COM ", "ann@example.com")]);
        same("language", &[(" de_CH ", "de-ch"), ("EN", "en")]);
    }

    #[test]
    fn phones_keep_digits_plus_and_extension() {
        same(
            "phone",
            &[
                ("+49 (0)30 / 123-456", "+4930123456"),
                ("0049 30 123456", "+4930123456"),
                // Zeros after a plus are digits like others.
                ("+0049 30 123456", "+004930123456"),
                ("(030) 123 456", "030123456"),
                ("+1 (555) 010-0199 ext. 12", "+15550100199;ext=12"),
                ("+15550100199;ext=12", "+15550100199;ext=12"),
                ("+1 555 0100199 x12", "+15550100199;ext=12"),
                ("tel:+1-555-0100", "+15550100"),
                ("none", "none"),
                (" 555-CALL-NOW ", "555-CALL-NOW"),
                ("", ""),
            ],
        );
    }

    #[test]
    fn urls_agree_on_scheme_host_and_lone_slash() {
        same(
            "url",
            &[
                ("Example.com", "https://example.com"),
                ("HTTPS://Example.com:443/", "https://example.com"),
                ("http://Example.com:80/Path?Q=1", "http://example.com/Path?Q=1"),
                ("http://example.com", "http://example.com"),
                ("//example.com/a", "https://example.com/a"),
                ("not a url", "not a url"),
                // What is no scheme, or no address of a page, is left alone.
                ("my_site://Example.com/", "my_site://Example.com/"),
                ("://Example.com/", "://Example.com/"),
                ("mailto:Ann@Example.com", "mailto:Ann@Example.com"),
                ("tel:+1-555-0100", "tel:+1-555-0100"),
            ],
        );
    }

    #[test]
    fn dates_come_from_days_midnights_and_epoch_milliseconds() {
        same(
            "date",
            &[
                ("1990-02-28", "1990-02-28"),
                ("1990-02-28T00:00:00Z", "1990-02-28"),
                ("1990-02-28T01:00:00+01:00", "1990-02-28"),
                ("636163200000", "1990-02-28"),
                ("1990-02-30", "1990-02-30"),
                ("1990-02-28T12:00:00Z", "1990-02-28T12:00:00Z"),
                ("yesterday", "yesterday"),
            ],
        );
        same("date", &[("0", "0"), ("2024", "2024")]);
        assert_eq!(normal_form("date", &json!(636_163_200_000_i64)), json!("1990-02-28"));
        assert_eq!(normal_form("date", &json!(-86_400_000)), json!("1969-12-31"));
        assert_eq!(normal_form("date", &json!(636_163_200_001_i64)), json!(636_163_200_001_i64));
    }

    #[test]
    fn datetimes_are_utc_with_milliseconds() {
        same(
            "datetime",
            &[
                ("2026-11-23T02:00:00+01:00", "2026-11-23T01:00:00.000Z"),
                ("2026-11-23T01:00:00.123987Z", "2026-11-23T01:00:00.123Z"),
                ("2026-11-23T01:00:00", "2026-11-23T01:00:00"),
                ("1795395600123", "2026-11-23T01:00:00.123Z"),
                // A year or a number of days, not milliseconds.
                ("2024", "2024"),
                ("20240229", "20240229"),
            ],
        );
        assert_eq!(normal_form("datetime", &json!(1_000)), json!("1970-01-01T00:00:01.000Z"));
    }

    #[test]
    fn decimals_have_one_form_and_no_binary_fraction() {
        same(
            "decimal",
            &[
                ("007.50", "7.5"),
                ("-0.00", "0"),
                ("-5", "-5"),
                ("-0.50", "-0.5"),
                ("-12.50", "-12.5"),
                ("1e40", "10000000000000000000000000000000000000000"),
                ("1e41", "1e41"),
                ("+1.0", "1"),
                ("1e3", "1000"),
                ("12.5E-3", "0.0125"),
                (".5", "0.5"),
                ("5.", "5"),
                ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
                ("1e400", "1e400"),
                ("twelve", "twelve"),
                ("", ""),
                (".", "."),
            ],
        );
        assert_eq!(normal_form("decimal", &json!(42)), json!("42"));
        assert_eq!(normal_form("decimal", &json!(-42)), json!("-42"));
        assert_eq!(normal_form("decimal", &json!(u64::MAX)), json!("18446744073709551615"));
        assert_eq!(normal_form("decimal", &json!(1.5)), json!(1.5), "a binary fraction is no decimal");
    }

    #[test]
    fn sets_are_sorted_and_chains_work_inside_arrays() {
        assert_eq!(normal_form("set", &json!(["b", "a", "b"])), json!(["a", "b"]));
        assert_eq!(normal_form("trim|lower|set", &json!([" B", "b", "A"])), json!(["a", "b"]));
        assert_eq!(normal_form("trim+lower", &json!(" X ")), json!("x"));
    }

    #[test]
    fn empty_counts_as_absent_only_when_asked() {
        for empty in [json!(""), json!([]), json!({}), json!(null)] {
            assert_eq!(normal_form("empty-is-absent", &empty), Value::Null);
        }
        for full in [json!("a"), json!(["a"]), json!({"a": 1}), json!(0), json!(false)] {
            assert_eq!(normal_form("empty-is-absent", &full), full);
        }
        assert_eq!(normal_form("trim|empty-is-absent", &json!("  ")), Value::Null);
        assert_eq!(normal_form("exact", &json!("")), json!(""));
    }

    #[test]
    fn a_chain_is_known_when_each_link_is() {
        assert!(ALL.iter().all(|normaliser| is_known(normaliser.name)));
        assert!(is_known("trim|lower") && is_known("text + email"));
        assert!(!is_known("trim|soundex") && !is_known(""));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,16}".prop_map(Value::from),
            "[+0-9() ./x#;-]{0,16}".prop_map(Value::from),
            "[+-]?[0-9]{0,5}[.]?[0-9]{0,5}(e-?[0-9]{1,2})?".prop_map(Value::from),
            "(HTTPS?://)?[a-zA-Z.:/?#]{0,16}".prop_map(Value::from),
            "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:00:00(Z|[+]01:00))?".prop_map(Value::from),
            "[ΣσςİıIﬀÅ\u{0301}\u{0307} ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
    }

    proptest! {
        #![proptest_config(crate::thoroughly(2_000))]
        #[test]
        fn every_normaliser_is_idempotent(value in any_value()) {
            for normaliser in ALL {
                let once = normal_form(normaliser.name, &value);
                prop_assert_eq!(normal_form(normaliser.name, &once), once, "{}", normaliser.name);
            }
        }
    }
}
