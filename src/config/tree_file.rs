//! A tree file as written: every value has its type and its place, no name is looked up yet.
//!
//! A Procfile is read into the same form (`procfile`), and `resolve` makes the plan of either.

use std::collections::HashMap;

use toml::de::DeTable;

use crate::config::diagnostic::{Diagnostic, Diagnostics, Source, quoted};
use crate::config::keys::Scope;
use crate::config::section::{At, Section};
use crate::config::size::Size;
use crate::config::variables::Variable;
use crate::config::words::{Delivery, InputWord, OutputWord, Usage};
use crate::name::Name;
use crate::signal::Signal;
use crate::spec::{Consequence, INSTANCES_MAX, Leftovers, PIPE_MESSAGE_MAX, QueueSpec, Transport};
use crate::time::Limit;

const CAPACITY: u64 = 1 << 20;
const MESSAGE_MAX: u64 = 64 << 10;

/// One file, read and not yet resolved.
#[derive(Clone, Debug)]
pub struct TreeFile {
    pub(super) source: Source,
    pub(super) name: Option<Name>,
    pub(super) lifetime: Option<At<Limit>>,
    pub(super) stop_timeout: Option<At<Limit>>,
    pub(super) die_with_parent: Option<bool>,
    pub(super) env: Vec<Variable>,
    /// A Procfile's `.env`, under the name that it is handed in by.
    pub(super) env_file: Option<At<String>>,
    pub(super) groups: Vec<Written>,
    pub(super) processes: Vec<WrittenProcess>,
    pub(super) queues: Vec<At<QueueSpec>>,
}

/// What groups and processes have in common.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub name: At<Name>,
    pub group: Option<At<String>>,
    pub after: Vec<At<String>>,
    pub lifetime: Option<At<Limit>>,
    pub stop_timeout: Option<At<Limit>>,
    pub on_success: Option<Consequence>,
    pub on_failure: Option<Consequence>,
}

#[derive(Clone, Debug)]
pub(super) struct WrittenProcess {
    pub node: Written,
    pub command: Command,
    pub instances: Option<At<u32>>,
    pub autostart: bool,
    pub queues: Vec<(At<String>, At<Usage>)>,
    pub cwd: Option<At<String>>,
    pub env: Vec<Variable>,
    pub env_files: Vec<At<String>>,
    pub clear_env: bool,
    pub stdin: Option<At<InputWord>>,
    pub stdout: Option<OutputWord>,
    pub stderr: Option<OutputWord>,
    pub success: Option<Vec<u8>>,
    pub stop_signal: Option<Signal>,
    /// The outer `None`: not written.
    pub parent_death_signal: Option<Option<Signal>>,
    pub leftovers: Option<Leftovers>,
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    /// Program and arguments, with `${VAR}` still in them; not empty.
    Words(Vec<At<String>>),
    /// A line for `/bin/sh -c`, and the place of its process among the others, from 0, which gives it its PORT.
    Shell { line: String, index: u32 },
}

impl TreeFile {
    /// Reads a tree file; `file` is its name in messages.
    ///
    /// # Errors
    /// Whatever is wrong with it, as far as that shows without its names being looked up.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let source = Source::new(file, text);
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().replace('\n', " ");
            match error.span() {
                Some(span) if message == "duplicate key" => {
                    let key = text.get(span.clone()).unwrap_or_default();
                    Diagnostics::from(source.at(span.start, format!("{} stands here twice", quoted(key))))
                }
                Some(span) => Diagnostics::from(source.at(span.start, message)),
                None => Diagnostics::from(Diagnostic::whole(file, message)),
            }
        })?;
        let mut errors = Diagnostics::default();
        let file = read_tree(table.get_ref(), &source, &mut errors);
        errors.into_result(file)
    }

    /// The files of variables that it names, each path once, as written, with the place of its first mention.
    pub fn env_files(&self) -> Vec<At<&str>> {
        let own = self.processes.iter().flat_map(|process| &process.env_files);
        let mut files: Vec<At<&str>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for file in self.env_file.iter().chain(own) {
            if seen.insert(file.value.as_str()) {
                files.push(At::new(&file.value, file.at));
            }
        }
        files
    }

    /// An error or warning about what stands at the byte `offset` of the file.
    pub fn at(&self, offset: usize, message: impl Into<String>) -> Diagnostic {
        self.source.at(offset, message)
    }

    /// The file's name in messages.
    pub fn file(&self) -> &str {
        self.source.name()
    }
}

