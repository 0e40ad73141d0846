// format.js, ring.js, csv.js, view.js, explore_state.js, api.js: texts and small things.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at, withQuery } from "../api.js";
import { csv } from "../csv.js";
import { covers, queryFrom, stateFrom } from "../explore_state.js";
import { bucketName, bucketTime, bytes, delay, duration, figure, fromInput, shortTime, spanMs, toInput } from "../format.js";
import { Recent, Ring, quantile } from "../ring.js";
import { formatView, joinList, parseView, splitList } from "../view.js";

test("numbers have as many digits as mean something", () => {
  assert.deepEqual([0.1234, 12.345, 123.45, 12345.6, 7, null, NaN, "x"].map(figure), ["0.123", "12.35", "123.5", "12,346", "7", "–", "–", "x"]);
});

test("times are short, in UTC, and read back as they were written", () => {
  assert.deepEqual([0.0123, 0.9, 3.21, 75, NaN].map(delay), ["12 ms", "900 ms", "3.2 s", "1 min", "–"]);
  assert.equal(duration(90061), "1 d 1 h");
  assert.equal(bucketTime(Date.parse("2013-01-31T14:00:00Z"), 3600), "2013-01-31 14:00");
  assert.equal(bucketTime(Date.parse("2013-01-31T00:00:00Z"), 86400), "2013-01-31");
  assert.deepEqual([3600, 86400, 300, 604800].map(bucketName), ["hour", "day", "5 min", "7 days"]);
  const moment = Date.parse("2013-01-31T14:05:00Z");
  assert.equal(fromInput(toInput(moment)), moment);
  assert.ok(Number.isNaN(fromInput("yesterday")));
  assert.equal(shortTime("2013-01-31T14:05:00Z"), "2013-01-31 14:05");
  assert.equal(shortTime("<b>"), "<b>");
  assert.deepEqual(["7d", "24h", "90 min", "x"].map(spanMs), [604800000, 86400000, 5400000, NaN]);
  assert.deepEqual([10, 2048, 3 << 20].map(bytes), ["10 B", "2.0 KiB", "3.0 MiB"]);
});

test("a ring keeps the last and never grows", () => {
  const ring = new Ring(3);
  for (let n = 0; n < 10; n += 1) ring.push(n);
  assert.deepEqual([ring.toArray(), ring.newest(2), ring.last(), ring.items.length], [[7, 8, 9], [9, 8], 9, 3]);
  const recent = new Recent(2);
  recent.set("a", 1);
  recent.set("b", 2);
  recent.set("a", 3);
  recent.set("c", 4);
  assert.deepEqual([recent.get("a"), recent.get("b"), recent.map.size], [3, undefined, 2]);
  assert.equal(quantile([5, 1, 4, 2, 3], 0.5), 3);
});

test("a CSV cell is quoted where it must be and never becomes a formula", () => {
  assert.equal(csv(["a", "b"], [["x,y", 'say "hi"'], ["=1+1", -5], [null, "-12.50"]]), 'a,b\r\n"x,y","say ""hi"""\r\n\'=1+1,-5\r\n,-12.50\r\n');
});

test("a view survives the address", () => {
  const view = { tab: "explore", query: { aggregate: "a b", "key.shop": "x&y=z", from: "" } };
  assert.deepEqual(parseView(formatView(view)), { tab: "explore", query: { aggregate: "a b", "key.shop": "x&y=z" } });
  assert.deepEqual(parseView("#nonsense?a=b"), { tab: "live", query: {} });
  assert.deepEqual(parseView(""), { tab: "live", query: {} });
  const parts = ["a,b", "c\\", "d"];
  assert.deepEqual(splitList(joinList(parts)), parts);
});

const AGGREGATES = [{ name: "sales", key: ["shop", "kind"], values: ["count", "mean_amount", "max"] }];

test("what is explored is read from the address, and nonsense in it is passed over", () => {
  const state = stateFrom({ aggregate: "sales", values: "max,nonsense", by: "kind", "key.shop": "north", "key.x": "y", range: "30d", from: "2013-01-01T00:00:00Z", to: "2013-02-01T00:00:00Z" }, AGGREGATES);
  assert.deepEqual(state.values, ["max"]);
  assert.deepEqual(state.filters, { shop: "north" });
  assert.equal(state.window.to - state.window.from, 31 * 86400000);
  assert.deepEqual(stateFrom(queryFrom(state), AGGREGATES), state);
  const usual = stateFrom({ by: "nonsense", from: "2013-02-01T00:00:00Z", to: "2013-01-01T00:00:00Z" }, AGGREGATES);
  assert.deepEqual([usual.aggregate, usual.by, usual.range, usual.window], ["sales", "shop", "7d", null]);
  const one = { ...usual, by: "" };
  assert.equal(stateFrom(queryFrom(one), AGGREGATES).by, "");
  assert.equal(stateFrom({}, []), null);
});

test("a span is read again only where what is held lacks some of it", () => {
  const open = { from: 100, to: null };
  assert.ok(covers(open, { from: 100, to: 900 }, 0) && covers({ from: null, to: null }, null, 0) && covers({ from: 110, to: 890 }, { from: 100, to: 900 }, 10));
  assert.ok(!covers(null, null, 0) && !covers(open, { from: 50, to: 900 }, 10) && !covers(open, null, 0) && !covers({ from: 100, to: 500 }, { from: 200, to: 900 }, 10));
});

test("values in a path and a query are encoded", () => {
  assert.equal(at`/api/v1/rows/${"../x?y"}`, "/api/v1/rows/..%2Fx%3Fy");
  assert.equal(withQuery("/a", { from: "2013-01-01T00:00:00Z", to: null, "key.é": "a&b" }), "/a?from=2013-01-01T00%3A00%3A00Z&key.%C3%A9=a%26b");
  assert.equal(withQuery("/a", {}), "/a");
});
