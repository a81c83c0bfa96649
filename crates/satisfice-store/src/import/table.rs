//! A table, whatever file it is in: columns with names, read some rows at a time.

use super::{csv_table::CsvTable, parquet_table::ParquetTable};
use crate::{Place, StoreError};
use std::path::Path;

/// Rows read at a time.
pub(crate) const BATCH_ROWS: usize = 1 << 13;

/// A table being read.
pub(crate) trait Table {
    /// The columns, in the file's order.
    fn columns(&self) -> &[ColumnInfo];

    /// Reads only these columns from now on, in this order.
    fn select(&mut self, columns: &[usize]);

    /// The next rows: at most [`BATCH_ROWS`], none at the end.
    fn next(&mut self) -> Result<Option<Batch>, StoreError>;
}

/// What a column is called, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnInfo {
    pub name: String,
    pub kind: ColumnKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Integer,
    Float,
    Text,
    /// As many numbers in every row.
    List,
    /// Nothing that a graph is made of, such as dates.
    Other,
}

/// Some rows of the selected columns.
#[derive(Debug)]
pub(crate) struct Batch {
    pub columns: Vec<Column>,
    pub rows: usize,
    pub places: Places,
}

/// Where the rows of a batch are in the file.
#[derive(Debug)]
pub(crate) enum Places {
    /// The line of each.
    Lines(Vec<u64>),
    /// The row of the first.
    RowsFrom(u64),
}

impl Places {
    pub(crate) fn of(&self, row: usize) -> Place {
        match self {
            Self::Lines(lines) => Place::Line(lines[row]),
            Self::RowsFrom(first) => Place::Row(first + row as u64),
        }
    }
}

/// Cells of one column.
#[derive(Debug)]
pub(crate) enum Column {
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Text(Texts),
    List { values: Vec<f64>, width: usize },
}

/// Strings, end to end.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Texts {
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }
}

/// Opens a table; the file's name says which kind it is. A text file has a header when its first
/// line holds one of `names`, or, where `guess` allows it, when only the second line holds numbers.
pub(crate) fn open(path: &Path, names: &[&str], guess: bool) -> Result<Box<dyn Table>, StoreError> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str() {
        Some("csv") => Ok(Box::new(CsvTable::open(path, b',', names, guess)?)),
        Some("tsv") => Ok(Box::new(CsvTable::open(path, b'\t', names, guess)?)),
        Some("parquet") => Ok(Box::new(ParquetTable::open(path)?)),
        _ => Err(StoreError::Unsupported {
            path: path.to_owned(),
            message: "no table that can be read".to_owned(),
            hint: "tables are .csv, .tsv or .parquet files".to_owned(),
        }),
    }
}

/// The first of the columns `among` with one of these names, whatever their case.
pub(crate) fn find(columns: &[ColumnInfo], among: &[usize], names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| {
        let mut among = among.iter().copied();
        among.find(|&at| columns[at].name.eq_ignore_ascii_case(name))
    })
}
