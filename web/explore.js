// The tab Explore: one aggregate, a chart for each value, linked by cursor and zoom, with a table beside each. The view
// is in the address.

import { explained, get } from "./api.js";
import { csv } from "./csv.js";
import { stepFor, whole } from "./documents.js";
import { byId, button, element, fillSelect, group, keyed, notice, setText, show } from "./dom.js";
import { download } from "./download.js";
import { RANGES, accepts, covers, queryFrom, stateFrom } from "./explore_state.js";
import { ExploreChart, chooseLines } from "./explore_chart.js";
import { Feed } from "./feed.js";
import { ago, bucketName, count, fromInput, minute, spanMs, spoken, toInput } from "./format.js";
import { windowOf } from "./panels.js";
import { daemonNow, listen, store } from "./store.js";
import { currentView, writeView } from "./view.js";

const RETRY_MS = 5000;
const DRAW_MS = 300;
const COUNT_AFTER_MS = 1000;
const COUNT_APART_MS = 10000;

let shown = false;
let aggregates = [];
let state = null;
let feed = null;
let isOld = false; // what the feed holds is to be read again
let charts = new Map();
let timer = 0;
let drawing = 0;
let counting = 0;
let counted = 0; // when
/** Values of the key's columns that were seen, so that one that is filtered by can be changed to another. */
let known = new Map();

export function startExplore() {
  byId("explore-aggregate").addEventListener("change", (event) => go(stateFrom({ aggregate: event.target.value, range: state.range }, aggregates)));
  byId("explore-by").addEventListener("change", (event) => go({ ...state, by: event.target.value }));
  byId("explore-csv").addEventListener("click", save);
  byId("explore-reset").addEventListener("click", () => go({ ...state, window: null }));
  for (const end of ["from", "to"]) byId(`explore-${end}`).addEventListener("change", readSpan);
  for (const range of RANGES) {
    const made = button("chip", range === "all" ? "all" : range.replace(/(\d+)/, "$1 "), () => go({ ...state, range, window: null }));
    made.dataset.range = range;
    byId("explore-ranges").append(made);
  }
  listen("documents", (events) => events.forEach(take));
  listen("status", drawFacts);
}

export function showExplore(isShown, query) {
  shown = isShown;
  if (!shown) {
    // A tab that is not looked at takes nothing in; what it showed stays until it is read again.
    if (feed) feed.close();
    isOld = true;
    return;
  }
  if (aggregates.length > 0) go(stateFrom(query, aggregates), false);
  load();
}

/** The daemon was restarted, or events were passed over. */
export function reloadExplore() {
  isOld = true;
  if (shown) load();
}

async function load() {
  clearTimeout(timer);
  try {
    ({ aggregates } = await get("/api/v1/aggregates"));
    store.aggregates = aggregates;
    // What was chosen meanwhile holds.
    if (shown) go(stateFrom(currentView().query, aggregates), false);
  } catch (error) {
    tell(notice("bad", "The aggregates could not be read", explained(error)));
    timer = setTimeout(() => shown && load(), RETRY_MS);
  }
}

function tell(node) {
  const place = byId("explore-told");
  place.replaceChildren(...(node ? [node] : []));
}

const about = () => aggregates.find(({ name }) => name === state.aggregate);

/** Shows another view; what the feed holds already is not read again. */
function go(next, write = true) {
  show(byId("explore-controls"), next !== null);
  show(byId("explore-body"), next !== null);
  if (next === null) {
    tell(notice("wait", "No aggregate is configured", "Add an [[aggregate]] with name, table, time, bucket, query and key to the configuration."));
    return;
  }
  const filters = (one) => JSON.stringify(one?.filters);
  const another = !feed || state?.aggregate !== next.aggregate || filters(state) !== filters(next);
  if (state?.aggregate !== next.aggregate) known = new Map();
  state = next;
  if (write) writeView({ tab: "explore", query: queryFrom(state) });
  if (another) {
    if (feed) feed.close();
    feed = new FilteredFeed(about(), state.filters, () => draw());
  }
  feed.aggregate = about();
  const wanted = wantedSpan();
  const isHeld = covers(feed.span, wanted, slack());
  // Who is zoomed in goes back to the wider span.
  if (!isHeld || (isOld && !state.window)) read(wanted);
  else if (isOld) feed.load(feed.span.from, feed.span.to);
  isOld = false;
  drawControls();
  draw();
}

class FilteredFeed extends Feed {
  constructor(aggregate, filters, onChange) {
    super(aggregate, onChange);
    this.filters = filters;
  }

  path(span) {
    const filters = Object.entries(this.filters).map(([column, value]) => `${encodeURIComponent(`key.${column}`)}=${encodeURIComponent(value)}`);
    return [super.path(span), ...filters].join("&");
  }
}

