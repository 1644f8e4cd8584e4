//! Each rule of fate once, in the smallest tree that shows it. Commands are compared as short text: `start 1`,
//! `TERM 2`, `TERM 2 leftovers`, `kill 2`, `end 0`; what is only told or follows of itself (records, wakes) is left out.

mod otp;
mod readiness;
mod restart;
mod scene;

use super::*;
use crate::exit::ExitStatus;
use crate::name::Name;
use crate::spec::{Consequence, Door, GROUP_DEPTH_MAX, Leftovers, QueueSpec, RunDoor, Transport};
use crate::start::{Errno, Stage, StartError};
use Consequence::Ignore;
use node::KILL_PATIENCE;
use scene::{Scene, group, ms, process, tree};

#[test]
fn the_first_end_takes_the_siblings_along_in_reverse_order() {
    let mut scene = Scene::up(vec![process(0), process(0).after(&[1]), process(0).after(&[2]), process(0)]);
    scene.says("start 1, start 4, start 2, start 3");
    scene.exits(4, 3).says("TERM 3").exits(3, 0).says("TERM 2").wait(9_999).says("");
    scene.wait(1).says("kill 2").dies(2, Signal::KILL).says("TERM 1").exits(1, 0).says("end 3");
    let summary = scene.summary.as_ref().unwrap();
    assert_eq!((summary.stopped, summary.killed, scene.cause().node), (3, 1, NodeId(4)));
}

#[test]
fn a_consumer_that_ignores_success_and_its_queue() {
    let mut spec = tree(Door::Up, vec![process(0).uses(true, false).on_success(Ignore)]);
    spec.nodes.push(process(0).uses(false, true).on_success(Ignore));
    spec.queues.push(QueueSpec { name: Name::lossy("q"), transport: Transport::Pipe, capacity: 1, message_max: 1 });
    let mut scene = Scene::new(spec);
    scene.says("start 1, start 2").exits(1, 0).says("close 0 Put");
    scene.exits(2, 0).says("close 0 Get, end 0");
    assert_eq!(scene.cause().how, How::AllEnded);
}

#[test]
fn a_failure_stops_a_consumer_before_its_queue_ends() {
    // The end of a queue reads like a success: a writer of lists would think its list complete.
    let mut spec = tree(Door::Up, vec![group(0), process(1).uses(true, false), process(0).uses(false, true)]);
    spec.queues.push(QueueSpec { name: Name::lossy("q"), transport: Transport::Pipe, capacity: 1, message_max: 1 });
    let mut scene = Scene::new(spec);
    scene.says("start 3, start 2").exits(2, 1).says("TERM 3, close 0 Put");
    scene.exits(3, 0).says("close 0 Get, end 1");
}

#[test]
fn ends_are_carried_up_as_far_as_policies_say() {
    for (inner, outer, expected) in [
        (Consequence::End, Consequence::End, "TERM 3, TERM 5"),
        (Consequence::End, Ignore, "TERM 3"),
        (Ignore, Consequence::End, ""),
    ] {
        // 1 holds 2, which holds 3 and 4; 5 is in the root.
        let nodes = vec![group(0).on_failure(outer), group(1), process(2), process(2).on_failure(inner), process(0)];
        let mut scene = Scene::up(nodes);
        scene.says("start 5, start 3, start 4").exits(4, 1);
        if expected.ends_with('5') {
            scene.says("TERM 3").exits(3, 0).says("TERM 5").exits(5, 0).says("end 1");
        } else {
            scene.says(expected);
            assert!(!scene.core.is_over());
        }
    }
}

#[test]
fn the_deepest_nesting_ends_from_the_inside() {
    let depth = GROUP_DEPTH_MAX as u32;
    let nodes = (0..depth).map(group).chain([process(depth), process(0)]).collect();
    let mut scene = Scene::up(nodes);
    scene.says(&format!("start {}, start {}", depth + 2, depth + 1));
    scene.dies(depth + 1, Signal::SEGV).says(&format!("TERM {}", depth + 2));
    scene.exits(depth + 2, 0).says("end 139");
}

