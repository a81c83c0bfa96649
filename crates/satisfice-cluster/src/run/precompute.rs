//! The embeddings of every stored node, computed where the nodes are: the layers that answer batches, over
//! all nodes chunk by chunk, without a batch.

use super::{Desk, Run, layer::AtHand};
use crate::{
    ClusterError, PartPrecision,
    job::Job,
    mail::Post,
    partition::append,
    slab::{SlabReader, SlabWriter},
};
use satisfice_store::{DType, TensorSpec, TensorWriter};
use std::cell::Cell;

/// Nodes of the graph that are computed between two exchanges.
const CHUNK_NODES: usize = 16_384;

/// One table that a model reads while it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// Values after a layer; of level 0, before the first.
    Values(usize),
    /// What nodes send as sources of a layer (from 1).
    Messages(usize),
}

impl Table {
    fn name(self) -> String {
        match self {
            Self::Values(level) => format!("h{level}"),
            Self::Messages(layer) => format!("m{layer}"),
        }
    }
}

/// Computes the tables that any worker lacks, in order; one that is finished at all is kept. Every table
/// is written when it is whole, so a run that is cut off goes on where it stopped.
pub(super) async fn run(
    desk: &Desk,
    post: &Post,
    precision: PartPrecision,
    begun_by: usize,
) -> Result<Option<Vec<String>>, ClusterError> {
    let job = Job::empty();
    let run = Run {
        desk,
        post,
        job: &job,
        initial: Vec::new(),
        edges: Cell::new(0),
        layer_bytes: Cell::new(0),
        rows_moved: Cell::new(0),
    };
    let tables = tables(desk);
    let missing = desk.part.missing_tables();
    let finished = tables
        .iter()
        .take_while(|table| !missing.contains(&table.name()))
        .count();
    let mut writer = SlabWriter::default();
    writer.u32s(&[finished as u32]);
    let received = post.all_gather(writer.finish()).await;
    let mut start = tables.len();
    for (worker, message) in received.iter().enumerate() {
        let mut reader = SlabReader::new(message, worker);
        let finished = reader.u32s()?;
        reader.check(finished.len() == 1)?;
        start = start.min(finished[0] as usize);
    }
    for &table in &tables[start..] {
        run.compute(table, precision).await?;
    }
    post.gather(begun_by, Vec::new()).await;
    let names = tables[start..].iter().map(|table| table.name());
    Ok((post.worker == begun_by).then(|| names.collect()))
}

fn tables(desk: &Desk) -> Vec<Table> {
    let model = desk.part.model();
    let mut tables = Vec::new();
    for level in 0..model.layers() {
        if level > 0 || model.has_input() {
            tables.push(Table::Values(level));
        }
        if model.split_layer(level).makes_messages() {
            tables.push(Table::Messages(level + 1));
        }
    }
    tables
}

impl Run<'_> {
    /// Computes and writes the worker's rows of a table.
    async fn compute(&self, table: Table, precision: PartPrecision) -> Result<(), ClusterError> {
        let part = &self.desk.part;
        let model = part.model();
        let (width, tensor) = match table {
            Table::Values(level) => (model.level_width(level), "h"),
            Table::Messages(layer) => (model.message_width(layer), "m"),
        };
        let dtype = match precision {
            PartPrecision::F16 => DType::F16,
            PartPrecision::F32 => DType::F32,
        };
        let rows = part.manifest().nodes;
        let path = part.dir().join(format!("{}.safetensors", table.name()));
        let spec = TensorSpec::new(tensor, dtype, vec![rows, width]);
        let mut writer = TensorWriter::create(&path, &[spec])?;
        match table {
            Table::Values(level) if level > 0 => {
                for start in (0..part.manifest().graph_nodes).step_by(CHUNK_NODES) {
                    let values = self.chunk(level, start).await?;
                    append(&mut writer, dtype, &values)?;
                }
            }
            local => {
                for start in (0..rows).step_by(CHUNK_NODES) {
                    let end = rows.min(start + CHUNK_NODES);
                    append(&mut writer, dtype, &self.of_rows(local, start, end)?)?;
                }
            }
        }
        let record = writer.finish()?;
        tracing::info!(worker = self.post.worker, table = record.name, "computed");
        part.add_table(&record)
    }

    /// Values after a layer of the worker's nodes among [`CHUNK_NODES`] from `start`.
    async fn chunk(&self, level: usize, start: usize) -> Result<Vec<f32>, ClusterError> {
        let mut nodes = vec![Vec::new(); self.post.workers];
        let owners = self.desk.part.owners()?;
        let end = owners.len().min(start + CHUNK_NODES);
        for (node, &owner) in owners[start..end].iter().enumerate() {
            nodes[owner as usize].push((start + node) as u32);
        }
        let nothing = AtHand {
            values: Vec::new(),
            rows: Vec::new(),
        };
        Ok(self.layer(level - 1, &nothing, &nodes).await?.values)
    }

    /// Rows of a table that need no other node.
    fn of_rows(&self, table: Table, start: usize, end: usize) -> Result<Vec<f32>, ClusterError> {
        let part = &self.desk.part;
        let model = part.model();
        let read = |rows: satisfice_kernels::Rows<'_>| {
            let mut values = vec![0.0; (end - start) * rows.width()];
            let out = values.chunks_exact_mut(rows.width());
            for (out, row) in out.zip(start..end) {
                rows.read(row, out);
            }
            values
        };
        match table {
            Table::Values(_) => Ok(model.apply_input(read(part.features()?))),
            Table::Messages(layer) => {
                let below = part.level(layer - 1)?;
                let split = model.split_layer(layer - 1);
                Ok(split.messages(read(below), below.width()))
            }
        }
    }
}
