//! JSON documents: strings are borrowed from the input where they have no escapes, and numbers stay the text they came as.
//!
//! Strict: one value, UTF-8, no lone surrogate, no member twice, at most [`MAX_DEPTH`] levels. Objects keep their order, so
//! that the same input gives the same bytes.

use std::borrow::Cow;
use std::fmt;

/// Levels of arrays and objects that are read.
pub const MAX_DEPTH: usize = 128;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Cow<'a, str>),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object.
    Object(Members<'a>),
}

/// The members of an object, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'a>(Vec<(Cow<'a, str>, Node<'a>)>);

impl<'a> Members<'a> {
    /// No members yet, room for some.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// A member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// The place of a member. `hint` is where to look first, and moves behind what was found: whoever asks in the document's
    /// order finds each member at once.
    pub(crate) fn place(&self, name: &str, hint: &mut usize) -> Option<usize> {
        if let Some((member, _)) = self.0.get(*hint)
            && member == name
        {
            *hint += 1;
            return Some(*hint - 1);
        }
        let place = self.0.iter().position(|(member, _)| member == name)?;
        *hint = place + 1;
        Some(place)
    }

    /// The member at a place.
    pub(crate) fn at(&self, place: usize) -> Option<&Node<'a>> {
        self.0.get(place).map(|(_, value)| value)
    }

    /// The member at a place, to be changed.
    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut Node<'a>> {
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// A member that may be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        self.0.iter_mut().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Sets a member: in its place if it is there, else at the end.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: Node<'a>) {
        let name = name.into();
        match self.get_mut(&name) {
            Some(place) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    /// Appends a member that is known not to be there.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: Node<'a>) {
        self.0.push((name.into(), value));
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Node<'a>> {
        let place = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.remove(place).1)
    }

    /// All members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Node<'a> {
    /// A string.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// An integer.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Self::Number(Cow::Owned(number.to_string()))
    }

    /// An empty object.
    #[must_use]
    pub fn object() -> Self {
        Self::Object(Members::default())
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Node<'a>]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The members, if it is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Members<'a>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// A member, if it is an object and has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.as_object()?.get(name)
    }

    /// The text of a string or number: ids come as both.
    #[must_use]
    pub fn as_id(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            _ => None,
        }
    }

    /// The word for its type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The value at a pointer, given as its segments.
    #[must_use]
    pub fn at<S: AsRef<str>>(&self, segments: &[S]) -> Option<&Node<'a>> {
        let mut node = self;
        for segment in segments {
            node = match node {
                Self::Object(members) => members.get(segment.as_ref())?,
                Self::List(items) => items.get(segment.as_ref().parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// The object at a pointer, made on the way. None when something that is not an object is in the way.
    pub(crate) fn object_at(&mut self, segments: &'a [String]) -> Option<&mut Members<'a>> {
        let mut node = self;
        for segment in segments {
            let Self::Object(members) = node else { return None };
            let place = match members.place(segment, &mut 0) {
                Some(place) => place,
                None => {
                    members.push(segment.as_str(), Self::object());
                    members.len() - 1
                }
            };
            node = members.at_mut(place)?;
        }
        match node {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Sets the value at a pointer, making the objects on the way. False when something that is not an object is in the way.
    pub fn set_at<S: AsRef<str>>(&mut self, segments: &[S], value: Node<'a>) -> bool {
        let Some((last, parents)) = segments.split_last() else {
            *self = value;
            return true;
        };
        let mut node = self;
        for segment in parents {
            let Self::Object(members) = node else { return false };
            if members.get(segment.as_ref()).is_none() {
                members.push(segment.as_ref().to_owned(), Self::object());
            }
            let Some(next) = members.get_mut(segment.as_ref()) else { return false };
            node = next;
        }
        let Self::Object(members) = node else { return false };
        match members.get_mut(last.as_ref()) {
            Some(place) => *place = value,
            None => members.push(last.as_ref().to_owned(), value),
        }
        true
    }

    /// Takes the value at a pointer out of its object.
    pub fn remove_at<S: AsRef<str>>(&mut self, segments: &[S]) -> Option<Node<'a>> {
        let (last, parents) = segments.split_last()?;
        let mut node = self;
        for segment in parents {
            let Self::Object(members) = node else { return None };
            node = members.get_mut(segment.as_ref())?;
        }
        let Self::Object(members) = node else { return None };
        members.remove(last.as_ref())
    }

    /// A copy that borrows nothing.
    #[must_use]
    pub fn into_owned(self) -> Node<'static> {
        match self {
            Self::Null => Node::Null,
            Self::Bool(value) => Node::Bool(value),
            Self::Number(text) => Node::Number(Cow::Owned(text.into_owned())),
            Self::Text(text) => Node::Text(Cow::Owned(text.into_owned())),
            Self::List(items) => Node::List(items.into_iter().map(Node::into_owned).collect()),
            Self::Object(members) => Node::Object(Members(
                members
                    .0
                    .into_iter()
                    .map(|(name, value)| (Cow::Owned(name.into_owned()), value.into_owned()))
                    .collect(),
            )),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_of(512)
    }

    /// As [`to_bytes`](Self::to_bytes), with room for so many.
    pub(crate) fn to_bytes_of(&self, capacity: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(capacity);
        self.write(&mut out);
        out
    }

    /// Appends the JSON text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(text) => out.extend_from_slice(text.as_bytes()),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.0.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Reads a `serde_json` value, for settings, facts and tests.
impl From<&serde_json::Value> for Node<'static> {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(Cow::Owned(number.to_string())),
            serde_json::Value::String(text) => Self::Text(Cow::Owned(text.clone())),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(members) => Self::Object(Members(
                members.iter().map(|(name, value)| (Cow::Owned(name.clone()), Self::from(value))).collect(),
            )),
        }
    }
}

/// How many bytes from `from` on can stand in a string as they are: no control character, quotation mark or backslash.
fn clean_run(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')).unwrap_or(rest.len())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut at = 0;
    loop {
        let clean = clean_run(bytes, at);
        out.extend_from_slice(bytes.get(at..at + clean).unwrap_or_default());
        at += clean;
        let Some(byte) = bytes.get(at) else { break };
        at += 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                for digit in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(digit)).copied().unwrap_or(b'0'));
                }
            }
        }
    }
    out.push(b'"');
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Offset in bytes.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for Error {}

