//! Shared queues through whole trees, over both transports: every message to exactly one reader, none torn, whoever is
//! killed at whatever moment.

#[path = "../common/mod.rs"]
mod common;
mod example;
mod flow;
mod killed;
mod rates;

/// Writers and readers that check what they see; `tests/queues/worker.py`.
const WORKER: &str = include_str!("worker.py");

/// Both transports, with the longest message of each that is tried.
const TRANSPORTS: [(&str, usize); 2] = [("seqpacket", 60_000), ("pipe", 4096)];

/// A tree around one queue `q`; `rest` has the processes.
fn tree(transport: &str, max: usize, rest: &str) -> String {
    format!("name = 'flow'\n[queue.q]\ntransport = '{transport}'\nmessage_max = {max}\ncapacity = '256KiB'\n{rest}")
}

/// A scene with the worker and this tree.
fn scene(user: common::User, tree: &str) -> common::Scene {
    let scene = common::Scene::new(user);
    scene.write("worker.py", WORKER);
    scene.write("tree.toml", tree);
    scene
}