#[test]
fn a_group_whose_nodes_have_all_ended_has_ended_with_success() {
    let members = vec![process(1).on_failure(Ignore), process(1).on_success(Ignore), process(0)];
    let nodes = core::iter::once(group(0)).chain(members).collect();
    let mut scene = Scene::up(nodes);
    scene.says("start 4, start 2, start 3").exits(2, 1).exits(3, 0).says("TERM 4").exits(4, 0).says("end 0");
    assert_eq!((scene.cause().node, &scene.cause().how), (NodeId(1), &How::AllEnded));
}

#[test]
fn nothing_starts_when_its_group_falls_in_the_same_step() {
    let spec = tree(Door::Up, vec![group(0), group(1), process(2), process(0).after(&[3])]);
    let inc = Incarnation { node: NodeId(3), serial: 1 };
    let mut scene = Scene::not_yet_running(spec);
    scene.says("start 3").event(Event::Exited { inc, status: ExitStatus::Code(2), leftovers: false }).says("end 2");
}

#[test]
fn a_lifetime_ends_a_process_a_group_and_a_tree_with_124() {
    let mut scene = Scene::up(vec![process(0).lifetime(1_000), process(0)]);
    scene.says("start 1, start 2").wait(999).says("").wait(1).says("TERM 1");
    scene.exits(1, 0).says("TERM 2").exits(2, 0).says("end 124");

    let mut scene = Scene::up(vec![group(0).lifetime(1_000), process(1), process(0)]);
    scene.says("start 3, start 2").wait(1_000).says("TERM 2").exits(2, 0).says("TERM 3").exits(3, 0).says("end 124");

    let mut spec = tree(Door::Up, vec![process(0).on_failure(Ignore)]);
    spec.nodes[0].lifetime = Some(ms(1_000));
    Scene::new(spec).says("start 1").wait(1_000).says("TERM 1").exits(1, 7).says("end 124");

    let mut scene = Scene::up(vec![process(0).lifetime(1_000).on_failure(Ignore), process(0)]);
    scene.wait(1_000).exits(1, 0).says("start 1, start 2, TERM 1");
}

#[test]
fn run_ends_as_its_command_or_with_124() {
    for (preserve_status, expected) in [(false, "end 124"), (true, "end SIGTERM")] {
        let door = Door::Run(RunDoor { preserve_status, ..RunDoor::default() });
        let mut scene = Scene::new(tree(door, vec![process(0).lifetime(1_000)]));
        scene.says("start 1").wait(1_000).says("TERM 1").dies(1, Signal::TERM).says(expected);
    }
    for (code, expected) in [(0, "end 0"), (3, "end 0"), (4, "end 4")] {
        let mut scene = Scene::run(process(0).with(|process| process.success = vec![0, 3]));
        scene.exits(1, code).says(&format!("start 1, {expected}"));
    }
    Scene::run(process(0).with(|process| process.success = vec![3])).exits(1, 0).says("start 1, end 1");
    Scene::run(process(0)).dies(1, Signal::SEGV).says("start 1, end SIGSEGV");
    Scene::up(vec![process(0)]).dies(1, Signal::SEGV).says("start 1, end 139");
}

#[test]
fn a_failed_start_says_which_status() {
    for (stage, errno, expected) in [
        (Stage::Exec, Errno::NOENT, "end 127"),
        (Stage::Exec, Errno(13), "end 126"),
        (Stage::Cwd, Errno::NOENT, "end 126"),
        (Stage::Clone, Errno::AGAIN, "end 125"),
    ] {
        for mut scene in [Scene::run(process(0)), Scene::up(vec![process(0)])] {
            let error = StartError { stage, errno, object: String::new() };
            let inc = scene.inc(1);
            scene.event(Event::StartFailed { inc, error }).says(&format!("start 1, {expected}"));
        }
    }
}

