//! One instance of a written process as the plan has it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::diagnostic::Diagnostics;
use crate::config::environment::{Base, Bases};
use crate::config::queues::Queues;
use crate::config::ready::WrittenReady;
use crate::config::resolve::{Overrides, Surroundings, finite};
use crate::config::section::At;
use crate::config::tree_file::{Command, TreeFile, WrittenProcess};
use crate::config::words::{InputWord, OutputWord};
use crate::signal::Signal;
use crate::spec::{DEFAULT_START_TIMEOUT, Leftovers, LifetimeClock, ProcessSpec, Readiness, Session, StopPlan};
use crate::time::Limit;

/// The PORT of a Procfile's first process where nothing else is said, and the distance to the next one's.
const PORT: u32 = 5000;
const PORT_STEP: u32 = 100;

/// What all processes are made from.
pub(super) struct Maker<'a> {
    pub file: &'a TreeFile,
    pub surroundings: &'a Surroundings,
    pub overrides: &'a Overrides,
    pub queues: &'a Queues,
    pub bases: &'a Bases<'a>,
}

impl Maker<'_> {
    pub fn process(
        &self,
        process: &WrittenProcess,
        base: &Base,
        path: &str,
        instance: u32,
        stop_timeout: Limit,
        errors: &mut Diagnostics,
    ) -> ProcessSpec {
        let output = |word: Option<OutputWord>| word.unwrap_or(OutputWord::Prefix).into();
        let signal = self.overrides.stop_signal.or(process.stop_signal).unwrap_or(Signal::TERM);
        let success = self.overrides.success.clone().or_else(|| process.success.clone());
        let mut spec = ProcessSpec {
            command: Vec::new(),
            shared_env: base.shared(),
            own_env: Vec::new(),
            cwd: None,
            instance,
            autostart: process.autostart,
            success: success.unwrap_or_else(|| vec![0]),
            stop: StopPlan { signal, timeout: stop_timeout },
            parent_death_signal: process.parent_death_signal.unwrap_or(Some(Signal::KILL)),
            ready: match process.ready.as_ref().map(|ready| &ready.value) {
                Some(WrittenReady::Known(ready)) => ready.clone(),
                Some(WrittenReady::Exec(_)) | None => Readiness::Started,
            },
            start_timeout: start_timeout(process).0,
            watchdog: process.watchdog.as_ref().and_then(|watchdog| finite(watchdog.value)),
            stop_command: None,
            lifetime_clock: LifetimeClock::Monotonic,
            leftovers: self.overrides.leftovers.or(process.leftovers).unwrap_or(Leftovers::Stop),
            stdin: process.stdin.as_ref().map_or(InputWord::Null, |word| word.value).into(),
            stdout: output(process.stdout),
            stderr: output(process.stderr),
            queues: self.queues.of(process),
            session: Session::Own,
            // A tree is no part of the shell that started it: what that ignores concerns fated alone.
            ignored_signals: Vec::new(),
        };
        let mut environment = self.bases.of_instance(base, process, path, &spec, &self.queues.specs, errors);
        match &process.command {
            Command::Words(words) => {
                let place = format!("the `command` of `{path}`");
                let words = words.iter().filter_map(|word| environment.expand(self.file, word, &place, errors));
                spec.command = words.collect();
                if spec.command.first().is_some_and(|program| program.is_empty()) {
                    let at = process.node.name.at;
                    errors.push_with(|| self.file.at(at, format!("the program that `{path}` runs has no name")));
                }
            }
            Command::Shell { line, index } => {
                spec.command = ["/bin/sh", "-c", line.as_str()].map(OsString::from).to_vec();
                let port = self.port(base, *index, instance, process, errors);
                environment.set("PORT", port.to_string());
            }
        }
        let mut words = |key: &str, words: &[At<String>]| -> Vec<OsString> {
            let place = format!("the `{key}` of `{path}`");
            words.iter().filter_map(|word| environment.expand(self.file, word, &place, errors)).collect()
        };
        if let Some(WrittenReady::Exec(command)) = process.ready.as_ref().map(|ready| &ready.value) {
            spec.ready = Readiness::Exec(words("ready", command));
        }
        spec.stop_command = (!process.stop_command.is_empty()).then(|| words("stop_command", &process.stop_command));
        let mut cwd = self.surroundings.directory.clone();
        if let Some(written) = &process.cwd {
            let place = format!("the `cwd` of `{path}`");
            let expanded = environment.expand(self.file, written, &place, errors);
            cwd.extend(expanded.filter(|path| !path.is_empty()).map(PathBuf::from));
        }
        spec.cwd = Some(cwd);
        spec.own_env = environment.into_own();
        spec
    }

    /// As foreman numbers them: a hundred from process to process in the order of the file, one from instance to
    /// instance.
    fn port(&self, base: &Base, index: u32, instance: u32, process: &WrittenProcess, errors: &mut Diagnostics) -> u64 {
        let first = match base.get("PORT").filter(|port| !port.is_empty()) {
            None => u64::from(PORT),
            Some(text) => text.to_str().and_then(|text| text.parse::<u16>().ok()).map_or_else(
                || {
                    let message = "PORT in the environment or in .env is no port number";
                    errors.push_with(|| self.file.at(process.node.name.at, message));
                    u64::from(PORT)
                },
                u64::from,
            ),
        };
        first + u64::from(index) * u64::from(PORT_STEP) + u64::from(instance - 1)
    }
}

/// How long readiness is waited for, and where in the file that is written. A step has its time unless it is written.
pub(super) fn start_timeout(process: &WrittenProcess) -> (Limit, Option<usize>) {
    let is_step = process.ready.as_ref().is_some_and(|ready| ready.value.is_step());
    match &process.start_timeout {
        Some(written) => (finite(written.value).map_or(Limit::Never, Limit::After), Some(written.at)),
        None if is_step => (Limit::Never, None),
        None => (Limit::After(DEFAULT_START_TIMEOUT), None),
    }
}
