//! The exit status, as the table in the manual gives it.

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, users};

const fn by(signal: Signal) -> ExitStatus {
    ExitStatus::Signaled { signal, core_dumped: false }
}

fn for_all_users<C: Clone>(cells: &[C]) -> Vec<(User, C)> {
    users().into_iter().flat_map(|user| cells.iter().cloned().map(move |cell| (user, cell))).collect()
}

#[test]
fn run_ends_as_its_command_did() {
    let cells: [(&[&str], &str, ExitStatus); 13] = [
        (&[], "exit 0", ExitStatus::Code(0)),
        (&[], "exit 7", ExitStatus::Code(7)),
        (&[], "exit 255", ExitStatus::Code(255)),
        (&["--success", "3,4"], "exit 4", ExitStatus::Code(0)),
        (&["--success", "3,4"], "exit 5", ExitStatus::Code(5)),
        (&["--success", "3"], "exit 0", ExitStatus::Code(1)),
        (&[], "kill -TERM $$", by(Signal::TERM)),
        (&[], "kill -KILL $$", by(Signal::KILL)),
        (&[], "kill -SEGV $$", by(Signal::SEGV)),
        (&[], "kill -ABRT $$", by(Signal::ABRT)),
        (&[], "kill -USR1 $$", by(Signal::USR1)),
        (&[], "kill -INT $$", by(Signal::INT)),
        (&["--no-guard"], "kill -QUIT $$", by(Signal::QUIT)),
    ];
    in_parallel(for_all_users(&cells), |(user, (options, script, expected))| {
        let scene = Scene::new(*user);
        let args = ["run"].into_iter().chain(options.iter().copied()).chain(["--", "sh", "-c", script]);
        // Where the limit allows a core file, the command may leave one and fated must not.
        let tree = scene.fated(args).via(["sh", "-c", "ulimit -c unlimited 2>&-; exec \"$@\"", "sh"]).start();
        assert_eq!(tree.wait(), *expected, "{}", tree.stderr());
        tree.assert_nothing_left();
    });
}

#[test]
fn what_cannot_be_executed_is_126_and_what_is_not_found_127() {
    let cells: [(&str, u8, &str); 5] = [
        ("./missing", 127, "no such file"),
        ("no-such-command-at-all", 127, "no such file"),
        ("./text", 126, "permission denied"),
        ("./directory", 126, "permission denied"),
        ("./no-interpreter", 127, "no such file"),
    ];
    in_parallel(for_all_users(&cells), |(user, (command, code, word))| {
        let scene = Scene::new(*user);
        scene.write("text", "text");
        scene.write("no-interpreter", "#!/no/such/interpreter\n");
        set_executable(&scene, "no-interpreter");
        std::fs::create_dir(scene.path("directory")).unwrap();
        let alone = scene.fated(["run", command]).env("PATH", PATH).start();
        alone.assert_ends_with(*code);
        assert!(alone.stderr().to_lowercase().contains(word), "{}", alone.stderr());
        // In a tree it ends the others as well.
        scene.write(
            "fated.toml",
            &format!(
                "[process.bad]\ncommand = '{command}'\nafter = ['good']\n[process.good]\ncommand = 'sleep 100000'"
            ),
        );
        let tree = scene.fated(["up"]).env("PATH", PATH).start();
        tree.assert_ends_with(*code);
        assert!(tree.last_word().contains("bad"), "{}", tree.stderr());
    });
}

/// Directories that everyone may search: one that may not be searched would be the reason for a name not found.
const PATH: &str = "/usr/bin:/bin";

fn set_executable(scene: &Scene, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(scene.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn up_ends_with_the_first_causes_own_status() {
    // Keys of the process `a`, its script, the status, and the cause that is named.
    let cells: [(&str, &str, u8, &str); 7] = [
        ("", "exit 3", 3, "a exited with status 3"),
        ("", "exit 0", 0, "a exited with success"),
        ("", "kill -SEGV $$", 139, "a was killed by SIGSEGV"),
        ("", "kill -TERM $$", 143, "a was killed by SIGTERM"),
        ("success = [3]", "exit 3", 3, "a exited with status 3"),
        ("success = [3]", "exit 0", 1, "a exited with success"),
        ("on_failure = 'ignore'", "kill -KILL $b; exit 3", 137, "b was killed by SIGKILL"),
    ];
    in_parallel(for_all_users(&cells), |(user, (keys, script, code, word))| {
        let scene = Scene::new(*user);
        let _go = scene.fifo("go");
        scene.write("a.sh", &format!("read b < go; {script}"));
        scene.write(
            "fated.toml",
            &format!(
                "[process.a]\ncommand = 'sh a.sh'\n{keys}\n[process.b]\n\
                 command = ['sh', '-c', 'echo b $$ > announce; echo $$ > go; exec sleep 100000']\n"
            ),
        );
        let tree = scene.fated(["up"]).start();
        tree.assert_ends_with(*code);
        assert!(tree.last_word().contains(word), "{}", tree.stderr());
        assert!(tree.last_word().contains("1 other stopped") || word.starts_with('b'), "{}", tree.stderr());
    });
}

#[test]
fn up_ends_with_success_when_all_have_ended_and_none_mattered() {
    for user in users() {
        let scene = Scene::new(user);
        scene.write("fated.toml", "[process.a]\ncommand = 'false'\ninstances = 3\non_exit = 'ignore'");
        let tree = scene.fated(["up"]).start();
        tree.assert_ends_with(0);
        assert!(tree.last_word().contains("all of its processes have ended"), "{}", tree.stderr());
    }
}

#[test]
fn wrong_arguments_and_files_are_125_and_nothing_is_started() {
    let cells: [&[&str]; 6] = [
        &["run"],
        &["run", "-t", "soon", "true"],
        &["run", "--watch-fd", "77", "true"],
        &["run", "--watch-pid", "2147483647", "true"],
        &["up", "missing.toml"],
        &["up", "bad.toml"],
    ];
    in_parallel(for_all_users(&cells), |(user, args)| {
        let scene = Scene::new(*user);
        scene.write("bad.toml", "[process.a]\ncommand = ['sh', '-c', 'echo a $$ > announce']\ncolour = 'red'");
        let tree = scene.fated(*args).start();
        tree.assert_ends_with(125);
        assert_eq!(scene.lines(), [""; 0]);
        assert!(!tree.stderr().is_empty());
    });
}
