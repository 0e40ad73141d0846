// The tab Models: a forecast against the truth, how far it is off live and on the holdout, the versions of its model, and
// the newest comparison of frameworks. The view is in the address.

import { at, explained, get, withQuery } from "./api.js";
import { LineChart } from "./chart.js";
import { drawComparison, loadComparison } from "./comparison.js";
import { keyLabel, whole } from "./documents.js";
import { byId, button, fillSelect, keyed, notice, setText, show } from "./dom.js";
import { bucketName, figure, minute, percent, spoken } from "./format.js";
import { drawErrors } from "./model_errors.js";
import { Versions, howToTrain } from "./model_versions.js";
import { RANGES, ahead, championOf, forecastLines, intervalName, keyId, lastForecast, queryFrom, sortedKeys, spanError, spanOf, stateFrom } from "./models_data.js";
import { NumbersTable } from "./numbers_table.js";
import { daemonNow, listen } from "./store.js";
import { currentView, writeView } from "./view.js";

const RETRY_MS = 5000;
/** Forecasts come by the bucket; where the stream tells nothing of them they are asked for. */
const ASK_MS = 60000;
const RELOAD_AFTER_MS = 1000;
const RELOAD_APART_MS = 5000;
const PAGE_LIMIT = 5000;
/** Documents that are read at most; a page that stays open must not grow. */
const MAX_DOCUMENTS = 20000;

let shown = false;
let forecasts = null; // null: not read yet
let state = null;
let documents = null; // {of, from, to, list, truncated} that are drawn
/** Keys of a forecast, by its name, where its documents were looked through for them. */
const seen = new Map();
let error = "";
let reading = 0; // the newest of the reads of documents; older answers are let go
let loading = 0;
let loadedAt = 0;
let timer = 0;
let due = 0; // when it goes off
let chart = null; // {plot, table, of}
let versions = null;

export function startModels() {
  versions = new Versions(byId("models-versions-body"), (version) => go({ ...state, version }), () => soon(0));
  byId("models-forecast").addEventListener("change", (event) => go(stateFrom({ forecast: event.target.value, horizon: state.horizon, range: state.range, size: state.size }, forecasts)));
  byId("models-key").addEventListener("change", (event) => {
    const key = keysOf().find((one) => keyId(one, about().key) === event.target.value);
    if (key) go({ ...state, key: Object.fromEntries(about().key.map((column) => [column, String(key[column])])) });
  });
  byId("models-reset").addEventListener("click", () => go({ ...state, window: null }));
  for (const range of RANGES) {
    const made = button("chip", range === "all" ? "all" : range.replace(/(\d+)/, "$1 "), () => go({ ...state, range, window: null }));
    made.dataset.range = range;
    byId("models-ranges").append(made);
  }
  listen("documents", (events) => {
    const isMine = (bucket) => state && String(bucket.aggregate).startsWith(`forecast.${state.forecast}.`);
    if (events.some((event) => event.buckets.some(isMine))) soon(RELOAD_AFTER_MS);
  });
}

export function showModels(isShown, query) {
  shown = isShown;
  stopTimer();
  if (!shown) return;
  if (forecasts === null || Date.now() - loadedAt > RELOAD_APART_MS) {
    load(query);
  } else {
    go(stateFrom(query, forecasts), false);
    soon(ASK_MS);
  }
}

/** The daemon was restarted, or events were passed over. */
export function reloadModels() {
  loadedAt = 0;
  if (shown) load(currentView().query);
}

/** Reads again in so long, but for a read that is due before. */
function soon(ms) {
  const then = Date.now() + Math.max(ms, RELOAD_APART_MS - (Date.now() - loadedAt));
  if (!shown || (timer && due <= then)) return;
  clearTimeout(timer);
  due = then;
  timer = setTimeout(() => {
    timer = 0;
    if (document.hidden) soon(ASK_MS);
    else if (shown) load(currentView().query);
  }, then - Date.now());
}

function stopTimer() {
  clearTimeout(timer);
  timer = 0;
}

async function load(query) {
  stopTimer();
  loading += 1;
  const generation = loading;
  loadedAt = Date.now();
  let wait = ASK_MS;
  const compared = loadComparison();
  try {
    const told = await get("/api/v1/forecasts");
    if (generation !== loading) return;
    forecasts = told.forecasts;
    tell(null);
    // What was chosen meanwhile holds.
    if (shown) go(stateFrom(currentView().tab === "models" ? currentView().query : query, forecasts), false, true);
  } catch (caught) {
    if (generation !== loading) return;
    wait = RETRY_MS;
    tell(notice("bad", state ? "What is shown of the forecasts is not up to date" : "The forecasts could not be read", explained(caught)));
  }
  await compared;
  if (generation !== loading) return;
  drawCompared();
  soon(wait);
}

function tell(node) {
  byId("models-told").replaceChildren(...(node ? [node] : []));
}

