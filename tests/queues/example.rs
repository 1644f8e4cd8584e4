//! The checksums example, struck in the middle. What it does undisturbed is tested in `tests/examples.rs`.

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::sys::procfs;

use crate::common::{Scene, Watched, in_parallel, users};

#[test]
fn a_hasher_killed_in_the_middle_ends_the_example_and_is_named() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        for name in ["fated.toml", "collector.sh", "hasher.sh", "writer.sh"] {
            let source = format!("{}/examples/checksums/{name}", env!("CARGO_MANIFEST_DIR"));
            scene.write(name, &std::fs::read_to_string(source).unwrap());
        }
        // Hashing lasts until the test has seen it.
        let slow = scene
            .write("slow", "#!/bin/sh\necho \"hashing $$\" >\"$TEST_SCENE/announce\"\nexec cat \"$TEST_SCENE/go\"\n");
        let bin = scene.path("bin");
        std::fs::create_dir(&bin).unwrap();
        // By another process: a program that this one had open for writing could not be executed.
        let made =
            std::process::Command::new("install").args(["-m", "755"]).arg(slow).arg(bin.join("sha256sum")).status();
        assert!(made.unwrap().success());
        let _go = scene.fifo("go");
        let fated = scene.program().parent().unwrap().display();
        let path = format!("{}:{fated}:/usr/local/bin:/usr/bin:/bin", bin.display());
        let tree =
            scene.fated(["up"]).env("PATH", path).env("CHECKSUMS_DIR", &scene.dir).env("CHECKSUMS_OUT", "sums").start();
        tree.expect(&["hashing"]);
        let mut children = Vec::new();
        procfs::children_of(tree.supervisor().pid, &mut children).unwrap();
        let is_hasher = |pid: &u32| procfs::environ_value(*pid, "FATED_PROCESS").as_deref() == Some(b"pool/hasher");
        let hasher = Watched::open("hasher", children.into_iter().find(is_hasher).unwrap());
        hasher.signal(Signal::KILL);
        assert_eq!(tree.wait(), ExitStatus::Code(137));
        let told = tree.last_word();
        assert!(told.contains("pool/hasher.") && told.contains("was killed by SIGKILL"), "{told}");
        assert!(!scene.path("sums").exists(), "a list that is not complete");
        tree.assert_nothing_left();
    });
}
