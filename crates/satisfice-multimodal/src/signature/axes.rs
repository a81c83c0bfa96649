//! The axes of a network's inputs: which is the batch, and how long the others are.

use super::{Declared, Port};
use satisfice_core::DataType;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// How long a dimension is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Axis {
    Fixed(usize),
    /// As long as others of this name.
    Named(String),
    Free,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => length.fmt(f),
            Self::Named(name) => name.fmt(f),
            Self::Free => "any".fmt(f),
        }
    }
}

/// A network's inputs with the lengths that model.toml gives them.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// In the network's order.
    pub(crate) inputs: Vec<Port>,
    /// Types that the network reads, where model.toml's are converted.
    pub(crate) reads: Vec<DataType>,
    /// Lengths of the axes that have a name.
    pub(crate) lengths: BTreeMap<String, usize>,
    /// Whether the network takes one row at a time.
    pub(crate) one_row: bool,
    /// Names of the batch.
    pub(crate) batch_names: BTreeSet<String>,
}

impl Bound {
    /// `wanted` are in the order of `inputs`, with the same names.
    pub(super) fn of(inputs: &[Declared], wanted: &[&Port]) -> Result<Self, String> {
        let mut bound = Self {
            inputs: Vec::new(),
            reads: Vec::new(),
            lengths: BTreeMap::new(),
            one_row: false,
            batch_names: BTreeSet::new(),
        };
        // Where the length of a named axis was said first, for messages.
        let mut said: BTreeMap<&str, String> = BTreeMap::new();
        for (have, want) in inputs.iter().zip(wanted) {
            check(have, want)?;
            for (i, (axis, length)) in have.axes.iter().zip(&want.shape).enumerate() {
                let (name, length) = match (axis, length) {
                    (Axis::Named(name), Some(length)) => (name, length),
                    (Axis::Named(name), None) => {
                        bound.batch_names.insert(name.clone());
                        continue;
                    }
                    (Axis::Fixed(rows), None) => {
                        bound.one_row |= check_batch(have, *rows)?;
                        continue;
                    }
                    _ => continue,
                };
                let place = format!("dimension {i} of `{}`", have.name);
                let first = *bound.lengths.entry(name.clone()).or_insert(*length);
                let before = said.entry(name).or_insert_with(|| place.clone());
                if first != *length {
                    return Err(format!(
                        "axis `{name}` is {first} in model.toml as {before} and {length} as {place}: \
                         all axes of a name have one length"
                    ));
                }
            }
            bound.inputs.push((*want).clone());
            bound.reads.push(have.datatype);
        }
        for name in &bound.batch_names {
            if let Some(place) = said.get(name.as_str()) {
                return Err(format!(
                    "axis `{name}` is the batch and also {place}: a shape says which of its dimensions is \
                     the batch, as in [2, \"batch\", 64]"
                ));
            }
        }
        Ok(bound)
    }

    /// Which dimension of an output is the batch, if its file says so by a name.
    pub(crate) fn batch_axis(&self, output: &Declared) -> Option<usize> {
        let is_batch =
            |axis: &Axis| matches!(axis, Axis::Named(name) if self.batch_names.contains(name));
        output.axes.iter().position(is_batch)
    }
}

/// Whether the batch of an input is fixed to 1.
fn check_batch(have: &Declared, rows: usize) -> Result<bool, String> {
    match rows {
        1 => Ok(true),
        rows => Err(format!(
            "input {have} has a batch of {rows}, fixed: export the network with a dynamic batch dimension, \
             or with a batch of 1; if another dimension is the batch, its shape in model.toml says so, as in \
             [2, \"batch\", 64]"
        )),
    }
}

