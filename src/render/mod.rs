//! What people read, made from the core's records and the plan.

pub mod last_word;
pub mod log;
