//! What a whole file comes to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::env_file::EnvFile;
use crate::config::keys::{KEYS, Scope};
use crate::config::resolve::{Origin, Overrides, Resolved, Surroundings, resolve};
use crate::config::tree_file::TreeFile;
use crate::name::{Name, NodeId};
use crate::signal::Signal;
use crate::spec::{Consequence, EnvVar, GROUP_DEPTH_MAX, Input, Leftovers, NodeSpec, ProcessSpec};
use crate::time::{Duration, Limit};

fn var(name: &str, value: &str) -> EnvVar {
    (OsString::from(name), OsString::from(value))
}

fn surroundings() -> Surroundings {
    Surroundings {
        env: vec![var("HOME", "/home/me"), var("FATED_TREE", "outer"), var("NOTIFY_SOCKET", "/x")],
        directory: PathBuf::from("/srv/tree"),
        default_name: Name::lossy("tree"),
        env_files: BTreeMap::new(),
    }
}

fn resolved(text: &str, overrides: &Overrides) -> Result<Resolved, String> {
    let file = TreeFile::parse("t.toml", text).map_err(|errors| errors.to_string())?;
    let mut surroundings = surroundings();
    for name in file.env_files() {
        let variables = EnvFile::parse(name.value, "FROM_FILE=1\nBOTH=file\n").unwrap();
        surroundings.env_files.insert(name.value.to_owned(), variables);
    }
    resolve(&file, &surroundings, overrides).map_err(|errors| errors.to_string())
}

fn plan(text: &str) -> Resolved {
    resolved(text, &Overrides::default()).unwrap()
}

fn error(text: &str) -> String {
    resolved(text, &Overrides::default()).unwrap_err()
}

fn node<'r>(resolved: &'r Resolved, path: &str) -> (NodeId, &'r NodeSpec) {
    let spec = &resolved.spec;
    spec.ids().map(|id| (id, spec.node(id))).find(|(_, node)| node.path == path).unwrap()
}

fn process<'r>(resolved: &'r Resolved, path: &str) -> &'r ProcessSpec {
    node(resolved, path).1.process().unwrap()
}

fn paths(resolved: &Resolved) -> Vec<&str> {
    resolved.spec.nodes.iter().map(|node| node.path.as_str()).collect()
}

fn afters<'r>(resolved: &'r Resolved, path: &str) -> Vec<&'r str> {
    node(resolved, path).1.after.iter().map(|id| resolved.spec.node(*id).path.as_str()).collect()
}

fn stop(resolved: &Resolved, path: &str) -> (Limit, Origin) {
    let (id, _) = node(resolved, path);
    let found = resolved.deadlines.iter().find(|one| one.node == id && one.key == "stop_timeout").unwrap();
    (found.value, found.origin.clone())
}

fn warnings(resolved: &Resolved) -> Vec<String> {
    resolved.warnings.iter().map(ToString::to_string).collect()
}

const POOL: &str = r#"
[queue.items]
[process.feed]
command = "feed"
queues = { items = "put" }
[group.pool]
after = ["feed"]
[process.worker]
group = "pool"
command = "work ${FATED_INSTANCE}"
instances = 3
queues = { items = "get" }
[process.watch]
command = ["watch", "${HOME}/x"]
after = ["worker", "feed"]
"#;

#[test]
fn nodes_stand_in_the_order_of_the_file_with_parents_first() {
    let resolved = plan(POOL);
    let expected = ["", "feed", "pool", "pool/worker.1", "pool/worker.2", "pool/worker.3", "watch"];
    assert_eq!(paths(&resolved), expected);
    assert_eq!(afters(&resolved, "watch"), ["feed", "pool/worker.1", "pool/worker.2", "pool/worker.3"]);
    assert_eq!(afters(&resolved, "pool"), ["feed"]);
    assert_eq!(node(&resolved, "pool/worker.2").1.parent, Some(node(&resolved, "pool").0));
    assert_eq!(warnings(&resolved), [""; 0]);
}

