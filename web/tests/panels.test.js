// panels.js: which span is read and kept, while nothing is drawn.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

globalThis.sessionStorage = { getItem: () => null, setItem() {}, removeItem() {} };
globalThis.window = { matchMedia: () => ({}) };
globalThis.document = { hidden: false };
const { Panels } = await import("../panels.js");
const { Feed } = await import("../feed.js");

const HOUR = 3600000;
const NOW = Date.parse("2026-03-01T10:20:30.456Z");
const CONFIG = { kind: "line", aggregate: "a", values: ["sales"], range_seconds: 86400, bucket_seconds: 3600 };
const AGGREGATE = { name: "a", table: "sale", time: "sold_at", bucket_seconds: 3600, key: [], last_bucket: null };
const bucket = (start, sales) => ({ aggregate: "a", bucket_start: new Date(start).toISOString(), version: 1, computed_at: null, offsets: {}, documents: [{ key: {}, values: { sales } }] });

/** Panels of one aggregate on a tab that is not looked at. */
function hiddenPanels() {
  const panels = new Panels(null);
  panels.cards = [{ config: CONFIG }];
  panels.feeds.set("a", new Feed(AGGREGATE, () => {}));
  return panels;
}

test("while another tab is looked at, what leaves the window is let go of", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: NOW });
  globalThis.fetch = async () => ({ ok: true, status: 200, json: async () => ({ documents: [], next: null }) });
  const panels = hiddenPanels();
  const feed = panels.feeds.get("a");
  await feed.load(panels.from("a"), null);
  const hour = Date.parse("2026-03-01T10:00:00Z");
  for (let hours = 0; hours < 72; hours += 1) {
    panels.takeDocuments({ buckets: [bucket(hour + hours * HOUR, hours)], left_out: 0 });
    mock.timers.tick(HOUR);
  }
  assert.ok(feed.documents.count <= 25, `${feed.documents.count} of 72 hours`);
  mock.timers.tick(12 * HOUR);
  assert.ok(feed.documents.count <= 13, `${feed.documents.count}, though nothing came any more`);
  mock.timers.reset();
});

test("a page that was open before the first document, which lies years back, looks there", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: NOW });
  globalThis.fetch = async () => ({ ok: true, status: 200, json: async () => ({ documents: [], next: null }) });
  const panels = hiddenPanels();
  let loads = 0;
  panels.load = () => (loads += 1);
  const feed = panels.feeds.get("a");
  await feed.load(NOW - 24 * HOUR, null);
  const old = Date.parse("2013-01-01T10:00:00Z");
  for (let tenth = 0; tenth < 100; tenth += 1) {
    panels.takeDocuments({ buckets: [bucket(old + tenth * HOUR, 1)], left_out: 0 });
    mock.timers.tick(100);
  }
  assert.equal(loads, 3, "each 3 s of 10");
  const none = { ...bucket(old, 0), documents: [] };
  assert.deepEqual([feed.isElsewhere({ buckets: [none] }), feed.isElsewhere({ buckets: [{ ...none, documents: null }] })], [false, true]);
  // What the daemon told by then says where the window is.
  feed.aggregate = { ...AGGREGATE, last_bucket: "2013-01-05T10:00:00Z" };
  assert.equal(panels.from("a"), Date.parse("2013-01-04T11:00:00Z"));
  await feed.load(panels.from("a"), null);
  panels.takeDocuments({ buckets: [bucket(Date.parse("2013-01-05T11:00:00Z"), 7)], left_out: 0 });
  assert.equal(feed.documents.count, 1);
  assert.equal(feed.isElsewhere({ buckets: [bucket(old, 1)] }), false, "there is something to look at");
  mock.timers.reset();
});

test("what is read again has the same address for as long as a bucket lasts", async () => {
  const asked = [];
  globalThis.fetch = async (path) => (asked.push(path), { ok: true, status: 200, json: async () => ({ documents: [], next: null }) });
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: NOW });
  const panels = hiddenPanels();
  const froms = [];
  for (const minutes of [0, 1, 38, 2]) {
    mock.timers.tick(minutes * 60000);
    froms.push(new Date(panels.from("a")).toISOString());
    await panels.feeds.get("a").load(panels.from("a"), null);
  }
  const [ten, eleven] = ["2026-02-28T10:00:00.000Z", "2026-02-28T11:00:00.000Z"];
  assert.deepEqual(froms, [ten, ten, ten, eleven]);
  assert.deepEqual([new Set(asked.slice(0, 3)).size, new Set(asked).size], [1, 2]);
  mock.timers.reset();
});
