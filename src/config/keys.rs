//! Every key of the tree file, once: the parser, `fated check --explain` and the manual page read this table.

use core::fmt::Write as _;

use crate::config::diagnostic::nearest;

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Tree,
    Group,
    Process,
    Queue,
}

impl Scope {
    /// How the scope is written: `[process.NAME]`.
    pub fn header(self) -> &'static str {
        match self {
            Self::Tree => "the tree (the top of the file)",
            Self::Group => "[group.NAME]",
            Self::Process => "[process.NAME]",
            Self::Queue => "[queue.NAME]",
        }
    }
}

/// One key in one scope.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub scope: Scope,
    pub name: &'static str,
    /// What a value looks like, with its range.
    pub value: &'static str,
    pub default: &'static str,
    /// One sentence without a full stop.
    pub meaning: &'static str,
    /// Whether this version does what the key says.
    pub built: bool,
}

const DURATION: &str = "a duration: \"250ms\", \"10s\", \"1min 30s\", a number of seconds, or \"infinity\"";
const LIFETIME: &str = "a duration: \"10s\", \"8h\", a number of seconds; 0 or \"infinity\" for none";
const CONSEQUENCE: &str = "\"end\", \"ignore\" or \"restart\"";
const SPAN: &str = "a duration that is not infinite: \"250ms\", \"10s\", a number of seconds";
const RESTARTS: &str = "a whole number from 0 to 10000";
const COMMAND: &str = "a list of strings, or a string that is split as a shell would; ${VAR} is replaced";
const SIGNAL: &str = "a signal: \"TERM\", \"SIGUSR1\", \"RTMIN+3\", or its number";
const OUTPUT: &str = "\"prefix\", \"inherit\" or \"null\" (\"journal\" and { file = ... } are not supported yet)";
const ENV: &str = "a table of strings: { NAME = \"value\" }; ${VAR} in a value is replaced";
const NAMES: &str = "a list of processes and groups: [\"collector\", \"pool/worker\"]";

const fn built(
    scope: Scope,
    name: &'static str,
    value: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { scope, name, value, default, meaning, built: true }
}

/// A key of the interface that this version does not have yet.
const fn later(scope: Scope, name: &'static str, meaning: &'static str) -> Key {
    Key { scope, name, value: "not supported by this version of fated yet", default: "", meaning, built: false }
}

use Scope::{Group, Process, Queue, Tree};

