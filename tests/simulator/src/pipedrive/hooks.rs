//! Subscriptions to webhooks: made and removed over v1, banned and removed by the service where their targets fail.

use http::StatusCode;
use serde_json::{Value, json};

use super::control::{PipedriveWebhook, PipedriveWebhookCounts};
use super::errors::Refusal;
use super::person::old_time;
use super::{Context, Done};

const ACTIONS: &[&str] = &["create", "change", "delete", "*"];

const OBJECTS: &[&str] = &[
    "activity",
    "board",
    "deal",
    "deal_installment",
    "deal_product",
    "lead",
    "note",
    "organization",
    "person",
    "phase",
    "pipeline",
    "product",
    "project",
    "stage",
    "task",
    "user",
    "*",
];

const MEMBERS: &[&str] = &[
    "subscription_url",
    "event_action",
    "event_object",
    "name",
    "user_id",
    "http_auth_user",
    "http_auth_password",
    "version",
];

/// Subscriptions that a user can have.
const MOST: usize = 40;

/// First attempts that may fail before a subscription is banned.
const STRIKES: u32 = 10;

/// How long a ban lasts, in milliseconds.
const BAN: i64 = 30 * 60_000;

/// How long nothing may be delivered before a subscription is removed, in milliseconds.
const SILENCE: i64 = 3 * 86_400_000;

/// A subscription.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    pub(super) id: u64,
    action: String,
    object: String,
    pub(super) url: String,
    name: String,
    /// Name and password for HTTP Basic.
    pub(super) auth: Option<(String, String)>,
    /// Made by an app.
    pub(super) application: bool,
    added: i64,
    delivered: Option<i64>,
    status: Option<u16>,
    strikes: u32,
    banned_until: i64,
    /// The first failure since the last success.
    failing: Option<i64>,
    removed: Option<String>,
}

impl Hook {
    fn live(&self) -> bool {
        self.removed.is_none()
    }

    fn view(&self, company: u64, user: u64) -> Value {
        json!({
            "id": self.id,
            "company_id": company,
            "owner_id": user,
            "user_id": user,
            "event_action": self.action,
            "event_object": self.object,
            "subscription_url": self.url,
            "version": "2.0",
            "is_active": 1,
            "add_time": old_time(self.added),
            "remove_time": null,
            "type": if self.application { "application" } else { "general" },
            "http_auth_user": self.auth.as_ref().map(|(name, _)| name),
            "http_auth_password": self.auth.as_ref().map(|(_, password)| password),
            "remove_reason": null,
            "last_delivery_time": self.delivered.map(old_time),
            "last_http_status": self.status,
            "admin_id": user,
            "name": self.name,
        })
    }
}

/// All subscriptions of an account.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    list: Vec<Hook>,
    pub(super) counts: PipedriveWebhookCounts,
}

impl Hooks {
    /// Whether anybody wants to know anything.
    pub(super) fn any(&self) -> bool {
        self.list.iter().any(Hook::live)
    }

    /// Removes those that had no success for too long, and ends bans whose time is over.
    fn sweep(&mut self, now: i64) {
        for hook in self.list.iter_mut().filter(|hook| hook.live()) {
            if hook.failing.is_some_and(|since| now - since >= SILENCE) {
                hook.removed = Some("no successful deliveries on 3 consecutive days".to_owned());
            }
            if hook.strikes >= STRIKES && hook.banned_until <= now {
                hook.strikes = 0;
            }
        }
    }

    /// Who is to be told of what was done to a person. The event of a banned one is lost.
    pub(super) fn addressees(&mut self, action: &str, now: i64) -> Vec<Hook> {
        self.sweep(now);
        let mut told = Vec::new();
        for hook in self.list.iter().filter(|hook| hook.live()) {
            let fits = ["*", action].contains(&hook.action.as_str())
                && ["*", "person"].contains(&hook.object.as_str());
            if !fits {
                continue;
            }
            self.counts.events += 1;
            if hook.banned_until > now {
                self.counts.banned += 1;
            } else {
                told.push(hook.clone());
            }
        }
        told
    }

    /// What became of an attempt. `status`: none, where the target did not answer in time.
    pub(super) fn judge(&mut self, id: u64, attempt: u32, status: Option<u16>, now: i64) -> bool {
        let success = status.is_some_and(|status| (200..300).contains(&status));
        self.counts.attempts += 1;
        *if success { &mut self.counts.delivered } else { &mut self.counts.failed } += 1;
        if let Some(hook) = self.list.iter_mut().find(|hook| hook.id == id) {
            hook.status = status;
            if success {
                hook.delivered = Some(now);
                hook.failing = None;
            } else {
                hook.failing.get_or_insert(now);
                if attempt == 1 && hook.strikes < STRIKES {
                    hook.strikes += 1;
                    if hook.strikes == STRIKES {
                        hook.banned_until = now + BAN;
                    }
                }
            }
        }
        self.sweep(now);
        success
    }

