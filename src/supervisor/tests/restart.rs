//! Restarts, their limits and delays, and whom they take along.

use super::scene::{Scene, group, ms, process, tree};
use crate::name::Name;
use crate::spec::{Consequence, Door, Intensity, Leftovers, QueueSpec, QueueUse, Strategy, Transport};
use crate::supervisor::*;
use Consequence::{Ignore, Restart};

/// Longer than the first delay, shorter than the second.
const FIRST: u64 = 100;

fn queue() -> QueueSpec {
    QueueSpec { name: Name::lossy("q"), transport: Transport::Pipe, capacity: 1, message_max: 1 }
}

#[test]
fn a_crash_loop_stops_exactly_at_its_limit() {
    let mut scene = Scene::up(vec![process(0).restarts().limit(10), process(0)]);
    scene.says("start 1, start 2");
    for restart in 0..10 {
        let delay = 100 << restart;
        scene.exits(1, 7).says("").wait(delay * 9 / 10 - 1).says("").wait(delay / 10 + 1).says("start 1");
        if restart == 3 {
            // The window is 30 s: without this the tenth restart would be too late to count.
            scene.core.spec.nodes[1].restart.intensity.window = ms(3_600_000);
            scene.core.spec.nodes[1].restart.delay_max = ms(1_000_000);
        }
    }
    scene.exits(1, 7).says("TERM 2").exits(2, 0).says("end 7");
    assert_eq!(scene.gave_up, [(1, 1)]);
    let gave_up = scene.cause().gave_up.unwrap();
    assert_eq!((gave_up.node, gave_up.of, gave_up.limit.limit), (NodeId(1), NodeId(1), 10));
}

#[test]
fn delays_double_up_to_the_longest_and_begin_anew_after_a_healthy_run() {
    let mut scene = Scene::up(vec![process(0).restarts().limit(100)]);
    scene.core.spec.nodes[1].restart.delay_max = ms(350);
    for lasted in [0, 0, 0, 0, 9_000, 10_000, 0] {
        scene.wait(lasted).exits(1, 1).wait(400);
    }
    let nominal = [100, 200, 350, 350, 350, 100, 200];
    assert_eq!(scene.delays.len(), nominal.len());
    for (delay, nominal) in scene.delays.iter().zip(nominal) {
        assert!(*delay <= ms(nominal) && *delay >= ms(nominal) * 9 / 10, "{delay:?} for {nominal}");
    }
}

