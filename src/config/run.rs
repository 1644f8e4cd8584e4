//! The door without a file: the tree of `fated run`, one process under the root.

use std::ffi::OsString;
use std::sync::Arc;

use crate::config::environment::inherited;
use crate::name::{Name, NodeId};
use crate::signal::Signal;
use crate::spec::{
    Consequence, DEFAULT_STOP_TIMEOUT, Door, EnvVar, Fate, GroupSpec, Input, Leftovers, NodeKind, NodeSpec, Output,
    ProcessSpec, RestartPolicy, RunDoor, Session, StopPlan, TreeSpec,
};
use crate::time::{Duration, Limit};

/// What `fated run` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// The program and its arguments; not empty; no NUL byte in any.
    pub command: Vec<OsString>,
    pub door: RunDoor,
    /// Zero and infinity for none.
    pub lifetime: Option<Limit>,
    /// TERM where nothing is said.
    pub stop_signal: Option<Signal>,
    /// 10 seconds where nothing is said.
    pub stop_timeout: Option<Limit>,
    /// `[0]` where nothing is said.
    pub success: Option<Vec<u8>>,
    /// `Stop` where nothing is said.
    pub leftovers: Option<Leftovers>,
    pub session: Session,
    /// fated's own environment.
    pub env: Vec<EnvVar>,
    /// Signals that were ignored when fated was started.
    pub ignored_signals: Vec<Signal>,
    /// As `TreeSpec::signal_map`.
    pub signal_map: Vec<(Signal, Option<Signal>)>,
}

/// The tree of one process.
pub fn run_tree(request: RunRequest) -> TreeSpec {
    let name = Name::lossy(&basename(&request.command));
    let stop = StopPlan {
        signal: request.stop_signal.unwrap_or(Signal::TERM),
        timeout: request.stop_timeout.unwrap_or(Limit::After(DEFAULT_STOP_TIMEOUT)),
    };
    let leftovers = request.leftovers.unwrap_or(Leftovers::Stop);
    let lifetime = match request.lifetime {
        Some(Limit::After(span)) if span > Duration::ZERO => Some(span),
        Some(Limit::After(_) | Limit::Never) | None => None,
    };
    let own_env = [("FATED_TREE", name.as_str()), ("FATED_PROCESS", name.as_str()), ("FATED_INSTANCE", "1")];
    let process = ProcessSpec {
        command: request.command,
        shared_env: Arc::new(inherited(&request.env)),
        own_env: own_env.map(|(name, value)| (OsString::from(name), OsString::from(value))).to_vec(),
        cwd: None,
        instance: 1,
        autostart: true,
        success: request.success.unwrap_or_else(|| vec![0]),
        stop,
        parent_death_signal: Some(Signal::KILL),
        ready: crate::spec::Readiness::Started,
        start_timeout: crate::time::Limit::After(crate::spec::DEFAULT_START_TIMEOUT),
        watchdog: None,
        stop_command: None,
        lifetime_clock: crate::spec::LifetimeClock::Monotonic,
        leftovers,
        stdin: Input::Inherit,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
        queues: Vec::new(),
        session: request.session,
        ignored_signals: request.ignored_signals,
    };
    let fate = Fate { on_success: Consequence::End, on_failure: Consequence::End };
    let root = NodeSpec {
        path: String::new(),
        parent: None,
        after: Vec::new(),
        fate,
        restart: RestartPolicy::default(),
        lifetime: None,
        kind: NodeKind::Group(GroupSpec::default()),
    };
    let node = NodeSpec {
        path: name.to_string(),
        parent: Some(NodeId::ROOT),
        after: Vec::new(),
        fate,
        restart: RestartPolicy::default(),
        lifetime,
        kind: NodeKind::Process(Box::new(process)),
    };
    TreeSpec {
        name,
        door: Door::Run(request.door),
        nodes: vec![root, node],
        queues: Vec::new(),
        strays: leftovers,
        stray_stop: stop,
        signal_map: request.signal_map,
    }
}

/// The last part of the program's path.
fn basename(command: &[OsString]) -> String {
    let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    program.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_becomes_a_tree_of_one() {
        let var = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let spec = run_tree(RunRequest {
            command: ["/usr/bin/sleep", "5"].map(OsString::from).to_vec(),
            door: RunDoor::default(),
            lifetime: Some(Limit::AT_ONCE),
            stop_signal: None,
            stop_timeout: None,
            success: None,
            leftovers: Some(Leftovers::Wait),
            session: Session::Terminal,
            env: vec![var("A", "1"), var("NOTIFY_SOCKET", "x"), var("FATED_ID", "7"), var("A", "2")],
            ignored_signals: vec![Signal::HUP],
            signal_map: Vec::new(),
        });
        assert_eq!((spec.name.as_str(), spec.strays), ("sleep", Leftovers::Wait));
        let [_, node] = &spec.nodes[..] else { panic!("two nodes") };
        let process = node.process().unwrap();
        assert_eq!((node.path.as_str(), node.lifetime), ("sleep", None));
        assert_eq!(*process.shared_env, [var("A", "1")]);
        assert!(process.own_env.contains(&var("FATED_PROCESS", "sleep")));
        assert_eq!(process.ignored_signals, [Signal::HUP]);
    }
}
