//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::config::words::Word;
use crate::signal::Signal;
use crate::spec::{INSTANCES_MAX, Leftovers};
use crate::time::{Limit, parse_limit};

#[derive(Parser, Debug)]
#[command(name = "fated", version, about, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run one command and all of its descendants as one unit, tied to the process that launched fated
    Run(RunArgs),
    /// Run a declared tree in the foreground
    Up(UpArgs),
    /// Validate tree files; print the resolved tree, every deadline and where it came from
    Check(CheckArgs),
    /// Use a shared queue from a shell
    #[command(subcommand, arg_required_else_help = true)]
    Queue(QueueCommand),
}

/// What `run` and `up` have in common.
#[derive(Args, Debug, Default, Clone)]
pub struct LifeArgs {
    /// End it after DURATION, such as 250ms, 10s or 1.5h; 0 = no limit [default: none]
    #[arg(short = 't', long, value_name = "DURATION", value_parser = parse_limit)]
    pub lifetime: Option<Limit>,
    /// The signal that asks it to stop [default: TERM]
    #[arg(short = 's', long, value_name = "SIGNAL", value_parser = Signal::parse)]
    pub stop_signal: Option<Signal>,
    /// SIGKILL this long after the stop signal; 0 = at once, infinity = never [default: 10s; up: computed]
    #[arg(short = 'k', long, value_name = "DURATION", value_parser = parse_limit)]
    pub stop_timeout: Option<Limit>,
    /// Whether the launcher's end ends it too [default: yes; no if SIGHUP is ignored, as under nohup]
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no(), hide_possible_values = true)]
    pub die_with_parent: Option<bool>,
    /// End it also when PID ends; repeatable
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub watch_pid: Vec<u32>,
    /// End it also when FD, a pipe or a pidfd, reports hang-up or end of file; repeatable
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub watch_fd: Vec<i32>,
    /// Rewrite a signal before it is passed on; TO = 0 drops it; repeatable
    #[arg(long, value_name = "FROM:TO", value_parser = parse_signal_map)]
    pub signal_map: Vec<SignalMap>,
    /// Exit codes that count as success [default: 0]
    #[arg(long, value_name = "CODE[,...]", value_delimiter = ',')]
    pub success: Option<Vec<u8>>,
    /// Descendants that outlive the command: stop them, wait for their end, or leave them [default: stop]
    #[arg(long, value_name = "stop|wait|ignore", value_parser = leftovers(), hide_possible_values = true)]
    pub leftovers: Option<Leftovers>,
    /// One process instead of two: no guard around the supervisor
    #[arg(long)]
    pub no_guard: bool,
    /// Less log; twice: errors only
    #[arg(short = 'q', long, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    pub quiet: u8,
    /// More log; twice: everything (RUST_LOG wins)
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Args, Debug)]
#[command(override_usage = "fated run [OPTIONS] [--] COMMAND [ARG]...")]
pub struct RunArgs {
    #[command(flatten)]
    pub life: LifeArgs,
    /// Pass signals to the command's whole process group
    #[arg(short = 'g', long)]
    pub group: bool,
    /// After a lifetime ended it, exit with the command's own status, not 124
    #[arg(long)]
    pub preserve_status: bool,
    /// The command and its arguments; options of fated stand before it
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    pub life: LifeArgs,
    /// Run only these processes and groups; repeatable
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How many instances of a process to run; `all=N` for all others; 0 leaves it out; repeatable
    #[arg(short = 'm', long, value_name = "NODE=N,...", value_delimiter = ',', value_parser = parse_instances)]
    pub instances: Vec<(String, u32)>,
    /// A tree file (.toml) or a Procfile [default: ./fated.toml, else ./Procfile]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Explain a key of the tree file instead
    #[arg(long, value_name = "KEY", conflicts_with = "files")]
    pub explain: Option<String>,
    /// Tree files (.toml) or Procfiles [default: ./fated.toml, else ./Procfile]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum QueueCommand {
    /// Put a message for every line of standard input
    Put(QueueArgs),
    /// Get messages and write each as a line to standard output, until the queue has ended
    Get(QueueGetArgs),
}

#[derive(Args, Debug)]
pub struct QueueArgs {
    /// Messages end with a NUL byte instead of a newline
    #[arg(short = '0', long = "null")]
    pub null: bool,
    /// The queue, one of those that the process was given
    pub queue: String,
}

#[derive(Args, Debug)]
pub struct QueueGetArgs {
    /// Messages end with a NUL byte instead of a newline
    #[arg(short = '0', long = "null")]
    pub null: bool,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// The queue, one of those that the process was given
    pub queue: String,
}

