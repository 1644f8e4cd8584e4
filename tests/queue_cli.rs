//! `fated queue put` and `get` over real kernel queues, through the real binary.
//!
//! The queue's end is handed over as stdin (to `get`) or stdout (to `put`), which the command does not use itself: no
//! descriptor leaks into another test's process. coreutils' `timeout` bounds every process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{pipe2, read, write};

const FATED: &str = env!("CARGO_BIN_EXE_fated");

#[derive(Clone, Copy, Debug)]
enum Transport {
    Seqpacket,
    Pipe,
}

const BOTH: [Transport; 2] = [Transport::Seqpacket, Transport::Pipe];

/// The end to put to and the end to get from.
fn queue(transport: Transport) -> (OwnedFd, OwnedFd) {
    let (get, put) = match transport {
        Transport::Seqpacket => {
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
        }
        Transport::Pipe => pipe2(OFlag::O_CLOEXEC | OFlag::O_DIRECT).unwrap(),
    };
    (put, get)
}

fn command(verb: &str, options: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", FATED, "queue", verb]).args(options).arg("items");
    command.env("FATED_QUEUE_ITEMS_MAX", "65536").stderr(Stdio::piped());
    command
}

fn putter(put: OwnedFd, options: &[&str]) -> Child {
    let mut command = command("put", options);
    command.env("FATED_QUEUE_ITEMS_PUT", "1").stdin(Stdio::piped()).stdout(put).spawn().unwrap()
}

fn getter(get: OwnedFd, options: &[&str], stdout: Stdio) -> Child {
    command("get", options).env("FATED_QUEUE_ITEMS_GET", "0").stdin(get).stdout(stdout).spawn().unwrap()
}

/// Gives a process its input and waits for its end.
fn fed(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    // A process that refuses its input does not read it all.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// All messages until the end.
fn drained(get: &OwnedFd) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65536];
    let next = || read(get, &mut buffer).map(|size| buffer[..size].to_vec()).unwrap();
    std::iter::repeat_with(next).take_while(|message| !message.is_empty()).collect()
}

#[track_caller]
fn assert_failed(output: &Output, text: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(text), "expected: {text}\ntold: {stderr}");
    assert_eq!(output.status.code(), Some(125), "{stderr}");
}

#[track_caller]
fn assert_succeeded(output: &Output) {
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn each_line_is_a_message_also_the_last_without_a_newline() {
    for transport in BOTH {
        let (put, get) = queue(transport);
        assert_succeeded(&fed(putter(put, &[]), b"one\n\xff\xfe\0\r\nlast"));
        assert_eq!(drained(&get), [&b"one"[..], b"\xff\xfe\0\r", b"last"]);

        let (put, get) = queue(transport);
        assert_succeeded(&fed(putter(put, &["-0"]), b"a\nb\0c\0"));
        assert_eq!(drained(&get), [&b"a\nb"[..], b"c"]);

        let (put, get) = queue(transport);
        assert_succeeded(&fed(putter(put, &[]), b""));
        assert!(drained(&get).is_empty());
    }
}

#[test]
fn an_empty_line_is_refused_with_its_number_and_nothing_after_it_is_put() {
    let (put, get) = queue(Transport::Seqpacket);
    let output = fed(putter(put, &[]), b"one\ntwo\n\nfour\n");
    assert_failed(&output, "line 3 is empty; queue `items` takes no empty message, it would read like the end");
    assert_eq!(drained(&get), [b"one", b"two"]);

    let (put, _get) = queue(Transport::Pipe);
    assert_failed(&fed(putter(put, &["--null"]), b"one\0\0"), "message 2 is empty");
}

#[test]
fn a_message_at_the_limit_is_put_and_one_over_it_is_refused_with_both_sizes() {
    let line = |length| [vec![b'x'; length], vec![b'\n']].concat();
    let (put, get) = queue(Transport::Seqpacket);
    assert_succeeded(&fed(putter(put, &[]), &line(65536)));
    assert_eq!(drained(&get), [vec![b'x'; 65536]]);
    for (length, ending) in [(65537, 0), (70000, 0), (70000, 1), (200_000, 0)] {
        let (put, get) = queue(Transport::Seqpacket);
        let line = line(length);
        let input = [b"one\ntwo\n", &line[..line.len() - ending]].concat();
        let text = format!("line 3 has {length} bytes; queue `items` takes messages of at most 65536");
        assert_failed(&fed(putter(put, &[]), &input), &text);
        assert_eq!(drained(&get), [b"one", b"two"]);
    }
}

#[test]
fn a_queue_that_nobody_takes_from_any_more_is_told() {
    for transport in BOTH {
        let (put, get) = queue(transport);
        drop(get);
        let output = fed(putter(put, &[]), b"one\ntwo\n");
        assert_failed(&output, "queue `items` is closed: nobody takes from it any more");
    }
}

#[test]
fn a_full_queue_is_waited_for_also_when_it_is_non_blocking() {
    for transport in BOTH {
        for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
            let (put, get) = queue(transport);
            let packet = if matches!(transport, Transport::Pipe) { OFlag::O_DIRECT } else { OFlag::empty() };
            fcntl(&put, FcntlArg::F_SETFL(packet | flags)).unwrap();
            let messages: Vec<String> = (0..20_000).map(|number| format!("message {number}")).collect();
            let child = putter(put, &[]);
            let input = messages.join("\n");
            let feeding = std::thread::spawn(move || fed(child, input.as_bytes()));
            let read: Vec<String> =
                drained(&get).into_iter().map(|message| String::from_utf8(message).unwrap()).collect();
            assert_succeeded(&feeding.join().unwrap());
            assert_eq!(read, messages, "{transport:?}");
        }
    }
}