#[test]
fn equal_seeds_give_equal_delays_and_others_do_not() {
    let delays = |seed| {
        let spec = tree(Door::Up, vec![process(0).restarts(), process(0).restarts()]);
        let mut scene = Scene::seeded(spec, seed);
        scene.exits(1, 1).exits(2, 1);
        scene.delays.clone()
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
    assert_ne!(delays(1)[0], delays(1)[1], "what fails together does not come back together");
}

#[test]
fn restarts_older_than_the_window_do_not_count() {
    let mut node = process(0).restarts();
    node.restart.intensity = Intensity { limit: 2, window: ms(1_000) };
    (node.restart.delay, node.restart.delay_max) = (ms(0), ms(0));
    let mut scene = Scene::up(vec![node]);
    scene.exits(1, 1).wait(600).exits(1, 1).wait(401).exits(1, 1).wait(0);
    scene.says("start 1, start 1, start 1, start 1").wait(599).exits(1, 1).says("end 1");
    let mut node = process(0).restarts();
    node.restart.intensity = Intensity { limit: 1, window: ms(1_000) };
    (node.restart.delay, node.restart.delay_max) = (ms(0), ms(0));
    let mut scene = Scene::up(vec![node]);
    scene.exits(1, 1).wait(1_000).exits(1, 1).says("start 1, start 1, end 1");
}

#[test]
fn a_limit_of_none_is_an_end() {
    Scene::up(vec![process(0).restarts().limit(0)]).exits(1, 3).says("start 1, end 3");
}

#[test]
fn a_limit_passed_by_successes_ends_with_1() {
    let mut scene = Scene::up(vec![process(0).on_success(Restart).limit(1), process(0)]);
    scene.exits(1, 0).wait(FIRST).exits(1, 0).exits(2, 0).says("start 1, start 2, start 1, TERM 2, end 1");
    // The same one level up: the member's success ends the group, which restarts once.
    let mut scene = Scene::up(vec![group(0).on_success(Restart).limit(1), process(1)]);
    scene.exits(2, 0).wait(FIRST).exits(2, 0).says("start 2, start 2, end 1");
    // All of the group has ended, twice.
    let mut scene = Scene::up(vec![group(0).on_success(Restart).limit(1), process(1).on_success(Ignore)]);
    scene.exits(2, 0).wait(FIRST).exits(2, 0).says("start 2, start 2, end 1");
}

#[test]
fn a_stop_ends_what_backs_off_at_once_and_counts_nowhere() {
    let mut scene = Scene::up(vec![process(0).restarts(), group(0).restarts(), process(2)]);
    scene.exits(1, 1).exits(3, 1).says("start 1, start 3").signal(Signal::TERM).says("end 0");
    let mut scene = Scene::up(vec![process(0).restarts().limit(0)]);
    scene.signal(Signal::TERM).exits(1, 1).says("start 1, TERM 1, end 0");
    assert!(scene.gave_up.is_empty() && scene.delays.is_empty());
}

#[test]
fn one_restart_takes_nobody_along() {
    let mut scene = Scene::up(vec![process(0), process(0).restarts(), process(0).after(&[2])]);
    scene.says("start 1, start 2, start 3").exits(2, 1).wait(FIRST).says("start 2");
}

#[test]
fn all_are_stopped_in_reverse_and_started_in_order() {
    let root = group(0).strategy(Strategy::All);
    let nodes = vec![root, process(1), process(1).restarts().after(&[2]), process(1).after(&[2, 3])];
    let mut scene = Scene::up(nodes);
    scene.says("start 2, start 3, start 4").exits(3, 1).says("TERM 4").exits(4, 1).says("TERM 2");
    scene.wait(FIRST).says("").exits(2, 0).says("start 2, start 3, start 4");
    assert_eq!((scene.delays.len(), scene.gave_up.len()), (1, 0), "the others are taken along, not restarted");
}

#[test]
fn rest_takes_along_those_that_started_after_it() {
    // In the order of start: 3, 2 (after 3), 4.
    let nodes =
        vec![group(0).strategy(Strategy::Rest), process(1).after(&[3]).restarts(), process(1).restarts(), process(1)];
    let mut scene = Scene::up(nodes);
    scene.says("start 3, start 4, start 2").exits(2, 1).says("TERM 4").exits(4, 0).wait(FIRST).says("start 2, start 4");
    scene.exits(3, 1).says("TERM 4, TERM 2").wait(500).says("");
    scene.exits(2, 0).exits(4, 0).says("start 3, start 4, start 2");
}

#[test]
fn a_round_waits_for_its_delay_and_for_the_last_leftover() {
    let nodes = vec![group(0).strategy(Strategy::All), process(1).restarts(), process(1)];
    let mut scene = Scene::up(nodes.clone());
    scene.exits(2, 1).exits(3, 0).says("start 2, start 3, TERM 3").wait(89).says("").wait(11).says("start 2, start 3");
    scene.leaves(2, 1).says("TERM 2 leftovers, TERM 3").exits(3, 0).wait(5_000).says("");
    scene.empties(2).says("start 2, start 3");
}

#[test]
fn what_has_ended_for_good_stays_so_in_a_round_and_not_in_a_restart_of_its_group() {
    let nodes = vec![
        group(0).strategy(Strategy::All).restarts(),
        process(1).on_success(Ignore),
        process(1).restarts().limit(1),
    ];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 0).exits(3, 1).wait(FIRST).says("start 2, start 3, start 3");
    scene.exits(3, 1).says("").wait(FIRST).says("start 2, start 3");
    assert_eq!(scene.gave_up, [(3, 3)]);
    scene.exits(3, 1).says("TERM 2").exits(2, 0).wait(FIRST).says("start 2, start 3");
    assert_eq!(scene.gave_up, [(3, 3)], "a new life of the group counts anew");
}

