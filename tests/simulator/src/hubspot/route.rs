//! Paths. The CRM API is served under `/crm/v3/…` and under the dated versions.

use http::Method;

use crate::operation::Operation;

/// The dated versions that are served.
const DATED: &[&str] = &["2026-03", "2026-09"];
/// The names of the contact object.
const CONTACTS: &[&str] = &["contacts", "contact", "0-1"];

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Contacts,
    Contact(String),
    Batch,
    Search,
    Merge,
    GdprDelete,
    Properties,
    Property(String),
    Details,
    Usage,
    /// The version of the token endpoint.
    Token(String),
    TokenInfo(String),
    RefreshInfo(String),
    WebhookSettings(u64),
    Subscriptions(u64),
    SubscriptionBatch(u64),
    Subscription(u64, u64),
}

impl Route {
    /// The scope that an operation needs.
    pub(crate) fn scope(&self, operation: Operation) -> Option<&'static str> {
        Some(match self {
            Self::Properties | Self::Property(_) => match operation {
                Operation::PropertiesList | Operation::PropertiesRead => "crm.schemas.contacts.read",
                _ => "crm.schemas.contacts.write",
            },
            Self::Contacts
            | Self::Contact(_)
            | Self::Batch
            | Self::Search
            | Self::Merge
            | Self::GdprDelete => {
                if operation.writes() {
                    "crm.objects.contacts.write"
                } else {
                    "crm.objects.contacts.read"
                }
            }
            _ => return None,
        })
    }
}

/// The result of routing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    To(Operation, Route),
    NoSuchPath,
    WrongMethod,
}

/// Finds where a request goes.
pub(crate) fn route(method: &Method, path: &str) -> Routed {
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let dated = |version: &str| DATED.contains(&version);
    match parts.as_slice() {
        ["crm", "v3", "objects", object, rest @ ..] if CONTACTS.contains(object) => objects(method, rest),
        ["crm", "objects", version, object, rest @ ..] if dated(version) && CONTACTS.contains(object) => {
            objects(method, rest)
        }
        ["crm", "v3", "properties", object, rest @ ..] if CONTACTS.contains(object) => {
            properties(method, rest)
        }
        ["crm", "properties", version, object, rest @ ..] if dated(version) && CONTACTS.contains(object) => {
            properties(method, rest)
        }
        ["account-info", version, "details"] if *version == "v3" || dated(version) => {
            only(method, &Method::GET, Operation::AccountDetails, Route::Details)
        }
        ["account-info", version, "api-usage", "daily", "private-apps"]
            if *version == "v3" || dated(version) =>
        {
            only(method, &Method::GET, Operation::AccountUsage, Route::Usage)
        }
        ["oauth", version, "token"] if matches!(*version, "v1" | "v3") || dated(version) => {
            only(method, &Method::POST, Operation::OauthToken, Route::Token((*version).to_owned()))
        }
        ["oauth", "v1", "access-tokens", token] => {
            only(method, &Method::GET, Operation::OauthTokenInfo, Route::TokenInfo(decode(token)))
        }
        ["oauth", "v1", "refresh-tokens", token] => match *method {
            Method::GET | Method::DELETE => {
                Routed::To(Operation::OauthTokenInfo, Route::RefreshInfo(decode(token)))
            }
            _ => Routed::WrongMethod,
        },
        ["webhooks", "v3", app, rest @ ..] => match app.parse() {
            Ok(app) => webhooks(method, app, rest),
            Err(_) => Routed::NoSuchPath,
        },
        _ => Routed::NoSuchPath,
    }
}

fn only(method: &Method, allowed: &Method, operation: Operation, route: Route) -> Routed {
    if method == allowed { Routed::To(operation, route) } else { Routed::WrongMethod }
}

fn objects(method: &Method, rest: &[&str]) -> Routed {
    let post = |operation, route| only(method, &Method::POST, operation, route);
    match rest {
        [] => match *method {
            Method::GET => Routed::To(Operation::ContactsList, Route::Contacts),
            Method::POST => Routed::To(Operation::ContactsCreate, Route::Contacts),
            _ => Routed::WrongMethod,
        },
        ["search"] => post(Operation::ContactsSearch, Route::Search),
        ["merge"] => post(Operation::ContactsMerge, Route::Merge),
        ["gdpr-delete"] => post(Operation::ContactsGdprDelete, Route::GdprDelete),
        ["batch", "read"] => post(Operation::ContactsBatchRead, Route::Batch),
        ["batch", "create"] => post(Operation::ContactsBatchCreate, Route::Batch),
        ["batch", "update"] => post(Operation::ContactsBatchUpdate, Route::Batch),
        ["batch", "upsert"] => post(Operation::ContactsBatchUpsert, Route::Batch),
        ["batch", "archive"] => post(Operation::ContactsBatchArchive, Route::Batch),
        [id] if !id.is_empty() => {
            let operation = match *method {
                Method::GET => Operation::ContactsRead,
                Method::PATCH => Operation::ContactsUpdate,
                Method::DELETE => Operation::ContactsArchive,
                _ => return Routed::WrongMethod,
            };
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
            Routed::To(operation, Route::Contact(id))
        }
        _ => Routed::NoSuchPath,
    }
}

fn properties(method: &Method, rest: &[&str]) -> Routed {
    match rest {
        [] => match *method {
            Method::GET => Routed::To(Operation::PropertiesList, Route::Properties),
            Method::POST => Routed::To(Operation::PropertiesCreate, Route::Properties),
            _ => Routed::WrongMethod,
        },
        [name] if !name.is_empty() => {
            let operation = match *method {
                Method::GET => Operation::PropertiesRead,
                Method::PATCH => Operation::PropertiesUpdate,
                Method::DELETE => Operation::PropertiesArchive,
                _ => return Routed::WrongMethod,
            };
            Routed::To(operation, Route::Property((*name).to_owned()))
        }
        _ => Routed::NoSuchPath,
    }
}

fn webhooks(method: &Method, app: u64, rest: &[&str]) -> Routed {
    let allowed = |methods: &[Method], operation, route| {
        if methods.contains(method) { Routed::To(operation, route) } else { Routed::WrongMethod }
    };
    match rest {
        ["settings"] => allowed(
            &[Method::GET, Method::PUT, Method::DELETE],
            Operation::WebhookSettings,
            Route::WebhookSettings(app),
        ),
        ["subscriptions"] => {
            allowed(&[Method::GET, Method::POST], Operation::WebhookSubscriptions, Route::Subscriptions(app))
        }
        ["subscriptions", "batch", "update"] => {
            allowed(&[Method::POST], Operation::WebhookSubscriptions, Route::SubscriptionBatch(app))
        }
        ["subscriptions", id] => match id.parse() {
            Ok(id) => allowed(
                &[Method::GET, Method::PATCH, Method::DELETE],
                Operation::WebhookSubscriptions,
                Route::Subscription(app, id),
            ),
            Err(_) => Routed::NoSuchPath,
        },
        _ => Routed::NoSuchPath,
    }
}
