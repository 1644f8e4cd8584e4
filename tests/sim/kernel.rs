//! A model of the kernel and of the processes: they start or fail to, end by themselves, obey or ignore signals, leave
//! others behind, and die of SIGKILL at once, late or never.
//!
//! It alone knows what is truly alive. It hears of the core's will through `carry_out`, and `fire` turns whatever is
//! due into what the shell would report.

use fated::exit::ExitStatus;
use fated::name::{Incarnation, NodeId};
use fated::signal::Signal;
use fated::start::{Errno, Stage, StartError};
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::Event;
use fated::time::{Duration, Monotonic};

use crate::rng::Rng;

const LIVES: [u64; 10] = [0, 1, 20, 500, 1_000, 3_000, 10_000, 10_001, 15_000, 30_000];
const REACTIONS: [u64; 7] = [0, 0, 1, 1, 20, 1_000, 4_000];
/// Up to and beyond the patience of the core, and just on it.
const KILL_DELAYS: [u64; 12] = [0, 0, 0, 0, 1, 1, 1, 20, 20, 9_999, 10_000, 20_000];

pub struct Kernel {
    rng: Rng,
    queue: Vec<Scheduled>,
    /// By node: a node has one life as long as nothing is restarted.
    procs: Vec<Option<Proc>>,
    strays: Vec<Body>,
    /// The core asked for strays and was told that there are some: it is told of the last one's end.
    watching: bool,
    orderly: bool,
    /// Nothing lives any more, and nothing new will.
    over: bool,
}

struct Scheduled {
    at: Monotonic,
    /// Decides between what is due in one instant.
    lot: u64,
    act: Act,
}

enum Act {
    Spawn(NodeId),
    Started(NodeId),
    FailStart(NodeId, StartError),
    MainEnds(NodeId, ExitStatus),
    LeftoversEnd(NodeId),
    StrayEnds(usize),
    AnswerStrays,
    Outside(Event),
    EndEverything,
}

/// Something that lives and can be told to die: a main process, its leftovers, a stray.
#[derive(Clone)]
struct Body {
    alive: bool,
    stopped: bool,
    /// A stop signal that waits for it to be continued.
    pending: Option<Signal>,
    /// How fast it obeys a signal; `None`: it ignores it.
    obeys: Option<Duration>,
    /// How fast SIGKILL works; `None`: never.
    dies: Option<Duration>,
    /// How long it lives by itself; `None`: for ever.
    life: Option<Duration>,
}

struct Proc {
    inc: Incarnation,
    main: Body,
    left: Body,
    leaves: bool,
    spawned: bool,
    /// Its exec hangs: `Started` comes only with its death.
    hangs: bool,
    /// Its start will fail, if nothing ends it before.
    fails: bool,
    /// SIGKILL was sent to everything.
    condemned: bool,
    released: bool,
    status: ExitStatus,
}

impl Kernel {
    pub fn new(mut rng: Rng, nodes: usize) -> Self {
        let orderly = rng.chance(30);
        let procs = (0..nodes).map(|_| None).collect();
        Self { rng, queue: Vec::new(), procs, strays: Vec::new(), watching: false, orderly, over: false }
    }

    /// Something from outside, at its time.
    pub fn plan(&mut self, at: Monotonic, event: Event) {
        self.schedule(at, Act::Outside(event));
    }

    /// From then on nothing lives, whatever it was: the way out of a plan without an end.
    pub fn plan_end_of_everything(&mut self, at: Monotonic) {
        self.schedule(at, Act::EndEverything);
    }

    pub fn next_at(&self) -> Option<Monotonic> {
        self.queue.iter().map(|scheduled| scheduled.at).min()
    }

    /// Whether something of this life still runs and was not handed over to the tree.
    pub fn lives(&self, inc: Incarnation) -> bool {
        let proc = self.procs[inc.node.index()].as_ref().filter(|proc| proc.inc == inc);
        proc.is_some_and(|proc| proc.main.alive || (proc.left.alive && !proc.released))
    }

    pub fn any_stray(&self) -> bool {
        self.strays.iter().any(|stray| stray.alive)
    }

    /// Does the earliest thing that is due; what the shell would report of it, if anything.
    pub fn fire(&mut self) -> Option<Event> {
        let earliest = (0..self.queue.len()).min_by_key(|index| (self.queue[*index].at, self.queue[*index].lot))?;
        let Scheduled { at, act, .. } = self.queue.swap_remove(earliest);
        match act {
            Act::Spawn(id) => self.spawn(id, at),
            Act::Started(id) => self.procs[id.index()].as_ref().map(|proc| Event::Started { inc: proc.inc }),
            Act::FailStart(id, error) => {
                let proc = self.procs[id.index()].as_mut().filter(|proc| proc.main.alive)?;
                proc.main.alive = false;
                Some(Event::StartFailed { inc: proc.inc, error })
            }
            Act::MainEnds(id, status) => self.end_main(id, status, at),
            Act::LeftoversEnd(id) => {
                let proc = self.procs[id.index()].as_mut().filter(|proc| proc.left.alive && !proc.released)?;
                proc.left.alive = false;
                Some(Event::Emptied { inc: proc.inc })
            }
            Act::StrayEnds(index) => {
                self.strays[index].alive = false;
                self.report_last_stray()
            }
            Act::AnswerStrays => {
                self.watching = self.any_stray();
                Some(Event::Strays { any: self.watching })
            }
            Act::Outside(event) => Some(event),
            Act::EndEverything => {
                self.end_everything(at);
                None
            }
        }
    }

