//! Text for people: aligned tables, times. What comes from a record is made harmless for terminals.

use std::fmt::Write as _;

use serde_json::Value;
use tandem_core::Millis;

/// Longest cell, in characters; the rest is cut off.
const WIDEST: usize = 60;

/// Rows under a head, columns aligned, two blanks between them. The last column is as wide as it likes.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Moves every line to the right.
pub(super) fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {line}");
        out
    })
}

/// Text from outside as one line without control characters, cut off where it is too long.
pub(super) fn harmless(text: &str) -> String {
    match text.char_indices().nth(WIDEST) {
        Some((end, _)) => plain(text.get(..end).unwrap_or_default()) + "…",
        None => plain(text),
    }
}

/// Text from outside as one line without control characters, whole.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // Besides control characters: marks that turn the direction of writing.
        let turns =
            matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        if character.is_control() || turns {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// A value as JSON; a hyphen where there is none.
pub(super) fn value(value: Option<&Value>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| harmless(&value.to_string()))
}

/// A moment in UTC, to the second.
pub(super) fn time(at: Millis) -> String {
    let stamp = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    stamp.map_or_else(|| at.to_string(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["ä".to_owned(), "1".to_owned()], ["long".to_owned(), "22".to_owned()]];
        assert_eq!(table(["name", "n"], &rows), "name  n\nä     1\nlong  22\n");
    }

    #[test]
    fn what_comes_from_a_record_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d");
        assert_eq!(harmless(&"x".repeat(100)).chars().count(), WIDEST + 1);
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(time(1_795_392_000_123), "2026-11-23 00:00:00Z");
    }
}
