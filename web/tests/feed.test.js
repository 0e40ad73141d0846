// feed.js: documents out of the cache's pages and the stream, while the daemon answers now and then.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Feed } from "../feed.js";

globalThis.sessionStorage = { getItem: () => null, setItem() {}, removeItem() {} };

const AGGREGATE = { name: "a", table: "sale", time: "sold_at", bucket_seconds: 3600, key: ["shop"] };
const time = (hours) => new Date(Date.parse("2013-01-01T10:00:00Z") + hours * 3600000).toISOString();
const page = (hours, sales, version) => ({ key: { shop: "n" }, bucket_start: time(hours), bucket_end: time(hours + 1), values: { sales }, version, computed_at: time(hours), offsets: {} });
const bucket = (hours, sales, version) => ({ aggregate: "a", bucket_start: time(hours), bucket_end: time(hours + 1), version, computed_at: time(hours), offsets: {}, documents: [{ key: { shop: "n" }, values: { sales } }] });
const answer = (body, status = 200) => ({ ok: status === 200, status, headers: new Map(), json: async () => body });
const shown = (feed) => feed.documents.rows().map(({ values }) => values.sales);

test("pages are read to the last, and what the stream replaced meanwhile is not undone", async () => {
  const asked = [];
  let feed = null;
  globalThis.fetch = async (path) => {
    asked.push(path.replace(/.*limit=\d+/, ""));
    // While the first page is under way, the stream tells of a newer version.
    if (asked.length === 1) feed.take({ buckets: [bucket(0, 9, 2)], left_out: 0 });
    return answer(asked.length === 1 ? { documents: [page(0, 1, 1)], next: "x" } : { documents: [page(1, 2, 1)], next: null });
  };
  feed = new Feed(AGGREGATE, () => {});
  await feed.load(null, null);
  assert.deepEqual([asked, feed.state, shown(feed)], [["", "&cursor=x"], "ready", [9, 2]]);
});

test("what was shown stays while the cache is away, and is read again", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100000 });
  globalThis.fetch = async () => answer({ documents: [page(0, 1, 1)], next: null });
  const states = [];
  const feed = new Feed(AGGREGATE, ({ state }) => states.push(state));
  await feed.load(null, null);
  globalThis.fetch = async () => answer({ title: "Service Unavailable", detail: "The cache does not answer." }, 503);
  await feed.load(null, null);
  assert.deepEqual([states, shown(feed), feed.error], [["ready", "stale"], [1], "The cache does not answer. Asked again every 5 s."]);
  globalThis.fetch = async () => answer({ documents: [page(0, 4, 3)], next: null });
  mock.timers.tick(5000);
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  assert.deepEqual([states.at(-1), shown(feed)], ["ready", [4]]);
  mock.timers.reset();
});

test("while very much is replaced the cache is read again now and then, not for ever later", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100000 });
  let asked = 0;
  globalThis.fetch = async () => ((asked += 1), answer({ documents: [], next: null }));
  const feed = new Feed(AGGREGATE, () => {});
  await feed.load(null, null);
  for (let turn = 0; turn < 200; turn += 1) {
    feed.take({ buckets: [], left_out: 7 });
    mock.timers.tick(100);
    for (let step = 0; step < 10; step += 1) await Promise.resolve();
  }
  assert.equal(asked, 5, "at the start, and each 5 s of 20");
  feed.close();
  mock.timers.tick(60000);
  assert.equal(asked, 5);
  mock.timers.reset();
});

/** Lets what is under way go on until nothing of it is left. */
const settled = async () => {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
};

test("a load that takes long is not begun anew by what asks for it meanwhile, but done once more", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100000 });
  let asked = 0;
  const ends = [];
  // The cache takes 12 s for each answer.
  globalThis.fetch = () => ((asked += 1), new Promise((done) => setTimeout(() => done(answer({ documents: [page(0, asked, asked)], next: null })), 12000)));
  const feed = new Feed(AGGREGATE, () => ends.push(Date.now() - 100000));
  feed.load(0, null);
  for (let second = 0; second < 24; second += 1) {
    feed.take({ buckets: [], left_out: 7 });
    if (second === 8) feed.load(0, null);
    mock.timers.tick(1000);
    await settled();
  }
  assert.deepEqual([asked, ends], [2, [12000]], "the second is under way");
  mock.timers.tick(5000);
  await settled();
  assert.deepEqual([asked, ends, shown(feed)], [2, [12000, 29000], [2]], "it began 5 s behind the end of the first");
  feed.close();
  mock.timers.reset();
});

