//! The webhook: one for all that happens to persons, made by API, looked after now and then.
//!
//! Pipedrive deletes a webhook after three days without a success, so that it is listed every few hours and made anew when it is
//! gone. It is known by the address that it sends to: a create whose answer was lost makes no second one. User and password of
//! its HTTP Basic are put in by the host; one whose last delivery was refused for them is replaced, since they may have changed.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Operation, Reply, Response, Watch};

use crate::Pipedrive;
use crate::record::{data, id_of};

/// The secret that is sent as user of the webhook's HTTP Basic.
pub(crate) const USER_SECRET: &str = "webhook_user";
/// The secret that is sent as its password.
pub(crate) const PASSWORD_SECRET: &str = "webhook_password";
/// The secret that deliveries are verified with: user, colon, password.
pub(crate) const BASIC_SECRET: &str = "webhook";

/// Which request an answer belongs to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
enum Step {
    /// The listing of all webhooks.
    List,
    /// The removal of one of ours; these are next, and then a new one is made unless none is wanted.
    Remove { rest: Vec<String> },
    /// A new one.
    Make,
}

impl Pipedrive {
    pub(crate) fn watch(&self, _: &Watch) -> Reply {
        self.webhooks_request().then_note(&Step::List)
    }

    pub(crate) fn watched(
        &self,
        operation: &Operation,
        watch: &Watch,
        note: &[u8],
        response: &Response,
        context: &Context,
    ) -> Reply {
        let step = match serde_json::from_slice::<Step>(note) {
            Ok(step) => step,
            Err(error) => return unreadable(operation, &format!("note: {error}")).into(),
        };
        let removed = matches!(step, Step::Remove { .. }) && response.status == 404;
        if !response.is_success() && !removed {
            return self.refuse(operation, response, context).into();
        }
        match step {
            Step::Remove { rest } => self.remove_next(watch, rest, context),
            Step::List => match listed(operation, watch, response) {
                Err(answer) => answer.into(),
                Ok((Some(id), _)) if watch.active => self.stands(&id, context),
                Ok((healthy, mut others)) => {
                    others.extend(healthy);
                    self.remove_next(watch, others, context)
                }
            },
            Step::Make => {
                let body = response.node();
                match body.as_ref().ok().and_then(data).and_then(|made| id_of(made.get("id")?)) {
                    Some(id) => self.stands(id, context),
                    None => unreadable(operation, "the answer is no webhook").into(),
                }
            }
        }
    }

    fn remove_next(&self, watch: &Watch, mut ids: Vec<String>, context: &Context) -> Reply {
        if !ids.is_empty() {
            let id = ids.remove(0);
            return self.unwatch_request(&id).then_note(&Step::Remove { rest: ids });
        }
        if watch.active {
            return self.watch_request(&watch.callback).then_note(&Step::Make);
        }
        // There is none any more, and none to look after.
        let check_at = context.now.saturating_add(self.settings.watch_every_ms);
        Answer::Watching { state: b"{}".to_vec(), check_at }.into()
    }

    fn stands(&self, id: &str, context: &Context) -> Reply {
        let state = json!({ "v": 1, "webhook": id }).to_string().into_bytes();
        let check_at = context.now.saturating_add(self.settings.watch_every_ms);
        Answer::Watching { state, check_at }.into()
    }
}

/// Webhooks that send to our address: one that is well, and those that are not.
fn listed(
    operation: &Operation,
    watch: &Watch,
    response: &Response,
) -> Result<(Option<String>, Vec<String>), Answer> {
    let body = response.node().map_err(|why| unreadable(operation, &why))?;
    let rows = match data(&body) {
        Some(rows) => rows.as_list(),
        None => body.get("data").map(|_| <&[Node<'_>]>::default()),
    };
    let Some(rows) = rows else { return Err(unreadable(operation, "the answer has no webhooks")) };
    let (mut healthy, mut others) = (None, Vec::new());
    for row in rows {
        let text = |name: &str| row.get(name).and_then(Node::as_id);
        let Some(id) = row.get("id").and_then(id_of) else { continue };
        if text("subscription_url") != Some(watch.callback.as_str()) {
            continue;
        }
        if healthy.is_none() && is_well(row) {
            healthy = Some(id.to_owned());
        } else {
            others.push(id.to_owned());
        }
    }
    Ok((healthy, others))
}

/// Whether a webhook of ours is as it was made, and was not refused for its password.
fn is_well(row: &Node<'_>) -> bool {
    let text = |name: &str| row.get(name).and_then(Node::as_id);
    let active = !matches!(row.get("is_active"), Some(Node::Bool(false))) && text("is_active") != Some("0");
    active
        && text("event_action") == Some("*")
        && text("event_object").is_some_and(|object| object == "person" || object == "*")
        && text("version").is_none_or(|version| version.starts_with('2'))
        && text("last_http_status").is_none_or(|status| status != "401" && status != "403")
}