/** The span of the range that is chosen, without zoom; null is all. */
function baseWindow() {
  if (state.range === "all") return null;
  return windowOf({ range_seconds: spanMs(state.range) / 1000, bucket_seconds: about().bucket_seconds }, feed);
}

/** The span that is to be read for what is shown; null is all. */
function wantedSpan() {
  const seen = state.window || baseWindow();
  return seen && whole(seen, stepFor(seen.to - seen.from, about().bucket_seconds * 1000));
}

const slack = () => about().bucket_seconds * 1000;

function read(wanted) {
  // Up to now stays open at its end, so that what comes is shown too.
  const isOpen = wanted === null || wanted.to >= daemonNow() - slack() || !state.window;
  feed.load(wanted === null ? null : wanted.from, isOpen ? null : wanted.to);
}

/** What is shown. */
function currentWindow() {
  const window = state.window || baseWindow();
  if (window) return window;
  const starts = feed.documents.starts();
  if (starts.length === 0) return { from: 0, to: 1 };
  return { from: starts[0], to: starts[starts.length - 1] + feed.documents.bucketMs };
}

function take(event) {
  if (!feed || !shown) return;
  // Also where nobody looks: there may be nothing where one does.
  if (event.buckets.some(({ aggregate }) => aggregate === state.aggregate)) countSoon();
  if (!feed.take(event) || drawing) return;
  drawing = setTimeout(() => {
    drawing = 0;
    draw();
  }, DRAW_MS);
}

/** What the cache holds of each aggregate, now and then while it changes. */
function countSoon() {
  if (counting) return;
  counting = setTimeout(() => {
    counting = 0;
    if (shown) countAgain();
  }, Math.max(COUNT_AFTER_MS, COUNT_APART_MS - (Date.now() - counted)));
}

async function countAgain() {
  counted = Date.now();
  try {
    const { aggregates: now } = await get("/api/v1/aggregates");
    const values = new Map(aggregates.map((one) => [one.name, one.values]));
    aggregates = now.map((one) => ({ ...one, values: one.values.length > 0 ? one.values : values.get(one.name) || [] }));
    store.aggregates = aggregates;
    if (!shown || !about()) return;
    // The first documents may lie years back.
    if (feed.documents.count === 0) go(state, false);
    else drawControls();
  } catch {
    // What is shown of it stays; the feed says what is wrong.
  }
}

// Controls

function drawControls() {
  const { key, values } = about();
  fillSelect(byId("explore-aggregate"), aggregates.map(({ name }) => ({ value: name, text: name })), state.aggregate);
  const by = [{ value: "", text: "nothing: one line" }, ...key.map((column) => ({ value: column, text: column }))];
  if (key.length > 1) by.push({ value: "*", text: key.join(" and ") });
  fillSelect(byId("explore-by"), by, state.by);
  show(byId("explore-by-field"), key.length > 0);
  const chips = keyed(byId("explore-values"), values, () => button("chip", undefined, (event) => toggleValue(event.currentTarget.dataset.key)));
  values.forEach((value, at) => {
    setText(chips[at], spoken(value));
    chips[at].setAttribute("aria-pressed", String(state.values.includes(value)));
  });
  for (const chip of byId("explore-ranges").children) chip.setAttribute("aria-pressed", String(!state.window && chip.dataset.range === state.range));
  show(byId("explore-reset"), state.window !== null);
  drawFacts();
}

function toggleValue(value) {
  const values = state.values.includes(value) ? state.values.filter((v) => v !== value) : about().values.filter((v) => v === value || state.values.includes(v));
  if (values.length > 0) go({ ...state, values });
}

function readSpan() {
  const from = fromInput(byId("explore-from").value);
  const to = fromInput(byId("explore-to").value);
  if (from < to) go({ ...state, window: { from, to } });
}

function drawFilters() {
  const { key } = about();
  for (const { documents } of feed.documents.buckets.values()) {
    for (const document of documents.values()) {
      for (const column of key) {
        if (!known.has(column)) known.set(column, new Set());
        if (known.get(column).size < 1000) known.get(column).add(String(document.key[column]));
      }
    }
  }
  const fields = keyed(byId("explore-filters"), key, () => {
    const select = element("select");
    const field = group("label", "field", element("span"), select);
    select.addEventListener("change", () => {
      const filters = { ...state.filters };
      if (select.value === "") delete filters[field.dataset.key];
      else filters[field.dataset.key] = select.value.slice(1);
      go({ ...state, filters });
    });
    return field;
  });
  key.forEach((column, at) => {
    const [name, select] = fields[at].children;
    setText(name, `only ${column}`);
    const chosen = state.filters[column];
    const options = [...new Set([...(known.get(column) || []), ...(chosen === undefined ? [] : [chosen])])].sort();
    fillSelect(select, [{ value: "", text: "all" }, ...options.map((value) => ({ value: `=${value}`, text: value }))], chosen === undefined ? "" : `=${chosen}`);
  });
}

