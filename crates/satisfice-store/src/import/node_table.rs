//! Nodes from a table: ids, features and labels.

use super::{
    GraphInput, Tables,
    array::{Array, Scalar},
    edge_table, features,
    ids::{IdCollector, OwnedIds, integer},
    ignored::Ignored,
    labels, npy,
    staging::Staging,
    table::{self, Batch, Column, ColumnInfo, ColumnKind, Table},
};
use crate::{
    Progress, StoreError,
    error::{At, shown},
    node_ids::NODES_MAX,
};
use bytemuck::cast_slice;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

const ID: [&str; 3] = ["id", "node_id", "node"];
const LABEL: [&str; 3] = ["label", "y", "class"];
const FEATURES: [&str; 2] = ["x", "features"];

/// Reads both tables, and the arrays beside them if there are any.
pub(crate) fn read_graph(
    tables: &Tables,
    ignored: Ignored<'_>,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<GraphInput, StoreError> {
    let path = &tables.nodes;
    let mut nodes = NodeReader::open(tables, ignored, staging)?;
    progress.start("reading nodes", None);
    while let Some(batch) = nodes.table.next()? {
        nodes.take(&batch)?;
        progress.advance(batch.rows as u64);
    }
    progress.finish();
    let nodes = nodes.finish()?;
    let count = nodes.ids.len();
    if !(1..=NODES_MAX).contains(&count) {
        return Err(StoreError::NodeCount {
            path: path.clone(),
            nodes: count,
        });
    }
    let features = match &tables.features {
        Some(path) => features_beside(path, count)?,
        None => nodes.features()?,
    };
    let (labels, classes) = match &tables.labels {
        Some(path) => (
            Some(labels::of_array(&npy::open(path, "labels")?, count, None)?),
            None,
        ),
        None => nodes.labels.map_or((None, None), Labels::finish),
    };
    let edges = edge_table::read(tables, &nodes.ids, ignored, staging, progress)?;
    let mut skipped_columns = nodes.skipped_columns;
    skipped_columns.extend(edges.skipped);
    Ok(GraphInput {
        path: path.clone(),
        nodes: count,
        edges: edges.edges,
        weights: edges.weights,
        features,
        labels,
        classes,
        ids: nodes.ids,
        undirected: false,
        skipped_columns,
    })
}

fn features_beside(path: &Path, nodes: usize) -> Result<Array, StoreError> {
    let array = npy::open(path, "features")?;
    let [rows, _] = features::shape(&array)?;
    if rows == nodes {
        Ok(array)
    } else {
        Err(array.malformed(format!("{rows} rows, but the node table has {nodes}")))
    }
}

/// A node table being read.
struct NodeReader<'a> {
    path: &'a Path,
    table: Box<dyn Table>,
    /// Names of the selected columns: the id, the label if there is one, the features.
    names: Vec<String>,
    ids: IdCollector,
    labels: Option<Labels>,
    features: FeatureSpill,
    skipped_columns: Vec<String>,
    rows: usize,
}

/// A node table that was read.
struct Nodes {
    path: PathBuf,
    ids: OwnedIds,
    labels: Option<Labels>,
    /// The temporary file, and the width of the features.
    features: (PathBuf, usize),
    skipped_columns: Vec<String>,
}

impl Nodes {
    fn features(&self) -> Result<Array, StoreError> {
        let (file, width) = &self.features;
        let shape = [self.ids.len(), *width];
        Array::of_raw(file, Scalar::F32, shape, false, (&self.path, "features"))
    }
}

