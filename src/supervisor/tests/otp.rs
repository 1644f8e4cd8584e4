//! Erlang/OTP's documented supervisor behaviour, case by case, against this core.
//!
//! A supervisor is a group. `permanent` is `restart` for success and failure, `transient` is `restart` for failure and
//! `ignore` for success, `temporary` is `ignore` for both. `one_for_one`, `rest_for_one` and `one_for_all` are the strategies
//! `one`, `rest` and `all`. A significant child whose end shuts its supervisor down (`auto_shutdown = any_significant`)
//! is a member with the fate `end`; `all_significant` is what every group does whose members have all ended.
//!
//! Where we differ, and why:
//! - A member has a window of its own (5 in 30 s) beside its group's, which counts only where it is written. OTP has the
//!   supervisor's alone (1 in 5 s).
//! - A restart waits for a delay. OTP restarts at once, and a fast crash passes its limit within milliseconds.
//! - What has ended with `ignore` is not started again by a sibling's restart, only with its group. OTP starts a
//!   transient child again that ended normally, and forgets a temporary one even if it ran.
//! - Siblings stop side by side unless `after` orders them: processes of an operating system take their time.
//! - A success that passes a limit makes a group fail. In OTP every supervisor that gives up exits with `shutdown`, which a
//!   transient one's supervisor takes for a normal end.
//! - A group's own end keeps the cause of the member's, so that the exit status tells it.

use super::scene::{Scene, group, process};
use crate::spec::{Consequence, NodeSpec, Strategy};
use crate::supervisor::*;
use Consequence::{End, Ignore, Restart};

#[derive(Clone, Copy)]
enum Kind {
    Permanent,
    Transient,
    Temporary,
    Significant,
}

fn child(kind: Kind) -> NodeSpec {
    match kind {
        Kind::Permanent => process(1).on_success(Restart).on_failure(Restart),
        Kind::Transient => process(1).on_success(Ignore).on_failure(Restart),
        Kind::Temporary => process(1).on_success(Ignore).on_failure(Ignore),
        Kind::Significant => process(1).on_success(End).on_failure(End),
    }
}

fn supervisor(strategy: Strategy, children: [Kind; 3]) -> Scene {
    let children = children.map(child);
    let nodes = core::iter::once(group(0).strategy(strategy)).chain(children).chain([process(0)]).collect();
    let mut scene = Scene::up(nodes);
    scene.says("start 5, start 2, start 3, start 4");
    scene
}

/// The middle one of three children ends with this code; the others obey when they are asked.
#[test]
fn strategies_and_kinds_of_children() {
    use Kind::{Permanent, Significant, Temporary, Transient};
    use Strategy::{All, One, Rest};
    for (strategy, middle, code, stopped, started) in [
        (One, Permanent, 0, "", "start 3"),
        (One, Permanent, 1, "", "start 3"),
        (One, Transient, 0, "", ""),
        (One, Transient, 1, "", "start 3"),
        (One, Temporary, 0, "", ""),
        (One, Temporary, 1, "", ""),
        (Rest, Permanent, 1, "TERM 4", "start 3, start 4"),
        (Rest, Transient, 0, "", ""),
        (Rest, Transient, 1, "TERM 4", "start 3, start 4"),
        (Rest, Temporary, 1, "", ""),
        (All, Permanent, 0, "TERM 4, TERM 2", "start 2, start 3, start 4"),
        (All, Transient, 0, "", ""),
        (All, Transient, 1, "TERM 4, TERM 2", "start 2, start 3, start 4"),
        (All, Temporary, 1, "", ""),
        (One, Significant, 0, "TERM 4, TERM 2", "TERM 5"),
        (All, Significant, 1, "TERM 4, TERM 2", "TERM 5"),
    ] {
        let mut scene = supervisor(strategy, [Permanent, middle, Permanent]);
        scene.exits(3, code).says(stopped);
        for id in [4, 2] {
            if stopped.contains(&format!("TERM {id}")) {
                scene.exits(id, 0);
            }
        }
        scene.wait(100).says(started);
    }
}

#[test]
fn more_restarts_than_the_intensity_end_the_supervisor_and_its_parent_decides() {
    for (parent, expected) in [(End, "TERM 4"), (Ignore, ""), (Restart, "start 2, start 3")] {
        let pool = group(0).on_failure(parent).shared_limit(1);
        let mut scene = Scene::up(vec![pool, child(Kind::Permanent), child(Kind::Permanent), process(0)]);
        scene.exits(2, 1).wait(100).says("start 4, start 2, start 3, start 2");
        scene.exits(3, 1).says("TERM 2").exits(2, 0).wait(100).says(expected);
    }
}

#[test]
fn termination_is_in_reverse_order_of_start() {
    let nodes = vec![group(0), process(1), process(1).after(&[2]), process(1).after(&[3])];
    let mut scene = Scene::up(nodes);
    scene.says("start 2, start 3, start 4").signal(Signal::TERM).says("TERM 4").exits(4, 0).says("TERM 3");
    scene.exits(3, 0).says("TERM 2").exits(2, 0).says("end 0");
}

#[test]
fn a_supervisor_whose_significant_children_have_all_ended_has_ended() {
    let nodes = vec![group(0), child(Kind::Transient), child(Kind::Transient), process(0)];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 0).says("start 4, start 2, start 3").exits(3, 0).says("TERM 4").exits(4, 0).says("end 0");
}

#[test]
fn a_child_that_is_terminated_with_others_is_not_counted() {
    let nodes = vec![group(0).strategy(Strategy::All).shared_limit(1), child(Kind::Permanent), child(Kind::Permanent)];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 1).exits(3, 1).wait(100).says("start 2, start 3, TERM 3, start 2, start 3");
    assert!(scene.gave_up.is_empty());
}
