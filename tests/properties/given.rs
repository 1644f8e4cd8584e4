//! What a process that fated starts finds around it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use fated::exit::ExitStatus;
use fated::signal::Signal;
use nix::libc;

use crate::common::{Scene, User, in_parallel, users, wait_until};
use crate::{seccomp, support};

/// Says everything about itself; `/proc/self` is the shell that fated started only after `exec`.
const PROBE: &str =
    "env | grep ^FATED_\necho stat: $(cat /proc/$$/stat)\nls -l /proc/self/fd\nexec cat /proc/self/status\n";

/// The parent-death signal is not inherited: only the process itself can tell.
const DEATH: &str =
    "import ctypes\nn = ctypes.c_int()\nctypes.CDLL(None).prctl(2, ctypes.byref(n))\nprint('death:', n.value)\n";

/// What a probe said: `NAME: VALUE` and `NAME=VALUE`, and the open descriptors.
struct Told {
    words: BTreeMap<String, String>,
    descriptors: BTreeMap<u32, String>,
}

impl Told {
    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(['=', ':']));
        let words = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        let links = text.lines().filter_map(|line| line.split_once(" -> "));
        let descriptors = links
            .filter_map(|(entry, target)| Some((entry.rsplit(' ').next()?.parse().ok()?, target.to_owned())))
            // The one that `ls` itself reads.
            .filter(|(_, target)| !(target.starts_with("/proc/") && target.ends_with("/fd")))
            .collect();
        Self { words, descriptors }
    }

    #[track_caller]
    fn word(&self, name: &str) -> &str {
        self.words.get(name).unwrap_or_else(|| panic!("{name} was not told: {:?}", self.words))
    }

    #[track_caller]
    fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(self.word(name), 16).unwrap()
    }
}

/// Runs fated with dirt around it: an open descriptor 77, SIGUSR1 blocked, SIGUSR2 ignored; what it wrote to stdout.
fn dirty(scene: &Scene, args: &[&str], refuse_clone3: bool) -> String {
    let mut command = support::fated(scene, args);
    if refuse_clone3 {
        seccomp::refuse(&mut command, &[libc::SYS_clone3]);
    }
    let dirty = || {
        // SAFETY: system calls on live local values alone; nothing is allocated.
        unsafe {
            let mut blocked: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut blocked, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
            libc::dup2(0, 77);
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls alone.
    unsafe { command.pre_exec(dirty) };
    let out = scene.path("out");
    command.stdout(File::create(&out).unwrap()).stderr(File::create(scene.path("err")).unwrap());
    let status = support::ended(&mut command.spawn().unwrap());
    assert!(status.success(), "{status}: {}", scene.read("err"));
    scene.read("out")
}

#[track_caller]
fn check(told: &Told, ignored: u64, refuse_clone3: bool, named: &[&str]) {
    assert_eq!(told.mask("SigBlk"), 0);
    assert_eq!(told.mask("SigIgn"), ignored);
    assert_eq!(told.word("Seccomp") == "2", refuse_clone3, "the filter is there exactly where it is meant to be");
    let stat: Vec<&str> = told.word("stat").split(' ').collect();
    assert_eq!([stat[4], stat[5]], [stat[0]; 2], "it leads its own process group and session");
    let named: BTreeMap<u32, &str> = named.iter().map(|name| (told.word(name).parse().unwrap(), *name)).collect();
    let open: Vec<u32> = told.descriptors.keys().copied().collect();
    let wanted: Vec<u32> = [0, 1, 2].into_iter().chain(named.keys().copied()).collect();
    assert_eq!(open, wanted, "{:?} for {named:?}", told.descriptors);
    let supervisor: u32 = told.word("FATED_PIDFD").parse().unwrap();
    assert!(told.descriptors[&supervisor].contains("pidfd"), "{:?}", told.descriptors);
}

fn cells() -> Vec<(User, bool)> {
    users().into_iter().flat_map(|user| [(user, false), (user, true)]).collect()
}

#[test]
fn a_command_of_run_starts_clean() {
    in_parallel(cells(), |(user, refused)| {
        let scene = Scene::new(*user);
        scene.write("probe.sh", PROBE);
        scene.write("death.py", DEATH);
        let told = Told::parse(&dirty(&scene, &["run", "--", "sh", "probe.sh"], *refused));
        // What was ignored at fated's entry stays ignored in the command.
        check(&told, 1 << (libc::SIGUSR2 - 1), *refused, &["FATED_PIDFD"]);
        assert_eq!(told.word("FATED_PROCESS"), "sh");
        assert_eq!(told.word("FATED_INSTANCE"), "1");
        let death = dirty(&scene, &["run", "--", "python3", "death.py"], *refused);
        assert_eq!(death, format!("death: {}\n", libc::SIGKILL));
    });
}

#[test]
fn a_process_of_a_tree_starts_clean() {
    const TREE: &str = "
        name = 'probes'
        [queue.jobs]
        message_max = '2KiB'
        [queue.done]
        transport = 'pipe'
        message_max = '1KiB'
        [group.pool]
        on_success = 'ignore'
        [process.probe]
        group = 'pool'
        command = 'sh probe.sh'
        instances = 2
        queues = { jobs = 'put', done = 'both' }
        on_success = 'ignore'
        [process.death]
        command = 'python3 death.py'
        parent_death_signal = 'USR1'
        on_success = 'ignore'
    ";
    in_parallel(cells(), |(user, refused)| {
        let scene = Scene::new(*user);
        scene.write("probe.sh", PROBE);
        scene.write("death.py", DEATH);
        scene.write("tree.toml", TREE);
        let out = dirty(&scene, &["up", "tree.toml"], *refused);
        let of = |name: &str| -> String {
            let lines = out.lines().filter_map(|line| line.split_once(" | "));
            lines.filter(|(label, _)| label.trim_end() == name).map(|(_, line)| format!("{line}\n")).collect()
        };
        let mut ids = Vec::new();
        for instance in ["1", "2"] {
            let told = Told::parse(&of(&format!("pool/probe.{instance}")));
            let named = ["FATED_PIDFD", "FATED_QUEUE_JOBS_PUT", "FATED_QUEUE_DONE_PUT", "FATED_QUEUE_DONE_GET"];
            check(&told, 0, *refused, &named);
            assert_eq!(told.word("FATED_TREE"), "probes");
            assert_eq!(told.word("FATED_PROCESS"), "pool/probe");
            assert_eq!(told.word("FATED_INSTANCE"), instance);
            assert_eq!(told.word("FATED_QUEUE_JOBS_MAX"), "2048");
            assert_eq!(told.word("FATED_QUEUE_DONE_MAX"), "1024");
            ids.push(told.word("FATED_ID").to_owned());
        }
        assert_ne!(ids[0], ids[1]);
        assert_eq!(of("death"), format!("death: {}\n", libc::SIGUSR1));
    });
}

#[test]
fn the_supervisors_descriptor_tells_its_death() {
    const TREE: &str = "[process.watcher]\ncommand = 'python3 watcher.py'\nparent_death_signal = 'none'\n";
    const WATCHER: &str = "
import os, select, signal
def announce(name):
    out = os.open(os.environ['TEST_SCENE'] + '/announce', os.O_WRONLY)
    os.write(out, f'{name} {os.getpid()}\\n'.encode())
poll = select.poll()
poll.register(int(os.environ['FATED_PIDFD']), select.POLLIN)
announce('early' if poll.poll(0) else 'watching')
if poll.poll(30000):
    announce('orphaned')
";
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("watcher.py", WATCHER);
        scene.write("tree.toml", TREE);
        // With a guard the watcher would be killed with all the others.
        let tree = scene.fated(["up", "--no-guard", "tree.toml"]).start();
        let watcher = tree.process("watching");
        tree.signal(Signal::KILL);
        assert_eq!(tree.wait(), ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
        watcher.wait_end();
        assert!(scene.announced("orphaned").is_some());
        watcher.reap();
    });
}

/// A program whose exec waits until this is dropped: its file has a lease that the kernel asks back. (A kernel of today
/// refuses to execute what has a FIFO as its interpreter.)
struct Leased(File);

/// From fcntl.h; the libc crate does not have it.
const F_SETSIG: libc::c_int = 10;

impl Leased {
    fn new(scene: &Scene) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = scene.write("slow", "#!/bin/sh\nexec python3 tree.py slow\n");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let lease = File::open(&path).unwrap();
        // SAFETY: no pointer is passed. The breaking of the lease is told by a signal that does nothing.
        unsafe {
            assert_eq!(libc::fcntl(lease.as_raw_fd(), F_SETSIG, libc::SIGURG), 0);
            assert_eq!(libc::fcntl(lease.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0);
        }
        Self(lease)
    }

    /// Waits until somebody waits for it.
    fn wait_for_a_visitor(&self) {
        // SAFETY: no pointer is passed.
        let held = || unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) == libc::F_WRLCK };
        wait_until("the program is executed", || !held());
    }
}

