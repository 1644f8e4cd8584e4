//! The house rules as failing tests: which room may use which, what the pure floors may not name, where `unsafe` may stand.
//!
//! ARCHITECTURE.md says why. Every rule is a function from a path and a text to faults, so that the tests at the
//! end can plant a fault of each kind and see it caught; one test then reads the repository.

use std::fs;
use std::path::Path;

#[path = "tidy/tokens.rs"]
mod tokens;

use tokens::{Named, Token, calls, is_name, paths, tokens, without_tests};

/// A room: a module directly below the crate, one file or one folder.
struct Room {
    name: &'static str,
    floor: u8,
    /// The lowest and the highest floor that it may use, all rooms of them.
    floors: Option<(u8, u8)>,
    /// Rooms beyond these that it may use.
    rooms: &'static [&'static str],
}

const fn room(name: &'static str, floor: u8, floors: Option<(u8, u8)>, rooms: &'static [&'static str]) -> Room {
    Room { name, floor, floors, rooms }
}

/// The house, from the roof to the ground.
const ROOMS: [Room; 17] = [
    room("main", 5, Some((0, 4)), &["cli"]),
    room("cli", 5, Some((0, 4)), &[]),
    // Its start-up makes two processes out of one, and one of them is the guard from then on.
    room("daemon", 4, Some((0, 3)), &["guard"]),
    // Beside the daemon and without knowing it: the guard stays small, so that little can go wrong in it.
    room("guard", 4, Some((0, 1)), &["sys"]),
    room("spawn", 3, Some((0, 1)), &["sys"]),
    room("sys", 3, Some((0, 1)), &[]),
    room("supervisor", 2, Some((0, 1)), &[]),
    room("config", 2, Some((0, 1)), &[]),
    // What processes say is told to the core in its own words.
    room("protocol", 2, Some((0, 1)), &["supervisor"]),
    // It shows what the others made: the supervisor's records and the resolved configuration.
    room("render", 2, Some((0, 1)), &["supervisor", "config"]),
    room("lines", 2, Some((0, 1)), &[]),
    room("spec", 1, Some((0, 0)), &[]),
    room("start", 0, None, &["exit"]),
    room("exit", 0, None, &["signal"]),
    room("signal", 0, None, &[]),
    room("name", 0, None, &[]),
    room("time", 0, None, &[]),
];

/// The highest floor without input, output and clock.
const PURE: u8 = 2;

/// Files that may send a signal to everything (`kill(-1)`) because they run as PID 1 of a namespace or a machine.
const PID_1: [&str; 0] = [];

/// Lines of a file: more is a fault; the aim is 450.
const LINES_MAX: usize = 600;

/// A broken rule: the line, from 1, and what is wrong.
type Fault = (usize, String);

#[test]
fn the_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(root, &root.join(folder), &mut files);
    }
    for known in ["src/lib.rs", "src/main.rs", "src/supervisor/mod.rs", "tests/tidy.rs"] {
        assert!(files.iter().any(|(path, _)| path == known), "{known} was not read");
    }
    let faults: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| {
            faults(path, text).into_iter().map(move |(line, what)| format!("{path}:{line}: {what}"))
        })
        .collect();
    assert!(faults.is_empty(), "{} broken rules:\n{}", faults.len(), faults.join("\n"));
}