    pub fn carry_out(&mut self, command: &Command, now: Monotonic) {
        match command {
            Command::Start { inc } => self.start(*inc, now),
            Command::Signal { inc, signal, scope } => self.signal(inc.node, *signal, *scope, now),
            Command::Wake { inc, scope } => self.signal(inc.node, Signal::CONT, *scope, now),
            Command::Kill { inc, scope } => self.kill(inc.node, *scope, now),
            Command::FindStrays => {
                let delay = self.delay(&[0, 0, 1, 20]);
                self.schedule(now + delay, Act::AnswerStrays);
            }
            Command::SignalStrays { signal } => {
                for index in 0..self.strays.len() {
                    if let Some(delay) = self.strays[index].take_signal(*signal) {
                        self.schedule(now + delay, Act::StrayEnds(index));
                    }
                }
            }
            Command::KillStrays => {
                for index in 0..self.strays.len() {
                    if let Some(delay) = self.strays[index].dies.filter(|_| self.strays[index].alive) {
                        self.schedule(now + delay, Act::StrayEnds(index));
                    }
                }
            }
            Command::Release { inc } => self.release(inc.node, now),
            Command::CloseQueue { .. } | Command::Suspend | Command::Record(_) | Command::End { .. } => {}
        }
    }

    fn start(&mut self, inc: Incarnation, now: Monotonic) {
        let (main, left) = (self.body(), Body { alive: false, ..self.body() });
        let (leaves, hangs, fails) = (self.rng.chance(35), self.rng.chance(4), self.rng.chance(6));
        let status = self.status();
        let (spawned, condemned, released) = (false, false, false);
        let proc = Proc { inc, main, left, leaves, spawned, hangs, fails, condemned, released, status };
        self.procs[inc.node.index()] = Some(proc);
        let delay = self.delay(&[0, 0, 0, 1]);
        let stage = self.rng.pick(&Stage::ALL);
        if fails {
            let errno = self.rng.pick(&[Errno::NOENT, Errno::AGAIN, Errno(13), Errno::NOSYS]);
            let error = StartError { stage, errno, object: String::new() };
            let delay = delay + self.delay(&REACTIONS);
            self.schedule(now + delay, Act::FailStart(inc.node, error));
        }
        if !fails || stage > Stage::Clone {
            self.schedule(now + delay, Act::Spawn(inc.node));
        }
    }

    fn spawn(&mut self, id: NodeId, now: Monotonic) -> Option<Event> {
        let pid = 100 + id.0;
        let exec = self.delay(&[0, 0, 1, 20, 1_000]);
        let proc = self.procs[id.index()].as_mut().filter(|proc| proc.main.alive)?;
        proc.spawned = true;
        let (inc, status, runs, life) = (proc.inc, proc.status, !proc.hangs && !proc.fails, proc.main.life);
        let pending = proc.main.pending.take();
        if runs {
            self.schedule(now + exec, Act::Started(id));
            if let Some(life) = life {
                self.schedule(now + life, Act::MainEnds(id, status));
            }
        }
        match pending {
            Some(Signal::KILL) => self.kill_main(id, now),
            Some(signal) => self.signal(id, signal, Scope::Main, now),
            None => {}
        }
        Some(Event::Spawned { inc, pid })
    }

    fn end_main(&mut self, id: NodeId, status: ExitStatus, now: Monotonic) -> Option<Event> {
        if self.rng.chance(10) {
            let stray = self.body();
            self.add_stray(stray, now);
        }
        let proc = self.procs[id.index()].as_mut().filter(|proc| proc.main.alive)?;
        proc.main.alive = false;
        proc.left.alive = proc.leaves;
        let (inc, leftovers, hangs) = (proc.inc, proc.leaves, proc.hangs);
        let own = if leftovers { proc.left.life } else { None };
        let killed = if leftovers && proc.condemned { proc.left.dies } else { None };
        for delay in own.into_iter().chain(killed) {
            self.schedule(now + delay, Act::LeftoversEnd(id));
        }
        if hangs {
            // The report pipe closes with its death.
            self.schedule(now, Act::Started(id));
        }
        Some(Event::Exited { inc, status, leftovers })
    }

