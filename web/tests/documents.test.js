// documents.js, pending.js and matching.js: what is drawn of history, cache and stream together.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Documents, busiest, combinerOf, inDocumentsOrder, inOrder, lines, numeric, stepFor, stepStart, totals } from "../documents.js";
import { Matches, delayOf, mainKey, recordName } from "../matching.js";
import { Pending } from "../pending.js";

const HOUR = 3600000;
const T0 = Date.parse("2013-01-01T10:00:00Z");
const time = (hours) => new Date(T0 + hours * HOUR).toISOString();
const page = (shop, hours, sales, version) => ({ key: { shop }, bucket_start: time(hours), bucket_end: time(hours + 1), values: { sales }, version, computed_at: time(hours), offsets: { sales: { 0: version * 10 } } });
const bucket = (hours, version, documents) => ({ aggregate: "a", bucket_start: time(hours), bucket_end: time(hours + 1), version, computed_at: time(hours), offsets: { sales: { 0: version * 10 } }, documents });
const made = () => new Documents(["shop"], 3600);
const all = (documents) => documents.rows().map(({ start, key, values }) => [(start - T0) / HOUR, key.shop, values.sales]);

test("of two versions the newer stays, whatever comes first", () => {
  const history = [page("n", 0, 1, 1), page("s", 0, 2, 1), page("n", 1, 3, 1)];
  const live = [bucket(0, 2, [{ key: { shop: "n" }, values: { sales: 9 } }]), bucket(1, 1, [{ key: { shop: "n" }, values: { sales: 3 } }])];
  const first = made();
  history.forEach((d) => first.merge(d));
  live.forEach((b) => first.replace(b));
  const second = made();
  live.forEach((b) => second.replace(b));
  history.forEach((d) => second.merge(d));
  const expected = [[0, "n", 9], [1, "n", 3]];
  assert.deepEqual(all(first), expected, "what vanished from a bucket is gone");
  assert.deepEqual(all(second), expected, "and an older page does not bring it back");
  assert.equal(first.count, 2);
});

test("a page that is newer than the event is not undone by it", () => {
  const documents = made();
  documents.merge(page("n", 0, 5, 7));
  documents.replace(bucket(0, 6, []));
  documents.replace(bucket(0, 6, [{ key: { shop: "n" }, values: { sales: 4 } }]));
  assert.deepEqual(all(documents), [[0, "n", 5]]);
});

test("a bucket without its documents is to be read again, and old ones are let go", () => {
  const documents = made();
  assert.equal(documents.replace(bucket(0, 1, null)), false);
  documents.merge(page("n", 0, 1, 1));
  documents.merge(page("n", 5, 1, 1));
  documents.trim(T0 + HOUR);
  assert.deepEqual([documents.count, documents.lastStart()], [1, T0 + 5 * HOUR]);
});

test("a line has a place for every bucket and a hole where there is no number", () => {
  const documents = made();
  [page("n", 0, 1, 1), page("n", 2, 3, 1), page("s", 3, 4, 1)].forEach((d) => documents.merge(d));
  documents.merge({ ...page("s", 1, 0, 1), values: { sales: null } });
  const { times, lines: drawn } = lines(documents, { value: "sales", nameOf: (key) => key.shop, from: -Infinity, to: Infinity });
  assert.deepEqual(times.map((t) => (t - T0) / HOUR), [0, 1, 2, 3]);
  assert.deepEqual(drawn, [{ name: "n", values: [1, null, 3, null] }, { name: "s", values: [null, null, null, 4] }]);
  const none = lines(documents, { value: "nothing", nameOf: () => "x", from: -Infinity, to: Infinity });
  assert.deepEqual(none, { times: [], lines: [] });
});

test("documents that are not told apart become one number by the value's name", () => {
  const documents = made();
  [page("n", 0, 1, 1), page("s", 0, 3, 1)].forEach((d) => documents.merge(d));
  assert.deepEqual(totals(documents, { value: "sales", nameOf: () => "all", from: -Infinity, to: Infinity }), [{ name: "all", value: 4 }]);
  assert.deepEqual(["sales", "mean_delay", "max_delay", "min_x", "p95", "late_share"].map((v) => combinerOf(v).name), ["sum", "mean", "largest", "smallest", "mean", "mean"]);
});

test("a mean that stands beside its sum and count stays exact over keys and days", () => {
  const documents = made();
  const hour = (shop, hours, sales, total) => ({ ...page(shop, hours, sales, 1), values: { sales, sum_amount: total, amounts: sales, mean_amount: total / sales } });
  [hour("n", 0, 1, 10), hour("s", 0, 3, 60), hour("n", 3, 4, 2), hour("n", 24, 1, 7)].forEach((d) => documents.merge(d));
  const span = { value: "mean_amount", nameOf: () => "all", from: -Infinity, to: Infinity };
  assert.deepEqual(lines(documents, span).lines[0].values.slice(0, 4), [70 / 4, null, null, 0.5]);
  const days = lines(documents, { ...span, step: 24 * HOUR });
  assert.deepEqual([days.times.map((t) => new Date(t).toISOString().slice(0, 10)), days.lines[0].values], [["2013-01-01", "2013-01-02"], [72 / 8, 7]]);
  assert.deepEqual(totals(documents, span), [{ name: "all", value: 79 / 9 }]);
});