/// Every Rust file below a folder, by its path from the root.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// All faults of one file.
fn faults(path: &str, text: &str) -> Vec<Fault> {
    let tokens = tokens(text);
    let mut faults: Vec<Fault> = length(text).into_iter().collect();
    faults.extend(patience(&tokens));
    if !PID_1.contains(&path) {
        faults.extend(signals_to_all(&tokens));
    }
    if let Some(inner) = path.strip_prefix("src/") {
        faults.extend(unsafe_code(inner, text, &tokens));
        if !is_test_file(inner) {
            let tokens = without_tests(&tokens);
            let paths = paths(&tokens);
            faults.extend(arrows(inner, &paths));
            faults.extend(purity(inner, &calls(&tokens), &paths));
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

// The rules.

fn length(text: &str) -> Option<Fault> {
    let lines = text.lines().count();
    (lines > LINES_MAX)
        .then(|| (lines, format!("{lines} lines; a file has at most {LINES_MAX}: find its two purposes")))
}

/// Imports point down.
fn arrows(file: &str, paths: &[Named]) -> Vec<Fault> {
    let own = room_of(file);
    let Some(room) = ROOMS.iter().find(|room| room.name == own) else {
        return match own {
            "lib" => paths
                .iter()
                .filter(|path| path.names[0] == "crate")
                .map(|path| (path.line, "lib.rs declares rooms and uses none".into()))
                .collect(),
            _ => vec![(1, format!("the room `{own}` is not in the table of tests/tidy.rs"))],
        };
    };
    let depth = modules_above(file);
    let mut faults = Vec::new();
    for path in paths {
        let Some((target, sure)) = target(path, depth) else { continue };
        let known = ROOMS.iter().find(|room| room.name == target);
        let why = match known {
            Some(_) if target == own => continue,
            Some(_) if room.rooms.contains(&target) => continue,
            Some(other) if room.floors.is_some_and(|(low, high)| (low..=high).contains(&other.floor)) => continue,
            Some(other) => format!("`{own}` (floor {}) may not use `{target}` (floor {})", room.floor, other.floor),
            None if sure => format!("`{target}` is no room in the table of tests/tidy.rs"),
            None => continue,
        };
        faults.push((path.line, why));
    }
    faults
}

/// The room that a path leads to, and whether it can be nothing else.
fn target(path: &Named, depth: usize) -> Option<(&str, bool)> {
    let names = &path.names;
    let climbs = names.iter().take_while(|name| *name == "super").count();
    match names[0].as_str() {
        "crate" | "fated" => names.get(1).map(|name| (name.as_str(), true)),
        "super" if climbs >= depth => names.get(climbs).map(|name| (name.as_str(), false)),
        _ => None,
    }
}

/// Floors 0 to 2 know no input, no output and no clock; mio stays in the daemon.
fn purity(file: &str, calls: &[(usize, String)], paths: &[Named]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for path in paths.iter().filter(|path| path.is_crate("mio")) {
        if room_of(file) != "daemon" {
            faults.push((path.line, "only the daemon knows mio".into()));
        }
    }
    if !ROOMS.iter().any(|room| room.name == room_of(file) && room.floor <= PURE) {
        return faults;
    }
    for path in paths {
        let names: Vec<&str> = path.names.iter().map(String::as_str).collect();
        let bad = match names[..] {
            ["libc" | "nix" | "mio" | "log", ..] => path.is_crate(names[0]),
            ["std", "fs" | "net" | "process" | "thread" | "env" | "*", ..] | ["std"] => true,
            ["std", "io", "stdin" | "stdout" | "stderr", ..] => true,
            ["std", "time", "Instant" | "SystemTime" | "*", ..] => true,
            [.., "Instant" | "SystemTime", "now"] => true,
            _ => false,
        };
        if bad {
            faults.push((path.line, format!("a pure floor names `{}`", names.join("::"))));
        }
    }
    let prints = ["print!", "println!", "eprint!", "eprintln!"];
    faults.extend(
        calls
            .iter()
            .filter(|(_, call)| prints.contains(&call.as_str()))
            .map(|(line, call)| (*line, format!("a pure floor calls `{call}`"))),
    );
    faults
}

/// `unsafe` stands in two places, and says each time why it holds.
fn unsafe_code(file: &str, text: &str, tokens: &[Token]) -> Vec<Fault> {
    let allowed = file.starts_with("sys/") || file == "spawn/child.rs";
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe") {
        if !allowed {
            faults.push((token.line, "`unsafe` stands only in src/sys/ and src/spawn/child.rs".into()));
        } else if is_unsafe_code(&tokens[at + 1..]) && !has_safety_comment(&lines, token.line) {
            faults.push((token.line, "`unsafe` without a SAFETY comment right before it".into()));
        }
    }
    faults
}

/// Whether what follows `unsafe` is code, not a function's type or a declaration without a body.
fn is_unsafe_code(after: &[Token]) -> bool {
    let Some(function) = after.iter().position(|token| !matches!(token.text.as_str(), "extern" | "\"")) else {
        return true;
    };
    if after[function].text != "fn" {
        return true;
    }
    let named = after.get(function + 1).is_some_and(|token| token.text != "(");
    named && after.iter().find(|token| token.text == "{" || token.text == ";").is_some_and(|token| token.text == "{")
}

/// Whether the comment before the statement that holds this line, or on the line, says `SAFETY:` (or `# Safety`, for a function's callers).
fn has_safety_comment(lines: &[&str], line: usize) -> bool {
    let says = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    let is_comment = |text: &str| text.trim_start().starts_with("//");
    if lines[line - 1].find("//").is_some_and(|at| says(&lines[line - 1][at..])) {
        return true;
    }
    let mut above = lines[..line - 1].iter().rev().peekable();
    // Up to the beginning of the statement, over attributes.
    let ends = |text: &str| text.is_empty() || text.ends_with([';', '{', '}', ',']);
    while above.next_if(|text| !is_comment(text) && !ends(text.trim_end())).is_some() {}
    above.take_while(|text| is_comment(text)).any(|text| says(text))
}

/// Nothing sleeps and hopes, nothing is left for later, no test is switched off.
fn patience(tokens: &[Token]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, call) in calls(tokens) {
        match call.as_str() {
            "sleep(" | "usleep(" | "nanosleep(" | "sleep_ms(" | "sleep_until(" => {
                faults.push((line, format!("`{call})`: wait on the event that is needed")))
            }
            "todo!" | "unimplemented!" | "dbg!" => faults.push((line, format!("`{call}` is left over"))),
            _ => {}
        }
    }
    for window in tokens.windows(3) {
        if window[0].text == "[" && window[1].text == "ignore" && matches!(window[2].text.as_str(), "]" | "=") {
            faults.push((window[1].line, "a test that is switched off proves nothing".into()));
        }
    }
    faults
}

/// `kill(-1)` and `kill(0)` reach processes that were never ours.
fn signals_to_all(tokens: &[Token]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if !matches!(token.text.as_str(), "kill" | "killpg") || tokens.get(at + 1).is_none_or(|next| next.text != "(") {
            continue;
        }
        // The number may be wrapped: `Pid::from_raw(-1)`.
        let mut argument = tokens[at + 2..]
            .iter()
            .skip_while(|token| is_name(&token.text) || matches!(token.text.as_str(), "::" | "("));
        let number: String = argument
            .by_ref()
            .take_while(|token| !matches!(token.text.as_str(), "," | ")"))
            .map(|token| token.text.as_str())
            .collect();
        // A type may follow the digits: `-1i32`.
        let digits = number.find(|c: char| c.is_alphabetic() || c == '_').map_or(&number[..], |at| &number[..at]);
        if matches!(digits, "-1" | "0") {
            faults.push((token.line, format!("`{}({number})` outside the PID 1 path", token.text)));
        }
    }
    faults
}