#[test]
fn a_second_failure_extends_a_round_of_rest() {
    let nodes = vec![group(0).strategy(Strategy::Rest), process(1).restarts(), process(1).restarts(), process(1)];
    let mut scene = Scene::up(nodes);
    scene.exits(3, 1).says("start 2, start 3, start 4, TERM 4").exits(2, 1).says("");
    assert_eq!(scene.delays.len(), 2);
    scene.wait(FIRST).says("").exits(4, 0).says("start 2, start 3, start 4");
}

#[test]
fn own_ends_in_a_round_mean_what_they_mean() {
    let all = || {
        vec![group(0).strategy(Strategy::All), process(1), process(1).restarts().after(&[2]), process(1).after(&[2, 3])]
    };
    // 2 waits to be stopped until 4 has gone, and ends by itself.
    let mut scene = Scene::up(all());
    scene.exits(3, 1).says("start 2, start 3, start 4, TERM 4").exits(2, 5).exits(4, 0).says("end 5");
    let mut nodes = all();
    nodes[1] = process(1).restarts().limit(0);
    let mut scene = Scene::up(nodes);
    scene
        .exits(3, 1)
        .exits(2, 5)
        .exits(4, 0)
        .wait(FIRST)
        .says("start 2, start 3, start 4, TERM 4, start 2, start 3, start 4");
    assert!(scene.gave_up.is_empty(), "it is not counted a second time");
}

#[test]
fn a_round_goes_on_when_what_is_after_its_group_has_gone() {
    let nodes = vec![
        group(0).strategy(Strategy::All),
        process(1).restarts(),
        process(1),
        process(0).after(&[1]).lifetime(1_000).on_failure(Ignore),
    ];
    let mut scene = Scene::up(nodes);
    scene.says("start 2, start 3, start 4").wait(1_000).says("TERM 4").exits(2, 1).says("");
    scene.exits(4, 0).says("TERM 3").exits(3, 0).wait(FIRST).says("start 2, start 3");
}

#[test]
fn groups_escalate_until_one_can_restart() {
    // 1 restarts once; in it 2 restarts once; in it 3 does not.
    let nodes = vec![group(0).restarts().limit(1), group(1).restarts().limit(1), process(2), process(1), process(0)];
    let mut scene = Scene::up(nodes);
    scene.says("start 5, start 4, start 3").exits(3, 1).says("").wait(FIRST).says("start 3");
    scene.exits(3, 1).says("TERM 4").exits(4, 0).wait(FIRST).says("start 4, start 3");
    scene
        .exits(3, 1)
        .wait(FIRST)
        .says("start 3")
        .exits(3, 9)
        .exits(4, 0)
        .says("TERM 4, TERM 5")
        .exits(5, 0)
        .says("end 9");
    assert_eq!(scene.gave_up, [(2, 2), (2, 2), (1, 1)]);
    assert_eq!(scene.cause().gave_up.unwrap().of, NodeId(1));
    assert_eq!(scene.cause().node, NodeId(3));
}

#[test]
fn a_group_counts_the_restarts_of_its_members_together() {
    let nodes = vec![group(0).shared_limit(2), process(1).restarts(), process(1).restarts()];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 1).exits(3, 1).wait(FIRST).exits(2, 4).says("start 2, start 3, start 3, start 2, TERM 3");
    scene.exits(3, 0).says("end 4");
    assert_eq!(scene.gave_up, [(1, 2)]);
}

