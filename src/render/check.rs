//! What `fated check` prints: the plan with its groups indented, and for every deadline where it comes from.

use core::fmt::{self, Write};

use crate::config::diagnostic::visible;
use crate::config::resolve::{Deadline, Origin, Resolved};
use crate::config::size::Size;
use crate::name::NodeId;
use crate::spec::{
    Consequence, Input, Leftovers, NodeKind, NodeSpec, Output, ProcessSpec, QueueEnd, QueueSpec, Transport, TreeSpec,
};

/// The plan of one file.
pub struct Check<'a> {
    /// The file's name as the user gave it.
    pub file: &'a str,
    pub resolved: &'a Resolved,
    /// For each queue the bytes that the kernel gives it; `None` where it gives none at all.
    pub granted: &'a [Option<u64>],
}

impl fmt::Display for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.resolved.spec;
        writeln!(f, "tree {} ({})", spec.name, visible(self.file))?;
        if let Some(die) = self.resolved.die_with_parent {
            field(f, 1, "die_with_parent", die)?;
        }
        let mut deadlines = self.resolved.deadlines.as_slice();
        for id in spec.ids() {
            // Both lists are in the order of the nodes.
            let own = deadlines.partition_point(|deadline| deadline.node <= id);
            let (of_node, rest) = deadlines.split_at(own);
            deadlines = rest;
            node(f, spec, id, of_node)?;
            if id == NodeId::ROOT {
                spec.queues.iter().zip(self.granted).try_for_each(|(one, granted)| queue(f, one, *granted))?;
            }
        }
        Ok(())
    }
}

fn node(f: &mut fmt::Formatter<'_>, spec: &TreeSpec, id: NodeId, deadlines: &[Deadline]) -> fmt::Result {
    let node = spec.node(id);
    let depth = depth(spec, node);
    let name = node.path.rsplit('/').next().unwrap_or_default();
    match &node.kind {
        NodeKind::Group(_) if node.parent.is_none() => {}
        NodeKind::Group(_) => writeln!(f, "{:width$}group {name}", "", width = 2 * depth)?,
        NodeKind::Process(_) => writeln!(f, "{:width$}process {name}", "", width = 2 * depth)?,
    }
    if let Some(process) = node.process() {
        field(f, depth + 1, "command", command(process))?;
    }
    if !node.after.is_empty() {
        field(f, depth + 1, "after", after(spec, node))?;
    }
    if node.parent.is_some() {
        let fate = &node.fate;
        field(
            f,
            depth + 1,
            "fate",
            format_args!("success {}, failure {}", word(fate.on_success), word(fate.on_failure)),
        )?;
    }
    for Deadline { key, value, origin, .. } in deadlines {
        field(f, depth + 1, key, format_args!("{value} ({})", OriginText(origin)))?;
    }
    match node.process() {
        Some(process) => details(f, spec, process, depth + 1),
        None => Ok(()),
    }
}

/// What of a process is not as it is by default, and its queues.
fn details(f: &mut fmt::Formatter<'_>, spec: &TreeSpec, process: &ProcessSpec, depth: usize) -> fmt::Result {
    field(f, depth, "stop_signal", process.stop.signal)?;
    for (name, end, number) in queue_ends(spec, process) {
        field(f, depth, "queue", format_args!("{end} {name} (descriptor {number})"))?;
    }
    if let Some(cwd) = &process.cwd {
        field(f, depth, "cwd", visible(&cwd.to_string_lossy()))?;
    }
    if !process.autostart {
        field(f, depth, "autostart", false)?;
    }
    if process.success != [0] {
        let codes: Vec<String> = process.success.iter().map(u8::to_string).collect();
        field(f, depth, "success", codes.join(", "))?;
    }
    match process.leftovers {
        Leftovers::Stop => {}
        Leftovers::Wait => field(f, depth, "leftovers", "wait")?,
        Leftovers::Ignore => field(f, depth, "leftovers", "ignore")?,
    }
    match process.parent_death_signal {
        Some(crate::signal::Signal::KILL) => {}
        Some(signal) => field(f, depth, "parent_death_signal", signal)?,
        None => field(f, depth, "parent_death_signal", "none")?,
    }
    if process.stdin == Input::Inherit {
        field(f, depth, "stdin", "inherit")?;
    }
    for (name, output) in [("stdout", &process.stdout), ("stderr", &process.stderr)] {
        match output {
            Output::Prefix => {}
            Output::Inherit => field(f, depth, name, "inherit")?,
            Output::Null => field(f, depth, name, "null")?,
        }
    }
    Ok(())
}