#[test]
fn defaults_are_filled_in() {
    let resolved = plan(POOL);
    let (_, feed) = node(&resolved, "feed");
    assert_eq!((feed.fate.on_success, feed.fate.on_failure), (Consequence::End, Consequence::End));
    let (_, worker) = node(&resolved, "pool/worker.1");
    assert_eq!((worker.fate.on_success, worker.fate.on_failure), (Consequence::Ignore, Consequence::End));
    let feed = feed.process().unwrap();
    assert_eq!((feed.stop.signal, feed.stop.timeout), (Signal::TERM, Limit::After(Duration::from_secs(10))));
    assert_eq!((&feed.stdin, feed.leftovers, feed.success.as_slice()), (&Input::Null, Leftovers::Stop, &[0_u8][..]));
    assert_eq!(feed.cwd.as_deref(), Some(std::path::Path::new("/srv/tree")));
    assert_eq!((feed.parent_death_signal, &feed.ignored_signals), (Some(Signal::KILL), &Vec::new()));
    assert_eq!(stop(&resolved, ""), (Limit::After(Duration::from_secs(30)), Origin::Computed));
    assert_eq!(resolved.spec.name.as_str(), "tree");
}

#[test]
fn the_environment_is_layered_and_shared() {
    let text = r#"
env = { A = "tree", P = "${FATED_PROCESS}-${HOME}", BOTH = "tree", PATH = "${HOME}/bin" }
[queue.q-1]
[process.w]
command = ["w", "${A} ${P} ${FROM_FILE} ${BOTH} ${X} ${FATED_QUEUE_Q_1_GET} ${FATED_QUEUE_Q_1_MAX} ${FATED_PIDFD} $$ $A $${A}"]
instances = 2
env_file = "vars"
env = { X = "x${PATH}", A = "own" }
cwd = "sub/${FATED_INSTANCE}"
queues = { q-1 = "get" }
[process.clean]
command = "c"
clear_env = true
queues = { q-1 = "put" }
"#;
    let resolved = plan(text);
    let (one, two) = (process(&resolved, "w.1"), process(&resolved, "w.2"));
    let words = "own w-/home/me 1 file x/home/me/bin 4 65536 3 $$ $A ${A}";
    assert_eq!(one.command, ["w", words].map(OsString::from));
    assert!(std::sync::Arc::ptr_eq(&one.shared_env, &two.shared_env));
    assert_eq!(two.cwd.as_deref(), Some(std::path::Path::new("/srv/tree/sub/2")));
    assert!(one.shared_env.contains(&var("HOME", "/home/me")) && one.shared_env.contains(&var("BOTH", "file")));
    assert!(!one.shared_env.iter().any(|(name, _)| name == "NOTIFY_SOCKET" || name == "FATED_TREE"));
    let own = ["P", "X", "A", "FATED_TREE", "FATED_PROCESS", "FATED_INSTANCE"].map(OsString::from);
    assert_eq!(one.own_env.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), own);
    let clean = process(&resolved, "clean");
    let names: Vec<_> = clean.shared_env.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, ["A", "BOTH", "PATH"]);
}

#[test]
fn procfiles_run_by_a_shell_with_ports() {
    let text = "web: serve -p $PORT\njob: work ${X}\n";
    let file = TreeFile::parse_procfile("Procfile", text, Some(".env")).unwrap();
    let mut surroundings = surroundings();
    surroundings.env_files.insert(".env".into(), EnvFile::parse(".env", "PORT=7000\nX=1").unwrap());
    let overrides = Overrides { instances: vec![("all".into(), 1), ("job".into(), 2)], ..Overrides::default() };
    let resolved = resolve(&file, &surroundings, &overrides).unwrap();
    assert_eq!(paths(&resolved), ["", "web.1", "job.1", "job.2"]);
    let job = process(&resolved, "job.2");
    assert_eq!(job.command, ["/bin/sh", "-c", "work ${X}"].map(OsString::from));
    assert!(job.own_env.contains(&var("PORT", "7101")) && job.shared_env.contains(&var("X", "1")));
    surroundings.env_files.clear();
    let resolved = resolve(&file, &surroundings, &Overrides::default()).unwrap();
    assert!(process(&resolved, "web").own_env.contains(&var("PORT", "5000")));
}

