//! fated runs a tree of processes that lives and dies as one. ARCHITECTURE.md is the way in.

pub mod cli;
pub mod config;
pub mod exit;
pub mod name;
pub mod render;
pub mod signal;
pub mod spec;
pub mod start;
pub mod supervisor;
pub mod sys;
pub mod time;
