//! The small grammars of values: names, durations, sizes; and the nearest known word to a wrong one.

use std::time::Duration;

/// What [`is_name`] wants, for messages.
pub(super) const NAME_RULE: &str =
    "use letters, digits, '.', '_' and '-', the first a letter or digit, at most 128";

/// Names of connections, scopes, providers, apps, objects: they stand in addresses and keys.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= 128
        && text.bytes().all(legal)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = |word: &str| strsim::jaro_winkler(name, word);
    let is_near = |word: &str| likeness(word) > 0.8 || strsim::osa_distance(name, word) <= 1;
    let near = known.iter().filter(|word| is_near(word));
    near.max_by(|left, right| likeness(left).total_cmp(&likeness(right))).copied()
}

pub(super) fn suggestion(name: &str, known: &[&'static str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => format!("; known here: {}", known.join(", ")),
    }
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

pub(super) fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

pub(super) fn show_size(value: u64) -> String {
    match value {
        _ if value > 0 && value.is_multiple_of(1 << 30) => format!("{}GiB", value >> 30),
        _ if value > 0 && value.is_multiple_of(1 << 20) => format!("{}MiB", value >> 20),
        _ if value > 0 && value.is_multiple_of(1 << 10) => format!("{}KiB", value >> 10),
        _ => format!("{value} bytes"),
    }
}