#[test]
fn options_win_over_the_file() {
    let text = "lifetime = '1h'\n[process.a]\ncommand='a'\nstop_signal='INT'\nlifetime='2h'\nstop_timeout='9s'\n";
    let overrides = Overrides {
        lifetime: Some(Limit::AT_ONCE),
        stop_signal: Some(Signal::QUIT),
        stop_timeout: Some(Limit::After(Duration::from_secs(2))),
        die_with_parent: Some(false),
        leftovers: Some(Leftovers::Ignore),
        success: Some(vec![0, 3]),
        ..Overrides::default()
    };
    let resolved = resolved(text, &overrides).unwrap();
    let (root, a) = (resolved.spec.root(), process(&resolved, "a"));
    assert_eq!((root.lifetime, resolved.die_with_parent), (None, Some(false)));
    assert_eq!((a.stop.signal, a.leftovers, &a.success), (Signal::QUIT, Leftovers::Ignore, &vec![0, 3]));
    assert_eq!((resolved.spec.strays, resolved.spec.stray_stop.signal), (Leftovers::Ignore, Signal::QUIT));
    assert_eq!(stop(&resolved, "").1, Origin::Option("--stop-timeout"));
    // An option is kept by killing, not by refusing the file.
    assert!(warnings(&resolved)[0].starts_with("--stop-timeout: the stop_timeout of the tree, 2s, cannot hold"));
}

#[test]
fn a_part_of_the_tree_can_be_chosen() {
    let chosen = |only: &[&str], instances: &[(&str, u32)]| {
        let only = only.iter().map(|name| (*name).to_owned()).collect();
        let instances = instances.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        resolved(POOL, &Overrides { only, instances, ..Overrides::default() })
    };
    let part = chosen(&["watch", "pool"], &[("worker", 1)]).unwrap();
    assert_eq!(paths(&part), ["", "pool", "pool/worker.1", "watch"]);
    assert_eq!(afters(&part, "watch"), ["pool/worker.1"]);
    assert_eq!(warnings(&part), ["t.toml:2:8: no process puts to the queue `items`"]);
    let part = chosen(&["pool/worker", "feed"], &[("worker", 0)]).unwrap();
    assert_eq!(paths(&part), ["", "feed"]);
    assert_eq!(paths(&chosen(&["watch"], &[("feed", 2)]).unwrap()), ["", "watch"]);
    let unknown = "--only: unknown process or group `wroker`; did you mean `worker`?";
    assert_eq!(chosen(&["wroker"], &[]).unwrap_err(), unknown);
    assert_eq!(chosen(&[], &[("all", 0)]).unwrap_err(), "t.toml: there is no process to run");
    assert_eq!(
        chosen(&[], &[("pool", 2)]).unwrap_err(),
        "--instances: `pool` is a group; only a process has instances"
    );
}

#[test]
fn only_inherited_timeouts_on_the_long_way_are_shortened() {
    let text = "stop_timeout = 12\n[process.a]\ncommand='a'\n[process.b]\ncommand='b'\nafter=['a']\n\
                [process.c]\ncommand='c'\n[process.d]\ncommand='d'\nstop_timeout='4s'\nafter=['b']\n";
    let resolved = plan(text);
    let shortened = (Limit::After(Duration::from_secs(4)), Origin::Shortened { group: String::new() });
    assert_eq!((stop(&resolved, "a"), stop(&resolved, "b")), (shortened.clone(), shortened));
    assert_eq!(stop(&resolved, "c"), (Limit::After(Duration::from_secs(10)), Origin::Default));
    assert_eq!(stop(&resolved, "d"), (Limit::After(Duration::from_secs(4)), Origin::File { line: 11 }));
    assert_eq!(process(&resolved, "b").stop.timeout, Limit::After(Duration::from_secs(4)));
}

