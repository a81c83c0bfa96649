//! The bundled Debian graph: every plan equals the logits that PyTorch Geometric computed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use safetensors::SafeTensors;
use satisfice_graph::{Attachment, Direction, Plan, PrecomputeOptions};
use satisfice_store::Queries;
use std::fs;

struct Reference(Vec<u8>);

impl Reference {
    fn f32(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    fn i32(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.as_chunks()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect()
    }
}

/// The queries at `positions`, in that order, with the edges among them.
fn attachment(queries: &Queries, positions: &[u32]) -> Attachment {
    let mut batch = Attachment {
        queries: positions.len(),
        ..Attachment::default()
    };
    let all = queries.batch(0..queries.len());
    let row_of = |query: u32| positions.binary_search(&query).ok().map(|row| row as u32);
    let width = all.x.len() / queries.len();
    for &position in positions {
        batch
            .x
            .extend_from_slice(&all.x[position as usize * width..][..width]);
    }
    for (&query, &node) in all.edge_query.iter().zip(&all.edge_node) {
        if let Some(row) = row_of(query) {
            batch.edges.push((row, node, Direction::Both));
        }
    }
    for &(source, target) in &all.query_edges {
        if let (Some(source), Some(target)) = (row_of(source), row_of(target)) {
            batch.query_edges.push((source, target));
        }
    }
    batch
}

#[test]
fn every_plan_equals_pyg_on_the_reference_batches() {
    let reference = Reference(fs::read(support::bundle().join("reference.safetensors")).unwrap());
    let queries = Queries::open(&support::bundle().join("queries.safetensors")).unwrap();
    for model in ["gcn2", "sage2"] {
        let ready = support::debian(model, PrecomputeOptions::default());
        for size in [256, 1024] {
            let positions = reference.i32(&format!("queries_{size}"));
            let batch = ready
                .engine
                .attach(attachment(&queries, &positions))
                .unwrap();
            let plans = [
                ("exact", Plan::Exact),
                ("pe", Plan::Precomputed),
                ("recompute_25", Plan::recompute(0.25)),
            ];
            for (name, plan) in plans {
                let answer = ready.engine.answer(&batch, plan).unwrap();
                let wanted = reference.f32(&format!("{model}_{name}_{size}"));
                let difference = support::difference(&answer.outputs, &wanted);
                println!("{model} {size} {name}: largest difference {difference}");
                assert!(difference <= 1e-3, "{model} {size} {name}: {difference}");
                if name == "recompute_25" {
                    let wanted = reference.i32(&format!("recompute_ids_{size}"));
                    assert_eq!(answer.recomputed, wanted, "{model} {size}");
                }
            }
        }
    }
}
