//! The small trees and the driver of the core that its tests are written with.

use std::sync::Arc;

use crate::exit::{ExitStatus, Verdict};
use crate::name::Name;
use crate::spec::{
    Consequence, Door, Fate, GroupSpec, Input, Leftovers, NodeSpec, Output, QueueUse, RunDoor, Session, StopPlan,
};
use crate::supervisor::*;
use record::Summary;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn node(parent: u32, kind: NodeKind) -> NodeSpec {
    let fate = Fate { on_success: Consequence::End, on_failure: Consequence::End };
    NodeSpec { path: String::new(), parent: Some(NodeId(parent)), after: Vec::new(), fate, lifetime: None, kind }
}

/// A group in `parent`, a process in `parent`: default policies, a stop timeout of 10 s.
pub(super) fn group(parent: u32) -> NodeSpec {
    node(parent, NodeKind::Group(GroupSpec::default()))
}

pub(super) fn process(parent: u32) -> NodeSpec {
    let spec = ProcessSpec {
        command: vec!["x".into()],
        shared_env: Arc::default(),
        own_env: Vec::new(),
        cwd: None,
        instance: 1,
        autostart: true,
        success: vec![0],
        stop: StopPlan { signal: Signal::TERM, timeout: Limit::After(ms(10_000)) },
        parent_death_signal: Some(Signal::KILL),
        leftovers: Leftovers::Stop,
        stdin: Input::Null,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
        queues: Vec::new(),
        session: Session::Own,
        ignored_signals: Vec::new(),
    };
    node(parent, NodeKind::Process(Box::new(spec)))
}

/// Changes that read like the tree file.
impl NodeSpec {
    pub(super) fn with(mut self, change: impl FnOnce(&mut ProcessSpec)) -> Self {
        if let NodeKind::Process(process) = &mut self.kind {
            change(process);
        }
        self
    }

    pub(super) fn after(mut self, on: &[u32]) -> Self {
        self.after = on.iter().map(|id| NodeId(*id)).collect();
        self
    }

    pub(super) fn on_success(mut self, consequence: Consequence) -> Self {
        self.fate.on_success = consequence;
        self
    }

    pub(super) fn on_failure(mut self, consequence: Consequence) -> Self {
        self.fate.on_failure = consequence;
        self
    }

    pub(super) fn lifetime(mut self, millis: u64) -> Self {
        self.lifetime = Some(ms(millis));
        self
    }

    pub(super) fn budget(mut self, limit: Limit) -> Self {
        self.kind = NodeKind::Group(GroupSpec { stop_budget: Some(limit) });
        self
    }

    pub(super) fn timeout(self, limit: Limit) -> Self {
        self.with(|process| process.stop.timeout = limit)
    }

    pub(super) fn leftovers(self, policy: Leftovers) -> Self {
        self.with(|process| process.leftovers = policy)
    }

    pub(super) fn uses(self, put: bool, get: bool) -> Self {
        self.with(|process| process.queues.push(QueueUse { queue: QueueId(0), put, get }))
    }
}

pub(super) fn tree(door: Door, nodes: Vec<NodeSpec>) -> TreeSpec {
    let root = NodeSpec { parent: None, ..group(0) };
    TreeSpec {
        name: Name::lossy("test"),
        door,
        nodes: core::iter::once(root).chain(nodes).collect(),
        queues: Vec::new(),
        strays: Leftovers::Ignore,
        stray_stop: StopPlan { signal: Signal::TERM, timeout: Limit::After(ms(10_000)) },
        signal_map: Vec::new(),
    }
}

/// A core and the processes that it has started, all of them running unless the test says otherwise.
pub(super) struct Scene {
    pub(super) core: Supervisor,
    pub(super) now: Monotonic,
    lives: Vec<Incarnation>,
    pub(super) said: Vec<String>,
    pub(super) summary: Option<Summary>,
}

impl Scene {
    pub(super) fn new(spec: TreeSpec) -> Self {
        let mut scene = Self::before(spec);
        scene.listen(true);
        scene
    }

    /// What it starts first is not reported as running.
    pub(super) fn not_yet_running(spec: TreeSpec) -> Self {
        let mut scene = Self::before(spec);
        scene.listen(false);
        scene
    }

