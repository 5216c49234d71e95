//! The whole engine on virtual time, in one thread, from a seed.

mod account;
mod check;
mod daemon;
mod dice;
mod habits;
mod history;
mod plant;
mod provider;
mod run;
mod shared;
mod store;
mod system_a;
mod values;
mod wire;
mod world;

pub use plant::Plant;
pub use run::{Plan, Report, run};
pub use world::{Options, Outcome};

/// Lets a world happen and judges it.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Outcome {
    world::World::new(seed, options).run()
}
