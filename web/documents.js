// Documents of one aggregate, merged from the cache's pages and from what the stream says was replaced since, in any
// order: of two versions the newer stays. Pure.

/** How documents that differ only in columns that are not told apart become one number, by the value's name. */
export function combinerOf(value) {
  const words = value.toLowerCase().split("_");
  const has = (...some) => some.some((word) => words.includes(word));
  if (has("max", "maximum", "latest", "last")) return { name: "largest", of: (xs) => Math.max(...xs) };
  if (has("min", "minimum", "earliest", "first")) return { name: "smallest", of: (xs) => Math.min(...xs) };
  const isMean = has("mean", "avg", "average", "median", "share", "ratio", "rate", "percent", "speed", "temp", "level");
  if (isMean || words.some((w) => /^p\d+$/.test(w))) return { name: "mean", of: (xs) => xs.reduce((a, b) => a + b, 0) / xs.length };
  return { name: "sum", of: (xs) => xs.reduce((a, b) => a + b, 0) };
}

/** A key as text that no other key has. */
export const keyText = (key, columns) => JSON.stringify(columns.map((column) => key[column] ?? null));

/** A key as people read it. */
export const keyLabel = (key, columns) => columns.map((column) => String(key[column] ?? "–")).join(" · ");

const NUMERIC = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

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

  /** Lets go of buckets before `from`. */
  trim(from) {
    for (const [start, bucket] of this.buckets) {
      if (start >= from) continue;
      this.count -= bucket.documents.size;
      this.buckets.delete(start);
    }
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
 * a bucket has no number. `nameOf(key)` says the series of a document, or null to leave it out.
 */
export function lines(documents, { value, nameOf, from, to }) {
  const combine = combinerOf(value).of;
  const cells = new Map();
  let first = Infinity;
  let last = -Infinity;
  for (const [start, bucket] of documents.buckets) {
    if (start < from || start >= to) continue;
    for (const { key, values } of bucket.documents.values()) {
      const number = NUMERIC(values[value]);
      const name = number === null ? null : nameOf(key);
      if (name === null) continue;
      if (!cells.has(name)) cells.set(name, new Map());
      const line = cells.get(name);
      if (line.has(start)) line.get(start).push(number);
      else line.set(start, [number]);
      first = Math.min(first, start);
      last = Math.max(last, start);
    }
  }
  const times = grid(documents, first, last);
  const made = [...cells].map(([name, line]) => ({
    name,
    values: times.map((time) => (line.has(time) ? combine(line.get(time)) : null)),
  }));
  return { times, lines: made };
}

const MAX_GRID = 50000;

/** Every bucket from the first to the last; only those that there are where that would be too many. */
function grid(documents, first, last) {
  if (!(first <= last)) return [];
  const starts = documents.starts().filter((start) => start >= first && start <= last);
  const steps = (last - first) / documents.bucketMs;
  // Buckets of months are not equally long; then there is no grid.
  if (steps > MAX_GRID || starts.some((start) => (start - first) % documents.bucketMs !== 0)) return starts;
  return Array.from({ length: Math.round(steps) + 1 }, (_, at) => first + at * documents.bucketMs);
}

/** One number a series over the whole span: `[{name, value}]`. */
export function totals(documents, { value, nameOf, from, to }) {
  const combine = combinerOf(value).of;
  const numbers = new Map();
  for (const { key, values } of documents.rows(from, to)) {
    const number = NUMERIC(values[value]);
    const name = number === null ? null : nameOf(key);
    if (name === null) continue;
    if (numbers.has(name)) numbers.get(name).push(number);
    else numbers.set(name, [number]);
  }
  return [...numbers].map(([name, all]) => ({ name, value: combine(all) }));
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
