// What the daemon says of forecasts and their models, in the form in which the tab shows it, and its judgement in words.
// Pure.

import { keyLabel, numeric } from "./documents.js";
import { count, figure, spanMs } from "./format.js";

const FILTER = "key.";
export const RANGES = ["24h", "7d", "30d", "90d", "all"];
const DEFAULT_RANGE = "7d";
const MAX_GRID = 50000;

/** Naive forecasts by the names that the daemon has for them, in the order in which they are shown. */
const NAIVE = [
  ["persistence", "persistence"],
  ["seasonal_day", "seasonal naive, day"],
  ["seasonal_week", "seasonal naive, week"],
  ["mean", "mean"],
];

/** `24h` as it is said: `24 h ahead`. */
export const ahead = (horizon) => `${String(horizon).replace(/^(\d+)/, "$1 ")} ahead`;

/** The champion as `{version, trained_at, promoted_at}`, of which the moments may be unknown; null where there is none. */
export function championOf({ champion, trained_at, promoted_at }) {
  const known = typeof champion === "number" ? { version: champion, trained_at, promoted_at } : champion;
  return known && numeric(known.version) !== null ? known : null;
}

/** Why a version was promoted or not, in a sentence; empty where it is not known. */
export const verdictOf = ({ verdict, contest }) => String(verdict ?? contest?.reason ?? "");

/**
 * Scores of a holdout, of whatever has them or has a `holdout` that does: `{mae, rmse, r2, mase, rows, coverage, width, naive: [{name, mae, model}]}`, `model` being the
 * model's own MAE over the rows for which the naive forecast has one too. What is unknown is null; null without a MAE.
 */
export function scoresOf(of) {
  const { score, beside, coverage, width } = (of?.score ? of : of?.holdout) || {};
  if (numeric(score?.mae) === null) return null;
  const known = new Map((beside || []).map((one) => [one.baseline, one]));
  const naive = NAIVE.flatMap(([id, name]) => {
    const mae = numeric(known.get(id)?.score?.mae);
    return mae === null ? [] : [{ name, mae, model: numeric(known.get(id).model?.mae) ?? score.mae }];
  });
  const [rmse, r2, mase, rows] = [score.rmse, score.r2, score.mase, score.rows].map(numeric);
  return { mae: score.mae, rmse, r2, mase, rows, coverage: numeric(coverage), width: numeric(width), naive };
}

/** Scored forecasts that are enough to judge by; core/forecast/drift.rs says why. */
const LEAST_SCORED = 24;

/** `[tone, sentence]` of live errors beside the holdout's. */
export function liveWords(live, least = LEAST_SCORED) {
  if (!live || !(live.scored > 0)) return ["wait", "no forecast has met its truth yet"];
  const ratio = numeric(live.ratio);
  const over = `over ${count(live.scored)} ${live.scored === 1 ? "forecast" : "forecasts"}`;
  const times = ratio === null ? "no holdout to compare with" : `${figure(Math.round(ratio * 100) / 100)} times the holdout's error`;
  if (live.drifted) return ["bad", `${times} ${over}: drifts, trained early`];
  if (live.scored < least) return ["wait", `${times} ${over}: too few to judge, ${count(least)} are enough`];
  return [ratio === null ? "wait" : "good", `${times} ${over}${ratio === null ? "" : ": holds"}`];
}

/** `[tone, sentence]` of a holdout's scores beside the best naive forecast's. */
export function naiveWords(scores) {
  if (!scores || scores.naive.length === 0) return ["wait", "no naive forecast to compare with"];
  const best = scores.naive.reduce((a, b) => (b.mae < a.mae ? b : a));
  const share = best.mae > 0 ? Math.abs(1 - best.model / best.mae) : 0;
  const by = `${figure(Math.round(share * 1000) / 10)} %`;
  if (best.model < best.mae) return ["good", `${by} less error than the best naive one, ${best.name}`];
  return ["bad", `no better than the naive one, ${best.name}${share > 0 ? `: ${by} more error` : ""}`];
}

/** Errors beside each other, those that are known: `[{name, value, kind}]`. */
export function errorBars(live, scores) {
  const isLive = live && live.scored > 0 && numeric(live.mae) !== null;
  return [
    ...(isLive ? [{ name: "live", value: live.mae, kind: "live" }] : []),
    ...(scores ? [{ name: "holdout", value: scores.mae, kind: "holdout" }] : []),
    ...(scores ? scores.naive.map(({ name, mae }) => ({ name, value: mae, kind: "naive" })) : []),
  ];
}

/** The other figures of a holdout, in a line. */
export function otherScores(scores, interval) {
  if (!scores) return "";
  const known = [
    scores.r2 === null ? "" : `R² ${figure(scores.r2)}`,
    scores.rmse === null ? "" : `RMSE ${figure(scores.rmse)}`,
    scores.mase === null ? "" : `MASE ${figure(scores.mase)}`,
    scores.coverage === null ? "" : `the ${intervalName(interval)} covers ${figure(Math.round(scores.coverage * 1000) / 10)} %`,
    scores.rows === null ? "" : `${count(scores.rows)} rows held out`,
  ];
  return known.filter(Boolean).join(" · ");
}

export const intervalName = (interval) => (numeric(interval) === null ? "interval" : `${figure(interval * 100)} % interval`);

