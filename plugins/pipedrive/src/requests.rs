//! The requests that are sent, and what they cost.

use serde_json::json;
use tandem_provider::Request;
use tandem_provider::json::Node;

use crate::Pipedrive;
use crate::quotas::{charged, charged_search, tokens};
use crate::settings::Settings;

/// Persons, in version 2 of the API.
const PERSONS: &str = "/api/v2/persons";
/// Custom fields that a request may name.
const NAMED_FIELDS: usize = 15;
/// What stands in a request where the host puts in the user and the password of a webhook.
const USER: &str = "@@webhook-user@@";
const PASSWORD: &str = "@@webhook-password@@";
/// Rows of a page when it is known how long they are, and when all of an account's custom fields come with each.
const PAGE: u32 = 500;
const WIDE_PAGE: u32 = 100;

/// The custom fields to ask for. None: they are too many to be named, or none is wanted, which cannot be said.
pub(crate) fn wanted<'k>(settings: &'k Settings, keys: impl Iterator<Item = &'k String>) -> Option<String> {
    let all: Vec<&str> = keys.chain(settings.key_field.as_ref()).map(String::as_str).collect();
    (1..=NAMED_FIELDS).contains(&all.len()).then(|| all.join(","))
}

/// Which fields the account's persons have.
pub(crate) fn fields(cursor: Option<&str>) -> Request {
    let request = Request::get("/api/v2/personFields").query("limit", &PAGE.to_string());
    charged(with_cursor(request, cursor), tokens::LIST)
}

pub(crate) fn remove(id: &str) -> Request {
    // A person that is in the bin already is not deleted again.
    charged(Request::delete(PERSONS).segment(id).repeatable(), tokens::REMOVE)
}

/// An update of nothing, of a person that cannot be there: permissions are looked at before that.
pub(crate) fn may_write() -> Request {
    charged(Request::patch(PERSONS).segment("0").json(&json!({})), tokens::WRITE)
}

/// A search for persons in which one field of this kind is just so.
pub(crate) fn search(field: &str, term: &str) -> Request {
    let request = Request::get(format!("{PERSONS}/search"))
        .query("term", term)
        .query("fields", field)
        .query("exact_match", "true")
        .query("limit", "100");
    charged_search(request)
}

fn with_cursor(request: Request, cursor: Option<&str>) -> Request {
    match cursor {
        Some(cursor) => request.query("cursor", cursor),
        None => request,
    }
}

impl Pipedrive {
    /// Who are we. Users are in version 1 of the API alone.
    pub(crate) fn account_request(&self) -> Request {
        charged(Request::get(format!("{}/users/me", self.settings.v1_path)), tokens::ME)
    }

    fn with_fields(&self, request: Request) -> Request {
        match &self.wanted {
            Some(wanted) => request.query("custom_fields", wanted),
            None => request,
        }
    }

    pub(crate) fn read_request(&self, id: &str) -> Request {
        charged(self.with_fields(Request::get(PERSONS).segment(id)), tokens::READ)
    }

    /// Persons from a modification time on (whole seconds, which is all that Pipedrive reads), or all by their ids.
    pub(crate) fn list_request(&self, since: Option<&str>, cursor: Option<&str>, limit: u32) -> Request {
        let most = if self.wanted.is_some() { PAGE } else { WIDE_PAGE };
        let request = Request::get(PERSONS).query("limit", &limit.clamp(1, most).to_string());
        let request = match since {
            Some(since) => request.query("updated_since", since).query("sort_by", "update_time"),
            None => request.query("sort_by", "id"),
        };
        let request = request.query("sort_direction", "asc");
        charged(with_cursor(self.with_fields(request), cursor), tokens::LIST)
    }

    /// A create. There is nothing to repeat it by: a second one makes a second person.
    pub(crate) fn create_request(body: &Node<'_>) -> Request {
        charged(Request::post(PERSONS).json_node(body), tokens::WRITE)
    }

    /// An update of these members. It is not repeatable: between a lost answer and the repetition somebody may have edited them.
    pub(crate) fn update_request(id: &str, body: &Node<'_>) -> Request {
        charged(Request::patch(PERSONS).segment(id).json_node(body), tokens::WRITE)
    }

    /// All webhooks of the user.
    pub(crate) fn webhooks_request(&self) -> Request {
        let request = Request::get(format!("{}/webhooks", self.settings.v1_path))
            // The answer shows the password of each: the host blanks what a request names, wherever the answer repeats it.
            .secret(PASSWORD, crate::watch::PASSWORD_SECRET, "header");
        charged(request, tokens::WEBHOOKS)
    }

    /// A webhook for all that happens to persons. Its user and password are put in by the host.
    pub(crate) fn watch_request(&self, callback: &str) -> Request {
        let body = json!({
            "subscription_url": callback,
            "event_action": "*",
            "event_object": "person",
            "name": "Tandem",
            "version": "2.0",
            "http_auth_user": USER,
            "http_auth_password": PASSWORD,
        });
        let request = Request::post(format!("{}/webhooks", self.settings.v1_path))
            .json(&body)
            .secret(USER, crate::watch::USER_SECRET, "json")
            .secret(PASSWORD, crate::watch::PASSWORD_SECRET, "json");
        charged(request, tokens::WEBHOOKS)
    }

    pub(crate) fn unwatch_request(&self, id: &str) -> Request {
        let path = format!("{}/webhooks", self.settings.v1_path);
        charged(Request::delete(path).segment(id).repeatable(), tokens::UNWATCH)
    }
}
