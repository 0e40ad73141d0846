// The tab Pipeline: the ledger, what holds the streams up, the actors as a graph, and one of them in detail.

import { explained, request } from "./api.js";
import { sentenceOf } from "./bottleneck.js";
import { byId, button, element, group, keyed, mark, setText, setTone, show } from "./dom.js";
import { ago, bytes, cell, count, duration, percent } from "./format.js";
import { Graph, actorsOf, stateWord, toneOf } from "./graph.js";
import { graphOf } from "./graph_layout.js";
import { showBalance, showStreams } from "./ledger.js";
import { countersOf, countersOfUnit, parseMetrics } from "./metrics_text.js";
import { listen, store } from "./store.js";
import { currentView, writeView } from "./view.js";

const COUNTERS_MS = 2000;

let shown = false;
let graph = null;
let chosen = null;
let series = null;
let seriesError = "";
let asked = 0;

export function startPipeline() {
  graph = new Graph(byId("graph"), choose);
  listen("status", () => shown && draw());
  byId("detail-close").addEventListener("click", () => choose(null));
  byId("detail").addEventListener("keydown", (event) => event.key === "Escape" && choose(null));
}

export function showPipeline(isShown, query) {
  shown = isShown;
  if (!shown) return;
  chosen = query.actor || null;
  graph.choose(chosen);
  draw();
}

function choose(id) {
  const before = chosen;
  chosen = id === chosen ? null : id;
  graph.choose(chosen);
  writeView({ ...currentView(), tab: "pipeline", query: chosen ? { actor: chosen } : {} });
  asked = 0;
  draw();
  if (!chosen && before) Array.from(document.querySelectorAll("#graph .node")).find((node) => node.dataset.key === before)?.focus();
}

function draw() {
  const { status } = store;
  if (!status) return;
  showBalance(status.totals);
  showSentences(status.streams);
  graph.draw(status);
  showStreams(status.streams);
  const { memory } = status;
  setText(byId("memory"), memory ? `Records on their way take ${bytes(memory.used_bytes)} of ${bytes(memory.budget_bytes)}.` : "");
  drawDetail(status);
}

function showSentences(streams) {
  const items = keyed(byId("sentences"), streams.map(({ stream }) => stream), () => group("li", "", mark(), element("span")));
  streams.forEach((stream, at) => {
    const [tone, text] = sentenceOf(stream);
    setTone(items[at], tone);
    setText(items[at].lastElementChild, text);
  });
}

// One box in detail

function drawDetail(status) {
  const node = chosen ? graphOf(status).nodes.find(({ id }) => id === chosen) : null;
  show(byId("detail"), Boolean(node));
  if (!node) return;
  const heading = node.kind === "stage" ? `${node.title} of ${node.stream.stream}` : node.kind === "topic" ? `topic ${node.title}` : node.kind === "unit" ? node.unit.name : node.title;
  setText(byId("detail-title"), heading);
  const parts = { topic: topicDetail, store: storeDetail, stage: stageDetail, unit: unitDetail }[node.kind](node, status);
  const host = byId("detail-body");
  const sections = keyed(host, parts.map(({ title }) => title), () => group("section", "", element("h4"), element("div")));
  parts.forEach((part, at) => {
    const [title, body] = sections[at].children;
    setText(title, part.title);
    if (part.pairs) fillPairs(body, part.pairs);
    else fillText(body, part);
  });
  if (Date.now() - asked > COUNTERS_MS) askCounters();
}

function fillPairs(body, pairs) {
  const list = keyed(body, ["pairs"], () => element("dl", "pairs"))[0];
  const rows = keyed(list, pairs.map(([name]) => name), () => group("div", "", element("dt"), element("dd")));
  pairs.forEach(([name, value, tone], at) => {
    setText(rows[at].firstElementChild, name);
    setText(rows[at].lastElementChild, value);
    setTone(rows[at], tone || null);
  });
}

function fillText(body, { text, tone, command, quiet }) {
  const wanted = command ? ["text", "command"] : ["text"];
  const [told, press] = keyed(body, wanted, (at) => (at === 0 ? element("p", quiet ? "quiet" : "error-text") : button("", command.text, command.press)));
  setText(told, text);
  setTone(body, tone || null);
  if (press) setText(press, command.text);
}

function topicDetail({ stream }) {
  const { totals } = stream;
  return [
    { title: "Now", pairs: [["records per second", count(Math.round(totals.records_per_second))], ["lag", `${count(totals.lag)} offsets`], ["caught up", `${count(totals.caught_up)} of ${count(totals.partitions)} partitions`]] },
    { title: "Lag per partition", pairs: stream.partitions.slice(0, 50).map((p) => [`partition ${p.partition}`, count(p.lag), p.lag > 0 && !p.caught_up ? "wait" : null]) },
  ];
}

