//! What must hold whatever the rules in detail: judged from what was seen of the core and from what is truly alive in
//! the model of the kernel, without asking the shadow.

use std::collections::HashSet;

use fated::exit::Verdict;
use fated::name::{Incarnation, NodeId};
use fated::spec::{Leftovers, NodeKind, QueueEnd, TreeSpec};
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::Event;
use fated::supervisor::node::{KILL_PATIENCE, Main};
use fated::supervisor::record::{Record, What};
use fated::time::{Duration, Limit, Monotonic};

use crate::kernel::Kernel;

pub struct Laws {
    spec: TreeSpec,
    /// How late the shell acts on a deadline.
    lag: Duration,
    lives: Vec<Option<Life>>,
    falling: HashSet<usize>,
    serial: u64,
    last_record: Monotonic,
    /// Who was sent a signal by the command before.
    signaled: Option<(Incarnation, Scope)>,
    closed: HashSet<(u32, bool)>,
    /// A signal came while the tree was falling already.
    hurried: bool,
    fell: Option<Monotonic>,
    /// Of groups that fall: when their budget is over.
    budgets: Vec<(usize, Monotonic)>,
    strays_given_up: bool,
    strays_sought: Option<Monotonic>,
    strays_killed: Option<Monotonic>,
    told: Option<Verdict>,
    over: bool,
}

struct Life {
    inc: Incarnation,
    since: Monotonic,
    passed: bool,
    /// Nothing of it is left, as far as the core was told.
    ended: bool,
    main_gone: bool,
    asked: Option<Monotonic>,
    killed: Option<Monotonic>,
    given_up: bool,
    /// What is left of it is the tree's.
    released: bool,
}

type Verdicts = Result<(), String>;

fn law(holds: bool, text: impl FnOnce() -> String) -> Verdicts {
    if holds { Ok(()) } else { Err(text()) }
}

impl Laws {
    pub fn new(spec: TreeSpec, lag: Duration) -> Self {
        Self {
            lag,
            lives: spec.nodes.iter().map(|_| None).collect(),
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
            over: false,
        }
    }

    fn life(&mut self, inc: Incarnation) -> Option<&mut Life> {
        self.lives.get_mut(inc.node.index())?.as_mut().filter(|life| life.inc == inc)
    }

    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Started { inc } => self.update(*inc, |life| life.passed = true),
            Event::StartFailed { inc, .. } => self.update(*inc, |life| (life.passed, life.ended) = (true, true)),
            Event::Exited { inc, leftovers, .. } => self.update(*inc, |life| {
                if !life.main_gone {
                    (life.passed, life.main_gone, life.ended) = (true, true, !*leftovers);
                }
            }),
            Event::Emptied { inc } => self.update(*inc, |life| life.ended |= life.main_gone),
            Event::Signal(_) => self.hurried |= self.fell.is_some(),
            Event::Spawned { .. } | Event::Strays { .. } | Event::TieBroken(_) | Event::Stopped { .. } => {}
        }
    }

    fn update(&mut self, inc: Incarnation, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.life(inc).filter(|life| !life.ended) {
            change(life);
        }
    }

    pub fn on_command(&mut self, command: &Command, now: Monotonic, kernel: &Kernel) -> Verdicts {
        law(!self.over, || format!("{command:?} after the end"))?;
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
                (life.ended, life.released) = (true, true);
                law(fits, || format!("{command:?} of what has no leftovers to leave alone"))
            }
            Command::CloseQueue { queue, end } => {
                let put = *end == QueueEnd::Put;
                let used = self.users(queue.0, put).any(|id| self.is_live(id) || self.may_start(id));
                law(!used, || format!("{command:?} while somebody may use it"))?;
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
            Command::Suspend => Ok(()),
        }
    }

    fn on_start(&mut self, inc: Incarnation, now: Monotonic) -> Verdicts {
        law(inc.serial > self.serial, || format!("the serial of {inc:?} does not grow"))?;
        self.serial = inc.serial;
        law(self.lives[inc.node.index()].is_none(), || format!("{inc:?} is started again"))?;
        law(!self.falls_around(inc.node), || format!("{inc:?} is started in a group that falls"))?;
        let chain = core::iter::once(inc.node).chain(ancestors(&self.spec, inc.node));
        for dependency in chain.flat_map(|id| self.spec.node(id).after.clone()) {
            law(self.has_passed(dependency), || format!("{inc:?} is started before {dependency:?} is ready"))?;
        }
        let (passed, ended, main_gone) = (false, false, false);
        let (given_up, released) = (false, false);
        let life = Life { inc, since: now, passed, ended, main_gone, asked: None, killed: None, given_up, released };
        self.lives[inc.node.index()] = Some(life);
        Ok(())
    }

    /// Ready, ended, or never to run; a group: whatever is in it.
    fn has_passed(&self, id: NodeId) -> bool {
        match (&self.lives[id.index()], &self.spec.node(id).kind) {
            (Some(life), _) => life.passed,
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
            What::Stopping { inc, main, .. } => self.on_stopping(*inc, *main, now),
            What::Unkillable { inc } => {
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
            | What::Hastened { .. } => Ok(()),
        }
    }

    fn on_fall(&mut self, head: NodeId, now: Monotonic) -> Verdicts {
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
    fn on_stopping(&mut self, inc: Incarnation, main: Main, now: Monotonic) -> Verdicts {
        let lifetime = self.spec.node(inc.node).lifetime;
        let Some(life) = self.life(inc) else { return Err(format!("{inc:?} is stopped and has no life")) };
        law(life.asked.is_none(), || format!("{inc:?} is asked to stop twice"))?;
        life.asked = Some(now);
        let expired = lifetime.is_some_and(|lifetime| now >= life.since + lifetime);
        if expired || main != Main::Alive {
            return Ok(());
        }
        law(self.falls_around(inc.node), || format!("{inc:?} is stopped for nothing"))?;
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
        self.over = true;
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
        if let (Some(fell), Some(bound)) = (self.fell, self.worst_case()) {
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

    fn is_live(&self, id: NodeId) -> bool {
        self.lives[id.index()].as_ref().is_some_and(|life| !life.ended)
    }

    fn may_start(&self, id: NodeId) -> bool {
        let autostart = self.spec.node(id).process().is_some_and(|process| process.autostart);
        self.lives[id.index()].is_none() && autostart && !self.falls_around(id)
    }

    fn users(&self, queue: u32, put: bool) -> impl Iterator<Item = NodeId> + '_ {
        self.spec.processes().filter_map(move |(id, process)| {
            let mut uses = process.queues.iter().filter(|usage| usage.queue.0 == queue);
            uses.any(|usage| if put { usage.put } else { usage.get }).then_some(id)
        })
    }

    fn ignores(&self, id: NodeId) -> bool {
        self.spec.node(id).process().is_some_and(|process| process.leftovers == Leftovers::Ignore)
    }

    fn falls_around(&self, id: NodeId) -> bool {
        ancestors(&self.spec, id).any(|group| self.falling.contains(&group.index()))
    }
}

fn ancestors(spec: &TreeSpec, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    core::iter::successors(spec.node(id).parent, |group| spec.node(*group).parent)
}
