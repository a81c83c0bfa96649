use super::{
    parquet_column::{ColumnPart, Problem, read_cells},
    table::{BATCH_ROWS, Batch, ColumnInfo, ColumnKind, Places, Table},
};
use crate::{Place, StoreError, error::At};
use parquet::{
    basic::{ConvertedType, LogicalType, Type},
    column::reader::ColumnReader,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};
use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// A Parquet file.
pub(crate) struct ParquetTable {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Vec<ColumnInfo>,
    /// The leaf of each column.
    leaves: Vec<usize>,
    selected: Vec<usize>,
    group: Option<OpenGroup>,
    next_group: usize,
    /// Rows read so far.
    row: u64,
    /// Elements of the rows of each selected list column, once a row was seen.
    widths: Vec<Option<usize>>,
}

/// A row group being read.
struct OpenGroup {
    readers: Vec<ColumnReader>,
    rows_left: usize,
}

impl ParquetTable {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).at(path, "open it")?;
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let (mut columns, mut leaves) = (Vec::new(), Vec::new());
        for leaf in 0..schema.num_columns() {
            let descriptor = schema.column(leaf);
            let nested = descriptor.path().parts().len() > 1;
            let kind = kind(&descriptor);
            let name = schema.get_column_root(leaf).name();
            if nested
                && kind != ColumnKind::List
                && columns.last().is_some_and(|c: &ColumnInfo| c.name == name)
            {
                // One more field of a record that is no use already.
                continue;
            }
            leaves.push(leaf);
            columns.push(ColumnInfo {
                name: name.to_owned(),
                kind,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
            leaves,
            selected: Vec::new(),
            group: None,
            next_group: 0,
            row: 0,
            widths: Vec::new(),
        })
    }

    /// The next row group that has rows.
    fn open_group(&mut self) -> Result<Option<OpenGroup>, StoreError> {
        while self.next_group < self.reader.metadata().num_row_groups() {
            let at = self.next_group;
            self.next_group += 1;
            let leaves: Vec<usize> = self
                .selected
                .iter()
                .map(|&column| self.leaves[column])
                .collect();
            let (readers, rows) = guarded(&self.path, || {
                let group = self.reader.get_row_group(at)?;
                let readers: Result<Vec<_>, _> = leaves
                    .iter()
                    .map(|&leaf| group.get_column_reader(leaf))
                    .collect();
                Ok((readers?, group.metadata().num_rows()))
            })?;
            let rows_left = usize::try_from(rows).map_err(|_| StoreError::Malformed {
                path: self.path.clone(),
                message: format!("row group {at} has {rows} rows"),
            })?;
            if rows_left > 0 {
                return Ok(Some(OpenGroup { readers, rows_left }));
            }
        }
        Ok(None)
    }

    fn problem(&self, column: usize, problem: Problem) -> StoreError {
        match problem {
            Problem::File(message) => StoreError::Malformed {
                path: self.path.clone(),
                message,
            },
            Problem::Cell { row, message } => StoreError::Cell {
                path: self.path.clone(),
                place: Place::Row(self.row + row as u64),
                column: self.columns[self.selected[column]].name.clone(),
                message,
            },
        }
    }
}

impl Table for ParquetTable {
    fn columns(&self) -> &[ColumnInfo] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) {
        columns.clone_into(&mut self.selected);
        self.widths = vec![None; columns.len()];
    }

    fn next(&mut self) -> Result<Option<Batch>, StoreError> {
        let group = match self.group.take() {
            Some(group) => Some(group),
            None => self.open_group()?,
        };
        let Some(mut group) = group else {
            return Ok(None);
        };
        let rows = group.rows_left.min(BATCH_ROWS);
        let mut cells = Vec::with_capacity(group.readers.len());
        for (at, reader) in group.readers.iter_mut().enumerate() {
            let descriptor = self
                .reader
                .metadata()
                .file_metadata()
                .schema_descr()
                .column(self.leaves[self.selected[at]]);
            let part = ColumnPart {
                descriptor: &descriptor,
                rows,
                width: self.widths[at],
            };
            let read = catch_unwind(AssertUnwindSafe(|| read_cells(reader, &part)));
            let (column, width) = read
                .unwrap_or_else(|_| Err(Problem::File(UNREADABLE.to_owned())))
                .map_err(|problem| self.problem(at, problem))?;
            self.widths[at] = width;
            cells.push(column);
        }
        group.rows_left -= rows;
        self.group = (group.rows_left > 0).then_some(group);
        let places = Places::RowsFrom(self.row);
        self.row += rows as u64;
        Ok(Some(Batch {
            columns: cells,
            rows,
            places,
        }))
    }
}

const UNREADABLE: &str = "the Parquet reader gave up: the file is damaged";

/// Runs a part of the Parquet reader, which may panic on a damaged file.
fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, StoreError> {
    let malformed = |message: String| StoreError::Malformed {
        path: path.to_owned(),
        message,
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| malformed(e.to_string())),
        Err(_) => Err(malformed(UNREADABLE.to_owned())),
    }
}

fn kind(column: &ColumnDescriptor) -> ColumnKind {
    let plain = matches!(
        column.logical_type_ref(),
        None | Some(
            LogicalType::String
                | LogicalType::Enum
                | LogicalType::Integer { .. }
                | LogicalType::List
        )
    ) && !matches!(
        column.converted_type(),
        ConvertedType::DECIMAL
            | ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
    );
    let kind = match column.physical_type() {
        Type::BOOLEAN | Type::INT32 | Type::INT64 if plain => ColumnKind::Integer,
        Type::FLOAT | Type::DOUBLE => ColumnKind::Float,
        Type::BYTE_ARRAY if plain => ColumnKind::Text,
        _ => ColumnKind::Other,
    };
    let nested = column.path().parts().len() > 1;
    match (kind, column.max_rep_level()) {
        (kind, 0) if !nested => kind,
        (ColumnKind::Integer | ColumnKind::Float, 1) => ColumnKind::List,
        _ => ColumnKind::Other,
    }
}
