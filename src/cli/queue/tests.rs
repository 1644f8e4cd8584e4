use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;

use super::*;

fn set(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| (format!("FATED_QUEUE_{name}"), (*value).to_owned())).collect()
}

#[track_caller]
fn refused(queue: &str, end: QueueEnd, variables: &[(&str, &str)], text: &str) {
    let error = Queue::open(queue, end, &set(variables)).unwrap_err();
    assert_eq!(error.to_string(), text);
    assert_eq!(error.verdict().shell_code(), 125);
}

#[test]
fn a_queue_that_is_not_there_is_refused_with_what_is() {
    let items = [("ITEMS_PUT", "5"), ("ITEMS_MAX", "10"), ("RESULTS_PUT", "6"), ("RESULTS_MAX", "10")];
    refused(
        "itmes",
        QueueEnd::Put,
        &items,
        "this process may not put to queue `itmes`: FATED_QUEUE_ITMES_PUT is not set; did you mean `items`?",
    );
    refused(
        "orders",
        QueueEnd::Put,
        &items,
        "this process may not put to queue `orders`: FATED_QUEUE_ORDERS_PUT is not set; it may put to `items`, `results`",
    );
    refused(
        "items",
        QueueEnd::Get,
        &items,
        "this process may not get from queue `items`: FATED_QUEUE_ITEMS_GET is not set; `queues = { items = \"get\" }` in the tree file allows it",
    );
    refused(
        "my-items",
        QueueEnd::Get,
        &[],
        "this process may not get from queue `my-items`: FATED_QUEUE_MY_ITEMS_GET is not set; the tree file gives it no queue to get from, or fated did not start it",
    );
    refused("a b", QueueEnd::Get, &[], "`a b` is no queue: a name has letters, digits, `_`, `-` and `.`, not ' '");
}

#[test]
fn variables_that_hold_something_else_are_refused() {
    for number in ["", "x", "-1", "99999999999"] {
        let text = format!("FATED_QUEUE_Q_GET is `{number}`, which is no descriptor");
        refused("q", QueueEnd::Get, &[("Q_GET", number), ("Q_MAX", "1")], &text);
    }
    for max in ["", "0", "-5", "64KiB", "1073741825", "99999999999999999999"] {
        let text = format!("FATED_QUEUE_Q_MAX is `{max}`, which is no size of a message in bytes");
        refused("q", QueueEnd::Get, &[("Q_GET", "0"), ("Q_MAX", max)], &text);
    }
    refused(
        "q",
        QueueEnd::Put,
        &[("Q_PUT", "2147483647"), ("Q_MAX", "1")],
        "cannot use descriptor 2147483647 of FATED_QUEUE_Q_PUT: bad file descriptor; did a program in between close it (in Python: `pass_fds`)?",
    );
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd().to_string();
    let text = format!("descriptor {number} of FATED_QUEUE_Q_PUT leads to no queue");
    refused("q", QueueEnd::Put, &[("Q_PUT", &number), ("Q_MAX", "1")], &text);
}

/// Both ends of a queue: what puts, what gets.
fn queue(kind: Kind, max: usize) -> (Queue, Queue) {
    let (get, put) = match kind {
        Kind::Socket => socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap(),
        Kind::Pipe => pipe2(OFlag::O_CLOEXEC | OFlag::O_DIRECT).unwrap(),
    };
    let end = |fd| Queue { name: "q".into(), fd, kind, max };
    (end(put), end(get))
}

/// Everything that `get_all` writes.
fn got(source: Source<'_>, queue: &Queue, count: u64) -> String {
    use std::io::Read;
    let (mut reader, writer) = std::io::pipe().unwrap();
    get_all(source, queue, writer.as_fd(), false, count).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_kind_of_source_takes_whole_messages_up_to_the_count_and_the_end() {
    for kind in [Kind::Socket, Kind::Pipe] {
        for may_wait in [false, true] {
            let (put, get) = queue(kind, 100);
            let source = || if may_wait { Source::WaitingPipe(get.fd.as_fd()) } else { Source::of(&get) };
            for message in ["one", "two", "three", "four"] {
                put.put(message.as_bytes()).unwrap();
            }
            assert_eq!(got(source(), &get, 0), "");
            assert_eq!(got(source(), &get, 3), "one\ntwo\nthree\n");
            drop(put);
            assert_eq!(got(source(), &get, u64::MAX), "four\n");
        }
    }
}

#[test]
fn a_message_over_the_limit_is_noticed_where_the_kernel_tells() {
    let (put, get) = queue(Kind::Socket, 5);
    put.put(b"fits").unwrap();
    put.put(b"too long").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let error = get_all(Source::of(&get), &get, writer.as_fd(), false, 2).unwrap_err();
    assert_eq!(error.to_string(), "a message of queue `q` has 8 bytes, more than the 5 that it takes; it is lost");
    let mut written = [0; 10];
    assert_eq!(read(&reader, &mut written), Ok(5), "what was taken before it is written");
}

#[test]
fn a_message_that_the_kernel_cannot_hold_is_told() {
    let (put, _get) = queue(Kind::Socket, MESSAGE_MAX);
    let told = put.put(&vec![b'x'; 64 << 20]).unwrap_err().to_string();
    assert!(told.starts_with("queue `q` cannot hold a message of 67108864 bytes: message too long; raise"), "{told}");
}

#[test]
fn nothing_is_taken_for_an_output_that_has_no_reader() {
    let (put, get) = queue(Kind::Socket, 100);
    put.put(b"kept").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(get_all(Source::of(&get), &get, writer.as_fd(), false, u64::MAX), Ok(()));
    assert_eq!(got(Source::of(&get), &get, 1), "kept\n");
}

#[test]
fn a_line_without_end_is_given_up_at_a_bound() {
    let (put, _get) = queue(Kind::Socket, 10);
    let input = std::fs::File::open("/dev/zero").unwrap();
    let told = put_all(input.as_fd(), &put, false).unwrap_err().to_string();
    assert_eq!(told, "line 1 has at least 16777220 bytes; queue `q` takes messages of at most 10");
}
