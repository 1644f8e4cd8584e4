//! What the kernel side promises, with real processes: what a process is given, crowds, idleness, output, terminals.

#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod given;
mod output;
#[path = "../spawn/seccomp.rs"]
mod seccomp;
mod support;
mod terminal;
