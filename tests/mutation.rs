//! No text makes the readers panic, and what they accept is a plan that the core can rely on. Equal seeds give equal
//! texts, so that a failure can be repeated.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fated::config::env_file::EnvFile;
use fated::config::resolve::{Overrides, Resolved, Surroundings, resolve};
use fated::config::tree_file::TreeFile;
use fated::name::{Name, NodeId};
use fated::render::check::Check;
use fated::spec::{NodeKind, TreeSpec};
use fated::time::{Duration, Limit};

const VALID: &str = include_str!("check/pipeline.toml");
const PROCFILE: &str = "# all\nweb: serve -p $PORT\r\n\n job-2 : work\n";
const ENV: &str = "A=1\n export B='x y'\nC=\"a\\n\\\"b\"\r\n# no\nD=\n";

/// Pieces that mutations put in: keys, values, brackets, and what is hard to read.
const PIECES: [&str; 40] = [
    "lifetime = 5\n",
    "# comment\n",
    "\n\n",
    "autostart = false\n",
    "success = [1]\n",
    "leftovers = \"stop\"\n",
    "[process.worker]\n",
    "[group.pool]\n",
    "[queue.items]\n",
    "after = [\"pool\"]\n",
    "after = [\"worker\"]\n",
    "group = \"pool\"\n",
    "stop_timeout = 1\n",
    "stop_timeout = \"infinity\"\n",
    "instances = 2\n",
    "instances = 99999999999999999999\n",
    "lifetime = 1e400\n",
    "lifetime = nan\n",
    "\"${\"",
    "${FATED_ID}",
    "${HOME}",
    "$${",
    "\u{feff}",
    "\r\n",
    "\0",
    "é",
    "\"",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    "#",
    "\\u0000",
    "\\",
    "0x7fffffffffffffff",
    "1979-05-27T07:32:00Z",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// The text with a few pieces cut, doubled, moved or put in, at character boundaries.
fn mutated(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(3) {
        let place = |random: &mut Random| {
            let at = random.below(text.len() + 1);
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let (a, b) = (place(random), place(random));
        let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 60));
        let to = (from..=to).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
        let at = place(random);
        match random.below(6) {
            0 => text.replace_range(from..to, ""),
            1 => {
                let piece = text[from..to].to_owned();
                text.insert_str(at, &piece);
            }
            2 => text.insert_str(at, PIECES[random.below(PIECES.len())]),
            // A piece in the place of a line is more often something that can be read.
            _ => {
                let begin = text[..at].rfind('\n').map_or(0, |line| line + 1);
                text.insert_str(begin, PIECES[random.below(18)]);
            }
        }
    }
    text
}

fn surroundings(env_files: BTreeMap<String, EnvFile>) -> Surroundings {
    Surroundings {
        env: vec![("HOME".into(), "/home/me".into())],
        directory: PathBuf::from("/srv"),
        default_name: Name::lossy("tree"),
        env_files,
    }
}

/// What the core relies on without looking again.
fn check_plan(spec: &TreeSpec) {
    let mut paths = std::collections::HashSet::new();
    for id in spec.ids() {
        let node = spec.node(id);
        assert_eq!(node.parent.is_none(), id == NodeId::ROOT);
        assert!(node.parent.is_none_or(|parent| parent < id && spec.node(parent).process().is_none()));
        assert!(paths.insert(&node.path));
        for other in &node.after {
            assert!(
                !ancestors(spec, id).any(|above| above == *other) && !ancestors(spec, *other).any(|above| above == id)
            );
        }
        if let Some(process) = node.process() {
            assert!(!process.command.is_empty() && !process.command[0].is_empty());
            let vars = process.shared_env.iter().chain(&process.own_env);
            let texts = process.command.iter().chain(vars.clone().flat_map(|(name, value)| [name, value]));
            assert!(texts.clone().all(|text| !text.as_encoded_bytes().contains(&0)));
            assert!(vars.clone().all(|(name, _)| !name.as_encoded_bytes().contains(&b'=')));
            assert!(process.queues.iter().all(|usage| usage.queue.index() < spec.queues.len()));
        }
    }
}

/// The node and all groups that it is in.
fn ancestors(spec: &TreeSpec, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    core::iter::successors(Some(id), |id| spec.node(*id).parent)
}

