//! Procfiles: `name: command` lines, each of which runs as `/bin/sh -c LINE` in the root group.

use std::collections::HashSet;

use crate::config::diagnostic::{Diagnostic, Diagnostics, Source, quoted};
use crate::config::env_file::lines;
use crate::config::rebirth::WrittenRestart;
use crate::config::section::At;
use crate::config::tree_file::{Command, TreeFile, Written, WrittenProcess};
use crate::name::Name;

impl TreeFile {
    /// Reads a Procfile; `file` is its name in messages, `env_file` the name under which the variables of the `.env`
    /// beside it will be handed in, if there is one.
    ///
    /// # Errors
    /// Every line that is no process.
    pub fn parse_procfile(file: &str, text: &str, env_file: Option<&str>) -> Result<Self, Diagnostics> {
        let source = Source::new(file, text);
        let mut errors = Diagnostics::default();
        let mut processes = Vec::new();
        let mut seen = HashSet::new();
        for (at, line) in lines(text) {
            match entry(line) {
                Ok(None) => {}
                Ok(Some((name, command))) => {
                    if !seen.insert(name.clone()) {
                        errors.push_with(|| source.at(at, format!("`{name}` stands here twice")));
                    }
                    let index = processes.len() as u32;
                    processes.push(process(At::new(name, at), command, index));
                }
                Err((offset, message)) => errors.push_with(|| source.at(at + offset, message)),
            }
        }
        if processes.is_empty() && errors.is_empty() {
            errors.push(Diagnostic::whole(file, "there is no process in it; a line is for example `web: ./server`"));
        }
        let env_file = env_file.map(|name| At::new(name.to_owned(), 0));
        let file = Self {
            source,
            name: None,
            lifetime: None,
            stop_timeout: None,
            die_with_parent: None,
            env: Vec::new(),
            env_file,
            groups: Vec::new(),
            processes,
            queues: Vec::new(),
        };
        errors.into_result(file)
    }
}

/// Name and command of a line; `None` for a blank line or a comment; an error with its byte offset in the line.
fn entry(line: &str) -> Result<Option<(Name, &str)>, (usize, String)> {
    let body = line.trim();
    if body.is_empty() || body.starts_with('#') {
        return Ok(None);
    }
    let indent = line.len() - line.trim_start().len();
    let Some((name, command)) = body.split_once(':') else {
        return Err((indent, format!("{} is no process; write `name: command`", quoted(body))));
    };
    let checked = Name::new(name.trim_end()).map_err(|error| (indent, format!("{}: {error}", quoted(name))))?;
    let command_at = indent + name.len() + 1;
    let command = command.trim();
    if command.is_empty() {
        return Err((command_at, format!("the command of `{checked}` is empty")));
    }
    if command.contains('\0') {
        return Err((command_at, format!("the command of `{checked}` cannot hold a NUL byte")));
    }
    Ok(Some((checked, command)))
}

fn process(name: At<Name>, command: &str, index: u32) -> WrittenProcess {
    let node = Written {
        name,
        group: None,
        after: Vec::new(),
        lifetime: None,
        stop_timeout: None,
        on_success: None,
        on_failure: None,
        restart: WrittenRestart::default(),
    };
    WrittenProcess {
        node,
        command: Command::Shell { line: command.to_owned(), index },
        instances: None,
        autostart: true,
        queues: Vec::new(),
        cwd: None,
        env: Vec::new(),
        env_files: Vec::new(),
        clear_env: false,
        stdin: None,
        stdout: None,
        stderr: None,
        success: None,
        stop_signal: None,
        parent_death_signal: None,
        leftovers: None,
        ready: None,
        start_timeout: None,
        watchdog: None,
        stop_command: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_processes() {
        let file = TreeFile::parse_procfile("Procfile", "# all\nweb: ./server -p $PORT\r\n\n job-2 :sleep 1\n", None);
        let file = file.unwrap();
        let names: Vec<_> = file.processes.iter().map(|process| process.node.name.value.as_str()).collect();
        assert_eq!(names, ["web", "job-2"]);
        let Command::Shell { line, index } = &file.processes[1].command else { panic!("no shell") };
        assert_eq!((line.as_str(), *index), ("sleep 1", 1));
    }

    #[test]
    fn bad_lines_are_found_where_they_stand() {
        for (text, error) in [
            ("", "Procfile: there is no process in it; a line is for example `web: ./server`"),
            ("web: a\n  what is this\n", "Procfile:2:3: `what is this` is no process; write `name: command`"),
            ("web: a\nweb: b", "Procfile:2:1: `web` stands here twice"),
            ("web:   ", "Procfile:1:5: the command of `web` is empty"),
            ("we b: x", "Procfile:1:1: `we b`: a name has letters, digits, `_`, `-` and `.`, not ' '"),
        ] {
            assert_eq!(TreeFile::parse_procfile("Procfile", text, None).unwrap_err().to_string(), error);
        }
    }
}