#[test]
fn leftovers_are_stopped_waited_for_or_left() {
    let with = |policy| Scene::up(vec![process(0).leftovers(policy), process(0)]);

    let mut stop = with(Leftovers::Stop);
    stop.says("start 1, start 2").leaves(1, 0).says("TERM 1 leftovers, TERM 2").exits(2, 0).says("");
    stop.wait(10_000).says("kill 1").empties(1).says("end 0");
    assert_eq!(stop.summary.unwrap().killed, 1);

    let mut wait = with(Leftovers::Wait);
    wait.says("start 1, start 2").leaves(1, 0).wait(60_000).says("").empties(1).says("TERM 2");

    let mut wait = with(Leftovers::Wait);
    wait.leaves(1, 0).says("start 1, start 2").exits(2, 5).says("TERM 1 leftovers").empties(1).says("end 0");
    assert_eq!(wait.cause().node, NodeId(1), "its end was on its way");

    let mut left = with(Leftovers::Ignore);
    left.says("start 1, start 2").leaves(1, 0).says("release 1, TERM 2").empties(1).exits(2, 0).says("end 0");
    let mut left = with(Leftovers::Ignore);
    left.signal(Signal::TERM).wait(10_000).says("start 1, start 2, TERM 2, TERM 1, kill only 1, kill 2");
}

#[test]
fn leftovers_share_the_stop_timeout_of_their_process() {
    let mut scene = Scene::up(vec![process(0)]);
    scene.signal(Signal::TERM).wait(4_000).leaves(1, 0).says("start 1, TERM 1, TERM 1 leftovers");
    scene.wait(5_999).says("").wait(1).says("kill 1").empties(1).says("end 0");
}

#[test]
fn a_stop_timeout_of_zero_kills_and_one_of_infinity_waits() {
    let mut scene = Scene::up(vec![process(0).timeout(Limit::AT_ONCE), process(0).timeout(Limit::Never)]);
    scene.signal(Signal::TERM).says("start 1, start 2, TERM 2, kill 1").wait(5_000).says("");
    scene.dies(1, Signal::KILL).wait(3_600_000).says("").exits(2, 0).says("end 0");
    assert_eq!(scene.summary.unwrap().killed, 0, "killed as planned, not overdue");
}

#[test]
fn a_budget_kills_what_is_left_and_what_was_never_asked() {
    let budget = Limit::After(ms(2_000));
    let nodes = vec![group(0).budget(budget), process(1), process(1).after(&[2]), process(0)];
    let mut scene = Scene::up(nodes);
    scene.says("start 4, start 2, start 3").exits(4, 1).says("TERM 3").wait(2_000).says("kill 2, kill 3");
    scene.dies(2, Signal::KILL).dies(3, Signal::KILL).says("end 1");
}

#[test]
fn three_interrupts_stop_hasten_and_kill() {
    let nodes = vec![process(0), process(0).timeout(Limit::Never).after(&[1])];
    let mut scene = Scene::up(nodes.clone());
    scene.says("start 1, start 2").signal(Signal::INT).says("TERM 2").wait(60_000).says("");
    scene.signal(Signal::INT).wait(999).says("").wait(1).says("kill 2").dies(2, Signal::KILL).says("TERM 1");
    scene.wait(1_000).says("kill 1").dies(1, Signal::KILL).says("end 130");

    let mut scene = Scene::up(nodes);
    scene.signal(Signal::INT).signal(Signal::INT).signal(Signal::INT).says("start 1, start 2, TERM 2, kill 1, kill 2");
}