/// One `--signal-map`: the signal that comes in, and what it becomes; `None` drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalMap {
    pub from: Signal,
    pub to: Option<Signal>,
}

fn parse_signal_map(text: &str) -> Result<SignalMap, String> {
    let (from, to) = text.split_once(':').ok_or("write FROM:TO, for example TERM:QUIT, or TERM:0 to drop it")?;
    let parse = |text: &str| Signal::parse(text).map_err(|error| error.to_string());
    let from = parse(from)?;
    if [Signal::KILL, Signal::STOP].contains(&from) {
        return Err(format!("{from} cannot be caught"));
    }
    Ok(SignalMap { from, to: if to == "0" { None } else { Some(parse(to)?) } })
}

fn parse_instances(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write NODE=N, for example web=2")?;
    match count.parse() {
        Ok(count) if count <= INSTANCES_MAX => Ok((name.to_owned(), count)),
        _ => Err(format!("`{count}` is not a number from 0 to {INSTANCES_MAX}")),
    }
}

fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

fn leftovers() -> impl TypedValueParser<Value = Leftovers> {
    PossibleValuesParser::new(Leftovers::words()).try_map(|word| Leftovers::of(&word).ok_or("unknown word"))
}

/// The exit status of a wrong command line.
const USAGE: u8 = 125;

/// Reads the command line; `args` begins with the program's own name.
///
/// # Errors
/// The exit status, where help or version was asked for and is printed, or the usage was wrong and is explained.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, u8> {
    Cli::try_parse_from(args).map(|cli| cli.command).map_err(|error| {
        // Where the message cannot be written there is nobody to tell.
        let _ = error.print();
        if error.use_stderr() { USAGE } else { 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> RunArgs {
        let args = ["fated", "run"].iter().chain(args).map(OsString::from);
        match Cli::try_parse_from(args).map(|cli| cli.command) {
            Ok(Command::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn options_end_at_the_command() {
        let words =
            |args: &RunArgs| args.command.iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let args = run(&["-t", "5s", "-g", "ls", "-l", "-t", "1", "--", "--help"]);
        assert_eq!(words(&args), ["ls", "-l", "-t", "1", "--", "--help"]);
        assert_eq!((args.life.lifetime, args.group), (Some(Limit::After(crate::time::Duration::from_secs(5))), true));
        assert_eq!(words(&run(&["--", "-x", "y"])), ["-x", "y"]);
        assert_eq!(words(&run(&["--", "--", "y"])), ["--", "y"]);
    }

    #[test]
    fn values_are_read() {
        let args = run(&[
            "-kinfinity",
            "-sint",
            "--signal-map",
            "TERM:QUIT",
            "--signal-map=HUP:0",
            "--success=1,2",
            "--success",
            "0",
            "--leftovers=wait",
            "--die-with-parent",
            "no",
            "--watch-pid=7",
            "--watch-fd=3",
            "--watch-fd=4",
            "-vv",
            "x",
        ]);
        let life = args.life;
        assert_eq!((life.stop_timeout, life.stop_signal), (Some(Limit::Never), Some(Signal::INT)));
        let map = |from, to| SignalMap { from, to };
        assert_eq!(life.signal_map, [map(Signal::TERM, Some(Signal::QUIT)), map(Signal::HUP, None)]);
        assert_eq!((life.success, life.leftovers), (Some(vec![1, 2, 0]), Some(Leftovers::Wait)));
        assert_eq!((life.die_with_parent, life.watch_pid, life.watch_fd), (Some(false), vec![7], vec![3, 4]));
        assert_eq!((life.quiet, life.verbose), (0, 2));
        let Ok(Command::Up(up)) =
            parse(["fated", "up", "--only", "a,b", "-m", "all=1,web=2", "Procfile"].map(OsString::from))
        else {
            panic!("no up");
        };
        assert_eq!((up.only.join(" "), up.instances), ("a b".into(), vec![("all".into(), 1), ("web".into(), 2)]));
    }

    #[test]
    fn wrong_values_are_refused() {
        for args in [
            &["-t", "-5", "x"][..],
            &["--signal-map", "KILL:TERM", "x"],
            &["--signal-map", "TERM", "x"],
            &["--success", "256", "x"],
            &["--watch-pid", "0", "x"],
            &["--watch-fd", "-1", "x"],
            &["-q", "-v", "x"],
            &["--die-with-parent", "maybe", "x"],
        ] {
            assert!(Cli::try_parse_from(["fated", "run"].iter().chain(args)).is_err(), "{args:?}");
        }
    }
}
