//! From a written file to the plan: names become nodes, defaults are filled in, deadlines are made to fit.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::config::budget::{self, Asked, Budgets};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::env_file::EnvFile;
use crate::config::environment::Bases;
use crate::config::order::Order;
use crate::config::process::Maker;
use crate::config::queues::Queues;
use crate::config::selection::Selection;
use crate::config::size::Size;
use crate::config::tree_file::TreeFile;
use crate::config::units::{UnitKind, Units};
use crate::config::words::InputWord;
use crate::name::{Name, NodeId};
use crate::signal::Signal;
use crate::spec::{
    Consequence, DEFAULT_STOP_TIMEOUT, Door, EnvVar, Fate, GroupSpec, Leftovers, NodeKind, NodeSpec, ProcessSpec,
    StopPlan, TreeSpec,
};
use crate::time::{Duration, Limit};

/// The most entries of `after` that a plan holds, all instances counted one by one.
pub const AFTER_MAX: usize = 1_000_000;

/// The most bytes of commands and own variables that the processes of a plan come to.
pub const TEXT_MAX: usize = 64 << 20;

/// What the plan needs from outside of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// fated's own environment.
    pub env: Vec<EnvVar>,
    /// The tree file's directory, absolute: where relative paths start.
    pub directory: PathBuf,
    /// The tree's name where the file gives none.
    pub default_name: Name,
    /// The files of `TreeFile::env_files`, by their names as written there.
    pub env_files: BTreeMap<String, EnvFile>,
}

/// What options say; they win over the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Of the tree; zero and infinity for none.
    pub lifetime: Option<Limit>,
    /// Of every process.
    pub stop_signal: Option<Signal>,
    /// The tree's budget.
    pub stop_timeout: Option<Limit>,
    pub die_with_parent: Option<bool>,
    /// Of every process and of the tree's strays.
    pub leftovers: Option<Leftovers>,
    /// Of every process.
    pub success: Option<Vec<u8>>,
    /// Only these, with their groups; empty for all.
    pub only: Vec<String>,
    /// Instances by process; `all` for all others.
    pub instances: Vec<(String, u32)>,
}

/// The plan and what to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub spec: TreeSpec,
    /// `None` where neither the file nor an option says.
    pub die_with_parent: Option<bool>,
    pub warnings: Vec<Diagnostic>,
    /// In the order of the nodes.
    pub deadlines: Vec<Deadline>,
}

/// One limit of one node, and why it has this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    pub node: NodeId,
    /// The key of the tree file.
    pub key: &'static str,
    pub value: Limit,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Written in this line of the tree file.
    File {
        line: u32,
    },
    /// Given by this option.
    Option(&'static str),
    /// The worst case of a group's members.
    Computed,
    /// The default, shortened to fit the stop timeout that is written for this group; empty for the tree.
    Shortened {
        group: String,
    },
}

/// Makes the plan of a file.
///
/// # Errors
/// Everything that is wrong with the names in it, its order, its deadlines and its variables.
pub fn resolve(file: &TreeFile, surroundings: &Surroundings, overrides: &Overrides) -> Result<Resolved, Diagnostics> {
    let (mut errors, mut warnings) = (Diagnostics::default(), Vec::new());
    let units = Units::new(file, &mut errors);
    let selection = Selection::new(&units, file, overrides, &mut errors, &mut warnings);
    let queues = Queues::new(&units, file, &selection, &mut errors, &mut warnings);
    check_stdin(&units, file, &selection, &mut errors);
    let Some(order) = Order::new(&units, file, &mut errors) else { return Err(sorted(errors)) };
    let asked = asked(&units, file, overrides);
    let budgets = budget::fit(&units, &order, &asked, &selection.present, file, (&mut errors, &mut warnings));
    let name = file.name.clone().unwrap_or_else(|| surroundings.default_name.clone());
    let bases = Bases::new(file, &surroundings.env, &surroundings.env_files, &name, &mut errors);
    let maker = Maker { file, surroundings, overrides, queues: &queues, bases: &bases };
    let mut build = Build {
        units: &units,
        file,
        selection: &selection,
        order: &order,
        asked: &asked,
        budgets: &budgets,
        overrides,
        first: Vec::new(),
        nodes: Vec::new(),
        deadlines: Vec::new(),
        text: 0,
    };
    if build.nodes(&maker, &mut errors) {
        build.afters(&mut errors);
    }
    let Build { nodes, deadlines, .. } = build;
    let signal = overrides.stop_signal.unwrap_or(Signal::TERM);
    let timeout = asked[0].limit().unwrap_or(Limit::Never).at_most(DEFAULT_STOP_TIMEOUT);
    let spec = TreeSpec {
        name,
        door: Door::Up,
        nodes,
        queues: queues.specs,
        strays: overrides.leftovers.unwrap_or(Leftovers::Stop),
        stray_stop: StopPlan { signal, timeout },
        signal_map: Vec::new(),
    };
    let die_with_parent = overrides.die_with_parent.or(file.die_with_parent);
    errors.into_result(Resolved { spec, die_with_parent, warnings, deadlines })
}

