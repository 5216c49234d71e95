//! Whether a webhook comes from who it says: a description from the provider, the raw bytes, the secrets.
//!
//! Comparisons take the same time whatever is wrong. Several secrets may hold at once, for the days of a rotation. What fits is
//! decided over the raw body, before anything is read from it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use tandem_core::Millis;
use tandem_core::descriptor::Verify;

/// A delivery as it came in.
pub struct Incoming<'a> {
    /// `POST`
    pub method: &'a str,
    /// The whole address as the sender called it: scheme, host, path and query.
    pub url: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its raw body.
    pub body: &'a [u8],
}

/// Why a delivery is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header that carries the proof is not there or cannot be read.
    #[error("header {0} is missing or unreadable")]
    Header(String),
    /// The time is too far from ours.
    #[error("the delivery was signed {0} ms from our time; check the clock, or it is a replay")]
    Stale(u64),
    /// The proof is wrong.
    #[error("the signature or token does not fit; check the secret and public_url")]
    Wrong,
    /// The description or the configuration is incomplete.
    #[error("{0}")]
    Setup(String),
}

/// Checks a delivery against the description and any of the secrets.
///
/// # Errors
/// Why it is not believed.
pub fn verify(
    how: &Verify,
    secrets: &[SecretString],
    incoming: &Incoming<'_>,
    now: Millis,
) -> Result<(), VerifyError> {
    let configured = |name: &str| match secrets {
        [] => Err(VerifyError::Setup(format!("secret {name} is not configured"))),
        _ => Ok(()),
    };
    match how {
        Verify::HmacSha256 { secret, message, header, encoding, timestamp, tolerance_ms } => {
            configured(secret)?;
            let stamp = match timestamp {
                Some(name) => Some(text(incoming.headers, name)?),
                None => None,
            };
            if let (Some(stamp), Some(name), Some(tolerance)) = (stamp, timestamp, tolerance_ms) {
                let at = moment(stamp).ok_or_else(|| VerifyError::Header(name.clone()))?;
                if at.abs_diff(now) > *tolerance {
                    return Err(VerifyError::Stale(at.abs_diff(now)));
                }
            }
            let given = text(incoming.headers, header)?;
            let signatures: Vec<Vec<u8>> = candidates(given, encoding)?;
            let mut forms = vec![Cow::Borrowed(incoming.url)];
            if incoming.url.contains('%') {
                forms.push(Cow::Owned(decoded(incoming.url)));
            }
            let mut fits = Choice::from(0);
            for secret in secrets {
                for url in &forms {
                    let mac = sign(secret, message, incoming, url, stamp)?;
                    for signature in &signatures {
                        fits |= mac.as_slice().ct_eq(signature.as_slice());
                    }
                }
            }
            settle(fits)
        }
        Verify::Basic { secret } => {
            configured(secret)?;
            let name = header::AUTHORIZATION.as_str();
            let given = text(incoming.headers, name)?;
            let pair = given
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
                .and_then(|(_, pair)| STANDARD.decode(pair.trim()).ok())
                .ok_or_else(|| VerifyError::Header(name.to_owned()))?;
            settle(any(secrets, &pair))
        }
        Verify::Token { secret, place } => {
            configured(secret)?;
            let given = token(place, incoming)?;
            settle(any(secrets, given.as_bytes()))
        }
        Verify::Path => Ok(()),
    }
}

fn settle(fits: Choice) -> Result<(), VerifyError> {
    if bool::from(fits) { Ok(()) } else { Err(VerifyError::Wrong) }
}

fn any(secrets: &[SecretString], given: &[u8]) -> Choice {
    secrets.iter().fold(Choice::from(0), |fits, secret| fits | secret.expose_secret().as_bytes().ct_eq(given))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, VerifyError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| VerifyError::Header(name.to_owned()))
}

/// Milliseconds since the epoch; smaller numbers are seconds.
fn moment(text: &str) -> Option<Millis> {
    let number: u64 = text.trim().parse().ok()?;
    Some(if number < 100_000_000_000 { number * 1_000 } else { number })
}

