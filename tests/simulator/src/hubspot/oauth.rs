//! OAuth: the token endpoint and what can be asked about a token.

use http::{Method, StatusCode};
use serde_json::json;

use super::account::{Account, Grant, TokenKind};
use super::errors::ApiError;
use super::route::Route;
use super::{Done, HubSpot};
use crate::call::Call;
use crate::dice::Dice;

/// Parameters of the token endpoint.
const FORM: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "refresh_token",
    "code",
    "redirect_uri",
    "code_verifier",
    "scope",
];

/// Gives out an access token of an account that lasts from now.
pub(crate) fn issue(
    hubspot: &HubSpot,
    dice: &Dice,
    account: &std::sync::Arc<Account>,
    now: i64,
) -> (String, u32) {
    let seconds = account.settings.read().token_seconds;
    let token = format!("CKSR{}{}", dice.uuid().simple(), dice.uuid().simple());
    hubspot.give(&token, Grant::new(account.clone(), TokenKind::Oauth, now + i64::from(seconds) * 1000));
    (token, seconds)
}

/// Puts a new refresh token in the place of the one before.
fn rotate(hubspot: &HubSpot, dice: &Dice, account: &std::sync::Arc<Account>) {
    let next = format!("na1-{}", dice.uuid());
    let before = account.refresh_token.lock().replace(next.clone());
    hubspot.give_refresh(&next, account);
    if let Some(before) = before {
        hubspot.refresh.write().remove(&before);
    }
}

pub(super) fn serve(call: &Call, route: &Route) -> Result<Done, ApiError> {
    match route {
        Route::Token(version) => token(call, version),
        Route::TokenInfo(token) => token_info(call, token),
        Route::RefreshInfo(token) => refresh_info(call, token),
        _ => Err(ApiError::not_found()),
    }
}

fn token(call: &Call, version: &str) -> Result<Done, ApiError> {
    if !call.is_type("application/x-www-form-urlencoded") {
        call.violation(None, "the token endpoint takes application/x-www-form-urlencoded");
        return Err(ApiError::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"));
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    for (name, _) in &call.query {
        // Version 1 describes these two as query parameters as well.
        if version != "v1" || !matches!(name.as_str(), "client_secret" | "refresh_token") {
            call.violation(None, format!("unknown query parameter {name}"));
        }
    }
    for (name, _) in form.iter().filter(|(name, _)| !FORM.contains(&name.as_str())) {
        call.violation(None, format!("unknown form field {name}"));
    }
    let field = |wanted: &str| {
        form.iter().chain(&call.query).find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let hubspot = &call.world.hubspot;
    let app = field("client_id")
        .and_then(|id| hubspot.apps.read().values().find(|app| app.client_id == id).cloned())
        .ok_or_else(|| ApiError::oauth("BAD_CLIENT_ID", "missing or unknown client id"))?;
    if field("client_secret") != Some(&app.client_secret) {
        return Err(ApiError::oauth("BAD_CLIENT_SECRET", "missing or invalid client secret"));
    }
    let account = match field("grant_type") {
        Some("refresh_token") => {
            let known = field("refresh_token").and_then(|token| hubspot.refresh.read().get(token).cloned());
            known
                .filter(|account| account.app.id == app.id)
                .ok_or_else(|| ApiError::oauth("BAD_REFRESH_TOKEN", "missing or invalid refresh token"))?
        }
        Some("authorization_code") => {
            if field("redirect_uri").is_none() {
                return Err(ApiError::oauth("BAD_REDIRECT_URI", "missing or invalid redirect uri"));
            }
            // A code can be used once.
            let known = field("code").and_then(|code| hubspot.codes.write().remove(code));
            known
                .filter(|account| account.app.id == app.id)
                .ok_or_else(|| ApiError::oauth("BAD_AUTH_CODE", "missing or unknown auth code"))?
        }
        _ => return Err(ApiError::oauth("BAD_GRANT_TYPE", "missing or invalid grant type")),
    };
    if account.settings.read().rotate_refresh_tokens && field("grant_type") == Some("refresh_token") {
        rotate(hubspot, &call.world.dice, &account);
    }
    let (access, seconds) = issue(hubspot, &call.world.dice, &account, call.world.clock.now());
    let mut body = json!({
        "token_type": "bearer",
        "refresh_token": *account.refresh_token.lock(),
        "access_token": access,
        "expires_in": seconds,
    });
    if let (true, Some(body)) = (version != "v1", body.as_object_mut()) {
        body.insert("hub_id".into(), account.portal.into());
        body.insert("user_id".into(), 1.into());
        body.insert("scopes".into(), json!(account.scopes));
        body.insert("token_use".into(), "access_token".into());
    }
    Ok(Done::json(StatusCode::OK, &body))
}

fn unknown_token(kind: &str) -> ApiError {
    ApiError::bare(StatusCode::NOT_FOUND, format!("{kind} token not found"))
}

fn token_info(call: &Call, token: &str) -> Result<Done, ApiError> {
    let world = &call.world;
    let grant = world
        .hubspot
        .grant(token)
        .filter(|grant| grant.kind == TokenKind::Oauth)
        .ok_or_else(|| unknown_token("access"))?;
    let now = world.clock.now();
    if grant.expires() <= now {
        return Err(unknown_token("access"));
    }
    let account = &grant.account;
    Ok(Done::json(
        StatusCode::OK,
        &json!({
            "token": token,
            "user": "operator@example.com",
            "hub_domain": format!("portal-{}.example.com", account.portal),
            "scopes": account.scopes,
            "hub_id": account.portal,
            "app_id": account.app.id,
            "expires_in": (grant.expires() - now) / 1000,
            "user_id": 1,
            "token_type": "access",
        }),
    ))
}

fn refresh_info(call: &Call, token: &str) -> Result<Done, ApiError> {
    let hubspot = &call.world.hubspot;
    if call.method == Method::DELETE {
        hubspot.refresh.write().remove(token);
        return Ok(Done::empty());
    }
    let account = hubspot.refresh.read().get(token).cloned().ok_or_else(|| unknown_token("refresh"))?;
    Ok(Done::json(
        StatusCode::OK,
        &json!({
            "token": token,
            "user": "operator@example.com",
            "hub_domain": format!("portal-{}.example.com", account.portal),
            "scopes": account.scopes,
            "hub_id": account.portal,
            "client_id": account.app.client_id,
            "user_id": 1,
            "token_type": "refresh",
        }),
    ))
}
