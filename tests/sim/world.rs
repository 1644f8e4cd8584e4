//! One seed: a random plan, a random kernel, and the core between them on a clock that jumps from one event to the next.

use fated::name::{Incarnation, NodeId};
use fated::signal::Signal;
use fated::spec::{Door, TreeSpec};
use fated::supervisor::Supervisor;
use fated::supervisor::command::Command;
use fated::supervisor::event::{Event, Tie};
use fated::supervisor::record::{How, Record, Summary, What};
use fated::time::{Duration, Monotonic};

use crate::faults::Fault;
use crate::kernel::Kernel;
use crate::last::End;
use crate::laws::Laws;
use crate::plan;
use crate::rng::Rng;
use crate::shadow::Shadow;

/// No tree of the plans here needs more.
const STEPS_MAX: u32 = 5_000;

#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub nodes_max: usize,
    pub fault: Option<Fault>,
    /// Judge by the laws alone, not by the shadow.
    pub laws_alone: bool,
    /// Write down everything that goes in and out.
    pub trace: bool,
}

/// What became of a seed.
pub struct Run {
    pub outcome: Result<(), String>,
    pub trace: Vec<String>,
    /// How often each kind of record was seen, by `kind_of`.
    pub seen: [u64; KINDS],
    pub steps: u32,
}

struct World {
    setup: Setup,
    rng: Rng,
    now: Monotonic,
    core: Supervisor,
    shadow: Shadow,
    laws: Laws,
    kernel: Kernel,
    /// Commands that the shell has not carried out yet.
    pending: Vec<Command>,
    past: Vec<Event>,
    /// The shell is late with timeouts by so much.
    lag: Duration,
    over: bool,
    run: Run,
}

pub fn run(setup: &Setup) -> Run {
    let mut world = World::new(setup.clone());
    world.run.outcome = world.live();
    world.run
}

