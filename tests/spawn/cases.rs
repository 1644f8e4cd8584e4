//! What holds for every start, however the child is cloned.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc;

use fated::exit::{ExitStatus, Verdict};
use fated::name::{Name, QueueId};
use fated::signal::Signal;
use fated::spawn::{QueueGrant, Spawner};
use fated::spec::{QueueUse, Session};
use fated::start::{Errno, Stage, StartError};
use fated::sys::fd::{self, DescriptorLimit};
use fated::sys::{pidfd, signalfd, socket, tty};

use crate::fixture::{BOUND, Scratch, finish, null, output, read_all, reap, refusal, request, spawner, spec, start};

#[test]
fn the_filter_of_this_run_holds() {
    // SAFETY: a null argument of size 0 is refused by the kernel, before it by the filter.
    let refused = unsafe { libc::syscall(libc::SYS_clone3, core::ptr::null::<u8>(), 0) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    let filtered = std::env::var_os(crate::FILTERED).is_some();
    assert_eq!((refused, errno == Some(libc::ENOSYS)), (-1, filtered));
}

#[test]
fn the_exit_status_is_the_programs() {
    for (command, code) in [(&["true"][..], 0), (&["false"], 1), (&["sh", "-c", "exit 42"], 42)] {
        let (mut started, _output) = start(&spawner(), &spec(command));
        assert_eq!(finish(&mut started), Ok(()));
        assert_eq!(started.finish(), Some(Ok(())), "the answer stays");
        assert_eq!(reap(&started), ExitStatus::Code(code));
    }
}

#[test]
fn a_command_that_does_not_exist_is_told_by_name() {
    let error = refusal(&spec(&["no-such-program-here", "x"]));
    let object = "no-such-program-here".to_owned();
    assert_eq!(error, StartError { stage: Stage::Exec, errno: Errno::NOENT, object });
    assert_eq!(error.verdict(), Verdict::NOT_FOUND);
    assert_eq!(refusal(&spec(&["/no/such/program"])).errno, Errno::NOENT);
    assert_eq!(refusal(&spec(&[""])).errno, Errno::NOENT);
}

#[test]
fn a_file_that_may_not_be_executed_is_remembered_over_later_absence() {
    let scratch = Scratch::new("mode");
    let path = scratch.file("tool", "#!/bin/sh\n", 0o644);
    assert_eq!(refusal(&spec(&[&path])).errno, Errno(libc::EACCES));
    let mut searched = spec(&["tool"]);
    searched.own_env = vec![("PATH".into(), format!("{}:/nonexistent::", scratch.0.display()).into())];
    let error = refusal(&searched);
    assert_eq!(
        (error.stage, error.errno, error.verdict()),
        (Stage::Exec, Errno(libc::EACCES), Verdict::NOT_EXECUTABLE)
    );
}

#[test]
fn the_programs_own_path_is_searched() {
    let scratch = Scratch::new("path");
    scratch.file("fated-test-tool", "#!/bin/sh\necho found \"$1\"\n", 0o755);
    let mut searched = spec(&["fated-test-tool", "it"]);
    searched.own_env = vec![("PATH".into(), format!("/nonexistent:{}", scratch.0.display()).into())];
    assert_eq!(output(&searched), "found it\n");
    searched.own_env = vec![("PATH".into(), "/nonexistent:".into())];
    searched.cwd = Some(scratch.0.clone());
    assert_eq!(output(&searched), "found it\n", "an empty entry is the working directory");
    searched.shared_env = Arc::default();
    searched.own_env = Vec::new();
    searched.command = vec!["echo".into(), "default".into()];
    assert_eq!(output(&searched), "default\n");
}

#[test]
fn a_script_without_an_interpreter_is_the_shells() {
    let scratch = Scratch::new("script");
    let path = scratch.file("script", "echo \"$0 $1 $2\"\n", 0o755);
    assert_eq!(output(&spec(&[&path, "one", "two three"])), format!("{path} one two three\n"));
}

#[test]
fn the_working_directory_is_entered_or_told() {
    let scratch = Scratch::new("cwd");
    let mut inside = spec(&["pwd", "-P"]);
    inside.cwd = Some(scratch.0.clone());
    assert_eq!(output(&inside), format!("{}\n", scratch.0.canonicalize().unwrap().display()));
    let missing = scratch.0.join("missing");
    inside.cwd = Some(missing.clone());
    let object = missing.to_str().unwrap().to_owned();
    assert_eq!(refusal(&inside), StartError { stage: Stage::Cwd, errno: Errno::NOENT, object });
}

#[test]
fn what_no_program_can_be_given_is_refused() {
    let (null, spawner) = (null(), spawner());
    let nul = spec(&["echo", "a\0b"]);
    let error = spawner.start(&request(&nul, [null.as_fd(); 3], &[])).unwrap_err();
    assert_eq!((error.stage, error.errno), (Stage::Prepare, Errno(libc::EINVAL)));
    let mut queue = spec(&["true"]);
    queue.queues = vec![QueueUse { queue: QueueId(0), put: true, get: false }];
    let error = spawner.start(&request(&queue, [null.as_fd(); 3], &[])).unwrap_err();
    assert_eq!((error.stage, error.errno), (Stage::Prepare, Errno(libc::EBADF)));
    let long = "x".repeat(1 << 20);
    assert_eq!(refusal(&spec(&["echo", &long])).errno, Errno(libc::E2BIG));
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    let mut printing = spec(&["/usr/bin/env"]);
    printing.shared_env = Arc::new(vec![
        variable("B", "shared"),
        variable("A", "first"),
        variable("FATED_QUEUE_OUTER_PUT", "7"),
        variable("FATED_ID", "outer"),
        variable("A", "second"),
        variable("PATH", ""),
    ]);
    printing.own_env = vec![variable("B", "own"), variable("C", "x=y")];
    let extra = [variable("C", "extra")];
    let null = null();
    let (read, write) = fd::pipe().unwrap();
    let mut asked = request(&printing, [null.as_fd(), write.as_fd(), null.as_fd()], &[]);
    asked.env = &extra;
    let mut started = spawner().start(&asked).unwrap();
    drop(write);
    assert_eq!(finish(&mut started), Ok(()));
    assert_eq!(read_all(read), "A=second\nPATH=\nB=own\nC=extra\nFATED_PIDFD=3\nFATED_ID=test-1\n");
    reap(&started);
}

#[test]
fn nothing_is_open_but_what_was_given() {
    let _more: Vec<_> = (0..50).map(|_| null()).collect();
    // The last one is the directory that ls reads.
    assert_eq!(output(&spec(&["ls", "/proc/self/fd"])), "0\n1\n2\n3\n4\n");
}

#[test]
fn sources_that_are_others_targets_end_in_their_places() {
    let scratch = Scratch::new("permuted");
    let (read, write) = fd::pipe().unwrap();
    // Our own 0 becomes the put end at 4, our 2 becomes 0.
    let files: Vec<File> = ["a", "b"].iter().map(|name| File::create(scratch.0.join(name)).unwrap()).collect();
    let mut queue = spec(&["sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/2 /proc/self/fd/4 /proc/self/fd/5"]);
    queue.queues = vec![QueueUse { queue: QueueId(9), put: true, get: true }];
    let name = Name::new("q").unwrap();
    let stdin = std::io::stdin();
    let grants = [QueueGrant { name: &name, message_max: 1, put: Some(stdin.as_fd()), get: Some(files[1].as_fd()) }];
    let stderr = std::io::stderr();
    let stdio = [stderr.as_fd(), write.as_fd(), files[0].as_fd()];
    let mut started = spawner().start(&request(&queue, stdio, &grants)).unwrap();
    drop(write);
    assert_eq!(finish(&mut started), Ok(()));
    let link = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string();
    let expected = [link(2), link(files[0].as_raw_fd()), link(0), link(files[1].as_raw_fd())];
    assert_eq!(read_all(read).lines().collect::<Vec<_>>(), expected);
    reap(&started);
}

#[test]
fn the_callers_descriptors_may_be_closed_at_once() {
    for _ in 0..100 {
        // `start` closes its own ends of everything before the child can have run far.
        let (mut started, output) = start(&spawner(), &spec(&["echo", "here"]));
        assert_eq!(finish(&mut started), Ok(()));
        assert_eq!(read_all(output), "here\n");
        reap(&started);
    }
}

#[test]
fn a_queue_end_is_where_the_environment_says() {
    let ends = socket::queue_seqpacket(1 << 16).unwrap();
    let mut writing =
        spec(&["sh", "-c", "eval \"printf hello >&$FATED_QUEUE_MY_ITEMS_PUT\"; echo $FATED_QUEUE_MY_ITEMS_MAX"]);
    writing.queues = vec![QueueUse { queue: QueueId(3), put: true, get: false }];
    let name = Name::new("my-items").unwrap();
    let grants = [QueueGrant { name: &name, message_max: 65_536, put: Some(ends.put.as_fd()), get: None }];
    let null = null();
    let (read, write) = fd::pipe().unwrap();
    let asked = request(&writing, [null.as_fd(), write.as_fd(), null.as_fd()], &grants);
    let mut started = spawner().start(&asked).unwrap();
    drop((write, ends.put));
    assert_eq!(finish(&mut started), Ok(()));
    assert_eq!(read_all(read), "65536\n");
    assert_eq!(reap(&started), ExitStatus::SUCCESS);
    // The last writer has gone with the process: the message, then the end.
    assert_eq!(read_all(ends.get), "hello");
}

/// A line of /proc/PID/status as a number in hexadecimal.
fn signals(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(value.unwrap(), 16).unwrap()
}

#[test]
fn no_signal_is_blocked_caught_or_ignored_unless_asked_for() {
    // The mask is this thread's own; Rust's runtime ignores SIGPIPE and catches SIGSEGV in all of us.
    signalfd::block_all().unwrap();
    let mut reading = spec(&["cat", "/proc/self/status"]);
    let status = output(&reading);
    assert_eq!(["SigBlk", "SigIgn", "SigCgt"].map(|name| signals(&status, name)), [0, 0, 0]);
    reading.ignored_signals = vec![Signal::HUP, Signal::from_number(64).unwrap()];
    let status = output(&reading);
    assert_eq!(["SigBlk", "SigIgn", "SigCgt"].map(|name| signals(&status, name)), [0, 1 | 1 << 63, 0]);
}

#[test]
fn starting_leaves_our_own_signal_mask_alone() {
    let mask = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let before = signals(&mask(), "SigBlk");
    output(&spec(&["true"]));
    assert_eq!(signals(&mask(), "SigBlk"), before);
}

#[test]
fn a_session_of_its_own_or_a_group_in_ours() {
    let fields = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let own = fields(&output(&spec(&["cat", "/proc/self/stat"])));
    assert_eq!((&own[4], &own[5]), (&own[0], &own[0]), "group and session bear its own number");
    let mut grouped = spec(&["cat", "/proc/self/stat"]);
    grouped.session = Session::Terminal;
    let own = fields(&output(&grouped));
    let ours = fields(&std::fs::read_to_string("/proc/self/stat").unwrap().replace(") ", ")"));
    assert_eq!(own[4], own[0]);
    assert_eq!(own[5], ours[4]);
    let null = null();
    let mut asked = request(&grouped, [null.as_fd(); 3], &[]);
    asked.foreground = Some(null.as_fd());
    let mut started = spawner().start(&asked).unwrap();
    let error = finish(&mut started).unwrap_err();
    assert_eq!((error.stage, error.errno), (Stage::Terminal, Errno(libc::ENOTTY)));
    reap(&started);
}

#[test]
fn on_a_terminal_its_group_is_in_the_foreground() {
    if std::env::var_os(crate::ON_TERMINAL).is_none() {
        return;
    }
    let terminal = tty::open_controlling().unwrap();
    assert_eq!(tty::foreground(terminal.as_fd()), Some(tty::own_group()));
    let mut grouped = spec(&["cat", "/proc/self/stat"]);
    grouped.session = Session::Terminal;
    let null = null();
    for takes in [true, false] {
        let (read, write) = fd::pipe().unwrap();
        let mut asked = request(&grouped, [null.as_fd(), write.as_fd(), null.as_fd()], &[]);
        asked.foreground = takes.then_some(terminal.as_fd());
        let mut started = spawner().start(&asked).unwrap();
        drop(write);
        assert_eq!(finish(&mut started), Ok(()));
        let stat = read_all(read);
        let fields: Vec<&str> = stat.split(' ').collect();
        assert_eq!(fields[7] == fields[0], takes, "{stat}");
        if takes {
            assert_eq!(tty::foreground(terminal.as_fd()), Some(started.pid));
            tty::set_foreground(terminal.as_fd(), tty::own_group()).unwrap();
        }
        assert_eq!(tty::foreground(terminal.as_fd()), Some(tty::own_group()));
        reap(&started);
    }
}

#[test]
fn the_limit_on_descriptors_is_set() {
    let limited = spec(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    let null = null();
    let (read, write) = fd::pipe().unwrap();
    let mut asked = request(&limited, [null.as_fd(), write.as_fd(), null.as_fd()], &[]);
    asked.descriptor_limit = Some(DescriptorLimit { soft: 77, hard: 99 });
    let mut started = spawner().start(&asked).unwrap();
    drop(write);
    assert_eq!(finish(&mut started), Ok(()));
    assert_eq!(read_all(read), "77\n99\n");
    reap(&started);
}

#[test]
fn it_dies_with_the_thread_that_started_it() {
    let (send, receive) = mpsc::channel();
    let starting = std::thread::spawn(move || {
        let (mut started, _output) = start(&spawner(), &spec(&["sleep", "1000"]));
        assert_eq!(finish(&mut started), Ok(()));
        send.send(started.pidfd).unwrap();
    });
    starting.join().unwrap();
    let pidfd = receive.recv().unwrap();
    assert!(fd::wait_readable(pidfd.as_fd(), BOUND).unwrap());
    let status = pidfd::reap(pidfd.as_fd()).unwrap().unwrap().status;
    assert_eq!(status, ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
}

#[test]
fn no_program_runs_for_a_supervisor_that_has_died() {
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    let pidfd = pidfd::open(dead.id()).unwrap();
    dead.wait().unwrap();
    let (mut started, output) = start(&Spawner::new(pidfd), &spec(&["echo", "ran"]));
    assert_eq!(finish(&mut started), Ok(()));
    assert_eq!(reap(&started), ExitStatus::Code(127));
    assert_eq!(read_all(output), "");
}

#[test]
fn two_hundred_in_flight_at_once() {
    let spawner = spawner();
    let spec = spec(&["true"]);
    let null = null();
    let asked = request(&spec, [null.as_fd(); 3], &[]);
    let mut flight: Vec<_> = (0..200).map(|_| spawner.start(&asked).unwrap()).collect();
    for started in &mut flight {
        assert_eq!(finish(started), Ok(()));
    }
    for started in &flight {
        assert_eq!(reap(started), ExitStatus::SUCCESS);
    }
}

#[test]
fn one_left_to_itself_runs_all_the_same() {
    let (started, output) = start(&spawner(), &spec(&["echo", "alone"]));
    let pidfd = started.pidfd;
    // No end of the pipe comes: our copy of its other end is among what is leaked.
    let mut line = [0; 16];
    assert_eq!(fd::read(output.as_fd(), &mut line).unwrap(), "alone\n".len());
    assert!(fd::wait_readable(pidfd.as_fd(), BOUND).unwrap());
    assert_eq!(pidfd::reap(pidfd.as_fd()).unwrap().unwrap().status, ExitStatus::SUCCESS);
}

/// A program whose exec waits until the lease on its file is given back.
struct Leased {
    _scratch: Scratch,
    path: String,
    lease: File,
}

impl Leased {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let path = scratch.file("slow", "#!/bin/sh\necho at last\n", 0o755);
        let lease = File::open(&path).unwrap();
        // SAFETY: no handler is installed and no pointer passed. The breaking of a lease is told by SIGIO.
        unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            assert_eq!(libc::fcntl(lease.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0);
        }
        Self { _scratch: scratch, path, lease }
    }

    /// Starts it and waits until its exec hangs.
    fn hang(&self, spawner: &Spawner) -> (fated::spawn::InFlight, std::os::fd::OwnedFd) {
        let (mut started, output) = start(spawner, &spec(&[&self.path]));
        let breaking = || {
            // SAFETY: no pointer is passed.
            unsafe { libc::fcntl(self.lease.as_raw_fd(), libc::F_GETLEASE) != libc::F_WRLCK }
        };
        while !breaking() {
            assert_eq!(started.finish(), None);
            std::thread::yield_now();
        }
        (started, output)
    }
}

#[test]
fn a_hanging_exec_holds_nothing_up() {
    let leased = Leased::new("hang");
    let spawner = spawner();
    let (mut hanging, slow) = leased.hang(&spawner);
    for _ in 0..20 {
        let (mut started, output) = start(&spawner, &spec(&["echo", "quick"]));
        assert_eq!(finish(&mut started), Ok(()));
        assert_eq!(read_all(output), "quick\n");
        assert_eq!(reap(&started), ExitStatus::SUCCESS);
    }
    assert_eq!(hanging.finish(), None);
    drop(leased.lease);
    assert_eq!(finish(&mut hanging), Ok(()));
    assert_eq!(read_all(slow), "at last\n");
    assert_eq!(reap(&hanging), ExitStatus::SUCCESS);
}

#[test]
fn a_hanging_exec_holds_no_copy_of_anothers_report() {
    let leased = Leased::new("copies");
    let spawner = spawner();
    let sleeping = spec(&["sleep", "1000"]);
    let mut flight: Vec<_> = (0..10).map(|_| start(&spawner, &sleeping).0).collect();
    // None of the ten has been looked at: all of their pipes are open in us when this one copies its table.
    let (mut hanging, _output) = leased.hang(&spawner);
    for started in &mut flight {
        assert_eq!(finish(started), Ok(()));
    }
    assert_eq!(hanging.finish(), None);
    flight.push(hanging);
    for mut started in flight {
        pidfd::send_signal(started.pidfd.as_fd(), Signal::KILL).unwrap();
        assert_eq!(reap(&started), ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
        assert_eq!(finish(&mut started), Ok(()));
    }
}

#[test]
fn a_hanging_exec_can_be_killed() {
    let leased = Leased::new("kill");
    let (mut hanging, _output) = leased.hang(&spawner());
    pidfd::send_signal(hanging.pidfd.as_fd(), Signal::KILL).unwrap();
    assert_eq!(finish(&mut hanging), Ok(()), "its exit status tells");
    assert_eq!(reap(&hanging), ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
}
