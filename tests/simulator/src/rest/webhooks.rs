//! Events of an account, posted with a signature. Tried a few times, in no order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::Sha256;

use super::RestAccount;
use crate::world::World;

const TRIES: u32 = 8;

/// The signature of a body at a time.
pub(super) fn signature(secret: &str, time: &str, body: &str) -> String {
    // HMAC takes a key of any length, so there is no error to handle.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(time.as_bytes());
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts what happened to a person, if somebody wants to know. `telling` counts the events that are under way.
pub(super) fn tell(
    world: &Arc<World>,
    account: &RestAccount,
    telling: &Arc<AtomicU64>,
    person: &Value,
    event: &str,
) {
    let Some(target) = account.target.clone() else { return };
    let id = person.get("Id").and_then(Value::as_str).unwrap_or_default();
    let body = json!([{ "account": account.account, "id": id, "event": event }]).to_string();
    let (world, secret, telling) = (world.clone(), account.secret.clone(), telling.clone());
    telling.fetch_add(1, Ordering::SeqCst);
    tokio::spawn(async move {
        post(&world, &target, &secret, &body).await;
        telling.fetch_sub(1, Ordering::SeqCst);
    });
}

async fn post(world: &World, target: &str, secret: &str, body: &str) {
    for attempt in 0..TRIES {
        let time = world.clock.now().to_string();
        let request = http::Request::post(target)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("x-rest-time", &time)
            .header("x-rest-signature", signature(secret, &time, body))
            .body(Full::new(Bytes::from(body.to_owned())));
        let Ok(request) = request else { return };
        if world.poster.request(request).await.is_ok_and(|response| response.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
    }
}
