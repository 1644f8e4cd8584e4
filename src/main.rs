use std::io::{self, Write};

use fated::cli::args::{Command, QueueCommand, parse};
use fated::cli::check::check;
use fated::cli::{launch, queue};
use fated::exit::Verdict;
use fated::sys::{entry, process, signalfd};

fn main() {
    let command = match parse(std::env::args_os()) {
        Ok(command) => command,
        Err(status) => process::exit_now(status),
    };
    let verdict = match command {
        Command::Run(args) => launch::run(args),
        Command::Up(args) => launch::up(&args),
        Command::Check(args) => {
            // `fated check | head` ends as any filter does.
            entry::restore_sigpipe();
            let mut out = io::BufWriter::new(io::stdout().lock());
            let checked = check(&args, &mut out, &mut io::stderr().lock());
            checked.and_then(|verdict| out.flush().map(|()| verdict)).unwrap_or(Verdict::FAILED)
        }
        Command::Queue(QueueCommand::Put(args)) => told(queue::put(&args.queue, args.null)),
        Command::Queue(QueueCommand::Get(args)) => told(queue::get(&args.queue, args.null, args.count)),
    };
    match verdict {
        Verdict::Code(code) => process::exit_now(code),
        Verdict::Signal(signal) => signalfd::die_by(signal),
    }
}

fn told(result: Result<(), queue::QueueError>) -> Verdict {
    match result {
        Ok(()) => Verdict::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fated: {error}");
            error.verdict()
        }
    }
}