#[test]
fn signals_at_the_doors() {
    for (signal, expected) in [
        (Signal::TERM, "TERM 1"),
        (Signal::INT, "INT 1"),
        (Signal::HUP, "HUP 1"),
        (Signal::USR1, "USR1 1"),
        (Signal::TSTP, "STOP 1 all, suspend"),
        (Signal::CONT, "CONT 1 all"),
    ] {
        Scene::run(process(0)).signal(signal).says(&format!("start 1, {expected}"));
    }
    let door = Door::Run(RunDoor { signal_group: true, ..RunDoor::default() });
    let mut scene = Scene::new(tree(door, vec![process(0)]));
    scene.signal(Signal::INT).signal(Signal::TERM).says("start 1, INT 1 group, TERM 1 group");
    for (signal, expected) in [(Signal::TERM, "end 0"), (Signal::HUP, "end 129"), (Signal::QUIT, "end 131")] {
        Scene::up(vec![process(0)]).signal(signal).exits(1, 0).says(&format!("start 1, TERM 1, {expected}"));
    }
    Scene::up(vec![process(0)]).signal(Signal::USR1).signal(Signal::WINCH).says("start 1");
}

#[test]
fn a_mapped_signal_is_what_it_became() {
    let map = vec![(Signal::TERM, Some(Signal::QUIT)), (Signal::INT, None), (Signal::HUP, Some(Signal::USR1))];
    let mut spec = tree(Door::Run(RunDoor::default()), vec![process(0)]);
    spec.signal_map = map;
    let mut scene = Scene::new(spec);
    scene.says("start 1").signal(Signal::INT).says("").signal(Signal::HUP).says("USR1 1");
    scene.signal(Signal::TERM).says("QUIT 1").wait(10_000).says("kill 1").dies(1, Signal::KILL).says("end SIGKILL");
}

#[test]
fn the_end_of_the_launcher_stops_the_tree() {
    for (mut scene, expected) in [(Scene::up(vec![process(0)]), "end 0"), (Scene::run(process(0)), "end SIGTERM")] {
        scene.event(Event::TieBroken(Tie::Launcher { pid: 9 })).says("start 1, TERM 1");
        scene.dies(1, Signal::TERM).says(expected);
        assert_eq!(scene.cause().how, How::TieBroken(Tie::Launcher { pid: 9 }));
    }
}

#[test]
fn other_lives_late_reports_and_early_timeouts_change_nothing() {
    let mut scene = Scene::up(vec![process(0).on_failure(Ignore), process(0)]);
    let old = Incarnation { serial: 77, ..scene.inc(2) };
    let (status, leftovers) = (ExitStatus::SUCCESS, false);
    scene.event(Event::Exited { inc: old, status, leftovers }).event(Event::Emptied { inc: old });
    scene.event(Event::Strays { any: false }).exits(1, 1).exits(1, 0);
    let gone = scene.inc(1);
    scene.event(Event::Started { inc: gone }).event(Event::Emptied { inc: gone });
    let nobody = Incarnation { node: NodeId(99), serial: 1 };
    scene.event(Event::Exited { inc: nobody, status, leftovers });
    scene.core.handle_timeout(scene.now);
    scene.says("start 1, start 2").exits(2, 0).says("end 0");
    scene.signal(Signal::INT).signal(Signal::TSTP).exits(2, 1).wait(1_000).says("");
    assert_eq!(scene.core.poll_command(), None, "nothing follows the end");
}

#[test]
fn strays_are_stopped_waited_for_or_left() {
    let with = |strays| {
        let mut scene = Scene::new(TreeSpec { strays, ..tree(Door::Run(RunDoor::default()), vec![process(0)]) });
        scene.says("start 1");
        scene
    };
    let strays = |any| Event::Strays { any };
    with(Leftovers::Ignore).exits(1, 0).says("end 0");
    with(Leftovers::Stop).exits(1, 0).event(strays(false)).says("strays?, end 0");

    let mut stop = with(Leftovers::Stop);
    stop.exits(1, 0).event(strays(true)).says("strays?, TERM strays").wait(10_000).says("kill strays");
    stop.event(strays(false)).says("end 0");

    let mut stop = with(Leftovers::Stop);
    stop.exits(1, 0).event(strays(true)).wait(20_000).says("strays?, TERM strays, kill strays, end 123");

    let mut wait = with(Leftovers::Wait);
    wait.exits(1, 0).event(strays(true)).wait(60_000).says("strays?").event(strays(false)).says("end 0");
}

