//! How one value is written on either side.

use std::borrow::Cow;

use crate::exchange::Problem;
use crate::json::Node;
use crate::time;

use super::Form;

/// What is wrong with a value.
#[derive(Debug)]
pub(crate) struct Trouble {
    code: &'static str,
    message: String,
}

impl Trouble {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn expected(what: &str, found: &Node<'_>) -> Self {
        Self::new("wrong-type", format!("{what} was expected, not {}", found.kind()))
    }

    pub(crate) fn at(self, pointer: &str) -> Problem {
        Problem::new(self.code, self.message).at(pointer)
    }
}

/// Options: pairs of a canonical and a provider value.
///
/// Several provider values may stand for one canonical value: the first is what is written. Several canonical values may stand
/// for one provider value: the first is what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Canonical, provider.
    pub(crate) rows: Vec<(String, String)>,
    /// What an unknown provider value reads as.
    pub(crate) otherwise: Option<String>,
}

impl Table {
    /// A table in which unknown provider values are refused.
    #[must_use]
    pub fn new(rows: &[(&str, &str)]) -> Self {
        let rows = rows
            .iter()
            .map(|(canonical, provider)| ((*canonical).to_owned(), (*provider).to_owned()))
            .collect();
        Self { rows, otherwise: None }
    }

    /// Options that are called the same on both sides.
    #[must_use]
    pub fn same(options: &[&str]) -> Self {
        Self::new(&options.iter().map(|option| (*option, *option)).collect::<Vec<_>>())
    }

    /// Unknown provider values read as this canonical value and stay as they are.
    #[must_use]
    pub fn otherwise(mut self, canonical: &str) -> Self {
        self.otherwise = Some(canonical.to_owned());
        self
    }

    fn to_provider(&self, canonical: &str) -> Option<&str> {
        self.rows.iter().find(|(left, _)| left == canonical).map(|(_, right)| right.as_str())
    }

    fn to_canonical(&self, provider: &str) -> Option<&str> {
        let row = self.rows.iter().find(|(_, right)| right == provider);
        row.map(|(left, _)| left.as_str()).or(self.otherwise.as_deref())
    }
}

/// A converter of the author's own.
#[derive(Clone, Copy, Debug)]
pub struct Converter {
    /// Canonical to provider; the error is one line.
    pub to_provider: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String>,
    /// Provider to canonical; the error is one line.
    pub to_canonical: for<'a> fn(&Node<'a>) -> Result<Node<'a>, String>,
    /// JSON Schema of the provider's value, as text.
    pub schema: &'static str,
    /// Canonical values to check the laws with, as JSON text.
    pub samples: &'static [&'static str],
}

/// How a field's values are converted.
#[derive(Clone, Debug)]
pub enum Convert {
    /// Text on both sides.
    Text,
    /// An integer; a string of digits where the CRM keeps text.
    Integer,
    /// True or false; "true" or "false" where the CRM keeps text.
    Boolean,
    /// A decimal as canonical text; a number at the CRM, or text where it keeps text. Never through binary floating point.
    Decimal,
    /// A day: `YYYY-MM-DD`. Read from milliseconds at midnight UTC too; written so when `millis`.
    Date {
        /// The CRM wants milliseconds.
        millis: bool,
    },
    /// A moment: RFC 3339 in UTC. Read with any offset and from milliseconds; written as milliseconds when `millis`.
    DateTime {
        /// The CRM wants milliseconds.
        millis: bool,
    },
    /// One of a list of options.
    Options(Table),
    /// A set of texts; joined by a separator where the CRM keeps text.
    Set {
        /// Between the elements. None: an array on both sides.
        separator: Option<char>,
        /// Options of the elements.
        table: Option<Table>,
    },
    /// Any JSON, the same on both sides.
    Json,
    /// The author's own.
    Own(Converter),
}

/// An integer as plain digits: "7", "-7", "7.0". None when it is not one.
fn integer(text: &str) -> Option<Cow<'_, str>> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bare = digits.trim_start_matches('0');
    Some(match (bare.is_empty(), bare.len() == digits.len(), digits.len() < whole.len()) {
        (true, ..) => Cow::Borrowed("0"),
        (_, true, _) => Cow::Borrowed(whole),
        (_, false, true) => Cow::Owned(format!("-{bare}")),
        (_, false, false) => Cow::Borrowed(bare),
    })
}

