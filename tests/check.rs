//! `fated check` as its users see it: the built binary, its output and its exit status.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const FATED: &str = env!("CARGO_BIN_EXE_fated");

/// A directory that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.join(name), content).unwrap();
        self
    }

    fn fated(&self, args: &[&str]) -> Output {
        Command::new(FATED).args(args).current_dir(&self.0).env_clear().env("HOME", "/home/me").output().unwrap()
    }

    /// Standard error of a check that has to fail.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.fated(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(output.stdout.is_empty());
        error
    }

    /// Standard output of a check that has to succeed.
    fn accepted(&self, args: &[&str]) -> String {
        let output = self.fated(args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_resolved_tree_is_printed_with_every_deadline() {
    let folder = Folder::new("golden");
    let printed =
        folder.write("pipeline.toml", include_str!("check/pipeline.toml")).accepted(&["check", "pipeline.toml"]);
    let printed = printed.replace(&folder.0.display().to_string(), "DIRECTORY");
    assert_eq!(printed, include_str!("check/pipeline.expected"));
}

#[test]
fn bad_files_are_refused_with_their_position() {
    let folder = Folder::new("bad");
    let cases: [(&str, &[u8], &str); 9] = [
        (
            "key",
            b"[process.w]\ncommand = 'w'\nlifetme = '1s'\n",
            "3:1: unknown key `lifetme` in [process.w]; did you mean `lifetime`?",
        ),
        (
            "type",
            b"[process.w]\ncommand = 3\n",
            "2:11: `command` in [process.w] has the wrong type: expected a list of strings, or a string that is split as a shell would; ${VAR} is replaced; found an integer",
        ),
        ("twice", b"[process.w]\ncommand = 'w'\n[process.w]\n", "3:10: `w` stands here twice"),
        (
            "cycle",
            b"[process.a]\ncommand = 'a'\nafter = ['b']\n[process.b]\ncommand = 'b'\nafter = ['a']\n",
            "3:10: a cycle in `after`: a -> b -> a",
        ),
        ("group", b"[process.w]\ncommand = 'w'\ngroup = 'pool'\n", "3:9: unknown group `pool` in the `group` of `w`"),
        (
            "queue",
            b"[process.w]\ncommand = 'w'\nqueues = { items = 'get' }\n",
            "3:12: unknown queue `items` in the `queues` of `w`",
        ),
        ("empty", b"[process.w]\ncommand = ''\n", "2:11: `command` in [process.w] is empty"),
        ("utf8", b"[process.w]\ncommand = '\xc3\xa4\xff'\n", "2:13: the byte 0xff is not UTF-8"),
        ("syntax", b"[process.w\n", "1:11: unclosed table, expected `]`"),
    ];
    for (name, content, expected) in cases {
        let file = format!("{name}.toml");
        assert_eq!(folder.write(&file, content).refused(&["check", &file]), format!("{file}:{expected}\n"));
    }
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let folder = Folder::new("unreadable");
    assert_eq!(folder.refused(&["check", "no.toml"]), "no.toml: cannot read it: no such file or directory\n");
    assert_eq!(folder.refused(&["check", "."]), ".: cannot read it: is a directory\n");
    let neither = folder.refused(&["check"]);
    assert!(neither.contains("neither fated.toml nor Procfile is here"), "{neither}");
    folder.write("e.toml", "[process.w]\ncommand = 'w'\nenv_file = ['no.env']\n");
    assert_eq!(folder.refused(&["check", "e.toml"]), "e.toml:3:13: cannot read no.env: no such file or directory\n");
    folder.write("no.env", "A=1\nwhat\n");
    assert_eq!(folder.refused(&["check", "e.toml"]), "no.env:2:1: `what` is no variable; write NAME=VALUE\n");
}

/// A generator with equal numbers for equal seeds (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn rubbish_is_refused_in_little_time() {
    let folder = Folder::new("rubbish");
    let mut random = Random(7);
    let noise: Vec<u8> = (0..10 << 20).map(|_| random.next() as u8).collect();
    let begin = Instant::now();
    assert_eq!(
        folder.write("big.toml", &noise).refused(&["check", "big.toml"]),
        "big.toml: cannot read it: it has more than 1024 KiB\n"
    );
    // Below the limit: what is slow to be wrong about.
    let repeated = |text: &str| text.repeat((1 << 20) / text.len());
    let numbered = |line: &dyn Fn(usize) -> String| (0..30_000).map(line).collect::<String>();
    for (name, content) in [
        ("noise", String::from_utf8_lossy(&noise[..300_000]).into_owned()),
        ("brackets", repeated("[")),
        ("inline", format!("x = {}", repeated("{a="))),
        ("line", format!("env = {{ {} }}", numbered(&|n| format!("k{n} = {n}, ")))),
        ("keys", format!("[process.w]\n{}", numbered(&|n| format!("commander{n} = 1\n")))),
        ("afters", format!("[process.w]\ncommand = 'w'\nafter = [{}]", numbered(&|n| format!("'w{n}',")))),
        ("chain", numbered(&|n| format!("[group.g{n}]\ngroup='g{}'\n", n + 1))),
        ("circle", numbered(&|n| format!("[group.g{n}]\nafter=['g{}']\n", (n + 1) % 30_000))),
        ("dollars", format!("[process.w]\ncommand = ['{}']", repeated("$${$"))),
    ] {
        let file = format!("{name}.toml");
        let error = folder.write(&file, &content).refused(&["check", &file]);
        assert!(error.lines().count() <= 21 && error.len() < 20_000, "{name}: {} bytes", error.len());
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn every_error_is_printed_and_warnings_do_not_refuse() {
    let folder = Folder::new("several");
    folder.write("a.toml", "lifetime = 'x'\n[process.w]\ncomand = 'w'\n").write("b.toml", "[group.g]\nafter = 1\n");
    let errors = folder.refused(&["check", "a.toml", "b.toml"]);
    let places: Vec<&str> = errors.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["a.toml:1:12", "a.toml:3:1", "b.toml:2:9"]);
    folder.write("c.toml", "[queue.q]\n[process.w]\ncommand = 'w'\nqueues = { q = 'both' }\n");
    let output = folder.fated(&["check", "c.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.starts_with("c.toml:4:16: `w` puts to and gets from the queue `q`"), "{warning}");
}

#[test]
fn the_usual_files_are_found() {
    let folder = Folder::new("usual");
    folder.write("Procfile", "web: serve $PORT\n").write(".env", "PORT=80\n");
    let printed = folder.accepted(&["check"]);
    assert!(printed.contains("(Procfile)") && printed.contains("command       /bin/sh -c 'serve $PORT'"), "{printed}");
    let name = folder.0.file_name().unwrap().to_str().unwrap();
    assert!(printed.starts_with(&format!("tree {name} ")), "{printed}");
    folder.write("fated.toml", "[process.w]\ncommand = '${HOME}/w'\n");
    let printed = folder.accepted(&["check"]);
    assert!(printed.starts_with(&format!("tree {name} (fated.toml)")) && printed.contains("/home/me/w"), "{printed}");
}

#[test]
fn keys_are_explained() {
    let folder = Folder::new("explain");
    let printed = folder.accepted(&["check", "--explain", "stop_timeout"]);
    assert_eq!(printed.lines().filter(|line| line.starts_with("stop_timeout in ")).count(), 3);
    let unknown = folder.refused(&["check", "--explain", "stop_timeot"]);
    assert_eq!(unknown, "fated: no key of the tree file is called `stop_timeot`; did you mean `stop_timeout`?\n");
}

#[test]
fn wrong_usage_exits_with_125_and_help_with_0() {
    let folder = Folder::new("usage");
    for args in [&[][..], &["frobnicate"], &["run"], &["run", "-t", "soon", "ls"], &["up", "--leftovers", "eat"]] {
        let output = folder.fated(args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["queue", "get", "-h"]] {
        let output = folder.fated(args);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    }
}
