//! How long a stop may take: the worst case along the reverse of `after`, and the shortening of stop timeouts that
//! nobody wrote so that they fit a budget that somebody did.
//!
//! The worst case of a process is its stop timeout, of a group with a written budget that budget, of any other group
//! the longest way through its members. All instances of a process stop together.

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::order::{Order, Point, begin, end};
use crate::config::tree_file::TreeFile;
use crate::config::units::{Units, chain};
use crate::spec::DEFAULT_STOP_TIMEOUT;
use crate::time::{Duration, Limit};

/// What is written (or asked for by an option) as the stop timeout of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// In the file at this byte offset.
    File(Limit, usize),
    /// By an option: it is kept by killing, whatever the file says.
    Option(Limit),
}

impl Asked {
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::Nothing => None,
            Self::File(limit, _) | Self::Option(limit) => Some(limit),
        }
    }
}

/// The stop timeouts of all units.
pub(super) struct Budgets {
    /// Of a process its stop timeout, of a group its worst case or written budget.
    pub limits: Vec<Limit>,
    /// For a process whose default was shortened: the group whose budget it has to fit.
    pub shortened_by: Vec<Option<usize>>,
}

/// `present`: the units that are part of the plan.
pub(super) fn fit(
    units: &Units<'_>,
    order: &Order,
    asked: &[Asked],
    present: &[bool],
    file: &TreeFile,
    problems: (&mut Diagnostics, &mut Vec<Diagnostic>),
) -> Budgets {
    let (errors, warnings) = problems;
    let own = |unit: usize| asked[unit].limit().unwrap_or(Limit::After(DEFAULT_STOP_TIMEOUT));
    let limits = (0..units.list.len()).map(own).collect();
    let mut budgets = Budgets { limits, shortened_by: vec![None; units.list.len()] };
    let groups = || (0..units.list.len()).rev().filter(|unit| present[*unit] && units.list[*unit].process().is_none());
    // From the inside out: what an inner budget has shortened, an outer one can only shorten further.
    for group in groups() {
        let Some(Limit::After(budget)) = asked[group].limit() else { continue };
        let walk = Walk::new(units, order, asked, present, &budgets.limits, group);
        match walk.shorten(budget) {
            Ok(None) => {}
            Ok(Some(longest)) => {
                let tight = walk.tight(budget);
                budgets.cut(units, asked, group, longest, |unit| tight[unit - group]);
            }
            Err(over) => {
                let name = units.list[group].label();
                let (own, worst) = (Limit::After(budget), as_limit(over.worst));
                let message = format!(
                    "the stop_timeout of {name}, {own}, cannot hold the stop of its members, which may take {worst}: {}",
                    over.way
                );
                match asked[group] {
                    Asked::File(_, at) => errors.push_with(|| file.at(at, message)),
                    Asked::Option(_) => {
                        budgets.cut(units, asked, group, budget, |_| true);
                        let help = format!("what is left after {own} is killed");
                        warnings.push(Diagnostic::whole("--stop-timeout", message).with_help(help));
                    }
                    Asked::Nothing => {}
                }
            }
        }
    }
    for group in groups().filter(|group| asked[*group] == Asked::Nothing) {
        let walk = Walk::new(units, order, asked, present, &budgets.limits, group);
        budgets.limits[group] = as_limit(walk.worst(Duration::MAX).0);
    }
    budgets
}

impl Budgets {
    /// Shortens what processes inherit to `longest`, for those of the group that are `meant`.
    fn cut(
        &mut self,
        units: &Units<'_>,
        asked: &[Asked],
        group: usize,
        longest: Duration,
        meant: impl Fn(usize) -> bool,
    ) {
        for unit in (group..units.list[group].end).filter(|unit| meant(*unit)) {
            let inherits = units.list[unit].process().is_some() && asked[unit] == Asked::Nothing;
            let cut = self.limits[unit].at_most(longest);
            if inherits && cut != self.limits[unit] {
                self.limits[unit] = cut;
                self.shortened_by[unit] = Some(group);
            }
        }
    }
}

struct Over {
    worst: Duration,
    /// The members on the longest way, with their times.
    way: String,
}

/// One group's stop, thought through.
struct Walk<'a> {
    units: &'a Units<'a>,
    order: &'a Order,
    asked: &'a [Asked],
    limits: &'a [Limit],
    group: usize,
    /// The points of the group and all that is in it, in the order in which they come.
    points: Vec<Point>,
}

impl<'a> Walk<'a> {
    fn new(
        units: &'a Units<'a>,
        order: &'a Order,
        asked: &'a [Asked],
        present: &[bool],
        limits: &'a [Limit],
        group: usize,
    ) -> Self {
        let inside = (group..units.list[group].end).filter(|unit| present[*unit]);
        let mut points: Vec<Point> = inside.flat_map(|unit| [begin(unit), end(unit)]).collect();
        points.sort_by_key(|point| order.place[*point]);
        Self { units, order, asked, limits, group, points }
    }

