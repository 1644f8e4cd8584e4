//! Which queues are part of the plan, and who uses them.

use std::collections::HashMap;

use crate::config::diagnostic::{Diagnostic, Diagnostics, quoted};
use crate::config::selection::Selection;
use crate::config::tree_file::{TreeFile, WrittenProcess};
use crate::config::units::Units;
use crate::config::words::Usage;
use crate::name::QueueId;
use crate::spec::{QueueSpec, QueueUse};

impl Usage {
    pub(super) fn puts(self) -> bool {
        match self {
            Self::Put | Self::Both => true,
            Self::Get => false,
        }
    }

    pub(super) fn gets(self) -> bool {
        match self {
            Self::Get | Self::Both => true,
            Self::Put => false,
        }
    }
}

/// The queues that a process of the plan uses, in the order of the file.
pub(super) struct Queues {
    pub specs: Vec<QueueSpec>,
    ids: HashMap<String, QueueId>,
}

impl Queues {
    pub fn new(
        units: &Units<'_>,
        file: &TreeFile,
        selection: &Selection,
        errors: &mut Diagnostics,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        let places: HashMap<&str, usize> =
            file.queues.iter().enumerate().map(|(place, queue)| (queue.value.name.as_str(), place)).collect();
        // By queue: whether it is mentioned at all, put to, got from.
        let mut uses = vec![(false, false, false); file.queues.len()];
        for (index, unit) in units.list.iter().enumerate() {
            for (name, usage) in unit.process().map(|process| process.queues.as_slice()).unwrap_or_default() {
                let Some(place) = places.get(name.value.as_str()) else {
                    let message = format!("unknown queue {} in the `queues` of `{}`", quoted(&name.value), unit.path);
                    errors.push_with(|| file.at(name.at, message).with_nearest(&name.value, places.keys().copied()));
                    continue;
                };
                let present = selection.present[index];
                let (mentioned, put, get) = &mut uses[*place];
                *mentioned = true;
                *put |= present && usage.value.puts();
                *get |= present && usage.value.gets();
                if usage.value == Usage::Both && present {
                    let message = format!(
                        "`{}` puts to and gets from the queue `{}`, so that it never sees the end of it",
                        unit.path, name.value
                    );
                    warnings.push(file.at(usage.at, message));
                }
            }
        }
        let mut queues = Self { specs: Vec::new(), ids: HashMap::new() };
        for (queue, (mentioned, put, get)) in file.queues.iter().zip(uses) {
            let name = &queue.value.name;
            if put || get {
                queues.ids.insert(name.to_string(), QueueId(queues.specs.len() as u32));
                queues.specs.push(queue.value.clone());
            }
            let message = match (mentioned, put, get) {
                (_, true, true) | (true, false, false) => continue,
                (false, ..) => format!("no process uses the queue `{name}`"),
                (true, true, false) => format!("no process gets from the queue `{name}`"),
                (true, false, true) => format!("no process puts to the queue `{name}`"),
            };
            warnings.push(file.at(queue.at, message));
        }
        queues
    }

    /// The queue ends of a process, in the order of the queues' names.
    pub fn of(&self, process: &WrittenProcess) -> Vec<QueueUse> {
        let mut uses: Vec<(&str, QueueUse)> = process
            .queues
            .iter()
            .filter_map(|(name, usage)| {
                let queue = *self.ids.get(&name.value)?;
                Some((name.value.as_str(), QueueUse { queue, put: usage.value.puts(), get: usage.value.gets() }))
            })
            .collect();
        uses.sort_by_key(|(name, _)| *name);
        uses.into_iter().map(|(_, usage)| usage).collect()
    }
}
