//! A matrix as a Parquet file: a column `row` that numbers the rows, one of doubles for each feature, and the target.
//! Written and read in row groups, each built and forgotten before the next, so that memory stays the same whatever the size.
//! Not compressed: readings differ in their last bits, and what is measured is no decompressor.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2};
use parquet::basic::{Compression, Encoding, Repetition, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::core::comparison::Grown;

/// The name of the column that numbers the rows from 0.
pub const ROW: &str = "row";
/// The target's.
pub const TARGET: &str = "target";
/// What the features are called in the file: names of a configuration have points and more in them, which mean something to
/// some framework or other.
pub fn columns_of(grown: &Grown<'_>) -> Vec<String> {
    (0..grown.names().len()).map(|column| format!("x{column}")).collect()
}

/// Rows of a group: what frameworks that work in parallel share out. 20 MiB with 40 features.
const GROUP: usize = 65_536;

/// Writes all of it; what is not whole when it fails must not be read.
pub fn write(grown: &Grown<'_>, path: &Path) -> Result<(), ParquetError> {
    let column = |name: &str, physical| {
        Ok::<_, ParquetError>(Arc::new(
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED).build()?,
        ))
    };
    let mut columns = vec![column(ROW, PhysicalType::INT64)?];
    for name in columns_of(grown) {
        columns.push(column(&name, PhysicalType::DOUBLE)?);
    }
    columns.push(column(TARGET, PhysicalType::DOUBLE)?);
    let schema = Arc::new(Type::group_type_builder("matrix").with_fields(columns).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = SerializedFileWriter::new(BufWriter::new(File::create(path)?), schema, Arc::new(properties))?;
    let mut values = Vec::with_capacity(GROUP.min(grown.rows()));
    for from in (0..grown.rows()).step_by(GROUP) {
        let rows = from..(from + GROUP).min(grown.rows());
        let mut group = writer.next_row_group()?;
        if let Some(mut numbers) = group.next_column()? {
            let all: Vec<i64> = rows.clone().map(|row| i64::try_from(row).unwrap_or(i64::MAX)).collect();
            numbers.typed::<Int64Type>().write_batch(&all, None, None)?;
            numbers.close()?;
        }
        for column in 0..=grown.names().len() {
            values.clear();
            values.extend(rows.clone().map(|row| grown.value(row, column)));
            if let Some(mut doubles) = group.next_column()? {
                doubles.typed::<DoubleType>().write_batch(&values, None, None)?;
                doubles.close()?;
            }
        }
        group.close()?;
    }
    writer.finish()?;
    writer.inner_mut().flush()?;
    Ok(())
}

/// What a file holds.
pub struct Matrix {
    /// Rows × features.
    pub x: Array2<f64>,
    /// Of all rows.
    pub y: Array1<f64>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("it has no column `{0}` of doubles in each row")]
    Column(String),
    #[error("there is no memory for the matrix")]
    Memory(#[from] std::collections::TryReserveError),
}

/// Reads these features and the target.
pub fn read(path: &Path, features: &[String], target: &str) -> Result<Matrix, ReadError> {
    let file = SerializedFileReader::new(File::open(path)?)?;
    let metadata = file.metadata();
    let rows = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    let schema = metadata.file_metadata().schema_descr();
    let place = |name: &str| {
        let found = schema.columns().iter().position(|column| column.name() == name);
        found.ok_or_else(|| ReadError::Column(name.to_owned()))
    };
    let columns = features.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
    let target_at = place(target)?;
    let (mut x, mut y) = (zeros(rows * columns.len())?, Vec::new());
    y.try_reserve_exact(rows)?;
    let mut values = Vec::with_capacity(GROUP.min(rows));
    let mut from = 0;
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group)?;
        for (at, (column, name)) in columns.iter().zip(features).enumerate() {
            doubles(&*group, (*column, name.as_str()), &mut values)?;
            let cells = x[from * columns.len()..].chunks_exact_mut(columns.len());
            cells.zip(&values).for_each(|(row, value)| row[at] = *value);
        }
        doubles(&*group, (target_at, target), &mut values)?;
        y.extend_from_slice(&values);
        from += values.len();
    }
    let x = Array2::from_shape_vec((rows, columns.len()), x);
    let x = x.map_err(|error| ParquetError::General(error.to_string()))?;
    Ok(Matrix { x, y: y.into() })
}

/// Refused rather than an end of the process where there is not as much.
fn zeros(count: usize) -> Result<Vec<f64>, std::collections::TryReserveError> {
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    all.resize(count, 0.0);
    Ok(all)
}

/// A column of a row group, in place of what `values` held.
fn doubles(group: &dyn RowGroupReader, (at, name): (usize, &str), values: &mut Vec<f64>) -> Result<(), ReadError> {
    let none = || ReadError::Column(name.to_owned());
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
    let ColumnReader::DoubleColumnReader(mut column) = group.get_column_reader(at)? else { return Err(none()) };
    values.clear();
    while values.len() < rows {
        let before = values.len();
        column.read_records(rows - before, None, None, values)?;
        if values.len() == before {
            return Err(none());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::record::RowAccessor;

    use super::*;
    use crate::core::comparison::Sample;

    #[test]
    fn what_is_written_is_the_matrix_in_groups_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.parquet");
        let sample = Sample::generated(40_000, 3, 100);
        let grown = sample.grown(2);
        write(&grown, &path).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect::<Vec<_>>();
        assert_eq!(groups, [65_536, 79_900 - 65_536]);
        let mut rows = 0;
        for (at, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            assert_eq!(row.get_long(0).unwrap(), at as i64);
            for column in 0..4 {
                assert_eq!(row.get_double(1 + column).unwrap().to_bits(), grown.value(at, column).to_bits());
            }
            rows += 1;
        }
        assert_eq!(rows, grown.rows());
    }

    #[test]
    fn what_was_written_is_read_in_the_order_in_which_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.parquet");
        let sample = Sample::generated(40_000, 3, 100);
        let grown = sample.grown(2);
        write(&grown, &path).unwrap();
        let names = ["x2", "x0"].map(str::to_owned);
        let read_back = read(&path, &names, TARGET).unwrap();
        assert_eq!((read_back.x.dim(), read_back.y.len()), ((grown.rows(), 2), grown.rows()));
        for row in [0, 65_535, 65_536, grown.rows() - 1] {
            assert_eq!(read_back.x[[row, 0]].to_bits(), grown.value(row, 2).to_bits());
            assert_eq!(read_back.x[[row, 1]].to_bits(), grown.value(row, 0).to_bits());
            assert_eq!(read_back.y[row].to_bits(), grown.value(row, 3).to_bits());
        }
        assert!(matches!(read(&path, &names, "absent"), Err(ReadError::Column(name)) if name == "absent"));
        // Numbers, and no doubles.
        assert!(matches!(read(&path, &names, ROW), Err(ReadError::Column(name)) if name == ROW));
    }
}
