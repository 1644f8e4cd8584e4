//! From the command line to a plan: files are found and read here, and made sense of in `config`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cli::args::{LifeArgs, RunArgs, UpArgs};
use crate::config::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::config::env_file::EnvFile;
use crate::config::resolve::{Overrides, Resolved, Surroundings, resolve};
use crate::config::run::{RunRequest, run_tree};
use crate::config::tree_file::TreeFile;
use crate::name::Name;
use crate::signal::Signal;
use crate::spec::{EnvVar, RunDoor, Session, TreeSpec};
use crate::sys::files::{FILE_MAX, ReadError, read_bounded};

const TREE_FILE: &str = "fated.toml";
const PROCFILE: &str = "Procfile";
const DOT_ENV: &str = ".env";

/// What the shell around the core is told beyond the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `None`: nobody said.
    pub die_with_parent: Option<bool>,
    pub watch_pids: Vec<u32>,
    pub watch_fds: Vec<i32>,
    pub guard: bool,
    /// Steps from the usual log: negative for less.
    pub verbosity: i16,
}

impl Options {
    fn new(life: &LifeArgs) -> Self {
        Self {
            die_with_parent: life.die_with_parent,
            watch_pids: life.watch_pid.clone(),
            watch_fds: life.watch_fd.clone(),
            guard: !life.no_guard,
            verbosity: i16::from(life.verbose) - i16::from(life.quiet),
        }
    }
}

/// What fated was started with.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub env: Vec<EnvVar>,
    /// The working directory.
    pub directory: PathBuf,
}

impl Entry {
    /// Reads the environment and the working directory of this process.
    ///
    /// # Errors
    /// The working directory cannot be found out: it was removed.
    pub fn of_this_process() -> Result<Self, Diagnostics> {
        let directory = std::env::current_dir()
            .map_err(|error| Diagnostic::whole("the working directory", ReadError::from(error).to_string()))?;
        Ok(Self { env: std::env::vars_os().collect(), directory })
    }
}

/// The plan of `fated run`.
pub fn of_run(args: RunArgs, session: Session, env: Vec<EnvVar>, ignored_signals: Vec<Signal>) -> (TreeSpec, Options) {
    let options = Options::new(&args.life);
    let signal_map = signal_map(&args.life);
    let spec = run_tree(RunRequest {
        command: args.command,
        door: RunDoor { signal_group: args.group, preserve_status: args.preserve_status },
        lifetime: args.life.lifetime,
        stop_signal: args.life.stop_signal,
        stop_timeout: args.life.stop_timeout,
        success: args.life.success,
        leftovers: args.life.leftovers,
        session,
        env,
        ignored_signals,
        signal_map,
    });
    (spec, options)
}

/// Each signal once: what is said last counts.
fn signal_map(life: &LifeArgs) -> Vec<(Signal, Option<Signal>)> {
    life.signal_map.iter().map(|map| (map.from, map.to)).collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// The plan of `fated up`.
///
/// # Errors
/// The file cannot be found or read, or something is wrong in it; all that was found.
pub fn of_up(args: &UpArgs, entry: Entry) -> Result<(Resolved, Options), Diagnostics> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => default_file(&entry.directory)?,
    };
    let life = &args.life;
    let overrides = Overrides {
        lifetime: life.lifetime,
        stop_signal: life.stop_signal,
        stop_timeout: life.stop_timeout,
        die_with_parent: life.die_with_parent,
        leftovers: life.leftovers,
        success: life.success.clone(),
        only: args.only.clone(),
        instances: args.instances.clone(),
    };
    let mut resolved = of_file(&file, entry, &overrides)?;
    resolved.spec.signal_map = signal_map(life);
    let options = Options { die_with_parent: resolved.die_with_parent, ..Options::new(life) };
    Ok((resolved, options))
}

/// The file that is meant where none is named.
///
/// # Errors
/// There is none.
pub fn default_file(directory: &Path) -> Result<PathBuf, Diagnostics> {
    let there = |name: &&str| directory.join(name).try_exists().unwrap_or(true);
    match [TREE_FILE, PROCFILE].into_iter().find(there) {
        Some(name) => Ok(PathBuf::from(name)),
        None => {
            let missing = Diagnostic::whole(directory.to_string_lossy(), "neither fated.toml nor Procfile is here");
            Err(missing.with_help("name a file: a tree file (.toml) or a Procfile").into())
        }
    }
}

/// Reads one file and makes its plan.
///
/// # Errors
/// It cannot be read, or something is wrong in it.
pub fn of_file(path: &Path, entry: Entry, overrides: &Overrides) -> Result<Resolved, Diagnostics> {
    let shown = path.to_string_lossy();
    let full = entry.directory.join(path);
    let text = read_text(&full, &shown)?;
    let directory = full.parent().unwrap_or(Path::new("/")).to_path_buf();
    let is_tree_file = path.extension().is_some_and(|extension| extension == "toml");
    let file = if is_tree_file {
        TreeFile::parse(&shown, &text)?
    } else {
        let env_file = directory.join(DOT_ENV).try_exists().unwrap_or(true).then_some(DOT_ENV);
        TreeFile::parse_procfile(&shown, &text, env_file)?
    };
    let surroundings = Surroundings {
        env: entry.env,
        default_name: default_name(&full, is_tree_file),
        env_files: env_files(&file, path, &directory)?,
        directory,
    };
    resolve(&file, &surroundings, overrides)
}

/// The file's stem; the name of the directory for the two names that every project has.
fn default_name(full: &Path, is_tree_file: bool) -> Name {
    let own = full.file_name().is_none_or(|name| name == TREE_FILE) || !is_tree_file;
    let from = if own { full.parent().and_then(Path::file_name) } else { full.file_stem() };
    let text = from.map_or_else(|| OsString::from("root"), OsString::from);
    Name::lossy(&text.to_string_lossy())
}

/// Reads the files of variables, which stand beside the tree file; all errors of all of them.
fn env_files(file: &TreeFile, path: &Path, directory: &Path) -> Result<BTreeMap<String, EnvFile>, Diagnostics> {
    let mut files = BTreeMap::new();
    let mut errors = Diagnostics::default();
    for name in file.env_files() {
        let shown = path.with_file_name(name.value);
        let shown = shown.to_string_lossy();
        match read_bounded(&directory.join(name.value), FILE_MAX) {
            Err(error) => errors.push_with(|| file.at(name.at, format!("cannot read {shown}: {error}"))),
            Ok(bytes) => match decode(&shown, bytes).and_then(|text| EnvFile::parse(&shown, &text)) {
                Ok(variables) => {
                    files.insert(name.value.to_owned(), variables);
                }
                Err(wrong) => errors.extend(wrong),
            },
        }
    }
    errors.into_result(files)
}

fn read_text(path: &Path, shown: &str) -> Result<String, Diagnostics> {
    let bytes =
        read_bounded(path, FILE_MAX).map_err(|error| Diagnostic::whole(shown, format!("cannot read it: {error}")))?;
    decode(shown, bytes)
}

fn decode(shown: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    Ok(Source::decode(shown, bytes)?)
}
