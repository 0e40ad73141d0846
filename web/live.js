// The tab Live: what comes in now, the panels, and the newest records beside the newest rows.

import { byId, element, group, keyed, setText } from "./dom.js";
import { cell, clock, compact, count, delay, shortTime } from "./format.js";
import { Matches, delayOf, mainKey, recordId, recordName } from "./matching.js";
import { drawSpark, sparkline } from "./panel_kinds.js";
import { Panels } from "./panels.js";
import { Ring, quantile } from "./ring.js";
import { Rows } from "./rows.js";
import { listen, store } from "./store.js";

const KEPT_SECONDS = 120;
const SHOWN_RECORDS = 14;
/** A list that changes more often than this can't be read. */
const LIST_MS = 150;

const rates = new Ring(KEPT_SECONDS);
const delays = new Ring(KEPT_SECONDS);
const newest = new Ring(200);
const matches = new Matches();
let second = []; // delays of the records since the last status
let seen = 0;
let drawn = 0;
let timer = 0;
let shown = false;
let paused = false;
let pointed = null;
const sparks = {};
let panels = null;
let rows = null;

export function startLive() {
  for (const name of ["rate", "delay"]) {
    sparks[name] = sparkline();
    byId(`${name}-spark`).append(sparks[name]);
  }
  panels = new Panels(byId("panels"));
  rows = new Rows({ host: byId("rows"), select: byId("rows-table"), matches, point });
  listen("status", (all) => takeStatus(all[all.length - 1]));
  listen("records", (events) => events.forEach(takeRecords));
  byId("pause").addEventListener("click", () => pause(!paused));
}

export function showLive(isShown) {
  shown = isShown;
  panels.setShown(shown);
  rows.setShown(shown);
  if (shown) drawFigures();
}

/** What the daemon holds is read again: it was restarted, or events were passed over. */
export function reloadLive() {
  panels.load();
  rows.reload();
}

// Figures

function takeStatus(status) {
  rates.push(status.totals.records_per_second);
  delays.push(second.length > 0 ? quantile(second, 0.95) : NaN);
  second = [];
  if (shown) drawFigures();
}

/** The slowest stream speaks for all. */
function worst(streams, name) {
  const all = streams.map((stream) => stream.latency_seconds?.[name]).filter((value) => typeof value === "number");
  return all.length > 0 ? Math.max(...all) : NaN;
}

function drawFigures() {
  const { status } = store;
  if (!status) return;
  const { totals, streams } = status;
  setText(byId("rate"), count(Math.round(totals.records_per_second)));
  const busy = streams.filter((stream) => stream.totals.records_per_second > 0);
  setText(byId("rate-by"), busy.length > 1 ? busy.map((s) => `${s.stream} ${compact(s.totals.records_per_second)}`).join(", ") : "");
  drawSpark(sparks.rate, rates.toArray(), KEPT_SECONDS);
  setText(byId("delay"), delay(worst(streams, "p50")));
  const [p95, p99] = [worst(streams, "p95"), worst(streams, "p99")];
  setText(byId("delay-by"), Number.isFinite(p95) ? `p95 ${delay(p95)}, p99 ${delay(p99)} over the last minute` : "nothing was committed in the last minute");
  drawSpark(sparks.delay, delays.toArray(), KEPT_SECONDS);
  setText(byId("lag"), count(totals.lag));
  setText(byId("caught"), `${count(totals.caught_up)} of ${count(totals.partitions)} partitions caught up`);
  const aggregates = status.aggregates || [];
  const behind = aggregates.map((a) => (Date.parse(status.now) - Date.parse(a.fresh_as_of)) / 1000).filter(Number.isFinite);
  setText(byId("fresh"), behind.length > 0 ? delay(Math.max(0, ...behind)) : "–");
  setText(byId("fresh-by"), freshText(aggregates, behind.length));
}

function freshText(aggregates, known) {
  if (aggregates.length === 0) return "no aggregate is configured";
  const waiting = aggregates.reduce((sum, a) => sum + (a.pending_buckets || 0), 0);
  if (waiting > 0) return `${count(waiting)} buckets wait to be computed`;
  return known > 0 ? "behind the tables at most" : "none was computed yet";
}

// Records

function takeRecords({ records, passed }) {
  seen += passed;
  for (const record of records) {
    newest.push(record);
    matches.add(record);
    const seconds = delayOf(record);
    if (Number.isFinite(seconds)) second.push(Math.max(0, seconds));
  }
  rows.recordsCame();
  if (!shown || timer) return;
  timer = setTimeout(() => {
    timer = 0;
    drawRecords();
  }, Math.max(0, drawn + LIST_MS - Date.now()));
}

function pause(now) {
  paused = now;
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(paused));
  setText(button, paused ? "Go on" : "Pause");
  if (!paused) drawRecords();
}

function drawRecords() {
  drawn = Date.now();
  if (paused || !shown) return;
  const list = byId("records");
  const items = newest.newest(SHOWN_RECORDS);
  // What is being read stays where it is.
  if (Array.from(list.children).some((item) => item.open)) {
    setText(byId("records-seen"), "held while one is open");
    return;
  }
  const ids = items.map(recordId);
  const known = new Set(Array.from(list.children, (item) => item.dataset.key));
  // A few that come are lit up; a rush is not, it would only flicker.
  list.classList.toggle("rush", ids.filter((id) => !known.has(id)).length > 4);
  const nodes = keyed(list, ids, recordItem);
  items.forEach((record, at) => fillRecord(nodes[at], record));
  setText(byId("records-seen"), seen > 0 ? `${count(seen)} since this page was opened` : "none since this page was opened");
}

function recordItem() {
  const item = element("details", "record fresh");
  const head = group("summary", "", element("time", "when"), element("span", "what"), element("span", "where quiet"), element("b", "took"));
  item.append(head, element("dl", "fields"));
  item.addEventListener("pointerenter", () => point(item.dataset.key));
  item.addEventListener("pointerleave", () => point(null));
  item.addEventListener("toggle", () => {
    if (item.open) fillFields(item);
    else drawRecords();
  });
  return item;
}

const byItem = new WeakMap();

function fillRecord(item, record) {
  if (byItem.get(item) === record) return;
  byItem.set(item, record);
  const [when, what, where, took] = item.firstElementChild.children;
  const main = mainKey(record);
  const moment = record.timestamp ?? record.committed_at;
  setText(when, clock(Date.parse(moment)));
  when.setAttribute("datetime", moment);
  setText(what, main ? Object.values(main).map(plain).join(" · ") : Object.values(record.fields || {}).slice(0, 4).map(cell).join(" · "));
  setText(where, recordName(record));
  setText(took, delay(delayOf(record)));
}

/** Numbers of keys are names rather than amounts, and stay as they are. */
const plain = (value) => (typeof value === "number" ? String(value) : shortTime(value));

function fillFields(item) {
  const record = byItem.get(item);
  const list = item.lastElementChild;
  if (record.fields === null) {
    list.replaceChildren(element("dt", "", "fields"), element("dd", "null", "too long to be shown here"));
    return;
  }
  list.replaceChildren(
    ...Object.entries(record.fields).flatMap(([name, value]) => [element("dt", "", name), element("dd", value === null ? "null" : "", value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value))]),
  );
}

/** Shows a record and its rows together. */
function point(id) {
  if (pointed === id) return;
  pointed = id;
  for (const item of byId("records").children) item.classList.toggle("pointed", item.dataset.key === id);
  rows.point(id);
}