#[test]
fn budgets_inside_budgets_fit_from_the_inside_out() {
    let text = "stop_timeout = 5\n[group.g]\nstop_timeout = 3\n[process.a]\ncommand='a'\ngroup='g'\n\
                [process.b]\ncommand='b'\nafter=['g']\n[group.h]\n[process.x]\ngroup='h'\ncommand='x'\n\
                [process.y]\ngroup='h'\ncommand='y'\nafter=['x']";
    let resolved = plan(text);
    let seconds = |path| match stop(&resolved, path).0 {
        Limit::After(span) => span.as_secs_f64(),
        Limit::Never => f64::INFINITY,
    };
    assert_eq!([seconds("g/a"), seconds("b"), seconds("h/x"), seconds("h")], [3.0, 2.0, 2.0, 4.0]);
    assert_eq!(stop(&resolved, "g/a").1, Origin::Shortened { group: "g".into() });
}

#[test]
fn written_timeouts_that_cannot_fit_are_refused() {
    let too_long = "stop_timeout = \"5s\"\n[process.a]\ncommand='a'\nstop_timeout='3s'\n\
                    [process.b]\ncommand='b'\nstop_timeout='4s'\nafter=['a']";
    assert_eq!(
        error(too_long),
        "t.toml:1:16: the stop_timeout of the tree, 5s, cannot hold the stop of its members, which may take 7s: \
         b (4s) -> a (3s)"
    );
    let endless = "[group.g]\nstop_timeout = 5\n[process.a]\ngroup='g'\ncommand='a'\nstop_timeout='infinity'";
    assert!(error(endless).contains("which may take infinity: g/a (infinity)"), "{}", error(endless));
    let inner = "stop_timeout = 5\n[group.g]\nstop_timeout = 6\n[process.a]\ngroup='g'\ncommand='a'\n";
    assert!(error(inner).contains("which may take 6s: g (6s)"), "{}", error(inner));
}

