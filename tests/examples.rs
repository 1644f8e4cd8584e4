//! The examples do what they promise, and the proof of the checksums notices when they do not.
//!
//! coreutils' `timeout` bounds every run; with `--foreground` it stands between as a launcher and passes its end on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FATED: &str = env!("CARGO_BIN_EXE_fated");

/// A directory of one test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fated-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &[u8], text: &str) {
        let path = self.0.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn bounded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "-k", "5", "60"]).arg(program).env("FATED", FATED);
    command
}

#[track_caller]
fn assert_ended(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let told = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let as_said = output.status.code() == Some(status) && told.0.contains(stdout) && told.1.contains(stderr);
    assert!(as_said, "expected: {status}\n{stdout}\n{stderr}\ngot: {}\n{}\n{}", output.status, told.0, told.1);
}

/// Names that break what is not careful with names.
const NAMES: [&[u8]; 12] = [
    b"plain",
    b"new\nline",
    b"ends in a newline\n",
    b"back\\slash",
    b" blanks ",
    b"-dash",
    b"sub/\xff\xfe",
    b"quote'\"`$(x)",
    b"tab\t",
    b"carriage\r",
    b"sub/deep/%s%n",
    b"*",
];

#[test]
fn checksums_of_odd_names_equal_what_find_and_sha256sum_give() {
    let scratch = Scratch::new("odd");
    for name in NAMES {
        scratch.file(name, &String::from_utf8_lossy(name));
    }
    symlink("plain", scratch.0.join("link")).unwrap();
    let output = bounded(example("checksums/run.sh")).arg(&scratch.0).output().unwrap();
    assert_ended(&output, 0, "equal line by line: 12 files, nothing lost, nothing twice", "checksums ended after");
}

#[test]
fn checksums_of_many_files_pass_through_the_queues_once_each() {
    let scratch = Scratch::new("many");
    for number in 0..3_000 {
        scratch.file(format!("{}/file {number}", number % 50).as_bytes(), &number.to_string());
    }
    let output = bounded(example("checksums/run.sh")).arg(&scratch.0).output().unwrap();
    assert_ended(&output, 0, "equal line by line: 3000 files, nothing lost, nothing twice", "");
}

#[test]
fn a_hasher_that_fails_ends_the_tree_and_a_lost_line_fails_the_proof() {
    let scratch = Scratch::new("faults");
    for name in NAMES {
        scratch.file(&[b"data/", name].concat(), "text");
    }
    let run = |sha256sum: &str| {
        // fated's folder comes first in PATH: inside the tree this is the sha256sum, and the proof gets the system's.
        let bin = scratch.0.join("bin");
        let _ = fs::remove_dir_all(&bin);
        fs::create_dir(&bin).unwrap();
        let system = "[ -n \"${FATED_PROCESS:-}\" ] || exec env PATH=/usr/bin:/bin sha256sum \"$@\"";
        let scripts = [("fated", format!("exec '{FATED}' \"$@\"")), ("sha256sum", format!("{system}\n{sha256sum}"))];
        for (name, text) in scripts {
            let source = scratch.0.join(name);
            fs::write(&source, format!("#!/bin/sh\n{text}\n")).unwrap();
            // Another process makes the program: a file that we had open for writing, and with us a child that another
            // test forks at this moment, could not be executed.
            let made = Command::new("install").args(["-m", "755"]).arg(&source).arg(bin.join(name)).status().unwrap();
            assert!(made.success());
        }
        let mut command = bounded(example("checksums/run.sh"));
        command.arg(scratch.0.join("data")).env("FATED", bin.join("fated")).output().unwrap()
    };
    assert_ended(&run("exit 1"), 1, "", "fated up ended with status 123");
    assert_ended(&run("env PATH=/usr/bin:/bin sha256sum \"$@\" | sed 1d"), 1, "", "the lists differ");
    let twice = "for i in 1 2; do env PATH=/usr/bin:/bin sha256sum \"$@\"; done";
    assert_ended(&run(twice), 1, "", "the lists differ");
    assert_ended(&run("exec env PATH=/usr/bin:/bin sha256sum \"$@\""), 0, "12 files, nothing lost", "");
}

#[test]
fn words_are_counted_by_the_children_of_a_python_pool() {
    let scratch = Scratch::new("words");
    for number in 0..200 {
        scratch.file(format!("{}/{number}.txt", number % 7).as_bytes(), &"two words\n".repeat(number));
    }
    scratch.file(b"not.counted", "word");
    let words = 2 * (0..200).sum::<usize>();
    let tree = example("python/fated.toml");
    let output = bounded(FATED).arg("up").arg(&tree).env("WORDS_DIR", &scratch.0).output().unwrap();
    assert_ended(&output, 0, &format!("{words} words in 200 files"), "words ended after");

    let output = bounded(FATED).arg("up").arg(&tree).env("WORDS_DIR", scratch.0.join("missing")).output().unwrap();
    assert_ended(&output, 1, "", "is no directory");
}
