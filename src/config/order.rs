//! The order of the stop, from `after`: what is after another has stopped before that other begins to stop. The order of
//! the start is the same one backwards, so that one look finds every cycle.
//!
//! Each unit is two points: it begins to stop, it has stopped. A group begins before its members, and has stopped
//! after them; so a group's `after` holds for all that is in it.

use crate::config::diagnostic::Diagnostics;
use crate::config::section::At;
use crate::config::tree_file::TreeFile;
use crate::config::units::{Units, chain};

/// A point of the stop: of unit `u` the beginning is `2 * u`, the end `2 * u + 1`.
pub(super) type Point = usize;

pub(super) fn begin(unit: usize) -> Point {
    2 * unit
}

pub(super) fn end(unit: usize) -> Point {
    2 * unit + 1
}

/// The `after` relation of a file without cycles.
pub(super) struct Order {
    /// For each unit the units that it is after.
    pub afters: Vec<Vec<At<usize>>>,
    /// The place of each point in an order in which each comes after all that it waits for.
    pub place: Vec<usize>,
}

impl Order {
    /// `None` where there is a cycle, which is reported.
    pub fn new(units: &Units<'_>, file: &TreeFile, errors: &mut Diagnostics) -> Option<Self> {
        let afters = units.afters(file, errors);
        let count = units.list.len();
        let mut order = Self { afters, place: vec![usize::MAX; 2 * count] };
        let mut waits = vec![0_usize; 2 * count];
        for point in 0..2 * count {
            order.followers(units, point, |next| waits[next] += 1);
        }
        let mut free: Vec<Point> = (0..2 * count).filter(|point| waits[*point] == 0).collect();
        let mut placed = 0;
        while let Some(point) = free.pop() {
            order.place[point] = placed;
            placed += 1;
            order.followers(units, point, |next| {
                waits[next] -= 1;
                if waits[next] == 0 {
                    free.push(next);
                }
            });
        }
        if placed < 2 * count {
            order.report_cycle(units, file, errors);
            return None;
        }
        Some(order)
    }

    /// The points that wait for this one.
    pub fn followers(&self, units: &Units<'_>, point: Point, mut each: impl FnMut(Point)) {
        let unit = point / 2;
        if point == begin(unit) {
            each(end(unit));
            units.members(unit).for_each(|member| each(begin(member)));
            return;
        }
        if unit > 0 {
            each(end(units.list[unit].parent));
        }
        self.afters[unit].iter().for_each(|other| each(begin(other.value)));
    }

    /// Names one of the shortest cycles through a point that lies on one.
    fn report_cycle(&self, units: &Units<'_>, file: &TreeFile, errors: &mut Diagnostics) {
        let Some(start) = self.on_a_cycle(units) else { return };
        let path = self.way_back(units, start);
        // Of the path only the steps from one unit to another that it is after are the user's words.
        let mut steps: Vec<(usize, At<usize>)> = Vec::new();
        for pair in path.windows(2) {
            let (from, to) = (pair[0] / 2, pair[1] / 2);
            let written = self.afters[from].iter().find(|other| other.value == to);
            if pair[0] == end(from) && pair[1] == begin(to) {
                steps.extend(written.map(|other| (from, other.clone())));
            }
        }
        // The cycle is told from the step that stands first in the file.
        let first = (0..steps.len()).min_by_key(|index| steps[*index].1.at).unwrap_or(0);
        steps.rotate_left(first);
        let mut names = Vec::new();
        for (index, (from, _)) in steps.iter().enumerate() {
            let before = steps[(index + steps.len() - 1) % steps.len()].1.value;
            names.push(joint(units, before, *from));
        }
        names.extend(names.first().cloned());
        let at = steps.first().map_or(0, |(_, other)| other.at);
        errors.push_with(|| file.at(at, format!("a cycle in `after`: {}", chain(names.iter()))));
    }

    /// A point on a cycle: from any point that could not be placed, backwards until one comes again.
    fn on_a_cycle(&self, units: &Units<'_>) -> Option<Point> {
        let mut from: Vec<Option<Point>> = vec![None; self.place.len()];
        for point in (0..self.place.len()).filter(|point| self.place[*point] == usize::MAX) {
            self.followers(units, point, |next| from[next] = Some(point));
        }
        let mut seen = vec![false; self.place.len()];
        let mut point = (0..self.place.len()).find(|point| self.place[*point] == usize::MAX)?;
        while !seen[point] {
            seen[point] = true;
            point = from[point]?;
        }
        Some(point)
    }

    /// A shortest way from a point back to it, both ends included.
    fn way_back(&self, units: &Units<'_>, start: Point) -> Vec<Point> {
        let mut from: Vec<Option<Point>> = vec![None; self.place.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(point) = queue.pop_front().filter(|_| from[start].is_none()) {
            self.followers(units, point, |next| {
                if from[next].is_none() {
                    from[next] = Some(point);
                    queue.push_back(next);
                }
            });
        }
        let mut path = vec![start];
        let mut point = from[start];
        while let Some(here) = point {
            path.push(here);
            point = if here == start { None } else { from[here] };
        }
        path.reverse();
        path
    }
}

/// How a cycle goes on from what was named as `before` with the `after` of `unit`.
fn joint(units: &Units<'_>, before: usize, unit: usize) -> String {
    let (outer, inner) = (units.list[before].label(), units.list[unit].label());
    if before == unit {
        inner.to_owned()
    } else if units.contains(before, unit) {
        format!("{outer} (which holds {inner})")
    } else {
        format!("{outer} (in {inner})")
    }
}
