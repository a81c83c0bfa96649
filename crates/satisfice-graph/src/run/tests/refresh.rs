//! `refresh` against a whole pass over a graph in which every refreshed node is a node of its own.

use super::{Case, Csr, Graph, answer, batch, cases, close, models, whole_graph};
use crate::{GnnModel, Plan, model::Reduction, run::Direction};
use proptest::prelude::*;

impl Case {
    /// Without edges from a node to itself, which layers count in different ways.
    fn without_loops(mut self) -> Self {
        self.graph.edges.retain(|(source, target)| source != target);
        self
    }

    fn is_touched(&self, node: u32) -> bool {
        self.edges
            .iter()
            .any(|e| e.1 == node && e.2 != Direction::In)
    }

    fn is_reader(&self, node: u32) -> bool {
        self.edges
            .iter()
            .any(|e| e.1 == node && e.2 != Direction::Out)
    }
}

/// The answer for the queries from a graph that holds the stored nodes untouched, the queries, and
/// beside each stored node a second one: with the same sources and the edges of the batch. Queries
/// read the second ones.
fn reference(model: &GnnModel, case: &Case) -> Vec<f32> {
    let nodes = case.graph.nodes;
    let second = |node: u32| node + (nodes + case.queries) as u32;
    let query = |q: u32| q + nodes as u32;
    let mut edges = case.graph.edges.clone();
    edges.extend(case.graph.edges.iter().map(|&(s, t)| (s, second(t))));
    for &(q, node, direction) in &case.edges {
        if direction != Direction::Out {
            edges.push((second(node), query(q)));
        }
        if direction != Direction::In {
            edges.push((query(q), second(node)));
        }
    }
    let between = case.query_edges.iter();
    edges.extend(between.map(|&(s, t)| (query(s), query(t))));
    let mut csr = Csr::new(&Graph {
        nodes: 2 * nodes + case.queries,
        edges,
    });
    // The first of two nodes has the out-edges that are stored, the second one those of the batch too.
    let stored = Csr::new(&case.graph).out_degree;
    for (node, &degree) in stored.iter().enumerate() {
        csr.out_degree[node] = degree;
        csr.out_degree[second(node as u32) as usize] += degree;
    }
    let mut x = case.x(model.features());
    x.extend_from_within(..nodes * model.features());
    let values = whole_graph(model, csr.view(), &x);
    let of_queries = |level: usize| {
        let width = model.level_width(level);
        values[level][nodes * width..(nodes + case.queries) * width].to_vec()
    };
    let layers = match model.joins_levels() {
        true => (0..=model.layers()).map(of_queries).collect(),
        false => vec![of_queries(model.layers())],
    };
    model.finish(layers)
}

fn refreshed(model: &GnnModel, case: &Case, plans: &[Plan]) -> Vec<Vec<f32>> {
    let stored = Csr::new(&case.graph);
    let batch = batch(case, stored.view(), model.features());
    let x = case.x(model.features());
    let x = &x[..case.graph.nodes * model.features()];
    answer(model, &stored, x, &batch, plans)
}

fn equal(name: &str, found: &[f32], wanted: &[f32]) -> Result<(), TestCaseError> {
    for (found, wanted) in found.iter().zip(wanted) {
        prop_assert!(close(*found, *wanted), "{name}: {found} {wanted}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn refreshed_nodes_see_new_edges_beside_what_was_stored(case in cases()) {
        let case = case.without_loops();
        for (name, model) in models() {
            let softmax = |layer: &crate::model::Layer| {
                let reduction = layer.conv.reduction();
                matches!(reduction, Reduction::Softmax { .. } | Reduction::Joint { .. })
            };
            // Beyond the first layer a refreshed node keeps the coefficients of its stored sources,
            // where a second node has coefficients of its own.
            if model.layers() > 2 && model.layers.iter().any(softmax) {
                continue;
            }
            let found = refreshed(&model, &case, &[Plan::Refresh]);
            equal(&name, &found[0], &reference(&model, &case))?;
        }
    }

    #[test]
    fn two_layers_without_drift_are_refreshed_exactly(case in cases()) {
        for (name, model) in models().into_iter().filter(|(_, model)| model.layers() <= 2) {
            let mut case = case.clone();
            if !model.scales().is_empty() {
                // No stored source whose factor the batch changes.
                let mut still = case.graph.edges.clone();
                still.retain(|&(s, _)| !case.is_touched(s) && !case.is_reader(s));
                case.graph.edges = still;
            }
            let found = refreshed(&model, &case, &[Plan::Refresh, Plan::Exact]);
            equal(&name, &found[0], &found[1])?;
        }
    }
}
