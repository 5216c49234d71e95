//! The words of a query: names, numbers, signs and quoted texts, each with its place.

use super::errors::ApiError;

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Char(char),
    /// `_`
    One,
    /// `%`
    Any,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// What is between the quotes, escapes and all.
    Quoted(String),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 11] = ["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ",", "*"];

/// A refusal at a place of a query, as Salesforce words it.
pub(super) fn refuse(query: &str, code: &str, place: usize, message: &str) -> ApiError {
    let column = query.get(..place).map_or(0, |before| before.chars().count()) + 1;
    let blanks = " ".repeat(column - 1);
    ApiError::bad(code, format!("\n{query}\n{blanks}^\nERROR at Row:1:Column:{column}\n{message}"))
}

/// The words of a query with their places, and its end.
pub(super) fn split(query: &str) -> Result<Vec<(usize, Token)>, ApiError> {
    let mut tokens = Vec::new();
    let mut place = 0;
    while let Some(first) = query.get(place..).and_then(|rest| rest.chars().next()) {
        let rest = query.get(place..).unwrap_or_default();
        if first.is_whitespace() {
            place += first.len_utf8();
        } else if first == '\'' {
            let mut escaped = false;
            let body = rest.get(1..).unwrap_or_default();
            let end = body.char_indices().find(|(_, c)| {
                let ends = *c == '\'' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            let Some((end, _)) = end else {
                let message = "unexpected token: '<EOF>' (a text is not ended)";
                return Err(refuse(query, "MALFORMED_QUERY", place, message));
            };
            tokens.push((place, Token::Quoted(body.get(..end).unwrap_or_default().to_owned())));
            place += end + 2;
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(*sign)) {
            tokens.push((place, Token::Sign(sign)));
            place += sign.len();
        } else {
            let ends = |c: char| c.is_whitespace() || "'<>=!(),*".contains(c);
            // A sign that stands for nothing is a word of its own.
            let alone = if ends(first) { first.len_utf8() } else { rest.len() };
            let length = rest.find(ends).filter(|length| *length > 0).unwrap_or(alone);
            tokens.push((place, Token::Word(rest.get(..length).unwrap_or_default().to_owned())));
            place += length;
        }
    }
    tokens.push((query.len(), Token::End));
    Ok(tokens)
}

/// The text that a quoted one stands for, or why it stands for none. Only a pattern has wildcards.
pub(super) fn unescape(raw: &str, pattern: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '\\' => Piece::Char(match chars.next() {
                Some('n' | 'N') => '\n',
                Some('r' | 'R') => '\r',
                Some('t' | 'T') => '\t',
                Some('b' | 'B') => '\u{8}',
                Some('f' | 'F') => '\u{c}',
                Some(c @ ('"' | '\'' | '\\')) => c,
                Some(c @ ('_' | '%')) if pattern => c,
                Some('u') => {
                    let code: String = chars.by_ref().take(4).collect();
                    let number = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == 4);
                    number.and_then(char::from_u32).ok_or_else(|| "invalid Unicode escape".to_owned())?
                }
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "Invalid string literal '{raw}'. Illegal character sequence '\\{other}' in string literal."
                    ));
                }
            }),
            '%' if pattern => Piece::Any,
            '_' if pattern => Piece::One,
            c => Piece::Char(c),
        });
    }
    Ok(pieces)
}