// Where a file is.

/// The room of a file: its first folder below src, or its own name.
fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// How many `super` lead from a file's module to the crate.
fn modules_above(file: &str) -> usize {
    file.split('/').filter(|part| *part != "mod.rs").count()
}

/// A file that holds tests alone, of a module that declares it under `#[cfg(test)]`.
fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

// The rules themselves: each catches a planted fault, and leaves its innocent neighbour alone.

/// The faults of a file, one a line, as `line: what`.
fn told(path: &str, text: &str) -> String {
    faults(path, text).into_iter().map(|(line, what)| format!("{line}: {what}\n")).collect()
}

#[track_caller]
fn assert_caught(path: &str, text: &str, fault: &str) {
    let told = told(path, text);
    assert!(told.contains(fault), "{path}: {text}\nexpected: {fault}\ntold: {told}");
}

#[track_caller]
fn assert_clean(path: &str, text: &str) {
    assert_eq!(told(path, text), "", "{path}: {text}");
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    for room in &ROOMS {
        let floor = |name: &str| ROOMS.iter().find(|room| room.name == name).map(|room| room.floor);
        assert!(room.floors.is_none_or(|(low, high)| low <= high && high < room.floor), "{}", room.name);
        for used in room.rooms {
            assert!(floor(used).is_some_and(|floor| floor <= room.floor), "{} uses {used}", room.name);
            let further = ROOMS.iter().find(|room| room.name == *used).map_or(&[][..], |room| room.rooms);
            assert!(!further.contains(&room.name), "{} and {used} use each other", room.name);
        }
    }
}

