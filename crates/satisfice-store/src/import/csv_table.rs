use super::{
    ids::integer,
    table::{BATCH_ROWS, Batch, Column, ColumnInfo, ColumnKind, Places, Table, Texts},
};
use crate::{StoreError, error::At};
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A CSV file, with or without a header. Every cell is text, without the spaces around it; a column of which the first cell is a
/// number is taken for one of numbers.
#[derive(Debug)]
pub(crate) struct CsvTable {
    path: PathBuf,
    reader: Reader<File>,
    columns: Vec<ColumnInfo>,
    selected: Vec<usize>,
    /// A row that was read to see what it is.
    pending: Option<ByteRecord>,
}

impl CsvTable {
    /// The first row is a header when one of its cells is among `names`, or, where `guess` allows
    /// it, when it holds no number and the second row does.
    pub(crate) fn open(
        path: &Path,
        delimiter: u8,
        names: &[&str],
        guess: bool,
    ) -> Result<Self, StoreError> {
        let file = File::open(path).at(path, "open it")?;
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter)
            .buffer_capacity(1 << 18)
            .from_reader(file);
        let mut table = Self {
            path: path.to_owned(),
            reader,
            columns: Vec::new(),
            selected: Vec::new(),
            pending: None,
        };
        let Some(first) = table.record()? else {
            return Ok(table);
        };
        let second = table.record()?;
        let named = |cell: &[u8]| {
            names
                .iter()
                .any(|name| cell.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        };
        if first.iter().any(named) || (guess && looks_like_header(&first, second.as_ref())) {
            table.columns = infos(Some(&first), second.as_ref().unwrap_or(&first));
            table.pending = second;
        } else {
            table.columns = infos(None, &first);
            // Both rows are wanted; going back is cheaper than keeping two.
            table.rewind()?;
        }
        Ok(table)
    }

    fn rewind(&mut self) -> Result<(), StoreError> {
        let start = csv::Position::new();
        self.reader.seek(start).map_err(|e| self.error(e))
    }

    fn record(&mut self) -> Result<Option<ByteRecord>, StoreError> {
        let mut record = ByteRecord::new();
        Ok(self.read(&mut record)?.then_some(record))
    }

    fn read(&mut self, record: &mut ByteRecord) -> Result<bool, StoreError> {
        self.reader
            .read_byte_record(record)
            .map_err(|e| self.error(e))
    }

    fn error(&self, error: csv::Error) -> StoreError {
        let message = match error.kind() {
            ErrorKind::UnequalLengths {
                pos,
                expected_len,
                len,
            } => format!(
                "line {}: {len} cells, but the lines before have {expected_len}",
                pos.as_ref().map_or(0, csv::Position::line)
            ),
            _ => error.to_string(),
        };
        match error.into_kind() {
            ErrorKind::Io(source) => StoreError::Io {
                path: self.path.clone(),
                action: "read it",
                source,
            },
            _ => StoreError::Malformed {
                path: self.path.clone(),
                message,
            },
        }
    }
}

fn is_number(cell: &[u8]) -> bool {
    std::str::from_utf8(cell.trim_ascii()).is_ok_and(|cell| cell.parse::<f64>().is_ok())
}

fn looks_like_header(first: &ByteRecord, second: Option<&ByteRecord>) -> bool {
    second.is_some_and(|second| second.iter().any(is_number)) && !first.iter().any(is_number)
}

fn infos(names: Option<&ByteRecord>, cells: &ByteRecord) -> Vec<ColumnInfo> {
    let name = |at: usize| match names {
        Some(names) => String::from_utf8_lossy(names[at].trim_ascii()).into_owned(),
        None => format!("{}", at + 1),
    };
    cells
        .iter()
        .enumerate()
        .map(|(at, cell)| ColumnInfo {
            name: name(at),
            kind: match std::str::from_utf8(cell.trim_ascii()) {
                Ok(text) if integer(text).is_some() => ColumnKind::Integer,
                // What is missing here may be a number elsewhere: then it is an error.
                Ok(text) if text.is_empty() || text.parse::<f64>().is_ok() => ColumnKind::Float,
                _ => ColumnKind::Text,
            },
        })
        .collect()
}

impl Table for CsvTable {
    fn columns(&self) -> &[ColumnInfo] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) {
        columns.clone_into(&mut self.selected);
    }

    fn next(&mut self) -> Result<Option<Batch>, StoreError> {
        let mut texts: Vec<Texts> = self.selected.iter().map(|_| Texts::default()).collect();
        let mut lines = Vec::new();
        let mut record = ByteRecord::new();
        while lines.len() < BATCH_ROWS {
            match self.pending.take() {
                Some(pending) => record = pending,
                None if self.read(&mut record)? => {}
                None => break,
            }
            lines.push(record.position().map_or(0, csv::Position::line));
            for (texts, &column) in texts.iter_mut().zip(&self.selected) {
                texts.push(record[column].trim_ascii());
            }
        }
        if lines.is_empty() {
            return Ok(None);
        }
        Ok(Some(Batch {
            columns: texts.into_iter().map(Column::Text).collect(),
            rows: lines.len(),
            places: Places::Lines(lines),
        }))
    }
}
