// Buffers of a fixed size, so that a page may stay open for ever. Pure.

/** The last `size` items. */
export class Ring {
  constructor(size) {
    this.size = size;
    this.items = new Array(size);
    this.start = 0;
    this.length = 0;
  }

  push(item) {
    if (this.length < this.size) {
      this.items[(this.start + this.length) % this.size] = item;
      this.length += 1;
    } else {
      this.items[this.start] = item;
      this.start = (this.start + 1) % this.size;
    }
  }

  /** 0 is the oldest. */
  at(index) {
    return index < 0 || index >= this.length ? undefined : this.items[(this.start + index) % this.size];
  }

  last() {
    return this.at(this.length - 1);
  }

  toArray() {
    return Array.from({ length: this.length }, (_, at) => this.at(at));
  }

  /** Newest first, at most `limit`. */
  newest(limit = this.length) {
    return Array.from({ length: Math.min(limit, this.length) }, (_, at) => this.at(this.length - 1 - at));
  }

  clear() {
    this.items.fill(undefined);
    this.start = 0;
    this.length = 0;
  }
}

/** A map that forgets what was set longest ago. */
export class Recent {
  constructor(size) {
    this.size = size;
    this.map = new Map();
  }

  get(key) {
    return this.map.get(key);
  }

  set(key, value) {
    this.map.delete(key);
    this.map.set(key, value);
    if (this.map.size > this.size) this.map.delete(this.map.keys().next().value);
  }

  clear() {
    this.map.clear();
  }
}

/** The value below which `share` of them lie; NaN of none. */
export function quantile(values, share) {
  if (values.length === 0) return NaN;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
