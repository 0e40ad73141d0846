// Documents of one aggregate, merged from the cache's pages and from what the stream says was replaced since, in any
// order: of two versions the newer stays. Pure.

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const mean = (numbers) => sum(numbers) / numbers.length;

/**
 * How documents become one number where their keys or hours are not told apart, by the value's name: `{name, of}`, `of`
 * taking their values. A mean that stands beside its sum and count (`mean_delay`, `sum_delay`, `delays`) stays exact.
 */
export function combinerOf(value, names = []) {
  const of = (combine) => (all) => {
    const numbers = all.map((values) => numeric(values[value])).filter((n) => n !== null);
    return numbers.length > 0 ? combine(numbers) : null;
  };
  const words = value.toLowerCase().split("_");
  const has = (...some) => some.some((word) => words.includes(word));
  if (has("max", "maximum", "latest", "last")) return { name: "largest", of: of((xs) => Math.max(...xs)) };
  if (has("min", "minimum", "least", "earliest", "first")) return { name: "smallest", of: of((xs) => Math.min(...xs)) };
  const what = /^(?:mean|avg|average)_(.+)$/.exec(value)?.[1];
  const total = [`sum_${what}`, `total_${what}`].find((name) => names.includes(name));
  const count = [`${what}s`, `count_${what}`, `${what}_count`].find((name) => names.includes(name));
  if (what && total && count) {
    const all = (list, name) => sum(list.map((values) => numeric(values[name]) ?? 0));
    return { name: "mean", of: (list) => (all(list, count) > 0 ? all(list, total) / all(list, count) : null) };
  }
  const isMean = has("mean", "avg", "average", "median", "share", "ratio", "rate", "percent", "speed", "temp", "temperature", "pressure", "humid", "level");
  if (isMean || words.some((word) => /^p\d+$/.test(word))) return { name: "mean", of: of(mean) };
  return { name: "sum", of: of(sum) };
}

/** A number, also where it came as a text so as to keep its digits. */
export function numeric(value) {
  if (typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value)) return Number(value);
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

const DAY = 86400000;
const STEPS = [DAY, 7 * DAY, 28 * DAY];
const MOST_POINTS = 900;

/** How wide the points of a chart are, so that they can be told apart: a bucket, a day, a week, four weeks. */
export function stepFor(spanMs, bucketMs) {
  return [bucketMs, ...STEPS.filter((step) => step > bucketMs && step % bucketMs === 0)].find((step, at, all) => spanMs / step <= MOST_POINTS || at === all.length - 1);
}

/** Where the step begins that holds a moment; weeks begin on a Monday. */
export function stepStart(ms, step) {
  const offset = step >= 7 * DAY ? 4 * DAY : 0;
  return Math.floor((ms - offset) / step) * step + offset;
}

/** A span with whole steps at its ends, so that no sum of a day lacks its morning. */
export function whole({ from, to }, step) {
  return { from: stepStart(from, step), to: stepStart(to - 1, step) + step };
}

/** A key as text that no other key has. */
const keyText = (key, columns) => JSON.stringify(columns.map((column) => key[column] ?? null));

/** A key as people read it. */
export const keyLabel = (key, columns) => columns.map((column) => String(key[column] ?? "–")).join(" · ");

export class Documents {
  constructor(keyColumns, bucketSeconds) {
    this.keyColumns = keyColumns;
    this.bucketMs = bucketSeconds * 1000;
    /** Start in ms to {floor, offsets, computedAt, documents: key text to {key, values, version}}. */
    this.buckets = new Map();
    this.count = 0;
  }

  bucket(start) {
    let bucket = this.buckets.get(start);
    if (!bucket) {
      bucket = { floor: -Infinity, version: -Infinity, offsets: {}, computedAt: NaN, documents: new Map() };
      this.buckets.set(start, bucket);
    }
    return bucket;
  }

  put(bucket, key, values, version) {
    const text = keyText(key, this.keyColumns);
    const known = bucket.documents.get(text);
    if (known && known.version > version) return;
    if (!known) this.count += 1;
    bucket.documents.set(text, { key, values, version });
  }

  /** A document out of the cache. What a bucket was replaced by since is newer. */
  merge(document) {
    const start = Date.parse(document.bucket_start);
    if (!Number.isFinite(start)) return;
    const bucket = this.bucket(start);
    if (document.version < bucket.floor) return;
    this.put(bucket, document.key, document.values, document.version);
    this.note(bucket, document);
  }

  /** A bucket as the stream tells it: all that it holds now. False where its documents are to be read again. */
  replace(replaced) {
    const start = Date.parse(replaced.bucket_start);
    if (!Number.isFinite(start)) return true;
    if (replaced.documents === null) return false;
    const bucket = this.bucket(start);
    if (replaced.version < bucket.floor) return true;
    bucket.floor = replaced.version;
    const held = new Set(replaced.documents.map((d) => keyText(d.key, this.keyColumns)));
    for (const [text, document] of bucket.documents) {
      if (document.version <= replaced.version && !held.has(text)) {
        bucket.documents.delete(text);
        this.count -= 1;
      }
    }
    for (const { key, values } of replaced.documents) this.put(bucket, key, values, replaced.version);
    this.note(bucket, replaced);
    return true;
  }

  note(bucket, { version, offsets, computed_at: computedAt }) {
    if (version < bucket.version) return;
    bucket.version = version;
    bucket.offsets = offsets || {};
    bucket.computedAt = Date.parse(computedAt);
  }

  drop(start) {
    this.count -= this.buckets.get(start).documents.size;
    this.buckets.delete(start);
  }

  /** Lets go of buckets before `from`. */
  trim(from) {
    for (const start of this.buckets.keys()) if (start < from) this.drop(start);
  }

