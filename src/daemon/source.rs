//! What can become ready: the token of each descriptor that is watched, and the order in which one wake handles them.

use mio::Token;

use crate::name::Incarnation;

/// One watched descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The pipe of a process's output, by its place in `Outputs`.
    Output(usize),
    /// fated's own stdout or stderr, which takes bytes again.
    Sink(usize),
    /// The report of a start under way, by the serial of the incarnation.
    Report(u64),
    /// The pidfd of a main process, by the serial of the incarnation.
    Process(u64),
    /// What the tree is tied to, by its place in `Ties`.
    Tie(usize),
    Signals,
    Timer,
    /// No descriptor: a hunt that wants another walk at once.
    Hunt,
}

const KIND_BITS: u32 = 3;

impl Source {
    pub fn of_process(inc: Incarnation) -> Self {
        Self::Process(inc.serial)
    }

    pub fn of_report(inc: Incarnation) -> Self {
        Self::Report(inc.serial)
    }

    pub fn token(self) -> Token {
        let (kind, index) = match self {
            Self::Output(index) => (0, index),
            Self::Sink(index) => (1, index),
            Self::Report(serial) => (2, serial as usize),
            Self::Process(serial) => (3, serial as usize),
            Self::Tie(index) => (4, index),
            Self::Signals => (5, 0),
            Self::Timer => (6, 0),
            Self::Hunt => (7, 0),
        };
        Token(index << KIND_BITS | kind)
    }

    /// The way back; `None` for what `token` never makes.
    pub fn from_token(token: Token) -> Option<Self> {
        let index = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Self::Output(index)),
            1 => Some(Self::Sink(index)),
            2 => Some(Self::Report(index as u64)),
            3 => Some(Self::Process(index as u64)),
            4 => Some(Self::Tie(index)),
            5 => Some(Self::Signals),
            6 => Some(Self::Timer),
            7 => Some(Self::Hunt),
            _ => None,
        }
    }
}

/// The sources that one wake has to handle, in their order: output, then the starts, the deaths, the ties, the
/// signals, and the timer last, so that an exit beats a deadline of the same instant.
#[derive(Debug, Default)]
pub struct Ready {
    sources: Vec<Source>,
}

impl Ready {
    pub fn push(&mut self, source: Source) {
        self.sources.push(source);
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Takes everything out, each source once.
    pub fn take(&mut self) -> Vec<Source> {
        let mut sources = core::mem::take(&mut self.sources);
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_source() {
        for source in [
            Source::Output(0),
            Source::Output(99),
            Source::Sink(1),
            Source::Report(1 << 40),
            Source::Process(7),
            Source::Tie(3),
            Source::Signals,
            Source::Timer,
            Source::Hunt,
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
    }

    #[test]
    fn one_wake_handles_deaths_before_signals_and_the_timer_last() {
        let mut ready = Ready::default();
        for source in [Source::Timer, Source::Signals, Source::Process(2), Source::Process(2), Source::Output(1)] {
            ready.push(source);
        }
        assert_eq!(ready.take(), [Source::Output(1), Source::Process(2), Source::Signals, Source::Timer]);
        assert!(ready.is_empty());
    }
}