/// Parses one JSON value.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error { offset: error.valid_up_to(), what: "text is not UTF-8" })?;
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0 };
    let node = parser.value(0)?;
    parser.space();
    if parser.at < bytes.len() {
        return parser.fail("more than one value");
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error { offset: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn word(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, Error> {
        if self.bytes.get(self.at..).unwrap_or_default().starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(node);
        }
        self.fail("a value was expected")
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        self.space();
        match self.peek() {
            Some(b'"') => self.string().map(Node::Text),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'n') => self.word("null", Node::Null),
            Some(b't') => self.word("true", Node::Bool(true)),
            Some(b'f') => self.word("false", Node::Bool(false)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.fail("a value was expected"),
            None => self.fail("the text ends too early"),
        }
    }

    fn digits(&mut self) -> Result<(), Error> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { self.fail("a digit was expected") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Node<'a>, Error> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.peek();
        let first = self.at;
        self.digits()?;
        if leading == Some(b'0') && self.at > first + 1 {
            return self.fail("a number begins with zero");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Node::Number(Cow::Borrowed(self.slice(from, self.at))))
    }

    fn list(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        if depth >= MAX_DEPTH {
            return self.fail("too many levels");
        }
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Node::List(items));
                }
                _ => return self.fail("a comma or the end of the array was expected"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        if depth >= MAX_DEPTH {
            return self.fail("too many levels");
        }
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::Object(Members(members)));
        }
        members.reserve(if depth == 0 { 8 } else { 24 });
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("a member's name was expected");
            }
            let name = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.fail("a colon was expected");
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            members.push((name, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return self.fail("a comma or the end of the object was expected"),
            }
        }
        if has_twins(&members) {
            return self.fail("an object has a member twice");
        }
        Ok(Node::Object(Members(members)))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        self.at += 1;
        let from = self.at;
        self.at += clean_run(self.bytes, from);
        match self.peek() {
            Some(b'"') => {
                let text = self.slice(from, self.at);
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.escaped(from).map(Cow::Owned),
            Some(_) => self.fail("a control character in a string"),
            None => self.fail("the text ends too early"),
        }
    }

    /// The rest of a string that has escapes; `from` is where it began.
    fn escaped(&mut self, from: usize) -> Result<String, Error> {
        let mut text = self.slice(from, self.at).to_owned();
        loop {
            let clean = self.at;
            self.at += clean_run(self.bytes, clean);
            text.push_str(self.slice(clean, self.at));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.peek();
                    self.at += 1;
                    text.push(match escape {
                        Some(b'"') => '"',
                        Some(b'\\') => '\\',
                        Some(b'/') => '/',
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(b'u') => self.unicode()?,
                        _ => return self.fail("an unknown escape"),
                    });
                }
                Some(_) => return self.fail("a control character in a string"),
                None => return self.fail("the text ends too early"),
            }
        }
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return self.fail("four hexadecimal digits were expected");
        }
        let number = u32::from_str_radix(self.slice(self.at, self.at + 4), 16).unwrap_or_default();
        self.at += 4;
        Ok(number)
    }

    fn unicode(&mut self) -> Result<char, Error> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                return self.fail("a lone surrogate");
            }
            self.at += 2;
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.fail("a lone surrogate");
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).map_or_else(|| self.fail("a lone surrogate"), Ok)
    }
}

