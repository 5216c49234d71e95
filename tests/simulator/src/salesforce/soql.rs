//! SOQL, as far as a sync and the client libraries speak it: one object, fields, conditions, order, limit and offset.
//!
//! What Salesforce refuses is refused with its code and the place in the query: mixed `AND` and `OR` without parentheses, values of
//! the wrong type, unknown fields, stray backslashes. What Salesforce would take and this does not know (relationships,
//! aggregates, date literals) is refused as well, as `MALFORMED_QUERY` with a message that says so.

use std::sync::Arc;

use super::errors::ApiError;
use super::fields::{Field, FieldKind, Schema};
use super::ids;
use super::tokens::{Piece, Token, refuse, split, unescape};
use super::values::parse_time;
use crate::clock::parse_date;

/// Characters of a query at most.
const LONGEST: usize = 100_000;
/// Rows that an offset skips at most.
const SKIPPED: u64 = 2_000;

/// A query that may be run.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) shows: Shows,
    pub(crate) holds: Option<Condition>,
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: u64,
    /// `ALL ROWS`.
    pub(crate) all: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Shows {
    Fields(Vec<Arc<Field>>),
    Count,
}

#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) field: Arc<Field>,
    pub(crate) descending: bool,
    pub(crate) nulls_last: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Arc<Field>, Operator, Literal),
    /// In these, or in none of them.
    In(Arc<Field>, bool, Vec<Literal>),
    Like(Arc<Field>, Vec<Piece>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// The fifteen characters of an id.
    Id(String),
    /// A day.
    Day(String),
    /// A moment in milliseconds.
    Moment(i64),
}

struct Parser<'a> {
    schema: &'a Schema,
    query: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
}

/// Reads a query.
pub(crate) fn parse(query: &str, schema: &Schema) -> Result<Query, ApiError> {
    if query.chars().count() > LONGEST {
        return Err(ApiError::bad(
            "MALFORMED_QUERY",
            "SOQL statements cannot be longer than 100000 characters.",
        ));
    }
    split(query).and_then(|tokens| Parser { schema, query, tokens, at: 0 }.query()).map_err(|error| {
        let reason = format!("a query is refused with {}", error.code);
        error.violating(reason)
    })
}

