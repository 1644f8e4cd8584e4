//! Readiness, notifications, watchdogs and stop commands with real processes: what is `after` a process starts when
//! that is ready, however it says so, and not before.

mod common;

use std::process::Command;

use common::{Running, Scene, User, users};
use fated::signal::Signal;

const NOTIFY: &str = include_str!("fixtures/notify.py");

/// A client of everything: it announces itself and ends the tree with success.
const CLIENT: &str = r#"
[process.client]
command = ["python3", "-c", "import notify; notify.announce('client')"]
after = ["server"]
on_success = "end"
"#;

/// A scene with this server and the client that is after it.
fn scene(user: User, server: &str) -> Scene {
    let scene = Scene::new(user);
    scene.write("notify.py", NOTIFY);
    scene.write("fated.toml", &format!("{server}\n{CLIENT}"));
    scene
}

/// A server in Python, by its lines.
fn python(lines: &str, keys: &str) -> String {
    format!(
        "[process.server]\ncommand = ['python3', '-c', '''\nimport os, signal, sys, time\nfrom notify import *\n{lines}''']\n{keys}\n"
    )
}

fn up(scene: &Scene) -> Running<'_> {
    scene.fated(["up", "fated.toml"]).env("PYTHONPATH", &scene.dir).start()
}

/// The names in the order in which they were announced.
fn order(scene: &Scene) -> Vec<String> {
    scene.lines().iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[track_caller]
fn assert_waited(server: &str) {
    for user in users() {
        let scene = scene(user, server);
        let fated = up(&scene);
        fated.assert_ends_with(0);
        assert_eq!(order(&scene), ["server", "client"], "{server}: fated said:\n{}", fated.stderr());
    }
}

#[test]
fn a_web_server_takes_connections_before_its_client_starts() {
    for user in users() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let scene = Scene::new(user);
        let text = format!(
            "[process.server]\ncommand = 'python3 -m http.server --bind 127.0.0.1 {port}'\nready = 'tcp:127.0.0.1:{port}'\n\
             [process.client]\nafter = ['server']\n\
             command = ['python3', '-c', 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:{port}/\").read()']\n\
             on_success = 'end'\n"
        );
        scene.write("fated.toml", &text);
        up(&scene).assert_ends_with(0);
    }
}

#[test]
fn a_program_says_itself_when_it_is_ready() {
    assert_waited(&python(
        "say('STATUS=loading')\nassert barrier()\nannounce('server')\nsay('READY=1')\nassert barrier()\nsignal.pause()\n",
        "ready = 'notify'",
    ));
}

#[test]
fn what_is_said_right_before_the_end_counts() {
    assert_waited(&python("announce('server')\nsay('READY=1')\n", "ready = 'notify'\non_success = 'ignore'"));
}

#[test]
fn a_descendant_speaks_for_its_process() {
    let lines = "if os.fork() == 0:\n    os.setsid()\n    announce('server')\n    say('READY=1')\nsignal.pause()\n";
    assert_waited(&python(lines, "ready = 'notify'"));
}

#[test]
fn a_newline_on_its_descriptor_is_readiness() {
    for number in [3, 7] {
        assert_waited(&python(
            &format!("announce('server')\nos.write({number}, b'\\n')\nos.close({number})\nsignal.pause()\n"),
            &format!("ready = 'fd:{number}'"),
        ));
    }
}

#[test]
fn a_command_finds_out() {
    assert_waited(&python(
        "announce('server')\nopen(SCENE + '/made', 'w').close()\nsignal.pause()\n",
        "ready = 'exec:test -e made'",
    ));
}

#[test]
fn a_forking_daemon_names_its_main_process() {
    let lines = "pid = os.fork()\nif pid:\n    announce('server')\n    say(f'MAINPID={pid}\\nREADY=1')\n    sys.exit(0)\n\
                 signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nsignal.pause()\n";
    assert_waited(&python(lines, "ready = 'notify'"));
}

#[test]
fn a_stranger_is_not_believed() {
    let scene =
        scene(users()[0], &python("announce(os.environ['NOTIFY_SOCKET'])\nsignal.pause()\n", "ready = 'notify'"));
    let fated = up(&scene);
    common::wait_until("the server has said where it speaks to", || !scene.lines().is_empty());
    let address = order(&scene).remove(0);
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", &address).unwrap();
    common::wait_until("fated has said so", || fated.stderr().contains("a notification was dropped"));
    fated.signal(Signal::TERM);
    fated.assert_ends_with(0);
    assert_eq!(order(&scene), [address.as_str()], "the client was not started");
    assert!(!std::path::Path::new(&address).exists(), "the socket was removed");
}

#[test]
fn a_silent_process_is_ended_by_its_watchdog() {
    let lines = "say('READY=1\\nWATCHDOG=1')\nannounce('server')\nsignal.pause()\n";
    let text = python(lines, "ready = 'notify'\nwatchdog = '300ms'");
    for user in users() {
        let scene = Scene::new(user);
        scene.write("notify.py", NOTIFY);
        scene.write("fated.toml", &text);
        up(&scene).assert_ends_with(124);
    }
}

#[test]
fn who_is_not_ready_in_time_has_failed() {
    let text = python("signal.pause()\n", "ready = 'exec:false'\nstart_timeout = '500ms'");
    let scene = scene(users()[0], &text);
    let fated = up(&scene);
    fated.assert_ends_with(124);
    assert!(order(&scene).is_empty(), "the client was not started");
}

#[test]
fn a_stop_command_stops_it() {
    let lines = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))\n\
                 announce('server')\nwhile True: signal.pause()\n";
    let scene = Scene::new(users()[0]);
    scene.write("notify.py", NOTIFY);
    scene.write("fated.toml", &python(lines, "stop_command = ['sh', '-c', 'kill -USR1 $MAINPID']"));
    let fated = up(&scene);
    fated.expect(&["server"]);
    fated.signal(Signal::TERM);
    fated.assert_ends_with(0);
}

#[test]
fn a_program_in_c_says_when_it_is_ready() {
    const SOURCE: &str = include_str!("fixtures/notify.c");
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("there is no C compiler: left out");
        return;
    }
    for user in users() {
        let scene = scene(user, "[process.server]\ncommand = './server'\nready = 'notify'\n");
        let source = scene.write("notify.c", SOURCE);
        let built = Command::new("cc").arg("-o").arg(scene.path("server")).arg(source).status().unwrap();
        assert!(built.success());
        let fated = up(&scene);
        fated.assert_ends_with(0);
        assert_eq!(order(&scene), ["server", "client"]);
    }
}