#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    built(Tree, "name", "a name: letters, digits, `_`, `-`, `.`; at most 64 bytes", "the file's stem; for fated.toml the name of its directory", "what the tree is called"),
    built(Tree, "lifetime", LIFETIME, "none", "how long the whole tree may run; then it is stopped, with status 124"),
    built(Tree, "stop_timeout", DURATION, "the worst case of its members, along the reverse of `after`", "how long the stop of the whole tree may take; then what is left is killed"),
    built(Tree, "die_with_parent", "true or false", "true, but false if SIGHUP was ignored when fated was started", "whether the end of the process that launched fated ends the tree"),
    built(Tree, "env", ENV, "{}", "variables for every process"),
    built(Tree, "process", "tables [process.NAME]", "", "the processes"),
    built(Tree, "group", "tables [group.NAME]", "", "subtrees with a fate of their own"),
    built(Tree, "queue", "tables [queue.NAME]", "", "kernel queues that processes share"),
    later(Tree, "containment", "how descendants are held: auto, subreaper, cgroup, pidns"),
    later(Tree, "socket", "listening sockets that are kept over restarts"),

    built(Group, "group", "the name of a group", "the tree itself", "the group that this group is in"),
    built(Group, "after", NAMES, "[]", "what has to be ready before the group starts, and stops only after it"),
    built(Group, "lifetime", LIFETIME, "none", "how long the group may run; then it is stopped, which counts as a failure"),
    built(Group, "stop_timeout", DURATION, "the worst case of its members, along the reverse of `after`", "how long the stop of the group may take; then what is left is killed"),
    built(Group, "on_exit", CONSEQUENCE, "by on_success and on_failure", "what the group's end means to the group that it is in"),
    built(Group, "on_success", CONSEQUENCE, "\"end\"", "the same, after success; wins over on_exit"),
    built(Group, "on_failure", CONSEQUENCE, "\"end\"", "the same, after a failure; wins over on_exit"),
    built(Group, "strategy", "\"one\", \"rest\" or \"all\"", "\"one\"", "what a restart of a member takes along: nothing, the members that started after it, or all of them"),
    built(Group, "restart_limit", RESTARTS, "none: each member counts for itself; 5 where only the window is written", "restarts of direct members, counted together, in the window; one more ends the group"),
    built(Group, "restart_window", SPAN, "30s, where restart_limit is written", "the window in which restarts of direct members count"),
    built(Group, "restart_delay", SPAN, "100ms", "the delay before the group's first restart; doubled for each one that follows"),
    built(Group, "restart_delay_max", SPAN, "30s", "the longest delay before a restart of the group"),

    built(Process, "command", COMMAND, "required", "the program and its arguments; never run by a shell"),
    built(Process, "group", "the name of a group", "the tree itself", "the group that the process is in"),
    built(Process, "after", NAMES, "[]", "what has to be ready before it starts, and stops only after it"),
    built(Process, "instances", "a whole number from 1 to 10000", "1, without a number in its name", "how many of it run: NAME.1 to NAME.N"),
    built(Process, "autostart", "true or false", "true", "whether it starts with its group"),
    built(Process, "queues", "a table { QUEUE = \"put\" | \"get\" | \"both\" }", "{}", "the queues that it puts to and gets from"),
    built(Process, "cwd", "a path; ${VAR} is replaced", "the tree file's directory, where relative paths start", "its working directory"),
    built(Process, "env", ENV, "{}", "its own variables; they win over env_file and the tree's env"),
    built(Process, "env_file", "a path or a list of paths", "none", "files of NAME=VALUE lines; they win over the tree's env"),
    built(Process, "clear_env", "true or false", "false", "leave out the environment that fated itself was given"),
    built(Process, "stdin", "\"null\", or \"inherit\" for one process of the tree", "\"null\"", "where it reads from"),
    built(Process, "stdout", OUTPUT, "\"prefix\"", "where its output goes"),
    built(Process, "stderr", OUTPUT, "\"prefix\"", "where its error output goes"),
    built(Process, "on_exit", CONSEQUENCE, "by on_success and on_failure", "what its end means to its group"),
    built(Process, "on_success", CONSEQUENCE, "\"end\"; \"ignore\" for a process that gets from a queue and for a step", "the same, after success; wins over on_exit"),
    built(Process, "on_failure", CONSEQUENCE, "\"end\"", "the same, after a failure; wins over on_exit"),
    built(Process, "success", "a list of exit codes from 0 to 255", "[0]", "the exit codes that count as success"),
    built(Process, "lifetime", LIFETIME, "none", "how long it may run; then it is stopped, which counts as a failure"),
    built(Process, "stop_signal", SIGNAL, "\"TERM\"", "the signal that asks it to stop"),
    built(Process, "stop_timeout", DURATION, "10s, shortened to fit a stop_timeout written on a group or the tree", "how long its stop may take; then what is left of it is killed; 0 kills at once"),
    built(Process, "parent_death_signal", "a signal, or \"none\" (0)", "\"KILL\"", "what the kernel sends it when its supervisor has died"),
    built(Process, "leftovers", "\"stop\", \"wait\" or \"ignore\"", "\"stop\"", "what becomes of descendants that outlive it"),
    later(Process, "sockets", "the listening sockets that it is given"),
    later(Process, "user", "the user that it runs as"),
    later(Process, "groups", "the groups that it runs with"),
    later(Process, "umask", "its file mode mask"),
    later(Process, "nice", "its scheduling priority"),
    later(Process, "oom_score_adj", "how soon the kernel kills it when memory runs out"),
    later(Process, "limits", "its resource limits"),
    later(Process, "capabilities", "the capabilities that it keeps"),
    later(Process, "no_new_privs", "whether it can never gain privileges"),
    built(Process, "restart_delay", SPAN, "100ms", "the delay before its first restart; doubled for each one that follows; up to a tenth is taken off by chance"),
    built(Process, "restart_delay_max", SPAN, "30s", "the longest delay before a restart"),
    built(Process, "restart_limit", RESTARTS, "5", "its restarts in the window; where one more would be needed, it ends its group"),
    built(Process, "restart_window", SPAN, "30s", "the window in which its restarts count"),
    built(Process, "healthy_after", SPAN, "10s", "a run this long resets the restart delay"),
    built(Process, "lifetime_clock", "\"monotonic\" (\"boottime\" is not supported yet)", "\"monotonic\"", "the clock that its lifetime is measured by; it stands still while the machine sleeps"),
    built(Process, "start_timeout", LIFETIME, "90s, where there is a readiness to wait for; none for a step", "how long it may take to be ready; then it is stopped, which counts as a failure"),
    built(Process, "stop_command", COMMAND, "none", "run to stop it, with MAINPID, in place of the stop signal, which follows if the command fails"),
    later(Process, "reload_signal", "the signal that asks it to read its configuration again"),
    built(Process, "watchdog", LIFETIME, "none", "how often it has to say that it is alive (WATCHDOG=1); a silent one is sent SIGABRT and then stopped, which counts as a failure"),
    built(Process, "ready", "\"started\", \"exited\" (a step), \"notify\", \"fd:N\", \"tcp:HOST:PORT\" (a numeric address or localhost) or \"exec:COMMAND\"", "\"started\"", "when it is ready, so that what is after it starts"),
    later(Process, "memory_max", "the most memory that it may use"),
    later(Process, "pids_max", "the most processes that it may have"),
    later(Process, "cpu_max", "the most processor time that it may use"),

    built(Queue, "capacity", "a size: 4096, \"64KiB\", \"1MiB\"; K, M and G are powers of 1024", "\"1MiB\"", "the kernel's buffer in bytes, clamped to what the kernel allows"),
    built(Queue, "transport", "\"seqpacket\" or \"pipe\"", "\"seqpacket\"", "what the kernel carries the messages with; a pipe is faster and takes messages up to 4096 bytes"),
    built(Queue, "message_max", "a size from 1 to the capacity; for a pipe at most 4096", "\"64KiB\"; for a pipe 4096; at most the capacity", "the longest message in bytes"),
    built(Queue, "delivery", "\"direct\" (\"lease\" is not supported yet)", "\"direct\"", "messages go from kernel to process and never through fated"),
];

