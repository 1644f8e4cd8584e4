//! Descendants that are nobody's main process: whose they are, whether any is left, and the hunt that ends them.
//!
//! fated is a subreaper: whoever loses its parent below us becomes our child. Such an *orphan* belongs to the life
//! whose session it is in, else to the one whose `FATED_ID` stands in its environment, else to nobody: it is a *stray*
//! and ends with the tree. What hangs below an orphan goes with it.
//!
//! Children that were there before fated began (a script can leave some and then exec us) are *strangers*: reaped, and
//! else left alone.

use std::collections::{HashMap, HashSet};
use std::io;

use super::processes::Processes;
use crate::signal::Signal;
use crate::sys::procfs::{self, Found};
use crate::sys::wait;

/// How often one survey looks again because something was reaped meanwhile. A storm that forks faster is found again
/// at the next wake.
const SURVEY_PASSES_MAX: usize = 64;

/// How many generations below us a process is looked for.
const GENERATIONS_MAX: usize = 1024;

/// Whose an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The life of that serial.
    Life(u64),
    /// No life that fated knows of.
    Nobody,
}

/// The orphans that live at one moment.
#[derive(Debug)]
pub struct Survey {
    orphans: Vec<(u32, Owner)>,
    /// It ended before two looks agreed: what it does not list may exist.
    pub unfinished: bool,
}

impl Survey {
    /// Nothing is known.
    pub fn unfinished() -> Self {
        Self { orphans: Vec::new(), unfinished: true }
    }

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
    /// Children that were there before us, by number and start time.
    strangers: Vec<(u32, u64)>,
}

/// A kill that goes on until nothing is found.
struct Hunt {
    target: Owner,
    /// Who was sent SIGKILL, by number and start time.
    struck: HashSet<(u32, u64)>,
}

