//! The embeddings of every stored node, computed where the nodes are: the layers that answer batches, over
//! all nodes chunk by chunk, without a batch.

use super::{
    ByOwner, Desk, Run,
    layer::{AtHand, Layer, complete},
};
use crate::{
    ClusterError, PartPrecision,
    job::Job,
    mail::Post,
    part::Part,
    partition::append,
    slab::{SlabReader, SlabWriter},
};
use satisfice_kernels::Rows;
use satisfice_store::{DType, TensorSpec, TensorWriter};
use std::{cell::Cell, collections::BTreeSet, ops::Range, sync::atomic::AtomicU64};

/// Nodes of the graph that are computed between two exchanges.
const CHUNK_NODES: usize = 16_384;

/// No row at hand.
const NOTHING: AtHand = AtHand {
    values: Vec::new(),
    rows: Vec::new(),
};

/// One table that a model reads while it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// Values after a layer; of level 0, before the first.
    Values(usize),
    /// What nodes send as sources of a layer (from 1).
    Messages(usize),
    /// What a layer (from 1) reduces the sources of each node to.
    Sums(usize),
    /// What the first layer adds of the nodes' own values.
    Own,
}

impl Table {
    fn name(self) -> String {
        match self {
            Self::Values(level) => format!("h{level}"),
            Self::Messages(layer) => format!("m{layer}"),
            Self::Sums(layer) => format!("s{layer}"),
            Self::Own => "o1".to_owned(),
        }
    }

    fn is_there(self, part: &Part) -> Result<bool, ClusterError> {
        Ok(match self {
            Self::Values(level) => part.level(level).is_ok(),
            Self::Messages(layer) => part.message_rows(layer - 1).is_ok(),
            Self::Sums(layer) => part.kept_rows(layer - 1)?.is_some(),
            Self::Own => part.own_terms(0)?.is_some(),
        })
    }
}

/// Computes the tables that any worker lacks, in order; one that is finished at all is kept. Every table
/// is written when it is whole, so a run that is cut off goes on where it stopped. Values follow from
/// what their sources are reduced to.
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
        rows: AtomicU64::new(0),
        layer_bytes: Cell::new(0),
        rows_moved: Cell::new(0),
    };
    let tables = tables(desk);
    let mut missing = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        if !table.is_there(&desk.part)? {
            missing.push(at as u32);
        }
    }
    let mut writer = SlabWriter::default();
    writer.u32s(&missing);
    let received = post.all_gather(writer.finish()).await;
    let mut wanted = BTreeSet::new();
    for (worker, message) in received.iter().enumerate() {
        let mut reader = SlabReader::new(message, worker);
        let missing = reader.u32s()?;
        reader.check(missing.iter().all(|&at| (at as usize) < tables.len()))?;
        wanted.extend(missing.iter().map(|&at| at as usize));
    }
    for &at in &wanted {
        run.compute(tables[at], precision).await?;
    }
    post.gather(begun_by, Vec::new()).await;
    let names = wanted.iter().map(|&at| tables[at].name());
    Ok((post.worker == begun_by).then(|| names.collect()))
}

