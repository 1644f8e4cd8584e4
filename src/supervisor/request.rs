//! What a received signal means: one table for the doors of fated.

use crate::signal::Signal;
use crate::spec::Door;

/// What a signal to fated asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop the tree; `with`: the stop signal of the command, where it is not the plan's.
    Stop { with: Option<Signal> },
    /// Stop the tree; where that is under way: shorten every timeout, then kill.
    StopOrHasten,
    /// Send it to the command.
    Pass(Signal),
    /// Stop the processes and fated with them.
    Suspend,
    /// Let the processes continue.
    Resume,
    /// Nothing is done, and the log says so.
    Note,
    /// Nothing.
    Drop,
}

/// Rewrites a received signal; `None` drops it.
pub fn rewrite(map: &[(Signal, Option<Signal>)], signal: Signal) -> Option<Signal> {
    map.iter().find(|(from, _)| *from == signal).map_or(Some(signal), |(_, to)| *to)
}

/// The meaning of `received` at `door`, under the signal map of the plan.
pub fn meaning(door: &Door, map: &[(Signal, Option<Signal>)], received: Signal) -> Request {
    let Some(signal) = rewrite(map, received) else { return Request::Drop };
    match (door, signal) {
        (_, Signal::CHLD) => Request::Drop,
        (_, Signal::TSTP | Signal::TTIN | Signal::TTOU) => Request::Suspend,
        (_, Signal::CONT) => Request::Resume,
        // A rewritten TERM still starts the stop plan, with the signal that it was rewritten to.
        (Door::Run(_), _) if received == Signal::TERM => {
            Request::Stop { with: (signal != Signal::TERM).then_some(signal) }
        }
        (Door::Run(_), _) => Request::Pass(signal),
        (Door::Up, Signal::TERM | Signal::HUP) => Request::Stop { with: None },
        (Door::Up, Signal::INT | Signal::QUIT) => Request::StopOrHasten,
        (Door::Up, _) => Request::Note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RunDoor;

    #[test]
    fn each_door_has_its_own_table() {
        let run = Door::Run(RunDoor::default());
        for (signal, at_run, at_up) in [
            (Signal::TERM, Request::Stop { with: None }, Request::Stop { with: None }),
            (Signal::INT, Request::Pass(Signal::INT), Request::StopOrHasten),
            (Signal::QUIT, Request::Pass(Signal::QUIT), Request::StopOrHasten),
            (Signal::HUP, Request::Pass(Signal::HUP), Request::Stop { with: None }),
            (Signal::USR1, Request::Pass(Signal::USR1), Request::Note),
            (Signal::WINCH, Request::Pass(Signal::WINCH), Request::Note),
            (Signal::TSTP, Request::Suspend, Request::Suspend),
            (Signal::CONT, Request::Resume, Request::Resume),
            (Signal::CHLD, Request::Drop, Request::Drop),
        ] {
            assert_eq!(meaning(&run, &[], signal), at_run, "run, {signal}");
            assert_eq!(meaning(&Door::Up, &[], signal), at_up, "up, {signal}");
        }
    }

    #[test]
    fn a_rewritten_signal_is_acted_on_as_what_it_became() {
        let run = Door::Run(RunDoor::default());
        let map = [(Signal::TERM, Some(Signal::QUIT)), (Signal::HUP, None), (Signal::INT, Some(Signal::TERM))];
        assert_eq!(meaning(&run, &map, Signal::TERM), Request::Stop { with: Some(Signal::QUIT) });
        assert_eq!(meaning(&run, &map, Signal::HUP), Request::Drop);
        assert_eq!(meaning(&run, &map, Signal::INT), Request::Pass(Signal::TERM));
        assert_eq!(meaning(&Door::Up, &map, Signal::INT), Request::Stop { with: None });
    }
}