#[test]
fn imports_that_point_up_or_sideways_are_caught() {
    let up = |own: &str, other: &str| format!("`{own}` (floor {}) may not use `{other}`", floor_of(own));
    for (path, text, own, other) in [
        ("src/spec.rs", "use crate::supervisor::event::Event;", "spec", "supervisor"),
        ("src/supervisor/node.rs", "use crate::{name::Name, config::TreeFile};", "supervisor", "config"),
        ("src/supervisor/mod.rs", "fn f() { crate::lines::Splitter::new(); }", "supervisor", "lines"),
        ("src/config/mod.rs", "use crate::sys;", "config", "sys"),
        ("src/config/procfile.rs", "use super::super::daemon::x;", "config", "daemon"),
        ("src/lines.rs", "use super::guard;", "lines", "guard"),
        ("src/sys/clone.rs", "use crate::spawn::report::Report;", "sys", "spawn"),
        ("src/sys/clone.rs", "use crate::supervisor::command::Command;", "sys", "supervisor"),
        ("src/guard.rs", "use crate::daemon::start;", "guard", "daemon"),
        ("src/guard/mod.rs", "use crate::spawn::child;", "guard", "spawn"),
        ("src/daemon/control.rs", "use crate::cli::args;", "daemon", "cli"),
        ("src/signal.rs", "use crate::exit::ExitStatus;", "signal", "exit"),
        ("src/name.rs", "pub fn f(x: crate::spec::TreeSpec) {}", "name", "spec"),
    ] {
        assert_caught(path, text, &up(own, other));
    }
    assert_caught("src/spec.rs", "\n\nuse crate::{\n    time::Limit,\n    sys::clock,\n};", "5: `spec`");
    assert_caught("src/helpers.rs", "", "the room `helpers` is not in the table");
    assert_caught("src/cli/mod.rs", "use crate::helpers::x;", "`helpers` is no room");
    assert_caught("src/lib.rs", "pub use crate::spec::TreeSpec;", "lib.rs declares rooms");
    for (path, text) in [
        ("src/main.rs", "use fated::cli; use fated::exit::Verdict;"),
        ("src/cli/run.rs", "use crate::{daemon, guard, sys, config::load, spec::TreeSpec, time}; use super::args;"),
        (
            "src/daemon/executor.rs",
            "use crate::supervisor::Supervisor; use crate::{guard, spawn}; use super::processes::X;",
        ),
        ("src/render/status.rs", "use crate::supervisor::record::Record; use crate::config::Resolved;"),
        ("src/spawn/prepare.rs", "use crate::sys::clone; use crate::spec::ProcessSpec; use super::child;"),
        (
            "src/supervisor/node.rs",
            "// use crate::sys;\nlet x = \"crate::sys::y\"; /* crate::daemon */ r#\"\"crate::cli\"#;",
        ),
        (
            "src/spec.rs",
            "#[cfg(test)]\nmod tests { use crate::supervisor::x; fn f() { if a { b } } }\nuse crate::time;",
        ),
        ("src/supervisor/tests.rs", "use crate::config::load;"),
        ("src/lib.rs", "pub mod spec;"),
    ] {
        assert_clean(path, text);
    }
}

fn floor_of(name: &str) -> u8 {
    ROOMS.iter().find(|room| room.name == name).unwrap().floor
}

#[test]
fn what_a_pure_floor_may_not_name_is_caught() {
    for text in [
        "use libc::c_int;",
        "fn f() -> libc::c_int { 0 }",
        "fn f() { ::nix::unistd::getpid(); }",
        "use log;",
        "use log::{info, warn};",
        "fn f() { log::info!(\"x\"); }",
        "extern crate libc;",
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "use std::{collections::BTreeMap, thread};",
        "use std::net::{IpAddr, TcpStream};",
        "fn f() { std::process::exit(1) }",
        "fn f() { std::env::var(\"X\"); }",
        "use std::*;",
        "use std as everything;",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime as Wall};",
        "fn f() { Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
        "use std::io::stdout;",
        "fn f() { println!(\"x\"); }",
        "#[cfg(test)] mod tests { fn f() { x; } }\nuse std::fs;",
        "#[cfg(test)] use std::{fs, io};\nuse std::thread;",
    ] {
        for path in ["src/time.rs", "src/spec.rs", "src/supervisor/node.rs", "src/lines.rs", "src/protocol/mod.rs"] {
            assert_caught(path, text, "a pure floor");
        }
        let elsewhere = told("src/sys/clock.rs", text);
        assert!(!elsewhere.contains("pure"), "{text}: {elsewhere}");
    }
    for text in [
        "use core::net::IpAddr; use std::time::Duration; use std::io::Error; use std::ffi::OsString;",
        "fn f(log: &Log) { log.write(); let log = log; my::libc::f(); }",
        "/// Never `std::fs::read`.\nfn f() { g(\"std::env::var\", 'n', b'\\'', \"\\\" std::fs::x\"); }",
        "fn f<'a>(x: &'a str) -> &'a str { x } // std::process::exit",
        "#[cfg(test)] mod tests { use std::fs; fn f() { println!(\"{:?}\", std::env::args()); } }",
    ] {
        assert_clean("src/supervisor/node.rs", text);
    }
    assert_caught("src/sys/pidfd.rs", "use mio::unix::SourceFd;", "only the daemon knows mio");
    assert_caught("src/cli/queue.rs", "fn f() { mio::Poll::new(); }", "only the daemon knows mio");
    assert_clean("src/daemon/event_loop.rs", "use mio::Poll;");
}