impl World {
    fn new(setup: Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let spec = plan::tree(&mut rng.fork(), setup.nodes_max);
        let mut kernel = Kernel::new(rng.fork(), spec.nodes.len());
        plan_the_outside(&mut rng.fork(), &mut kernel, &spec);
        let now = Monotonic::ORIGIN;
        let seen = setup.fault.map_or(spec.clone(), |fault| fault.plan(spec.clone()));
        let lag = Duration::from_millis(if rng.chance(90) { 0 } else { rng.pick(&[1, 20, 1_500]) });
        let trace = if setup.trace { describe(&spec) } else { Vec::new() };
        Self {
            core: Supervisor::new(seen, now),
            shadow: Shadow::new(spec.clone(), now),
            laws: Laws::new(spec, lag),
            kernel,
            pending: Vec::new(),
            past: Vec::new(),
            lag,
            rng,
            now,
            setup,
            over: false,
            run: Run { outcome: Ok(()), trace, seen: [0; KINDS], steps: 0 },
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.take_commands()?;
        while !self.over {
            self.run.steps += 1;
            if self.run.steps > STEPS_MAX {
                return Err("the tree never comes to rest".into());
            }
            if self.kernel.next_at() != Some(self.now) || !self.rng.chance(30) {
                self.carry_out();
            }
            self.advance()?;
            self.make_noise()?;
        }
        self.carry_out();
        self.disturb_the_dead()
    }

    fn carry_out(&mut self) {
        for command in core::mem::take(&mut self.pending) {
            self.kernel.carry_out(&command, self.now);
        }
    }

    /// Moves on to whatever comes next.
    fn advance(&mut self) -> Result<(), String> {
        let deadline = self.core.poll_timeout();
        let deadline = self.setup.fault.map_or(deadline, |fault| fault.deadline(deadline));
        let expected = self.shadow.next_deadline();
        if deadline != expected && !self.setup.laws_alone {
            return Err(format!("the next deadline is {deadline:?}, not {expected:?}"));
        }
        let due = deadline.map(|deadline| deadline + self.lag);
        match (self.kernel.next_at(), due) {
            (None, None) => Err("nothing will ever happen, and the tree has not ended".into()),
            (Some(at), due) if due.is_none_or(|due| at < due || (at == due && self.rng.chance(50))) => {
                self.now = self.now.max(at);
                match self.kernel.fire() {
                    Some(event) => self.deliver(event),
                    None => Ok(()),
                }
            }
            (_, Some(due)) => {
                self.now = self.now.max(due);
                self.time_out()
            }
            (Some(_), None) => Err("unreachable: an event without a deadline is taken above".into()),
        }
    }

    fn deliver(&mut self, event: Event) -> Result<(), String> {
        self.write(|| format!("> {event:?}"));
        self.laws.on_event(&event);
        if !self.setup.laws_alone {
            self.shadow.handle_event(&event, self.now);
        }
        let heard = match self.setup.fault {
            Some(fault) => fault.event(event.clone()),
            None => Some(event.clone()),
        };
        if let Some(event) = heard {
            self.core.handle_event(event, self.now);
        }
        if !matches!(event, Event::Signal(_) | Event::TieBroken(_) | Event::Stopped { .. }) {
            self.past.push(event);
        }
        self.take_commands()
    }

    fn time_out(&mut self) -> Result<(), String> {
        self.write(|| "> timeout".into());
        let told = self.setup.fault.map_or(self.now, |fault| fault.now(self.now));
        self.core.handle_timeout(told);
        // What a timeout brings about may be due at once: each round goes one level down.
        for _ in 0..self.shadow.nodes.len() + 3 {
            if self.core.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
                self.core.handle_timeout(self.now);
            }
            if self.setup.laws_alone {
                continue;
            }
            if self.shadow.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                self.shadow.handle_timeout(self.now);
            }
        }
        self.take_commands()
    }

    /// Compares what the core commands with what it has to, and passes it on.
    fn take_commands(&mut self) -> Result<(), String> {
        let mut expected = self.shadow.take_expected();
        while let Some(command) = self.core.poll_command() {
            let commands = match self.setup.fault {
                Some(fault) => fault.command(command),
                None => vec![command],
            };
            for command in commands {
                self.write(|| format!("< {command:?}"));
                self.laws.on_command(&command, self.now, &self.kernel)?;
                self.match_expected(&mut expected, &command)?;
                self.pending.push(command);
            }
        }
        match expected.first() {
            Some(forgotten) if !self.setup.laws_alone => Err(format!("the core forgot {forgotten:?}")),
            Some(_) | None => Ok(()),
        }
    }

    fn match_expected(&mut self, expected: &mut Vec<Command>, command: &Command) -> Result<(), String> {
        if let Command::Record(record) = command {
            self.run.seen[kind_of(&record.what)] += 1;
            return if self.setup.laws_alone { Ok(()) } else { self.check_record(record) };
        }
        self.over |= matches!(command, Command::End { .. });
        let found = expected.iter().position(|expected| match (expected, command) {
            (Command::Start { inc: expected }, Command::Start { inc }) => expected.node == inc.node,
            (expected, command) => expected == command,
        });
        match found {
            Some(found) => drop(expected.remove(found)),
            None if self.setup.laws_alone => {}
            None => return Err(format!("{command:?} was not to be")),
        }
        if let Command::Start { inc } = command {
            self.shadow.nodes[inc.node.index()].inc = Some(*inc);
        }
        Ok(())
    }

    fn check_record(&self, record: &Record) -> Result<(), String> {
        let What::TreeEnded(Summary { lasted, cause, fall, unkillable, .. }) = &record.what else { return Ok(()) };
        let nodes = &self.shadow.nodes;
        let given_up = self.shadow.spec.ids().filter(|id| nodes[id.index()].given_up);
        if self.shadow.end != End::Over {
            return Err("the tree ends too early".into());
        }
        // Groups without anything to run end in the instant in which they open, in no particular order.
        let expected = self.shadow.cause();
        let all_ended = cause.how == How::AllEnded && expected.how == How::AllEnded && cause.at == expected.at;
        if cause != expected && !all_ended {
            return Err(format!("the first cause is {:?}, not {cause:?}", self.shadow.cause()));
        }
        let times = *lasted == self.now - Monotonic::ORIGIN && *fall == self.now - cause.at;
        if !times || !given_up.eq(unkillable.iter().copied()) {
            return Err(format!("the summary is wrong: {record:?}"));
        }
        Ok(())
    }

    /// Repeated, forged and stale events, and timeouts that are none: nothing comes of them.
    fn make_noise(&mut self) -> Result<(), String> {
        if !self.rng.chance(12) || self.over {
            return Ok(());
        }
        let node = NodeId(self.rng.below(self.shadow.nodes.len() + 1) as u32);
        let forged = Incarnation { node, serial: 1_000 + self.rng.next() % 1_000 };
        let status = fated::exit::ExitStatus::SUCCESS;
        let event = match self.rng.below(7) {
            0 => Event::Started { inc: forged },
            1 => Event::Exited { inc: forged, status, leftovers: false },
            2 => Event::Emptied { inc: forged },
            3 if self.shadow.end == End::NotYet && !self.setup.laws_alone => Event::Strays { any: self.rng.chance(50) },
            4 if self.core.poll_timeout().is_none_or(|deadline| deadline > self.now) => {
                self.write(|| "> spurious timeout".into());
                self.core.handle_timeout(self.now);
                return self.take_commands();
            }
            _ if !self.past.is_empty() => self.past[self.rng.below(self.past.len())].clone(),
            _ => return Ok(()),
        };
        self.write(|| format!("> noise: {event:?}"));
        self.core.handle_event(event, self.now);
        self.take_commands()
    }

    /// After its end the core says nothing any more.
    fn disturb_the_dead(&mut self) -> Result<(), String> {
        for signal in [Signal::TERM, Signal::INT, Signal::INT, Signal::USR1, Signal::TSTP, Signal::CONT] {
            self.core.handle_event(Event::Signal(signal), self.now);
        }
        self.core.handle_event(Event::TieBroken(Tie::Guard), self.now);
        for event in core::mem::take(&mut self.past) {
            self.core.handle_event(event, self.now);
        }
        self.core.handle_timeout(self.now + Duration::from_secs(3_600));
        if let Some(deadline) = self.core.poll_timeout() {
            return Err(format!("a deadline after the end: {deadline:?}"));
        }
        self.take_commands()
    }

    fn write(&mut self, line: impl FnOnce() -> String) {
        if self.setup.trace {
            self.run.trace.push(format!("{:>12} {}", self.now.as_nanos() / 1_000_000, line()));
        }
    }
}