fn field(f: &mut fmt::Formatter<'_>, depth: usize, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{:width$}{name:<13} {value}", "", width = 2 * depth)
}

fn queue(f: &mut fmt::Formatter<'_>, queue: &QueueSpec, granted: Option<u64>) -> fmt::Result {
    let transport = match queue.transport {
        Transport::Seqpacket => "seqpacket",
        Transport::Pipe => "pipe",
    };
    let (capacity, longest) = (Size(queue.capacity), Size(queue.message_max));
    writeln!(f, "  queue {}", queue.name)?;
    field(f, 2, "transport", transport)?;
    match granted {
        Some(bytes) if bytes == queue.capacity => field(f, 2, "capacity", capacity)?,
        Some(bytes) => {
            field(f, 2, "capacity", format_args!("{} ({capacity} written; what the kernel gives)", Size(bytes)))?
        }
        None => field(f, 2, "capacity", format_args!("{capacity} (the kernel refuses to make this queue)"))?,
    }
    field(f, 2, "message_max", longest)
}

/// How many groups a node is in, the root counted.
fn depth(spec: &TreeSpec, node: &NodeSpec) -> usize {
    core::iter::successors(node.parent, |parent| spec.node(*parent).parent).count()
}

/// The command as a shell would take it, on one line.
fn command(process: &ProcessSpec) -> String {
    let words: Vec<String> = process.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    visible(&shell_words::join(words))
}

/// The paths, with the instances of one process named together where all are meant.
fn after(spec: &TreeSpec, node: &NodeSpec) -> String {
    let mut text = String::new();
    let mut rest = node.after.as_slice();
    while let Some((first, others)) = rest.split_first() {
        let family = family(spec.node(*first));
        let same = others.iter().take_while(|other| family.is_some() && self::family(spec.node(**other)) == family);
        let count = same.count();
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&spec.node(*first).path);
        if let Some(last) = others[..count].last() {
            // Writing to a string does not fail.
            let _ = write!(text, " to {}", spec.node(*last).path);
        }
        rest = &others[count..];
    }
    text
}

/// The path of a process without the number of its instance.
fn family(node: &NodeSpec) -> Option<&str> {
    let instance = node.process()?.instance.to_string();
    node.path.strip_suffix(&instance)?.strip_suffix('.')
}

fn queue_ends<'a>(
    spec: &'a TreeSpec,
    process: &'a ProcessSpec,
) -> impl Iterator<Item = (&'a str, &'static str, i32)> + 'a {
    process.descriptors().filter_map(|(number, descriptor)| match descriptor {
        crate::spec::Descriptor::SupervisorPidfd => None,
        crate::spec::Descriptor::Queue(queue, end) => {
            let end = match end {
                QueueEnd::Put => "put to",
                QueueEnd::Get => "get from",
            };
            Some((spec.queues[queue.index()].name.as_str(), end, number))
        }
    })
}

fn word(consequence: Consequence) -> &'static str {
    match consequence {
        Consequence::End => "end",
        Consequence::Ignore => "ignore",
    }
}

struct OriginText<'a>(&'a Origin);

impl fmt::Display for OriginText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Default => f.write_str("default"),
            Origin::File { line } => write!(f, "line {line}"),
            Origin::Option(option) => f.write_str(option),
            Origin::Computed => f.write_str("worst case of its members"),
            Origin::Shortened { group } if group.is_empty() => {
                f.write_str("default, shortened to fit the tree's stop_timeout")
            }
            Origin::Shortened { group } => write!(f, "default, shortened to fit the stop_timeout of {group}"),
        }
    }
}
