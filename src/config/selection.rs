//! Which units of a file are part of the plan, and how often: `--only` and `-m`.

use crate::config::diagnostic::{Diagnostic, Diagnostics, quoted};
use crate::config::resolve::Overrides;
use crate::config::tree_file::TreeFile;
use crate::config::units::{UnitKind, Units};
use crate::spec::{INSTANCES_MAX, PROCESSES_MAX};

/// The word of `-m` that means every process that it does not name.
const ALL: &str = "all";

pub(super) struct Selection {
    /// By unit: whether it is part of the plan.
    pub present: Vec<bool>,
    /// By unit: its instances; `None` for a group and for a process without a number in its name.
    pub instances: Vec<Option<u32>>,
}

impl Selection {
    pub fn new(
        units: &Units<'_>,
        file: &TreeFile,
        overrides: &Overrides,
        errors: &mut Diagnostics,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        let written = |unit: usize| units.list[unit].process()?.instances.as_ref().map(|count| count.value);
        let instances = (0..units.list.len()).map(written).collect();
        let mut selection = Self { present: vec![overrides.only.is_empty(); units.list.len()], instances };
        selection.count(units, &overrides.instances, errors);
        for name in &overrides.only {
            match find(units, "--only", name, errors) {
                Some(unit) => selection.present[unit..units.list[unit].end].fill(true),
                None => continue,
            }
        }
        selection.drop_empty(units, file, warnings);
        selection.bound(units, file, errors);
        selection
    }

    fn count(&mut self, units: &Units<'_>, counts: &[(String, u32)], errors: &mut Diagnostics) {
        for (name, count) in counts {
            if *count > INSTANCES_MAX {
                errors.push(Diagnostic::whole("--instances", format!("{name}={count}: at most {INSTANCES_MAX}")));
            } else if name == ALL && units.find(ALL).is_err() {
                let named = |unit: usize| counts.iter().any(|(name, _)| units.find(name) == Ok(unit));
                for unit in 0..units.list.len() {
                    if units.list[unit].process().is_some() && !named(unit) {
                        self.instances[unit] = Some(*count);
                    }
                }
            } else if let Some(unit) = find(units, "--instances", name, errors) {
                match units.list[unit].kind {
                    UnitKind::Process(_) => self.instances[unit] = Some(*count),
                    UnitKind::Root | UnitKind::Group(_) => {
                        let message = format!("{} is a group; only a process has instances", quoted(name));
                        errors.push(Diagnostic::whole("--instances", message));
                    }
                }
            }
        }
    }

    /// How many nodes a process becomes.
    pub fn nodes(&self, unit: usize) -> u32 {
        if self.present[unit] { self.instances[unit].unwrap_or(1) } else { 0 }
    }

    /// Leaves out processes without instances, and groups in which nothing is left: such a group would end, and with it
    /// what it is in, before anything has begun. The groups of what is left are part of the plan.
    fn drop_empty(&mut self, units: &Units<'_>, file: &TreeFile, warnings: &mut Vec<Diagnostic>) {
        for unit in (1..units.list.len()).rev() {
            match units.list[unit].kind {
                UnitKind::Process(_) => self.present[unit] &= self.instances[unit] != Some(0),
                UnitKind::Root => {}
                UnitKind::Group(written) => {
                    self.present[unit] = units.members(unit).any(|member| self.present[member]);
                    if units.list[unit].end == unit + 1 {
                        let message = format!("the group `{}` has no members and is left out", units.list[unit].path);
                        warnings.push(file.at(written.name.at, message));
                    }
                }
            }
        }
        self.present[0] = true;
        warnings.reverse();
    }

    fn bound(&self, units: &Units<'_>, file: &TreeFile, errors: &mut Diagnostics) {
        let mut total = 0;
        for (index, unit) in units.list.iter().enumerate() {
            let Some(process) = unit.process() else { continue };
            total += self.nodes(index) as usize;
            if total > PROCESSES_MAX {
                let at = process.instances.as_ref().map_or(process.node.name.at, |count| count.at);
                errors.push_with(|| file.at(at, format!("the tree has more than {PROCESSES_MAX} processes")));
                return;
            }
        }
        if total == 0 && errors.is_empty() {
            errors.push_with(|| Diagnostic::whole(file.file(), "there is no process to run"));
        }
    }
}

fn find(units: &Units<'_>, option: &str, name: &str, errors: &mut Diagnostics) -> Option<usize> {
    match units.find(name) {
        Ok(unit) => Some(unit),
        Err(error) => {
            let (message, help) = error.explain(&quoted(name));
            let diagnostic = Diagnostic::whole(option, message);
            errors.push(match help {
                Some(help) => diagnostic.with_help(help),
                None => diagnostic,
            });
            None
        }
    }
}