const about = () => forecasts.find(({ name }) => name === state.forecast);
const horizonOf = () => about().horizons.find(({ horizon }) => horizon === state.horizon);

/** Keys that there are, and the one that is looked at. */
function keysOf() {
  const { key, keys } = about();
  return sortedKeys([...(keys || []), ...(seen.get(state.forecast) || []), ...(state.key ? [state.key] : [])], key);
}

/** Shows another view; what is there already is not read again but where it is `old`. */
function go(next, write = true, isOld = false) {
  const parts = ["models-controls", "models-errors", "models-chart", "models-versions"];
  for (const part of parts) show(byId(part), next !== null);
  if (next === null) {
    state = null;
    tell(notice("wait", "No forecast is configured", "Add a [[forecast]] with name, aggregate, target, key, horizons and train_at to the configuration; docs/forecasts.md says how."));
    drawCompared();
    return;
  }
  const another = state?.forecast !== next.forecast;
  state = next;
  if (write) writeView({ tab: "models", query: queryFrom(state) });
  versions.chosen = state.version;
  if (another || isOld) versions.load(about());
  else versions.draw();
  if (isOld || !holds()) read();
  draw();
  drawCompared();
}

function drawCompared() {
  drawComparison(state?.size ?? null, (size) => (state ? go({ ...state, size }) : drawComparison(size, () => {})));
}

// Documents

const askedFor = () => ({ forecast: state.forecast, horizon: state.horizon, key: state.key && keyId(state.key, about().key) });

const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** The end of what is forecast. */
function lastStart() {
  const last = lastForecast(about(), horizonOf());
  return Number.isFinite(last) ? last : daemonNow() + (horizonOf()?.buckets || 0) * about().bucket_seconds * 1000;
}

function wanted() {
  return spanOf(state, lastStart(), about().bucket_seconds);
}

/** Whether what is shown next was read already. */
function holds() {
  if (!documents || !isSame(documents.of, askedFor())) return false;
  const { from, to } = wanted();
  const slack = about().bucket_seconds * 1000;
  return (documents.from ?? -Infinity) <= (from ?? -Infinity) + slack && (documents.to ?? Infinity) >= (to ?? Infinity) - slack;
}

async function read() {
  reading += 1;
  const generation = reading;
  const of = askedFor();
  const span = wanted();
  const { from, to } = span.from === null ? span : whole(span, about().bucket_seconds * 1000);
  const filters = Object.fromEntries(Object.entries(state.key || {}).map(([column, value]) => [`key.${column}`, value]));
  const moment = (ms) => (ms === null ? null : new Date(ms).toISOString());
  const base = { horizon: of.horizon, from: moment(from), to: moment(to), limit: PAGE_LIMIT };
  const path = at`/api/v1/forecasts/${of.forecast}/documents`;
  const list = [];
  let cursor = null;
  try {
    if (about().key.length > 0 && !about().keys && !seen.has(of.forecast)) {
      const page = await get(withQuery(path, base));
      if (generation !== reading) return;
      const keys = sortedKeys(page.documents.map(({ key }) => key), about().key);
      if (keys.length > 0) seen.set(of.forecast, keys);
    }
    if (!state.key && keysOf().length > 0) {
      const first = keysOf()[0];
      go({ ...state, key: Object.fromEntries(about().key.map((column) => [column, String(first[column])])) }, shown);
      return;
    }
    do {
      const page = await get(withQuery(path, { ...base, ...filters, cursor }));
      if (generation !== reading) return;
      list.push(...page.documents);
      cursor = page.next ?? null;
    } while (cursor !== null && list.length < MAX_DOCUMENTS);
  } catch (caught) {
    if (generation !== reading) return;
    error = explained(caught);
    draw();
    soon(RETRY_MS);
    return;
  }
  error = "";
  documents = { of, from, to, list, truncated: cursor !== null };
  draw();
}

// What is drawn

function draw() {
  if (!shown || !state) return;
  drawControls();
  drawErrors(byId("models-horizon-cards"), about(), state.horizon);
  drawChart();
}

function drawControls() {
  const { name, aggregate, target, key, bucket_seconds: seconds, train_at: trainAt, horizons } = about();
  const champion = championOf(about());
  fillSelect(byId("models-forecast"), forecasts.map((one) => ({ value: one.name, text: one.name })), name);
  const keys = keysOf();
  show(byId("models-key-field"), key.length > 0 && keys.length > 0);
  setText(byId("models-key-name"), key.join(" · "));
  fillSelect(byId("models-key"), keys.map((one) => ({ value: keyId(one, key), text: keyLabel(one, key) })), state.key ? keyId(state.key, key) : undefined);
  const chips = keyed(byId("models-horizons"), horizons.map(({ horizon }) => horizon), () => button("chip", "", (event) => go({ ...state, horizon: event.currentTarget.dataset.key })));
  horizons.forEach(({ horizon }, index) => {
    setText(chips[index], ahead(horizon));
    chips[index].setAttribute("aria-pressed", String(horizon === state.horizon));
  });
  for (const chip of byId("models-ranges").children) chip.setAttribute("aria-pressed", String(!state.window && chip.dataset.range === state.range));
  show(byId("models-reset"), state.window !== null);
  const by = key.length > 0 ? ` by ${key.join(" and ")}` : "";
  const trained = champion ? `version ${champion.version} forecasts${since("trained", champion.trained_at)}${since("promoted", champion.promoted_at)}` : "no model yet";
  setText(byId("models-facts"), `${spoken(target)} of ${aggregate}${by}, by the ${bucketName(seconds)}; ${trained}; ${trainAt ? `trains at ${trainAt} UTC` : "trains by hand"}`);
}

