//! Runs one test: a database file of its own with the domain's tables, the daemon's decoder and committer, and a look at
//! what is there afterwards. Nothing of the configured warehouse, cache or broker is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::difference::{self, Compared, Difference, Place};
use super::documents::Documents;
use super::file::{Commit, Test, TestRecord};
use crate::actors::decoder::decode_batch;
use crate::actors::refresh::RefreshPlan;
use crate::actors::writer::Committer;
use crate::adapters::sqlite::stored::{literal, stored_rows};
use crate::adapters::warehouse;
use crate::config::{Config, Secret, Tls, WarehouseConfig};
use crate::core::cell::Span;
use crate::core::commit_plan::Known;
use crate::core::decode::{FieldOrder, Oversize};
use crate::core::mapping::Plan;
use crate::core::marks::Marking;
use crate::core::outcome::{Counts, Rejection};
use crate::core::schema::Table;
use crate::core::value::fit_json;
use crate::messages::{Assignments, OffsetMove, Record, RecordBatch};
use crate::ports::{Claim, Warehouse};
use crate::topology;

/// A domain, ready for its tests.
pub struct Domain {
    config: Config,
    folder: tempfile::TempDir,
    /// By stream.
    plans: BTreeMap<String, (Arc<Plan>, Arc<[Marking]>)>,
    aggregates: Vec<RefreshPlan>,
    /// Databases made so far.
    made: usize,
}

/// A database that holds the domain's empty tables; each test's begins as a copy of it.
const TEMPLATE: &str = "template.db";

impl Domain {
    /// Makes the tables and reads the mappings, or says why it can't.
    pub async fn new(mut config: Config) -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|e| format!("a folder for the tests' databases can't be made: {e}"))?;
        config.warehouse = on_sqlite(&config.warehouse, &folder.path().join(TEMPLATE));
        warehouse::prepare(&config.warehouse, Path::new("")).await.map_err(|e| e.to_string())?;
        let mut plans = BTreeMap::new();
        for stream in &config.streams {
            let plan = topology::read_plan(&config, stream).await.map_err(|e| e.to_string())?;
            let markings = topology::markings(&config, &plan).map_err(|e| e.to_string())?;
            plans.insert(stream.name.clone(), (Arc::new(plan), markings));
        }
        let aggregates = topology::refresh_plans(&config, "test")?.into_iter().map(|(plan, _)| plan).collect();
        Ok(Self { config, folder, plans, aggregates, made: 0 })
    }

    /// What differs from what the test expects; an error is no verdict.
    pub async fn run(&mut self, test: &Test) -> Result<Vec<Difference>, String> {
        self.made += 1;
        let file = self.folder.path().join(format!("{}.db", self.made));
        for suffix in ["", "-wal"] {
            let from = self.folder.path().join(format!("{TEMPLATE}{suffix}"));
            if from.exists() {
                let to = PathBuf::from(format!("{}{suffix}", file.display()));
                std::fs::copy(from, to).map_err(|e| format!("a test's database can't be made: {e}"))?;
            }
        }
        let settings = on_sqlite(&self.config.warehouse, &file);
        let mut trial = Trial::new(self, &settings, test).await?;
        if !test.documents.is_empty() {
            let cache = Secret::new(format!("sqlite://{}.cache", file.display()));
            trial.documents = Some(Documents::open(&settings, &cache, &self.aggregates, test).await?);
        }
        for batch in batches(test) {
            trial.commit(batch).await?;
        }
        trial.verdict().await
    }
}

/// The same migrations on a file of SQLite's.
fn on_sqlite(settings: &WarehouseConfig, file: &Path) -> WarehouseConfig {
    WarehouseConfig {
        url: Secret::new(format!("sqlite://{}", file.display())),
        tls: Tls::Disable,
        ca: None,
        ..settings.clone()
    }
}

/// Positions of records that are committed together.
fn batches(test: &Test) -> Vec<std::ops::Range<usize>> {
    let mut batches: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, record) in test.records.iter().enumerate() {
        match batches.last_mut() {
            Some(last) if test.commit == Commit::Together && test.records[last.start].stream == record.stream => {
                last.end = at + 1;
            }
            _ => batches.push(at..at + 1),
        }
    }
    batches
}

