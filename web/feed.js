// One aggregate's documents for a span of time: read from the cache, then kept up by the stream. What is shown stays
// until what replaces it is whole.

import { at, explained, get, withQuery } from "./api.js";
import { Documents } from "./documents.js";
import { Pending } from "./pending.js";

const PAGE_LIMIT = 5000;
/** Documents that one feed keeps at most; a page that stays open must not grow. */
const MAX_DOCUMENTS = 40000;
const RELOAD_AFTER_MS = 1000; // many calls to read again become one
const RELOAD_APART_MS = 5000; // and while much is computed, as after a backfill, no more often than this
const RETRY_MS = 5000;

export class Feed {
  constructor(aggregate, onChange) {
    this.aggregate = aggregate;
    this.onChange = onChange;
    this.documents = this.empty();
    this.pending = new Pending(aggregate);
    this.incoming = null;
    this.state = "loading";
    this.error = "";
    this.truncated = false;
    this.span = null;
    this.held = null; // the span of the documents; another than `span` while that is read
    this.timer = 0;
    this.isWaiting = false;
    this.isBehind = false; // what is under way was asked for too early, and is to be read once more
    this.loadedAt = 0; // when the last load ended
    this.generation = 0;
  }

  empty() {
    return new Documents(this.aggregate.key, this.aggregate.bucket_seconds);
  }

  /**
   * Reads `from..to` (ms; null is open) out of the cache, page by page. Where that is being read already it is read once
   * more afterwards: begun anew each time, a load that is slower than what asks for it would never end.
   */
  async load(from, to) {
    if (this.incoming && this.span.from === from && this.span.to === to) {
      this.isBehind = true;
      return;
    }
    clearTimeout(this.timer);
    this.isWaiting = false;
    this.isBehind = false;
    this.span = { from, to };
    this.generation += 1;
    const generation = this.generation;
    const incoming = this.empty();
    this.incoming = incoming;
    let truncated = false;
    let retryMs = 0;
    try {
      let cursor = null;
      do {
        const page = await get(this.path({ from, to, cursor }));
        if (generation !== this.generation) return;
        page.documents.forEach((document) => incoming.merge(document));
        cursor = page.next;
        truncated = cursor !== null && incoming.count >= MAX_DOCUMENTS;
      } while (cursor !== null && !truncated);
      this.documents = incoming;
      this.held = { from, to };
      this.truncated = truncated;
      this.state = "ready";
      this.pending.settle(this.documents, Date.now());
    } catch (error) {
      if (generation !== this.generation) return;
      retryMs = error.retryAfter > 0 ? error.retryAfter * 1000 : RETRY_MS;
      this.error = `${explained(error)} Asked again every ${Math.ceil(retryMs / 1000)} s.`;
      // What was shown is old, but better than nothing; the state says that it is.
      this.state = this.documents.count > 0 ? "stale" : "failed";
    }
    this.incoming = null;
    this.loadedAt = Date.now();
    if (retryMs > 0) this.reload(retryMs);
    else if (this.isBehind) this.reload();
    this.onChange(this);
  }

  path({ from, to, cursor }) {
    const moment = (ms) => (Number.isFinite(ms) ? new Date(ms).toISOString() : null);
    const query = { from: moment(from ?? NaN), to: moment(to ?? NaN), limit: PAGE_LIMIT, cursor };
    return withQuery(at`/api/v1/aggregates/${this.aggregate.name}`, query);
  }

  /** Reads the span again, soon. */
  reload(ms = RELOAD_AFTER_MS) {
    if (!this.span || this.isWaiting) return;
    if (this.incoming) {
      this.isBehind = true;
      return;
    }
    this.isWaiting = true;
    const wait = Math.max(ms, RELOAD_APART_MS - (Date.now() - this.loadedAt));
    this.timer = setTimeout(() => this.load(this.span.from, this.span.to), wait);
  }

  /** Nothing is read until it is loaded again; what it holds stays. */
  close() {
    clearTimeout(this.timer);
    this.isWaiting = true;
    this.incoming = null;
    this.generation += 1;
  }

  /** What a `documents` event says. True where something of this aggregate changed. */
  take({ buckets, left_out: leftOut }) {
    let changed = false;
    for (const bucket of buckets) {
      if (bucket.aggregate !== this.aggregate.name || !this.holds(Date.parse(bucket.bucket_start))) continue;
      changed = true;
      const whole = this.documents.replace(bucket);
      if (this.incoming) this.incoming.replace(bucket);
      if (!whole) this.reload();
    }
    if (leftOut > 0) this.reload();
    if (this.documents.bound(MAX_DOCUMENTS)) this.truncated = true;
    if (changed) this.pending.settle(this.documents, Date.now());
    return changed;
  }

  /** Lets go of what lies before `from`, which is not read again either, and of records whose document never came. */
  trim(from) {
    this.documents.trim(from);
    if (this.span && this.span.from !== null && this.span.from < from) this.span.from = from;
    this.pending.settle(this.documents, Date.now());
  }

  /** Whether it is looked where nothing is: there is no document yet, and one outside the span was computed. */
  isElsewhere({ buckets }) {
    if (!this.span || this.documents.count > 0) return false;
    const isOf = ({ aggregate, bucket_start: start, documents }) => aggregate === this.aggregate.name && documents?.length !== 0 && !this.holds(Date.parse(start));
    return buckets.some(isOf);
  }

  holds(start) {
    if (!this.span) return false;
    return start >= (this.span.from ?? -Infinity) && start < (this.span.to ?? Infinity);
  }

  /** What a `records` event says. True where a record of this span came that no document counts yet. */
  takeRecords({ records }) {
    const now = Date.now();
    let added = false;
    for (const record of records) added = this.pending.add(record, this.documents, now, (start) => this.holds(start)) || added;
    return added;
  }
}
