use super::Output;
use crate::{
    cli::Evaluate,
    measure::{Answerer, BatchAnswer, Document, ModelRows, measure},
    report,
};
use anyhow::{Result, bail};
use satisfice_graph::{GraphEngine, ModelDir, Plan};
use satisfice_store::{Check, GraphStore, Queries, QuerySlice};
use std::sync::Arc;

pub(crate) fn run(args: &Evaluate, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Structure)?);
    let engine = GraphEngine::open(&model_dir, store, Check::Structure)?;
    let queries = Queries::open(&args.queries)?;
    let directed = !engine.store().manifest().undirected;
    if directed && !queries.has_directions() {
        bail!(
            "{}: the graph is directed, but the queries' edges have no direction: \
             write `edge_direction` (docs/formats.md)",
            args.queries.display()
        );
    }
    let rows = measure(&mut InProcess(&engine), &queries, &args.grid, "evaluating")?;
    let document = Document {
        models: vec![ModelRows {
            name: model_dir.name(),
            rows,
        }],
    };
    output.print(&document, || report::table(&document.models[0].rows))
}

/// An engine in this process.
pub(super) struct InProcess<'a>(pub &'a GraphEngine);

impl Answerer for InProcess<'_> {
    fn answer(&mut self, slice: &QuerySlice, plan: Plan) -> Result<BatchAnswer> {
        let batch = self.0.attach(slice)?;
        let answer = self.0.answer(&batch, plan)?;
        Ok(BatchAnswer {
            outputs: answer.outputs,
            edges: answer.edges,
            rows: answer.rows,
        })
    }
}