#[test]
fn no_text_makes_a_reader_panic() {
    let mut random = Random(0x5eed);
    let mut accepted = 0;
    for _ in 0..6_000 {
        let text = mutated(VALID, &mut random);
        let Ok(file) = TreeFile::parse("t.toml", &text) else { continue };
        let Ok(resolved) = resolve(&file, &surroundings(BTreeMap::new()), &Overrides::default()) else { continue };
        check_plan(&resolved.spec);
        assert!(Check { file: "t.toml", resolved: &resolved, granted: &[] }.to_string().starts_with("tree "));
        accepted += 1;
    }
    assert!(accepted > 300, "too few of the mutations were files: {accepted}");
    for _ in 0..3_000 {
        let env = EnvFile::parse(".env", &mutated(ENV, &mut random)).unwrap_or_default();
        let Ok(file) = TreeFile::parse_procfile("Procfile", &mutated(PROCFILE, &mut random), Some(".env")) else {
            continue;
        };
        let files = BTreeMap::from([(".env".to_owned(), env)]);
        if let Ok(resolved) = resolve(&file, &surroundings(files), &Overrides::default()) {
            check_plan(&resolved.spec);
        }
    }
}

/// A file of a few groups and processes at random.
fn random_file(random: &mut Random) -> String {
    let groups = random.below(4);
    let processes = 1 + random.below(6);
    let mut text = String::new();
    if random.below(2) == 0 {
        text.push_str(&format!("stop_timeout = {}\n", 1 + random.below(40)));
    }
    let names = |count: usize, letter: char| (0..count).map(move |n| format!("{letter}{n}"));
    let all: Vec<String> = names(groups, 'g').chain(names(processes, 'p')).collect();
    for (index, name) in all.iter().enumerate() {
        let is_group = index < groups;
        text.push_str(&format!("[{}.{name}]\n", if is_group { "group" } else { "process" }));
        if !is_group {
            text.push_str("command = 'x'\n");
        }
        // Groups lie in earlier groups only; most of such files are free of cycles.
        let above = random.below(groups + 1);
        if above < groups.min(index) {
            text.push_str(&format!("group = 'g{above}'\n"));
        }
        if random.below(3) == 0 {
            text.push_str(&format!("stop_timeout = {}\n", random.below(15)));
        }
        if random.below(2) == 0 {
            text.push_str(&format!("after = ['{}']\n", all[random.below(all.len())]));
        }
    }
    text
}

/// How long the stop of each group takes by the plan alone: times are raised until nothing changes any more.
fn simulated(spec: &TreeSpec, top: NodeId) -> Duration {
    let inside: Vec<NodeId> = spec.ids().filter(|id| ancestors(spec, *id).any(|above| above == top)).collect();
    let mut begins = vec![Duration::ZERO; spec.nodes.len()];
    let mut ends = begins.clone();
    loop {
        let before = (begins.clone(), ends.clone());
        for id in &inside {
            let node = spec.node(*id);
            if *id != top {
                let parent = node.parent.unwrap().index();
                begins[id.index()] = begins[id.index()].max(begins[parent]);
            }
            for other in node.after.iter().filter(|other| inside.contains(other) && *id != top) {
                begins[other.index()] = begins[other.index()].max(ends[id.index()]);
            }
            let own = match &node.kind {
                NodeKind::Process(process) => Some(process.stop.timeout),
                NodeKind::Group(group) => group.stop_budget.filter(|_| *id != top),
            };
            ends[id.index()] = match own {
                Some(Limit::After(own)) => begins[id.index()] + own,
                Some(Limit::Never) => panic!("nothing endless was written"),
                None => spec.members(*id).map(|member| ends[member.index()]).fold(begins[id.index()], Duration::max),
            };
        }
        if before == (begins.clone(), ends.clone()) {
            return ends[top.index()];
        }
    }
}

fn stop_timeout(resolved: &Resolved, id: NodeId) -> Limit {
    resolved.deadlines.iter().find(|one| one.node == id && one.key == "stop_timeout").unwrap().value
}

#[test]
fn every_plan_fits_its_budgets() {
    let mut random = Random(99);
    let (mut accepted, mut budgets, mut shortened) = (0, 0, 0);
    for _ in 0..6_000 {
        let text = random_file(&mut random);
        let file = TreeFile::parse("t.toml", &text).unwrap();
        let Ok(resolved) = resolve(&file, &surroundings(BTreeMap::new()), &Overrides::default()) else { continue };
        accepted += 1;
        check_plan(&resolved.spec);
        for id in resolved.spec.ids() {
            let NodeKind::Group(group) = &resolved.spec.node(id).kind else { continue };
            let worst = simulated(&resolved.spec, id);
            match group.stop_budget {
                Some(Limit::After(budget)) => {
                    budgets += 1;
                    assert!(worst <= budget, "{worst:?} > {budget:?} in\n{text}");
                }
                Some(Limit::Never) => {}
                None => assert_eq!(stop_timeout(&resolved, id), Limit::After(worst), "{text}"),
            }
        }
        let cut = |origin: &_| matches!(origin, fated::config::resolve::Origin::Shortened { .. });
        shortened += usize::from(resolved.deadlines.iter().any(|one| cut(&one.origin)));
    }
    assert!(accepted > 1_000 && budgets > 500 && shortened > 100, "{accepted} {budgets} {shortened}");
}
