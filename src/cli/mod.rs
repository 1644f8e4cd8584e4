//! The face: what the user types, what the user sees.

pub mod args;
pub mod check;
pub mod launch;
pub mod plan;
pub mod queue;