/// What the table says of a name in a scope.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    Built(&'static Key),
    /// A key of the interface that this version does not have.
    Later(&'static Key),
    Unknown,
}

/// Looks a key up.
pub fn find(scope: Scope, name: &str) -> Found {
    match of_scope(scope).find(|key| key.name == name) {
        Some(key) if key.built => Found::Built(key),
        Some(key) => Found::Later(key),
        None => Found::Unknown,
    }
}

/// The names of a scope's keys, for suggestions.
pub fn names(scope: Scope) -> impl Iterator<Item = &'static str> {
    of_scope(scope).map(|key| key.name)
}

fn of_scope(scope: Scope) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.scope == scope)
}

/// What `fated check --explain NAME` prints: a paragraph for every scope that has the key.
///
/// # Errors
/// No scope has it; the nearest key, if one is near.
pub fn explain(name: &str) -> Result<String, Option<&'static str>> {
    let mut text = String::new();
    for key in KEYS.iter().filter(|key| key.name == name) {
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} in {}: {}", key.name, key.scope.header(), key.meaning);
        let _ = writeln!(text, "  value    {}", key.value);
        if !key.default.is_empty() {
            let _ = writeln!(text, "  default  {}", key.default);
        }
    }
    if text.is_empty() { Err(nearest(name, KEYS.iter().map(|key| key.name))) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_in_a_scope() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!KEYS[..index].iter().any(|other| (other.scope, other.name) == (key.scope, key.name)), "{key:?}");
        }
    }

    #[test]
    fn a_key_is_explained_in_every_scope() {
        let text = explain("lifetime").unwrap();
        assert_eq!(text.matches("  value    ").count(), 3);
        assert!(text.starts_with("lifetime in the tree (the top of the file): how long the whole tree may run"));
        assert_eq!(explain("lifetim"), Err(Some("lifetime")));
        assert_eq!(explain("potato"), Err(None));
    }
}