    fn signal(&mut self, id: NodeId, signal: Signal, scope: Scope, now: Monotonic) {
        let core_dumped = self.rng.chance(10);
        let by_signal = self.rng.chance(60);
        let code = self.rng.pick(&[0, 1, 3, 143]);
        let Some(proc) = self.procs[id.index()].as_mut() else { return };
        if matches!(scope, Scope::Main | Scope::Group | Scope::Everything) {
            if !proc.spawned && signal != Signal::CONT && signal != Signal::STOP {
                proc.main.pending = Some(signal);
            } else if let Some(delay) = proc.main.take_signal(signal) {
                let fatal = if signal == Signal::CONT { Signal::TERM } else { signal };
                let signaled = ExitStatus::Signaled { signal: fatal, core_dumped };
                let status = if by_signal { signaled } else { ExitStatus::Code(code) };
                self.schedule(now + delay, Act::MainEnds(id, status));
            }
        }
        if matches!(scope, Scope::Leftovers | Scope::Group | Scope::Everything)
            && let Some(proc) = self.procs[id.index()].as_mut()
            && let Some(delay) = proc.left.take_signal(signal)
        {
            self.schedule(now + delay, Act::LeftoversEnd(id));
        }
    }

    fn kill(&mut self, id: NodeId, scope: Scope, now: Monotonic) {
        let Some(proc) = self.procs[id.index()].as_mut() else { return };
        if scope == Scope::Everything {
            proc.condemned = true;
            if let Some(delay) = proc.left.dies.filter(|_| proc.left.alive) {
                self.schedule(now + delay, Act::LeftoversEnd(id));
            }
        }
        self.kill_main(id, now);
    }

    fn kill_main(&mut self, id: NodeId, now: Monotonic) {
        let Some(proc) = self.procs[id.index()].as_mut() else { return };
        if !proc.spawned {
            proc.main.pending = Some(Signal::KILL);
        } else if let Some(delay) = proc.main.dies {
            let status = ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false };
            self.schedule(now + delay, Act::MainEnds(id, status));
        }
    }

    /// What is left of a life becomes the tree's.
    fn release(&mut self, id: NodeId, now: Monotonic) {
        let Some(proc) = self.procs[id.index()].as_mut().filter(|proc| proc.left.alive) else { return };
        proc.released = true;
        let stray = proc.left.clone();
        self.add_stray(stray, now);
    }

    fn add_stray(&mut self, mut stray: Body, now: Monotonic) {
        if self.over {
            stray.life = Some(Duration::ZERO);
        }
        if let Some(life) = stray.life {
            self.schedule(now + life, Act::StrayEnds(self.strays.len()));
        }
        self.strays.push(Body { alive: true, ..stray });
    }

    fn report_last_stray(&mut self) -> Option<Event> {
        let last = self.watching && !self.any_stray();
        self.watching &= !last;
        last.then_some(Event::Strays { any: false })
    }

    fn end_everything(&mut self, now: Monotonic) {
        self.over = true;
        for index in 0..self.procs.len() {
            let Some(proc) = self.procs[index].as_mut() else { continue };
            let id = proc.inc.node;
            (proc.left.life, proc.left.dies) = (Some(Duration::ZERO), Some(Duration::ZERO));
            let status = ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false };
            self.schedule(now, Act::LeftoversEnd(id));
            self.schedule(now, Act::MainEnds(id, status));
        }
        for index in 0..self.strays.len() {
            self.schedule(now, Act::StrayEnds(index));
        }
    }

    fn body(&mut self) -> Body {
        let ignores = if self.orderly { 3 } else { 25 };
        let unkillable = if self.orderly { 0 } else { 3 };
        Body {
            alive: true,
            stopped: self.rng.chance(3),
            pending: None,
            obeys: (!self.rng.chance(ignores)).then(|| self.delay(&REACTIONS)),
            dies: (!self.rng.chance(unkillable)).then(|| self.delay(&KILL_DELAYS)),
            life: (!self.rng.chance(25)).then(|| self.delay(&LIVES)),
        }
    }

    fn status(&mut self) -> ExitStatus {
        match self.rng.below(10) {
            0..5 => ExitStatus::Code(0),
            5..8 => ExitStatus::Code(self.rng.pick(&[1, 2, 3, 124, 255])),
            _ => {
                let signal = self.rng.pick(&[Signal::SEGV, Signal::ABRT, Signal::KILL, Signal::TERM]);
                ExitStatus::Signaled { signal, core_dumped: self.rng.chance(50) }
            }
        }
    }

    fn delay(&mut self, millis: &[u64]) -> Duration {
        Duration::from_millis(self.rng.pick(millis))
    }

    fn schedule(&mut self, at: Monotonic, act: Act) {
        let lot = self.rng.next();
        self.queue.push(Scheduled { at, lot, act });
    }
}

impl Body {
    /// The delay after which the signal ends it, if it does.
    fn take_signal(&mut self, signal: Signal) -> Option<Duration> {
        if !self.alive {
            return None;
        }
        match signal {
            Signal::STOP => {
                self.stopped = true;
                None
            }
            Signal::CONT => {
                self.stopped = false;
                self.pending.take().and(self.obeys)
            }
            _ if self.stopped => {
                self.pending = Some(signal);
                None
            }
            _ => self.obeys,
        }
    }
}