/// One or more signatures: `v1,…` (Standard Webhooks, separated by spaces), `sha256=…`, or bare.
fn candidates(given: &str, encoding: &str) -> Result<Vec<Vec<u8>>, VerifyError> {
    let decode: fn(&str) -> Option<Vec<u8>> = match encoding {
        "base64" => |text| STANDARD.decode(text).ok(),
        "hex" => unhex,
        other => {
            return Err(VerifyError::Setup(format!("verify.encoding {other:?} is neither base64 nor hex")));
        }
    };
    let one = |text: &str| {
        let bare = ["sha256=", "v1=", "v1,"].iter().find_map(|prefix| text.strip_prefix(prefix));
        decode(bare.unwrap_or(text))
    };
    Ok(given.split_ascii_whitespace().take(8).filter_map(one).collect())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// HMAC-SHA256 over the template's pieces as they stand.
fn sign(
    secret: &SecretString,
    template: &str,
    incoming: &Incoming<'_>,
    url: &str,
    stamp: Option<&str>,
) -> Result<Vec<u8>, VerifyError> {
    let unusable = |_| VerifyError::Setup("the secret cannot be a key".to_owned());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(unusable)?;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        mac.update(before.as_bytes());
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| VerifyError::Setup(format!("verify.message {template:?} has an open brace")))?;
        match name {
            "method" => mac.update(incoming.method.as_bytes()),
            "url" => mac.update(url.as_bytes()),
            "path" => mac.update(path(url).as_bytes()),
            "body" => mac.update(incoming.body),
            "timestamp" => match stamp {
                Some(stamp) => mac.update(stamp.as_bytes()),
                None => {
                    return Err(VerifyError::Setup(
                        "verify.message has {timestamp}, but verify.timestamp names no header".to_owned(),
                    ));
                }
            },
            other => match other.strip_prefix("header:") {
                Some(name) => mac.update(text(incoming.headers, name)?.as_bytes()),
                None => return Err(VerifyError::Setup(format!("verify.message: {{{other}}} is not known"))),
            },
        }
        rest = after;
    }
    mac.update(rest.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Path and query.
fn path(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    after.find('/').and_then(|at| after.get(at..)).unwrap_or("/")
}

/// The characters that HubSpot decodes in the address before it signs it (its page "Validate requests"); proxies differ in
/// which form they pass on, so both are tried.
fn decoded(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let plain = after.get(..2).and_then(|code| {
            Some(match code.to_ascii_uppercase().as_str() {
                "3A" => ':',
                "2F" => '/',
                "3F" => '?',
                "40" => '@',
                "21" => '!',
                "24" => '$',
                "27" => '\'',
                "28" => '(',
                "29" => ')',
                "2A" => '*',
                "2C" => ',',
                "3B" => ';',
                _ => return None,
            })
        });
        match plain {
            Some(plain) => {
                out.push(plain);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The token where the description says that it stands.
fn token<'a>(place: &str, incoming: &Incoming<'a>) -> Result<Cow<'a, str>, VerifyError> {
    match place.split_once(':') {
        Some(("header", name)) => text(incoming.headers, name).map(Cow::Borrowed),
        Some(("query", name)) => {
            let query = incoming.url.split_once('?').map_or("", |(_, query)| query);
            let (_, value) = url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .ok_or(VerifyError::Wrong)?;
            Ok(Cow::Owned(value.into_owned()))
        }
        Some(("body", pointer)) => {
            let json: serde_json::Value =
                serde_json::from_slice(incoming.body).map_err(|_| VerifyError::Wrong)?;
            match json.pointer(pointer) {
                Some(serde_json::Value::String(text)) => Ok(Cow::Owned(text.clone())),
                Some(serde_json::Value::Number(number)) => Ok(Cow::Owned(number.to_string())),
                _ => Err(VerifyError::Wrong),
            }
        }
        _ => Err(VerifyError::Setup(format!("verify.place {place:?} is none of header:, query: and body:"))),
    }
}
