//! The environment that a process is given, and the variables that `${VAR}` finds.
//!
//! In rising order: fated's own environment (unless `clear_env`), the tree's `env`, env files, the process's `env`,
//! fated's variables. A value sees what ranks below it and what stands before it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Diagnostics, nearest, quoted};
use crate::config::env_file::EnvFile;
use crate::config::expand::{ExpandError, Piece, expand, pieces};
use crate::config::section::At;
use crate::config::tree_file::{TreeFile, WrittenProcess};
use crate::config::variables::Variable;
use crate::name::Name;
use crate::spec::{Descriptor, EnvVar, ProcessSpec, QueueEnd, QueueSpec};

/// Variables that speak of fated itself to whoever started it, and would lie to its processes.
const NOT_INHERITED: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What of fated's own environment its processes may see: each name once, as `getenv` would find it, without what is
/// meant for fated alone and without the `FATED_` variables of a fated around this one.
pub fn inherited(env: &[EnvVar]) -> Vec<EnvVar> {
    let mut seen = HashSet::new();
    let own = |name: &OsStr| {
        name.as_encoded_bytes().starts_with(b"FATED_") || NOT_INHERITED.iter().any(|other| name == *other)
    };
    env.iter().filter(|(name, _)| !own(name) && seen.insert(name)).cloned().collect()
}

/// Variables by name; the later value counts, in the first one's place.
#[derive(Clone, Default)]
struct Layers {
    list: Vec<EnvVar>,
    places: HashMap<OsString, usize>,
}

impl Layers {
    fn new(list: Vec<EnvVar>) -> Self {
        let mut layers = Self::default();
        list.into_iter().for_each(|(name, value)| layers.set(name, value));
        layers
    }

    fn set(&mut self, name: OsString, value: OsString) {
        match self.places.get(&name) {
            Some(place) => self.list[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.places.get(OsStr::new(name)).map(|place| self.list[*place].1.as_os_str())
    }
}

/// What all processes have in common.
pub(super) struct Bases<'f> {
    file: &'f TreeFile,
    files: &'f BTreeMap<String, EnvFile>,
    tree: Name,
    full: Base,
    /// For `clear_env`.
    cleared: Base,
    /// Variables of the tree whose values differ from process to process.
    deferred: Vec<&'f Variable>,
}

/// The variables that all instances of a process share.
#[derive(Clone)]
pub(super) struct Base {
    layers: Arc<Layers>,
    shared: Arc<Vec<EnvVar>>,
}

impl Base {
    fn new(layers: Layers) -> Self {
        Self { shared: Arc::new(layers.list.clone()), layers: Arc::new(layers) }
    }

    /// The value of a variable in it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.layers.get(name)
    }

    pub fn shared(&self) -> Arc<Vec<EnvVar>> {
        Arc::clone(&self.shared)
    }
}

impl<'f> Bases<'f> {
    pub fn new(
        file: &'f TreeFile,
        env: &[EnvVar],
        files: &'f BTreeMap<String, EnvFile>,
        tree: &Name,
        errors: &mut Diagnostics,
    ) -> Self {
        let mut full = Layers::new(inherited(env));
        let mut cleared = Layers::default();
        let mut deferred: Vec<&Variable> = Vec::new();
        for variable in &file.env {
            if is_deferred(&variable.value.value, &deferred) {
                deferred.push(variable);
                continue;
            }
            let lookup = |name: &str| match name {
                "FATED_TREE" => Some(Cow::Owned(OsString::from(tree.as_str()))),
                _ => full.get(name).map(|value| Cow::Owned(value.to_owned())),
            };
            match expand(&variable.value.value, lookup) {
                Ok(value) => {
                    cleared.set(OsString::from(&variable.name), value.clone());
                    full.set(OsString::from(&variable.name), value);
                }
                Err(error) => {
                    let known = full.list.iter().filter_map(|(name, _)| name.to_str());
                    errors.push_with(|| explain(file, &error, variable.value.at, "the tree's `env`", known));
                }
            }
        }
        for (name, value) in file.env_file.iter().filter_map(|path| files.get(&path.value)).flat_map(|f| &f.variables) {
            full.set(name.clone(), value.clone());
            cleared.set(name.clone(), value.clone());
        }
        let (full, cleared) = (Base::new(full), Base::new(cleared));
        Self { file, files, tree: tree.clone(), full, cleared, deferred }
    }

    /// The base of one process, for all its instances.
    pub fn of(&self, process: &WrittenProcess) -> Base {
        let base = if process.clear_env { &self.cleared } else { &self.full };
        if process.env_files.is_empty() {
            return base.clone();
        }
        let mut layers = Layers::clone(&base.layers);
        for (name, value) in
            process.env_files.iter().filter_map(|f| self.files.get(&f.value)).flat_map(|f| &f.variables)
        {
            layers.set(name.clone(), value.clone());
        }
        Base::new(layers)
    }

