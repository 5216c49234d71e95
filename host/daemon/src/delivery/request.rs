//! From a provider's request to one that may be sent: target, headers, placeholders.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use tandem_core::exchange::{Attribute, HttpRequest, Target};
use url::Url;

use super::Endpoint;
use super::egress::Reach;

/// Shortest marker of a placeholder, so that it does not stand in the text by chance.
const SHORTEST_MARKER: usize = 8;

/// A request that passed every rule.
pub(super) struct Ready {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) reach: Reach,
    /// It goes to the base URL's host, as everything does unless the provider follows a link.
    pub(super) base: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Secrets that were put in, for blanking them where the answer repeats them.
    pub(super) put_in: Vec<SecretString>,
}

/// Which rule forbids a request, and what would grant it.
#[derive(Debug)]
pub(super) struct Denied {
    /// The connection's configuration is at fault: no request would pass.
    pub(super) all: bool,
    pub(super) what: String,
}

impl From<String> for Denied {
    /// A rule that this one request breaks.
    fn from(what: String) -> Self {
        Self { all: false, what }
    }
}

fn misconfigured(what: String) -> Denied {
    Denied { all: true, what }
}

/// Checks and builds; the error says which rule forbids it. `base`: from the token answer, in place of the endpoint's own.
pub(super) fn ready(endpoint: &Endpoint, base: Option<&str>, request: HttpRequest) -> Result<Ready, Denied> {
    let HttpRequest { method, target, headers, body, secrets, .. } = request;
    let method = match method.as_str() {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        "HEAD" => Method::HEAD,
        other => {
            return Err(format!("method {other:?} is not one of GET, POST, PUT, PATCH, DELETE, HEAD").into());
        }
    };
    let (url, reach, is_base) = match target {
        Target::Path(path) => {
            let (url, reach) = below(endpoint, base, &path)?;
            (url, reach, true)
        }
        Target::Url(url) => linked(endpoint, base, &url)?,
    };
    let mut body = body;
    let mut put_in = Vec::with_capacity(secrets.len());
    let mut in_headers = Vec::new();
    for placeholder in &secrets {
        if placeholder.marker.len() < SHORTEST_MARKER {
            return Err(format!(
                "the marker of secret {} is shorter than {SHORTEST_MARKER} bytes",
                placeholder.secret
            )
            .into());
        }
        let secret = endpoint.secrets.get(&placeholder.secret).ok_or_else(|| {
            misconfigured(format!(
                "secret {0} is not granted; add secrets.{0} to the connection's file",
                placeholder.secret
            ))
        })?;
        let text = escape(secret.expose_secret(), &placeholder.escape).ok_or_else(|| {
            format!(
                "escape {:?} of secret {} is not one of json, form, xml, header",
                placeholder.escape, placeholder.secret
            )
        })?;
        if placeholder.escape == "header" {
            in_headers.push((placeholder.marker.as_str(), SecretString::from(text.into_owned())));
        } else {
            body = Some(replaced(body.unwrap_or_default(), placeholder.marker.as_bytes(), text.as_bytes()));
        }
        put_in.push(secret.clone());
    }
    let headers = checked(endpoint, headers, &in_headers)?;
    Ok(Ready { method, url, reach, base: is_base, headers, body: body.map(Bytes::from), put_in })
}

/// A path below the base URL.
fn below(endpoint: &Endpoint, base: Option<&str>, path: &str) -> Result<(Url, Reach), Denied> {
    plain_path(path)?;
    match base {
        None => {
            let url = joined(endpoint.base.as_str(), path)?;
            same_origin(&url, &endpoint.base)?;
            Ok((url, endpoint.reach))
        }
        Some(base) => {
            let base = Url::parse(base)
                .map_err(|_| misconfigured("the token answer's base URL is not a URL".to_owned()))?;
            let reach = endpoint.rules.check(&base, true).map_err(misconfigured)?;
            let url = joined(base.as_str(), path)?;
            same_origin(&url, &base)?;
            Ok((url, reach))
        }
    }
}

fn joined(base: &str, path: &str) -> Result<Url, String> {
    let base = base.trim_end_matches('/');
    let mut text = String::with_capacity(base.len() + path.len());
    text.push_str(base);
    text.push_str(path);
    Url::parse(&text).map_err(|error| format!("the path does not make a URL: {error}"))
}