/// Checks that a network's input takes what model.toml says.
fn check(have: &Declared, want: &Port) -> Result<(), String> {
    let fits = |(have, want): (&Axis, &Option<usize>)| match (have, want) {
        (Axis::Fixed(have), Some(want)) => have == want,
        _ => true,
    };
    let converted = want.datatype == DataType::Fp32 && have.datatype.is_float();
    // Of some inputs nothing is said.
    let unknown = have.axes.is_empty() && !have.scalar;
    let same_rank = have.axes.len() == want.shape.len();
    let shapes = unknown || (same_rank && have.axes.iter().zip(&want.shape).all(fits));
    if shapes && (have.datatype == want.datatype || converted) {
        return Ok(());
    }
    let want = want.describe();
    Err(format!("input {have} where model.toml says {want}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, axes: &[&str]) -> Declared {
        let axis = |axis: &&str| match (axis.parse(), *axis) {
            (Ok(length), _) => Axis::Fixed(length),
            (_, "") => Axis::Free,
            (_, name) => Axis::Named(name.to_owned()),
        };
        Declared {
            name: name.to_owned(),
            datatype: DataType::Fp32,
            axes: axes.iter().map(axis).collect(),
            scalar: false,
        }
    }

    fn bind(inputs: &[(&str, &[&str], &[usize])]) -> Result<Bound, String> {
        let have: Vec<Declared> = inputs.iter().map(|(n, axes, _)| input(n, axes)).collect();
        let port =
            |(name, _, shape): &(&str, &[&str], &[usize])| Port::batch(name, DataType::Fp32, shape);
        let wanted: Vec<Port> = inputs.iter().map(port).collect();
        Bound::of(&have, &wanted.iter().collect::<Vec<_>>())
    }

    #[test]
    fn free_axes_get_lengths() {
        let bound = bind(&[
            ("ids", &["n", "words"], &[12]),
            ("mask", &["m", "words"], &[12]),
            ("pixels", &["", "", "side", "side"], &[3, 8, 8]),
        ])
        .unwrap_or_else(|e| panic!("{e}"));
        let lengths = [("side".to_owned(), 8), ("words".to_owned(), 12)];
        assert_eq!(bound.lengths, BTreeMap::from(lengths));
        assert!(!bound.one_row);
        let one = bind(&[("x", &["1", "4"], &[4]), ("y", &["n", "4"], &[4])]);
        assert!(one.is_ok_and(|bound| bound.one_row));
    }

    #[test]
    fn the_batch_may_be_any_dimension() {
        let have = [input("x", &["n", "4"]), input("state", &["2", "n", "8"])];
        let ports = [
            Port::batch("x", DataType::Fp32, &[4]),
            Port::along(1, "state", DataType::Fp32, &[2, 8]),
        ];
        let bound = Bound::of(&have, &[&ports[0], &ports[1]]).unwrap_or_else(|e| panic!("{e}"));
        assert!(!bound.one_row && bound.lengths.is_empty());
        let axis = |axes: &[&str]| bound.batch_axis(&input("y", axes));
        assert_eq!(axis(&["time", "n", "3"]), Some(1));
        assert_eq!(axis(&["n", "3"]), Some(0));
        assert_eq!(axis(&["m", "3"]), None);
        let first = Port::batch("state", DataType::Fp32, &[1, 8]);
        let refusal = Bound::of(&have[1..], &[&first]).err().unwrap_or_default();
        assert!(
            refusal.contains("input `state` FP32 [2, n, 8] has a batch of 2, fixed"),
            "{refusal}"
        );
    }

    #[test]
    fn axes_that_do_not_fit_are_named() {
        for (inputs, message) in [
            (
                &[("a", &["n", "t"][..], &[5][..]), ("b", &["n", "t"], &[6])][..],
                "axis `t` is 5 in model.toml as dimension 1 of `a` and 6 as dimension 1 of `b`",
            ),
            (
                &[("a", &["n", "side", "side"], &[5, 6])],
                "axis `side` is 5 in model.toml as dimension 1 of `a` and 6 as dimension 2 of `a`",
            ),
            (
                &[("a", &["n", "4"], &[4]), ("b", &["m", "n"], &[4])],
                "axis `n` is the batch and also dimension 1 of `b`",
            ),
            (
                &[("a", &["8", "4"], &[4])],
                "`a` FP32 [8, 4] has a batch of 8, fixed: export the network with a dynamic batch",
            ),
            (
                &[("a", &["n", "4"], &[5])],
                "input `a` FP32 [n, 4] where model.toml says `a` FP32 [batch, 5]",
            ),
            (&[("a", &["n", "4", "1"], &[4])], "where model.toml says"),
        ] {
            let refusal = bind(inputs).err().unwrap_or_default();
            assert!(refusal.contains(message), "{refusal}");
        }
    }
}