fn sorted(errors: Diagnostics) -> Diagnostics {
    match errors.into_result(()) {
        Ok(()) => Diagnostics::default(),
        Err(errors) => errors,
    }
}

/// fated has one standard input; two readers of it would each get a part.
fn check_stdin(units: &Units<'_>, file: &TreeFile, selection: &Selection, errors: &mut Diagnostics) {
    let mut reader: Option<&str> = None;
    for (index, unit) in units.list.iter().enumerate().filter(|(index, _)| selection.present[*index]) {
        let Some(stdin) = unit.process().and_then(|process| process.stdin.as_ref()) else { continue };
        if stdin.value != InputWord::Inherit {
            continue;
        }
        if selection.nodes(index) > 1 {
            let message = format!("`{}` has several instances; only one process can inherit stdin", unit.path);
            errors.push_with(|| file.at(stdin.at, message));
        } else if let Some(first) = reader {
            let message = format!("`{first}` inherits stdin already; only one process can");
            errors.push_with(|| file.at(stdin.at, message));
        }
        reader = Some(&unit.path);
    }
}

/// The stop timeout that is asked for, by unit.
fn asked(units: &Units<'_>, file: &TreeFile, overrides: &Overrides) -> Vec<Asked> {
    let of_file = |limit: &Option<crate::config::section::At<Limit>>| match limit {
        Some(limit) => Asked::File(limit.value, limit.at),
        None => Asked::Nothing,
    };
    let mut asked: Vec<Asked> = units
        .list
        .iter()
        .map(|unit| of_file(unit.written().map_or(&file.stop_timeout, |written| &written.stop_timeout)))
        .collect();
    if let Some(limit) = overrides.stop_timeout {
        asked[0] = Asked::Option(limit);
    }
    asked
}

/// The nodes under construction.
struct Build<'a> {
    units: &'a Units<'a>,
    file: &'a TreeFile,
    selection: &'a Selection,
    order: &'a Order,
    asked: &'a [Asked],
    budgets: &'a Budgets,
    overrides: &'a Overrides,
    /// By unit: its first node, where it has any.
    first: Vec<NodeId>,
    nodes: Vec<NodeSpec>,
    deadlines: Vec<Deadline>,
    /// Bytes of commands and variables so far.
    text: usize,
}

/// The bytes of a process's command and own variables.
fn text_of(process: &ProcessSpec) -> usize {
    let variables = process.own_env.iter().flat_map(|(name, value)| [name, value]);
    process.command.iter().chain(variables).map(|text| text.len()).sum()
}

