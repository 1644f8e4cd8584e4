//! What must hold whatever the rules in detail: judged from what was seen of the core and from what is truly alive in
//! the model of the kernel, without asking the shadow.

use std::collections::HashSet;

use fated::exit::Verdict;
use fated::name::{Incarnation, NodeId};
use fated::signal::Signal;
use fated::spec::{Leftovers, NodeKind, QueueEnd, Readiness, TreeSpec};
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::{Event, Notice};
use fated::supervisor::node::{KILL_PATIENCE, Main};
use fated::supervisor::record::{Record, What};
use fated::time::{Duration, Limit, Monotonic};

use crate::kernel::Kernel;

pub struct Laws {
    pub(super) spec: TreeSpec,
    /// How late the shell acts on a deadline.
    pub(super) lag: Duration,
    pub(super) lives: Vec<Option<Life>>,
    pub(super) falling: HashSet<usize>,
    serial: u64,
    last_record: Monotonic,
    /// Who was sent a signal by the command before.
    signaled: Option<(Incarnation, Scope)>,
    closed: HashSet<(u32, bool)>,
    /// A signal came while the tree was falling already.
    hurried: bool,
    fell: Option<Monotonic>,
    /// Of groups that fall: when their budget is over.
    pub(super) budgets: Vec<(usize, Monotonic)>,
    /// By node: its restarts since its group began, and when it may start again.
    pub(super) restarts: Vec<Vec<Monotonic>>,
    pub(super) not_before: Vec<Option<Monotonic>>,
    /// Groups that have begun a round of restarts, and whom it takes along.
    pub(super) rounds: Vec<(usize, Vec<usize>)>,
    /// Groups that have ended for good.
    pub(super) over: HashSet<usize>,
    /// By node: whether it has ever passed. What a group is after has to be ready when the group starts, not later.
    ever: Vec<bool>,
    /// Somebody asked for more time.
    put_off: bool,
    strays_given_up: bool,
    strays_sought: Option<Monotonic>,
    strays_killed: Option<Monotonic>,
    told: Option<Verdict>,
    silent: bool,
}

pub(super) struct Life {
    pub(super) inc: Incarnation,
    since: Monotonic,
    pub(super) passed: bool,
    /// Nothing of it is left, as far as the core was told.
    ended: bool,
    main_gone: bool,
    asked: Option<Monotonic>,
    killed: Option<Monotonic>,
    given_up: bool,
    /// What is left of it is the tree's.
    released: bool,
    /// It said something that makes its silence count, or asked to be aborted.
    watched: bool,
}

pub(super) type Verdicts = Result<(), String>;

pub(super) fn law(holds: bool, text: impl FnOnce() -> String) -> Verdicts {
    if holds { Ok(()) } else { Err(text()) }
}

impl Laws {
    pub fn new(spec: TreeSpec, lag: Duration) -> Self {
        Self {
            lag,
            lives: spec.nodes.iter().map(|_| None).collect(),
            restarts: vec![Vec::new(); spec.nodes.len()],
            not_before: vec![None; spec.nodes.len()],
            rounds: Vec::new(),
            over: HashSet::new(),
            ever: Vec::new(),
            put_off: false,
            spec,
            falling: HashSet::new(),
            serial: 0,
            last_record: Monotonic::ORIGIN,
            signaled: None,
            closed: HashSet::new(),
            hurried: false,
            fell: None,
            budgets: Vec::new(),
            strays_given_up: false,
            strays_sought: None,
            strays_killed: None,
            told: None,
            silent: false,
        }
    }