test("points are as wide as they must be to be told apart, and weeks begin on Mondays", () => {
  const DAY = 24 * HOUR;
  assert.deepEqual([7, 30, 90, 365, 3650].map((days) => stepFor(days * DAY, HOUR) / DAY), [1 / 24, 1 / 24, 1, 1, 7]);
  assert.equal(stepFor(365 * DAY, DAY), DAY);
  assert.equal(new Date(stepStart(Date.parse("2013-01-03T10:00:00Z"), 7 * DAY)).toISOString(), "2012-12-31T00:00:00.000Z");
});

test("a decimal that came as a text is a number, other texts are none", () => {
  assert.deepEqual(["12.50", "-3", "", "1e5", "x", null, NaN, 4].map(numeric), [12.5, -3, null, null, null, null, null, 4]);
});

test("classes are in the order that their documents give", () => {
  const documents = new Documents(["class"], 3600);
  for (const [name, least] of [["3 hours and more", 180], ["1 to 14 minutes", 1], ["on time", null], ["15 to 59 minutes", 15]]) {
    documents.merge({ ...page("", 0, 1, 1), key: { class: name }, values: { least_delay: least, flights: 1 } });
  }
  assert.deepEqual(inDocumentsOrder(documents, (key) => key.class), ["on time", "1 to 14 minutes", "15 to 59 minutes", "3 hours and more"]);
});

test("the busiest lines stay, and names are in the order of people", () => {
  const many = Array.from({ length: 10 }, (_, n) => ({ name: String(n), values: [n, null] }));
  const { kept, leftOut } = busiest(many, 3);
  assert.deepEqual([kept.map(({ name }) => name), leftOut], [["9", "8", "7"], 7]);
  assert.deepEqual(inOrder(["120", "-15", "0", "b", "15 to 30", "a"]), ["-15", "0", "15 to 30", "120", "a", "b"]);
});

const AGGREGATE = { name: "a", table: "sale", time: "sold_at", bucket_seconds: 3600, key: ["shop"] };
const record = (offset, hours, shop = "n") => ({ topic: "sales", partition: 0, offset, timestamp: time(hours), committed_at: time(hours), fields: { shop }, keys: { shop: [{ code: shop }, { code: "parent" }], sale: [{ sold_at: time(hours), number: offset }] } });

test("a live record is in a document or beside it, never both: no seam", () => {
  const documents = made();
  documents.merge(page("n", 0, 1, 1));
  const pending = new Pending(AGGREGATE);
  assert.equal(pending.add(record(9, 0.5), documents, 0), false, "offset 9 is below 10 and so counted");
  assert.equal(pending.add(record(10, 0.5), documents, 0), true);
  assert.equal(pending.add(record(11, 2.5), documents, 0), true, "a bucket that has no document yet");
  assert.equal(pending.countIn(T0), 1);
  documents.replace(bucket(0, 2, [{ key: { shop: "n" }, values: { sales: 2 } }]));
  assert.equal(pending.settle(documents, 0), true);
  assert.deepEqual(pending.records.map(({ offset }) => offset), [11]);
  pending.settle(documents, 61000);
  assert.deepEqual(pending.records, [], "what nothing ever counted is forgotten");
});

test("records of other tables and without a time are no matter of the aggregate's", () => {
  const pending = new Pending(AGGREGATE);
  assert.equal(pending.add({ ...record(1, 0), keys: { shop: [{ code: "n" }] } }, made(), 0), false);
  assert.equal(pending.add({ ...record(1, 0), keys: { sale: [{ sold_at: "never" }] } }, made(), 0), false);
  for (let n = 0; n < 5000; n += 1) pending.add(record(n, 0), made(), 0);
  assert.equal(pending.records.length, 1000);
});

test("a row is matched with the record that made it, by its key in any order", () => {
  const matches = new Matches();
  matches.add(record(7, 0));
  const row = { number: 7, sold_at: time(0), amount: 3 };
  assert.equal(recordName(matches.recordOf("sale", ["sold_at", "number"], row)), "sales[0]@7");
  assert.equal(matches.recordOf("sale", ["sold_at", "number"], { ...row, number: 8 }), undefined);
  assert.equal(matches.recordOf("shop", ["sold_at", "number"], row), undefined);
  assert.equal(Object.keys(mainKey(record(7, 0))).join(), "sold_at,number");
  assert.ok(matches.recordOf("shop", ["code"], { code: "parent" }), "a table that is fed twice has both rows");
  assert.equal(delayOf({ timestamp: time(0), committed_at: time(1) }), 3600);
  for (let n = 0; n < 20000; n += 1) matches.add(record(n, 0));
  assert.ok(matches.records.map.size <= 8000);
});