/// One test under way.
struct Trial<'d> {
    settings: &'d WarehouseConfig,
    test: &'d Test,
    warehouse: Box<dyn Warehouse>,
    /// By stream.
    streams: BTreeMap<&'d str, OfStream>,
    now: DateTime<Utc>,
    counts: Counts,
    /// Position of the record from 1, and why.
    letters: Vec<(usize, Rejection)>,
    /// Where the test names any.
    documents: Option<Documents>,
}

struct OfStream {
    plan: Arc<Plan>,
    committer: Committer,
    order: FieldOrder,
    held: Assignments,
    /// Epoch and next offset, by partition.
    partitions: BTreeMap<i32, (i64, i64)>,
    largest: usize,
}

impl<'d> Trial<'d> {
    async fn new(domain: &'d Domain, settings: &'d WarehouseConfig, test: &'d Test) -> Result<Trial<'d>, String> {
        let now = Utc::now();
        let bookkeeping = (warehouse::open_bookkeeping(settings))().await.map_err(|e| e.to_string())?;
        let mut streams = BTreeMap::new();
        for stream in &domain.config.streams {
            let (plan, markings) = domain.plans[&stream.name].clone();
            let of_stream = test.records.iter().filter(|r| r.stream == stream.name);
            let mut claims: Vec<Claim> =
                of_stream.map(|r| Claim { partition: r.partition, topic_id: String::new(), start_offset: 0 }).collect();
            claims.sort_by_key(|claim| claim.partition);
            claims.dedup();
            let held = Assignments::default();
            let mut partitions = BTreeMap::new();
            if !claims.is_empty() {
                let claimed = bookkeeping.claim(&stream.topic, &claims, now).await.map_err(|e| e.to_string())?;
                for offset in claimed {
                    held.assign(offset.partition, offset.epoch);
                    partitions.insert(offset.partition, (offset.epoch, offset.next_offset));
                }
            }
            let known = Arc::new(Mutex::new(Known::new(plan.targets.len())));
            let committer = Committer::new(Arc::clone(&plan), known, 1).with_markings(markings);
            let order = FieldOrder::default();
            let largest = stream.max_record_bytes;
            let of_stream = OfStream { plan, committer, order, held, partitions, largest };
            streams.insert(stream.name.as_str(), of_stream);
        }
        drop(bookkeeping);
        if let Some(record) = test.records.iter().find(|r| !streams.contains_key(r.stream.as_str())) {
            let names: Vec<&str> = streams.keys().copied().collect();
            return Err(format!("there is no stream {}; there are {}", record.stream, names.join(", ")));
        }
        let warehouse = (warehouse::open_warehouse(settings))().await.map_err(|e| e.to_string())?;
        let (counts, letters) = (Counts::default(), Vec::new());
        Ok(Trial { settings, test, warehouse, streams, now, counts, letters, documents: None })
    }

    async fn commit(&mut self, batch: std::ops::Range<usize>) -> Result<(), String> {
        let records = &self.test.records[batch.clone()];
        let Some(stream) = records.first().and_then(|r| self.streams.get_mut(r.stream.as_str())) else {
            return Ok(());
        };
        let polled = stream.polled(records);
        let rows = decode_batch(&stream.plan, &mut stream.order, polled);
        let committed = stream.committer.commit(self.warehouse.as_mut(), &rows, &stream.held, self.now).await;
        let committed = committed.map_err(|e| e.to_string())?;
        self.counts = committed.counts.iter().fold(self.counts, |sum, c| sum.plus(c.counts));
        let letters = committed.dead_letters.into_iter();
        self.letters.extend(letters.map(|(index, why)| (batch.start + index as usize + 1, why)));
        match &mut self.documents {
            Some(documents) => documents.refresh().await,
            None => Ok(()),
        }
    }

    async fn verdict(mut self) -> Result<Vec<Difference>, String> {
        let mut differences = Vec::new();
        let names: Vec<&str> = self.test.rows.keys().map(String::as_str).collect();
        let mut catalog = warehouse::catalog(self.settings).await.map_err(|e| e.to_string())?;
        let tables = catalog.tables(&names).await.map_err(|e| e.to_string())?;
        for (name, rows) in &self.test.rows {
            let Some(table) = tables.iter().find(|t| t.name.eq_ignore_ascii_case(name)) else {
                differences.push(Difference::Impossible { what: format!("there is no table {name} in the domain") });
                continue;
            };
            let only_named = self.test.only_named_columns.contains(name);
            match expected(table, rows, only_named) {
                Err(what) => differences.push(Difference::Impossible { what }),
                Ok(expected) => {
                    let found = stored_rows(self.settings, table).await.map_err(|e| e.to_string())?;
                    let columns = table.columns.iter().map(|c| c.name.as_str()).collect();
                    let key = &table.primary_key;
                    let compared = Compared { place: Place::Table(table.name.clone()), columns, key, expected, found };
                    differences.extend(compared.differences());
                }
            }
        }
        if let Some(documents) = self.documents.take() {
            differences.extend(documents.differences(self.test).await?);
        }
        differences.extend(difference::letters(&self.test.dead_letters, &self.letters));
        let counts = [
            ("applied", self.test.applied, self.counts.applied),
            ("duplicates", self.test.duplicates, self.counts.duplicates),
        ];
        for (what, expected, found) in counts {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                differences.push(Difference::CountDiffers { what, expected, found });
            }
        }
        Ok(differences)
    }
}

