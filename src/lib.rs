//! fated runs a tree of processes that lives and dies as one. ARCHITECTURE.md is the way in.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod guard;
pub mod lines;
pub mod name;
pub mod protocol;
pub mod render;
pub mod signal;
pub mod spawn;
pub mod spec;
pub mod start;
pub mod supervisor;
pub mod sys;
pub mod time;