#[test]
fn strays_that_are_waited_for_are_stopped_when_the_tree_is_to_end() {
    let with = |lifetime: Option<Duration>| {
        let mut spec = tree(Door::Run(RunDoor::default()), vec![process(0)]);
        (spec.strays, spec.nodes[0].lifetime) = (Leftovers::Wait, lifetime);
        Scene::new(spec)
    };
    let strays = |any| Event::Strays { any };
    let expected = "start 1, TERM 1, strays?, TERM strays";
    with(None).signal(Signal::TERM).exits(1, 0).event(strays(true)).says(expected);
    with(Some(ms(500))).wait(500).exits(1, 0).event(strays(true)).says(expected);
    let expected = "start 1, strays?, TERM strays";
    with(None).exits(1, 0).signal(Signal::TERM).event(strays(true)).says(expected);
    with(None).exits(1, 0).event(strays(true)).signal(Signal::TERM).says(expected);
    with(Some(ms(500))).exits(1, 0).event(strays(true)).wait(500).says(expected);
}

#[test]
fn what_cannot_be_killed_is_given_up_with_123() {
    let mut scene = Scene::up(vec![process(0), process(0).after(&[1]), process(0)]);
    scene.exits(3, 4).wait(10_000).says("start 1, start 3, start 2, TERM 2, kill 2");
    scene.wait(KILL_PATIENCE.as_millis() as u64).says("TERM 1").exits(1, 0).says("end 123");
    let summary = scene.summary.as_ref().unwrap();
    assert_eq!((&summary.unkillable[..], scene.cause().node), (&[NodeId(2)][..], NodeId(3)));
}

#[test]
fn the_first_cause_is_the_first_even_if_its_fall_takes_longer() {
    // 3, in group 1, fails first; 2 keeps the group from ending; meanwhile 4 fails in the root.
    let mut scene = Scene::up(vec![group(0), process(1), process(1), process(0)]);
    scene.says("start 4, start 2, start 3").exits(3, 9).says("TERM 2").exits(4, 5).says("").exits(2, 0).says("end 9");
    assert_eq!(scene.cause().node, NodeId(3));

    let mut scene = Scene::up(vec![group(0).on_failure(Ignore), process(1), process(1), process(0)]);
    scene.exits(3, 9).exits(4, 5).exits(2, 0).says("start 4, start 2, start 3, TERM 2, end 5");
}

#[test]
fn an_exit_beats_a_deadline_of_the_same_instant() {
    let mut scene = Scene::up(vec![process(0).lifetime(1_000)]);
    scene.now = scene.now + ms(1_000);
    scene.exits(1, 3).wait(0).says("start 1, end 3");

    let mut scene = Scene::up(vec![process(0)]);
    scene.signal(Signal::TERM);
    scene.now = scene.now + ms(10_000);
    scene.exits(1, 0).wait(0).says("start 1, TERM 1, end 0");
}

#[test]
fn a_process_is_stopped_only_after_what_is_after_its_group() {
    // 3 is after group 1; all fall together, and the outer fall of the same step counts.
    let nodes = vec![group(0), process(1), process(0).after(&[1]), group(0), process(4).after(&[2])];
    let mut scene = Scene::up(nodes);
    scene.says("start 2, start 5, start 3").signal(Signal::TERM).says("TERM 5, TERM 3");
    scene.exits(5, 0).says("").exits(3, 0).says("TERM 2").exits(2, 0).says("end 0");
}

#[test]
fn what_is_not_to_start_has_ended() {
    let idle = || process(0).with(|process| process.autostart = false);
    let mut scene = Scene::up(vec![idle(), process(0).after(&[1])]);
    scene.says("start 2").exits(2, 0).says("end 0");
}
