use std::io::{self, Write};
use std::process::ExitCode;

use fated::cli::args::{Command, parse};
use fated::cli::check::check;
use fated::exit::Verdict;

fn main() -> ExitCode {
    let command = match parse(std::env::args_os()) {
        Ok(command) => command,
        Err(status) => return ExitCode::from(status),
    };
    let verdict = match command {
        Command::Check(args) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let checked = check(&args, &mut out, &mut io::stderr().lock());
            checked.and_then(|verdict| out.flush().map(|()| verdict)).unwrap_or(Verdict::FAILED)
        }
        Command::Run(_) | Command::Up(_) | Command::Queue(_) => {
            eprintln!("fated: this command is not built in");
            Verdict::FAILED
        }
    };
    ExitCode::from(verdict.shell_code())
}
