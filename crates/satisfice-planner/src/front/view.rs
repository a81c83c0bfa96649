use super::{FrontTable, Mix, Run};
use crate::{
    pareto::{State, hull},
    units::{self, Nanos, Value},
};

/// The mixes of one number of inputs of which none is dearer and less accurate than another.
#[derive(Debug, Clone, Copy)]
pub struct Front<'a> {
    pub(super) table: &'a FrontTable,
    pub(super) inputs: usize,
}

/// One mix on a front.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its position on the front.
    pub index: usize,
    /// Its time, in seconds.
    pub seconds: f64,
    /// Its mean accuracy that is planned with, 0 to 1.
    pub accuracy: f64,
}

#[expect(
    clippy::len_without_is_empty,
    reason = "a front always has a point: some strategy answers"
)]
impl<'a> Front<'a> {
    /// Inputs that its mixes answer.
    pub fn inputs(self) -> usize {
        self.inputs
    }

    /// Number of points, at least 1.
    pub fn len(self) -> usize {
        self.states().len()
    }

    /// Every point, rising in time and accuracy.
    pub fn points(self) -> impl Iterator<Item = Point> + 'a {
        (0..self.len()).map(move |at| self.point(at))
    }

    /// The cheapest point whose mean accuracy is at least `min_accuracy`; none where there is none.
    pub fn cheapest(self, min_accuracy: f64) -> Option<Point> {
        // Neither NaN nor what is beyond every share has a point.
        if min_accuracy.is_nan() || min_accuracy > 1.0 {
            return None;
        }
        let floor = units::value(min_accuracy) * self.inputs as Value;
        self.cheapest_from(floor).map(|at| self.point(at))
    }

    /// The most accurate point that takes at most `seconds`.
    pub fn most_accurate(self, seconds: f64) -> Option<Point> {
        let most = units::nanos_left(seconds);
        let count = self.states().partition_point(|state| state.time <= most);
        count.checked_sub(1).map(|at| self.point(at))
    }

    /// How far thinning may have moved the front, in mean accuracy: 0 where it is exact. A point
    /// that is cheapest for `min_accuracy` costs no more than any mix that reaches
    /// `min_accuracy + gap`.
    pub fn gap(self) -> f64 {
        units::share(self.table.gaps[self.inputs], self.inputs)
    }

    /// What the point does.
    ///
    /// # Panics
    /// Where the point is of a longer front.
    pub fn mix(self, point: Point) -> Mix {
        let mut runs = Vec::new();
        let (mut inputs, mut at) = (self.inputs, point.index);
        while inputs > 0 {
            let state = self.table.fronts[inputs][at];
            let item = self.table.items[state.step as usize];
            runs.push(Run {
                strategy: item.strategy,
                batch: item.inputs,
                times: 1,
            });
            inputs -= item.inputs;
            at = state.from as usize;
        }
        Mix::new(runs, &self.table.strategies)
    }

    pub(super) fn states(self) -> &'a [State] {
        &self.table.fronts[self.inputs]
    }

    pub(super) fn point(self, index: usize) -> Point {
        let state = self.states()[index];
        Point {
            index,
            seconds: units::seconds(state.time),
            accuracy: units::share(state.value, self.inputs),
        }
    }

    pub(super) fn cheapest_from(self, floor: Value) -> Option<usize> {
        let at = self.states().partition_point(|state| state.value < floor);
        (at < self.len()).then_some(at)
    }

    /// At most `count` positions from the cheapest of at least `floor` to the last: corners of the
    /// hull first, since between two of them less is gained per time.
    pub(super) fn spread(self, floor: Value, count: usize) -> Vec<usize> {
        let Some(first) = self.cheapest_from(floor) else {
            return Vec::new();
        };
        if count == 1 {
            return vec![first];
        }
        let corners = corners(&self.states()[first..]);
        let at = |corner: usize| first + corners[corner];
        if corners.len() <= count {
            return (0..corners.len()).map(at).collect();
        }
        evenly(corners.len(), count).map(at).collect()
    }
}

pub(super) fn corners(states: &[State]) -> Vec<usize> {
    let points: Vec<(Nanos, Value)> = states.iter().map(|s| (s.time, s.value)).collect();
    hull(&points)
}

/// `count` of `0..len` at equal distances, the last among them; `count` is at most `len`. With two
/// or more the first is among them too.
pub(super) fn evenly(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let steps = (count - 1).max(1);
    (0..count).map(move |i| match count {
        1 => 0,
        _ => i * (len - 1) / steps,
    })
}
