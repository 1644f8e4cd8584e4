//! How fast messages pass, beside Python's own queue. Printed, not judged: it is a debug build on a busy machine, and Python at
//! both ends.

use fated::exit::ExitStatus;

use crate::common::{Scene, users};

/// Messages of each writer.
const COUNT: usize = 40_000;

/// The same for Python's queue, which takes many times as long.
const COUNT_THEIRS: usize = 5_000;

/// Four writers and two readers; the readers add up what they got and from when to when.
const BENCH: &str = "
import os, sys, time
COUNT, SIZE = int(sys.argv[2]), int(sys.argv[3])
def put():
    queue, text = int(os.environ['FATED_QUEUE_Q_PUT']), b'x' * SIZE
    for _ in range(COUNT):
        os.write(queue, text)
def get():
    queue, count, begin = int(os.environ['FATED_QUEUE_Q_GET']), 0, None
    while os.read(queue, 4096):
        begin = begin or time.monotonic()
        count += 1
    print('rate', count, begin, time.monotonic())
def theirs():
    import multiprocessing
    queue, out = multiprocessing.Queue(), multiprocessing.Queue()
    def put():
        text = b'x' * SIZE
        for _ in range(COUNT):
            queue.put(text)
    def get():
        count, begin = 0, None
        while queue.get():
            begin = begin or time.monotonic()
            count += 1
        out.put((count, begin, time.monotonic()))
    writers = [multiprocessing.Process(target=put) for _ in range(4)]
    readers = [multiprocessing.Process(target=get) for _ in range(2)]
    for process in writers + readers:
        process.start()
    for process in writers:
        process.join()
    for _ in readers:
        queue.put(b'')
    for _ in readers:
        print('rate', *out.get())
    for process in readers:
        process.join()
{'put': put, 'get': get, 'theirs': theirs}[sys.argv[1]]()
";

fn rate(scene: &Scene, tree: &str, count: usize) -> f64 {
    scene.write("bench.py", BENCH);
    scene.write("tree.toml", tree);
    let running = scene.fated(["up", "tree.toml"]).start();
    assert_eq!(running.wait(), ExitStatus::Code(0), "{}", running.stderr());
    let out = running.stdout();
    let told: Vec<[f64; 3]> = out
        .lines()
        .filter_map(|line| line.split_once("rate "))
        .map(|(_, rest)| {
            // A reader that came too late for any message has no beginning.
            let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or(f64::INFINITY);
            let mut words = rest.split(' ');
            [number(words.next()), number(words.next()), number(words.next())]
        })
        .collect();
    let all = 4.0 * count as f64;
    assert_eq!(told.iter().map(|told| told[0]).sum::<f64>(), all, "{out}");
    let begin = told.iter().map(|told| told[1]).fold(f64::INFINITY, f64::min);
    let end = told.iter().map(|told| told[2]).fold(0.0, f64::max);
    all / (end - begin)
}

#[test]
fn rates_of_both_transports_and_of_pythons_queue() {
    let user = users()[0];
    for size in [16, 1024] {
        let ours = ["pipe", "seqpacket"].map(|transport| {
            let tree = format!(
                "[queue.q]\ntransport = '{transport}'\nmessage_max = 4096\n
                [process.w]\ncommand = 'python3 bench.py put {COUNT} {size}'\ninstances = 4\nqueues = {{ q = 'put' }}\non_success = 'ignore'\n
                [process.r]\ncommand = 'python3 bench.py get {COUNT} {size}'\ninstances = 2\nqueues = {{ q = 'get' }}\n"
            );
            rate(&Scene::new(user), &tree, COUNT)
        });
        let tree = format!("[process.theirs]\ncommand = 'python3 bench.py theirs {COUNT_THEIRS} {size}'\n");
        let theirs = rate(&Scene::new(user), &tree, COUNT_THEIRS);
        println!(
            "{size} bytes, 4 writers, 2 readers, messages/s: pipe {:.0}, seqpacket {:.0}, multiprocessing.Queue {theirs:.0}",
            ours[0], ours[1]
        );
    }
}
