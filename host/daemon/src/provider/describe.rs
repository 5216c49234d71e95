//! Whether descriptors make sense. Their JSON goes through the published schemas, then into types, then through what a
//! schema cannot say.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tandem_core::descriptor::{AuthKind, BodyFormat, ConnectionDescriptor, Descriptor, QuotaKind, Verify};
use tandem_core::exchange::Operation;

/// Reads what `describe` answered.
pub(super) fn descriptor(text: &[u8]) -> Result<Descriptor, String> {
    let descriptor: Descriptor = read(text)?;
    let word = |text: &str, more: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !word(&descriptor.id, "-") || descriptor.id.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(
            "/id: a provider's id is made of small letters, digits and hyphens, 64 at the most".to_owned()
        );
    }
    if !word(&descriptor.version, ".-+") {
        return Err("/version: a version is made of letters, digits and .-+, 64 at the most".to_owned());
    }
    if descriptor.auth.is_empty() {
        return Err("/auth: there is no way to authenticate".to_owned());
    }
    for (name, scheme) in &descriptor.auth {
        header(&format!("/auth/{name}/header"), &scheme.header)?;
        if !scheme.template.contains("{token}") {
            return Err(format!("/auth/{name}/template: it has no {{token}}"));
        }
        if scheme.kind == AuthKind::Oauth2 && scheme.refresh.is_none() {
            return Err(format!("/auth/{name}/refresh: oauth2 needs it"));
        }
    }
    for operation in descriptor.secrets.keys() {
        if !Operation::DECLARED.contains(&operation.as_str()) {
            let known = Operation::DECLARED.join(", ");
            return Err(format!(
                "/secrets/{operation}: there is no operation of that name; use one of {known}"
            ));
        }
    }
    for name in &descriptor.response_headers {
        header("/response-headers", name)?;
        if ["set-cookie", "authorization", "www-authenticate"].contains(&name.as_str()) {
            return Err(format!("/response-headers: {name} stays in the host"));
        }
    }
    if let Some(webhooks) = &descriptor.webhooks {
        for place in webhooks.account.iter().chain(&webhooks.blank) {
            pointer("/webhooks", place)?;
        }
        if webhooks.format == BodyFormat::Xml {
            if webhooks.array {
                return Err("/webhooks/array: an XML body is no array".to_owned());
            }
            if matches!(&webhooks.verify, Verify::Token { place, .. } if place.starts_with("body:")) {
                return Err(
                    "/webhooks/verify/place: in an XML body no token is looked for; use header: or query:"
                        .to_owned(),
                );
            }
        }
        if webhooks.array
            && matches!(&webhooks.verify, Verify::Token { place, .. } if place.starts_with("body:"))
        {
            return Err(
                "/webhooks/verify/place: where a body is an array no token is looked for in it; use header: or query:"
                    .to_owned(),
            );
        }
        for name in &webhooks.headers {
            header("/webhooks/headers", name)?;
            if ["authorization", "cookie"].contains(&name.as_str()) {
                return Err(format!("/webhooks/headers: {name} stays in the host"));
            }
        }
        if let Verify::HmacSha256 { header: name, encoding, timestamp, .. } = &webhooks.verify {
            header("/webhooks/verify/header", name)?;
            timestamp.as_ref().map_or(Ok(()), |name| header("/webhooks/verify/timestamp", name))?;
            if encoding != "hex" && encoding != "base64" {
                return Err("/webhooks/verify/encoding: it is neither hex nor base64".to_owned());
            }
        }
    }
    Ok(descriptor)
}

