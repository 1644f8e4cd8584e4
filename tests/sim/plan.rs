//! Random plans: every shape of tree and every policy that the core knows, as `config` could have made them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use fated::name::{Name, NodeId, QueueId};
use fated::signal::Signal;
use fated::spec::{
    Consequence, Door, Fate, GroupSpec, Input, Leftovers, NodeKind, NodeSpec, Output, ProcessSpec, QueueSpec, QueueUse,
    RunDoor, Session, StopPlan, Transport, TreeSpec,
};
use fated::time::{Duration, Limit};

use crate::rng::Rng;

const DEPTH_MAX: usize = 4;
const CONSEQUENCES: [Consequence; 3] = [Consequence::End, Consequence::Ignore, Consequence::Ignore];
const LEFTOVERS: [Leftovers; 4] = [Leftovers::Stop, Leftovers::Stop, Leftovers::Wait, Leftovers::Ignore];
const STOP_SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::USR2];

const fn ms(millis: u64) -> Limit {
    Limit::After(Duration::from_millis(millis))
}

const TIMEOUTS: [Limit; 7] = [Limit::AT_ONCE, ms(1), ms(20), ms(1_000), ms(3_000), ms(10_000), Limit::Never];
const BUDGETS: [Limit; 6] = [Limit::AT_ONCE, ms(1), ms(20), ms(2_000), ms(15_000), Limit::Never];
const LIFETIMES: [u64; 6] = [1, 20, 1_000, 3_000, 10_000, 15_000];

/// A tree of at most `nodes_max` nodes below the root.
pub fn tree(rng: &mut Rng, nodes_max: usize) -> TreeSpec {
    let run = rng.chance(20);
    let queues = if run { 0 } else { rng.below(4) };
    let door = match run {
        true => Door::Run(RunDoor { signal_group: rng.chance(30), preserve_status: rng.chance(40) }),
        false => Door::Up,
    };
    let root = group(rng);
    let mut nodes = vec![node(rng, String::new(), None, root)];
    let count = if run { nodes_max.min(1) } else { rng.below(nodes_max + 1) };
    for id in 1..=count {
        let parent = parent(rng, &nodes);
        let kind = match !run && rng.chance(30) {
            true => group(rng),
            false => NodeKind::Process(Box::new(process(rng, queues))),
        };
        nodes.push(node(rng, format!("n{id}"), Some(parent), kind));
    }
    for group in 1..nodes.len() {
        let empty = nodes.iter().all(|node| node.parent != Some(NodeId(group as u32)));
        if empty && nodes[group].process().is_none() && rng.chance(85) {
            let kind = NodeKind::Process(Box::new(process(rng, queues)));
            nodes.push(node(rng, format!("only{group}"), Some(NodeId(group as u32)), kind));
        }
    }
    add_after(rng, &mut nodes);
    TreeSpec {
        name: Name::lossy("sim"),
        door,
        nodes,
        queues: (0..queues).map(queue).collect(),
        strays: rng.pick(&LEFTOVERS),
        stray_stop: StopPlan { signal: Signal::TERM, timeout: rng.pick(&TIMEOUTS) },
        signal_map: signal_map(rng),
    }
}

fn node(rng: &mut Rng, path: String, parent: Option<NodeId>, kind: NodeKind) -> NodeSpec {
    let fate = Fate { on_success: rng.pick(&CONSEQUENCES), on_failure: rng.pick(&CONSEQUENCES) };
    let lifetime = rng.chance(15).then(|| Duration::from_millis(rng.pick(&LIFETIMES)));
    NodeSpec { path, parent, after: Vec::new(), fate, lifetime, kind }
}

fn group(rng: &mut Rng) -> NodeKind {
    NodeKind::Group(GroupSpec { stop_budget: rng.chance(25).then(|| rng.pick(&BUDGETS)) })
}

fn parent(rng: &mut Rng, nodes: &[NodeSpec]) -> NodeId {
    let depth = |id: usize| ancestors(nodes, id).len();
    let is_group = |id: usize| matches!(nodes[id].kind, NodeKind::Group(_));
    let groups: Vec<usize> = (0..nodes.len()).filter(|id| is_group(*id) && depth(*id) < DEPTH_MAX).collect();
    NodeId(rng.pick(&groups) as u32)
}

fn process(rng: &mut Rng, queues: usize) -> ProcessSpec {
    let mut uses = Vec::new();
    for queue in 0..queues {
        let (put, get) = rng.pick(&[(true, false), (false, true), (true, true), (false, false), (false, false)]);
        if put || get {
            uses.push(QueueUse { queue: QueueId(queue as u32), put, get });
        }
    }
    ProcessSpec {
        command: vec![OsString::from("x")],
        shared_env: Arc::default(),
        own_env: Vec::new(),
        cwd: None,
        instance: 1,
        autostart: rng.chance(90),
        success: rng.pick(&[&[0][..], &[0], &[0, 3], &[3], &[]]).to_vec(),
        stop: StopPlan { signal: rng.pick(&STOP_SIGNALS), timeout: rng.pick(&TIMEOUTS) },
        parent_death_signal: Some(Signal::KILL),
        leftovers: rng.pick(&LEFTOVERS),
        stdin: Input::Null,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
        queues: uses,
        session: Session::Own,
        ignored_signals: Vec::new(),
    }
}

fn queue(index: usize) -> QueueSpec {
    let name = Name::lossy(&format!("q{index}"));
    QueueSpec { name, transport: Transport::Pipe, capacity: 1 << 20, message_max: 4096 }
}

fn signal_map(rng: &mut Rng) -> Vec<(Signal, Option<Signal>)> {
    if !rng.chance(15) {
        return Vec::new();
    }
    let from = rng.pick(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1]);
    vec![(from, rng.pick(&[None, Some(Signal::TERM), Some(Signal::QUIT), Some(Signal::USR2), Some(Signal::INT)]))]
}

/// Random edges between any two levels, as long as the tree can still start.
fn add_after(rng: &mut Rng, nodes: &mut [NodeSpec]) {
    for id in 1..nodes.len() {
        for _ in 0..rng.pick(&[0, 0, 1, 1, 2]) {
            let on = 1 + rng.below(nodes.len() - 1);
            let related = on == id || ancestors(nodes, id).contains(&on) || ancestors(nodes, on).contains(&id);
            let known = nodes[id].after.contains(&NodeId(on as u32));
            if !related && !known && !would_wait_for_itself(nodes, id, on) {
                nodes[id].after.push(NodeId(on as u32));
            }
        }
    }
}

/// Whether `id` after `on` would close a circle: `on` cannot pass before something that cannot start before `id` passes.
fn would_wait_for_itself(nodes: &[NodeSpec], id: usize, on: usize) -> bool {
    let (mut seen, mut open) = (HashSet::new(), vec![(on, false)]);
    // A pair is (node, its start alone): passing needs more than starting.
    while let Some((node, start)) = open.pop() {
        if !seen.insert((node, start)) {
            continue;
        }
        if node == id {
            return true;
        }
        if start {
            open.extend(nodes[node].after.iter().map(|dependency| (dependency.index(), false)));
            open.extend(nodes[node].parent.map(|parent| (parent.index(), true)));
        } else {
            open.push((node, true));
            let members = (0..nodes.len()).filter(|member| nodes[*member].parent == Some(NodeId(node as u32)));
            open.extend(members.map(|member| (member, false)));
        }
    }
    false
}

fn ancestors(nodes: &[NodeSpec], id: usize) -> Vec<usize> {
    core::iter::successors(nodes[id].parent, |group| nodes[group.index()].parent).map(NodeId::index).collect()
}
