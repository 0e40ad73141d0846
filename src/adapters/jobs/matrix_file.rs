//! A matrix as a Parquet file: a column `row` that numbers the rows, one of doubles for each feature, and the target.
//! Written in row groups, each built and forgotten before the next, so that memory stays the same whatever the size.
//! Not compressed: readings differ in their last bits, and what is measured is no decompressor.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, Repetition, Type as PhysicalType};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
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

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
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
}
