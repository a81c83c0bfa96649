//! Edges from a table: ids become positions, in a temporary file.

use super::{
    array::{Array, Scalar},
    ids::OwnedIds,
    ignored::{self, Ignored},
    options::Tables,
    staging::Staging,
    table::{self, Batch, Column, ColumnInfo, Table},
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
    path::{Path, PathBuf},
};

const SOURCE: [&str; 3] = ["source", "src", "from"];
const TARGET: [&str; 3] = ["target", "dst", "to"];
const WEIGHT: [&str; 2] = ["weight", "edge_weight"];

/// Edges of a table.
pub(crate) struct TableEdges {
    /// Integers `[2, edges]`.
    pub edges: Array,
    /// Numbers `[edges, 1]`, where the table has weights.
    pub weights: Option<Array>,
    /// Columns that were left out, because the caller says so.
    pub skipped: Vec<String>,
}

/// Reads the edges between the nodes that `ids` names.
pub(crate) fn read(
    tables: &Tables,
    ids: &OwnedIds,
    ignored: Ignored<'_>,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<TableEdges, StoreError> {
    let path = &tables.edges;
    let mut table = table::open(
        path,
        &[SOURCE, TARGET].concat(),
        ids.kind() != NodeIdKind::String,
    )?;
    let columns = table.columns();
    let skipped = columns.iter().map(|column| column.name.clone());
    let skipped = skipped.filter(|name| ignored.has(name)).collect();
    let names = select(tables, table.as_mut(), ignored)?;
    let mut weights = match names.get(2) {
        Some(column) => Some(Weights::create(path, column, staging)?),
        None => None,
    };
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
        if let Some(weights) = &mut weights {
            weights.take(&batch)?;
        }
        edges += batch.rows;
        progress.advance(batch.rows as u64);
    }
    progress.finish();
    out.flush().at(&file, "write it")?;
    // Pairs one after another are what NumPy calls Fortran order.
    let edges = Array::of_raw(&file, Scalar::U32, [2, edges], true, (path, "edges"))?;
    Ok(TableEdges {
        edges,
        weights: weights.map(Weights::finish).transpose()?,
        skipped,
    })
}

/// Selects the columns of sources, targets and, if there are any, weights, and gives their names.
fn select(
    tables: &Tables,
    table: &mut dyn Table,
    ignored: Ignored<'_>,
) -> Result<Vec<String>, StoreError> {
    let path = &tables.edges;
    let columns = table.columns();
    if columns.is_empty() {
        // A file without a line is a graph without edges.
        return Ok(vec![String::new(), String::new()]);
    }
    let kept: Vec<usize> = (0..columns.len())
        .filter(|&at| !ignored.has(&columns[at].name))
        .collect();
    let weight = weight_column(tables, columns, &kept)?;
    let kept: Vec<usize> = kept.into_iter().filter(|&at| Some(at) != weight).collect();
    if kept.len() < 2 {
        let beside = weight.map_or("", |_| " beside the weights");
        return Err(StoreError::Malformed {
            path: path.to_owned(),
            message: format!("one column only{beside}, but an edge has a source and a target"),
        });
    }
    let find = |names: &[&str]| table::find(columns, &kept, names);
    let [source, target] = match (find(&SOURCE), find(&TARGET)) {
        (Some(source), Some(target)) => [source, target],
        _ => [kept[0], kept[1]],
    };
    let selected: Vec<usize> = [source, target].into_iter().chain(weight).collect();
    let names: Vec<String> = selected
        .iter()
        .map(|&at| columns[at].name.clone())
        .collect();
    if let Some(&lost) = kept.iter().find(|&&at| at != source && at != target) {
        let read = format!(
            "; read are a source (here `{}`), a target (`{}`) and a weight ({})",
            names[0],
            names[1],
            names.get(2).map_or("none", String::as_str),
        );
        return Err(ignored::lost(path, "column", &columns[lost].name, &read));
    }
    table.select(&selected);
    Ok(names)
}

/// The column of weights: the one that the caller names, or one that is called so.
fn weight_column(
    tables: &Tables,
    columns: &[ColumnInfo],
    kept: &[usize],
) -> Result<Option<usize>, StoreError> {
    let Some(name) = &tables.weight_column else {
        return Ok(table::find(columns, kept, &WEIGHT));
    };
    match table::find(columns, kept, &[name]) {
        Some(at) => Ok(Some(at)),
        None => Err(StoreError::Unsupported {
            path: tables.edges.clone(),
            message: format!("no column is called `{name}`, which is to hold the weights"),
            hint: "columns of a table without a header are called 1, 2, 3, ...".to_owned(),
        }),
    }
}

/// Weights on their way to a temporary file.
struct Weights {
    path: PathBuf,
    column: String,
    file: PathBuf,
    out: BufWriter<File>,
    edges: usize,
}

impl Weights {
    fn create(path: &Path, column: &str, staging: &Staging) -> Result<Self, StoreError> {
        let file = staging.scratch("weights.raw");
        let out = File::create(&file).at(&file, "create it")?;
        Ok(Self {
            path: path.to_owned(),
            column: column.to_owned(),
            out: BufWriter::new(out),
            file,
            edges: 0,
        })
    }

    /// Takes the weights of some rows, which are in the third column.
    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut weights = Vec::with_capacity(batch.rows);
        for row in 0..batch.rows {
            let weight = weight(&batch.columns[2], row);
            weights.push(weight.map_err(|message| StoreError::Cell {
                path: self.path.clone(),
                place: batch.places.of(row),
                column: self.column.clone(),
                message,
            })?);
        }
        self.edges += batch.rows;
        self.out
            .write_all(cast_slice(&weights))
            .at(&self.file, "write it")
    }

    fn finish(mut self) -> Result<Array, StoreError> {
        self.out.flush().at(&self.file, "write it")?;
        let named = (self.path.as_path(), self.column.as_str());
        Array::of_raw(&self.file, Scalar::F32, [self.edges, 1], false, named)
    }
}

/// The weight in a cell.
fn weight(column: &Column, row: usize) -> Result<f32, String> {
    let (found, weight) = match column {
        Column::Integer(cells) => (cells[row].to_string(), cells[row] as f32),
        Column::Float(cells) => (cells[row].to_string(), cells[row] as f32),
        Column::Text(cells) => {
            let text = std::str::from_utf8(cells.get(row)).unwrap_or_default();
            (shown(cells.get(row)), text.parse().unwrap_or(f32::NAN))
        }
        Column::List { .. } => ("a list".to_owned(), f32::NAN),
    };
    if weight.is_finite() {
        Ok(weight)
    } else {
        Err(format!(
            "{found:?} is not a finite f32, but an edge has one weight; fill it in, leave the edge out, or leave the \
             column out with --ignore-column"
        ))
    }
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
    names: &[String],
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