fn read_tree(table: &DeTable<'_>, source: &Source, errors: &mut Diagnostics) -> TreeFile {
    let mut tree = Section::new(Scope::Tree, "", table, source, errors);
    let name = tree.text("name").and_then(|name| match Name::new(&name.value) {
        Ok(checked) => Some(checked),
        Err(error) => {
            tree.error(name.at, format!("`name` in the tree: {error}"));
            None
        }
    });
    let (lifetime, stop_timeout) = (tree.limit("lifetime"), tree.limit("stop_timeout"));
    let (die_with_parent, env) = (tree.flag("die_with_parent"), tree.variables("env"));
    let (queues, groups, processes) = (tree.tables("queue"), tree.tables("group"), tree.tables("process"));
    let queues = read_queues(queues, source, errors);
    let groups = groups
        .into_iter()
        .map(|(name, table)| {
            let label = name.value.to_string();
            let mut section = Section::new(Scope::Group, &label, table, source, errors);
            read_node(&mut section, name)
        })
        .collect();
    let processes = processes
        .into_iter()
        .filter_map(|(name, table)| {
            let label = name.value.to_string();
            let mut section = Section::new(Scope::Process, &label, table, source, errors);
            read_process(&mut section, name)
        })
        .collect();
    let source = source.clone();
    let env_file = None;
    TreeFile { source, name, lifetime, stop_timeout, die_with_parent, env, env_file, groups, processes, queues }
}

fn read_node(section: &mut Section<'_, '_>, name: At<Name>) -> Written {
    let on_exit = section.word::<Consequence>("on_exit").map(|word| word.value);
    let on_success = section.word::<Consequence>("on_success").map(|word| word.value);
    let on_failure = section.word::<Consequence>("on_failure").map(|word| word.value);
    Written {
        name,
        group: section.text("group"),
        after: section.texts("after", false).unwrap_or_default(),
        lifetime: section.limit("lifetime"),
        stop_timeout: section.limit("stop_timeout"),
        on_success: on_success.or(on_exit),
        on_failure: on_failure.or(on_exit),
    }
}

/// `None` where there is no command to run; the errors say why.
fn read_process(section: &mut Section<'_, '_>, name: At<Name>) -> Option<WrittenProcess> {
    let at = name.at;
    let node = read_node(section, name);
    let command = section.command("command");
    let process = WrittenProcess {
        node,
        command: Command::Words(Vec::new()),
        instances: section.number("instances", 1..=INSTANCES_MAX),
        autostart: section.flag("autostart").unwrap_or(true),
        queues: section.word_table("queues"),
        cwd: section.text("cwd"),
        env: section.variables("env"),
        env_files: section.texts("env_file", true).unwrap_or_default(),
        clear_env: section.flag("clear_env").unwrap_or(false),
        stdin: section.word("stdin"),
        stdout: section.word("stdout").map(|word| word.value),
        stderr: section.word("stderr").map(|word| word.value),
        success: section.codes("success"),
        stop_signal: section.signal("stop_signal"),
        parent_death_signal: section.signal_or_none("parent_death_signal"),
        leftovers: section.word("leftovers").map(|word| word.value),
    };
    if section.lacks("command") {
        let place = section.place();
        section.error(at, format!("{place} has no `command`"));
    }
    Some(WrittenProcess { command: Command::Words(command?), ..process })
}

fn read_queues(tables: Vec<(At<Name>, &DeTable<'_>)>, source: &Source, errors: &mut Diagnostics) -> Vec<At<QueueSpec>> {
    let mut queues: Vec<At<QueueSpec>> = Vec::with_capacity(tables.len());
    let mut parts: HashMap<String, Name> = HashMap::new();
    for (name, table) in tables {
        let label = name.value.to_string();
        let mut section = Section::new(Scope::Queue, &label, table, source, errors);
        let queue = read_queue(&mut section, name.value.clone());
        if let Some(other) = parts.insert(name.value.env_part(), name.value) {
            let part = queue.name.env_part();
            let message = format!("the queues `{other}` and `{label}` have the same variable FATED_QUEUE_{part}_PUT");
            section.error(name.at, message);
        }
        queues.push(At::new(queue, name.at));
    }
    queues
}

fn read_queue(section: &mut Section<'_, '_>, name: Name) -> QueueSpec {
    // There is one delivery: the word is checked, and says no more.
    let _: Option<At<Delivery>> = section.word("delivery");
    let transport = section.word("transport").map_or(Transport::Seqpacket, |word| word.value);
    let mut positive = |key| {
        let size = section.size(key)?;
        if size.value == 0 {
            let place = section.place();
            section.error(size.at, format!("`{key}` in {place} cannot be 0"));
            return None;
        }
        Some(size)
    };
    let (capacity, message_max) = (positive("capacity"), positive("message_max"));
    let capacity = capacity.map_or(CAPACITY, |size| size.value);
    let (longest, why) = match transport {
        Transport::Pipe if capacity > PIPE_MESSAGE_MAX as u64 => (PIPE_MESSAGE_MAX as u64, "what a pipe takes whole"),
        Transport::Pipe | Transport::Seqpacket => (capacity, "the queue's capacity"),
    };
    let place = section.place();
    if let Some(written) = &message_max
        && written.value > longest
    {
        let (size, longest) = (Size(written.value), Size(longest));
        section.error(written.at, format!("`message_max` in {place} is {size}, more than {why}, {longest}"));
    }
    let message_max = message_max.map_or(MESSAGE_MAX.min(longest), |size| size.value);
    QueueSpec { name, transport, capacity, message_max }
}
