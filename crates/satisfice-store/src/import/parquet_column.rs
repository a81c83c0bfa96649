use super::table::{Column, Texts};
use parquet::{
    basic::{ConvertedType, LogicalType, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    schema::types::ColumnDescriptor,
};

/// What is read of a column.
pub(crate) struct ColumnPart<'a> {
    pub descriptor: &'a ColumnDescriptor,
    pub rows: usize,
    /// Elements that every row of a list column must have, once a row was seen.
    pub width: Option<usize>,
}

/// Why cells cannot be read.
#[derive(Debug)]
pub(crate) enum Problem {
    File(String),
    /// `row` counts from the first row asked for.
    Cell {
        row: usize,
        message: String,
    },
}

/// Values of a column, none of them missing.
enum Values {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Texts),
}

/// The next rows of a column, and the width of its lists if it is a list column.
pub(crate) fn read_cells(
    reader: &mut ColumnReader,
    part: &ColumnPart<'_>,
) -> Result<(Column, Option<usize>), Problem> {
    let (values, width) = match reader {
        ColumnReader::BoolColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            (
                Values::Integers(values.into_iter().map(i64::from).collect()),
                width,
            )
        }
        ColumnReader::Int32ColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            let unsigned = is_unsigned(part.descriptor);
            let value = |value: i32| {
                if unsigned {
                    i64::from(value as u32)
                } else {
                    i64::from(value)
                }
            };
            (
                Values::Integers(values.into_iter().map(value).collect()),
                width,
            )
        }
        ColumnReader::Int64ColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            check_unsigned(part, &values)?;
            (Values::Integers(values), width)
        }
        ColumnReader::FloatColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            (
                Values::Floats(values.into_iter().map(f64::from).collect()),
                width,
            )
        }
        ColumnReader::DoubleColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            (Values::Floats(values), width)
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            let (values, width) = read(reader, part)?;
            let mut texts = Texts::default();
            for value in &values {
                texts.push(value.data());
            }
            (Values::Texts(texts), width)
        }
        _ => return Err(type_problem(part)),
    };
    Ok((
        column(values, width).ok_or_else(|| type_problem(part))?,
        width,
    ))
}

/// Cells of a column; `width` is that of its lists if it is a list column. No strings in lists.
fn column(values: Values, width: Option<usize>) -> Option<Column> {
    Some(match (values, width) {
        (Values::Integers(values), None) => Column::Integer(values),
        (Values::Floats(values), None) => Column::Float(values),
        (Values::Texts(texts), None) => Column::Text(texts),
        (Values::Floats(values), Some(width)) => Column::List { values, width },
        (Values::Integers(values), Some(width)) => Column::List {
            values: values.into_iter().map(|value| value as f64).collect(),
            width,
        },
        (Values::Texts(_), Some(_)) => return None,
    })
}

fn type_problem(part: &ColumnPart<'_>) -> Problem {
    let physical: Type = part.descriptor.physical_type();
    Problem::Cell {
        row: 0,
        message: format!("type {physical} is not read; numbers, strings and lists of numbers are"),
    }
}

fn is_unsigned(column: &ColumnDescriptor) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Integer(integer)) => !integer.is_signed,
        _ => matches!(
            column.converted_type(),
            ConvertedType::UINT_32 | ConvertedType::UINT_64
        ),
    }
}

/// Values above `i64::MAX` look negative.
fn check_unsigned(part: &ColumnPart<'_>, values: &[i64]) -> Result<(), Problem> {
    let unsigned = is_unsigned(part.descriptor);
    match values.iter().position(|&value| unsigned && value < 0) {
        Some(at) => Err(Problem::Cell {
            row: at / part.width.unwrap_or(1).max(1),
            message: format!("{} is too large for a 64-bit integer", values[at] as u64),
        }),
        None => Ok(()),
    }
}

/// Values of `part.rows` rows, and the width of their lists if they are lists.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    part: &ColumnPart<'_>,
) -> Result<(Vec<T::T>, Option<usize>), Problem> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    while rows < part.rows {
        let (records, _, levels) = reader
            .read_records(
                part.rows - rows,
                Some(&mut definitions),
                Some(&mut repetitions),
                &mut values,
            )
            .map_err(|e| Problem::File(e.to_string()))?;
        if levels == 0 {
            let missing = part.rows - rows;
            return Err(Problem::File(format!(
                "column `{}` lacks {missing} rows",
                part.descriptor.name()
            )));
        }
        rows += records;
    }
    let maximum = part.descriptor.max_def_level();
    if part.descriptor.max_rep_level() > 0 {
        return lists(part, &definitions, &repetitions).map(|width| (values, Some(width)));
    }
    if maximum > 0
        && let Some(row) = definitions.iter().position(|&level| level < maximum)
    {
        return Err(Problem::Cell {
            row,
            message: "the value is missing (null); fill it in, or leave the row out".to_owned(),
        });
    }
    if values.len() != part.rows {
        return Err(Problem::File(format!(
            "column `{}` has {} values in {} rows",
            part.descriptor.name(),
            values.len(),
            part.rows
        )));
    }
    Ok((values, None))
}

/// The width that all lists share.
fn lists(
    part: &ColumnPart<'_>,
    definitions: &[i16],
    repetitions: &[i16],
) -> Result<usize, Problem> {
    let maximum = part.descriptor.max_def_level();
    let mut starts: Vec<usize> = Vec::with_capacity(part.rows + 1);
    for (at, (&definition, &repetition)) in definitions.iter().zip(repetitions).enumerate() {
        if repetition == 0 {
            starts.push(at);
        }
        if definition < maximum {
            return Err(Problem::Cell {
                row: starts.len().saturating_sub(1),
                message: "the list is empty, or it or an element of it is missing (null)"
                    .to_owned(),
            });
        }
    }
    if starts.len() != part.rows {
        return Err(Problem::File(format!(
            "column `{}` has {} lists in {} rows",
            part.descriptor.name(),
            starts.len(),
            part.rows
        )));
    }
    starts.push(definitions.len());
    let width = part.width.unwrap_or(starts[1] - starts[0]);
    match starts.windows(2).position(|row| row[1] - row[0] != width) {
        Some(row) => Err(Problem::Cell {
            row,
            message: format!(
                "a list of {} numbers, but the rows before have {width}",
                starts[row + 1] - starts[row]
            ),
        }),
        None => Ok(width),
    }
}