impl OfStream {
    /// These records as a batch, each behind the last of its partition.
    fn polled(&mut self, records: &[TestRecord]) -> RecordBatch {
        let mut batch = RecordBatch::default();
        let mut moves: BTreeMap<i32, OffsetMove> = BTreeMap::new();
        for record in records {
            // Each partition was claimed before.
            let (epoch, next) = self.partitions.entry(record.partition).or_default();
            let to = moves.entry(record.partition).or_insert_with(|| OffsetMove {
                partition: record.partition,
                epoch: *epoch,
                from: *next,
                to: *next,
                gaps: Vec::new(),
            });
            let mut span = |text: &str| {
                let span = Span::new(batch.bytes.len(), text.len());
                batch.bytes.extend_from_slice(text.as_bytes());
                span
            };
            let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
            let oversize = Oversize::of(key.map(str::as_bytes), payload.map(str::as_bytes), self.largest);
            batch.records.push(Record {
                partition: record.partition,
                offset: *next,
                timestamp: record.timestamp,
                key: key.filter(|key| key.len() <= self.largest).map(&mut span),
                payload: payload.filter(|_| oversize.is_none()).map(span),
                oversize,
            });
            *next += 1;
            to.to = *next;
        }
        batch.moves = moves.into_values().collect();
        batch
    }
}

/// Literals by column; `None` for one that is not looked at.
fn expected(table: &Table, rows: &[Map<String, Value>], only_named: bool) -> Result<Vec<Vec<Option<String>>>, String> {
    let mut all = Vec::with_capacity(rows.len());
    for (nth, row) in (1..).zip(rows) {
        let wrong = |what: String| format!("{}, row {nth}: {what}", table.name);
        if let Some(unknown) = row.keys().find(|name| table.column(name).is_none()) {
            let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            return Err(wrong(format!("there is no column {unknown}; there are {}", names.join(", "))));
        }
        let mut values = Vec::with_capacity(table.columns.len());
        for (at, column) in table.columns.iter().enumerate() {
            let given = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
            values.push(match given {
                Some((_, value)) => {
                    let raw = value.to_string();
                    let fit = fit_json(&raw, &column.kind)
                        .map_err(|(_, problem)| wrong(format!("{} = {raw}: {problem}", column.name)))?;
                    Some(literal(&fit))
                }
                None if table.primary_key.contains(&at) => {
                    return Err(wrong(format!("{} is part of the primary key and is not named", column.name)));
                }
                None if only_named => None,
                None => Some("NULL".to_owned()),
            });
        }
        all.push(values);
    }
    Ok(all)
}