    /// The environment of one instance, its own variables filled in; `spec` has its queues already.
    pub fn of_instance<'b>(
        &'b self,
        base: &'b Base,
        process: &WrittenProcess,
        path: &str,
        spec: &ProcessSpec,
        queues: &[QueueSpec],
        errors: &mut Diagnostics,
    ) -> Environment<'b> {
        let fixed = [
            ("FATED_TREE", self.tree.to_string()),
            ("FATED_PROCESS", path.to_owned()),
            ("FATED_INSTANCE", spec.instance.to_string()),
        ];
        let mut environment =
            Environment { base, below: None, own: Layers::default(), at_start: at_start(spec, queues) };
        environment.at_start.extend(fixed.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let in_files: HashSet<&OsStr> = process
            .env_files
            .iter()
            .filter_map(|file| self.files.get(&file.value))
            .flat_map(|file| file.variables.iter().map(|(name, _)| name.as_os_str()))
            .collect();
        let deferred = self.deferred.iter().copied().filter(|one| !in_files.contains(OsStr::new(&one.name)));
        // The tree's values see fated's environment, also where the process itself does not.
        environment.below = Some(&self.full);
        deferred.for_each(|variable| environment.set_expanded(self.file, variable, "the tree's `env`", errors));
        environment.below = None;
        let place = format!("the `env` of `{path}`");
        process.env.iter().for_each(|variable| environment.set_expanded(self.file, variable, &place, errors));
        for (name, value) in fixed {
            environment.own.set(OsString::from(name), OsString::from(value));
        }
        environment
    }
}

/// The environment of one instance.
pub(super) struct Environment<'b> {
    base: &'b Base,
    /// Where a variable is looked for last.
    below: Option<&'b Base>,
    own: Layers,
    /// fated's variables whose values are known before the start.
    at_start: HashMap<String, String>,
}

impl Environment<'_> {
    /// The text with its variables replaced; `None` where that is an error, which is reported for `place`.
    pub fn expand(
        &self,
        file: &TreeFile,
        text: &At<String>,
        place: &str,
        errors: &mut Diagnostics,
    ) -> Option<OsString> {
        let lookup = |name: &str| {
            let known = self.at_start.get(name).map(OsStr::new);
            let set = known.or_else(|| self.own.get(name)).or_else(|| self.base.get(name));
            set.or_else(|| self.below?.get(name)).map(Cow::Borrowed)
        };
        match expand(&text.value, lookup) {
            Ok(expanded) => Some(expanded),
            Err(error) => {
                let set = self.own.list.iter().chain(&self.base.layers.list).filter_map(|(name, _)| name.to_str());
                let known = set.chain(self.at_start.keys().map(String::as_str));
                errors.push_with(|| explain(file, &error, text.at, place, known));
                None
            }
        }
    }

    fn set_expanded(&mut self, file: &TreeFile, variable: &Variable, place: &str, errors: &mut Diagnostics) {
        if let Some(value) = self.expand(file, &variable.value, place, errors) {
            self.own.set(OsString::from(&variable.name), value);
        }
    }

    /// Adds a variable of its own.
    pub fn set(&mut self, name: &str, value: String) {
        self.own.set(OsString::from(name), OsString::from(value));
    }

    /// Its own variables, for the plan.
    pub fn into_own(self) -> Vec<EnvVar> {
        self.own.list
    }
}

/// Whether a value of the tree's `env` depends on the process: by itself or through one that does.
fn is_deferred(text: &str, deferred: &[&Variable]) -> bool {
    let names = pieces(text).unwrap_or_default();
    names.iter().any(|piece| match piece {
        Piece::Literal(_) | Piece::Variable("FATED_TREE") => false,
        Piece::Variable(name) => {
            matches!(*name, "FATED_PROCESS" | "FATED_INSTANCE" | "FATED_PIDFD")
                || name.starts_with("FATED_QUEUE_")
                || deferred.iter().any(|one| one.name == *name)
        }
    })
}

/// The names and values of the descriptors and queues that an instance is given.
fn at_start(spec: &ProcessSpec, queues: &[QueueSpec]) -> HashMap<String, String> {
    let mut known = HashMap::new();
    for (number, descriptor) in spec.descriptors() {
        let name = match descriptor {
            Descriptor::SupervisorPidfd => "FATED_PIDFD".to_owned(),
            Descriptor::Queue(queue, end) => {
                let queue = &queues[queue.index()];
                let part = queue.name.env_part();
                known.insert(format!("FATED_QUEUE_{part}_MAX"), queue.message_max.to_string());
                match end {
                    QueueEnd::Put => format!("FATED_QUEUE_{part}_PUT"),
                    QueueEnd::Get => format!("FATED_QUEUE_{part}_GET"),
                }
            }
        };
        known.insert(name, number.to_string());
    }
    known
}

fn explain<'a>(
    file: &TreeFile,
    error: &ExpandError,
    at: usize,
    place: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    let diagnostic = file.at(at, format!("{error}, in {place}"));
    match error {
        ExpandError::Unset(name) => match nearest(name, known) {
            Some(near) => diagnostic.with_help(format!("did you mean {}?", quoted(near))),
            None => diagnostic,
        },
        ExpandError::Unclosed | ExpandError::NoName(_) | ExpandError::OnlyInEnvironment(_) => diagnostic,
    }
}
