//! Queries in SOQL: literals that cannot end early, moments, and the conditions that keep a listing in order.
//!
//! Names of fields come from the settings, where they are letters, digits and underscores; values stand in literals.

use tandem_provider::time;

/// A literal in quotes, with what SOQL wants escaped.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// A moment: seconds since 1970, as SOQL and the listing of deleted records write it. Unlike text it has no quotes.
pub(crate) fn moment(seconds: u64) -> String {
    let millis = i64::try_from(seconds).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
    time::format_datetime(millis).unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// Records that were modified since then, oldest first.
pub(crate) fn modified_since(seconds: u64) -> String {
    format!("SystemModstamp >= {}", moment(seconds))
}

/// What follows on a row in the order of modification and id. A page begins where the last one ended, whatever was modified
/// meanwhile, and no cursor of Salesforce's can expire.
pub(crate) fn modified_after(seconds: u64, id: &str) -> String {
    let at = moment(seconds);
    format!("(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > {}))", literal(id))
}