function storeDetail(_, status) {
  const worst = (name) => Math.max(...status.streams.map(({ latency_seconds: l }) => l?.[name] ?? -1));
  return [
    {
      title: "From append to commit, over the last minute",
      pairs: ["p50", "p95", "p99"].map((name) => [name, worst(name) < 0 ? "–" : `${Math.round(worst(name) * 1000)} ms`]),
    },
    { title: "Ledger", pairs: ["advanced", "applied", "duplicates", "dead_letters", "gaps", "unaccounted"].map((name) => [name.replace("_", " "), count(status.totals[name])]) },
  ];
}

function stageDetail({ title, stream, stage, unit }, status) {
  const actors = actorsOf(unit, title);
  const parts = [
    {
      title: "Now",
      pairs: [
        ["records per second", count(Math.round(stage.records_per_second))],
        ["busy, of the last minute", percent(stage.busy), stage.busy >= 0.8 ? "bad" : null],
        ["blocked by what is below", percent(stage.blocked), stage.blocked >= 0.5 ? "bad" : null],
        ...(stage.queue_fill === null ? [] : [["queue above it", `${percent(stage.queue_fill)} full, ${count(stage.queue_records)} records`, stage.queue_fill >= 0.8 ? "bad" : null]]),
      ],
    },
    { title: "Actors", pairs: actors.map((actor) => [actor.name, actorText(actor), toneOf(actor.state) === "good" ? null : "bad"]) },
    errorPart(unit, (stream.troubles || []).filter(({ actor }) => actors.some(({ name }) => name === actor) || actor === title), status.now),
    ...countersPart((all) => countersOf(all, stream.stream, title)),
  ];
  if (title === "consumer") parts.splice(1, 0, ...topicDetail({ stream }).slice(1));
  return [...parts, settingsPart({ ...unit?.settings, ...stage.settings })];
}

function unitDetail({ unit }, status) {
  const isAggregator = unit.name.startsWith("aggregat") && status.aggregates?.length > 0;
  return [
    {
      title: "Now",
      pairs: [["state", stateText(unit, status.now), toneOf(unit.state) === "good" ? null : "bad"], ["since", ago(unit.since, status.now)], ["built", unit.generation === 1 ? "1 time" : `${count(unit.generation)} times`], ["restarts", count(unit.restarts || 0)]],
    },
    ...(isAggregator
      ? [{ title: "Freshness", pairs: status.aggregates.map((a) => [a.name, `${a.fresh_as_of ? `${ago(a.fresh_as_of, status.now)} behind at most` : "not known yet"}${a.pending_buckets > 0 ? `, ${count(a.pending_buckets)} buckets wait` : ""}`]) }]
      : []),
    { title: "Actors", pairs: unit.actors.map((actor) => [actor.name, actorText(actor), toneOf(actor.state) === "good" ? null : "bad"]) },
    errorPart(unit, [], status.now),
    ...countersPart((all) => countersOfUnit(all, unit.name)),
    settingsPart(unit.settings),
  ];
}

const actorText = ({ state, restarts, note }) => [state.replaceAll("_", " "), restarts > 0 ? `${count(restarts)} restarts` : "", note || ""].filter(Boolean).join(", ");

/** "backing off, next try in 8 s" */
function stateText(unit, now) {
  const wait = unit.next_try_at ? (Date.parse(unit.next_try_at) - Date.parse(now)) / 1000 : NaN;
  return wait > 0 ? `${stateWord(unit)}, next try in ${duration(wait + 1)}` : stateWord(unit);
}

function errorPart(unit, troubles, now) {
  const texts = troubles.map(({ actor, cause, since }) => `${actor}, for ${ago(since, now)}: ${cause}`);
  if (unit?.last_error) texts.push(unit.last_error);
  return { title: "Last error", text: texts.join("\n") || "none since the start", quiet: texts.length === 0, tone: troubles.length > 0 || (unit && toneOf(unit.state) === "bad") ? "bad" : null };
}

function countersPart(of) {
  const pairs = series ? of(series) : [["reading", seriesError || "…"]];
  return pairs.length > 0 ? [{ title: "Counters since the start", pairs }] : [];
}

function settingsPart(settings) {
  const pairs = Object.entries(settings || {}).map(([name, value]) => [name.replaceAll("_", " "), cell(value)]);
  return pairs.length > 0 ? { title: "Settings", pairs } : { title: "Settings", text: "“bief check --print” shows all of them, with where each comes from.", quiet: true };
}

async function askCounters() {
  asked = Date.now();
  try {
    const answer = await request("/metrics");
    if (!answer.ok) throw new Error("refused");
    series = parseMetrics(await answer.text());
  } catch (error) {
    seriesError = explained(error);
  }
}
