//! The whole engine on virtual time, in one thread, from a seed: the real pipeline, planner, quotas and reference store between
//! model CRMs and a model System A, with people, faults and crashes, and a checker that judges what came of it.
//!
//! Invariants: a seed is one world, to the byte of its trace; whatever takes time takes virtual time; what the models and the checker
//! hold to is written from what a CRM or a person could see, never from what the engine says of itself.
//!
//! `README.md` beside this crate says what is simulated and what is not.

mod account;
mod check;
mod daemon;
mod dice;
mod erasure;
mod habits;
mod history;
mod plant;
mod provider;
mod run;
mod scenario;
mod setting;
mod shared;
mod store;
mod system_a;
mod values;
mod wire;
mod world;

pub use plant::Plant;
pub use run::{Plan, Progress, Report, run};
pub use world::{Options, Outcome};

/// Lets a world happen and judges it.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Outcome {
    world::World::new(seed, options).run()
}