impl<'a> NodeReader<'a> {
    fn open(
        tables: &'a Tables,
        ignored: Ignored<'_>,
        staging: &Staging,
    ) -> Result<Self, StoreError> {
        let path = tables.nodes.as_path();
        let mut known = [&ID[..], &LABEL, &FEATURES].concat();
        known.extend(tables.id_column.as_deref());
        let mut table = table::open(path, &known, true)?;
        let choice = Choice::of(table.columns(), tables, ignored)?;
        let names = choice
            .selected()
            .map(|at| table.columns()[at].name.clone())
            .collect();
        table.select(&choice.selected().collect::<Vec<_>>());
        Ok(Self {
            path,
            table,
            names,
            ids: IdCollector::default(),
            labels: choice.label.map(|_| Labels::default()),
            features: FeatureSpill::create(staging.scratch("features.raw"))?,
            skipped_columns: choice.skipped,
            rows: 0,
        })
    }

    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let first = 1 + usize::from(self.labels.is_some());
        for row in 0..batch.rows {
            self.take_id(batch, row)?;
            if let Some(labels) = &mut self.labels {
                labels
                    .push(&batch.columns[1], row)
                    .map_err(|message| cell(self.path, &self.names, batch, (row, 1), message))?;
            }
            for (at, column) in batch.columns.iter().enumerate().skip(first) {
                self.features
                    .push(column, row)
                    .map_err(|message| cell(self.path, &self.names, batch, (row, at), message))?;
            }
        }
        self.rows += batch.rows;
        if self.rows > NODES_MAX {
            return Err(StoreError::NodeCount {
                path: self.path.to_owned(),
                nodes: self.rows,
            });
        }
        self.features.flush(self.rows)
    }

    fn take_id(&mut self, batch: &Batch, row: usize) -> Result<(), StoreError> {
        let wrong = |message: &str| {
            Err(cell(
                self.path,
                &self.names,
                batch,
                (row, 0),
                message.to_owned(),
            ))
        };
        match &batch.columns[0] {
            Column::Integer(cells) => self.ids.push_integer(cells[row]),
            Column::Text(cells) => match std::str::from_utf8(cells.get(row)) {
                Ok("") => return wrong("the node has no id"),
                Ok(text) => self.ids.push_text(text),
                Err(_) => return wrong("the id is not UTF-8"),
            },
            Column::Float(_) | Column::List { .. } => return wrong("ids are integers or strings"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Nodes, StoreError> {
        Ok(Nodes {
            path: self.path.to_owned(),
            ids: self.ids.finish(self.path)?,
            labels: self.labels,
            features: self.features.finish()?,
            skipped_columns: self.skipped_columns,
        })
    }
}

fn cell(
    path: &Path,
    names: &[String],
    batch: &Batch,
    (row, column): (usize, usize),
    message: String,
) -> StoreError {
    StoreError::Cell {
        path: path.to_owned(),
        place: batch.places.of(row),
        column: names[column].clone(),
        message,
    }
}

/// Which columns of a node table are what.
struct Choice {
    id: Option<usize>,
    label: Option<usize>,
    features: Vec<usize>,
    skipped: Vec<String>,
}

impl Choice {
    fn of(
        columns: &[ColumnInfo],
        tables: &Tables,
        ignored: Ignored<'_>,
    ) -> Result<Self, StoreError> {
        let kept: Vec<usize> = (0..columns.len())
            .filter(|&at| !ignored.has(&columns[at].name))
            .collect();
        let id = id_column(columns, &kept, tables)?;
        let find = |names: &[&str]| table::find(columns, &kept, names);
        let named_label = find(&LABEL).filter(|at| Some(*at) != id);
        let list = find(&FEATURES).filter(|&at| columns[at].kind == ColumnKind::List);
        let mut choice = Self {
            id,
            label: named_label.filter(|_| tables.labels.is_none()),
            features: Vec::new(),
            skipped: Vec::new(),
        };
        for (at, column) in columns.iter().enumerate() {
            if Some(at) == id || Some(at) == choice.label {
                continue;
            }
            let number = matches!(column.kind, ColumnKind::Integer | ColumnKind::Float);
            let wanted = list.map_or(number, |list| list == at);
            let wanted = wanted && Some(at) != named_label && kept.contains(&at);
            if wanted && tables.features.is_none() {
                choice.features.push(at);
            } else {
                choice.skipped.push(column.name.clone());
            }
        }
        Ok(choice)
    }

    fn selected(&self) -> impl Iterator<Item = usize> {
        self.id
            .into_iter()
            .chain(self.label)
            .chain(self.features.iter().copied())
    }
}

/// The column of ids; none of a table without columns. A column of numbers that nothing calls an id may be a
/// feature whose values differ by chance, so it is not taken for one.
fn id_column(
    columns: &[ColumnInfo],
    kept: &[usize],
    tables: &Tables,
) -> Result<Option<usize>, StoreError> {
    let refused = |message: String| {
        Err(StoreError::Unsupported {
            path: tables.nodes.clone(),
            message,
            hint: "call the column of ids `id`, or name it with --id-column; where nodes have no ids, \
                   add a column `id` that counts from 0"
                .to_owned(),
        })
    };
    if let Some(name) = &tables.id_column {
        return match table::find(columns, kept, &[name]) {
            None => refused(format!("no column is called `{name}`")),
            found => Ok(found),
        };
    }
    let Some(&first) = kept.first() else {
        return Ok(None);
    };
    if let Some(named) = table::find(columns, kept, &ID) {
        return Ok(Some(named));
    }
    let column = &columns[first];
    let cannot_be_a_feature = column.kind == ColumnKind::Text
        || (column.kind == ColumnKind::Integer && reads_as_id(&column.name))
        || tables.features.is_some()
        || kept.len() == 1;
    if cannot_be_a_feature {
        return Ok(Some(first));
    }
    refused(format!(
        "no column is called `id`, and the first, `{}`, holds numbers, which may be a feature",
        column.name
    ))
}

/// Whether a name ends in the word "id": `paper_id`, `userId`, `ID`.
fn reads_as_id(name: &str) -> bool {
    let Some(before) = name
        .len()
        .checked_sub(2)
        .filter(|&at| name.is_char_boundary(at))
    else {
        return false;
    };
    let (before, end) = name.split_at(before);
    match end {
        "Id" | "ID" => true,
        "id" => !before.ends_with(char::is_alphanumeric),
        _ => false,
    }
}

/// Labels as they come: classes by name until it is seen that all names are numbers.
#[derive(Debug, Default)]
struct Labels {
    /// The class of each node, by first appearance; -1 = unknown.
    classes: Vec<i32>,
    names: Vec<String>,
    by_name: HashMap<String, i32>,
}

impl Labels {
    fn push(&mut self, column: &Column, row: usize) -> Result<(), String> {
        const WRONG: &str =
            "labels are whole numbers from 0, -1 where unknown, or names of classes";
        let name = match column {
            Column::Integer(cells) => cells[row].to_string(),
            Column::Float(cells) if cells[row].is_nan() => String::new(),
            Column::Float(cells) if cells[row].fract() == 0.0 => format!("{:.0}", cells[row]),
            Column::Text(cells) => std::str::from_utf8(cells.get(row))
                .map_err(|_| "the label is not UTF-8".to_owned())?
                .to_owned(),
            Column::Float(_) | Column::List { .. } => return Err(WRONG.to_owned()),
        };
        // Large numbers as text are names of classes, as other text is.
        let end = if matches!(column, Column::Text(_)) {
            i64::MAX
        } else {
            i32::MAX.into()
        };
        if integer(&name).is_some_and(|number| number < -1 || number >= end) {
            return Err(WRONG.to_owned());
        }
        let class = match (name.as_str(), self.by_name.get(&name)) {
            ("" | "-1", _) => -1,
            (_, Some(&class)) => class,
            (_, None) => {
                let class = self.names.len() as i32;
                self.names.push(name.clone());
                self.by_name.insert(name, class);
                class
            }
        };
        self.classes.push(class);
        Ok(())
    }

    /// The labels, and the classes' names in order where they have names.
    fn finish(self) -> (Option<Vec<i32>>, Option<Vec<String>>) {
        let number = |name: &String| integer(name).and_then(|n| i32::try_from(n).ok());
        let numbers: Option<Vec<i32>> = self
            .names
            .iter()
            .map(|name| number(name).filter(|&n| n >= -1))
            .collect();
        if let Some(numbers) = numbers {
            return (Some(relabel(&self.classes, &numbers)), None);
        }
        let mut sorted = self.names.clone();
        sorted.sort_unstable();
        let place = |name: &String| sorted.binary_search(name).map_or(-1, |at| at as i32);
        let places: Vec<i32> = self.names.iter().map(place).collect();
        (Some(relabel(&self.classes, &places)), Some(sorted))
    }
}

fn relabel(classes: &[i32], to: &[i32]) -> Vec<i32> {
    let label = |&class: &i32| usize::try_from(class).map_or(-1, |class| to[class]);
    classes.iter().map(label).collect()
}

/// Features on their way to a temporary file, as f32.
#[derive(Debug)]
struct FeatureSpill {
    path: PathBuf,
    out: BufWriter<File>,
    values: Vec<f32>,
    written: usize,
    width: usize,
}

impl FeatureSpill {
    fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = File::create(&path).at(&path, "create it")?;
        Ok(Self {
            path,
            out: BufWriter::with_capacity(1 << 20, file),
            values: Vec::new(),
            written: 0,
            width: 0,
        })
    }

    /// Takes the features of a row in one column.
    fn push(&mut self, column: &Column, row: usize) -> Result<(), String> {
        match column {
            Column::Integer(cells) => self.values.push(cells[row] as f32),
            Column::Float(cells) => self.values.push(finite(cells[row])?),
            Column::Text(cells) => self.values.push(parse(cells.get(row))?),
            Column::List { values, width } => {
                for &value in &values[row * width..(row + 1) * width] {
                    self.values.push(finite(value)?);
                }
            }
        }
        Ok(())
    }

    /// Writes what was taken of `rows` rows in all.
    fn flush(&mut self, rows: usize) -> Result<(), StoreError> {
        self.out
            .write_all(cast_slice(&self.values))
            .at(&self.path, "write it")?;
        self.written += self.values.len();
        self.values.clear();
        self.width = self.written / rows.max(1);
        Ok(())
    }

    fn finish(mut self) -> Result<(PathBuf, usize), StoreError> {
        self.out.flush().at(&self.path, "write it")?;
        Ok((self.path, self.width))
    }
}

fn finite(value: f64) -> Result<f32, String> {
    let single = value as f32;
    if single.is_finite() {
        Ok(single)
    } else {
        Err(not_finite(&value.to_string()))
    }
}

fn parse(text: &[u8]) -> Result<f32, String> {
    if text.is_empty() {
        return Err("the cell is empty, but features are numbers".to_owned());
    }
    match std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f32>().ok())
    {
        Some(value) if value.is_finite() => Ok(value),
        Some(_) => Err(not_finite(&shown(text))),
        None => Err(format!("`{}` is no number, but features are", shown(text))),
    }
}

fn not_finite(value: &str) -> String {
    format!(
        "{value} is not a finite f32; replace missing values and scale features before training"
    )
}
