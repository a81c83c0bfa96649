//! Edges from a table: ids become positions, in a temporary file.

use super::{
    array::{Array, Scalar},
    ids::OwnedIds,
    ignored::{self, Ignored},
    staging::Staging,
    table::{self, Batch, Column, Table},
};
use crate::{
    NodeIdKind, NodeIds, Place, Progress, StoreError,
    error::{At, shown},
    node_ids::EMPTY,
};
use bytemuck::cast_slice;
use rayon::prelude::*;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

const SOURCE: [&str; 3] = ["source", "src", "from"];
const TARGET: [&str; 3] = ["target", "dst", "to"];

/// Edges of a table.
pub(crate) struct TableEdges {
    /// Integers `[2, edges]`.
    pub edges: Array,
    /// Columns that were left out, because the caller says so.
    pub skipped: Vec<String>,
}

/// Reads the edges between the nodes that `ids` names.
pub(crate) fn read(
    path: &Path,
    ids: &OwnedIds,
    ignored: Ignored<'_>,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<TableEdges, StoreError> {
    let mut table = table::open(
        path,
        &[SOURCE, TARGET].concat(),
        ids.kind() != NodeIdKind::String,
    )?;
    let columns = table.columns();
    let skipped = columns.iter().map(|column| column.name.clone());
    let skipped = skipped.filter(|name| ignored.has(name)).collect();
    let names = select(path, table.as_mut(), ignored)?;
    let file = staging.scratch("edges.raw");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&file).at(&file, "create it")?);
    let mut edges = 0;
    let mut positions = Vec::new();
    progress.start("reading edges", None);
    while let Some(batch) = table.next()? {
        let view = ids.view();
        (0..batch.rows)
            .into_par_iter()
            .map(|row| {
                let position = |column| position(view, &batch.columns[column], row);
                [position(0), position(1)]
            })
            .collect_into_vec(&mut positions);
        check(path, &names, &batch, &positions)?;
        out.write_all(cast_slice(&positions))
            .at(&file, "write it")?;
        edges += batch.rows;
        progress.advance(batch.rows as u64);
    }
    progress.finish();
    out.flush().at(&file, "write it")?;
    // Pairs one after another are what NumPy calls Fortran order.
    let edges = Array::of_raw(&file, Scalar::U32, [2, edges], true, (path, "edges"))?;
    Ok(TableEdges { edges, skipped })
}

/// Selects the columns of sources and targets, and gives their names.
fn select(
    path: &Path,
    table: &mut dyn Table,
    ignored: Ignored<'_>,
) -> Result<[String; 2], StoreError> {
    let columns = table.columns();
    if columns.is_empty() {
        // A file without a line is a graph without edges.
        return Ok([String::new(), String::new()]);
    }
    let kept: Vec<usize> = (0..columns.len())
        .filter(|&at| !ignored.has(&columns[at].name))
        .collect();
    if kept.len() < 2 {
        return Err(StoreError::Malformed {
            path: path.to_owned(),
            message: "one column only, but an edge has a source and a target".to_owned(),
        });
    }
    let find = |names: &[&str]| table::find(columns, &kept, names);
    let [source, target] = match (find(&SOURCE), find(&TARGET)) {
        (Some(source), Some(target)) => [source, target],
        _ => [kept[0], kept[1]],
    };
    let names = [columns[source].name.clone(), columns[target].name.clone()];
    if let Some(&lost) = kept.iter().find(|&&at| at != source && at != target) {
        let read = format!(
            ", only a source (here `{}`) and a target (`{}`)",
            names[0], names[1]
        );
        return Err(ignored::lost(path, "column", &columns[lost].name, &read));
    }
    table.select(&[source, target]);
    Ok(names)
}

/// The position of the node that a cell names; [`EMPTY`] where there is none.
fn position(ids: NodeIds<'_>, column: &Column, row: usize) -> u32 {
    let text_ids = ids.kind() == NodeIdKind::String;
    let found = match column {
        Column::Integer(cells) if text_ids => {
            ids.position_of_str(cells[row].to_string().as_bytes())
        }
        Column::Integer(cells) => ids.position_of_int(cells[row]),
        Column::Text(cells) if text_ids => ids.position_of_str(cells.get(row)),
        Column::Text(cells) => std::str::from_utf8(cells.get(row))
            .ok()
            .and_then(|text| text.parse().ok())
            .and_then(|id| ids.position_of_int(id)),
        Column::Float(_) | Column::List { .. } => None,
    };
    found.unwrap_or(EMPTY)
}

fn check(
    path: &Path,
    names: &[String; 2],
    batch: &Batch,
    positions: &[[u32; 2]],
) -> Result<(), StoreError> {
    let Some(row) = positions.iter().position(|edge| edge.contains(&EMPTY)) else {
        return Ok(());
    };
    let side = usize::from(positions[row][0] != EMPTY);
    let place: Place = batch.places.of(row);
    let (path, column) = (path.to_owned(), names[side].clone());
    let id = match &batch.columns[side] {
        Column::Integer(cells) => cells[row].to_string(),
        Column::Text(cells) => shown(cells.get(row)),
        Column::Float(_) | Column::List { .. } => {
            return Err(StoreError::Cell {
                path,
                place,
                column,
                message: "ids are integers or strings".to_owned(),
            });
        }
    };
    Err(StoreError::UnknownNode {
        path,
        place,
        column,
        id,
    })
}
