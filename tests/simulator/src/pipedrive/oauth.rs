//! The token endpoint. The client shows who it is with HTTP Basic, or with two members of the form.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;

use super::account::{Account, Grant};
use super::errors::Refusal;
use super::quota::Kind;
use super::{Done, Pipedrive};
use crate::call::Call;
use crate::dice::Dice;

/// Parameters of the two endpoints.
const FORM: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "refresh_token",
    "code",
    "redirect_uri",
    "token",
    "token_type_hint",
];

/// How long an authorisation code can be exchanged, in milliseconds.
const CODE: i64 = 5 * 60_000;

/// How long a refresh token lasts after it was used last, in milliseconds.
const UNUSED: i64 = 60 * 86_400_000;

/// A refresh token or an authorisation code.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) account: Arc<Account>,
    pub(super) until: i64,
}

/// Gives out an access token that lasts from now; how many seconds.
pub(super) fn issue(pipedrive: &Pipedrive, dice: &Dice, account: &Arc<Account>, now: i64) -> (String, u32) {
    let seconds = account.settings().token_seconds;
    let token = format!("v1u:{}:{}", dice.uuid().simple(), dice.uuid().simple());
    let grant = Grant::new(account.clone(), Kind::Oauth, now + i64::from(seconds) * 1_000);
    pipedrive.give(&token, grant);
    (token, seconds)
}

/// Gives out a refresh token, or lets the one that is given last anew.
pub(super) fn hold(pipedrive: &Pipedrive, token: &str, account: &Arc<Account>, now: i64) {
    let held = Held { account: account.clone(), until: now + UNUSED };
    pipedrive.refresh.write().insert(token.to_owned(), held);
}

/// Gives out an authorisation code, as consent does.
pub(super) fn consent(pipedrive: &Pipedrive, code: &str, account: &Arc<Account>, now: i64) {
    let held = Held { account: account.clone(), until: now + CODE };
    pipedrive.codes.write().insert(code.to_owned(), held);
}

/// The client's name and secret.
fn client(call: &Call, field: &dyn Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let basic = || {
        let (scheme, coded) = call.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()?;
        text.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
    };
    basic().or_else(|| field("client_id").zip(field("client_secret")))
}

pub(super) fn serve(call: &Call, path: &str) -> Result<Done, Refusal> {
    if call.method != http::Method::POST {
        call.violation(None, "the path does not have this method");
        return Err(Refusal::wrong_method());
    }
    if !call.is_type("application/x-www-form-urlencoded") {
        call.violation(None, "the token endpoint takes application/x-www-form-urlencoded");
        return Err(Refusal::oauth("invalid_request", "Missing parameter: `grant_type`"));
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    for (name, _) in form.iter().filter(|(name, _)| !FORM.contains(&name.as_str())) {
        call.violation(None, format!("unknown form field {name}"));
    }
    let field = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let pipedrive = &call.world.pipedrive;
    let (id, secret) = client(call, &field).ok_or_else(|| {
        Refusal::oauth("invalid_client", "Invalid client: cannot retrieve client credentials")
    })?;
    let known = pipedrive.accounts.read().values().any(|account| {
        let info = account.info.read();
        info.client_id == id && info.client_secret == secret
    });
    if !known {
        return Err(Refusal::oauth("invalid_client", "Invalid client: client is invalid"));
    }
    if path == "/oauth/revoke" {
        return Ok(revoke(call, field("token").unwrap_or_default().as_str()));
    }
    let now = call.world.clock.now();
    let mine = |held: &Held| held.account.info.read().client_id == id;
    let account = match field("grant_type").as_deref() {
        None => return Err(Refusal::oauth("invalid_request", "Missing parameter: `grant_type`")),
        Some("refresh_token") => {
            let token = field("refresh_token").unwrap_or_default();
            let held = pipedrive.refresh.read().get(&token).cloned();
            let held = held
                .filter(|held| mine(held) && held.until > now)
                .ok_or_else(|| Refusal::oauth("invalid_grant", "Invalid grant: refresh_token is invalid"))?;
            used(call, &token, &held.account, now);
            held.account
        }
        Some("authorization_code") => {
            if field("redirect_uri").is_none() {
                return Err(Refusal::oauth("invalid_request", "Invalid request: redirect_uri is invalid"));
            }
            // It can be exchanged once.
            let held = field("code").and_then(|code| pipedrive.codes.write().remove(&code));
            let held = held.filter(mine).ok_or_else(|| {
                Refusal::oauth("invalid_grant", "Invalid grant: authorization_code is invalid")
            })?;
            if held.until <= now {
                let late = "Invalid grant: authorization_code has expired";
                return Err(Refusal::oauth("invalid_grant", late));
            }
            held.account
        }
        Some(_) => {
            let wrong = "Unsupported grant type: `grant_type` is invalid";
            return Err(Refusal::oauth("unsupported_grant_type", wrong));
        }
    };
    let (access, seconds) = issue(pipedrive, &call.world.dice, &account, now);
    account.info.write().access_token.clone_from(&access);
    let info = account.info.read();
    Ok(Done::json(
        StatusCode::OK,
        &json!({
            "access_token": access,
            "token_type": "Bearer",
            "refresh_token": info.refresh_token,
            "scope": account.scopes.join(","),
            "expires_in": seconds,
            "api_domain": info.api_domain,
        }),
    ))
}

/// A refresh token was used: it lasts anew, or another one takes its place.
fn used(call: &Call, token: &str, account: &Arc<Account>, now: i64) {
    let pipedrive = &call.world.pipedrive;
    if !account.settings().rotate_refresh_tokens {
        hold(pipedrive, token, account, now);
        return;
    }
    let uuid = call.world.dice.uuid().simple().to_string();
    let next = format!("{}:{uuid}", account.company);
    pipedrive.refresh.write().remove(token);
    hold(pipedrive, &next, account, now);
    account.info.write().refresh_token = next;
}

/// Ends an access token, or the whole installation by its refresh token.
fn revoke(call: &Call, token: &str) -> Done {
    let pipedrive = &call.world.pipedrive;
    let now = call.world.clock.now();
    if let Some(grant) = pipedrive.grant(token).filter(|grant| grant.kind == Kind::Oauth) {
        grant.expire(now);
    } else if let Some(held) = pipedrive.refresh.write().remove(token) {
        pipedrive.expire(held.account.company, now);
    }
    Done::json(StatusCode::OK, &json!({ "success": true }))
}