impl Build<'_> {
    /// Makes the nodes of all units; whether all were made.
    fn nodes(&mut self, maker: &Maker<'_>, errors: &mut Diagnostics) -> bool {
        let mut paths: HashMap<String, usize> = HashMap::new();
        let units = self.units;
        for (index, unit) in units.list.iter().enumerate() {
            self.first.push(NodeId(self.nodes.len() as u32));
            if !self.selection.present[index] {
                continue;
            }
            let Some(process) = unit.process() else {
                let stop_budget = self.asked[index].limit();
                self.push(index, unit.path.clone(), NodeKind::Group(GroupSpec { stop_budget }));
                continue;
            };
            let base = maker.bases.of(process);
            let numbered = self.selection.instances[index].is_some();
            for instance in 1..=self.selection.nodes(index) {
                let path = if numbered { format!("{}.{instance}", unit.path) } else { unit.path.clone() };
                if let Some(other) = paths.insert(path.clone(), index).filter(|other| *other != index) {
                    let other = units.list[other].label();
                    let message = format!("an instance of `{other}` and one of `{}` are both `{path}`", unit.path);
                    errors.push_with(|| self.file.at(process.node.name.at, message));
                }
                let stop_timeout = self.budgets.limits[index];
                let spec = maker.process(process, &base, &unit.path, instance, stop_timeout, errors);
                self.text += text_of(&spec);
                if self.text > TEXT_MAX {
                    let most = Size(TEXT_MAX as u64);
                    let message = format!("the commands and variables of all processes come to more than {most}");
                    errors.push_with(|| self.file.at(process.node.name.at, message));
                    return false;
                }
                self.push(index, path, NodeKind::Process(Box::new(spec)));
            }
        }
        true
    }

    fn push(&mut self, unit: usize, path: String, kind: NodeKind) {
        let id = NodeId(self.nodes.len() as u32);
        let written = self.units.list[unit].written();
        let lifetime = match (written, self.overrides.lifetime) {
            (None, Some(limit)) => Some((limit, Origin::Option("--lifetime"))),
            (None, None) => self.file.lifetime.as_ref().map(|limit| (limit.value, self.line(limit.at))),
            (Some(written), _) => written.lifetime.as_ref().map(|limit| (limit.value, self.line(limit.at))),
        };
        let lifetime = lifetime.and_then(|(limit, origin)| Some((finite(limit)?, origin)));
        if let Some((span, origin)) = lifetime.clone() {
            self.deadlines.push(Deadline { node: id, key: "lifetime", value: Limit::After(span), origin });
        }
        let origin = self.stop_origin(unit);
        self.deadlines.push(Deadline { node: id, key: "stop_timeout", value: self.budgets.limits[unit], origin });
        let parent = written.map(|_| self.first[self.units.list[unit].parent]);
        let fate = self.fate(unit);
        let lifetime = lifetime.map(|(span, _)| span);
        self.nodes.push(NodeSpec { path, parent, after: Vec::new(), fate, lifetime, kind });
    }

    fn line(&self, at: usize) -> Origin {
        Origin::File { line: self.file.source.position(at).line }
    }

    fn stop_origin(&self, unit: usize) -> Origin {
        match (self.asked[unit], self.units.list[unit].kind, self.budgets.shortened_by[unit]) {
            (Asked::File(_, at), ..) => self.line(at),
            (Asked::Option(_), ..) => Origin::Option("--stop-timeout"),
            (Asked::Nothing, UnitKind::Root | UnitKind::Group(_), _) => Origin::Computed,
            (Asked::Nothing, UnitKind::Process(_), None) => Origin::Default,
            (Asked::Nothing, UnitKind::Process(_), Some(group)) => {
                Origin::Shortened { group: self.units.list[group].path.clone() }
            }
        }
    }

    /// A process that gets from a queue ends with success when the queue has ended, and its siblings go on.
    fn fate(&self, unit: usize) -> Fate {
        let unit = &self.units.list[unit];
        let gets = unit.process().is_some_and(|process| process.queues.iter().any(|(_, usage)| usage.value.gets()));
        let on_success = if gets { Consequence::Ignore } else { Consequence::End };
        let written = unit.written();
        Fate {
            on_success: written.and_then(|written| written.on_success).unwrap_or(on_success),
            on_failure: written.and_then(|written| written.on_failure).unwrap_or(Consequence::End),
        }
    }

    /// Every instance is after every instance; what is left out of the plan is left out of `after`.
    fn afters(&mut self, errors: &mut Diagnostics) {
        let mut total = 0;
        for unit in 0..self.units.list.len() {
            let others = self.order.afters[unit].iter().filter(|other| self.selection.present[other.value]);
            let nodes_of = |unit: usize| {
                let count = if self.units.list[unit].process().is_some() { self.selection.nodes(unit) } else { 1 };
                let first = self.first[unit].0;
                (first..first + count).map(NodeId)
            };
            if !self.selection.present[unit] || self.order.afters[unit].is_empty() {
                continue;
            }
            let after: Vec<NodeId> = others.clone().flat_map(|other| nodes_of(other.value)).collect();
            total += after.len() * nodes_of(unit).len();
            if total > AFTER_MAX {
                let at = self.order.afters[unit].first().map_or(0, |other| other.at);
                let message = format!("the `after` of all instances comes to more than {AFTER_MAX} entries");
                let help = "put the instances into a group and name the group";
                errors.push_with(|| self.file.at(at, message).with_help(help));
                return;
            }
            for node in nodes_of(unit) {
                self.nodes[node.index()].after = after.clone();
            }
        }
    }
}

fn finite(limit: Limit) -> Option<Duration> {
    match limit {
        Limit::After(span) if !span.is_zero() => Some(span),
        Limit::After(_) | Limit::Never => None,
    }
}