/// Reads what `configure` answered.
pub(super) fn connection(text: &[u8]) -> Result<ConnectionDescriptor, String> {
    let connection: ConnectionDescriptor = read(text)?;
    let base = url::Url::parse(&connection.base_url).map_err(|error| format!("/base-url: {error}"))?;
    let host = base.host_str().unwrap_or_default();
    if !["https", "http"].contains(&base.scheme()) || host.is_empty() {
        return Err("/base-url: it is no https URL with a host".to_owned());
    }
    if connection.base_url.ends_with('/') || base.query().is_some() || base.fragment().is_some() {
        return Err("/base-url: it has a trailing slash, a query or a fragment".to_owned());
    }
    if !connection.hosts.iter().any(|known| known == host) {
        return Err(format!("/hosts: the base URL's host {host} is not among them"));
    }
    if connection.objects.is_empty() {
        return Err("/objects: there are none".to_owned());
    }
    for (name, object) in &connection.objects {
        let place = format!("/objects/{name}");
        compiles(&format!("{place}/schema"), &object.schema)?;
        object
            .write_schema
            .as_ref()
            .map_or(Ok(()), |schema| compiles(&format!("{place}/write-schema"), schema))?;
        for (field, described) in &object.fields {
            pointer(&format!("{place}/fields"), field)?;
            described.provider.iter().try_for_each(|one| pointer(&format!("{place}/fields"), one))?;
        }
    }
    if connection.quotas.is_empty() {
        return Err("/quotas: there are none".to_owned());
    }
    let names: HashSet<&str> = connection.quotas.iter().map(|quota| quota.name.as_str()).collect();
    if names.len() != connection.quotas.len() {
        return Err("/quotas: two have the same name".to_owned());
    }
    for quota in &connection.quotas {
        let place = format!("/quotas/{}", quota.name);
        if quota.limit == 0 {
            return Err(format!("{place}/limit: it is 0"));
        }
        if quota.kind == QuotaKind::Window && quota.per_ms.unwrap_or_default() == 0 {
            return Err(format!("{place}/per-ms: a window needs a length"));
        }
        if let Some(other) = quota.also.iter().find(|other| !names.contains(other.as_str())) {
            return Err(format!("{place}/also: there is no quota {other}"));
        }
    }
    Ok(connection)
}

/// A type that has a published schema (`schemas/`).
trait Published: DeserializeOwned {
    fn schema() -> Option<&'static jsonschema::Validator>;
}

impl Published for Descriptor {
    fn schema() -> Option<&'static jsonschema::Validator> {
        static SCHEMA: LazyLock<Option<jsonschema::Validator>> =
            LazyLock::new(|| compiled(include_str!("../../../../schemas/descriptor.schema.json")));
        SCHEMA.as_ref()
    }
}

impl Published for ConnectionDescriptor {
    fn schema() -> Option<&'static jsonschema::Validator> {
        static SCHEMA: LazyLock<Option<jsonschema::Validator>> =
            LazyLock::new(|| compiled(include_str!("../../../../schemas/connection.schema.json")));
        SCHEMA.as_ref()
    }
}

/// A schema that is compiled into the daemon. That they are schemas is a test's business.
fn compiled(text: &str) -> Option<jsonschema::Validator> {
    let schema: Value = serde_json::from_str(text).ok()?;
    jsonschema::validator_for(&schema).ok()
}

fn read<T: Published>(text: &[u8]) -> Result<T, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let schema = T::schema().ok_or("this daemon was built with a broken schema of descriptors")?;
    schema.validate(&value).map_err(|error| format!("{}: {}", error.instance_path(), error.masked()))?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn compiles(place: &str, schema: &Value) -> Result<(), String> {
    jsonschema::validator_for(schema)
        .map(|_| ())
        .map_err(|error| format!("{place}: it is no JSON Schema: {error}"))
}

fn pointer(place: &str, text: &str) -> Result<(), String> {
    if text.starts_with('/') { Ok(()) } else { Err(format!("{place}: {text:?} is no JSON pointer")) }
}