#[test]
fn unsafe_code_in_the_wrong_place_or_without_its_reason_is_caught() {
    assert_caught("src/daemon/queues.rs", "// SAFETY: it is.\nunsafe { f() }", "stands only in");
    assert_caught("src/spawn/prepare.rs", "// SAFETY: it is.\nunsafe fn f() {}", "stands only in");
    let without = "`unsafe` without";
    for text in [
        "fn f() {\n    unsafe { g() }\n}",
        "// SAFETY: of another.\nlet a = unsafe { g() };\nlet b = unsafe { h() };",
        "// It is sound.\nunsafe impl Send for X {}",
        "unsafe fn f() { g() }",
        "unsafe extern \"C\" { fn g(); }",
        "unsafe extern \"C\" fn f(x: i32) { g() }",
        "#[unsafe(no_mangle)]\nfn f() {}",
        "// SAFETY: too far.\n\nunsafe { g() }",
        "// SAFETY: of the call before.\nf(\n    a,\n    unsafe { g() },\n);",
        "let text = \"SAFETY: not here\"; unsafe { g() }",
    ] {
        assert_caught("src/sys/clone.rs", text, without);
        assert_caught("src/spawn/child.rs", text, without);
    }
    for text in [
        "// SAFETY: it holds,\n// for two lines.\nunsafe { g() }",
        "// SAFETY: it holds.\nlet long =\n    unsafe { g() };",
        "let a = unsafe { g() }; // SAFETY: it holds.",
        "/// # Safety\n/// The caller waits.\n#[inline]\npub unsafe fn f() {\n    // SAFETY: so it does.\n    unsafe { g() }\n}",
        "type Entry = unsafe extern \"C\" fn(i32) -> i32; trait T { unsafe fn declared(&self); }",
        "// unsafe { g() }\nlet x = \"unsafe { }\"; let unsafely = 1;",
    ] {
        assert_clean("src/sys/clone.rs", text);
    }
}

#[test]
fn sleeping_leftovers_and_signals_to_all_are_caught() {
    for path in ["src/daemon/mod.rs", "src/supervisor/node.rs", "tests/up.rs"] {
        for (text, fault) in [
            ("fn f() { thread::sleep(x) }", "`sleep()`"),
            ("use std::thread::sleep as nap; fn f() { std::thread::sleep(x) }", "`sleep()`"),
            ("fn f() { libc::usleep(1) }", "`usleep()`"),
            ("#[cfg(test)] mod tests { fn f() { sleep(x) } }", "`sleep()`"),
            ("fn f() { todo!() }", "`todo!`"),
            ("fn f() { unimplemented!(\"later\") }", "`unimplemented!`"),
            ("fn f() { dbg!(x); }", "`dbg!`"),
            ("#[test]\n#[ignore]\nfn f() {}", "2: a test that is switched off"),
            ("#[ignore = \"slow\"] fn f() {}", "switched off"),
            ("fn f() { kill(-1, 9) }", "`kill(-1)`"),
            ("fn f() { libc::kill(0, libc::SIGTERM); }", "`kill(0)`"),
            ("fn f() { nix::sys::signal::kill(Pid::from_raw(-1), SIGKILL) }", "`kill(-1)`"),
            ("fn f() { killpg(Pid::from_raw(0), None) }", "`killpg(0)`"),
            ("fn f() { kill(-1i32, 9) }", "`kill(-1"),
        ] {
            assert_caught(path, text, fault);
        }
        for text in [
            "fn f() { let c = \"sleep(1)\"; spawn(\"sleep 1000\"); } // thread::sleep(x), todo!",
            "fn f() { kill(pid, 0); kill(Pid::from_raw(pid), None); skill(0); }",
            "fn asleep() { asleep() } fn f(todo: u8) { let ignore = [todo]; }",
        ] {
            assert_clean(path, text);
        }
    }
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    assert_clean("src/sys/clone.rs", &"\n".repeat(LINES_MAX));
    assert_caught("src/sys/clone.rs", &"\n".repeat(LINES_MAX + 1), "601 lines");
    assert_caught("tests/up.rs", &"\n".repeat(LINES_MAX + 1), "601 lines");
}
