//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110, 13.1). A record's tag is its version in quotes, always strong.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::problem::Refusal;
use crate::internal::embedded::writer::Precondition;

/// Most tags in one header.
const MAX_TAGS: usize = 32;

/// What a conditional header names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`: whatever is there.
    Any,
    /// These tags: weak or not, and the version if it is one that we could have given.
    These(Vec<(bool, Option<u64>)>),
}

/// The tag of a version.
pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// Reads a conditional header. None: it is not there.
///
/// # Errors
/// 400 if it is not a list of entity tags.
pub(super) fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Refusal> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let bad = || {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad-precondition",
            format!("{name} is * or entity tags as they were given: \"7\""),
        )
    };
    let mut found = Vec::new();
    for value in values {
        let text = value.to_str().map_err(|_| bad())?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        let mut rest = text;
        loop {
            let (weak, opened) = match rest.strip_prefix("W/") {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            let (tag, behind) =
                opened.strip_prefix('"').and_then(|inner| inner.split_once('"')).ok_or_else(bad)?;
            found.push((weak, tag.parse().ok()));
            rest = behind.trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if rest.is_empty() => break,
                None => return Err(bad()),
            }
        }
        if found.len() > MAX_TAGS {
            return Err(bad());
        }
    }
    Ok(Some(Tags::These(found)))
}

/// The precondition of a write. `If-Match` wins over `If-None-Match`, of which only `*` makes sense here.
///
/// # Errors
/// 400 if a header cannot be read.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Refusal> {
    match tags(headers, &header::IF_MATCH)? {
        Some(Tags::Any) => return Ok(Precondition::Live),
        // Strong comparison: a weak tag never matches.
        Some(Tags::These(tags)) => {
            let versions = tags.into_iter().filter(|(weak, _)| !weak).filter_map(|(_, version)| version);
            return Ok(Precondition::Versions(versions.collect()));
        }
        None => {}
    }
    match tags(headers, &header::IF_NONE_MATCH)? {
        None => Ok(Precondition::Any),
        Some(Tags::Any) => Ok(Precondition::Absent),
        Some(Tags::These(_)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad-precondition",
            "if-none-match on a write can only be *",
        )),
    }
}

/// Whether a reader has this version already.
///
/// # Errors
/// 400 if the header cannot be read.
pub(super) fn unchanged(headers: &HeaderMap, version: u64) -> Result<bool, Refusal> {
    Ok(match tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::These(tags)) => tags.iter().any(|(_, tag)| *tag == Some(version)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<Tags>, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
        tags(&headers, &header::IF_MATCH).map_err(|refusal| refusal.status)
    }

    #[test]
    fn tags_are_read_as_the_standard_writes_them() {
        assert_eq!(read("*"), Ok(Some(Tags::Any)));
        assert_eq!(read("\"7\""), Ok(Some(Tags::These(vec![(false, Some(7))]))));
        assert_eq!(
            read("\"7\" , W/\"8\",\"other\""),
            Ok(Some(Tags::These(vec![(false, Some(7)), (true, Some(8)), (false, None)])))
        );
        for bad in ["7", "\"7", "", "\"7\" \"8\"", "\"7\",", "W/7"] {
            assert_eq!(read(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }

    #[test]
    fn a_weak_tag_matches_no_write_and_any_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static("W/\"7\""));
        assert_eq!(precondition(&headers).unwrap(), Precondition::Versions(vec![]));
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("W/\"7\""));
        assert!(unchanged(&headers, 7).unwrap() && !unchanged(&headers, 8).unwrap());
        assert!(precondition(&headers).is_err());
    }
}