const HANGING: &str = "
    [process.slow]
    command = './slow'
    [process.quick]
    command = 'python3 tree.py quick.${FATED_INSTANCE}'
    instances = 3
";

#[test]
fn a_hanging_exec_holds_no_sibling_and_no_stop_up() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let leased = Leased::new(&scene);
        scene.write("tree.toml", HANGING);
        let tree = scene.fated(["up", "tree.toml"]).start();
        leased.wait_for_a_visitor();
        tree.expect(&["quick.1", "quick.2", "quick.3"]);
        assert!(scene.announced("slow").is_none());
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
    });
}

#[test]
fn a_lifetime_ends_a_tree_with_a_hanging_exec() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let leased = Leased::new(&scene);
        scene.write("tree.toml", HANGING);
        let tree = scene.fated(["up", "-t", "1s", "tree.toml"]).start();
        leased.wait_for_a_visitor();
        tree.assert_ends_with(124);
        assert!(scene.announced("slow").is_none());
    });
}

#[test]
fn an_exec_that_hung_runs_in_the_end() {
    let scene = Scene::new(users()[0]);
    let leased = Leased::new(&scene);
    scene.write("tree.toml", HANGING);
    let tree = scene.fated(["up", "tree.toml"]).start();
    leased.wait_for_a_visitor();
    drop(leased);
    tree.expect(&["slow", "quick.1"]);
    tree.signal(Signal::TERM);
    tree.assert_ends_with(0);
}

#[test]
fn of_a_bad_file_nothing_is_started() {
    const GOOD: &str = "[process.a]\ncommand = 'python3 tree.py a'\n";
    in_parallel(users(), |user| {
        for (bad, place, says) in [
            ("[process.b]\ncomand = 'true'\n", "bad.toml:5:1", "command"),
            ("[process.b]\ncommand = 'true'\nafter = ['c']\n", "bad.toml:6:10", "c"),
        ] {
            let scene = Scene::new(*user);
            scene.write("bad.toml", &format!("{GOOD}\n{bad}"));
            let tree = scene.fated(["up", "bad.toml"]).start();
            assert_eq!(tree.wait(), ExitStatus::Code(125), "{}", tree.stderr());
            let told = tree.stderr();
            assert!(told.contains(place) && told.contains(says) && told.contains("nothing was started"), "{told}");
            assert_eq!(scene.lines(), Vec::<String>::new());
        }
    });
}
