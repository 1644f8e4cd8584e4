//! Readiness, what processes say, watchdogs and stop commands.

use super::scene::{Scene, group, ms, process};
use crate::spec::{Consequence, Door, NodeSpec, Readiness};
use crate::supervisor::event::Notice;
use crate::supervisor::*;
use Consequence::Ignore;

fn notify() -> NodeSpec {
    process(0).ready(Readiness::Notify)
}

fn watched() -> NodeSpec {
    process(0).with(|process| process.watchdog = Some(ms(1_000)))
}

fn commanded() -> NodeSpec {
    process(0).with(|process| process.stop_command = Some(vec!["stop".into()]))
}

impl Scene {
    fn notice(&mut self, id: u32, notice: Notice) -> &mut Self {
        let inc = self.inc(id);
        self.event(Event::Notified { inc, notice })
    }
}

#[test]
fn what_is_after_waits_for_readiness() {
    let mut scene = Scene::up(vec![notify(), process(0).after(&[1])]);
    scene.says("start 1").wait(1_000).notice(1, Notice::Status("soon".into())).says("");
    scene.notice(1, Notice::Ready).says("start 2").notice(1, Notice::Ready).wait(100_000).says("");
    let probes =
        [Readiness::Descriptor(3), Readiness::Tcp("127.0.0.1:80".parse().unwrap()), Readiness::Exec(Vec::new())];
    for probe in probes {
        let mut scene = Scene::up(vec![process(0).ready(probe), process(0).after(&[1])]);
        let inc = scene.inc(1);
        scene.says("start 1, await 1").notice(1, Notice::Ready).says("");
        scene.event(Event::Ready { inc }).says("start 2").event(Event::Ready { inc }).says("");
    }
    let mut scene = Scene::up(vec![notify(), process(0).after(&[1])]);
    let inc = scene.inc(1);
    scene.event(Event::Ready { inc }).says("start 1");
}

#[test]
fn a_step_is_ready_when_it_has_ended() {
    let step = || process(0).ready(Readiness::Exited).on_success(Ignore);
    let mut scene = Scene::up(vec![step(), process(0).after(&[1])]);
    scene.says("start 1").wait(1_000).says("").exits(1, 0).says("start 2");
    Scene::up(vec![step(), process(0).after(&[1])]).exits(1, 4).says("start 1, end 4");
    let mut scene = Scene::up(vec![step().restarts(), process(0).after(&[1])]);
    scene.exits(1, 4).says("start 1").wait(100).says("start 1").exits(1, 0).says("start 2");
}

#[test]
fn a_group_is_ready_when_its_members_are() {
    let member = process(1).ready(Readiness::Notify);
    let mut scene = Scene::up(vec![group(0), member.clone(), member, process(0).after(&[1])]);
    scene.says("start 2, start 3").notice(2, Notice::Ready).says("").notice(3, Notice::Ready).says("start 4");
}

#[test]
fn whoever_is_not_ready_in_time_has_failed() {
    let mut scene = Scene::up(vec![notify(), process(0)]);
    scene.says("start 1, start 2").wait(89_999).says("").wait(1).says("TERM 1").exits(1, 0).says("TERM 2");
    scene.exits(2, 0).says("end 124");
    assert_eq!(scene.cause().how, How::StartTimeout { limit: Limit::After(ms(90_000)) });
    let mut scene = Scene::up(vec![process(0).ready(Readiness::Exited)]);
    scene.wait(90_000).says("start 1, TERM 1").exits(1, 0).says("end 124");
    let mut scene = Scene::up(vec![notify().with(|process| process.start_timeout = Limit::Never)]);
    scene.wait(1_000_000).says("start 1");
    Scene::up(vec![process(0)]).wait(1_000_000).says("start 1");
}

