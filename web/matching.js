// Rows of the warehouse beside the Kafka records that made them, matched by the row's key. Pure.

import { Recent } from "./ring.js";

/** Rows remembered of each record are few; this holds some minutes of a sample. */
const KEPT = 8000;

const text = (table, columns, key) => JSON.stringify([table, ...columns.map((column) => key[column] ?? null)]);

export class Matches {
  constructor() {
    this.records = new Recent(KEPT);
    /** Table to the columns of its key, as records tell them. */
    this.tables = new Map();
  }

  add(record) {
    for (const [table, keys] of Object.entries(record.keys)) {
      for (const key of keys) {
        const columns = Object.keys(key).sort();
        this.tables.set(table, columns);
        this.records.set(text(table, columns, key), record);
      }
    }
  }

  /** The record that made the row last, as far as it was sampled. */
  recordOf(table, keyColumns, row) {
    return this.records.get(text(table, [...keyColumns].sort(), row));
  }

  clear() {
    this.records.clear();
  }
}

/** Seconds from a record's append at the broker to its commit; NaN where the broker told no time. */
export function delayOf(record) {
  return (Date.parse(record.committed_at) - Date.parse(record.timestamp)) / 1000;
}

export const recordId = (record) => `${record.topic}/${record.partition}/${record.offset}`;

/** `flights[3]@84102` */
export const recordName = (record) => `${record.topic}[${record.partition}]@${record.offset}`;

/** The key that tells most of a record: the longest, the last of equals; null where it made no row. */
export function mainKey(record) {
  let main = null;
  for (const key of Object.values(record.keys).flat()) {
    if (main === null || Object.keys(key).length >= Object.keys(main).length) main = key;
  }
  return main;
}
