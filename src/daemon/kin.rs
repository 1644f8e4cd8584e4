//! Descendants that are nobody's main process: whose they are, whether any is left, and the hunt that ends them.
//!
//! fated is a subreaper: whoever loses its parent below us becomes our child. Such an *orphan* belongs to the life
//! whose `FATED_ID` stands in its environment, else to the one whose session it is in, else to nobody: it is a *stray*
//! and ends with the tree. What hangs below an orphan goes with it.

use std::collections::{HashMap, HashSet};
use std::io;

use super::processes::Processes;
use crate::signal::Signal;
use crate::sys::procfs::{self, Found};
use crate::sys::wait;

/// How often one survey looks again because something was reaped meanwhile. A storm that forks faster is found again
/// at the next wake.
const SURVEY_PASSES_MAX: usize = 64;

/// Whose an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The life of that serial.
    Life(u64),
    /// No life that fated knows of.
    Nobody,
}

/// The orphans that live at one moment.
#[derive(Debug, Default)]
pub struct Survey {
    orphans: Vec<(u32, Owner)>,
    /// It ended before two looks agreed: what it does not list may exist.
    pub unfinished: bool,
}

impl Survey {
    pub fn any(&self, owner: Owner) -> bool {
        self.unfinished || self.orphans.iter().any(|(_, own)| *own == owner)
    }

    pub fn pids(&self, owner: Owner) -> impl Iterator<Item = u32> + '_ {
        self.orphans.iter().filter(move |(_, own)| *own == owner).map(|(pid, _)| *pid)
    }
}

pub struct Kin {
    /// What every `FATED_ID` of this tree begins with.
    id_prefix: String,
    /// Where the tree is one command (`run`), whatever matches nothing is that command's.
    sole_owner: bool,
    /// Whose the orphans are that were seen and not reaped yet; their numbers cannot be reused while they are here.
    known: HashMap<u32, Owner>,
    hunts: Vec<Hunt>,
    /// Something may be there that no walk has struck.
    strike_due: bool,
}

/// A kill that goes on until nothing is found.
struct Hunt {
    target: Owner,
    /// Who was sent SIGKILL, by number and start time.
    struck: HashSet<(u32, u64)>,
}

impl Kin {
    pub fn new(id_prefix: String, sole_owner: bool) -> Self {
        Self { id_prefix, sole_owner, known: HashMap::new(), hunts: Vec::new(), strike_due: false }
    }

    /// The `FATED_ID` of a life.
    pub fn id(&self, serial: u64) -> String {
        format!("{}{serial}", self.id_prefix)
    }

    /// Looks at all our children, reaps the orphans among them that have ended, and says whose the others are.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn survey(&mut self, processes: &Processes) -> io::Result<Survey> {
        for _ in 0..SURVEY_PASSES_MAX {
            let mut reaped = false;
            let mut known = HashMap::new();
            let mut orphans = Vec::new();
            for pid in procfs::children_of_self()? {
                if processes.is_main(pid) {
                    continue;
                }
                // The ended orphan may have left children to us after we listed ours: look once more.
                if !matches!(wait::reap_pid(pid), Ok(None)) {
                    reaped = true;
                    continue;
                }
                let owner = self.known.get(&pid).copied().unwrap_or_else(|| self.identify(pid, processes));
                known.insert(pid, owner);
                orphans.push((pid, self.present(owner, processes)));
            }
            self.known = known;
            if !reaped {
                return Ok(Survey { orphans, unfinished: false });
            }
        }
        Ok(Survey { orphans: Vec::new(), unfinished: true })
    }

    /// An owner that is not there any more owns nothing.
    fn present(&self, owner: Owner, processes: &Processes) -> Owner {
        match owner {
            Owner::Life(serial) if processes.has(serial) => owner,
            Owner::Life(_) | Owner::Nobody if self.sole_owner => processes.sole().map_or(Owner::Nobody, Owner::Life),
            Owner::Life(_) | Owner::Nobody => Owner::Nobody,
        }
    }

    fn identify(&self, pid: u32, processes: &Processes) -> Owner {
        let by_environment = || {
            let value = procfs::environ_value(pid, "FATED_ID")?;
            core::str::from_utf8(&value).ok()?.strip_prefix(&self.id_prefix)?.parse().ok()
        };
        let by_session = || processes.by_session(procfs::stat(pid)?.session);
        by_environment().or_else(by_session).map_or(Owner::Nobody, Owner::Life)
    }

    /// Everything alive that belongs to the owner: for a life its orphans and all that hangs below them and, with
    /// `main`, below its main process.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn members(&self, survey: &Survey, owner: Owner, main: Option<u32>) -> io::Result<Vec<Found>> {
        let orphans: Vec<u32> = survey.pids(owner).collect();
        let mut members: Vec<Found> = orphans
            .iter()
            .filter_map(|pid| procfs::stat(*pid).map(|stat| Found { pid: *pid, stat }))
            .filter(|found| found.stat.is_alive())
            .collect();
        members.extend(procfs::walk(orphans.into_iter().chain(main))?);
        Ok(members)
    }

    /// Begins a kill that goes on until nothing of the target is found.
    pub fn hunt(&mut self, target: Owner) {
        if !self.hunts.iter().any(|hunt| hunt.target == target) {
            self.hunts.push(Hunt { target, struck: HashSet::new() });
        }
        self.strike_due = true;
    }

    /// The target has gone.
    pub fn call_off(&mut self, target: Owner) {
        self.hunts.retain(|hunt| hunt.target != target);
    }

    /// Children have come or gone: what was hidden below them may be found now.
    pub fn children_changed(&mut self) {
        self.strike_due = true;
    }

    /// Whether a hunt is under way that wants a walk.
    pub fn wants_to_strike(&self) -> bool {
        self.strike_due && !self.hunts.is_empty()
    }

    /// One walk for every hunt under way. If it strikes anything that was not struck before, another one has to follow,
    /// until two agree.
    pub fn strike(&mut self, survey: &Survey, processes: &Processes) {
        let mut fresh = survey.unfinished;
        let mut hunts = core::mem::take(&mut self.hunts);
        for hunt in &mut hunts {
            let main = match hunt.target {
                Owner::Life(serial) => processes.kill_main(serial),
                Owner::Nobody => None,
            };
            for found in self.members(survey, hunt.target, main).unwrap_or_else(|error| {
                log::error!("cannot look for descendants: {error}");
                Vec::new()
            }) {
                if hunt.struck.insert((found.pid, found.stat.starttime)) {
                    fresh = true;
                    match procfs::signal_found(&found, Signal::KILL) {
                        Ok(_) => {}
                        Err(error) => log::warn!("cannot kill process {}: {error}", found.pid),
                    }
                }
            }
        }
        self.hunts = hunts;
        self.strike_due = fresh;
    }
}

/// Sends a signal to what was found; what has gone meanwhile is no error.
pub fn signal_all(members: &[Found], signal: Signal) {
    for found in members {
        if let Err(error) = procfs::signal_found(found, signal) {
            log::warn!("cannot send {signal} to process {}: {error}", found.pid);
        }
    }
}