/// A decimal without exponent, as it was written otherwise. None when it is not one, or longer than 400 digits.
fn decimal(text: &str) -> Option<Cow<'_, str>> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let bare = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = match bare.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (bare, ""),
    };
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || text.len() > 400 {
        return None;
    }
    if exponent == 0 {
        return Some(Cow::Borrowed(mantissa));
    }
    if exponent.unsigned_abs() > 400 {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i32::try_from(digits.len()).ok()?;
    let (whole, fraction) = if point <= 0 {
        ("0".to_owned(), format!("{}{digits}", zeros(-point)))
    } else if point >= length {
        (format!("{digits}{}", zeros(point - length)), String::new())
    } else {
        let (left, right) = digits.split_at_checked(usize::try_from(point).ok()?)?;
        (left.to_owned(), right.to_owned())
    };
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    Some(Cow::Owned(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }))
}

/// A decimal in its shortest form: equal numbers have equal forms.
fn shortest(text: &str) -> Option<String> {
    let plain = decimal(text)?;
    let (sign, bare) = plain.strip_prefix('-').map_or(("", plain.as_ref()), |bare| ("-", bare));
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    Some(match (whole, fraction) {
        ("", "") => "0".to_owned(),
        (_, "") => format!("{sign}{whole}"),
        ("", _) => format!("{sign}0.{fraction}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

/// Milliseconds of a date or moment that a CRM gave: digits, a date or a date with time.
fn moment(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.len() <= 15 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    time::parse_datetime(text).or_else(|| time::parse_date(text).map(|days| days * time::DAY))
}

fn day(text: &str) -> Option<Cow<'_, str>> {
    if time::parse_date(text).is_some() {
        return Some(Cow::Borrowed(text));
    }
    let millis = moment(text)?;
    if millis.rem_euclid(time::DAY) != 0 {
        return None;
    }
    time::format_date(millis.div_euclid(time::DAY)).map(Cow::Owned)
}

fn number_or_text(text: String, form: Form) -> Node<'static> {
    match form {
        Form::Native => Node::Number(Cow::Owned(text)),
        Form::Text => Node::Text(Cow::Owned(text)),
    }
}

impl Convert {
    /// Provider value to canonical value. Null and empty are the mapping's business.
    pub(crate) fn to_canonical<'a>(&'a self, have: &Node<'a>, form: Form) -> Result<Node<'a>, Trouble> {
        let invalid = |what: &str| Trouble::new("invalid-value", format!("{what} was expected"));
        match self {
            Self::Text => match have {
                Node::Text(_) => Ok(have.clone()),
                _ => Err(Trouble::expected("text", have)),
            },
            Self::Integer => {
                let text = own_form(have, form, "an integer")?;
                let digits = integer(text).ok_or_else(|| invalid("an integer"))?;
                Ok(Node::Number(borrowed_again(digits, have)))
            }
            Self::Boolean => match (have, form) {
                (Node::Bool(value), Form::Native) => Ok(Node::Bool(*value)),
                (Node::Text(text), Form::Text) if text.eq_ignore_ascii_case("true") => Ok(Node::Bool(true)),
                (Node::Text(text), Form::Text) if text.eq_ignore_ascii_case("false") => Ok(Node::Bool(false)),
                _ => Err(Trouble::expected("true or false", have)),
            },
            Self::Decimal => {
                let text = own_form(have, form, "a decimal")?;
                let plain = decimal(text).ok_or_else(|| invalid("a decimal number"))?;
                Ok(Node::Text(borrowed_again(plain, have)))
            }
            Self::Date { .. } => {
                let text = have.as_id().ok_or_else(|| Trouble::expected("a date", have))?;
                let plain = day(text).ok_or_else(|| invalid("a date"))?;
                Ok(Node::Text(borrowed_again(plain, have)))
            }
            Self::DateTime { .. } => {
                let text = have.as_id().ok_or_else(|| Trouble::expected("a date with time", have))?;
                let millis = moment(text).ok_or_else(|| invalid("a date with time"))?;
                let text =
                    time::format_datetime(millis).ok_or_else(|| invalid("a date of the years 0 to 9999"))?;
                Ok(Node::Text(Cow::Owned(text)))
            }
            Self::Options(table) => {
                let text = have.as_id().ok_or_else(|| Trouble::expected("an option", have))?;
                let option = table
                    .to_canonical(text)
                    .ok_or_else(|| Trouble::new("invalid-option", "the option is not one that is mapped"))?;
                Ok(Node::Text(Cow::Borrowed(option)))
            }
            Self::Set { separator, table } => {
                let elements: Vec<Cow<'a, str>> = match (have, separator) {
                    (Node::Text(text), Some(separator)) => split(text, *separator),
                    (Node::List(items), None) => items
                        .iter()
                        .map(|item| match item {
                            Node::Text(text) | Node::Number(text) => Ok(text.clone()),
                            _ => Err(Trouble::expected("a set of texts", have)),
                        })
                        .collect::<Result<_, _>>()?,
                    _ => return Err(Trouble::expected("a set", have)),
                };
                let mut items: Vec<Node<'a>> = Vec::with_capacity(elements.len());
                for element in elements {
                    let element = match table {
                        None => element,
                        Some(table) => Cow::Borrowed(table.to_canonical(&element).ok_or_else(|| {
                            Trouble::new("invalid-option", "an option is not one that is mapped")
                        })?),
                    };
                    let item = Node::Text(element);
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
                Ok(Node::List(items))
            }
            Self::Json => Ok(have.clone()),
            Self::Own(own) => {
                (own.to_canonical)(have).map_err(|message| Trouble::new("invalid-value", message))
            }
        }
    }

    /// Canonical value to provider value.
    pub(crate) fn to_provider<'a>(&'a self, want: &Node<'a>, form: Form) -> Result<Node<'a>, Trouble> {
        let invalid = |what: &str| Trouble::new("invalid-value", format!("{what} was expected"));
        match (self, want) {
            (Self::Json, _) => Ok(want.clone()),
            (Self::Own(own), _) => {
                (own.to_provider)(want).map_err(|message| Trouble::new("invalid-value", message))
            }
            // A CRM that tells null apart is given null.
            (_, Node::Null) => Ok(Node::Null),
            (Self::Text, Node::Text(_)) => Ok(want.clone()),
            (Self::Text, _) => Err(Trouble::expected("text", want)),
            (Self::Integer, Node::Number(text)) => {
                let digits = integer(text).ok_or_else(|| invalid("an integer"))?;
                Ok(number_or_text(digits.into_owned(), form))
            }
            (Self::Integer, _) => Err(Trouble::expected("an integer", want)),
            (Self::Boolean, Node::Bool(value)) => Ok(match form {
                Form::Native => Node::Bool(*value),
                Form::Text => Node::text(if *value { "true" } else { "false" }),
            }),
            (Self::Boolean, _) => Err(Trouble::expected("true or false", want)),
            (Self::Decimal, Node::Text(text)) => {
                let plain = decimal(text).ok_or_else(|| invalid("a decimal number"))?;
                Ok(match form {
                    // JSON knows no leading zeros.
                    Form::Native => Node::Number(Cow::Owned(shortest(&plain).unwrap_or_default())),
                    Form::Text => Node::Text(Cow::Owned(plain.into_owned())),
                })
            }
            (Self::Decimal, _) => Err(Trouble::expected("a decimal as text", want)),
            (Self::Date { millis }, Node::Text(text)) => {
                let days = time::parse_date(text).ok_or_else(|| invalid("a date"))?;
                Ok(if *millis {
                    number_or_text((days * time::DAY).to_string(), form)
                } else {
                    Node::Text(text.clone())
                })
            }
            (Self::Date { .. }, _) => Err(Trouble::expected("a date", want)),
            (Self::DateTime { millis }, Node::Text(text)) => {
                let moment =
                    time::parse_datetime(text).ok_or_else(|| invalid("a date with time and offset"))?;
                if *millis {
                    return Ok(number_or_text(moment.to_string(), form));
                }
                let text =
                    time::format_datetime(moment).ok_or_else(|| invalid("a date of the years 0 to 9999"))?;
                Ok(Node::Text(Cow::Owned(text)))
            }
            (Self::DateTime { .. }, _) => Err(Trouble::expected("a date with time", want)),
            (Self::Options(table), Node::Text(text)) => {
                let option = table
                    .to_provider(text)
                    .ok_or_else(|| Trouble::new("invalid-option", "the CRM has no such option"))?;
                Ok(Node::Text(Cow::Borrowed(option)))
            }
            (Self::Options(_), _) => Err(Trouble::expected("an option", want)),
            (Self::Set { separator, table }, Node::List(items)) => {
                set_to_provider(items, *separator, table.as_ref())
            }
            (Self::Set { .. }, _) => Err(Trouble::expected("a set", want)),
        }
    }

    /// The canonical form that comes back: equal values have equal normal forms. None when the value cannot be converted.
    pub(crate) fn normal<'a>(&'a self, value: &Node<'a>, form: Form) -> Option<Node<'a>> {
        match (self, value) {
            (_, Node::Null) => Some(Node::Null),
            (Self::Decimal, Node::Text(text)) => shortest(text).map(|text| Node::Text(Cow::Owned(text))),
            (Self::Set { .. }, _) => {
                let Node::List(mut items) =
                    self.to_canonical(&self.to_provider(value, form).ok()?, form).ok()?
                else {
                    return None;
                };
                items.sort_by(|left, right| left.as_str().cmp(&right.as_str()));
                Some(Node::List(items))
            }
            (Self::Text | Self::Json, _) => Some(value.clone()),
            _ => self.to_canonical(&self.to_provider(value, form).ok()?, form).ok(),
        }
    }

    /// The provider's value says the same as the canonical one, however it is written.
    pub(crate) fn says(&self, have: &Node<'_>, want: &Node<'_>, form: Form) -> bool {
        match (self, have, want) {
            (_, Node::Null, Node::Null) => true,
            (_, Node::Null, _) | (_, _, Node::Null) => false,
            (Self::Text, Node::Text(have), Node::Text(want)) => have == want,
            (Self::Json, ..) => have == want,
            _ => match self.to_canonical(have, form) {
                Ok(have) => {
                    have == *want
                        || match (self.normal(&have, form), self.normal(want, form)) {
                            (Some(have), Some(want)) => have == want,
                            _ => false,
                        }
                }
                Err(_) => false,
            },
        }
    }
}

/// The text of a number or of a string, whichever the CRM keeps.
fn own_form<'a, 'n>(have: &'n Node<'a>, form: Form, what: &str) -> Result<&'n str, Trouble> {
    match (have, form) {
        (Node::Number(text), Form::Native) | (Node::Text(text), Form::Text) => Ok(text),
        _ => Err(Trouble::expected(what, have)),
    }
}

/// A part of a node's text, borrowed from the document where the node is.
fn borrowed_again<'a>(part: Cow<'_, str>, node: &Node<'a>) -> Cow<'a, str> {
    if let (Node::Text(Cow::Borrowed(whole)) | Node::Number(Cow::Borrowed(whole)), Cow::Borrowed(part)) =
        (node, &part)
        && whole.len() == part.len()
    {
        return Cow::Borrowed(whole);
    }
    Cow::Owned(part.into_owned())
}

fn split<'a>(text: &Cow<'a, str>, separator: char) -> Vec<Cow<'a, str>> {
    let wanted = |part: &&str| !part.is_empty();
    match text {
        Cow::Borrowed(text) => text.split(separator).filter(wanted).map(Cow::Borrowed).collect(),
        Cow::Owned(text) => {
            text.split(separator).filter(wanted).map(|part| Cow::Owned(part.to_owned())).collect()
        }
    }
}

fn set_to_provider<'a>(
    items: &[Node<'a>],
    separator: Option<char>,
    table: Option<&Table>,
) -> Result<Node<'a>, Trouble> {
    let mut elements: Vec<Cow<'a, str>> = Vec::with_capacity(items.len());
    for item in items {
        let Node::Text(text) = item else { return Err(Trouble::expected("a set of texts", item)) };
        let element = match table {
            None => text.clone(),
            Some(table) => Cow::Owned(
                table
                    .to_provider(text)
                    .ok_or_else(|| Trouble::new("invalid-option", "the CRM has no such option"))?
                    .to_owned(),
            ),
        };
        if separator.is_some_and(|separator| element.contains(separator)) || element.is_empty() {
            return Err(Trouble::new("invalid-value", "an element is empty or contains the CRM's separator"));
        }
        if !elements.contains(&element) {
            elements.push(element);
        }
    }
    Ok(match separator {
        None => Node::List(elements.into_iter().map(Node::Text).collect()),
        Some(separator) => {
            let mut joined = String::new();
            for element in elements {
                if !joined.is_empty() {
                    joined.push(separator);
                }
                joined.push_str(&element);
            }
            Node::Text(Cow::Owned(joined))
        }
    })
}
