//! The admin API, metrics and health over HTTP.
//!
//! Invariants: every route but `/healthz` and `/readyz` wants a bearer token, compared without telling how much of it was right; a
//! scope's token opens nothing but that scope's records in System A; errors are problem documents (RFC 9457). It shows record contents
//! only where a person asked for records (`explain`, `dead`, `review`, `deletes`), and decides nothing: everything is asked of [`Control`].

mod auth;
mod control;
pub mod matches;
mod moment;
pub mod past;
mod problem;
mod routes;
mod serve;
#[cfg(test)]
mod tests;
pub mod view;

pub use auth::{Caller, Tokens, for_admin, for_metrics, for_scopes};

pub use control::{
    Aspect, Choice, Control, ControlError, DeadTarget, Decide, DecideMany, DeletesTarget, FieldChoice, Look,
    LookAt, PauseTarget, Pin, Readiness, RecordRef, ReviewFilter, RollBack, Unfreeze,
};
pub use moment::moment;
pub use problem::Problem;
pub use routes::{house, router};
pub use serve::{Serving, listen, serve};
