//! Parquet files for the tests.

use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use std::{fs::File, path::Path, sync::Arc};

/// A column of a Parquet file, `None` for nulls.
pub(crate) enum Cells {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    OptionalInt64(Vec<Option<i64>>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Vec<String>),
    List(Vec<Vec<f32>>),
    Date(Vec<i32>),
    Unsigned64(Vec<u64>),
}

impl Cells {
    fn schema(&self, name: &str) -> String {
        match self {
            Self::Bool(_) => format!("required boolean {name};"),
            Self::Int32(_) => format!("required int32 {name};"),
            Self::Int64(_) => format!("required int64 {name};"),
            Self::OptionalInt64(_) => format!("optional int64 {name};"),
            Self::Float(_) => format!("required float {name};"),
            Self::Double(_) => format!("required double {name};"),
            Self::Text(_) => format!("required binary {name} (utf8);"),
            Self::Date(_) => format!("required int32 {name} (date);"),
            Self::Unsigned64(_) => format!("required int64 {name} (uint_64);"),
            Self::List(_) => format!(
                "optional group {name} (list) {{ repeated group list {{ optional float element; }} }}"
            ),
        }
    }

    fn write(&self, writer: &mut ColumnWriter<'_>, rows: std::ops::Range<usize>) {
        match (self, writer) {
            (Self::Bool(v), ColumnWriter::BoolColumnWriter(w)) => {
                w.write_batch(&v[rows], None, None)
            }
            (Self::Int32(v) | Self::Date(v), ColumnWriter::Int32ColumnWriter(w)) => {
                w.write_batch(&v[rows], None, None)
            }
            (Self::Int64(v), ColumnWriter::Int64ColumnWriter(w)) => {
                w.write_batch(&v[rows], None, None)
            }
            (Self::Unsigned64(v), ColumnWriter::Int64ColumnWriter(w)) => {
                let v: Vec<i64> = v[rows].iter().map(|&v| v as i64).collect();
                w.write_batch(&v, None, None)
            }
            (Self::OptionalInt64(v), ColumnWriter::Int64ColumnWriter(w)) => {
                let values: Vec<i64> = v[rows.clone()].iter().copied().flatten().collect();
                let levels: Vec<i16> = v[rows].iter().map(|v| i16::from(v.is_some())).collect();
                w.write_batch(&values, Some(&levels), None)
            }
            (Self::Float(v), ColumnWriter::FloatColumnWriter(w)) => {
                w.write_batch(&v[rows], None, None)
            }
            (Self::Double(v), ColumnWriter::DoubleColumnWriter(w)) => {
                w.write_batch(&v[rows], None, None)
            }
            (Self::Text(v), ColumnWriter::ByteArrayColumnWriter(w)) => {
                let v: Vec<ByteArray> = v[rows].iter().map(|v| v.as_str().into()).collect();
                w.write_batch(&v, None, None)
            }
            (Self::List(v), ColumnWriter::FloatColumnWriter(w)) => {
                let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
                for list in &v[rows] {
                    if list.is_empty() {
                        defined.push(1);
                        repeated.push(0);
                    }
                    for (i, value) in list.iter().enumerate() {
                        values.push(*value);
                        defined.push(3);
                        repeated.push(i16::from(i > 0));
                    }
                }
                w.write_batch(&values, Some(&defined), Some(&repeated))
            }
            _ => panic!("the schema and the cells agree"),
        }
        .unwrap();
    }
}

/// Writes a file of row groups of `group` rows.
pub(crate) fn write(path: &Path, columns: &[(&str, Cells)], rows: usize, group: usize) {
    let fields: String = columns
        .iter()
        .map(|(name, cells)| cells.schema(name))
        .collect();
    let schema = parse_message_type(&format!("message table {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let file = File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    for start in (0..rows).step_by(group) {
        let rows = start..rows.min(start + group);
        let mut group = writer.next_row_group().unwrap();
        for (_, cells) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            cells.write(column.untyped(), rows.clone());
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}