    /// The longest time that processes which inherit the default may have so that all fits; `None` where they fit as
    /// they are.
    fn shorten(&self, budget: Duration) -> Result<Option<Duration>, Over> {
        const STEP: Duration = Duration::from_millis(1);
        if self.worst(Duration::MAX).0 <= budget {
            return Ok(None);
        }
        let least = STEP.min(budget);
        let (worst, way) = self.worst(least);
        if worst > budget {
            return Err(Over { worst, way: self.describe(&way, least) });
        }
        let (mut fits, mut beyond) = (1, DEFAULT_STOP_TIMEOUT.as_millis() as u32 + 1);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            if self.worst(STEP * middle).0 <= budget {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        Ok(Some((STEP * fits).min(budget)))
    }

    /// How long the unit itself takes, where inherited defaults are at most `longest`; `None` for a group whose members
    /// say it.
    fn own(&self, unit: usize, longest: Duration) -> Option<Duration> {
        let is_group = self.units.list[unit].process().is_none();
        let inherits = self.asked[unit] == Asked::Nothing;
        match (is_group, inherits) {
            (true, true) => None,
            (true, false) if unit == self.group => None,
            (false, true) => Some(as_duration(self.limits[unit]).min(longest)),
            (true | false, false) => Some(as_duration(self.limits[unit])),
        }
    }

    /// The longest time from the beginning of the group's stop to its end, and the units that make it up.
    fn worst(&self, longest: Duration) -> (Duration, Vec<usize>) {
        let first = begin(self.group);
        let comes = self.comes(longest);
        let mut way = Vec::new();
        let mut point = Some(end(self.group));
        while let Some(here) = point {
            if here == end(here / 2) && self.own(here / 2, longest).is_some() {
                way.push(here / 2);
            }
            point = comes[here - first].1;
        }
        way.reverse();
        (comes[end(self.group) - first].0, way)
    }

    /// When each point comes at the latest, and the point that it waited for longest; counted from the group's first.
    fn comes(&self, longest: Duration) -> Vec<(Duration, Option<Point>)> {
        let inside = self.group..self.units.list[self.group].end;
        let first = begin(self.group);
        let last = end(self.units.list[self.group].end - 1);
        let mut comes: Vec<(Duration, Option<Point>)> = vec![(Duration::ZERO, None); last + 1 - first];
        for point in &self.points {
            let unit = point / 2;
            if *point == end(unit)
                && let Some(own) = self.own(unit, longest)
            {
                comes[point - first] = (comes[begin(unit) - first].0.saturating_add(own), Some(begin(unit)));
            }
            let at = comes[point - first].0;
            self.order.followers(self.units, *point, |next| {
                if inside.contains(&(next / 2)) && at > comes[next - first].0 {
                    comes[next - first] = (at, Some(*point));
                }
            });
        }
        comes
    }

    /// For each unit of the group whether a way through it is longer than the budget. A way that is too long has only
    /// such units on it, so that to shorten these is enough.
    fn tight(&self, budget: Duration) -> Vec<bool> {
        let (first, last) = (begin(self.group), end(self.units.list[self.group].end - 1));
        let inside = self.group..self.units.list[self.group].end;
        let comes = self.comes(Duration::MAX);
        // How long it takes at most from each point to the end of the group; `None`: the end does not wait for it.
        let mut remains: Vec<Option<Duration>> = vec![None; last + 1 - first];
        remains[end(self.group) - first] = Some(Duration::ZERO);
        for point in self.points.iter().rev() {
            let unit = point / 2;
            let mut longest = remains[point - first];
            self.order.followers(self.units, *point, |next| {
                if !inside.contains(&(next / 2)) {
                    return;
                }
                let step = match self.own(next / 2, Duration::MAX) {
                    // The end of what has a time of its own waits for its beginning alone.
                    Some(own) if next == end(next / 2) => Some(own).filter(|_| next == end(unit)),
                    Some(_) | None => Some(Duration::ZERO),
                };
                let way = step.zip(remains[next - first]).map(|(step, rest)| step.saturating_add(rest));
                longest = longest.max(way);
            });
            remains[point - first] = longest;
        }
        let through = |unit: usize| {
            remains[begin(unit) - first].is_some_and(|rest| comes[begin(unit) - first].0.saturating_add(rest) > budget)
        };
        inside.map(through).collect()
    }

    fn describe(&self, way: &[usize], longest: Duration) -> String {
        let names = way.iter().map(|unit| {
            let time = as_limit(self.own(*unit, longest).unwrap_or_default());
            format!("{} ({time})", self.units.list[*unit].label())
        });
        chain(names.collect::<Vec<_>>().into_iter())
    }
}

fn as_duration(limit: Limit) -> Duration {
    match limit {
        Limit::After(span) => span,
        Limit::Never => Duration::MAX,
    }
}

fn as_limit(span: Duration) -> Limit {
    if span == Duration::MAX { Limit::Never } else { Limit::After(span) }
}