impl Kin {
    pub fn new(id_prefix: String, sole_owner: bool, strangers: Vec<(u32, u64)>) -> Self {
        Self { id_prefix, sole_owner, known: HashMap::new(), hunts: Vec::new(), strike_due: false, strangers }
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
                if processes.is_main(pid) || processes.helpers.has(pid) || self.is_stranger(pid) {
                    continue;
                }
                // The ended orphan may have left children to us after we listed ours: look once more.
                if !matches!(wait::reap_pid(pid), Ok(None)) {
                    reaped = true;
                    continue;
                }
                let owner = match self.known.get(&pid) {
                    Some(owner) => *owner,
                    None => self.identify(pid, processes),
                };
                // One that says nothing may be on its way through an exec: it is asked again.
                if owner != Owner::Nobody {
                    known.insert(pid, owner);
                }
                orphans.push((pid, self.present(owner, processes)));
            }
            self.known = known;
            if !reaped {
                return Ok(Survey { orphans, unfinished: false });
            }
        }
        Ok(Survey::unfinished())
    }

    fn is_stranger(&self, pid: u32) -> bool {
        let number = |(stranger, _): &&(u32, u64)| *stranger == pid;
        let known = self.strangers.iter().find(number);
        known.is_some_and(|(_, starttime)| procfs::stat(pid).is_some_and(|stat| stat.starttime == *starttime))
    }

    /// A child of that number was reaped outside of a survey.
    pub fn reaped(&mut self, pid: u32) {
        self.known.remove(&pid);
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
        // The session first: to read an environment can take long where its owner hangs in a page fault.
        by_session().or_else(by_environment).map_or(Owner::Nobody, Owner::Life)
    }

    /// The life that a process belongs to: as its main process, a helper of it, or a descendant of either. The caller has
    /// to make sure that the number was that of the same process all the time.
    pub fn life_of(&self, pid: u32, processes: &Processes) -> Option<u64> {
        let own = std::process::id();
        let mut at = pid;
        for _ in 0..GENERATIONS_MAX {
            if let Some(life) = processes.serial_of(at).or_else(|| processes.helpers.life_of(at)) {
                return Some(life);
            }
            let parent = procfs::stat(at)?.ppid;
            if parent == own {
                let owner = self.known.get(&at).copied().unwrap_or_else(|| self.identify(at, processes));
                return match self.present(owner, processes) {
                    Owner::Life(life) => Some(life),
                    Owner::Nobody => None,
                };
            }
            if parent <= 1 {
                return None;
            }
            // A parent that has ended meanwhile may have left its number to another: ask the child once more.
            procfs::stat(parent)?;
            at = Some(parent).filter(|_| procfs::stat(at).is_some_and(|stat| stat.ppid == parent)).unwrap_or(at);
        }
        None
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
    /// until two agree. Whether it has to be tried again for want of something.
    pub fn strike(&mut self, survey: &Survey, processes: &Processes) -> bool {
        let (mut fresh, mut failed) = (false, survey.unfinished);
        let mut hunts = core::mem::take(&mut self.hunts);
        for hunt in &mut hunts {
            let main = match hunt.target {
                Owner::Life(serial) => processes.kill_main(serial),
                Owner::Nobody => None,
            };
            for found in self.members(survey, hunt.target, main).unwrap_or_else(|error| {
                log::error!("cannot look for descendants: {error}");
                failed = true;
                Vec::new()
            }) {
                let id = (found.pid, found.stat.starttime);
                if hunt.struck.contains(&id) {
                    continue;
                }
                match procfs::signal_found(&found, Signal::KILL) {
                    Ok(_) => fresh |= hunt.struck.insert(id),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        log::warn!("cannot kill process {}: {error}", found.pid);
                        hunt.struck.insert(id);
                    }
                    // No descriptor, no memory: it is tried again.
                    Err(error) => {
                        log::warn!("cannot kill process {} yet: {error}", found.pid);
                        failed = true;
                    }
                }
            }
        }
        self.hunts = hunts;
        self.strike_due = fresh;
        failed
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::config::run::{RunRequest, run_tree};
    use crate::name::{Incarnation, NodeId};
    use crate::spawn::{Request, Spawner};
    use crate::spec::{NodeKind, RunDoor, Session};
    use crate::sys::{fd, pidfd};

    #[test]
    fn a_descendant_is_its_lifes_and_a_stranger_nobodys() {
        let kin = Kin::new("kin.test.".to_owned(), false, Vec::new());
        let mut processes = Processes::default();
        // A background command of a shell without job control reads /dev/null, unless told otherwise.
        let script = "exec 3<&0; setsid sh -c 'echo $$; read x' <&3 & wait";
        let command = ["sh", "-c", script].map(Into::into).to_vec();
        let mut tree = run_tree(RunRequest {
            command,
            door: RunDoor::default(),
            lifetime: None,
            stop_signal: None,
            stop_timeout: None,
            success: None,
            leftovers: None,
            session: Session::Own,
            env: Vec::new(),
            ignored_signals: Vec::new(),
            signal_map: Vec::new(),
        });
        let NodeKind::Process(spec) = tree.nodes.remove(1).kind else { panic!("run has one process") };
        let spawner = Spawner::new(fd::raise(pidfd::open_self().unwrap()));
        let (stdin, input) = fd::pipe().unwrap();
        let (output, stdout) = fd::pipe().unwrap();
        let request = Request {
            spec: &spec,
            id: &kin.id(7),
            env: &[],
            stdio: [stdin.as_fd(), stdout.as_fd(), stdout.as_fd()],
            queues: &[],
            ready: None,
            descriptor_limit: None,
            foreground: None,
        };
        let started = spawner.start(&request).unwrap();
        let main = started.pid;
        processes.insert(Incarnation { node: NodeId(1), serial: 7 }, true, started);
        let mut lines = BufReader::new(std::fs::File::from(output)).lines();
        let below: u32 = lines.next().unwrap().unwrap().parse().unwrap();
        let mut stranger = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();

        assert_eq!(kin.life_of(main, &processes), Some(7));
        assert_eq!(kin.life_of(below, &processes), Some(7));
        for other in [stranger.id(), std::process::id(), 1, u32::MAX >> 1] {
            assert_eq!(kin.life_of(other, &processes), None, "{other}");
        }

        drop((input, stranger.stdin.take()));
        stranger.wait().unwrap();
        let ended = processes.pidfd(7).unwrap();
        assert!(fd::wait_readable(ended, Some(core::time::Duration::from_secs(30))).unwrap());
        while processes.read_report(7).is_none() {}
        processes.reap(7, |_| {}).unwrap().unwrap();
        assert_eq!(kin.life_of(main, &processes), None);
    }
}
