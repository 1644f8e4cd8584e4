//! From text to a plan: tree files and Procfiles are read (`tree_file`, `procfile`) into one written form, and `resolve`
//! makes of it what is to be run, or says with file, line and column what is wrong. `run` is the door without a file.

pub mod diagnostic;
pub mod keys;
pub mod section;
pub mod size;
pub mod tree_file;
pub mod words;