#[test]
fn messages_become_lines_until_the_end_or_the_count() {
    for transport in BOTH {
        let (put, get) = queue(transport);
        for message in [&b"one"[..], b"a\nb", b"\xff\0", b"four"] {
            write(&put, message).unwrap();
        }
        let get_some = |options: &[&str]| {
            let output = getter(get.try_clone().unwrap(), options, Stdio::piped()).wait_with_output().unwrap();
            assert_succeeded(&output);
            output.stdout
        };
        assert_eq!(get_some(&["-n", "1"]), b"one\n");
        assert_eq!(get_some(&["-0", "--count", "2"]), b"a\nb\0\xff\0\0");
        drop(put);
        assert_eq!(get_some(&[]), b"four\n");
        assert_eq!(get_some(&[]), b"");
    }
}

#[test]
fn what_was_taken_is_not_held_back_while_the_queue_is_empty() {
    for transport in BOTH {
        let (put, get) = queue(transport);
        let mut child = getter(get, &[], Stdio::piped());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for number in 0..100 {
            write(&put, format!("{number}").as_bytes()).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), number.to_string());
        }
        drop(put);
        assert!(lines.next().is_none());
        assert_succeeded(&child.wait_with_output().unwrap());
    }
}

#[test]
fn each_message_reaches_exactly_one_of_many() {
    const EACH: usize = 5_000;
    for transport in BOTH {
        let (put, get) = queue(transport);
        let collect = |mut child: Child| {
            std::thread::spawn(move || {
                let mut text = String::new();
                child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
                assert_succeeded(&child.wait_with_output().unwrap());
                text
            })
        };
        let getters: Vec<_> = (0..3).map(|_| collect(getter(get.try_clone().unwrap(), &[], Stdio::piped()))).collect();
        let putters: Vec<_> = (0..3)
            .map(|putter_number| {
                let child = putter(put.try_clone().unwrap(), &[]);
                let input: String = (0..EACH).map(|number| format!("{putter_number}:{number}\n")).collect();
                std::thread::spawn(move || assert_succeeded(&fed(child, input.as_bytes())))
            })
            .collect();
        drop((put, get));
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        let mut seen = BTreeMap::<String, u32>::new();
        for getter in getters {
            getter.join().unwrap().lines().for_each(|line| *seen.entry(line.to_owned()).or_default() += 1);
        }
        assert_eq!(seen.len(), 3 * EACH, "{transport:?}: no message is lost or torn");
        assert!(seen.values().all(|times| *times == 1), "{transport:?}: no message comes twice");
    }
}

#[test]
fn a_reader_that_goes_away_ends_get_without_loss_and_a_full_disk_tells_of_it() {
    for transport in BOTH {
        let (put, get) = queue(transport);
        let mut child = getter(get.try_clone().unwrap(), &[], Stdio::piped());
        drop(child.stdout.take());
        assert_succeeded(&child.wait_with_output().unwrap());

        write(&put, b"one").unwrap();
        write(&put, b"two").unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = getter(get, &["-n", "2"], full.into()).wait_with_output().unwrap();
        let text = "2 messages taken from queue `items` are lost: cannot write to stdout: no space left on device";
        assert_failed(&output, text);
    }
}

#[test]
fn a_descriptor_with_a_higher_number_and_a_missing_one() {
    let (put, get) = queue(Transport::Seqpacket);
    let script = format!("exec '{FATED}' queue put items 7>&1 >/dev/null");
    let run = |variable: &str| {
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", &script]).stdin(Stdio::piped()).stderr(Stdio::piped());
        command
            .env(variable, "7")
            .env("FATED_QUEUE_ITEMS_MAX", "100")
            .stdout(put.as_fd().try_clone_to_owned().unwrap());
        fed(command.spawn().unwrap(), b"through 7\n")
    };
    assert_succeeded(&run("FATED_QUEUE_ITEMS_PUT"));
    assert_failed(&run("FATED_QUEUE_ITEM_PUT"), "FATED_QUEUE_ITEMS_PUT is not set; did you mean `item`?");
    drop(put);
    assert_eq!(drained(&get), [b"through 7"]);
}
