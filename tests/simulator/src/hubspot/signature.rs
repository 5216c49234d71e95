//! The three signatures that HubSpot puts on its webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Header of the v1 and v2 signatures.
pub const SIGNATURE: &str = "X-HubSpot-Signature";
/// Header that says `v1` or `v2`.
pub const SIGNATURE_VERSION: &str = "X-HubSpot-Signature-Version";
/// Header of the v3 signature.
pub const SIGNATURE_V3: &str = "X-HubSpot-Signature-v3";
/// Header of the time, in milliseconds, that the v3 signature covers.
pub const TIMESTAMP: &str = "X-HubSpot-Request-Timestamp";

/// v1: hex of SHA-256 over client secret and body.
pub fn v1(secret: &str, body: &[u8]) -> String {
    hex(Sha256::new().chain_update(secret).chain_update(body).finalize().as_slice())
}

/// v2: hex of SHA-256 over client secret, method, full URI and body.
pub fn v2(secret: &str, method: &str, uri: &str, body: &[u8]) -> String {
    let sum = Sha256::new().chain_update(secret).chain_update(method).chain_update(uri).chain_update(body);
    hex(sum.finalize().as_slice())
}

/// v3: base64 of HMAC-SHA-256 with the client secret over method, full URI (certain characters decoded), body and
/// timestamp in milliseconds.
pub fn v3(secret: &str, method: &str, uri: &str, body: &[u8], timestamp: &str) -> String {
    // HMAC takes a key of any length, so there is no error to handle.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(method.as_bytes());
    mac.update(decode_uri(uri).as_bytes());
    mac.update(body);
    mac.update(timestamp.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Decodes the characters that HubSpot's guide lists, and no others; what stands before the query stays readable
/// either way. The `?` that begins the query is not encoded in the first place.
fn decode_uri(uri: &str) -> String {
    const LISTED: &[(&str, &str)] = &[
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let mut out = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let listed =
            tail.get(..3).and_then(|code| LISTED.iter().find(|(from, _)| from.eq_ignore_ascii_case(code)));
        let taken = match listed {
            Some((_, to)) => {
                out.push_str(to);
                3
            }
            None => {
                out.push('%');
                1
            }
        };
        rest = tail.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
