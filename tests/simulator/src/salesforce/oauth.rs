//! OAuth: the token endpoint, revocation, and who a session belongs to.
//!
//! A session's length is not said. The instance is, and a client must go there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use http::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;

use super::contact::User;
use super::org::Org;
use super::route::Route;
use super::{Done, bearer};
use crate::call::Call;
use crate::world::World;

/// Parameters of the token endpoint.
const FORM: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "refresh_token",
    "username",
    "password",
    "format",
    "redirect_uri",
];

/// A refusal: error and its description.
type Refusal = (&'static str, &'static str);

/// Where one asks who a session belongs to.
pub(super) fn identity_url(world: &World, org: &Org, user: User) -> String {
    format!("{}/id/{}/{}", world.api_url(), org.id, user.id())
}

pub(super) fn serve(call: &Call, route: &Route) -> Done {
    match route {
        Route::Token => match token(call) {
            Ok(body) => Done::json(StatusCode::OK, &body),
            Err((error, description)) => Done::json(
                StatusCode::BAD_REQUEST,
                &json!({ "error": error, "error_description": description }),
            ),
        },
        Route::Revoke => revoke(call),
        Route::UserInfo => user_info(call, None),
        Route::Identity(org, user) => user_info(call, Some((org.as_str(), user.as_str()))),
        _ => Done::empty(StatusCode::NOT_FOUND),
    }
}

/// Client id and secret, of the body or of basic authentication.
fn client(call: &Call, form: &[(String, String)]) -> (Option<String>, Option<String>) {
    let field = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let basic =
        call.header("authorization").and_then(|header| header.strip_prefix("Basic ")).and_then(|encoded| {
            let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
            decoded.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
        });
    match basic {
        Some((id, secret)) => (Some(id), Some(secret)),
        None => (field("client_id"), field("client_secret")),
    }
}

