//! The webhooks API of an app: its target and its subscriptions, with the developer key.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Done;
use super::errors::ApiError;
use super::route::Route;
use super::webhooks::{App, Subscription, WebhookSettings};
use crate::call::Call;
use crate::clock::iso;

const EVENT_TYPES: &[&str] = &[
    "contact.associationChange",
    "contact.creation",
    "contact.deletion",
    "contact.merge",
    "contact.privacyDeletion",
    "contact.propertyChange",
    "contact.restore",
];

fn view(subscription: &Subscription) -> Value {
    let mut view = json!({
        "id": subscription.id.to_string(),
        "createdAt": iso(subscription.created_at),
        "eventType": subscription.event_type,
        "active": subscription.active,
    });
    if let (Some(name), Some(view)) = (&subscription.property_name, view.as_object_mut()) {
        view.insert("propertyName".into(), name.as_str().into());
    }
    view
}

fn body(call: &Call, known: &[&str]) -> Result<Map<String, Value>, ApiError> {
    if !call.is_type("application/json") {
        call.violation(None, "the content type is not application/json");
        return Err(ApiError::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"));
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(map)) => {
            for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
                call.violation(None, format!("unknown member /{name}"));
            }
            Ok(map)
        }
        _ => {
            call.violation(None, "the body is not a JSON object");
            Err(ApiError::invalid_json("the body must be an object"))
        }
    }
}

pub(super) fn serve(call: &Call, route: &Route, app: u64) -> Result<Done, ApiError> {
    let world = &call.world;
    let app = world.hubspot.apps.read().get(&app).cloned().ok_or_else(ApiError::not_found)?;
    if call.query("hapikey") != Some(&app.developer_key) {
        return Err(ApiError::unauthenticated());
    }
    for (name, _) in call.query.iter().filter(|(name, _)| name != "hapikey") {
        call.violation(None, format!("unknown query parameter {name}"));
    }
    match route {
        Route::WebhookSettings(_) => settings(call, &app),
        Route::Subscriptions(_) if call.method == Method::GET => {
            let hooks = app.hooks.read().clone();
            let results: Vec<Value> = hooks.subscriptions.iter().flatten().map(view).collect();
            Ok(Done::json(StatusCode::OK, &json!({ "results": results })))
        }
        Route::Subscriptions(_) => subscribe(call, &app),
        Route::Subscription(_, id) => one(call, &app, *id),
        Route::SubscriptionBatch(_) => batch(call, &app),
        _ => Err(ApiError::not_found()),
    }
}

/// Changes the settings of an app as a whole.
fn change<T>(app: &App, edit: impl FnOnce(&mut WebhookSettings) -> T) -> T {
    let mut hooks = app.hooks.write();
    let mut next = WebhookSettings::clone(&hooks);
    let result = edit(&mut next);
    *hooks = Arc::new(next);
    result
}

fn settings(call: &Call, app: &App) -> Result<Done, ApiError> {
    match call.method {
        Method::DELETE => {
            change(app, |hooks| hooks.target_url = None);
            return Ok(Done::empty());
        }
        Method::PUT => {
            let body = body(call, &["targetUrl", "throttling"])?;
            let url = body.get("targetUrl").and_then(Value::as_str);
            let most =
                body.get("throttling").and_then(|t| t.get("maxConcurrentRequests")).and_then(Value::as_u64);
            let (Some(url), Some(most)) = (url, most) else {
                call.violation(None, "targetUrl or throttling.maxConcurrentRequests is missing");
                return Err(ApiError::missing_member("SettingsChangeRequest", "targetUrl, throttling"));
            };
            change(app, |hooks| {
                hooks.target_url = Some(url.to_owned());
                hooks.max_concurrent = most.clamp(1, 1000) as usize;
            });
        }
        _ => {}
    }
    let hooks = app.hooks.read().clone();
    let Some(url) = &hooks.target_url else {
        return Err(ApiError::not_found());
    };
    Ok(Done::json(
        StatusCode::OK,
        &json!({
            "targetUrl": url,
            "throttling": { "maxConcurrentRequests": hooks.max_concurrent },
            "createdAt": iso(0),
        }),
    ))
}

fn subscribe(call: &Call, app: &App) -> Result<Done, ApiError> {
    let body = body(call, &["eventType", "propertyName", "active", "objectTypeId", "eventTypeName"])?;
    let event_type = body.get("eventType").and_then(Value::as_str).unwrap_or_default();
    if !EVENT_TYPES.contains(&event_type) {
        call.violation(None, "eventType is missing or not served here");
        return Err(ApiError::validation(format!("Invalid event type {event_type}")));
    }
    let property_name = body.get("propertyName").and_then(Value::as_str).map(str::to_owned);
    if (event_type == "contact.propertyChange") != property_name.is_some() {
        return Err(ApiError::validation("propertyName is needed for propertyChange, and only there"));
    }
    let subscription = Subscription {
        id: call.world.dice.between(1_000_000, 9_999_999),
        event_type: event_type.to_owned(),
        property_name,
        active: body.get("active").and_then(Value::as_bool).unwrap_or(false),
        created_at: call.world.clock.now(),
    };
    let exists = change(app, |hooks| {
        let list = hooks.subscriptions.get_or_insert_default();
        let same = |s: &Subscription| {
            s.event_type == subscription.event_type && s.property_name == subscription.property_name
        };
        let exists = list.iter().any(same);
        if !exists {
            list.push(subscription.clone());
        }
        exists
    });
    if exists {
        return Err(ApiError::new(StatusCode::CONFLICT, "CONFLICT", "The subscription already exists."));
    }
    Ok(Done::json(StatusCode::CREATED, &view(&subscription)))
}

fn set_active(app: &App, id: u64, active: bool) -> Option<Subscription> {
    change(app, |hooks| {
        let found = hooks.subscriptions.iter_mut().flatten().find(|s| s.id == id)?;
        found.active = active;
        Some(found.clone())
    })
}

fn one(call: &Call, app: &App, id: u64) -> Result<Done, ApiError> {
    let found = match call.method {
        Method::DELETE => {
            change(app, |hooks| {
                if let Some(list) = &mut hooks.subscriptions {
                    list.retain(|s| s.id != id);
                }
            });
            return Ok(Done::empty());
        }
        Method::PATCH => {
            let body = body(call, &["active"])?;
            let active = body.get("active").and_then(Value::as_bool).unwrap_or(false);
            set_active(app, id, active)
        }
        _ => app.hooks.read().subscriptions.iter().flatten().find(|s| s.id == id).cloned(),
    };
    found.map(|s| Done::json(StatusCode::OK, &view(&s))).ok_or_else(ApiError::not_found)
}

fn batch(call: &Call, app: &App) -> Result<Done, ApiError> {
    let body = body(call, &["inputs"])?;
    let mut results = Vec::new();
    for input in body.get("inputs").and_then(Value::as_array).into_iter().flatten() {
        let id = input.get("id").and_then(Value::as_u64);
        let active = input.get("active").and_then(Value::as_bool);
        let (Some(id), Some(active)) = (id, active) else {
            call.violation(None, "an input without id or active");
            return Err(ApiError::missing_member("SubscriptionBatchUpdateRequest", "id, active"));
        };
        results.extend(set_active(app, id, active).as_ref().map(view));
    }
    let now = iso(call.world.clock.now());
    Ok(Done::json(
        StatusCode::OK,
        &json!({ "status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now }),
    ))
}
