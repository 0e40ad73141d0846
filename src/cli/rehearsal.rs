//! What `bief run --dry-run` shows: real records, decoded and written in a transaction that is rolled back.

use std::sync::{Arc, Mutex};

use chrono::Utc;

use super::support::{block_on, broker_of, fail, print_json};
use super::{exit, printable};
use crate::actors::decoder::decode_batch;
use crate::actors::writer::Committer;
use crate::adapters::warehouse;
use crate::config::{Config, Start, Stream};
use crate::core::cell::Cell;
use crate::core::commit_plan::Known;
use crate::core::decode::{FieldOrder, Oversize};
use crate::core::mapping::Plan;
use crate::core::outcome::Rejection;
use crate::core::time;
use crate::messages::RowBatch;
use crate::ports::Broker;
use crate::topology;

/// Rehearses at most `records` records of each stream and prints them.
pub fn run(config: &Config, records: usize, json: bool) -> u8 {
    let broker = match broker_of(config) {
        Ok(broker) => broker,
        Err(error) => return fail(json, &error),
    };
    let outcome = block_on(async {
        for stream in &config.streams {
            rehearse(config, stream, &broker, records, json).await?;
        }
        Ok::<(), String>(())
    });
    match outcome {
        Ok(()) => exit::OK,
        Err(error) => fail(json, &error),
    }
}

async fn rehearse(
    config: &Config,
    stream: &Stream,
    broker: &Arc<dyn Broker>,
    limit: usize,
    json: bool,
) -> Result<(), String> {
    let plan = Arc::new(topology::read_plan(config, stream).await.map_err(|e| e.to_string())?);
    let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(|e| e.to_string())?;
    let known = bookkeeping.offsets(Some(&stream.topic)).await.map_err(|e| e.to_string())?;
    let (asked, topic, start) = (Arc::clone(broker), stream.topic.clone(), stream.start);
    let batch = tokio::task::spawn_blocking(move || {
        let mut from = Vec::new();
        for partition in asked.partitions(&topic)? {
            let bounds = asked.bounds(&topic, partition)?;
            let offset = match (known.iter().find(|k| k.partition == partition), start) {
                (Some(known), _) => known.next_offset.clamp(bounds.low, bounds.high),
                (None, Start::Earliest) => bounds.low,
                (None, Start::Latest) => bounds.high,
            };
            from.push((partition, offset));
        }
        asked.look(&topic, &from, limit)
    });
    let mut batch = batch.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    for record in &mut batch.records {
        let [key, payload] = [record.key, record.payload].map(|span| span.map(|span| span.of(&batch.bytes)));
        record.oversize = Oversize::of(key, payload, stream.max_record_bytes);
    }
    let rows = decode_batch(&plan, &mut FieldOrder::default(), batch);
    let mut warehouse = (warehouse::open_warehouse(&config.warehouse))().await.map_err(|e| e.to_string())?;
    let mut committer = Committer::new(Arc::clone(&plan), Arc::new(Mutex::new(Known::new(plan.targets.len()))), 1);
    let rehearsed = committer.rehearse(warehouse.as_mut(), &rows, Utc::now()).await.map_err(|e| e.to_string())?;
    if !json {
        outln!("stream {}: {} records, rolled back", printable::printable(&stream.name), rows.source.records.len());
    }
    for (index, record) in rows.source.records.iter().enumerate() {
        let letter = rehearsed.letters.iter().find(|l| l.partition == record.partition && l.offset == record.offset);
        show(&plan, stream, &rows, index, letter.map(|l| &l.rejection), json);
    }
    if !json {
        let sum =
            rehearsed.committed.counts.iter().fold(crate::core::outcome::Counts::default(), |s, c| s.plus(c.counts));
        outln!("would be: {} applied, {} duplicates, {} dead letters", sum.applied, sum.duplicates, sum.dead_letters);
        for (target, count) in plan.targets.iter().zip(&rehearsed.committed.rows) {
            outln!("  {}: {count} rows inserted or changed", printable::printable(&target.table.name));
        }
    }
    Ok(())
}

fn show(plan: &Plan, stream: &Stream, batch: &RowBatch, index: usize, rejection: Option<&Rejection>, json: bool) {
    let record = &batch.source.records[index];
    let arena = &batch.source.bytes;
    let payload = record.payload.map(|s| String::from_utf8_lossy(s.of(arena)).into_owned());
    let mut rows = Vec::new();
    for (target, table) in plan.targets.iter().zip(&batch.tables) {
        let width = target.columns.len();
        for (row, of) in table.cells.chunks_exact(width).zip(&table.records) {
            if *of as usize == index && rejection.is_none() {
                let columns = target.columns.iter().map(|c| target.table.columns[*c].name.as_str());
                let cells: Vec<(&str, String)> =
                    columns.zip(row).filter(|(_, c)| **c != Cell::Missing).map(|(n, c)| (n, shown(c, arena))).collect();
                rows.push((target.table.name.as_str(), cells));
            }
        }
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(table, cells)| serde_json::json!({ "table": table, "columns": cells.iter().cloned().collect::<std::collections::BTreeMap<_, _>>() }))
            .collect();
        print_json(&serde_json::json!({
            "stream": stream.name,
            "partition": record.partition,
            "offset": record.offset,
            "payload": payload,
            "rows": rows,
            "dead_letter": rejection.map(|r| serde_json::json!({
                "reason": r.reason.as_str(), "field": r.field, "message": r.message,
            })),
        }));
        return;
    }
    outln!("{}[{}]@{}", printable::printable(&stream.topic), record.partition, record.offset);
    outln!("  {}", printable::printable(payload.as_deref().unwrap_or("no payload")));
    for (table, cells) in rows {
        let cells: Vec<String> = cells
            .iter()
            .map(|(name, value)| format!("{}={}", printable::printable(name), printable::printable(value)))
            .collect();
        outln!("  -> {}: {}", printable::printable(table), cells.join(" "));
    }
    if let Some(r) = rejection {
        let field = r.field.as_deref().map(|f| format!(" in {f}")).unwrap_or_default();
        outln!("  -> dead letter: {}{}: {}", r.reason, printable::printable(&field), printable::printable(&r.message));
    }
}

/// A value as SQL would show it.
fn shown(cell: &Cell, arena: &[u8]) -> String {
    let mut out = Vec::new();
    match cell {
        Cell::Missing => return "default".to_owned(),
        Cell::Null => return "null".to_owned(),
        Cell::Int(v) => return v.to_string(),
        Cell::UInt(v) => return v.to_string(),
        Cell::Float(v) => return v.to_string(),
        Cell::Decimal(s) => out.extend_from_slice(s.of(arena)),
        Cell::Text(s) | Cell::Bytes(s) => return format!("'{}'", String::from_utf8_lossy(s.of(arena))),
        Cell::DateTime(v) => time::write_datetime(&mut out, *v),
        Cell::Date(v) => time::write_date(&mut out, *v),
        Cell::Time(v) => time::write_time(&mut out, *v),
    }
    String::from_utf8_lossy(&out).into_owned()
}
