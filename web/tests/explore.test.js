// explore.js with explore_chart.js, in as much of a document as they ask of one; nothing is drawn.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

class Node {
  constructor() {
    Object.assign(this, { children: [], dataset: {}, attributes: {}, listeners: {}, parent: null, hidden: false, disabled: false, value: "", textContent: "", clientWidth: 0 });
    this.classList = { toggle() {}, contains: () => false };
  }
  get lastElementChild() {
    return this.children.at(-1);
  }
  get firstElementChild() {
    return this.children[0];
  }
  append(...nodes) {
    nodes.forEach((node) => this.insertBefore(node, null));
  }
  insertBefore(node, before) {
    node.remove();
    node.parent = this;
    this.children.splice(before ? this.children.indexOf(before) : this.children.length, 0, node);
  }
  replaceChildren(...nodes) {
    [...this.children].forEach((child) => child.remove());
    this.append(...nodes);
  }
  remove() {
    if (this.parent) this.parent.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = null;
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  getAttribute(name) {
    return this.attributes[name] ?? null;
  }
  addEventListener(type, then) {
    this.listeners[type] = then;
  }
  querySelectorAll() {
    return [];
  }
  text() {
    return this.textContent + this.children.map((child) => child.text()).join(" ");
  }
}

const byId = new Map();
const node = (id) => byId.get(id) || byId.set(id, new Node()).get(id);
globalThis.document = { hidden: false, activeElement: null, getElementById: node, createElement: () => new Node(), createElementNS: () => new Node() };
globalThis.window = { location: { hash: "" }, matchMedia: () => ({}), history: { replaceState: (_, __, hash) => (window.location.hash = hash) } };
globalThis.sessionStorage = { getItem: () => null };
globalThis.ResizeObserver = class {
  observe() {}
  disconnect() {}
};
globalThis.getComputedStyle = () => ({ getPropertyValue: () => "" });
let frames = [];
globalThis.requestAnimationFrame = (then) => frames.push(then);

const { reloadExplore, showExplore, startExplore } = await import("../explore.js");
const { tell } = await import("../store.js");
const { currentView } = await import("../view.js");

const DAY = 86400000;
const NOW = Date.parse("2026-03-01T10:20:30.456Z");
mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: NOW });

/** What the daemon has, the `from` of each read that was not looked at yet, and whether it answers or lets wait. */
const daemon = { last: null, documents: [], asked: [], answers: true, waiting: [] };
const moment = (ms) => new Date(ms).toISOString();
const hourly = (from, count) => Array.from({ length: count }, (_, at) => ({ key: {}, bucket_start: moment(from + at * 3600000), values: { sales: at }, version: 1, computed_at: null, offsets: {} }));
globalThis.fetch = async (path) => {
  const query = new URL(path, "http://page").searchParams;
  const aggregates = [{ name: "a", table: "sale", time: "sold_at", bucket_seconds: 3600, key: [], values: ["sales"], buckets: 0, documents: 0, first_bucket: daemon.last, last_bucket: daemon.last }];
  if (path === "/api/v1/aggregates") return { ok: true, status: 200, json: async () => ({ aggregates }) };
  daemon.asked.push(query.get("from"));
  if (!daemon.answers) await new Promise((done) => daemon.waiting.push(done));
  const body = { documents: daemon.documents.filter((one) => !query.get("from") || one.bucket_start >= query.get("from")), next: null };
  return { ok: true, status: 200, json: async () => body };
};
const settled = async () => {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
};
const come = async (...buckets) => {
  tell("documents", { buckets, left_out: 0 });
  frames.splice(0).forEach((then) => then());
  await settled();
};
const asked = () => daemon.asked.splice(0);
const told = () => node("explore-told").text();
const rows = () => node("explore-body").children[0].text();

startExplore();

test("where the first documents lie years back, the view goes there", async () => {
  window.location.hash = "#explore?aggregate=a&range=7d";
  showExplore(true, currentView().query);
  await settled();
  assert.match(told(), /No document in this span/);
  assert.deepEqual(asked(), ["2026-02-22T10:00:00.000Z"], "the span begins with a bucket");
  daemon.last = "2013-01-08T23:00:00.000Z";
  daemon.documents = hourly(Date.parse("2013-01-02T00:00:00Z"), 7 * 24);
  await come({ aggregate: "a", bucket_start: daemon.last, version: 1, computed_at: null, offsets: {}, documents: [{ key: {}, values: { sales: 167 } }] });
  mock.timers.tick(10000);
  await settled();
  assert.deepEqual(asked(), ["2013-01-02T00:00:00.000Z"]);
  assert.equal(told(), "");
  assert.match(rows(), /2013-01-08 23:00/);
});

test("while it is read again, what is shown stays, and so does the file", async () => {
  const before = node("explore-body").children[0];
  daemon.answers = false;
  reloadExplore();
  await settled();
  assert.deepEqual([asked(), told(), node("explore-csv").disabled], [["2013-01-02T00:00:00.000Z"], "", false]);
  daemon.documents = hourly(Date.parse("2013-01-02T00:00:00Z"), 7 * 24).map((one) => ({ ...one, values: { sales: 4711 }, version: 2 }));
  daemon.answers = true;
  daemon.waiting.splice(0).forEach((done) => done());
  await settled();
  assert.equal(node("explore-body").children[0], before, "its charts keep their place");
  assert.match(rows(), /4,711/);
});

test("while a wider span is read it is said, and no file of the narrow one is handed out", async () => {
  daemon.answers = false;
  node("explore-ranges").children[2].listeners.click();
  await settled();
  assert.match(told(), /Reading the cache/);
  assert.deepEqual([node("explore-csv").disabled, node("explore-body").hidden], [true, false]);
  assert.deepEqual(asked(), ["2012-12-10T00:00:00.000Z"]);
  daemon.answers = true;
  daemon.waiting.splice(0).forEach((done) => done());
  await settled();
  assert.deepEqual([told(), node("explore-csv").disabled], ["", false]);
});

test("a tab that was left takes nothing in, shows what it had when one comes back, and reads it again", async () => {
  showExplore(false, {});
  await come({ aggregate: "a", bucket_start: "2013-01-09T00:00:00.000Z", version: 3, computed_at: null, offsets: {}, documents: [{ key: {}, values: { sales: 1 } }] });
  reloadExplore();
  mock.timers.tick(DAY);
  await settled();
  assert.deepEqual(asked(), []);
  daemon.answers = false;
  showExplore(true, currentView().query);
  assert.match(rows(), /2013-01-08 23:00/);
  assert.doesNotMatch(rows(), /2013-01-09/);
  await settled();
  assert.deepEqual([asked().length, told()], [1, ""]);
});