function drawFacts() {
  if (!shown || !state || !about()) return;
  const { buckets, documents, first_bucket: first, last_bucket: last, bucket_seconds: seconds, table } = about();
  const freshness = store.status?.aggregates?.find(({ name }) => name === state.aggregate);
  const fresh = freshness?.fresh_as_of ? `, fresh as of ${ago(freshness.fresh_as_of, store.status.now)} ago` : "";
  const span = first ? `, ${minute(Date.parse(first))} to ${minute(Date.parse(last))} UTC` : "";
  setText(byId("explore-facts"), `Rows of ${table} by the ${bucketName(seconds)}: ${count(buckets)} buckets, ${count(documents)} documents${span}${fresh}`);
}

// Charts

/** Which values an aggregate has is known from its documents; its first may come while one looks. */
function learnValues() {
  const names = feed.documents.valueNames();
  if (state.values.length > 0 || names.length === 0) return false;
  about().values = names;
  go(stateFrom(queryFrom(state), aggregates), false);
  return true;
}

function draw() {
  if (!shown || !state || !feed || learnValues()) return;
  const window = currentWindow();
  drawFilters();
  for (const end of ["from", "to"]) {
    const input = byId(`explore-${end}`);
    if (document.activeElement !== input) input.value = toInput(window[end]);
  }
  drawTold(window);
  const body = byId("explore-body");
  const nodes = keyed(body, state.values.map((value) => `${state.aggregate}/${value}`), () => element("section", "card explore-chart"));
  const kept = new Map();
  state.values.forEach((value, at) => {
    const id = `${state.aggregate}/${value}`;
    kept.set(id, charts.get(id) || new ExploreChart(nodes[at], { value, aggregate: about(), onZoom: zoom, onPoint: point }));
  });
  for (const [id, chart] of charts) if (!kept.has(id)) chart.destroy();
  charts = kept;
  const step = stepFor(window.to - window.from, feed.documents.bucketMs);
  const span = whole(window, step);
  if (state.values.length === 0) return;
  const chosen = chooseLines(feed.documents, { value: state.values[0], key: about().key, by: state.by, accepts: accepts(state.filters), span, step });
  for (const chart of charts.values()) chart.draw(feed.documents, { by: state.by, ...chosen, window, span, step });
}

function drawTold(window) {
  const inside = feed.documents.rows(window.from, window.to, accepts(state.filters)).length;
  // What is there of a wider span is shown meanwhile, but not handed out as if it were all.
  const isPart = feed.incoming !== null && !covers(feed.held, wantedSpan(), slack());
  byId("explore-csv").disabled = inside === 0 || isPart;
  if (feed.state === "failed" || feed.state === "stale") {
    tell(notice("bad", feed.state === "stale" ? "What is shown is not up to date" : "The documents could not be read", feed.error));
  } else if (isPart) {
    tell(notice("wait", "Reading the cache …"));
  } else if (inside === 0) {
    const { first_bucket: first, last_bucket: last } = about();
    const told = notice(
      "wait",
      "No document in this span",
      first ? `The cache has ${minute(Date.parse(first))} to ${minute(Date.parse(last))} UTC.` : "The cache holds none of this aggregate yet. The first comes when rows were written and their bucket was computed.",
    );
    if (first) told.append(button("", "Show all", () => go({ ...state, range: "all", window: null, filters: {} })));
    tell(told);
  } else if (feed.truncated) {
    tell(notice("wait", "No more than 40,000 documents are shown", "Choose a shorter span, or only one key."));
  } else {
    tell(null);
  }
  show(byId("explore-body"), inside > 0);
}

/** All charts show the same span. */
function zoom(range) {
  const base = about().bucket_seconds * 1000;
  if (range !== null && range.to - range.from < 2 * base) {
    const middle = (range.from + range.to) / 2;
    go({ ...state, window: { from: middle - base, to: middle + base } });
  } else {
    go({ ...state, window: range });
  }
}

/** A row of one table is pointed at in all charts. */
function point(ms) {
  for (const chart of charts.values()) chart.point(ms);
}

function save() {
  const { key, name, bucket_seconds: seconds } = about();
  const window = currentWindow();
  const rows = feed.documents
    .rows(window.from, window.to, accepts(state.filters))
    .map(({ start, key: of, values }) => [
      new Date(start).toISOString(),
      new Date(start + seconds * 1000).toISOString(),
      ...key.map((column) => of[column]),
      ...state.values.map((value) => values[value]),
    ]);
  const day = (ms) => new Date(ms).toISOString().slice(0, 10);
  download(`${name}_${day(window.from)}_${day(window.to)}.csv`, "text/csv", csv(["bucket_start", "bucket_end", ...key, ...state.values], rows));
}
