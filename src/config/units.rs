//! The groups and processes of a file as a tree, before a process is multiplied into its instances: parents found,
//! paths made, names looked up.

use std::collections::HashMap;

use crate::config::diagnostic::{Diagnostics, nearest, quoted};
use crate::config::section::At;
use crate::config::tree_file::{TreeFile, Written, WrittenProcess};
use crate::spec::GROUP_DEPTH_MAX;

/// A group or a process as written.
#[derive(Clone, Debug)]
pub(super) struct Unit<'f> {
    pub kind: UnitKind<'f>,
    /// Index of its group; the root's own index for the root.
    pub parent: usize,
    /// `pool/worker`; empty for the root.
    pub path: String,
    /// The index after its last descendant: a subtree is the range from the unit's own index to here.
    pub end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum UnitKind<'f> {
    Root,
    Group(&'f Written),
    Process(&'f WrittenProcess),
}

impl<'f> Unit<'f> {
    /// `None` for the root.
    pub fn written(&self) -> Option<&'f Written> {
        match self.kind {
            UnitKind::Root => None,
            UnitKind::Group(written) => Some(written),
            UnitKind::Process(process) => Some(&process.node),
        }
    }

    pub fn process(&self) -> Option<&'f WrittenProcess> {
        match self.kind {
            UnitKind::Root | UnitKind::Group(_) => None,
            UnitKind::Process(process) => Some(process),
        }
    }

    /// As messages name it.
    pub fn label(&self) -> &str {
        if self.path.is_empty() { "the tree" } else { &self.path }
    }
}

/// All units: the root first, parents before their members, siblings in the order of the file.
pub(super) struct Units<'f> {
    pub list: Vec<Unit<'f>>,
    by_path: HashMap<String, usize>,
    by_name: HashMap<&'f str, Vec<usize>>,
}

/// Why a name means no unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LookupError {
    Unknown {
        nearest: Option<String>,
    },
    /// The paths that it may mean.
    Ambiguous(Vec<String>),
}

impl<'f> Units<'f> {
    /// Units whose group is wrong are reported and stand in the root.
    pub fn new(file: &'f TreeFile, errors: &mut Diagnostics) -> Self {
        let parents = Parents::new(file, errors);
        let mut members: Vec<Vec<UnitKind<'f>>> = vec![Vec::new(); file.groups.len() + 1];
        for (index, group) in file.groups.iter().enumerate() {
            members[parents.slot(parents.of_groups[index])].push(UnitKind::Group(group));
        }
        for process in &file.processes {
            let parent = parents.find(process.node.group.as_ref(), &process.node, errors);
            members[parents.slot(parent)].push(UnitKind::Process(process));
        }
        let at = |kind: &UnitKind<'_>| match kind {
            UnitKind::Root => 0,
            UnitKind::Group(written) => written.name.at,
            UnitKind::Process(process) => process.node.name.at,
        };
        members.iter_mut().for_each(|list| list.sort_by_key(at));