test("what comes in while a page stays open is bounded: the oldest goes", async () => {
  globalThis.fetch = async () => answer({ documents: [page(0, 1, 1)], next: null });
  const feed = new Feed(AGGREGATE, () => {});
  await feed.load(null, null);
  const many = (hours) => ({ ...bucket(hours, 0, 2), documents: Array.from({ length: 1000 }, (_, at) => ({ key: { shop: String(at) }, values: { sales: at } })) });
  for (let hours = 0; hours < 45; hours += 1) feed.take({ buckets: [many(hours)], left_out: 0 });
  assert.deepEqual([feed.documents.count, feed.documents.starts()[0], feed.truncated], [40000, Date.parse(time(5)), true]);
});

test("what moved out of the window is let go of and not asked for again, nor is a record that nothing counted", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100000 });
  const asked = [];
  globalThis.fetch = async (path) => (asked.push(decodeURIComponent(/from=([^&]*)/.exec(path)[1])), answer({ documents: [page(0, 1, 1), page(5, 2, 1)], next: null }));
  const feed = new Feed(AGGREGATE, () => {});
  await feed.load(Date.parse(time(0)), null);
  const record = (hours) => ({ topic: "t", partition: 0, offset: hours, fields: {}, keys: { sale: [{ sold_at: time(hours) }] } });
  feed.takeRecords({ records: [record(5)] });
  feed.trim(Date.parse(time(3)));
  assert.deepEqual([shown(feed), feed.pending.records.length], [[2], 1]);
  mock.timers.tick(61000);
  feed.trim(Date.parse(time(3)));
  assert.equal(feed.pending.records.length, 0);
  feed.reload();
  mock.timers.tick(5000);
  await settled();
  assert.deepEqual(asked, [time(0), time(3)]);
  mock.timers.reset();
});

test("a record of a time that nobody looks at is no live record", async () => {
  globalThis.fetch = async () => answer({ documents: [page(5, 2, 1)], next: null });
  const feed = new Feed(AGGREGATE, () => {});
  await feed.load(Date.parse(time(4)), Date.parse(time(8)));
  const records = [3, 5, 8].map((hours) => ({ topic: "t", partition: 0, offset: hours, fields: {}, keys: { sale: [{ sold_at: time(hours) }] } }));
  assert.equal(feed.takeRecords({ records }), true);
  assert.deepEqual(feed.pending.records.map(({ offset }) => offset), [5]);
  assert.equal(feed.takeRecords({ records: records.slice(0, 1) }), false);
});

test("which span the documents are of is told once they were read, not when they are asked for", async () => {
  const waiting = [];
  globalThis.fetch = () => new Promise((done) => waiting.push(() => done(answer({ documents: [page(0, 1, 1)], next: null }))));
  const feed = new Feed(AGGREGATE, () => {});
  const spans = [];
  for (const from of [5, 0]) {
    const read = feed.load(from, null);
    spans.push([feed.span.from, feed.held?.from, feed.incoming !== null]);
    waiting.pop()();
    await read;
    spans.push([feed.span.from, feed.held.from, feed.incoming !== null]);
  }
  assert.deepEqual(spans, [[5, undefined, true], [5, 5, false], [0, 5, true], [0, 0, false]]);
});

test("a feed that is closed keeps what it holds, and goes on when it is loaded again", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100000 });
  globalThis.fetch = async () => answer({ documents: [page(0, 1, 1)], next: null });
  const feed = new Feed(AGGREGATE, () => {});
  await feed.load(null, null);
  globalThis.fetch = () => new Promise(() => {});
  feed.load(null, null);
  feed.close();
  assert.deepEqual([feed.incoming, shown(feed)], [null, [1]]);
  globalThis.fetch = async () => answer({ documents: [page(0, 2, 2)], next: null });
  await feed.load(null, null);
  assert.deepEqual(shown(feed), [2]);
  mock.timers.reset();
});