  /** Lets go of the oldest buckets until there are at most so many documents. True where there were more. */
  bound(most) {
    if (this.count <= most) return false;
    for (const start of [...this.buckets.keys()].sort((a, b) => a - b)) {
      if (this.count <= most) break;
      this.drop(start);
    }
    return true;
  }

  /** Start of the last bucket that holds a document; NaN where none does. */
  lastStart() {
    let last = NaN;
    for (const [start, bucket] of this.buckets) if (bucket.documents.size > 0 && !(start <= last)) last = start;
    return last;
  }

  starts() {
    return [...this.buckets.keys()].filter((start) => this.buckets.get(start).documents.size > 0).sort((a, b) => a - b);
  }

  /** Documents of `from..to` ascending by bucket and key, as rows `{start, key, values}`. */
  rows(from = -Infinity, to = Infinity, accepts = () => true) {
    const rows = [];
    for (const start of this.starts()) {
      if (start < from || start >= to) continue;
      const documents = [...this.buckets.get(start).documents].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      for (const [, { key, values }] of documents) if (accepts(key)) rows.push({ start, key, values });
    }
    return rows;
  }

  /** Names of the values, in the order of the first documents that have them. */
  valueNames() {
    const names = new Set();
    for (const bucket of this.buckets.values()) {
      for (const { values } of bucket.documents.values()) for (const name of Object.keys(values)) names.add(name);
      if (names.size > 0) break;
    }
    return [...names];
  }
}

/**
 * One line a series over a grid without holes: `{times, lines: [{name, values}]}`, times in ms ascending, null where
 * there is no number. `nameOf(key)` says the series of a document, or null to leave it out; `step` is the width of the
 * grid where it is wider than a bucket.
 */
export function lines(documents, { value, nameOf, from, to, step = documents.bucketMs }) {
  const combine = combinerOf(value, documents.valueNames()).of;
  const isWide = step > documents.bucketMs;
  const cells = new Map();
  let first = Infinity;
  let last = -Infinity;
  for (const [start, bucket] of documents.buckets) {
    if (start < from || start >= to) continue;
    const time = isWide ? stepStart(start, step) : start;
    for (const { key, values } of bucket.documents.values()) {
      const name = numeric(values[value]) === null ? null : nameOf(key);
      if (name === null) continue;
      if (!cells.has(name)) cells.set(name, new Map());
      const line = cells.get(name);
      if (line.has(time)) line.get(time).push(values);
      else line.set(time, [values]);
      first = Math.min(first, time);
      last = Math.max(last, time);
    }
  }
  const times = grid(cells, first, last, step);
  const made = [...cells].map(([name, line]) => ({
    name,
    values: times.map((time) => {
      const all = line.get(time);
      return all === undefined ? null : all.length === 1 ? numeric(all[0][value]) : combine(all);
    }),
  }));
  return { times, lines: made };
}

const MAX_GRID = 50000;

/** Every step from the first to the last; only those that there are where that would be too many. */
function grid(cells, first, last, step) {
  if (!(first <= last)) return [];
  const starts = [...new Set([...cells.values()].flatMap((line) => [...line.keys()]))].sort((a, b) => a - b);
  const steps = (last - first) / step;
  // Buckets of months are not equally long; then there is no grid.
  if (steps > MAX_GRID || starts.some((start) => (start - first) % step !== 0)) return starts;
  return Array.from({ length: Math.round(steps) + 1 }, (_, at) => first + at * step);
}

/** One number a series over the whole span: `[{name, value}]`. */
export function totals(documents, { value, nameOf, from, to }) {
  const combine = combinerOf(value, documents.valueNames()).of;
  const all = new Map();
  for (const { key, values } of documents.rows(from, to)) {
    const name = nameOf(key);
    if (name === null) continue;
    if (all.has(name)) all.get(name).push(values);
    else all.set(name, [values]);
  }
  return [...all].map(([name, list]) => ({ name, value: combine(list) })).filter((one) => one.value !== null);
}

/** Names in the order that a value such as `least_delay` gives them; those without one first. Else as people order. */
export function inDocumentsOrder(documents, nameOf) {
  const by = documents.valueNames().find((name) => /^(least|lowest|order|position|rank)(_|$)/.test(name));
  const places = new Map();
  for (const { key, values } of documents.rows()) {
    const name = nameOf(key);
    if (name !== null) places.set(name, Math.min(places.get(name) ?? Infinity, by ? (numeric(values[by]) ?? -Infinity) : 0));
  }
  return inOrder(places.keys()).sort((a, b) => (places.get(a) === places.get(b) ? 0 : places.get(a) - places.get(b)));
}

/** Series with the most first, at most `limit`; how many were left out. */
export function busiest(made, limit) {
  if (made.length <= limit) return { kept: made, leftOut: 0 };
  const weight = (line) => line.values.reduce((sum, v) => sum + Math.abs(v ?? 0), 0);
  const sorted = [...made].sort((a, b) => weight(b) - weight(a));
  return { kept: sorted.slice(0, limit), leftOut: made.length - limit };
}

/** Names in the order of people: numbers by size, texts by letters. */
export function inOrder(names) {
  const number = (name) => {
    const found = /^\s*[<>≤≥]?\s*(-?\d+(?:\.\d+)?)/.exec(name);
    return found ? Number(found[1]) : NaN;
  };
  return [...names].sort((a, b) => {
    const [x, y] = [number(a), number(b)];
    if (Number.isFinite(x) && Number.isFinite(y) && x !== y) return x - y;
    if (Number.isFinite(x) !== Number.isFinite(y)) return Number.isFinite(x) ? -1 : 1;
    return a < b ? -1 : a > b ? 1 : 0;
  });
}