/// What would lead out of the base URL is refused, not repaired.
fn plain_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.starts_with("//") {
        return Err("the path does not begin with one /".to_owned());
    }
    if path.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\' || byte == b'#') {
        return Err("the path has a control character, \\ or # in it".to_owned());
    }
    let before_query = path.split_once('?').map_or(path, |(before, _)| before);
    if before_query.contains("/.") || before_query.contains('%') {
        for segment in before_query.split('/') {
            let segment = segment.to_ascii_lowercase().replace("%2e", ".");
            if segment == "." || segment == ".." {
                return Err("the path has . or .. in it".to_owned());
            }
        }
    }
    Ok(())
}

/// A link that the CRM gave, and whether it goes to the base URL's host.
fn linked(endpoint: &Endpoint, base: Option<&str>, text: &str) -> Result<(Url, Reach, bool), Denied> {
    let url = Url::parse(text).map_err(|error| format!("the link is not a URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("the link has a fragment".to_owned().into());
    }
    let from_token = base.and_then(|base| Url::parse(base).ok());
    let named = [Some(&endpoint.base), from_token.as_ref()]
        .into_iter()
        .flatten()
        .any(|base| base.origin() == url.origin());
    let reach = endpoint.rules.check(&url, named)?;
    Ok((url, reach, named))
}

fn same_origin(url: &Url, base: &Url) -> Result<(), String> {
    let same = url.scheme() == base.scheme()
        && url.host_str() == base.host_str()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.path().starts_with(base.path().trim_end_matches('/'));
    if same { Ok(()) } else { Err("the path leads away from the base URL".to_owned()) }
}

/// Headers that the client or the credentials set and a provider may not.
fn reserved(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || *name == header::COOKIE
        || *name == header::HOST
        || *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
        || *name == header::PROXY_AUTHORIZATION
        || *name == header::UPGRADE
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::EXPECT
        || *name == header::ACCEPT_ENCODING
        || *name == header::FORWARDED
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
        || name.as_str().starts_with("x-forwarded-")
}

fn checked(
    endpoint: &Endpoint,
    given: Vec<Attribute>,
    secrets: &[(&str, SecretString)],
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(given.len() + 2);
    for Attribute { name, value } in given {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not the name of a header"))?;
        let own = endpoint.credential.as_ref().is_some_and(|credential| *credential.header() == parsed);
        if own || reserved(&parsed) {
            return Err(format!("header {parsed} is set by the host, a provider may not"));
        }
        let mut text = value;
        let mut sensitive = false;
        for (marker, secret) in secrets {
            if text.contains(marker) {
                text = text.replace(marker, secret.expose_secret());
                sensitive = true;
            }
        }
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| format!("the value of header {parsed} has characters that cannot be sent"))?;
        value.set_sensitive(sensitive);
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn escape<'a>(secret: &'a str, how: &str) -> Option<Cow<'a, str>> {
    match how {
        "header" => Some(Cow::Borrowed(secret)),
        "json" => {
            let quoted = serde_json::to_string(secret).ok()?;
            let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
            Some(Cow::Owned(inside.to_owned()))
        }
        "form" => Some(Cow::Owned(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect())),
        "xml" => {
            let mut out = String::with_capacity(secret.len());
            for char in secret.chars() {
                match char {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '"' => out.push_str("&quot;"),
                    '\'' => out.push_str("&apos;"),
                    other => out.push(other),
                }
            }
            Some(Cow::Owned(out))
        }
        _ => None,
    }
}

/// `text` with every `from` replaced.
pub(super) fn replaced(text: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let Some(&first) = from.first() else { return text };
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(next) = rest.iter().position(|&byte| byte == first) else { break };
        at += next;
        if text.get(at..).is_some_and(|rest| rest.starts_with(from)) {
            let out = out.get_or_insert_with(|| Vec::with_capacity(text.len()));
            out.extend_from_slice(text.get(copied..at).unwrap_or_default());
            out.extend_from_slice(to);
            at += from.len();
            copied = at;
        } else {
            at += 1;
        }
    }
    match out {
        None => text,
        Some(mut out) => {
            out.extend_from_slice(text.get(copied..).unwrap_or_default());
            out
        }
    }
}
