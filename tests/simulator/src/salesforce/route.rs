//! Which resource a path names, and what its methods are.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::operation::Operation;

/// The oldest and the newest version that is served.
pub(crate) const VERSIONS: std::ops::RangeInclusive<u32> = 31..=68;

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Token,
    Revoke,
    UserInfo,
    /// The org and the user.
    Identity(String, String),
    Versions,
    Resources,
    Limits,
    Objects,
    Object,
    Describe,
    Updated,
    Deleted,
    Row(String),
    /// A field by which records are found, and its value.
    External(String, String),
    /// With deleted records or without.
    Query(bool),
    More(String),
    Collection,
    CollectionRead,
    CollectionUpsert(String),
}

/// What becomes of a path and a method.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed {
    /// Version as it was written, operation, resource.
    To(String, Operation, Route),
    NoSuchPath,
    /// A version that is no longer served.
    Retired,
    /// The methods that there are.
    WrongMethod(&'static str),
}

pub(super) fn route(method: &Method, path: &str) -> Routed {
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if parts.contains(&"") {
        return Routed::NoSuchPath;
    }
    let plain = |operation, route| Routed::To(String::new(), operation, route);
    match parts.as_slice() {
        ["services", "oauth2", "token"] => {
            only(method, &Method::POST, "POST", || plain(Operation::SalesforceToken, Route::Token))
        }
        ["services", "oauth2", "revoke"] => {
            only(method, &Method::POST, "POST", || plain(Operation::SalesforceToken, Route::Revoke))
        }
        ["services", "oauth2", "userinfo"] if matches!(*method, Method::GET | Method::POST) => {
            plain(Operation::SalesforceIdentity, Route::UserInfo)
        }
        ["services", "oauth2", "userinfo"] => Routed::WrongMethod("GET,POST"),
        ["id", org, user] => only(method, &Method::GET, "GET", || {
            plain(Operation::SalesforceIdentity, Route::Identity((*org).to_owned(), (*user).to_owned()))
        }),
        ["services", "data"] => {
            only(method, &Method::GET, "HEAD,GET", || plain(Operation::SalesforceResources, Route::Versions))
        }
        ["services", "data", version, rest @ ..] => {
            let number = version.strip_prefix('v').and_then(|version| version.strip_suffix(".0"));
            match number.and_then(|number| number.parse::<u32>().ok()) {
                Some(number) if VERSIONS.contains(&number) => data(method, version, rest),
                Some(20..=30) => Routed::Retired,
                _ => Routed::NoSuchPath,
            }
        }
        _ => Routed::NoSuchPath,
    }
}

fn only(method: &Method, wanted: &Method, allowed: &'static str, to: impl FnOnce() -> Routed) -> Routed {
    if method == wanted { to() } else { Routed::WrongMethod(allowed) }
}

fn data(method: &Method, version: &str, rest: &[&str]) -> Routed {
    use Operation as Op;
    let to = |operation, route| Routed::To(version.to_owned(), operation, route);
    let get = |operation, route| only(method, &Method::GET, "HEAD,GET", || to(operation, route));
    match rest {
        [] => get(Op::SalesforceResources, Route::Resources),
        ["limits"] => get(Op::SalesforceLimits, Route::Limits),
        ["query"] => get(Op::SalesforceQuery, Route::Query(false)),
        ["queryAll"] => get(Op::SalesforceQuery, Route::Query(true)),
        ["query" | "queryAll", locator] => get(Op::SalesforceQueryMore, Route::More((*locator).to_owned())),
        ["sobjects"] => get(Op::SalesforceDescribe, Route::Objects),
        ["sobjects", object, rest @ ..] if object.eq_ignore_ascii_case("Contact") => match rest {
            [] => match *method {
                Method::GET => to(Op::SalesforceDescribe, Route::Object),
                Method::POST => to(Op::SalesforceCreate, Route::Object),
                _ => Routed::WrongMethod("HEAD,GET,POST"),
            },
            ["describe"] => get(Op::SalesforceDescribe, Route::Describe),
            ["updated"] => get(Op::SalesforceUpdated, Route::Updated),
            ["deleted"] => get(Op::SalesforceDeleted, Route::Deleted),
            [id] => match *method {
                Method::GET => to(Op::SalesforceRead, Route::Row((*id).to_owned())),
                Method::PATCH => to(Op::SalesforceUpdate, Route::Row((*id).to_owned())),
                Method::DELETE => to(Op::SalesforceDelete, Route::Row((*id).to_owned())),
                _ => Routed::WrongMethod("HEAD,GET,PATCH,DELETE"),
            },
            [field, value] => {
                let route = Route::External((*field).to_owned(), (*value).to_owned());
                match *method {
                    Method::GET => to(Op::SalesforceFind, route),
                    Method::PATCH => to(Op::SalesforceUpsert, route),
                    Method::DELETE => to(Op::SalesforceDelete, route),
                    _ => Routed::WrongMethod("HEAD,GET,PATCH,DELETE,POST"),
                }
            }
            _ => Routed::NoSuchPath,
        },
        ["composite", "sobjects"] => match *method {
            Method::POST => to(Op::SalesforceCollectionCreate, Route::Collection),
            Method::PATCH => to(Op::SalesforceCollectionUpdate, Route::Collection),
            Method::DELETE => to(Op::SalesforceCollectionDelete, Route::Collection),
            _ => Routed::WrongMethod("POST,PATCH,DELETE"),
        },
        ["composite", "sobjects", object] if object.eq_ignore_ascii_case("Contact") => match *method {
            Method::GET | Method::POST => to(Op::SalesforceCollectionRead, Route::CollectionRead),
            _ => Routed::WrongMethod("HEAD,GET,POST"),
        },
        ["composite", "sobjects", object, field] if object.eq_ignore_ascii_case("Contact") => {
            only(method, &Method::PATCH, "PATCH", || {
                to(Op::SalesforceCollectionUpsert, Route::CollectionUpsert((*field).to_owned()))
            })
        }
        _ => Routed::NoSuchPath,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_is_taken_and_none_in_between() {
        let to = |path: &str| route(&Method::GET, path);
        let query = Routed::To("v60.0".to_owned(), Operation::SalesforceQuery, Route::Query(false));
        assert_eq!(to("/services/data/v60.0/query"), query);
        assert_eq!(to("/services/data/v60.0/query/"), query);
        assert_eq!(to("/services/data/v60.0//query"), Routed::NoSuchPath);
        assert_eq!(to("/services/data/v60.0/query//"), Routed::NoSuchPath);
        assert_eq!(to("/services/data/v60/query"), Routed::NoSuchPath);
        assert_eq!(to("/services/data/v25.0/query"), Routed::Retired);
        let Routed::To(_, _, Route::External(field, value)) =
            to("/services/data/v60.0/sobjects/contact/Key__c/a%2Fb%20c")
        else {
            panic!()
        };
        assert_eq!((field.as_str(), value.as_str()), ("Key__c", "a/b c"));
    }
}
