//! Which operation a path and a method are, what it costs and which scopes allow it.

use http::Method;

use crate::operation::Operation;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Persons,
    Search,
    Person(String),
    Fields,
    Field(String),
    Options(String),
    /// v1.
    Me,
    /// v1.
    Users,
    /// v1.
    Recents,
    /// v1.
    Merge(String),
    /// v1.
    Hooks,
    /// v1.
    Hook(String),
}

/// What a path and a method are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed {
    To(Operation, Route),
    NoSuchPath,
    WrongMethod,
}

/// Paths of the token endpoint and its neighbour.
pub(super) const OAUTH: &[&str] = &["/oauth/token", "/oauth/revoke"];

/// The prefix by which one host stands for many: `/pipedrive/{companyDomain}`.
pub(super) const HOSTS: &str = "/pipedrive/";

/// Takes the prefix that stands for a company's host off a path.
pub(super) fn host_of(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix(HOSTS) else { return (None, path) };
    match rest.find('/') {
        Some(at) => {
            let (company, path) = rest.split_at(at);
            (Some(company), path)
        }
        None => (Some(rest), ""),
    }
}

pub(super) fn route(method: &Method, path: &str) -> Routed {
    let two = path.strip_prefix("/api/v2/");
    let one = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/v1/"));
    match (two, one) {
        (Some(path), _) => v2(method, path),
        (None, Some(path)) => v1(method, path),
        (None, None) => Routed::NoSuchPath,
    }
}

/// The operation of the method, among those that a path has.
fn to(method: &Method, route: Route, has: &[(Method, Operation)]) -> Routed {
    match has.iter().find(|(known, _)| known == method) {
        Some((_, operation)) => Routed::To(*operation, route),
        None => Routed::WrongMethod,
    }
}

fn v2(method: &Method, path: &str) -> Routed {
    use Operation as O;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["persons"] => {
            to(method, Route::Persons, &[(Method::GET, O::PersonsList), (Method::POST, O::PersonsCreate)])
        }
        ["persons", "search"] => to(method, Route::Search, &[(Method::GET, O::PersonsSearch)]),
        ["persons", id] => to(
            method,
            Route::Person((*id).to_owned()),
            &[
                (Method::GET, O::PersonsRead),
                (Method::PATCH, O::PersonsUpdate),
                (Method::DELETE, O::PersonsDelete),
            ],
        ),
        ["personFields"] => to(
            method,
            Route::Fields,
            &[(Method::GET, O::PersonFieldsList), (Method::POST, O::PersonFieldsCreate)],
        ),
        ["personFields", code] => to(
            method,
            Route::Field((*code).to_owned()),
            &[
                (Method::GET, O::PersonFieldsRead),
                (Method::PATCH, O::PersonFieldsUpdate),
                (Method::DELETE, O::PersonFieldsDelete),
            ],
        ),
        ["personFields", code, "options"] => to(
            method,
            Route::Options((*code).to_owned()),
            &[
                (Method::POST, O::PersonOptionsAdd),
                (Method::PATCH, O::PersonOptionsUpdate),
                (Method::DELETE, O::PersonOptionsRemove),
            ],
        ),
        _ => Routed::NoSuchPath,
    }
}

fn v1(method: &Method, path: &str) -> Routed {
    use Operation as O;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["users", "me"] => to(method, Route::Me, &[(Method::GET, O::UsersMe)]),
        ["users"] => to(method, Route::Users, &[(Method::GET, O::UsersList)]),
        ["recents"] => to(method, Route::Recents, &[(Method::GET, O::Recents)]),
        ["persons", id, "merge"] => {
            to(method, Route::Merge((*id).to_owned()), &[(Method::PUT, O::PersonsMerge)])
        }
        ["webhooks"] => {
            to(method, Route::Hooks, &[(Method::GET, O::HooksList), (Method::POST, O::HooksCreate)])
        }
        ["webhooks", id] => to(method, Route::Hook((*id).to_owned()), &[(Method::DELETE, O::HooksDelete)]),
        _ => Routed::NoSuchPath,
    }
}

/// What a call costs, in tokens of the day.
pub(super) fn cost(operation: Operation) -> u32 {
    use Operation as O;
    match operation {
        O::PersonsRead | O::PersonFieldsRead => 1,
        O::UsersMe => 2,
        O::PersonsDelete | O::PersonFieldsDelete | O::PersonOptionsRemove => 3,
        O::PersonsCreate
        | O::PersonsUpdate
        | O::PersonFieldsCreate
        | O::PersonFieldsUpdate
        | O::PersonOptionsAdd
        | O::PersonOptionsUpdate => 5,
        O::HooksDelete => 6,
        O::PersonsList | O::PersonFieldsList | O::HooksList | O::HooksCreate => 10,
        O::PersonsSearch | O::UsersList | O::Recents => 20,
        O::PersonsMerge => 40,
        _ => 0,
    }
}

/// The scopes each of which allows an operation to an app.
pub(super) fn scopes(operation: Operation) -> &'static [&'static str] {
    use Operation as O;
    match operation {
        O::PersonsList | O::PersonsRead => &["contacts:read", "contacts:full"],
        O::PersonsSearch => &["contacts:read", "contacts:full", "search:read"],
        O::PersonsCreate | O::PersonsUpdate | O::PersonsDelete | O::PersonsMerge => &["contacts:full"],
        O::PersonFieldsList | O::PersonFieldsRead => {
            &["contacts:read", "contacts:full", "admin", "contact-fields:full"]
        }
        O::PersonFieldsCreate | O::PersonFieldsDelete => &["admin", "contact-fields:full"],
        O::PersonFieldsUpdate | O::PersonOptionsAdd | O::PersonOptionsUpdate | O::PersonOptionsRemove => {
            &["contacts:full", "admin", "contact-fields:full"]
        }
        O::UsersMe => &["base", "users:read"],
        O::UsersList => &["users:read"],
        O::Recents => &["recents:read", "search:read"],
        O::HooksList => &["webhooks:read", "webhooks:full", "admin"],
        O::HooksCreate | O::HooksDelete => &["webhooks:full", "admin"],
        _ => &[],
    }
}
