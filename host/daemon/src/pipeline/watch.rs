//! A webhook registration: asking a CRM to tell, or to stop telling.

use std::sync::Arc;

use tandem_core::exchange::{Answer, Channel, Operation, Problem, Watch};

use super::exchange::ExchangeError;
use super::{Clock, Connection, Pipeline};
use crate::delivery::{Deliver, SendError};
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Store};

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Registers for webhooks, renews the registration or ends it; what it answers is needed the next time.
    ///
    /// # Errors
    /// Why there is no registration, in one line. Whether the CRM has made one is then not known: asking again with the same
    /// `watch` is right.
    pub async fn watch(&self, connection: &Arc<Connection>, watch: Watch) -> Result<Channel, String> {
        let operation = Operation::Watch(watch);
        let sent = self.exchange(connection, Class::Live, None, move |_| Ok(Ok(operation))).await;
        let (now, random) = (self.rooms.clock.now(), self.rooms.clock.jitter(u64::MAX));
        let quotas = &self.rooms.quotas;
        let answer = match sent {
            Ok(concluded) => concluded.answer,
            Err(ExchangeError::Fault(fault)) => {
                self.rooms.metrics.fault(&self.provider_of(connection), fault.kind.label());
                return Err(fault.to_string());
            }
            Err(ExchangeError::Send(error)) => {
                match &error {
                    SendError::NotSent { .. } | SendError::Unknown { .. } => {
                        quotas.failed(&connection.id, now, random);
                    }
                    SendError::Unauthorised { .. } => quotas.unauthorised(&connection.id, &error.to_string()),
                    SendError::Forbidden { .. } => {}
                }
                return Err(error.to_string());
            }
            Err(ExchangeError::Held { .. }) => {
                return Err("no call is free for it, or the CRM failed too often in a row".to_owned());
            }
            Err(ExchangeError::Refused { problems, .. }) => return Err(words(&problems)),
            Err(ExchangeError::Pipeline(error)) => return Err(error.to_string()),
        };
        match answer {
            Answer::Watching(channel) => {
                quotas.succeeded(&connection.id, now);
                Ok(channel)
            }
            Answer::Throttled(throttle) => {
                quotas.throttled(&connection.id, throttle.quota.as_deref(), throttle.wait, now, random);
                Err("the CRM refuses calls for their number".to_owned())
            }
            Answer::Again(_, effect) => {
                quotas.failed(&connection.id, now, random);
                Err(format!("the CRM asked to try again (took effect: {effect})"))
            }
            Answer::Rejected(problems) => Err(words(&problems)),
            // Of this operation alone: a CRM that registers nothing for an account goes on with everything else.
            Answer::Blocked(block) => Err(block.problem.message),
            Answer::Unauthorised(why) => {
                quotas.unauthorised(&connection.id, &why);
                Err(why)
            }
            other => Err(format!("the provider answered with {}", super::settle::word(&other))),
        }
    }
}

fn words(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}
