//! Only `fated queue put|get`, read by hand, until the argument parser is there.

use std::process::ExitCode;

use fated::cli::queue;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mut null, mut count, mut names) = (false, None, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-0" | "--null" => null = true,
            "-n" | "--count" => count = rest.next().and_then(|count| count.parse().ok()),
            name => names.push(name),
        }
    }
    let done = match names[..] {
        ["queue", "put", name] => queue::put(name, null),
        ["queue", "get", name] => queue::get(name, null, count),
        _ => return ExitCode::from(125),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fated: {error}");
            ExitCode::from(error.verdict().shell_code())
        }
    }
}