impl Parser<'_> {
    /// A refusal at a place of the query.
    fn refuse(&self, code: &str, place: usize, message: &str) -> ApiError {
        refuse(self.query, code, place, message)
    }

    fn malformed(&self, place: usize, message: &str) -> ApiError {
        self.refuse("MALFORMED_QUERY", place, message)
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.at).map_or(self.query.len(), |(place, _)| *place)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn unexpected(&self) -> ApiError {
        let token = match self.peek() {
            Token::Word(word) => word.clone(),
            Token::Quoted(text) => format!("'{text}'"),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<EOF>".to_owned(),
        };
        self.malformed(self.place(), &format!("unexpected token: '{token}'"))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(here) if here.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Token::Sign(here) if *here == sign);
        self.at += usize::from(is);
        is
    }

    fn need_word(&mut self, word: &str) -> Result<(), ApiError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), ApiError> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> Result<(usize, String), ApiError> {
        let place = self.place();
        match self.peek() {
            Token::Word(word) => {
                let word = word.clone();
                self.at += 1;
                Ok((place, word))
            }
            _ => Err(self.unexpected()),
        }
    }

    fn query(&mut self) -> Result<Query, ApiError> {
        self.need_word("SELECT")?;
        let start = self.at;
        // The fields are looked up once the object is known to be there.
        while !self.is_word("FROM") {
            if *self.peek() == Token::End {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        self.at += 1;
        let (place, object) = self.word()?;
        if !object.eq_ignore_ascii_case("Contact") {
            let message = format!(
                "sObject type '{object}' is not supported. If you are attempting to use a custom object, be sure to append \
                 the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names."
            );
            return Err(self.refuse("INVALID_TYPE", place, &message));
        }
        let after = self.at;
        self.at = start;
        let (shows, bounded) = self.shows()?;
        self.need_word("FROM")?;
        self.at = after;
        let holds = if self.take_word("WHERE") { Some(self.condition()?) } else { None };
        let order = self.order()?;
        let limit = if self.take_word("LIMIT") { Some(self.number()?) } else { None };
        let place = self.place();
        let offset = if self.take_word("OFFSET") { self.number()? } else { 0 };
        if offset > SKIPPED {
            return Err(self.refuse(
                "NUMBER_OUTSIDE_VALID_RANGE",
                place,
                "Maximum SOQL offset allowed is 2000",
            ));
        }
        let all = self.take_word("ALL");
        if all {
            self.need_word("ROWS")?;
        }
        if self.take_word("FOR") && !(self.take_word("VIEW") || self.take_word("REFERENCE")) {
            return Err(self.unexpected());
        }
        if *self.peek() != Token::End {
            return Err(self.unexpected());
        }
        if bounded && limit.is_none_or(|limit| limit > 200) {
            return Err(self.malformed(0, "The SOQL FIELDS function must have a LIMIT of at most 200"));
        }
        Ok(Query { shows, holds, order, limit, offset, all })
    }

    /// What is shown, and whether that needs a limit.
    fn shows(&mut self) -> Result<(Shows, bool), ApiError> {
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut bounded = false;
        loop {
            let (place, name) = self.word()?;
            if name.eq_ignore_ascii_case("COUNT") && fields.is_empty() && self.take_sign("(") {
                if !self.take_sign(")") {
                    return Err(self.malformed(place, "only COUNT() of rows is known to the simulator"));
                }
                return Ok((Shows::Count, false));
            }
            let added: Vec<Arc<Field>> = if name.eq_ignore_ascii_case("FIELDS") && self.take_sign("(") {
                let (place, which) = self.word()?;
                self.need_sign(")")?;
                let wanted: fn(&Field) -> bool = match which.to_ascii_uppercase().as_str() {
                    "ALL" => |_| true,
                    "CUSTOM" => |field| field.custom,
                    "STANDARD" => |field| !field.custom,
                    _ => return Err(self.malformed(place, &format!("unexpected token: '{which}'"))),
                };
                bounded |= !which.eq_ignore_ascii_case("STANDARD");
                self.schema.all().iter().filter(|field| wanted(field)).cloned().collect()
            } else {
                vec![self.field(place, &name)?]
            };
            for field in added {
                if fields.iter().any(|known| known.name == field.name) {
                    return Err(self.malformed(place, &format!("duplicate field selected: {}", field.name)));
                }
                fields.push(field);
            }
            if !self.take_sign(",") {
                return Ok((Shows::Fields(fields), bounded));
            }
        }
    }

    fn field(&self, place: usize, name: &str) -> Result<Arc<Field>, ApiError> {
        if let Some(field) = self.schema.find(name) {
            return Ok(field.clone());
        }
        if let Some((relation, _)) = name.split_once('.') {
            let message = format!(
                "Didn't understand relationship '{relation}' in field path. If you are attempting to use a custom \
                 relationship, be sure to append the '__r' after the custom relationship name."
            );
            return Err(self.refuse("INVALID_FIELD", place, &message));
        }
        Err(self.refuse("INVALID_FIELD", place, &ApiError::no_column(name)))
    }

    fn order(&mut self) -> Result<Vec<Order>, ApiError> {
        let mut order = Vec::new();
        if !self.take_word("ORDER") {
            return Ok(order);
        }
        self.need_word("BY")?;
        loop {
            let (place, name) = self.word()?;
            let field = self.field(place, &name)?;
            if !field.sortable() {
                let message = format!("field '{}' can not be sorted in a query call", field.name);
                return Err(self.malformed(place, &message));
            }
            let descending = !self.take_word("ASC") && self.take_word("DESC");
            let mut nulls_last = false;
            if self.take_word("NULLS") {
                nulls_last = self.take_word("LAST");
                if !nulls_last {
                    self.need_word("FIRST")?;
                }
            }
            order.push(Order { field, descending, nulls_last });
            if !self.take_sign(",") {
                return Ok(order);
            }
        }
    }

    fn number(&mut self) -> Result<u64, ApiError> {
        let number = match self.peek() {
            Token::Word(word) => word.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.unexpected())?;
        self.at += 1;
        Ok(number)
    }

    fn condition(&mut self) -> Result<Condition, ApiError> {
        let mut parts = vec![self.part()?];
        let word = if self.is_word("OR") { "OR" } else { "AND" };
        while self.take_word(word) {
            parts.push(self.part()?);
        }
        // The other one is not taken without parentheses.
        if self.is_word("AND") || self.is_word("OR") {
            return Err(self.unexpected());
        }
        Ok(match (parts.len(), word) {
            (1, _) => parts.swap_remove(0),
            (_, "OR") => Condition::Any(parts),
            _ => Condition::All(parts),
        })
    }

    fn part(&mut self) -> Result<Condition, ApiError> {
        if self.take_word("NOT") {
            return Ok(Condition::Not(Box::new(self.part()?)));
        }
        if self.take_sign("(") {
            let inner = self.condition()?;
            self.need_sign(")")?;
            return Ok(inner);
        }
        let (place, name) = self.word()?;
        let field = self.field(place, &name)?;
        if !field.filterable() {
            let message = format!("field '{}' can not be filtered in a query call", field.name);
            return Err(self.refuse("INVALID_FIELD", place, &message));
        }
        let refuse_operator = |parser: &Self| {
            let message = format!("invalid operator on {} field", field.kind.name());
            parser.refuse("INVALID_QUERY_FILTER_OPERATOR", place, &message)
        };
        if self.take_word("LIKE") {
            if !field.kind.is_text() || field.kind == FieldKind::MultiPicklist {
                return Err(refuse_operator(self));
            }
            let place = self.place();
            let Token::Quoted(raw) = self.next() else {
                self.at -= 1;
                return Err(self.unexpected());
            };
            return Ok(Condition::Like(field, self.unescape(place, &raw, true)?));
        }
        let negated = self.take_word("NOT");
        if negated || self.is_word("IN") {
            self.need_word("IN")?;
            self.need_sign("(")?;
            let mut list = vec![self.literal(&field)?];
            while self.take_sign(",") {
                list.push(self.literal(&field)?);
            }
            self.need_sign(")")?;
            return Ok(Condition::In(field, negated, list));
        }
        let operator = match self.peek() {
            Token::Sign("=") => Operator::Equal,
            Token::Sign("!=" | "<>") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign(">") => Operator::Greater,
            Token::Sign("<=") => Operator::AtMost,
            Token::Sign(">=") => Operator::AtLeast,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        let ordered = !matches!(operator, Operator::Equal | Operator::Unequal);
        if ordered && (field.kind == FieldKind::Boolean || field.kind == FieldKind::MultiPicklist) {
            return Err(refuse_operator(self));
        }
        let literal = self.literal(&field)?;
        if ordered && literal == Literal::Null {
            return Err(refuse_operator(self));
        }
        Ok(Condition::Compare(field, operator, literal))
    }

    fn literal(&mut self, field: &Field) -> Result<Literal, ApiError> {
        let place = self.place();
        let token = self.next();
        let wrong = |kind: &str, quoted: bool| {
            let quoted = if quoted { "should" } else { "should not" };
            let message = format!(
                "value of filter criterion for field '{}' must be of type {kind} and {quoted} be enclosed in \
                 quotes",
                field.name
            );
            self.refuse("INVALID_FIELD", place, &message)
        };
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case("null") => {
                if field.kind == FieldKind::Boolean {
                    return Err(wrong("boolean", false));
                }
                Ok(Literal::Null)
            }
            Token::Quoted(raw) if field.kind.is_text() => {
                let pieces = self.unescape(place, &raw, false)?;
                let text = pieces
                    .into_iter()
                    .filter_map(|piece| match piece {
                        Piece::Char(c) => Some(c),
                        _ => None,
                    })
                    .collect();
                Ok(Literal::Text(text))
            }
            Token::Quoted(raw) if field.kind.is_id() => {
                let fifteen = ids::fifteen(&raw).ok_or_else(|| {
                    self.refuse("INVALID_QUERY_FILTER_OPERATOR", place, &format!("invalid ID field: {raw}"))
                })?;
                Ok(Literal::Id(fifteen))
            }
            Token::Word(word) => match field.kind {
                kind if kind.is_text() || kind.is_id() => Err(wrong("string", true)),
                FieldKind::Boolean => match word.to_ascii_lowercase().as_str() {
                    "true" => Ok(Literal::Bool(true)),
                    "false" => Ok(Literal::Bool(false)),
                    _ => Err(wrong("boolean", false)),
                },
                FieldKind::Date => match parse_date(&word) {
                    Some(_) => Ok(Literal::Day(word)),
                    None => Err(wrong("date", false)),
                },
                FieldKind::DateTime => {
                    parse_time(&word).map(Literal::Moment).ok_or_else(|| wrong("dateTime", false))
                }
                _ => word
                    .parse::<f64>()
                    .ok()
                    .filter(|number| number.is_finite())
                    .map(Literal::Number)
                    .ok_or_else(|| wrong(field.kind.name(), false)),
            },
            Token::Quoted(_) => Err(match field.kind {
                FieldKind::DateTime => wrong("dateTime", false),
                kind => wrong(kind.name(), false),
            }),
            Token::Sign(_) | Token::End => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn unescape(&self, place: usize, raw: &str, pattern: bool) -> Result<Vec<Piece>, ApiError> {
        unescape(raw, pattern).map_err(|message| self.malformed(place, &message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Query, ApiError> {
        parse(query, &Schema::new(&[]).unwrap())
    }

    #[test]
    fn a_query_is_read_whatever_its_case_and_spacing() {
        let query = read(
            "select  id,LASTNAME from contact where(lastname='O\\'Neil' and isdeleted=false)or not email like '%\\_x%' \
             order by LastName desc nulls last,Id limit 5 offset 2",
        )
        .unwrap();
        let Shows::Fields(fields) = &query.shows else { panic!("{query:?}") };
        assert_eq!(fields.iter().map(|field| &*field.name).collect::<Vec<_>>(), ["Id", "LastName"]);
        assert_eq!((query.limit, query.offset, query.order.len()), (Some(5), 2, 2));
        assert!(query.order[0].descending && query.order[0].nulls_last);
        let Some(Condition::Any(parts)) = query.holds else { panic!() };
        let Condition::Not(like) = &parts[1] else { panic!() };
        let Condition::Like(_, pieces) = &**like else { panic!() };
        assert_eq!(pieces, &[Piece::Any, Piece::Char('_'), Piece::Char('x'), Piece::Any]);
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        for (query, code, place) in [
            ("SELECT Id FORM Contact", "MALFORMED_QUERY", "Column:23"),
            ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY", "Column:29"),
            (
                "SELECT Id FROM Contact WHERE LastName = 'x' AND Email = 'y' OR Title = 'z'",
                "MALFORMED_QUERY",
                "Column:61",
            ),
            ("SELECT Id FROM Contact WHERE LastName = 'x\\y'", "MALFORMED_QUERY", "Column:41"),
            ("SELECT Id FROM Contact WHERE LastName = 'x\\_y'", "MALFORMED_QUERY", "Column:41"),
            ("SELECT Id FROM Contact WHERE LastName = 'x", "MALFORMED_QUERY", "Column:41"),
            ("SELECT Id, Id FROM Contact", "MALFORMED_QUERY", "Column:12"),
            ("SELECT * FROM Contact", "MALFORMED_QUERY", "Column:8"),
            ("SELECT Id FROM Contact LIMIT x", "MALFORMED_QUERY", "Column:30"),
            ("SELECT Id FROM Contact extra", "MALFORMED_QUERY", "Column:24"),
            ("SELECT Colour__c FROM Contact", "INVALID_FIELD", "Column:8"),
            ("SELECT Id FROM Contact WHERE Colour__c = 1", "INVALID_FIELD", "Column:30"),
            (
                "SELECT Id FROM Contact WHERE CreatedDate > '2026-01-01T00:00:00Z'",
                "INVALID_FIELD",
                "Column:44",
            ),
            ("SELECT Id FROM Contact WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "Column:44"),
            (
                "SELECT Id FROM Contact WHERE CreatedDate > 2026-01-01T00:00:00 00:00",
                "INVALID_FIELD",
                "Column:44",
            ),
            ("SELECT Id FROM Contact WHERE Birthdate = '2026-01-01'", "INVALID_FIELD", "Column:42"),
            ("SELECT Id FROM Contact WHERE LastName = 5", "INVALID_FIELD", "Column:41"),
            ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD", "Column:30"),
            ("SELECT Id FROM Contact WHERE Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR", "Column:35"),
            ("SELECT Id FROM Contact WHERE DoNotCall > true", "INVALID_QUERY_FILTER_OPERATOR", "Column:30"),
            (
                "SELECT Id FROM Contact WHERE CreatedDate LIKE '2026%'",
                "INVALID_QUERY_FILTER_OPERATOR",
                "Column:30",
            ),
            ("SELECT Id FROM Unicorn", "INVALID_TYPE", "Column:16"),
            ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "Column:24"),
            ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY", "Column:1"),
            ("SELECT FIELDS(ALL) FROM Contact LIMIT 201", "MALFORMED_QUERY", "Column:1"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!(error.code, code, "{query}: {}", error.message);
            assert!(error.message.contains(&format!("{place}\n")), "{query}: {}", error.message);
            assert!(error.violation.is_some(), "{query}");
        }
        assert!(read(&format!("SELECT Id FROM Contact WHERE LastName = '{}'", "x".repeat(100_000))).is_err());
    }
}
