//! What an account says of itself: who it is, and which fields its objects have.

use std::sync::Arc;

use serde_json::Value;
use tandem_core::document;
use tandem_core::exchange::{Answer, Operation};

use super::exchange::ExchangeError;
use super::{Clock, Connection, Pipeline};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Store};

/// How long the questions wait for calls that are free, in milliseconds. They come before the records are gone through, since the
/// answers decide what is carried of each; a small window is full at that moment.
const PATIENCE_MS: u64 = 10_000;

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Asks the account about itself and its objects. None: it did not say; the connection works without.
    pub async fn probe(&self, connection: &Arc<Connection>) -> Option<Value> {
        let mut operations = vec![Operation::Probe];
        operations.extend(connection.objects.keys().map(|object| Operation::Discover(object.to_string())));
        let mut facts = Value::Object(serde_json::Map::new());
        let give_up = self.rooms.clock.now().saturating_add(PATIENCE_MS);
        for operation in operations {
            let asked = operation.name();
            let answered = loop {
                let once = operation.clone();
                match self.exchange(connection, Class::Reconcile, None, move |_| Ok(Ok(once))).await {
                    Ok(answered) => break answered,
                    Err(ExchangeError::Held { until }) if until <= give_up => {
                        let pause = until.saturating_sub(self.rooms.clock.now());
                        self.rooms.clock.sleep(pause.max(1)).await;
                    }
                    Err(ExchangeError::Fault(fault)) => {
                        self.rooms.metrics.fault(&self.provider_of(connection), fault.kind.label());
                        return None;
                    }
                    Err(_) => return None,
                }
            };
            let Answer::Facts(said) = answered.answer else {
                tracing::debug!(connection = %connection.id, asked, "the account gave no facts");
                return None;
            };
            document::merge(&mut facts, &serde_json::from_slice(&said).ok()?);
        }
        Some(facts)
    }
}