fn header(place: &str, name: &str) -> Result<(), String> {
    let lawful = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if lawful { Ok(()) } else { Err(format!("{place}: {name:?} is no header name in lower case")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described() -> Value {
        json!({
            "id": "ledger",
            "version": "1.0",
            "auth": { "token": { "kind": "static", "header": "authorization", "template": "Bearer {token}" } }
        })
    }

    fn connected() -> Value {
        json!({
            "base-url": "https://api.example.com",
            "hosts": ["api.example.com"],
            "objects": {
                "contact": { "name": "contacts", "schema": { "type": "object" }, "fields": {}, "abilities": {} }
            },
            "quotas": [{ "name": "burst", "kind": "window", "limit": 10, "per-ms": 1000 }]
        })
    }

    /// The document with one member set.
    fn with(mut document: Value, place: &str, value: Value) -> Vec<u8> {
        let (parent, name) = place.rsplit_once('/').expect("a pointer");
        document
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .insert(name.to_owned(), value);
        document.to_string().into_bytes()
    }

    #[test]
    fn sensible_descriptors_are_read() {
        assert_eq!(descriptor(described().to_string().as_bytes()).expect("read").id, "ledger");
        assert_eq!(connection(connected().to_string().as_bytes()).expect("read").hosts, ["api.example.com"]);
        let later = with(described(), "/something-new", json!({ "from": "a later version" }));
        assert!(descriptor(&later).is_ok(), "unknown members are ignored");
    }

    #[test]
    fn descriptors_that_make_no_sense_are_refused_at_their_place() {
        let cases = [
            ("/id", json!("Led ger"), "/id"),
            ("/version", json!("1 0"), "/version"),
            ("/auth", json!({}), "/auth"),
            ("/auth/token/template", json!("Bearer"), "/auth/token/template"),
            ("/auth/token/header", json!("Authorization"), "/auth/token/header"),
            ("/auth/token/kind", json!("oauth2"), "/auth/token"),
            (
                "/secrets",
                json!({ "watches": ["hook"] }),
                "/secrets/watches: there is no operation of that name; use one of",
            ),
            ("/response-headers", json!(["set-cookie"]), "/response-headers"),
            ("/webhooks", json!({ "verify": { "scheme": "path" }, "account": "portal" }), "/webhooks"),
            (
                "/webhooks",
                json!({ "verify": { "scheme": "path" }, "headers": ["authorization"] }),
                "/webhooks/headers",
            ),
            (
                "/webhooks",
                json!({ "verify": { "scheme": "path" }, "format": "xml", "array": true }),
                "/webhooks/array",
            ),
            (
                "/webhooks",
                json!({
                    "verify": { "scheme": "token", "secret": "hook", "place": "body:/token" }, "format": "xml",
                }),
                "/webhooks/verify/place",
            ),
        ];
        for (place, value, says) in cases {
            let error = descriptor(&with(described(), place, value)).expect_err(place);
            assert!(error.starts_with(says), "{place}: {error}");
        }
    }

    #[test]
    fn connection_descriptors_that_make_no_sense_are_refused_at_their_place() {
        let quota = |more: Value| {
            let mut quota = json!({ "name": "burst", "kind": "window", "limit": 10, "per-ms": 1000 });
            quota.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!([quota])
        };
        let cases = [
            ("/base-url", json!("ftp://api.example.com"), "/base-url"),
            ("/base-url", json!("https://api.example.com/"), "/base-url"),
            ("/hosts", json!(["other.example.com"]), "/hosts"),
            ("/objects", json!({}), "/objects"),
            ("/objects/contact/schema", json!({ "type": "no such type" }), "/objects/contact/schema"),
            (
                "/objects/contact/fields",
                json!({ "email": { "provider": ["/email"] } }),
                "/objects/contact/fields",
            ),
            ("/quotas", json!([]), "/quotas"),
            ("/quotas", quota(json!({ "limit": 0 })), "/quotas"),
            ("/quotas", quota(json!({ "per-ms": null })), "/quotas"),
            ("/quotas", quota(json!({ "also": ["daily"] })), "/quotas"),
        ];
        for (place, value, says) in cases {
            let error = connection(&with(connected(), place, value.clone())).expect_err(place);
            assert!(error.starts_with(says), "{place} {value}: {error}");
        }
    }
}