fn has_twins(members: &[(Cow<'_, str>, Node<'_>)]) -> bool {
    // Most objects have no two names of the same length, beginning and end: one pass settles it.
    let mut marks = 0_u128;
    let mut likely = false;
    for (name, _) in members {
        let bytes = name.as_bytes();
        let (first, last) = (bytes.first().copied().unwrap_or(0), bytes.last().copied().unwrap_or(0));
        let middle = bytes.get(bytes.len() / 2).copied().unwrap_or(0);
        let mixed =
            bytes.len() * 31 + usize::from(first) * 7 + usize::from(middle) * 3 + usize::from(last) * 13;
        let mark = 1_u128 << (mixed & 127);
        likely |= marks & mark != 0;
        marks |= mark;
    }
    if !likely {
        return false;
    }
    if members.len() <= 48 {
        return members
            .iter()
            .enumerate()
            .any(|(index, (name, _))| members.iter().skip(index + 1).any(|(other, _)| other == name));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [left, right] if left == right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        String::from_utf8(parse(text.as_bytes()).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn keeps_numbers_as_they_were_written() {
        for number in ["0", "-0", "1.10", "12345678901234567890123", "1E400", "0.1e-7"] {
            assert_eq!(round(number), number);
        }
    }

    #[test]
    fn reads_and_writes_what_serde_json_does() {
        let text = r#"{"a":[1,2.50,true,null,{"b":"c\"\\\n\u0001"}],"ü😀":"\u00e9\ud83d\ude00/"}"#;
        let ours: serde_json::Value = serde_json::from_str(&round(text)).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn refuses_what_is_not_json() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for text in [
            "",
            " ",
            "nul",
            "01",
            "1.",
            "-",
            "1e",
            "\"a",
            "\"\u{1}\"",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "1 2",
            r#""\ud800""#,
            r#""\ud800A""#,
            r#""\udc00""#,
            r#""\x""#,
            r#"{"a":1,"a":2}"#,
            r#""\u12"#,
            &deep,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().what, "text is not UTF-8");
    }

    #[test]
    fn finds_a_member_twice_in_a_large_object() {
        let members: Vec<String> = (0..100).map(|n| format!("\"m{}\":{n}", n % 99)).collect();
        assert!(parse(format!("{{{}}}", members.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn borrows_strings_without_escapes() {
        let text = br#"["plain","es\ncaped"]"#;
        let Node::List(items) = parse(text).unwrap() else { panic!("an array") };
        assert!(matches!(&items[0], Node::Text(Cow::Borrowed("plain"))));
        assert!(matches!(&items[1], Node::Text(Cow::Owned(_))));
    }

    #[test]
    fn sets_members_at_pointers() {
        let mut node = Node::object();
        assert!(node.set_at(&["custom", "tier"], Node::text("gold")));
        assert!(node.set_at(&["custom", "size"], Node::integer(3)));
        assert!(!node.set_at(&["custom", "tier", "deep"], Node::Null));
        assert_eq!(node.to_bytes(), br#"{"custom":{"tier":"gold","size":3}}"#);
        assert_eq!(node.at(&["custom", "size"]), Some(&Node::Number("3".into())));
    }
}