    fn before(spec: TreeSpec) -> Self {
        let now = Monotonic::ORIGIN;
        Self { core: Supervisor::new(spec, now), now, lives: Vec::new(), said: Vec::new(), summary: None }
    }

    pub(super) fn up(nodes: Vec<NodeSpec>) -> Self {
        Self::new(tree(Door::Up, nodes))
    }

    pub(super) fn run(command: NodeSpec) -> Self {
        Self::new(tree(Door::Run(RunDoor::default()), vec![command]))
    }

    /// Carries commands out; what is started runs at once, if `run`.
    fn listen(&mut self, run: bool) {
        while let Some(command) = self.core.poll_command() {
            if let Command::Start { inc } = command {
                self.lives.push(inc);
                if run {
                    self.core.handle_event(Event::Spawned { inc, pid: 1 }, self.now);
                    self.core.handle_event(Event::Started { inc }, self.now);
                }
            }
            if let Command::Record(Record { what: What::TreeEnded(summary), .. }) = &command {
                self.summary = Some(summary.clone());
            }
            self.said.extend(text(&command));
        }
    }

    pub(super) fn event(&mut self, event: Event) -> &mut Self {
        self.core.handle_event(event, self.now);
        self.listen(true);
        self
    }

    pub(super) fn inc(&self, id: u32) -> Incarnation {
        *self.lives.iter().rev().find(|inc| inc.node == NodeId(id)).expect("the test has started it")
    }

    pub(super) fn ends(&mut self, id: u32, status: ExitStatus, leftovers: bool) -> &mut Self {
        let inc = self.inc(id);
        self.event(Event::Exited { inc, status, leftovers })
    }

    pub(super) fn exits(&mut self, id: u32, code: u8) -> &mut Self {
        self.ends(id, ExitStatus::Code(code), false)
    }

    pub(super) fn dies(&mut self, id: u32, signal: Signal) -> &mut Self {
        self.ends(id, ExitStatus::Signaled { signal, core_dumped: false }, false)
    }

    pub(super) fn leaves(&mut self, id: u32, code: u8) -> &mut Self {
        self.ends(id, ExitStatus::Code(code), true)
    }

    pub(super) fn empties(&mut self, id: u32) -> &mut Self {
        let inc = self.inc(id);
        self.event(Event::Emptied { inc })
    }

    pub(super) fn signal(&mut self, signal: Signal) -> &mut Self {
        self.event(Event::Signal(signal))
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        let until = self.now + ms(millis);
        while let Some(deadline) = self.core.poll_timeout().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.core.handle_timeout(self.now);
            self.listen(true);
        }
        self.now = until;
        self
    }

    /// What was commanded since the last look.
    pub(super) fn says(&mut self, expected: &str) -> &mut Self {
        let said = core::mem::take(&mut self.said).join(", ");
        assert_eq!(said, expected);
        self
    }

    pub(super) fn cause(&self) -> &Cause {
        &self.summary.as_ref().expect("the tree has ended").cause
    }
}

fn text(command: &Command) -> Option<String> {
    let whom = |inc: &Incarnation, scope: &Scope| match scope {
        Scope::Main => format!("{}", inc.node.0),
        Scope::Group => format!("{} group", inc.node.0),
        Scope::Leftovers => format!("{} leftovers", inc.node.0),
        Scope::Everything => format!("{} all", inc.node.0),
    };
    let name = |signal: &Signal| signal.to_string()[3..].to_owned();
    Some(match command {
        Command::Start { inc } => format!("start {}", inc.node.0),
        Command::Signal { inc, signal, scope } => format!("{} {}", name(signal), whom(inc, scope)),
        Command::Kill { inc, scope: Scope::Everything } => format!("kill {}", inc.node.0),
        Command::Kill { inc, scope } => format!("kill only {}", whom(inc, scope)),
        Command::FindStrays => "strays?".into(),
        Command::SignalStrays { signal } => format!("{} strays", name(signal)),
        Command::KillStrays => "kill strays".into(),
        Command::Release { inc } => format!("release {}", inc.node.0),
        Command::CloseQueue { queue, end } => format!("close {} {end:?}", queue.0),
        Command::Suspend => "suspend".into(),
        Command::End { verdict: Verdict::Code(code) } => format!("end {code}"),
        Command::End { verdict: Verdict::Signal(signal) } => format!("end {signal}"),
        Command::Wake { .. } | Command::Record(_) => return None,
    })
}
