//! The four demands, with real processes: what holds when anything is killed, when time runs out, when a stop is asked
//! for, and what fated says and gives back.

#[path = "../common/mod.rs"]
mod common;

mod edges;
mod job_control;
mod kills;
mod leftovers;
mod lifetime;
mod signals;
mod status;
mod stop;
mod ties;