        let mut units = Self { list: Vec::new(), by_path: HashMap::new(), by_name: HashMap::new() };
        units.place(UnitKind::Root, 0, &mut members, &parents);
        units.check_paths(file, errors);
        units
    }

    /// Puts a unit and then its members into the list. The depth of the recursion is the depth of the groups, which
    /// `Parents` has bounded.
    fn place(&mut self, kind: UnitKind<'f>, parent: usize, members: &mut [Vec<UnitKind<'f>>], parents: &Parents<'f>) {
        let index = self.list.len();
        let mut unit = Unit { kind, parent, path: String::new(), end: index };
        if let Some(written) = unit.written() {
            let above = &self.list[parent].path;
            let slash = if above.is_empty() { "" } else { "/" };
            unit.path = format!("{above}{slash}{}", written.name.value);
            self.by_name.entry(written.name.value.as_str()).or_default().push(index);
        }
        self.list.push(unit);
        let slot = match kind {
            UnitKind::Root => Some(0),
            UnitKind::Group(written) => Some(parents.slot(parents.by_name.get(written.name.value.as_str()).copied())),
            UnitKind::Process(_) => None,
        };
        for member in slot.map(|slot| core::mem::take(&mut members[slot])).unwrap_or_default() {
            self.place(member, index, members, parents);
        }
        self.list[index].end = self.list.len();
    }

    /// A process and a group may share a name, but not in one group.
    fn check_paths(&mut self, file: &TreeFile, errors: &mut Diagnostics) {
        for (index, unit) in self.list.iter().enumerate().skip(1) {
            let Some(other) = self.by_path.insert(unit.path.clone(), index) else { continue };
            let at = |index: usize| self.list[index].written().map_or(0, |written| written.name.at);
            let line = file.source.position(at(other)).line;
            let message = format!(
                "the name {} is taken by the one in line {line}: a process and a group in one place need different names",
                quoted(&unit.path)
            );
            errors.push_with(|| file.at(at(index), message));
        }
    }

    /// The unit that a name or a path means.
    pub fn find(&self, name: &str) -> Result<usize, LookupError> {
        if let Some(index) = self.by_path.get(name) {
            return Ok(*index);
        }
        match self.by_name.get(name).map(Vec::as_slice) {
            Some([index]) => Ok(*index),
            Some(several) => {
                Err(LookupError::Ambiguous(several.iter().map(|index| self.list[*index].path.clone()).collect()))
            }
            None => {
                let names = self.by_name.keys().copied().chain(self.by_path.keys().map(String::as_str));
                Err(LookupError::Unknown { nearest: nearest(name, names).map(str::to_owned) })
            }
        }
    }

    /// The direct members of a group; none for a process.
    pub fn members(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        let last = self.list[group].end;
        let mut next = group + 1;
        core::iter::from_fn(move || {
            let member = Some(next).filter(|member| *member < last)?;
            next = self.list[member].end;
            Some(member)
        })
    }

    /// Whether `inner` is `outer` or lies in it.
    pub fn contains(&self, outer: usize, inner: usize) -> bool {
        (outer..self.list[outer].end).contains(&inner)
    }

    /// For each unit the units that it is after, with where that is written. Self, ancestors and descendants are
    /// reported and left out.
    pub fn afters(&self, file: &TreeFile, errors: &mut Diagnostics) -> Vec<Vec<At<usize>>> {
        let mut afters = vec![Vec::new(); self.list.len()];
        for (index, unit) in self.list.iter().enumerate() {
            let Some(written) = unit.written() else { continue };
            for name in &written.after {
                match self.after(index, name) {
                    Ok(other) => afters[index].push(At::new(other, name.at)),
                    Err((message, help)) => errors.push_with(|| match help {
                        Some(help) => file.at(name.at, message).with_help(help),
                        None => file.at(name.at, message),
                    }),
                }
            }
            afters[index].sort_by_key(|other: &At<usize>| other.value);
            afters[index].dedup_by_key(|other| other.value);
        }
        afters
    }

    fn after(&self, index: usize, name: &At<String>) -> Result<usize, (String, Option<String>)> {
        let unit = self.list[index].label();
        let written = quoted(&name.value);
        match self.find(&name.value) {
            Err(error) => {
                let (message, help) = error.explain(&written);
                Err((format!("{message} in the `after` of `{unit}`"), help))
            }
            Ok(other) if other == index => Err((format!("`{unit}` cannot be after itself"), None)),
            Ok(other) if self.contains(other, index) => {
                Err((format!("`{unit}` cannot be after {written}, the group that it is in"), None))
            }
            Ok(other) if self.contains(index, other) => {
                Err((format!("the group `{unit}` cannot be after {written}, which is in it"), None))
            }
            Ok(other) => Ok(other),
        }
    }
}

impl LookupError {
    /// A message and what to do, about a name that is already quoted.
    pub fn explain(self, written: &str) -> (String, Option<String>) {
        match self {
            Self::Unknown { nearest } => {
                let help = nearest.map(|nearest| format!("did you mean {}?", quoted(&nearest)));
                (format!("unknown process or group {written}"), help)
            }
            Self::Ambiguous(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
                (format!("{written} may mean {}", paths.join(" or ")), Some("write the path".to_owned()))
            }
        }
    }
}

