//! A CSV file, plain or gzip, and what a first reading of it tells. Every error names the file and the line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::ReplayError;
use crate::config;
use crate::core::replay::{CellError, ColumnType, Inference, LookupTable, parse_time};

/// A file that is being read, one row at a time.
pub struct CsvFile {
    name: String,
    reader: csv::Reader<Box<dyn Read>>,
    row: ByteRecord,
}

impl CsvFile {
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| ReplayError::Read { file: name.clone(), source })?;
        let bytes: Box<dyn Read> = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz")) {
            Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(1 << 16, file)))
        } else {
            Box::new(file)
        };
        let reader = csv::ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(bytes);
        Ok(Self { name, reader, row: ByteRecord::new() })
    }

    /// Column names; each must be there once.
    pub fn header(&mut self) -> Result<Vec<String>, ReplayError> {
        let header = self.reader.byte_headers().cloned().map_err(|error| self.csv_error(error))?;
        let mut names: Vec<String> = Vec::new();
        for (position, name) in header.iter().enumerate() {
            let wrong = |what: String| ReplayError::Row { file: self.name.clone(), line: 1, what };
            let name = std::str::from_utf8(name).map_err(|_| wrong("the header is not UTF-8".to_string()))?;
            if name.is_empty() {
                return Err(wrong(format!("column {} has no name", position + 1)));
            }
            if names.iter().any(|other| other == name) {
                return Err(wrong(format!("two columns are named {name:?}")));
            }
            names.push(name.to_string());
        }
        if names.is_empty() {
            return Err(ReplayError::File {
                file: self.name.clone(),
                what: "the file is empty; its first line must name the columns".to_string(),
            });
        }
        Ok(names)
    }

    /// Reads the next row; `false` at the end of the file.
    pub fn next(&mut self) -> Result<bool, ReplayError> {
        self.reader.read_byte_record(&mut self.row).map_err(|error| self.csv_error(error))
    }

    pub fn row(&self) -> &ByteRecord {
        &self.row
    }

    pub fn cell_error(&self, column: &str, error: CellError) -> ReplayError {
        ReplayError::Cell { file: self.name.clone(), line: self.line(), column: column.to_string(), error }
    }

    pub fn row_error(&self, what: String) -> ReplayError {
        ReplayError::Row { file: self.name.clone(), line: self.line(), what }
    }

    /// The line on which the present row begins.
    fn line(&self) -> u64 {
        self.row.position().map_or(0, csv::Position::line)
    }

    fn csv_error(&self, error: csv::Error) -> ReplayError {
        let line = error.position().map_or_else(|| self.reader.position().line(), csv::Position::line);
        let file = self.name.clone();
        match error.into_kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                ReplayError::Row { file, line, what: format!("{len} cells where the header has {expected_len}") }
            }
            csv::ErrorKind::Io(source) => ReplayError::Read { file: format!("{file}, about line {line}"), source },
            other => ReplayError::Row { file, line, what: format!("{other:?}") },
        }
    }
}

/// What the first reading of a file tells.
pub struct Survey {
    pub path: PathBuf,
    pub header: Vec<String>,
    pub types: Vec<ColumnType>,
    pub rows: u64,
    pub event_time: Option<usize>,
    /// The latest event time, in microseconds since 1970.
    pub last_event: Option<i64>,
    /// The earliest and the latest event time of the rows that are sent.
    pub sent_events: Option<(i64, i64)>,
}

impl Survey {
    /// Position of a column; an unknown one is answered with those that there are.
    pub fn column(&self, name: &str) -> Result<usize, ReplayError> {
        position(&self.path, &self.header, name)
    }

    pub fn columns(&self, names: &[String]) -> Result<Vec<usize>, ReplayError> {
        names.iter().map(|name| self.column(name)).collect()
    }
}

fn position(path: &Path, header: &[String], name: &str) -> Result<usize, ReplayError> {
    header.iter().position(|column| column == name).ok_or_else(|| ReplayError::File {
        file: path.display().to_string(),
        what: format!("there is no column {name:?}; its columns are {}", header.join(", ")),
    })
}

/// Reads a replayed file to its end: types, count of rows, event times; checks its times and its encoding. `sent` is
/// how many rows will be sent of it.
pub fn survey(base: &Path, replay: &config::Replay, sent: Option<u64>) -> Result<Survey, ReplayError> {
    let path = base.join(&replay.file);
    let mut file = CsvFile::open(&path)?;
    let header = file.header()?;
    let event_time = replay.event_time.as_ref().map(|name| position(&path, &header, name)).transpose()?;
    let times = replay.times.iter().map(|name| position(&path, &header, name)).collect::<Result<Vec<_>, _>>()?;
    let mut inference = Inference::new(header.len());
    let mut last_event: Option<i64> = None;
    let mut sent_events: Option<(i64, i64)> = None;
    let mut rows = 0;
    while file.next()? {
        rows += 1;
        for (column, cell) in file.row().iter().enumerate() {
            inference.observe(column, cell);
            let is_event = event_time == Some(column);
            if !cell.is_empty() && (is_event || times.contains(&column)) {
                let time = parse_time(cell).map_err(|error| file.cell_error(&header[column], error))?;
                if is_event {
                    last_event = last_event.max(Some(time));
                    if sent.is_none_or(|sent| rows <= sent) {
                        let (first, last) = sent_events.unwrap_or((time, time));
                        sent_events = Some((first.min(time), last.max(time)));
                    }
                }
            } else if std::str::from_utf8(cell).is_err() {
                return Err(file.cell_error(&header[column], CellError::NotUtf8));
            }
        }
    }
    Ok(Survey { path, header, types: inference.types(), rows, event_time, last_event, sent_events })
}

/// Reads the file of a lookup into memory: for each key, the fields it adds to a record of `records`.
pub fn read_lookup(base: &Path, lookup: &config::Lookup, records: &Survey) -> Result<LookupTable, ReplayError> {
    let path = base.join(&lookup.file);
    let mut file = CsvFile::open(&path)?;
    let header = file.header()?;
    let key = position(&path, &header, &lookup.key)?;
    let mut taken = Vec::new();
    for (field, column) in &lookup.take {
        if records.header.contains(field) {
            return Err(ReplayError::File {
                file: path.display().to_string(),
                what: format!("the lookup adds a field {field:?}, which {} has already", records.path.display()),
            });
        }
        taken.push((field.as_str(), position(&path, &header, column)?));
    }
    let mut inference = Inference::new(header.len());
    while file.next()? {
        for (column, cell) in file.row().iter().enumerate() {
            inference.observe(column, cell);
        }
    }
    let types = inference.types();
    let mut file = CsvFile::open(&path)?;
    let mut table = LookupTable::default();
    while file.next()? {
        let row = file.row();
        if row[key].is_empty() {
            return Err(file.row_error(format!("the key column {:?} is empty", lookup.key)));
        }
        let fields = taken.iter().map(|&(field, column)| (field, types[column], &row[column]));
        match table.insert(&row[key], fields) {
            Ok(true) => {}
            Ok(false) => {
                let text = String::from_utf8_lossy(&row[key]).into_owned();
                return Err(file.row_error(format!("a second row with {} {text:?}", lookup.key)));
            }
            Err(error) => return Err(file.row_error(error.to_string())),
        }
    }
    Ok(table)
}
