// Live records that no document holds yet: what joins the cache's history to the stream without a seam. A document says
// up to which offset of each partition it counts, so that a record is either in it or here, never both. Pure.

const MAX_KEPT = 1000;
/** A record that no document took up in this time was sampled after its bucket was let go; it is forgotten. */
const MAX_AGE_MS = 60000;

export class Pending {
  /** `aggregate` is as /api/v1/aggregates tells it. */
  constructor(aggregate) {
    this.aggregate = aggregate;
    this.bucketMs = aggregate.bucket_seconds * 1000;
    this.records = [];
  }

  /**
   * Keeps a record that makes rows of the aggregate's table, unless their buckets' documents count it already or lie
   * where nobody looks.
   */
  add(record, documents, now, holds = () => true) {
    const { topic, partition, offset } = record;
    let added = false;
    for (const key of record.keys[this.aggregate.table] || []) {
      const time = Date.parse(key[this.aggregate.time]);
      if (!Number.isFinite(time)) continue;
      const start = Math.floor(time / this.bucketMs) * this.bucketMs;
      if (!holds(start) || isCounted(documents.buckets.get(start), topic, partition, offset)) continue;
      this.records.push({ time, start, topic, partition, offset, columns: { ...record.fields, ...key }, seen: now });
      added = true;
    }
    if (this.records.length > MAX_KEPT) this.records.splice(0, this.records.length - MAX_KEPT);
    return added;
  }

  /** Lets go of what the documents count by now. True where something changed. */
  settle(documents, now) {
    const before = this.records.length;
    this.records = this.records.filter(
      (r) => now - r.seen < MAX_AGE_MS && !isCounted(documents.buckets.get(r.start), r.topic, r.partition, r.offset),
    );
    return this.records.length !== before;
  }

  countIn(start, accepts = () => true) {
    return this.records.filter((r) => r.start === start && accepts(r.columns)).length;
  }
}

function isCounted(bucket, topic, partition, offset) {
  const next = bucket?.offsets?.[topic]?.[partition];
  return next !== undefined && offset < next;
}
