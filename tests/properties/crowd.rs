//! Many processes under one supervisor, and what a tree costs that does nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::sys::{fd, pidfd, procfs};

use crate::common::{BOUND, MARK, Scene, Watched, users, wait_until};
use crate::support;

const CROWD: usize = 1000;

fn sleepers(count: usize) -> String {
    format!("[process.s]\ncommand = '/bin/sleep 100000'\ninstances = {count}\nstdout = 'null'\nstderr = 'null'\n")
}

fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    // It may be on its way out.
    let _ = procfs::children_of(pid, &mut children);
    children
}

/// Waits until so many children of a process are sleepers.
fn wait_for_sleepers(pid: u32, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    wait_until("all sleep", || {
        found = children(pid);
        found.len() == count && found.iter().all(|child| procfs::comm(*child).as_deref() == Some("sleep"))
    });
    found
}

#[test]
fn a_thousand_processes_die_with_their_supervisor() {
    fd::raise_limit().unwrap();
    for user in users() {
        let scene = Scene::new(user);
        scene.write("tree.toml", &sleepers(CROWD));
        // Root can give them a PID namespace of their own, which ends them whatever becomes of this test. The shell is
        // its init: fated as PID 1 would do without a guard.
        let mut command = Command::new("env");
        if nix::unistd::geteuid().is_root() {
            command.args(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        }
        if let Some(id) = support::id(user) {
            command.args(["setpriv", &format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
        }
        command.args(["sh", "-c", "\"$@\"; exit $?", "sh"]).arg(scene.program()).args(["up", "tree.toml"]);
        command.env(MARK, &scene.dir).current_dir(&scene.dir).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(std::fs::File::create(scene.path("stderr")).unwrap());
        let begin = Instant::now();
        let mut outer = command.spawn().unwrap();
        let guard = find_guard(outer.id());
        let mut supervisor = Vec::new();
        wait_until("there is a supervisor", || {
            supervisor = children(guard.pid);
            !supervisor.is_empty()
        });
        let supervisor = Watched::open("supervisor", supervisor[0]);
        let pids = wait_for_sleepers(supervisor.pid, CROWD);
        let started = begin.elapsed();
        let crowd: Vec<Watched> = pids.into_iter().map(|pid| Watched::open("s", pid)).collect();
        let begin = Instant::now();
        supervisor.signal(Signal::KILL);
        guard.wait_end();
        let took = begin.elapsed();
        let left = crowd.iter().filter(|process| !process.has_ended()).count();
        assert_eq!(left, 0, "outlived the guard");
        assert_eq!(support::ended(&mut outer).code(), Some(137), "{}", scene.read("stderr"));
        let told = scene.read("stderr");
        assert!(told.contains("the supervisor was killed by SIGKILL") && told.contains("(1000)"), "{told}");
        println!(
            "{CROWD} processes as {user:?}: started in {}; all gone {} after their supervisor's SIGKILL, {} in a bare loop",
            support::millis(started),
            support::millis(took),
            support::millis(bare_loop())
        );
    }
}

/// The guard: the process below `above` that runs fated and has a child that does.
fn find_guard(above: u32) -> Watched {
    let mut guard = None;
    wait_until("fated runs", || {
        let mut at = above;
        while let [only] = children(at)[..] {
            let comm = procfs::comm(only);
            if comm.as_deref() == Some("fated") {
                guard = Some(only);
                return true;
            }
            at = only;
        }
        false
    });
    Watched::open("guard", guard.unwrap())
}

/// The same number of processes, ended by nothing but signals and waits.
fn bare_loop() -> std::time::Duration {
    struct Sleepers(Vec<(Child, OwnedFd)>);
    impl Drop for Sleepers {
        fn drop(&mut self) {
            for (child, _) in &mut self.0 {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
    let mut sleepers = Sleepers(Vec::new());
    for _ in 0..CROWD {
        let child = Command::new("/bin/sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        sleepers.0.push((child, pidfd));
    }
    let begin = Instant::now();
    for (_, pidfd) in &sleepers.0 {
        pidfd::send_signal(pidfd.as_fd(), Signal::KILL).unwrap();
    }
    for (child, pidfd) in &mut sleepers.0 {
        assert!(fd::wait_readable(pidfd.as_fd(), Some(BOUND)).unwrap());
        child.wait().unwrap();
    }
    begin.elapsed()
}

/// How many system calls strace counts in these processes within so many seconds; `None` where it cannot attach.
fn system_calls(pids: &[u32], seconds: &str, meanwhile: impl FnOnce()) -> Option<String> {
    let mut strace = Command::new("timeout");
    strace.args(["-s", "INT", seconds, "strace", "-c", "-f"]);
    for pid in pids {
        strace.args(["-p", &pid.to_string()]);
    }
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // strace ends by the signal that it was told to stop at; a group of its own keeps that from us.
    let strace = strace.process_group(0).spawn().unwrap();
    meanwhile();
    let told = strace.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let attached = pids.iter().all(|pid| told.contains(&format!("Process {pid} attached")));
    attached.then(|| told.lines().filter(|line| !line.starts_with("strace: Process ")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn an_idle_tree_makes_no_system_call() {
    let scene = Scene::new(users()[0]);
    scene.write("tree.toml", &sleepers(100));
    let tree = scene.fated(["up", "tree.toml"]).start();
    let (guard, supervisor) = (tree.guard().pid, tree.supervisor().pid);
    wait_for_sleepers(supervisor, 100);
    // A start is told to the loop after it is seen here. Each has a pipe until then, and the way to the guard is one.
    wait_until("every start was reported", || pipes(supervisor) <= 1);
    for pid in [guard, supervisor] {
        wait_until("it waits", || Watched::open("", pid).state() == Some('S'));
    }
    let Some(told) = system_calls(&[guard, supervisor], "10", || {}) else {
        println!("left out: strace is not there or may not attach");
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait(), ExitStatus::Code(0));
        return;
    };
    assert_eq!(told, "", "system calls while nothing happened");
    // The same look sees what a signal causes: it would have seen more.
    let supervisor = tree.supervisor().clone();
    let told = system_calls(&[guard, supervisor.pid], "3", || {
        wait_until("strace has attached", || traced(guard) && traced(supervisor.pid));
        tree.signal(Signal::USR1);
    });
    let told = told.unwrap();
    assert!(told.contains("calls") && told.contains("read"), "{told}");
    tree.signal(Signal::TERM);
    tree.assert_ends_with(0);
}

/// How many ends of pipes a process has open.
fn pipes(pid: u32) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let target = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    links.filter_map(target).filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

fn traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
}
