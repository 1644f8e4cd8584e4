//! What processes write, on its way through fated: nothing lost, torn or mixed up, and no slow reader that holds a
//! tree up.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Instant;

use fated::lines::LINE_MAX;
use fated::signal::Signal;
use fated::sys::{fd, socket};

use crate::common::{Scene, Watched, in_parallel, users, wait_until};
use crate::support;

const LINES: usize = 20_000;

/// Writes numbered lines of every length to both streams, in writes that end anywhere.
const WRITER: &str = "
import os, random, zlib
random.seed(int(os.environ['FATED_INSTANCE']))
held = {1: b'', 2: b''}
for number in range(LINES):
    for stream in held:
        body = b'%d %d ' % (stream, number) + b'x' * random.randrange(100)
        held[stream] += body + b' %08x\\n' % zlib.crc32(body)
        if len(held[stream]) > 3000:
            cut = random.randrange(1, 3000)
            piece, held[stream] = held[stream][:cut], held[stream][cut:]
            while piece:
                piece = piece[os.write(stream, piece):]
for stream in held:
    while held[stream]:
        held[stream] = held[stream][os.write(stream, held[stream]):]
";

/// The number of a line whose checksum is right.
fn number(line: &str, stream: &str) -> Option<usize> {
    let (body, sum) = line.rsplit_once(' ')?;
    let mut words = body.split(' ');
    let right = words.next()? == stream && sum == format!("{:08x}", crc32(body.as_bytes()));
    words.next()?.parse().ok().filter(|_| right)
}

/// The checksum of zlib, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Every line of a stream of fated, checked; how many there were of each process.
fn check_lines(from: impl Read, stream: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for line in BufReader::new(from).lines() {
        let line = line.unwrap();
        let Some((label, rest)) = line.split_once(" | ") else {
            assert!(stream == "2" && line.starts_with("fated: "), "not of a process: {line}");
            continue;
        };
        let next = seen.entry(label.trim_end().to_owned()).or_insert(0);
        assert_eq!(number(rest, stream), Some(*next), "{line}");
        *next += 1;
    }
    seen
}

#[test]
fn no_line_is_lost_torn_or_out_of_order() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("writer.py", &WRITER.replace("LINES", &LINES.to_string()));
        scene.write(
            "tree.toml",
            "[process.w]\ncommand = 'python3 writer.py'\ninstances = 3\non_success = 'ignore'\n[process.with-a-long-name]\ncommand = 'true'\non_success = 'ignore'\n",
        );
        let mut command = support::fated(&scene, &["up", "tree.toml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out, err) = std::thread::scope(|scope| {
            let out = scope.spawn(|| check_lines(stdout, "1"));
            let err = scope.spawn(|| check_lines(stderr, "2"));
            (out.join().unwrap(), err.join().unwrap())
        });
        let wanted: BTreeMap<String, usize> = (1..=3).map(|n| (format!("w.{n}"), LINES)).collect();
        assert_eq!((out, err), (wanted.clone(), wanted));
        assert_eq!(support::ended(&mut child).code(), Some(0));
    });
}

#[test]
fn odd_bytes_and_long_lines_come_through() {
    const SHAPES: &str = "
import os
out = b'plain\\n\\n' + b'nul \\0 bytes \\xff\\xfe\\x80\\n' + b'r\\r\\n'
for length in (LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT + 5):
    out += bytes([97 + length % 26]) * length + b'\\n'
out += b'no newline'
while out:
    out = out[os.write(1, out):]
";
    let scene = Scene::new(users()[0]);
    scene.write("shapes.py", &SHAPES.replace("LIMIT", &LINE_MAX.to_string()));
    scene.write("tree.toml", "[process.p]\ncommand = 'python3 shapes.py'\n");
    let tree = scene.fated(["up", "tree.toml"]).start();
    tree.assert_ends_with(0);
    let mut wanted = b"p | plain\np | \np | nul \0 bytes \xff\xfe\x80\np | r\r\n".to_vec();
    for length in [LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, 2 * LINE_MAX + 5] {
        let line = vec![97 + (length % 26) as u8; length];
        for (index, piece) in line.chunks(LINE_MAX).enumerate() {
            // A line that is longer than the bound goes on in the next one, which says so.
            wanted.extend(if index == 0 { b"p | " } else { b"p + " });
            wanted.extend(piece);
            wanted.push(b'\n');
        }
    }
    wanted.extend(b"p | no newline\n");
    let told = std::fs::read(scene.path("stdout")).unwrap();
    assert!(told == wanted, "{}", String::from_utf8_lossy(&told));
}