/// Which group each group is in.
struct Parents<'f> {
    file: &'f TreeFile,
    by_name: HashMap<&'f str, usize>,
    /// `None`: the root.
    of_groups: Vec<Option<usize>>,
}

impl<'f> Parents<'f> {
    fn new(file: &'f TreeFile, errors: &mut Diagnostics) -> Self {
        let by_name = file.groups.iter().enumerate().map(|(index, group)| (group.name.value.as_str(), index)).collect();
        let mut parents = Self { file, by_name, of_groups: Vec::new() };
        parents.of_groups = file.groups.iter().map(|group| parents.find(group.group.as_ref(), group, errors)).collect();
        parents.cut_cycles(errors);
        parents.cut_depth(errors);
        parents
    }

    fn slot(&self, group: Option<usize>) -> usize {
        group.map_or(0, |group| group + 1)
    }

    /// The group of that name. A path is taken by its last part: group names are unique in a file.
    fn find(&self, name: Option<&At<String>>, of: &Written, errors: &mut Diagnostics) -> Option<usize> {
        let name = name?;
        let last = name.value.rsplit('/').next().unwrap_or_default();
        let found = self.by_name.get(last).copied();
        if found.is_none() {
            errors.push_with(|| {
                let message = format!("unknown group {} in the `group` of `{}`", quoted(&name.value), of.name.value);
                self.file.at(name.at, message).with_nearest(last, self.by_name.keys().copied())
            });
        }
        found
    }

    /// Reports each cycle of groups once and opens it.
    fn cut_cycles(&mut self, errors: &mut Diagnostics) {
        let mut walked_by: Vec<Option<usize>> = vec![None; self.of_groups.len()];
        for start in 0..self.of_groups.len() {
            let mut next = Some(start);
            while let Some(group) = next {
                match walked_by[group] {
                    Some(walker) if walker == start => {
                        self.report_cycle(group, errors);
                        self.of_groups[group] = None;
                        break;
                    }
                    Some(_) => break,
                    None => walked_by[group] = Some(start),
                }
                next = self.of_groups[group];
            }
        }
    }

    fn report_cycle(&self, first: usize, errors: &mut Diagnostics) {
        let mut names = vec![first];
        let mut next = self.of_groups[first];
        while let Some(group) = next.filter(|group| *group != first) {
            names.push(group);
            next = self.of_groups[group];
        }
        names.push(first);
        let names = names.iter().map(|group| self.file.groups[*group].name.value.as_str());
        let message = format!("groups that are in each other: {}", chain(names));
        let at = self.file.groups[first].group.as_ref().map_or(0, |name| name.at);
        errors.push_with(|| self.file.at(at, message));
    }

    fn cut_depth(&mut self, errors: &mut Diagnostics) {
        for index in 0..self.of_groups.len() {
            let mut depth = 1;
            let mut next = self.of_groups[index];
            while let Some(group) = next.filter(|_| depth <= GROUP_DEPTH_MAX) {
                depth += 1;
                next = self.of_groups[group];
            }
            if depth > GROUP_DEPTH_MAX {
                let at = self.file.groups[index].group.as_ref().map_or(0, |name| name.at);
                errors.push_with(|| self.file.at(at, format!("groups are nested at most {GROUP_DEPTH_MAX} deep")));
                self.of_groups[index] = None;
            }
        }
    }
}

/// `a -> b -> a`, shortened in the middle where it is long.
pub(super) fn chain<T: AsRef<str>>(names: impl ExactSizeIterator<Item = T>) -> String {
    const SHOWN: usize = 20;
    let count = names.len();
    let mut text = String::new();
    for (index, name) in names.enumerate() {
        if index >= SHOWN && index + 1 < count {
            if index == SHOWN {
                text.push_str(&format!(" -> ({} more)", count - 1 - SHOWN));
            }
            continue;
        }
        if index > 0 {
            text.push_str(" -> ");
        }
        text.push_str(name.as_ref());
    }
    text
}
