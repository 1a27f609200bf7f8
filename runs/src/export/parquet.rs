//! Rows as Parquet, after <https://parquet.apache.org/docs/file-format/>.
//!
//! A metric is an optional column of doubles, which
//! [`BYTE_STREAM_SPLIT`](Encoding::BYTE_STREAM_SPLIT) lets the compression find alike.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use logcore::StoredRow;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};

use crate::{Rows, RunError};

/// Most rows of a group, which is in memory while it is filled.
const MAX_ROWS: usize = 1 << 16;

/// Most values of a group: 32 MB.
const MAX_VALUES: usize = 1 << 22;

/// Writes the rows, with a column for each of the names. Returns the number of rows.
pub(super) fn write(
    names: &[String],
    rows: &mut Rows,
    out: &mut (dyn Write + Send),
) -> std::result::Result<u64, RunError> {
    let mut file =
        SerializedFileWriter::new(out, schema(names).map_err(unwritable)?, properties(names)).map_err(unwritable)?;
    let capacity = (MAX_VALUES / names.len().max(1)).clamp(1, MAX_ROWS);
    let mut group = RowGroup::new(names);
    let mut count = 0;
    for row in rows {
        group.add(&row?);
        count += 1;
        if group.steps.len() == capacity {
            group.write(&mut file).map_err(unwritable)?;
        }
    }
    if !group.steps.is_empty() {
        group.write(&mut file).map_err(unwritable)?;
    }
    file.close().map_err(unwritable)?;
    Ok(count)
}

fn unwritable(error: ParquetError) -> RunError {
    RunError::Unwritable(match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    })
}

fn schema(names: &[String]) -> Result<Arc<Type>> {
    let required = |name: &str, kind, logical| {
        let builder = Type::primitive_type_builder(name, kind).with_repetition(Repetition::REQUIRED);
        builder.with_logical_type(logical).build()
    };
    let unsigned = |bit_width| Some(LogicalType::integer(bit_width, false));
    let mut fields = vec![
        required("step", PhysicalType::INT64, unsigned(64))?,
        required("time", PhysicalType::DOUBLE, None)?,
        required("logger", PhysicalType::BYTE_ARRAY, Some(LogicalType::String))?,
        required("attempt", PhysicalType::INT32, unsigned(32))?,
    ];
    for name in names {
        let metric = Type::primitive_type_builder(name, PhysicalType::DOUBLE);
        fields.push(metric.with_repetition(Repetition::OPTIONAL).build()?);
    }
    let fields = fields.into_iter().map(Arc::new).collect();
    Ok(Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?))
}

fn properties(names: &[String]) -> Arc<WriterProperties> {
    let column = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("logcore ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(column("logger"), true)
        .set_column_encoding(column("step"), Encoding::DELTA_BINARY_PACKED);
    for name in ["time"].into_iter().chain(names.iter().map(String::as_str)) {
        properties = properties.set_column_encoding(column(name), Encoding::BYTE_STREAM_SPLIT);
    }
    Arc::new(properties.build())
}

/// Rows by columns, until they are written.
struct RowGroup<'a> {
    places: HashMap<&'a str, usize>,
    steps: Vec<i64>,
    times: Vec<f64>,
    loggers: Vec<ByteArray>,
    attempts: Vec<i32>,
    metrics: Vec<MetricColumn>,
}

/// The values of a metric, and for each row 1 if it has one.
#[derive(Default)]
struct MetricColumn {
    values: Vec<f64>,
    levels: Vec<i16>,
}

impl<'a> RowGroup<'a> {
    fn new(names: &'a [String]) -> Self {
        Self {
            places: names.iter().map(String::as_str).zip(0..).collect(),
            steps: Vec::new(),
            times: Vec::new(),
            loggers: Vec::new(),
            attempts: Vec::new(),
            metrics: names.iter().map(|_| MetricColumn::default()).collect(),
        }
    }

    fn add(&mut self, row: &StoredRow) {
        // The logical types of these columns say that the bits are those of unsigned numbers.
        self.steps.push(row.step.cast_signed());
        self.attempts.push(row.attempt.cast_signed());
        self.times.push(row.time);
        self.loggers.push(row.logger.as_str().into());
        for (name, value) in &row.values {
            let Some(place) = self.places.get(name.as_str()) else {
                continue;
            };
            let metric = &mut self.metrics[*place];
            // A name that a foreign row has twice keeps the first value.
            if metric.levels.len() < self.steps.len() {
                metric.levels.resize(self.steps.len() - 1, 0);
                metric.levels.push(1);
                metric.values.push(value.as_decimal());
            }
        }
    }

    /// Writes the rows, and begins anew.
    fn write<W: Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let rows = self.steps.len();
        let mut group = file.next_row_group()?;
        write_column::<Int64Type, _>(&mut group, &self.steps, None)?;
        write_column::<DoubleType, _>(&mut group, &self.times, None)?;
        write_column::<ByteArrayType, _>(&mut group, &self.loggers, None)?;
        write_column::<Int32Type, _>(&mut group, &self.attempts, None)?;
        for metric in &mut self.metrics {
            metric.levels.resize(rows, 0);
            write_column::<DoubleType, _>(&mut group, &metric.values, Some(&metric.levels))?;
            metric.values.clear();
            metric.levels.clear();
        }
        group.close()?;
        self.steps.clear();
        self.times.clear();
        self.loggers.clear();
        self.attempts.clear();
        Ok(())
    }
}

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General(
            "there are more columns than in the schema".to_owned(),
        ));
    };
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::{ExportFormat, StoredRun};

    #[test]
    fn every_value_is_read_back_from_all_groups() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..MAX_ROWS + 2)
            .map(|step| {
                let value = match step % 3 {
                    0 => ",\"loss\":0.1".to_owned(),
                    1 => format!(",\"loss\":null,\"lr\":{step},\"nonfinite\":\"{{\\\"loss\\\":\\\"NaN\\\"}}\""),
                    _ => String::new(),
                };
                format!("{{\"step\":{step},\"time\":{step}.5,\"logger\":\"a\"{value}}}\n")
            })
            .collect();
        std::fs::write(folder.path().join("run.json"), "{}").unwrap();
        std::fs::write(folder.path().join("metrics.jsonl"), text).unwrap();
        let path = folder.path().join("rows.parquet");
        let run = StoredRun::open(folder.path()).unwrap();
        let mut out = std::fs::File::create(&path).unwrap();
        let rows = run.export(0, ExportFormat::Parquet, &mut out).unwrap();
        assert_eq!(rows.rows, MAX_ROWS as u64 + 2);

        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        for (step, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row: HashMap<String, Field> = row.unwrap().into_columns().into_iter().collect();
            assert_eq!(row["step"], Field::ULong(step as u64));
            assert_eq!(
                (&row["time"], &row["attempt"]),
                (&Field::Double(step as f64 + 0.5), &Field::UInt(1))
            );
            match (step % 3, &row["loss"], &row["lr"]) {
                (0, Field::Double(loss), Field::Null) => assert_eq!(*loss, 0.1),
                (1, Field::Double(loss), Field::Double(lr)) => assert!(loss.is_nan() && *lr == step as f64),
                (2, Field::Null, Field::Null) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