    fn life(&mut self, inc: Incarnation) -> Option<&mut Life> {
        self.lives.get_mut(inc.node.index())?.as_mut().filter(|life| life.inc == inc)
    }

    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Started { inc } => self.pass(*inc, |ready| *ready == Readiness::Started),
            Event::Ready { inc } => self
                .pass(*inc, |ready| matches!(ready, Readiness::Descriptor(_) | Readiness::Tcp(_) | Readiness::Exec(_))),
            Event::Notified { inc, notice: Notice::Ready } => self.pass(*inc, |ready| *ready == Readiness::Notify),
            Event::Notified { inc, notice: Notice::WatchdogTrigger | Notice::WatchdogInterval(_) } => {
                self.update(*inc, |life| life.watched = true);
            }
            Event::Notified { notice: Notice::ExtendTimeout(_), .. } => self.put_off = true,
            Event::StartFailed { inc, .. } => self.update(*inc, |life| (life.passed, life.ended) = (true, true)),
            Event::Exited { inc, leftovers, .. } => self.update(*inc, |life| {
                if !life.main_gone {
                    (life.main_gone, life.ended) = (true, !*leftovers);
                    life.passed |= life.ended;
                }
            }),
            Event::Emptied { inc } => self.update(*inc, |life| {
                life.ended |= life.main_gone;
                life.passed |= life.ended;
            }),
            Event::Notified { .. } | Event::StopCommandEnded { .. } => {}
            Event::Signal(_) => self.hurried |= self.fell.is_some(),
            Event::Spawned { .. } | Event::Strays { .. } | Event::TieBroken(_) | Event::Stopped { .. } => {}
        }
    }

    /// It is ready, if this is its way of being so.
    fn pass(&mut self, inc: Incarnation, way: impl Fn(&Readiness) -> bool) {
        let fits = self.spec.nodes.get(inc.node.index()).and_then(|node| node.process());
        if fits.is_some_and(|process| way(&process.ready)) {
            self.update(inc, |life| life.passed = true);
        }
    }

    fn update(&mut self, inc: Incarnation, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.life(inc).filter(|life| !life.ended) {
            change(life);
        }
    }

    pub fn on_command(&mut self, command: &Command, now: Monotonic, kernel: &Kernel) -> Verdicts {
        law(!self.silent, || format!("{command:?} after the end"))?;
        self.ever.resize(self.lives.len(), false);
        for id in self.spec.ids() {
            self.ever[id.index()] |= self.has_passed(id);
        }
        let signaled = self.signaled.take();
        match command {
            Command::Start { inc } => self.on_start(*inc, now),
            Command::Signal { inc, scope, .. } | Command::Wake { inc, scope } => {
                if let Command::Wake { .. } = command {
                    law(signaled == Some((*inc, *scope)), || format!("{command:?} without a stop signal"))?;
                } else {
                    self.signaled = Some((*inc, *scope));
                }
                let leftovers = *scope == Scope::Leftovers;
                let life = self.life(*inc).filter(|life| !life.ended);
                let fits = life.is_some_and(|life| life.main_gone || !leftovers);
                law(fits, || format!("{command:?} for a life that is none, or has no leftovers"))
            }
            Command::Kill { inc, scope } => {
                let whole = *scope == Scope::Everything || self.ignores(inc.node);
                law(whole, || format!("{command:?} leaves something alive"))?;
                self.on_kill(*inc, now)
            }
            Command::Release { inc } => {
                let ignores = self.ignores(inc.node);
                let life = self.life(*inc).ok_or("a release of nothing")?;
                let fits = ignores && life.main_gone && !life.ended;
                (life.passed, life.ended, life.released) = (true, true, true);
                law(fits, || format!("{command:?} of what has no leftovers to leave alone"))
            }
            Command::CloseQueue { queue, end } => {
                let put = *end == QueueEnd::Put;
                let used = self.users(queue.0, put).any(|id| self.is_live(id) || self.may_start(id));
                law(!used || self.will_be_new(queue.0), || format!("{command:?} while somebody may use it"))?;
                let first = self.closed.insert((queue.0, put));
                law(first, || format!("{command:?} twice"))
            }
            Command::Record(record) => self.on_record(record, now),
            Command::End { verdict } => self.on_end(*verdict, now, kernel),
            Command::FindStrays => {
                self.strays_sought = Some(now);
                let living = (0..self.lives.len()).find(|id| self.is_live(NodeId(*id as u32)));
                law(living.is_none(), || format!("strays are sought while node {living:?} lives"))
            }
            Command::SignalStrays { .. } | Command::KillStrays => {
                if *command == Command::KillStrays {
                    self.strays_killed = Some(now);
                }
                law(self.strays_sought.is_some(), || format!("{command:?} before strays were sought"))
            }
            Command::AwaitReady { inc } | Command::RunStopCommand { inc } => {
                let runs = self.life(*inc).is_some_and(|life| !life.main_gone && !life.ended);
                law(runs, || format!("{command:?} for what does not run"))
            }
            Command::RenewQueue { queue } => {
                for put in [true, false] {
                    let used = self.users(queue.0, put).any(|id| self.is_live(id));
                    law(!used, || format!("{command:?} while somebody uses it"))?;
                    self.closed.remove(&(queue.0, put));
                }
                Ok(())
            }
            Command::Suspend => Ok(()),
        }
    }

    fn on_start(&mut self, inc: Incarnation, now: Monotonic) -> Verdicts {
        law(inc.serial > self.serial, || format!("the serial of {inc:?} does not grow"))?;
        self.serial = inc.serial;
        let before = self.lives[inc.node.index()].as_ref();
        let again = before.is_none_or(|life| life.ended && !life.given_up);
        law(again, || format!("{inc:?} is started beside its life before"))?;
        self.check_restart(inc, now)?;
        law(!self.falls_around(inc.node), || format!("{inc:?} is started in a group that falls"))?;
        for dependency in self.spec.node(inc.node).after.clone() {
            law(self.has_passed(dependency), || format!("{inc:?} is started before {dependency:?} is ready"))?;
        }
        for dependency in ancestors(&self.spec, inc.node).flat_map(|id| self.spec.node(id).after.clone()) {
            law(self.ever[dependency.index()], || format!("{inc:?} is started before {dependency:?} was ever ready"))?;
        }
        let (passed, ended, main_gone) = (false, false, false);
        let (given_up, released) = (false, false);
        let watched = self.spec.node(inc.node).process().is_some_and(|process| process.watchdog.is_some());
        let (asked, killed) = (None, None);
        let life = Life { inc, since: now, passed, ended, main_gone, asked, killed, given_up, released, watched };
        self.lives[inc.node.index()] = Some(life);
        Ok(())
    }

    /// Ready, ended, or never to run; a group: whatever is in it.
    fn has_passed(&self, id: NodeId) -> bool {
        match (&self.lives[id.index()], &self.spec.node(id).kind) {
            (Some(life), _) => life.passed || (life.ended && self.falls_around(id)),
            (None, NodeKind::Group(_)) => self.spec.members(id).all(|member| self.has_passed(member)),
            (None, NodeKind::Process(process)) => !process.autostart || self.falls_around(id),
        }
    }

    /// No SIGKILL before its time.
    fn on_kill(&mut self, inc: Incarnation, now: Monotonic) -> Verdicts {
        let timeout = self.spec.node(inc.node).process().map(|process| process.stop.timeout);
        let groups: HashSet<usize> = ancestors(&self.spec, inc.node).map(NodeId::index).collect();
        let spent = self.budgets.iter().any(|(group, until)| groups.contains(group) && *until <= now);
        let hurried = self.hurried || spent;
        let life = self.life(inc).filter(|life| !life.ended && life.killed.is_none());
        let Some(life) = life else { return Err(format!("{inc:?} is killed twice, or not alive")) };
        let overdue = match (timeout, life.asked) {
            (Some(Limit::After(timeout)), Some(asked)) => now >= asked + timeout,
            (Some(limit), None) => limit == Limit::AT_ONCE,
            (Some(Limit::Never), Some(_)) | (None, _) => false,
        };
        life.killed = Some(now);
        law(overdue || hurried, || format!("{inc:?} is killed before its stop timeout"))
    }

    fn on_record(&mut self, record: &Record, now: Monotonic) -> Verdicts {
        law(record.at == now && record.at >= self.last_record, || format!("{record:?} is out of time"))?;
        self.last_record = record.at;
        match &record.what {
            What::GroupFalling { group, .. } => self.on_fall(*group, now),
            What::Stopping { inc, main, signal } => {
                let aborted = *signal == Signal::ABRT && self.life(*inc).is_some_and(|life| life.watched);
                self.on_stopping(*inc, *main, aborted, now)
            }
            What::StopCommand { inc } => self.on_stopping(*inc, Main::Alive, false, now),
            What::Restarting { node, delay, .. } => self.on_restarting(*node, *delay, now),
            What::LimitPassed { gave_up, .. } => {
                let restarts = self.counted(*gave_up, now);
                let limit = match (&self.spec.node(gave_up.of).kind, gave_up.of == gave_up.node) {
                    (_, true) => Some(self.spec.node(gave_up.node).restart.intensity),
                    (NodeKind::Group(group), false) => group.intensity,
                    (NodeKind::Process(_), false) => None,
                };
                let full = limit == Some(gave_up.limit) && restarts == gave_up.limit.limit;
                law(full, || format!("{gave_up:?} after {restarts} restarts, with a limit of {limit:?}"))
            }
            What::Unkillable { inc } => {
                self.not_before[inc.node.index()] = None;
                self.update(*inc, |life| (life.passed, life.ended, life.given_up) = (true, true, true));
                let killed = self.life(*inc).and_then(|life| life.killed);
                let patient = killed.is_some_and(|killed| now >= killed + KILL_PATIENCE);
                law(patient, || format!("{inc:?} is given up before it had the time to die"))
            }
            What::StraysUnkillable => {
                self.strays_given_up = true;
                let patient = self.strays_killed.is_some_and(|killed| now >= killed + KILL_PATIENCE);
                law(patient, || "strays are given up before they had the time to die".into())
            }
            What::GroupEnded { group } => {
                self.over.insert(group.index());
                let inside = |id: &NodeId| ancestors(&self.spec, *id).any(|above| above == *group);
                let living = self.spec.ids().filter(inside).find(|id| self.is_live(*id));
                law(living.is_none(), || format!("group {group:?} has ended before {living:?}"))
            }
            What::TreeEnded(summary) => {
                self.told = Some(summary.verdict);
                law(summary.cause.at <= now, || "the cause lies in the future".into())
            }
            What::Spawned { .. }
            | What::Started { .. }
            | What::StartFailed { .. }
            | What::Exited { .. }
            | What::Killing { .. }
            | What::Emptied { .. }
            | What::StraysStopping { .. }
            | What::StraysKilled
            | What::QueueClosed { .. }
            | What::SignalIgnored { .. }
            | What::SignalPassed { .. }
            | What::Hastened { .. }
            | What::Ready { .. }
            | What::Said { .. }
            | What::StopCommandFailed { .. }
            | What::QueueRenewed { .. } => Ok(()),
        }
    }

    fn on_fall(&mut self, head: NodeId, now: Monotonic) -> Verdicts {
        self.has_new_life(head)?;
        if head == NodeId::ROOT {
            self.fell = Some(now);
        }
        for id in self.spec.ids() {
            let inside = id == head || ancestors(&self.spec, id).any(|above| above == head);
            let NodeKind::Group(group) = &self.spec.node(id).kind else { continue };
            if inside && self.falling.insert(id.index()) {
                let until = group.stop_budget.and_then(|budget| budget.from(now));
                self.budgets.extend(until.map(|until| (id.index(), until)));
            }
        }
        Ok(())
    }

    /// In a fall a process is asked to stop only when nothing after it that is also to end still lives.
    fn on_stopping(&mut self, inc: Incarnation, main: Main, aborted: bool, now: Monotonic) -> Verdicts {
        let lifetime = self.spec.node(inc.node).lifetime;
        let process = self.spec.node(inc.node).process();
        let ready_within = process.filter(|process| process.ready != Readiness::Started);
        let ready_within = ready_within.map_or(Limit::Never, |process| process.start_timeout);
        let Some(life) = self.life(inc) else { return Err(format!("{inc:?} is stopped and has no life")) };
        law(life.asked.is_none(), || format!("{inc:?} is asked to stop twice"))?;
        life.asked = Some(now);
        let expired = lifetime.is_some_and(|lifetime| now >= life.since + lifetime);
        let late = !life.passed && ready_within.from(life.since).is_some_and(|ready_by| now >= ready_by);
        if expired || late || aborted || main != Main::Alive {
            return Ok(());
        }
        let taken = self.in_round(inc.node);
        law(taken || self.falls_around(inc.node), || format!("{inc:?} is stopped for nothing"))?;
        let chain: Vec<NodeId> = core::iter::once(inc.node).chain(ancestors(&self.spec, inc.node)).collect();
        for dependant in self.spec.ids().filter(|id| self.spec.node(*id).after.iter().any(|on| chain.contains(on))) {
            let to_end = self.falls_around(dependant) || self.falling.contains(&dependant.index());
            let lives = |id: NodeId| {
                let inside = id == dependant || ancestors(&self.spec, id).any(|above| above == dependant);
                inside && self.is_live(id)
            };
            let waits = to_end && self.spec.ids().any(lives);
            law(!waits, || format!("{inc:?} is stopped before {dependant:?}, which is after it"))?;
        }
        Ok(())
    }

    fn on_end(&mut self, verdict: Verdict, now: Monotonic, kernel: &Kernel) -> Verdicts {
        self.silent = true;
        for life in self.lives.iter().flatten().filter(|life| kernel.lives(life.inc)) {
            law(life.given_up || life.released, || format!("{:?} outlives its tree", life.inc))?;
        }
        let left_alone = self.spec.strays == Leftovers::Ignore || self.strays_given_up;
        law(left_alone || !kernel.any_stray(), || "a stray outlives the tree".into())?;
        let given_up = self.strays_given_up || self.lives.iter().flatten().any(|life| life.given_up);
        let unkillable = verdict == Verdict::UNKILLABLE;
        law(unkillable == given_up, || format!("{verdict:?} where something was given up: {given_up}"))?;
        law(self.told == Some(verdict), || format!("{verdict:?} is not what the record says: {:?}", self.told))?;
        law(self.closed.len() == 2 * self.spec.queues.len(), || "a queue was never closed".into())?;
        if let (Some(fell), Some(bound), false) = (self.fell, self.worst_case(), self.put_off) {
            let until = self.strays_sought.unwrap_or(now);
            law(until - fell <= bound, || format!("the fall took {:?}, not {bound:?} at most", until - fell))?;
        }
        Ok(())
    }

    /// The longest fall: one after the other, each to the end of the patience.
    fn worst_case(&self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for (_, process) in self.spec.processes() {
            match process.stop.timeout {
                Limit::After(timeout) => sum += timeout + KILL_PATIENCE + 2 * self.lag,
                Limit::Never => return None,
            }
        }
        Some(sum)
    }

    pub(super) fn is_live(&self, id: NodeId) -> bool {
        self.lives[id.index()].as_ref().is_some_and(|life| !life.ended)
    }

    fn may_start(&self, id: NodeId) -> bool {
        let autostart = self.spec.node(id).process().is_some_and(|process| process.autostart);
        let backs_off = self.not_before[id.index()].is_some();
        // What a round takes along has new queues, if they end with it.
        (self.lives[id.index()].is_none() || backs_off) && autostart && !self.falls_around(id) && !self.in_round(id)
    }

    pub(super) fn users(&self, queue: u32, put: bool) -> impl Iterator<Item = NodeId> + '_ {
        self.spec.processes().filter_map(move |(id, process)| {
            let mut uses = process.queues.iter().filter(|usage| usage.queue.0 == queue);
            uses.any(|usage| if put { usage.put } else { usage.get }).then_some(id)
        })
    }

    fn ignores(&self, id: NodeId) -> bool {
        self.spec.node(id).process().is_some_and(|process| process.leftovers == Leftovers::Ignore)
    }

    pub(super) fn falls_around(&self, id: NodeId) -> bool {
        ancestors(&self.spec, id).any(|group| self.falling.contains(&group.index()))
    }
}

pub(super) fn ancestors(spec: &TreeSpec, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    core::iter::successors(spec.node(id).parent, |group| spec.node(*group).parent)
}