/// Every way to be wrong, with its exact message and place.
#[test]
fn errors_say_what_and_where() {
    let with = |line: &str| format!("[process.worker]\ncommand = \"w\"\n{line}\n[queue.items]\n[group.pool]\n");
    let in_worker = [
        ("comand = 'x'", "3:1: unknown key `comand` in [process.worker]; did you mean `command`?"),
        ("restart_limit = 3", "3:1: `restart_limit` in [process.worker] is not supported by this version of fated yet"),
        (
            "on_exit = 'restart'",
            "3:11: `on_exit = \"restart\"` in [process.worker] is not supported by this version of fated yet",
        ),
        (
            "stdout = { file = 'x' }",
            "3:10: a table as `stdout` in [process.worker] is not supported by this version of fated yet",
        ),
        (
            "on_exit = 'ignor'",
            "3:11: `on_exit` in [process.worker] is one of \"end\", \"ignore\", not `ignor`; did you mean `ignore`?",
        ),
        (
            "stop_signal = 'SIGTREM'",
            "3:15: `stop_signal` in [process.worker]: `SIGTREM` is no signal; did you mean `TERM`?",
        ),
        (
            "lifetime = 'soon'",
            "3:12: `lifetime` in [process.worker]: `soon` is no duration; write for example 250ms, 10s, 1.5h, \"1min 30s\", or infinity",
        ),
        ("lifetime = -1", "3:12: `lifetime` in [process.worker]: a duration cannot be negative"),
        ("instances = 0", "3:13: `instances` in [process.worker] is from 1 to 10000, not 0"),
        ("lifetime = nan", "3:12: `lifetime` in [process.worker]: NaN is no duration"),
        (
            "autostart = 1",
            "3:13: `autostart` in [process.worker] has the wrong type: expected true or false; found an integer",
        ),
        ("success = [0, 256]", "3:15: an exit code in [process.worker] is from 0 to 255"),
        ("group = 'pol'", "3:9: unknown group `pol` in the `group` of `worker`; did you mean `pool`?"),
        ("after = ['nobody']", "3:10: unknown process or group `nobody` in the `after` of `worker`"),
        ("after = ['worker']", "3:10: `worker` cannot be after itself"),
        ("queues = { item = 'put' }", "3:12: unknown queue `item` in the `queues` of `worker`; did you mean `items`?"),
        (
            "queues = { items = 'pull' }",
            "3:20: `queues` in [process.worker] is one of \"put\", \"get\", \"both\", not `pull`",
        ),
        ("env = { PORT = 80 }", "3:16: the value of `PORT` in [process.worker] is not a string; quote it: \"80\""),
        ("env = { 'A=B' = '' }", "3:9: `A=B` cannot name a variable"),
        (
            "env = { A = '${HOEM}' }",
            "3:13: the variable `HOEM` is not set, in the `env` of `worker`; did you mean `HOME`?",
        ),
        (
            "cwd = '${FATED_ID}'",
            "3:7: `FATED_ID` exists only in the environment of the running process and cannot be replaced here, in the `cwd` of `worker`",
        ),
        ("cwd = \"\\u0000\"", "3:7: `cwd` in [process.worker] cannot hold a NUL byte"),
    ];
    for (line, expected) in in_worker {
        assert_eq!(error(&with(line)), format!("t.toml:{expected}"), "{line}");
    }
    let whole = [
        ("", "t.toml: there is no process to run"),
        ("[process.a]\n", "t.toml:1:10: [process.a] has no `command`"),
        ("[process.a]\ncommand = []", "t.toml:2:11: `command` in [process.a] is empty"),
        ("[process.a]\ncommand = '  '", "t.toml:2:11: `command` in [process.a] is empty"),
        ("[process.a]\ncommand = \"it's\"", "t.toml:2:11: `command` in [process.a] has a quote that is not closed"),
        (
            "[process.a]\ncommand = ['é', 'x ${', 'y']",
            "t.toml:2:17: `${` has no `}`; write `$${` for a literal `${`, in the `command` of `a`",
        ),
        ("[process.a]\ncommand = 'a'\n[process.a]\ncommand = 'b'", "t.toml:3:10: `a` stands here twice"),
        (
            "[process.'a b']\ncommand = 'a'",
            "t.toml:1:10: `a b` is no name: a name has letters, digits, `_`, `-` and `.`, not ' '",
        ),
        ("containment = 'auto'", "t.toml:1:1: `containment` in the tree is not supported by this version of fated yet"),
        ("[socket.web]", "t.toml:1:2: `socket` in the tree is not supported by this version of fated yet"),
        (
            "[queue.a-b]\n[queue.a_b]",
            "t.toml:2:8: the queues `a-b` and `a_b` have the same variable FATED_QUEUE_A_B_PUT",
        ),
        (
            "[queue.q]\ncapacity = '10 apples'",
            "t.toml:2:12: `capacity` in [queue.q]: `10 apples` is no size; write for example 4096, 64KiB, 1MiB or 10M (K, M and G are powers of 1024)",
        ),
        (
            "[queue.q]\ntransport = 'pipe'\nmessage_max = '8K'",
            "t.toml:3:15: `message_max` in [queue.q] is 8KiB, more than what a pipe takes whole, 4KiB",
        ),
        (
            "[queue.q]\ncapacity = 1000\nmessage_max = 1001",
            "t.toml:3:15: `message_max` in [queue.q] is 1001 bytes, more than the queue's capacity, 1000 bytes",
        ),
        (
            "[queue.q]\ndelivery = 'lease'",
            "t.toml:2:12: `delivery = \"lease\"` in [queue.q] is not supported by this version of fated yet",
        ),
        (
            "[group.a]\ngroup='b'\n[group.b]\ngroup='a'\n[process.p]\ncommand='p'",
            "t.toml:2:7: groups that are in each other: a -> b -> a",
        ),
        (
            "[process.a]\ncommand='a'\n[group.a]\n[process.b]\ncommand='b'\ngroup='a'",
            "t.toml:3:8: the name `a` is taken by the one in line 1: a process and a group in one place need different names",
        ),
        (
            "[process.a]\ncommand='a'\ninstances=2\n[process.'a.2']\ncommand='b'",
            "t.toml:4:10: an instance of `a` and one of `a.2` are both `a.2`",
        ),
        (
            "[process.a]\ncommand='a'\nstdin='inherit'\n[process.b]\ncommand='b'\nstdin='inherit'",
            "t.toml:6:7: `a` inherits stdin already; only one process can",
        ),
        (
            "[process.a]\ncommand='a'\nafter=['b']\n[process.b]\ncommand='b'\nafter=['c']\n[process.c]\ncommand='c'\nafter=['a']",
            "t.toml:3:8: a cycle in `after`: a -> b -> c -> a",
        ),
        (
            "[group.g]\n[process.a]\ncommand='a'\ngroup='g'\nafter=['b']\n[process.b]\ncommand='b'\nafter=['g']",
            "t.toml:5:8: a cycle in `after`: g (which holds g/a) -> b -> g (which holds g/a)",
        ),
        (
            "[group.g]\nafter=['a']\n[process.a]\ncommand='a'\ngroup='g'",
            "t.toml:2:8: the group `g` cannot be after `a`, which is in it",
        ),
        (
            "[group.g]\n[process.a]\ncommand='a'\ngroup='g'\nafter=['g']",
            "t.toml:5:8: `g/a` cannot be after `g`, the group that it is in",
        ),
        (
            "[group.g]\n[process.x]\ncommand='x'\ngroup='g'\n[group.h]\n[group.x]\ngroup='h'\n[process.p]\ncommand='p'\nafter=['x']",
            "t.toml:10:8: `x` may mean `g/x` or `h/x` in the `after` of `p`; write the path",
        ),
        (
            "env = { FATED_X = '1' }",
            "t.toml:1:9: `FATED_X` is fated's own: variables that begin with FATED_ are set by fated",
        ),
        (
            "[process.a]\r\ncommand = 'a'\r\nlifetime = true",
            "t.toml:3:12: `lifetime` in [process.a] has the wrong type: expected a duration: \"10s\", \"8h\", a number of seconds; 0 or \"infinity\" for none; found a boolean",
        ),
    ];
    for (text, expected) in whole {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_queue_that_never_ends_and_a_group_without_members_are_warned_of() {
    let resolved = plan("[queue.q]\n[queue.idle]\n[group.empty]\n[process.a]\ncommand='a'\nqueues={q='both'}");
    let expected = [
        "t.toml:3:8: the group `empty` has no members and is left out",
        "t.toml:6:11: `a` puts to and gets from the queue `q`, so that it never sees the end of it",
        "t.toml:2:8: no process uses the queue `idle`",
    ];
    assert_eq!(warnings(&resolved), expected);
    assert_eq!((paths(&resolved), resolved.spec.queues.len()), (vec!["", "a"], 1));
}

#[test]
fn plans_are_bounded() {
    let mut deep = String::from("[process.p]\ncommand='p'\ngroup='g0'\n");
    for level in 0..=GROUP_DEPTH_MAX {
        deep.push_str(&format!("[group.g{level}]\ngroup = 'g{}'\n", level + 1));
    }
    deep.push_str(&format!("[group.g{}]\n", GROUP_DEPTH_MAX + 1));
    assert!(error(&deep).contains("groups are nested at most 32 deep"), "{}", error(&deep));
    let many = "[process.a]\ncommand='a'\ninstances=10000\n[process.b]\ncommand='b'\ninstances=10000\nafter=['a']";
    assert!(error(many).starts_with("t.toml:7:8: the `after` of all instances comes to more than 1000000 entries"));
    let long = format!("[process.a]\ncommand=['echo','{}']\ninstances=1000", "x".repeat(70_000));
    assert_eq!(error(&long), "t.toml:1:10: the commands and variables of all processes come to more than 64MiB");
}

/// The parser reads every key that the table calls built: a value that no key takes is refused in each of them.
#[test]
fn every_key_of_the_table_is_read() {
    for key in KEYS.iter().filter(|key| key.built) {
        let text = match key.scope {
            Scope::Tree => format!("{} = 1979-05-27\n", key.name),
            Scope::Group => format!("[group.x]\n{} = 1979-05-27\n", key.name),
            Scope::Process => format!("[process.x]\n{} = 1979-05-27\n", key.name),
            Scope::Queue => format!("[queue.x]\n{} = 1979-05-27\n", key.name),
        };
        let errors = TreeFile::parse("t.toml", &text).unwrap_err().to_string();
        assert!(
            errors.contains(&format!("`{}` in ", key.name)) && errors.contains("found a date"),
            "{key:?}: {errors}"
        );
    }
}
