// Series out of Prometheus's text format, as much of it as the daemon writes. Pure.

import { bytes, count, delay, figure, percent } from "./format.js";

export function parseMetrics(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found || line.startsWith("#")) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(/([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    series.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return series;
}

const WRITERS = /^bief_(batch|commit|duplicates|fenced|end_to_end|last_commit|records_applied|rows_written|bookkeeping)/;
const DECODERS = /^bief_(dead_letters|unknown_fields)/;
const CONSUMERS = /^bief_(record_bytes|records_consumed|gap|lag|max_partition_lag|partitions|memory|rebalance)/;
const OF_STAGE = { consumer: CONSUMERS, decoder: DECODERS, writer: WRITERS };

/** Those of a stage of a stream, as `[label, text]`; a histogram is its count and mean. */
export function countersOf(series, stream, stage) {
  const mine = series.filter(({ name, labels }) => {
    if (labels.stream !== stream) return false;
    return (labels.stage ?? labels.queue ?? labels.actor) === stage || (!labels.stage && !labels.queue && OF_STAGE[stage]?.test(name));
  });
  return shown(mine, ["stream", "stage", "queue"]);
}

/** Those of another unit, by its name or what it is called without a stream's. */
export function countersOfUnit(series, unit) {
  const word = unit.split("-")[0].replace(/(or|er)$/, "");
  return shown(series.filter(({ name, labels }) => labels.actor?.startsWith(`${unit}/`) || labels.unit === unit || name.startsWith(`bief_${word}`)), ["unit"]);
}

function shown(series, hidden) {
  const counts = new Map(series.filter(({ name }) => name.endsWith("_count")).map((s) => [key(s, "_count"), s.value]));
  return series
    .filter(({ name, labels }) => !("le" in labels) && !name.endsWith("_count"))
    .map((one) => {
      const labels = Object.entries(one.labels).filter(([name]) => !hidden.includes(name)).map(([, value]) => value);
      const label = one.name.replace(/^bief_/, "").replaceAll("_", " ") + (labels.length > 0 ? ` (${labels.join(", ")})` : "");
      if (!one.name.endsWith("_sum")) return [label.replace(/ total\b/, ""), worded(one.name, one.value)];
      const n = counts.get(key(one, "_sum")) || 0;
      const base = one.name.slice(0, -4);
      return [label.replace(/( seconds| bytes)? sum/, ", mean"), n > 0 ? `${worded(base, one.value / n)} of ${count(n)}` : "–"];
    });
}

const key = ({ name, labels }, suffix) => name.slice(0, -suffix.length) + JSON.stringify(labels);

function worded(name, value) {
  const base = name.replace(/_total$/, "");
  if (base.endsWith("_timestamp_seconds")) return value > 0 ? new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ") : "never";
  if (base.endsWith("_seconds")) return delay(value);
  if (base.endsWith("_bytes")) return bytes(value);
  if (base.endsWith("_ratio")) return percent(value);
  return figure(value);
}
