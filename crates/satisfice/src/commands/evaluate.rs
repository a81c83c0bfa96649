use super::Output;
use crate::{
    cli::Evaluate,
    measure::{Answerer, BatchAnswer, measure, passes},
    progress::Bars,
    report,
};
use anyhow::{Result, bail};
use satisfice_graph::{Attachment, Direction, GraphEngine, ModelDir, Plan};
use satisfice_store::{Check, GraphStore, Progress, Queries, QuerySlice};
use serde_json::json;
use std::sync::Arc;

pub(crate) fn run(args: &Evaluate, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Structure)?);
    let engine = GraphEngine::open(&model_dir, store, Check::Structure)?;
    let queries = Queries::open(&args.queries)?;
    let directed = !engine.store().manifest().undirected;
    if directed
        && queries
            .batch(0..queries.len().min(1))
            .edge_direction
            .is_none()
    {
        bail!(
            "{}: the graph is directed, but the queries' edges have no direction: \
             write `edge_direction` (docs/formats.md)",
            args.queries.display()
        );
    }
    let grid = &args.grid;
    let bars = Bars::default();
    let count = grid
        .limit
        .map_or(queries.len(), |limit| limit.min(queries.len()));
    let plans = grid.plans();
    let total = count * passes(&plans, &grid.batches);
    bars.start("evaluating", Some(total as u64));
    let rows = measure(
        &mut InProcess(&engine),
        &queries,
        &plans,
        &grid.batches,
        grid.limit,
        &|answered| bars.advance(answered as u64),
    )?;
    bars.finish();
    let document = json!({ "models": [{ "name": model_dir.name(), "rows": rows }] });
    output.print(&document, || report::table(&rows))
}

/// An engine in this process.
struct InProcess<'a>(&'a GraphEngine);

impl Answerer for InProcess<'_> {
    fn answer(&mut self, slice: &QuerySlice, plan: Plan) -> Result<BatchAnswer> {
        let batch = self.0.attach(attachment(slice))?;
        let answer = self.0.answer(&batch, plan)?;
        Ok(BatchAnswer {
            outputs: answer.outputs,
            edges: answer.edges,
            rows: answer.rows,
        })
    }
}

fn attachment(slice: &QuerySlice) -> Attachment {
    let direction = |edge: usize| match slice.edge_direction.as_ref().map(|d| d[edge]) {
        Some(1) => Direction::In,
        Some(2) => Direction::Out,
        _ => Direction::Both,
    };
    let edges = slice.edge_query.iter().zip(&slice.edge_node);
    Attachment {
        x: slice.x.clone(),
        queries: slice.queries(),
        edges: edges
            .enumerate()
            .map(|(edge, (&query, &node))| (query, node, direction(edge)))
            .collect(),
        query_edges: slice.query_edges.clone(),
    }
}
