//! The scenes, each told once for all CRMs.

pub(crate) mod both_ways;
pub(crate) mod conflicts;
pub(crate) mod creates;
pub(crate) mod customs;
pub(crate) mod kills;
pub(crate) mod limits;
pub(crate) mod load;
pub(crate) mod pushes;
pub(crate) mod refusals;