#[test]
fn leftovers_are_stopped_before_the_next_life() {
    let mut scene = Scene::up(vec![process(0).restarts(), process(0).after(&[1])]);
    scene
        .leaves(1, 1)
        .says("start 1, start 2, TERM 1 leftovers")
        .wait(5_000)
        .says("")
        .empties(1)
        .wait(0)
        .says("start 1");
    let mut scene = Scene::up(vec![process(0).restarts().leftovers(Leftovers::Wait)]);
    scene.leaves(1, 1).wait(5_000).says("start 1").empties(1).wait(FIRST).says("start 1");
}

#[test]
fn what_cannot_be_killed_is_not_started_again() {
    let mut scene = Scene::up(vec![process(0).restarts().lifetime(1_000), process(0)]);
    scene.wait(21_000).says("start 1, start 2, TERM 1, kill 1, TERM 2").exits(2, 0).says("end 123");
    let nodes = vec![group(0).restarts(), process(1), process(1).timeout(Limit::AT_ONCE)];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 1).wait(10_000).says("start 2, start 3, kill 3, end 123");
    let nodes = vec![group(0).strategy(Strategy::All), process(1).restarts(), process(1).timeout(Limit::AT_ONCE)];
    let mut scene = Scene::up(nodes);
    scene.exits(2, 1).wait(10_000).says("start 2, start 3, kill 3, end 123");
}

#[test]
fn queues_stay_open_between_lives_and_a_drained_consumer_is_done() {
    let feed = process(0).uses(true, false).on_success(Ignore).restarts();
    let work = process(0).uses(false, true).on_success(Restart).restarts();
    let mut spec = tree(Door::Up, vec![feed, work]);
    spec.queues.push(queue());
    let mut scene = Scene::new(spec);
    scene.says("start 1, start 2").exits(1, 1).exits(2, 0).wait(200).says("start 2, start 1");
    scene.exits(1, 0).says("close 0 Put").exits(2, 1).wait(400).says("start 2").exits(2, 0).says("close 0 Get, end 0");
}

#[test]
fn a_restart_of_a_group_makes_its_queues_anew() {
    let nodes = vec![
        group(0).restarts().limit(1),
        process(1).uses(true, false).on_success(Ignore),
        process(1).uses(false, true),
        process(0),
    ];
    let mut spec = tree(Door::Up, nodes);
    spec.queues.push(queue());
    let mut scene = Scene::new(spec);
    scene.says("start 4, start 2, start 3").exits(2, 0).says("close 0 Put").exits(3, 1).says("close 0 Get");
    scene.wait(FIRST).says("renew 0, start 2, start 3").exits(3, 1).says("TERM 2, close 0 Get");
    scene.exits(2, 0).says("TERM 4, close 0 Put").exits(4, 0).says("end 1");
}

#[test]
fn a_queue_stays_open_for_those_whom_a_restart_of_their_group_brings_back() {
    let put = QueueUse { queue: QueueId(0), put: true, get: false };
    let nodes = vec![
        group(0).restarts().limit(1),
        process(1).with(|process| process.queues.push(put)).on_success(Ignore),
        process(1),
        process(0).uses(false, true).on_success(Ignore),
    ];
    let mut spec = tree(Door::Up, nodes);
    spec.queues.push(queue());
    let mut scene = Scene::new(spec);
    scene
        .says("start 4, start 2, start 3")
        .exits(2, 0)
        .says("")
        .exits(3, 1)
        .says("")
        .wait(FIRST)
        .says("start 2, start 3");
    scene.exits(2, 0).exits(3, 1).says("TERM 4, close 0 Put");
}

#[test]
fn what_is_after_a_member_waits_for_its_next_life() {
    let nodes = vec![process(0).restarts(), process(0).restarts().after(&[1])];
    let mut scene = Scene::up(nodes);
    scene.exits(1, 1).exits(2, 1).says("start 1, start 2").wait(FIRST).says("start 1, start 2");
    let nodes = vec![group(0).restarts(), process(1), process(0).restarts().after(&[1])];
    let mut scene = Scene::up(nodes);
    scene.exits(3, 1).exits(2, 1).says("start 2, start 3").wait(FIRST).says("start 2, start 3");
}