    /// Whether a subscription is still there.
    pub(super) fn stands(&self, id: u64) -> bool {
        self.list.iter().any(|hook| hook.id == id && hook.live())
    }

    /// As people see them in the tool.
    pub(super) fn seen(&mut self, now: i64) -> Vec<PipedriveWebhook> {
        self.sweep(now);
        let seen = |hook: &Hook| PipedriveWebhook {
            id: hook.id,
            action: hook.action.clone(),
            object: hook.object.clone(),
            url: hook.url.clone(),
            strikes: hook.strikes,
            banned: hook.banned_until > now,
            removed: hook.removed.clone(),
        };
        self.list.iter().map(seen).collect()
    }
}

impl Context<'_> {
    pub(super) fn list_hooks(&self) -> Done {
        self.only_query(&[]);
        let mut hooks = self.account.hooks.lock();
        hooks.sweep(self.now);
        let (company, user) = (self.account.company, self.account.user);
        let data: Vec<Value> =
            hooks.list.iter().filter(|hook| hook.live()).map(|hook| hook.view(company, user)).collect();
        Done::json(StatusCode::OK, &json!({ "status": "ok", "success": true, "data": data }))
    }

    pub(super) fn create_hook(&self) -> Result<Done, Refusal> {
        self.only_query(&[]);
        let body = self.object()?;
        for name in body.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            self.violation(format!("unknown member {name}"));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let wrong = |name: &str, why: &str| {
            self.violation(format!("{name} {why}"));
            Refusal::v1(StatusCode::BAD_REQUEST, &format!("{name} {why}"))
        };
        let url = text("subscription_url").unwrap_or_default();
        let target: Option<http::Uri> = url.parse().ok();
        let target = target.filter(|target| target.scheme().is_some() && target.host().is_some());
        let host = target.as_ref().and_then(http::Uri::host);
        let host = host.ok_or_else(|| wrong("subscription_url", "is no absolute URL"))?;
        if host.ends_with("pipedrive.com") {
            return Err(wrong("subscription_url", "is an endpoint of Pipedrive"));
        }
        let known = |name: &str, list: &[&str]| {
            let value = text(name).filter(|value| list.contains(value));
            value.map(str::to_owned).ok_or_else(|| wrong(name, "is not a known value"))
        };
        let action = known("event_action", ACTIONS)?;
        let object = known("event_object", OBJECTS)?;
        let name =
            text("name").filter(|name| !name.is_empty()).ok_or_else(|| wrong("name", "is required"))?;
        if !matches!(text("version"), None | Some("2.0")) {
            return Err(wrong("version", "is not modelled: only 2.0 is"));
        }
        let auth = text("http_auth_user")
            .map(|user| (user.to_owned(), text("http_auth_password").unwrap_or_default().to_owned()));
        let mut hooks = self.account.hooks.lock();
        hooks.sweep(self.now);
        if hooks.list.iter().filter(|hook| hook.live()).count() >= MOST {
            return Err(Refusal::v1(StatusCode::FORBIDDEN, "The limit of 40 webhooks per user is reached."));
        }
        let hook = Hook {
            id: self.world().dice.between(1_000_000, 9_999_999),
            action,
            object,
            url: url.to_owned(),
            name: name.to_owned(),
            auth,
            application: self.call.header("authorization").is_some(),
            added: self.now,
            delivered: None,
            status: None,
            strikes: 0,
            banned_until: i64::MIN,
            failing: None,
            removed: None,
        };
        let view = hook.view(self.account.company, self.account.user);
        hooks.list.push(hook);
        Ok(Done::json(StatusCode::CREATED, &json!({ "status": "ok", "success": true, "data": view })))
    }

    pub(super) fn delete_hook(&self, id: u64) -> Result<Done, Refusal> {
        let mut hooks = self.account.hooks.lock();
        if !hooks.stands(id) {
            return Err(Refusal::v1(StatusCode::NOT_FOUND, "Webhook not found."));
        }
        hooks.list.retain(|hook| hook.id != id);
        Ok(Done::json(StatusCode::OK, &json!({ "status": "ok", "success": true })))
    }
}
