//! From the words of the command line to the plan, with real files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use fated::cli::args::{Cli, Command};
use fated::cli::plan::{Entry, Options, of_run, of_up};
use fated::config::diagnostic::Diagnostics;
use fated::config::resolve::Resolved;
use fated::spec::{Door, Leftovers, Session};
use fated::time::{Duration, Limit};

fn command(args: &[&str]) -> Command {
    use clap::Parser;
    Cli::try_parse_from(["fated"].iter().chain(args)).unwrap().command
}

fn up(directory: &Path, args: &[&str]) -> Result<(Resolved, Options), Diagnostics> {
    let Command::Up(args) = command(args) else { panic!("not up") };
    let env = vec![(OsString::from("PORT"), OsString::from("6000"))];
    of_up(&args, Entry { env, directory: directory.to_path_buf() })
}

/// A directory `sub` with a tree file, a Procfile and their variables, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plan-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("sub")).unwrap();
        let tree = "die_with_parent = true\n[process.w]\ncommand = '${W}'\nenv_file = 'vars'\n";
        let files = [("Procfile", "web: serve\n"), ("tree.toml", tree), ("vars", "W=work\n")];
        files.iter().for_each(|(name, text)| fs::write(path.join("sub").join(name), text).unwrap());
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_tree_file_elsewhere_starts_where_it_stands() {
    let folder = Folder::new("tree");
    let (resolved, options) = up(&folder.0, &["up", "-k3", "--no-guard", "-qq", "sub/tree.toml"]).unwrap();
    let (_, w) = resolved.spec.processes().next().unwrap();
    assert_eq!((resolved.spec.name.as_str(), &w.command[..]), ("tree", &[OsString::from("work")][..]));
    assert_eq!((w.cwd.as_ref(), &w.ignored_signals[..]), (Some(&folder.0.join("sub")), &[][..]));
    assert_eq!(w.stop.timeout, Limit::After(Duration::from_secs(3)));
    assert_eq!((options.die_with_parent, options.guard, options.verbosity), (Some(true), false, -2));
    let (_, options) = up(&folder.0, &["up", "--die-with-parent=no", "sub/tree.toml"]).unwrap();
    assert_eq!(options.die_with_parent, Some(false));
}

#[test]
fn a_procfile_takes_its_name_from_its_directory_and_its_port_from_the_environment() {
    let folder = Folder::new("procfile");
    let port = |resolved: &Resolved| {
        let (_, web) = resolved.spec.processes().next().unwrap();
        let port = web.own_env.iter().find(|(name, _)| name == "PORT").unwrap();
        port.1.clone().into_string().unwrap()
    };
    let (resolved, options) = up(&folder.0.join("sub"), &["up"]).unwrap();
    assert_eq!((resolved.spec.name.as_str(), port(&resolved), options.die_with_parent), ("sub", "6000".into(), None));
    fs::write(folder.0.join("sub/.env"), "PORT=7000\n").unwrap();
    assert_eq!(port(&up(&folder.0, &["up", "sub/Procfile"]).unwrap().0), "7000");
    fs::write(folder.0.join("sub/.env"), "PORT=many\n").unwrap();
    let error = up(&folder.0, &["up", "sub/Procfile"]).unwrap_err().to_string();
    assert_eq!(error, "sub/Procfile:1:1: PORT in the environment or in .env is no port number");
}

#[test]
fn run_makes_a_tree_of_one() {
    let Command::Run(args) = command(&["run", "-g", "--preserve-status", "--leftovers=wait", "-k0", "/bin/ls", "-l"])
    else {
        panic!("not run")
    };
    let (spec, options) = of_run(args, Session::Own, Vec::new(), Vec::new());
    let (_, ls) = spec.processes().next().unwrap();
    assert_eq!((spec.name.as_str(), spec.strays, ls.stop.timeout), ("ls", Leftovers::Wait, Limit::AT_ONCE));
    assert_eq!(ls.command, ["/bin/ls", "-l"].map(OsString::from));
    let Door::Run(door) = &spec.door else { panic!("not run") };
    assert!(door.signal_group && door.preserve_status && options.guard);
}
