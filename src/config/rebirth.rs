//! How a node is started again, as written: the keys `restart_*`, `healthy_after` and `strategy`.

use crate::config::resolve::Origin;
use crate::config::section::{At, Section};
use crate::config::words::Word;
use crate::spec::{Intensity, RestartPolicy, Strategy};
use crate::time::{Duration, Limit};

/// The most restarts that a window may allow.
pub const RESTARTS_MAX: u32 = 10_000;

/// Each value with its place, where it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenRestart {
    pub delay: Option<At<Duration>>,
    pub delay_max: Option<At<Duration>>,
    pub limit: Option<At<u32>>,
    pub window: Option<At<Duration>>,
    pub healthy_after: Option<At<Duration>>,
    /// Of a group.
    pub strategy: Option<Strategy>,
}

impl Word for Strategy {
    const WORDS: &'static [(&'static str, Self)] = &[("one", Self::One), ("rest", Self::Rest), ("all", Self::All)];
    const LATER: &'static [&'static str] = &[];
}

impl WrittenRestart {
    pub fn of_group(section: &mut Section<'_, '_>) -> Self {
        let strategy = section.word("strategy").map(|word| word.value);
        Self { strategy, ..Self::common(section) }
    }

    pub fn of_process(section: &mut Section<'_, '_>) -> Self {
        let healthy_after = section.span("healthy_after");
        Self { healthy_after, ..Self::common(section) }
    }

    fn common(section: &mut Section<'_, '_>) -> Self {
        let (delay, delay_max) = (section.span("restart_delay"), section.span("restart_delay_max"));
        if let (Some(delay), Some(max)) = (&delay, &delay_max)
            && delay.value > max.value
        {
            let (first, longest) = (Limit::After(delay.value), Limit::After(max.value));
            let place = section.place();
            let message = format!("`restart_delay_max` in {place} is {longest}, less than `restart_delay`, {first}");
            section.error(max.at, message);
        }
        Self {
            delay,
            delay_max,
            limit: section.number("restart_limit", 0..=RESTARTS_MAX),
            window: section.span("restart_window"),
            healthy_after: None,
            strategy: None,
        }
    }

    /// The policy of a node; of a group, whose written limit and window are for its members.
    pub fn policy(&self, is_group: bool) -> RestartPolicy {
        let default = RestartPolicy::default();
        let delay = value(&self.delay).unwrap_or(default.delay);
        RestartPolicy {
            delay,
            delay_max: value(&self.delay_max).unwrap_or(default.delay_max).max(delay),
            intensity: if is_group { default.intensity } else { self.intensity() },
            healthy_after: value(&self.healthy_after).unwrap_or(default.healthy_after),
        }
    }

    /// Of a group: what its members' restarts are counted by together, where something of it is written.
    pub fn shared(&self) -> Option<Intensity> {
        (self.limit.is_some() || self.window.is_some()).then(|| self.intensity())
    }

    fn intensity(&self) -> Intensity {
        let default = RestartPolicy::default().intensity;
        Intensity {
            limit: value(&self.limit).unwrap_or(default.limit),
            window: value(&self.window).unwrap_or(default.window),
        }
    }

    /// Where each key of the policy comes from, in the order in which they are told.
    pub fn origins(&self, line: impl Fn(usize) -> Origin) -> [(&'static str, Origin); 5] {
        let of = |at: Option<usize>| at.map_or(Origin::Default, &line);
        [
            ("restart_delay", of(self.delay.as_ref().map(|delay| delay.at))),
            ("restart_delay_max", of(self.delay_max.as_ref().map(|delay| delay.at))),
            ("restart_limit", of(self.limit.as_ref().map(|limit| limit.at))),
            ("restart_window", of(self.window.as_ref().map(|window| window.at))),
            ("healthy_after", of(self.healthy_after.as_ref().map(|span| span.at))),
        ]
    }
}

fn value<T: Copy>(written: &Option<At<T>>) -> Option<T> {
    written.as_ref().map(|written| written.value)
}