/// Signals and broken ties at random; whatever happens the tree is asked to end, and at last nothing lives.
fn plan_the_outside(rng: &mut Rng, kernel: &mut Kernel, spec: &TreeSpec) {
    const SIGNALS: [Signal; 12] = [
        Signal::TERM,
        Signal::TERM,
        Signal::INT,
        Signal::INT,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::TSTP,
        Signal::CONT,
        Signal::CHLD,
        Signal::WINCH,
    ];
    let at = |millis: u64| Monotonic::ORIGIN + Duration::from_millis(millis);
    let moments = [0, 1, 20, 500, 1_000, 1_001, 3_000, 9_000, 10_000, 10_001, 15_000, 20_000, 30_000];
    for _ in 0..rng.pick(&[0, 0, 1, 2, 3, 6]) {
        kernel.plan(at(rng.pick(&moments)), Event::Signal(rng.pick(&SIGNALS)));
    }
    if rng.chance(15) {
        let first = rng.pick(&moments);
        for gap in [0, rng.pick(&[0, 1, 500]), rng.pick(&[501, 1_000, 3_000])] {
            kernel.plan(at(first + gap), Event::Signal(Signal::INT));
        }
    }
    if rng.chance(10) {
        let tie = match rng.below(4) {
            0 => Tie::Launcher { pid: 7 },
            1 => Tie::Guard,
            2 => Tie::Pid { pid: 8 },
            _ => Tie::Descriptor { fd: 9 },
        };
        kernel.plan(at(rng.pick(&moments)), Event::TieBroken(tie));
    }
    kernel.plan(at(40_000), Event::TieBroken(Tie::Guard));
    if spec.door == Door::Up {
        (0..3).for_each(|second| kernel.plan(at(100_000 + second * 1_000), Event::Signal(Signal::INT)));
    }
    kernel.plan_end_of_everything(at(300_000));
}

fn describe(spec: &TreeSpec) -> Vec<String> {
    let node = |(id, node): (NodeId, &fated::spec::NodeSpec)| {
        let on: Vec<u32> = node.after.iter().map(|on| on.0).collect();
        let head = format!("{}: in {:?} after {on:?}", id.0, node.parent.map(|parent| parent.0));
        let fate = format!("{:?}/{:?} lifetime {:?}", node.fate.on_success, node.fate.on_failure, node.lifetime);
        match node.process() {
            None => format!("{head} group {fate} {:?}", node.kind),
            Some(process) => format!(
                "{head} process {fate} success {:?} stop {:?} leftovers {:?} autostart {} queues {:?}",
                process.success, process.stop, process.leftovers, process.autostart, process.queues
            ),
        }
    };
    let head = format!("{:?} strays {:?} {:?} map {:?}", spec.door, spec.strays, spec.stray_stop, spec.signal_map);
    core::iter::once(head).chain(spec.ids().zip(&spec.nodes).map(node)).collect()
}

/// The number of kinds of records.
pub const KINDS: usize = 18;

pub fn kind_of(what: &What) -> usize {
    match what {
        What::Spawned { .. } => 0,
        What::Started { .. } => 1,
        What::StartFailed { .. } => 2,
        What::Stopping { .. } => 3,
        What::Exited { .. } => 4,
        What::Killing { .. } => 5,
        What::Emptied { .. } => 6,
        What::Unkillable { .. } => 7,
        What::GroupFalling { .. } => 8,
        What::GroupEnded { .. } => 9,
        What::StraysStopping { .. } => 10,
        What::StraysKilled => 11,
        What::StraysUnkillable => 12,
        What::QueueClosed { .. } => 13,
        What::SignalIgnored { .. } => 14,
        What::SignalPassed { .. } => 15,
        What::Hastened { .. } => 16,
        What::TreeEnded(_) => 17,
    }
}
