//! From text to a plan: tree files and Procfiles are read (`tree_file`, `procfile`) into one written form, and `resolve`
//! makes of it what is to be run, or says with file, line and column what is wrong. `run` is the door without a file.

mod budget;
pub mod diagnostic;
pub mod env_file;
pub mod environment;
pub mod expand;
pub mod keys;
mod order;
mod process;
pub mod procfile;
mod queues;
pub mod resolve;
pub mod run;
pub mod section;
mod selection;
pub mod size;
#[cfg(test)]
mod tests;
pub mod tree_file;
mod units;
pub mod variables;
pub mod words;