#[test]
fn more_time_can_be_asked_for_to_start_and_to_stop() {
    let mut scene = Scene::up(vec![notify()]);
    scene.wait(80_000).notice(1, Notice::ExtendTimeout(ms(20_000))).wait(19_999).says("start 1").wait(1).says("TERM 1");
    scene.wait(9_000).notice(1, Notice::ExtendTimeout(ms(500))).notice(1, Notice::ExtendTimeout(ms(5_000)));
    scene.wait(4_999).says("").wait(1).says("kill 1").notice(1, Notice::ExtendTimeout(ms(50_000)));
    scene.wait(10_000).says("end 123");
    let mut scene = Scene::up(vec![process(0)]);
    scene.signal(Signal::INT).signal(Signal::INT).notice(1, Notice::ExtendTimeout(ms(5_000)));
    scene.wait(1_000).says("start 1, TERM 1, kill 1");
}

#[test]
fn a_silent_process_is_aborted() {
    let mut scene = Scene::up(vec![watched()]);
    scene.wait(600).notice(1, Notice::Watchdog).wait(999).says("start 1").wait(1).says("ABRT 1");
    scene.wait(10_000).says("kill 1").dies(1, Signal::KILL).says("end 124");
    assert_eq!(scene.cause().how, How::Watchdog { every: ms(1_000), asked: false });
    let mut scene = Scene::up(vec![watched()]);
    scene.wait(1_000).leaves(1, 134).says("start 1, ABRT 1, TERM 1 leftovers");
    // The silence counts from readiness on.
    let mut scene = Scene::up(vec![watched().ready(Readiness::Notify)]);
    scene
        .notice(1, Notice::Watchdog)
        .wait(5_000)
        .notice(1, Notice::Ready)
        .wait(999)
        .says("start 1")
        .wait(1)
        .says("ABRT 1");
    let mut scene = Scene::up(vec![watched().ready(Readiness::Exited)]);
    scene.wait(1_000).says("start 1, ABRT 1");
}

#[test]
fn the_interval_of_a_watchdog_can_be_changed() {
    let mut scene = Scene::up(vec![watched()]);
    scene.wait(900).notice(1, Notice::WatchdogInterval(ms(3_000))).wait(2_999).says("start 1").wait(1).says("ABRT 1");
    let mut scene = Scene::up(vec![watched()]);
    scene.notice(1, Notice::WatchdogInterval(ms(0))).wait(100_000).says("start 1");
    let mut scene = Scene::up(vec![process(0)]);
    scene.notice(1, Notice::WatchdogInterval(ms(500))).wait(500).says("start 1, ABRT 1");
    let mut scene = Scene::up(vec![process(0)]);
    scene.notice(1, Notice::WatchdogTrigger).says("start 1, ABRT 1").exits(1, 0).says("end 124");
}

#[test]
fn a_stop_command_stands_in_for_the_stop_signal() {
    let mut scene = Scene::up(vec![commanded()]);
    let inc = scene.inc(1);
    let ended = |success| Event::StopCommandEnded { inc, success };
    scene
        .event(ended(false))
        .signal(Signal::TERM)
        .says("start 1, stop command 1")
        .event(ended(true))
        .wait(9_999)
        .says("");
    scene.event(ended(false)).says("").wait(1).says("kill 1");
    let mut scene = Scene::up(vec![commanded()]);
    scene.signal(Signal::TERM).wait(3_000).event(ended(false)).says("start 1, stop command 1, TERM 1");
    scene.event(ended(false)).wait(6_999).says("").wait(1).says("kill 1");
    let mut scene = Scene::up(vec![commanded()]);
    scene.signal(Signal::TERM).leaves(1, 0).event(ended(false)).says("start 1, stop command 1, TERM 1 leftovers");
    let mut scene = Scene::not_yet_running(super::tree(Door::Up, vec![commanded()]));
    scene.signal(Signal::TERM).says("start 1, TERM 1");
}

#[test]
fn words_of_an_earlier_life_change_nothing() {
    let mut scene = Scene::up(vec![notify().restarts(), process(0).after(&[1])]);
    let old = scene.inc(1);
    scene.exits(1, 1).wait(100).says("start 1, start 1");
    scene.event(Event::Notified { inc: old, notice: Notice::Ready }).event(Event::Ready { inc: old }).says("");
    scene
        .event(Event::Notified { inc: old, notice: Notice::WatchdogTrigger })
        .says("")
        .notice(1, Notice::Ready)
        .says("start 2");
}
