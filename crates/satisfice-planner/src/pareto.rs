//! Choices of which none is both dearer and less accurate than another.

use crate::units::{Nanos, Value};

/// Time and value of a partial choice, and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub time: Nanos,
    pub value: Value,
    /// Position of the state that it extends.
    pub from: u32,
    /// What was added to that state.
    pub step: u32,
}

impl State {
    /// Nothing chosen yet.
    pub(crate) const START: Self = Self {
        time: 0,
        value: 0,
        from: 0,
        step: 0,
    };
}

/// Merges two lists that rise strictly in time and value into `merged`, without what is dominated.
/// Of equal states the one of `a` stays.
pub(crate) fn merge(a: &[State], b: impl IntoIterator<Item = State>, merged: &mut Vec<State>) {
    merged.clear();
    let mut a = a.iter().copied().peekable();
    let mut b = b.into_iter().peekable();
    let mut best: Option<Value> = None;
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => {
                let b_first = y.time < x.time || (y.time == x.time && y.value > x.value);
                if b_first { b.next() } else { a.next() }
            }
            (Some(_), None) => a.next(),
            (None, _) => b.next(),
        };
        let Some(state) = next else { break };
        if best.is_none_or(|best| state.value > best) {
            best = Some(state.value);
            merged.push(state);
        }
    }
}

/// Positions of the corners of the upper concave hull: from one to the next, the value gained per
/// time falls.
pub(crate) fn hull(points: &[(Nanos, Value)]) -> Vec<usize> {
    hull_by(points, |&(t0, v0), &(t1, v1), &(time, value)| {
        // Products of differences: wider than 64 bits where values are sums over many inputs.
        let rise = u128::from(v1 - v0) * u128::from(time - t0);
        let chord = u128::from(value - v0) * u128::from(t1 - t0);
        rise > chord
    })
}

/// As [`hull`], of points of any kind: `stands_out` says whether the second of three lies above the line from
/// the first to the third.
pub(crate) fn hull_by<P>(points: &[P], stands_out: impl Fn(&P, &P, &P) -> bool) -> Vec<usize> {
    let mut corners: Vec<usize> = Vec::new();
    for (at, last) in points.iter().enumerate() {
        while let [.., first, middle] = corners[..]
            && !stands_out(&points[first], &points[middle], last)
        {
            corners.pop();
        }
        corners.push(at);
    }
    corners
}