const since = (word, moment) => (moment ? `, ${word} ${minute(Date.parse(moment))}` : "");

function makeChart() {
  const { name, target, bucket_seconds: bucketSeconds } = about();
  const of = JSON.stringify([name, target, bucketSeconds]);
  if (chart?.of === of) return;
  if (chart) {
    chart.plot.destroy();
    chart.table.node.remove();
    byId("models-plot").replaceChildren();
  }
  const label = `Forecast and truth of ${spoken(target)}`;
  const table = new NumbersTable({ label, bucketSeconds, onPoint: (ms) => chart.plot.point(ms) });
  byId("models-pair").append(table.node);
  const plot = new LineChart(byId("models-plot"), { label, bucketSeconds, height: 300, alwaysLegend: true, details: table.node.id, onZoom: zoom, onCursor: (ms) => table.mark(ms) });
  chart = { plot, table, of };
}

function zoom(range) {
  const base = about().bucket_seconds * 1000;
  if (range === null || range.to - range.from >= 2 * base) {
    go({ ...state, window: range });
    return;
  }
  const middle = (range.from + range.to) / 2;
  go({ ...state, window: { from: middle - base, to: middle + base } });
}

function drawChart() {
  const { interval, bucket_seconds: bucketSeconds, trouble } = about();
  const isMine = documents && isSame(documents.of, askedFor());
  const inside = isMine ? documents.list : [];
  const lines = forecastLines(inside, { bucketSeconds, interval });
  const { times } = lines.table;
  const asked = wanted();
  const step = bucketSeconds * 1000;
  const window = { from: asked.from ?? times[0] ?? 0, to: asked.to ?? (times.length > 0 ? times[times.length - 1] + step : 1) };
  const span = whole(window, step);
  const isThere = times.some((time) => time >= span.from && time < span.to);
  show(byId("models-pair"), isThere);
  if (error) {
    toldOfChart(notice("bad", isThere ? "What is shown is not up to date" : "The forecasts could not be read", `${error} Asked again every ${RETRY_MS / 1000} s.`));
  } else if (!isMine) {
    toldOfChart(notice("wait", "Reading the forecasts …"));
  } else if (trouble) {
    toldOfChart(notice("bad", "Nothing is forecast now", String(trouble)));
  } else if (!isThere && !championOf(about())) {
    toldOfChart(notice("wait", "No model yet, so nothing is forecast", howToTrain(about())));
  } else if (!isThere) {
    const isAll = state.range === "all" && !state.window;
    const told = notice("wait", "No forecast in this span", isAll ? "The next is made when a bucket of the aggregate is over." : "Forecasts are kept as long as `keep` of the cache says.");
    if (!isAll) told.append(button("", "Show all", () => go({ ...state, range: "all", window: null })));
    toldOfChart(told);
  } else if (documents.truncated) {
    toldOfChart(notice("wait", `Only the first ${figure(documents.list.length)} forecasts are shown`, "Choose a shorter span."));
  } else {
    toldOfChart(null);
  }
  const { scored, mae, inside: share } = spanError(lines.table, span);
  const within = share === null ? "" : `, ${percent(share)} of them within the ${intervalName(interval)}`;
  const off = scored === 0 ? "no truth in this span yet" : `off by ${figure(mae)} on average over ${figure(scored)} with a truth${within}`;
  setText(byId("models-chart-note"), isThere ? `${state.key ? `${keyLabel(state.key, about().key)}, ` : ""}${ahead(state.horizon)}; ${off}` : "");
  if (!isThere) return;
  makeChart();
  chart.plot.set(lines.chart, window);
  chart.table.draw(cut(lines.table, span));
}

/** Of the table's numbers those of the span that is shown. */
function cut({ times, lines }, { from, to }) {
  const kept = times.flatMap((time, index) => (time >= from && time < to ? [index] : []));
  return { times: kept.map((index) => times[index]), lines: lines.map(({ name, values }) => ({ name, values: kept.map((index) => values[index]) })) };
}

function toldOfChart(node) {
  byId("models-chart-told").replaceChildren(...(node ? [node] : []));
}
