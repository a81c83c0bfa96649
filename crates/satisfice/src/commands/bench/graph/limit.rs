//! How long a batch takes at the least: the time to move what it must, as quickly as this machine reads.

use crate::measure::Row;
use anyhow::Result;
use satisfice_graph::{GraphEngine, Plan};
use satisfice_store::{Queries, QuerySlice};

/// Batches of a row whose bytes are counted at most.
const COUNTED_MAX: usize = 64;

/// Gives each row its limit: the bytes of a batch's arrays, and of the different rows that its plan reads and computes,
/// each once, over `read`, bytes per second; the median over up to [`COUNTED_MAX`] of the row's batches.
pub(super) fn limit(
    rows: &mut [Row],
    (engine, queries): (&GraphEngine, &Queries),
    read: f64,
) -> Result<()> {
    for row in rows {
        let (plan, count): (Plan, _) = (row.plan.parse()?, row.queries);
        let starts: Vec<usize> = (0..count).step_by(row.batch).collect();
        let every = starts.len().div_ceil(COUNTED_MAX);
        let mut bytes = Vec::new();
        for start in starts.into_iter().step_by(every) {
            let slice = queries.batch(start..count.min(start + row.batch));
            let batch = engine.attach(&slice)?;
            bytes.push(request_bytes(&slice) + engine.footprint(&batch, plan)?);
        }
        bytes.sort_unstable();
        row.limit_ms = Some(bytes[(bytes.len() - 1) / 2] as f64 / read * 1e3);
    }
    Ok(())
}

/// Bytes of a batch's arrays: features, and ids of 4 bytes.
fn request_bytes(slice: &QuerySlice) -> u64 {
    let ids = size_of_val(&slice.edge_query[..]) + size_of_val(&slice.edge_node[..]);
    let directions = slice.edge_direction.as_deref().map_or(0, size_of_val);
    let between = size_of_val(&slice.query_edges[..]);
    (size_of_val(&slice.x[..]) + ids + directions + between) as u64
}