/** Forecast, truth and interval of one key's documents over a grid without holes, as a chart and its table take them. */
export function forecastLines(documents, { bucketSeconds, interval }) {
  const known = new Map();
  for (const document of documents) {
    const time = Date.parse(document.at);
    const before = known.get(time);
    // Of two the one that was made later.
    if (Number.isFinite(time) && !(before && Date.parse(before.made_at) > Date.parse(document.made_at))) known.set(time, document);
  }
  const times = grid([...known.keys()].sort((a, b) => a - b), bucketSeconds * 1000);
  const of = (name) => times.map((time) => numeric(known.get(time)?.[name] ?? null));
  const lines = [
    { name: "truth", values: of("truth") },
    { name: "forecast", values: of("forecast") },
  ];
  const [low, high] = [of("low"), of("high")];
  const table = [...lines, { name: "error", values: of("error") }, { name: "low", values: low }, { name: "high", values: high }];
  return { chart: { times, lines, band: { name: intervalName(interval), of: "forecast", low, high } }, table: { times, lines: table } };
}

function grid(starts, step) {
  const [first, last] = [starts[0], starts[starts.length - 1]];
  const steps = (last - first) / step;
  if (!(steps > 0) || steps > MAX_GRID || starts.some((start) => (start - first) % step !== 0)) return starts;
  return Array.from({ length: Math.round(steps) + 1 }, (_, at) => first + at * step);
}

/**
 * How far forecasts of a span were off: `{scored, mae, inside}`, `inside` the share of truths within their interval, of those
 * that have one; null where none has.
 */
export function spanError({ times, lines }, { from, to }) {
  const of = (name) => lines.find((line) => line.name === name).values;
  const [truth, forecast, low, high] = ["truth", "forecast", "low", "high"].map(of);
  let [scored, sum, inside, withInterval] = [0, 0, 0, 0];
  times.forEach((time, at) => {
    if (time < from || time >= to || truth[at] === null || forecast[at] === null) return;
    scored += 1;
    sum += Math.abs(truth[at] - forecast[at]);
    if (low[at] === null || high[at] === null) return;
    withInterval += 1;
    if (truth[at] >= low[at] && truth[at] <= high[at]) inside += 1;
  });
  return { scored, mae: scored === 0 ? null : sum / scored, inside: withInterval === 0 ? null : inside / withInterval };
}

/** A key as one text, which no other key of the forecast has. */
export const keyId = (key, columns) => JSON.stringify(columns.map((column) => String(key[column] ?? "")));

/** Keys in the order of their labels, each once. */
export function sortedKeys(keys, columns) {
  const known = new Map(keys.map((key) => [keyId(key, columns), key]));
  return [...known.values()].sort((a, b) => (keyLabel(a, columns) < keyLabel(b, columns) ? -1 : 1));
}

/** What is looked at, of the address's query and the forecasts that there are; null where there are none. */
export function stateFrom(query, forecasts) {
  if (forecasts.length === 0) return null;
  const forecast = forecasts.find(({ name }) => name === query.forecast) || forecasts[0];
  const columns = forecast.key || [];
  const asked = Object.fromEntries(columns.filter((column) => query[FILTER + column] !== undefined).map((column) => [column, query[FILTER + column]]));
  const isWhole = columns.every((column) => column in asked);
  const first = sortedKeys(forecast.keys || [], columns)[0];
  const horizon = forecast.horizons.find((one) => one.horizon === query.horizon) || forecast.horizons[0];
  const from = Date.parse(query.from);
  const to = Date.parse(query.to);
  return {
    forecast: forecast.name,
    horizon: horizon ? horizon.horizon : "",
    // Null where no key is known yet: then the first document's is taken.
    key: isWhole ? asked : first ? Object.fromEntries(columns.map((column) => [column, String(first[column] ?? "")])) : null,
    version: /^\d+$/.test(query.version) ? Number(query.version) : null,
    size: /^\d+$/.test(query.size) ? Number(query.size) : null,
    range: query.range === "all" || spanMs(query.range) > 0 ? query.range : DEFAULT_RANGE,
    window: from < to ? { from, to } : null,
  };
}

export function queryFrom(state) {
  const moment = (ms) => new Date(Math.round(ms / 1000) * 1000).toISOString().replace(".000Z", "Z");
  return {
    forecast: state.forecast,
    horizon: state.horizon,
    ...Object.fromEntries(Object.entries(state.key || {}).map(([column, value]) => [FILTER + column, value])),
    version: state.version,
    size: state.size,
    range: state.range,
    from: state.window ? moment(state.window.from) : "",
    to: state.window ? moment(state.window.to) : "",
  };
}

/** Where the last bucket starts that is forecast, as far as the daemon tells; NaN where it does not. */
export function lastForecast(forecast, horizon) {
  const last = Date.parse(horizon?.last);
  return Number.isFinite(last) ? last : Date.parse(forecast.made_from) + (horizon?.buckets || 0) * forecast.bucket_seconds * 1000;
}

/** The span of a range that ends with the last bucket that is forecast; open at both ends where all is wanted. */
export function spanOf({ range, window }, last, bucketSeconds) {
  if (window) return window;
  if (range === "all") return { from: null, to: null };
  const to = last + bucketSeconds * 1000;
  return { from: to - spanMs(range), to };
}