fn token(call: &Call) -> Result<Value, Refusal> {
    if !call.is_type("application/x-www-form-urlencoded") {
        call.violation(None, "the token endpoint takes application/x-www-form-urlencoded");
        return Err(("unsupported_grant_type", "grant type not supported"));
    }
    for (name, _) in &call.query {
        call.violation(None, format!("unknown query parameter {name}"));
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    for (name, _) in form.iter().filter(|(name, _)| !FORM.contains(&name.as_str())) {
        call.violation(None, format!("unknown form field {name}"));
    }
    let field = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (id, secret) = client(call, &form);
    let salesforce = &call.world.salesforce;
    let of_client: Vec<Arc<Org>> = {
        let orgs = salesforce.orgs.read();
        orgs.values().filter(|org| Some(&org.credentials.client_id) == id.as_ref()).cloned().collect()
    };
    if of_client.is_empty() {
        return Err(("invalid_client_id", "client identifier invalid"));
    }
    let right = |org: &Org| {
        // An app may be set up so that a refresh needs no secret; a wrong one is refused all the same.
        match &secret {
            Some(secret) if *secret == org.credentials.client_secret => Ok(()),
            _ => Err(("invalid_client", "invalid client credentials")),
        }
    };
    let now = call.world.clock.now();
    let mut rotated = None;
    let org = match field("grant_type") {
        Some("refresh_token") => {
            let token = field("refresh_token").unwrap_or_default();
            let expired = ("invalid_grant", "expired access/refresh token");
            let known = salesforce.refresh.read().get(token).cloned();
            let org =
                known.filter(|org| of_client.iter().any(|one| one.number == org.number)).ok_or(expired)?;
            right(&org)?;
            let rotates = org.settings.read().rotate_refresh_tokens;
            let mut current = org.refresh_token.lock();
            if *current != token {
                if rotates {
                    // Somebody has an old one: nobody keeps anything.
                    current.clear();
                    salesforce.expire(org.number, now);
                }
                return Err(expired);
            }
            if rotates {
                *current = new_refresh(&call.world);
                salesforce.give_refresh(&current, &org);
                rotated = Some(current.clone());
            }
            drop(current);
            org
        }
        Some("client_credentials") => {
            // Only the address of an org says which one is meant.
            let here = |org: &&Arc<Org>| org.answers_at(call.header("host"));
            let org = of_client
                .iter()
                .find(here)
                .ok_or(("invalid_grant", "request not supported on this domain"))?;
            right(org)?;
            org.clone()
        }
        Some("password") => {
            let wrong = ("invalid_grant", "authentication failure");
            let user = |org: &&Arc<Org>| Some(org.credentials.username.as_str()) == field("username");
            let org = of_client.iter().find(user).ok_or(wrong)?;
            right(org)?;
            if field("password") != Some(org.credentials.password.as_str()) {
                return Err(wrong);
            }
            org.clone()
        }
        _ => return Err(("unsupported_grant_type", "grant type not supported")),
    };
    let access = salesforce.issue(&call.world.dice, &org, now);
    let id = identity_url(&call.world, &org, User::Integration);
    let issued = now.to_string();
    let mut body = json!({
        "access_token": access,
        "signature": signature(&org.credentials.client_secret, &id, &issued),
        "scope": "refresh_token api id",
        "instance_url": org.instance(call.world.api_url()),
        "id": id,
        "token_type": "Bearer",
        "issued_at": issued,
    });
    if let (Some(token), Some(body)) = (rotated, body.as_object_mut()) {
        body.insert("refresh_token".to_owned(), token.into());
    }
    Ok(body)
}

/// A refresh token as they look.
pub(crate) fn new_refresh(world: &World) -> String {
    format!("5Aep861{}.{}", world.dice.uuid().simple(), world.dice.uuid().simple())
}

/// Base64 of the HMAC-SHA-256 of identity and time, by the client's secret.
fn signature(secret: &str, id: &str, issued: &str) -> String {
    // HMAC takes a key of any length, so there is no error to handle.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(id.as_bytes());
    mac.update(issued.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

fn revoke(call: &Call) -> Done {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    let token = form.iter().find(|(name, _)| name == "token").map_or("", |(_, token)| token.as_str());
    let salesforce = &call.world.salesforce;
    let now = call.world.clock.now();
    if let Some(session) = salesforce.session(token) {
        session.end(now);
        return Done::empty(StatusCode::OK);
    }
    let known = salesforce.refresh.read().get(token).cloned();
    if let Some(org) = known.filter(|org| *org.refresh_token.lock() == token) {
        // Its sessions go with it.
        org.refresh_token.lock().clear();
        salesforce.expire(org.number, now);
        return Done::empty(StatusCode::OK);
    }
    let body = json!({ "error": "invalid_token", "error_description": "invalid token" });
    Done::json(StatusCode::BAD_REQUEST, &body)
}

/// A refusal that is a word.
fn plain(word: &str) -> Done {
    let done = Done { body: word.as_bytes().to_vec(), ..Done::empty(StatusCode::FORBIDDEN) };
    done.with(http::header::CONTENT_TYPE, "text/html;charset=UTF-8")
}

fn user_info(call: &Call, asked: Option<(&str, &str)>) -> Done {
    let world = &call.world;
    let now = world.clock.now();
    let token = bearer(call).or_else(|| call.query("oauth_token"));
    let session = token.and_then(|token| world.salesforce.session(token)).filter(|session| session.live(now));
    let Some(session) = session else {
        return plain("Bad_OAuth_Token");
    };
    let org = &session.org;
    let user = User::Integration.id();
    if asked.is_some_and(|(asked_org, asked_user)| asked_org != org.id || asked_user != user) {
        return plain("Wrong_Org");
    }
    let instance = org.instance(world.api_url());
    let urls = json!({
        "rest": format!("{instance}/services/data/v{{version}}/"),
        "sobjects": format!("{instance}/services/data/v{{version}}/sobjects/"),
        "query": format!("{instance}/services/data/v{{version}}/query/"),
    });
    let username = &org.credentials.username;
    let body = if asked.is_some() {
        json!({
            "id": identity_url(world, org, User::Integration), "asserted_user": true, "user_id": user,
            "organization_id": org.id, "username": username, "display_name": "Integration User",
            "email": username, "active": true, "user_type": "STANDARD", "urls": urls,
        })
    } else {
        json!({
            "sub": identity_url(world, org, User::Integration), "user_id": user, "organization_id": org.id,
            "preferred_username": username, "name": "Integration User", "email": username,
            "active": true, "user_type": "STANDARD", "urls": urls,
        })
    };
    Done::json(StatusCode::OK, &body)
}