#[test]
fn devices_take_the_output_too() {
    let scene = Scene::new(users()[0]);
    scene.write("tree.toml", "[process.p]\ncommand = 'echo text'\n");
    for device in ["/dev/null", "/dev/full", "/dev/zero"] {
        let mut command = support::fated(&scene, &["up", "tree.toml"]);
        let open = || std::fs::File::options().write(true).open(device).unwrap();
        let mut child = command.stdout(open()).stderr(open()).spawn().unwrap();
        assert_eq!(support::ended(&mut child).code(), Some(0), "{device}");
    }
}

/// Writes without end, an announcement before and one that never comes after it.
const FLOOD: &str = "
import os
def announce(name):
    out = os.open(os.environ['TEST_SCENE'] + '/announce', os.O_WRONLY)
    os.write(out, f'{name} {os.getpid()}\\n'.encode())
announce('begin.' + os.environ['FATED_INSTANCE'])
for _ in range(1 << 14):
    os.write(1, (b'x' * 63 + b'\\n') * 64)
announce('end')
";

fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_reader_that_stands_still_costs_no_memory_and_delays_no_stop() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("flood.py", FLOOD);
        scene.write("tree.toml", "[process.f]\ncommand = 'python3 flood.py'\ninstances = 8\n");
        let (read, write) = fd::pipe().unwrap();
        let stderr = std::fs::File::create(scene.path("stderr")).unwrap();
        let mut command = support::fated(&scene, &["up", "tree.toml"]);
        let mut child = command.stdout(write).stderr(stderr).spawn().unwrap();
        drop(command);
        let fated = Watched::open("fated", child.id());
        wait_until("all write", || (1..=8).all(|n| scene.announced(&format!("begin.{n}")).is_some()));
        wait_until("the reader's pipe is full", || socket::bytes_waiting(read.as_fd()).unwrap() > 30_000);
        let writers: Vec<_> = (1..=8).map(|n| scene.announced(&format!("begin.{n}")).unwrap()).collect();
        wait_until("everyone waits", || writers.iter().all(|writer| writer.state() == Some('S')));
        let mut supervisor = Vec::new();
        fated::sys::procfs::children_of(fated.pid, &mut supervisor).unwrap();
        let peak = peak_memory(supervisor[0]);
        assert!(peak < 40_000, "{peak} kB");
        let begin = Instant::now();
        fated.signal(Signal::TERM);
        for writer in &writers {
            writer.wait_end();
        }
        println!(
            "tree ended {} after SIGTERM, its output unread; peak memory {peak} kB",
            support::millis(begin.elapsed())
        );
        assert_eq!(support::ended(&mut child).code(), Some(0));
        println!("and fated {}", support::millis(begin.elapsed()));
        let told = scene.read("stderr");
        assert!(told.contains("8 processes stopped") && told.contains("output was dropped"), "{told}");
        assert!(scene.announced("end").is_none());
        drop(read);
    });
}

#[test]
fn a_tree_outlives_the_reader_of_its_output() {
    let scene = Scene::new(users()[0]);
    scene.write("flood.py", FLOOD);
    scene.write("tree.toml", "[process.f]\ncommand = 'python3 flood.py'\n");
    let (read, write) = fd::pipe().unwrap();
    let mut command = support::fated(&scene, &["up", "tree.toml"]);
    let mut child = command.stdout(write).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    wait_until("it writes", || scene.announced("begin.1").is_some());
    drop(read);
    assert_eq!(support::ended(&mut child).code(), Some(0));
    assert!(scene.announced("end").is_some());
}