fn tables(desk: &Desk) -> Vec<Table> {
    let model = desk.part.model();
    let mut tables = Vec::new();
    for level in 0..model.layers() {
        if level > 0 || model.has_input() {
            tables.push(Table::Values(level));
        }
        let split = model.split_layer(level);
        if split.makes_messages() {
            tables.push(Table::Messages(level + 1));
        }
        if level + 1 < model.layers() {
            tables.push(Table::Sums(level + 1));
            if level == 0 && split.own_width() > 0 {
                tables.push(Table::Own);
            }
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
            Table::Sums(layer) => (model.split_layer(layer - 1).partial_width(), "s"),
            Table::Own => (model.split_layer(0).own_width(), "o"),
        };
        let dtype = match (precision, table) {
            (PartPrecision::F32, _) | (_, Table::Sums(_)) => DType::F32,
            (PartPrecision::F16, _) => DType::F16,
        };
        let rows = part.manifest().nodes;
        let path = part.dir().join(format!("{}.safetensors", table.name()));
        let spec = TensorSpec::new(tensor, dtype, vec![rows, width]);
        let to = TensorWriter::create(&path, &[spec])?;
        let mut writer = Writer { to, dtype };
        match table {
            Table::Sums(layer) => {
                for start in (0..part.manifest().graph_nodes).step_by(CHUNK_NODES) {
                    let nodes = self.chunk(start)?;
                    let reduced = self.reduced(layer - 1, &NOTHING, (&nodes, false)).await?;
                    let (mut reduced, _, rows) = reduced;
                    self.clear_sourceless(layer - 1, &rows, &mut reduced)?;
                    writer.append(&reduced)?;
                }
            }
            Table::Values(level) if level > 0 && part.kept_rows(level - 1)?.is_none() => {
                for start in (0..part.manifest().graph_nodes).step_by(CHUNK_NODES) {
                    let nodes = self.chunk(start)?;
                    let layer = self.layer(level - 1, &NOTHING, (&nodes, false)).await?;
                    writer.append(&layer.values)?;
                }
            }
            Table::Values(0) => self.locally(&mut writer, |rows| {
                Ok(model.apply_input(read(part.features()?, rows)))
            })?,
            Table::Values(level) => {
                self.locally(&mut writer, |rows| self.completed(level, rows))?;
            }
            Table::Messages(layer) => self.locally(&mut writer, |rows| {
                let level = part.level(model.level_read(layer - 1))?;
                Ok(model.split_layer(layer - 1).messages(&read(level, rows)))
            })?,
            Table::Own => self.locally(&mut writer, |rows| {
                Ok(model.split_layer(0).own(&read(part.level(0)?, rows)))
            })?,
        }
        let record = writer.to.finish()?;
        tracing::info!(worker = self.post.worker, table = record.name, "computed");
        part.add_table(&record)
    }

    /// The nodes among [`CHUNK_NODES`] from `start`, by owner.
    fn chunk(&self, start: usize) -> Result<ByOwner, ClusterError> {
        let mut nodes = vec![Vec::new(); self.post.workers];
        let owners = self.desk.part.owners()?;
        let end = owners.len().min(start + CHUNK_NODES);
        for (node, &owner) in owners[start..end].iter().enumerate() {
            nodes[owner as usize].push((start + node) as u32);
        }
        Ok(nodes)
    }

    /// Writes a table whose rows need no other node than what is kept of it, chunk by chunk.
    fn locally(
        &self,
        writer: &mut Writer,
        values: impl Fn(Range<usize>) -> Result<Vec<f32>, ClusterError>,
    ) -> Result<(), ClusterError> {
        let rows = self.desk.part.manifest().nodes;
        for start in (0..rows).step_by(CHUNK_NODES) {
            writer.append(&values(start..rows.min(start + CHUNK_NODES))?)?;
        }
        Ok(())
    }

    /// Sets what the sources of nodes without any are reduced to to 0, which is what is kept of them.
    fn clear_sourceless(
        &self,
        index: usize,
        rows: &[u32],
        reduced: &mut [f32],
    ) -> Result<(), ClusterError> {
        let part = &self.desk.part;
        let (view, split) = (part.view()?, part.model().split_layer(index));
        let kept = reduced.chunks_exact_mut(split.partial_width());
        for (kept, &row) in kept.zip(rows) {
            if !view.has_sources(row, split.without_self()) {
                kept.fill(0.0);
            }
        }
        Ok(())
    }

    /// Values of some rows after a layer (from 1) of which it is kept what their sources are reduced to.
    fn completed(&self, layer: usize, rows: Range<usize>) -> Result<Vec<f32>, ClusterError> {
        let part = &self.desk.part;
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let own = self.own_rows(layer - 1, (&NOTHING, &NOTHING), &[], &rows)?;
        let split = part.model().split_layer(layer - 1);
        let kept = Layer {
            index: layer - 1,
            keeps: true,
        };
        let reduced = self.cleared(kept, 0, &rows)?;
        Ok(complete(split, &reduced, &own, rows.len()))
    }
}

/// Rows of a table, `[rows, width]`.
fn read(table: Rows<'_>, rows: Range<usize>) -> Vec<f32> {
    let mut values = vec![0.0; rows.len() * table.width()];
    let out = values.chunks_exact_mut(table.width());
    out.zip(rows).for_each(|(out, row)| table.read(row, out));
    values
}

/// A table that is written in a precision.
struct Writer {
    to: TensorWriter,
    dtype: DType,
}

impl Writer {
    fn append(&mut self, values: &[f32]) -> Result<(), ClusterError> {
        append(&mut self.to, self.dtype, values)
    }
}
