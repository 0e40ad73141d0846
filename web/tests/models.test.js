// models_data.js and comparison_data.js: forecasts, their errors in words, and the comparison of frameworks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenSize, difference, runRows, seconds, sizesOf, verdictWords } from "../comparison_data.js";
import { ahead, championOf, errorBars, forecastLines, lastForecast, liveWords, naiveWords, otherScores, queryFrom, scoresOf, sortedKeys, spanError, spanOf, stateFrom, verdictOf } from "../models_data.js";

const HOLDOUT = {
  score: { rows: 4894, mae: 6.8, rmse: 12.5, r2: 0.69, mase: null },
  beside: [
    { baseline: "mean", score: { mae: 14 }, model: { mae: 6.8 } },
    { baseline: "persistence", score: { mae: 8 }, model: { mae: 6 } },
  ],
  coverage: 0.794,
  width: 20,
};

test("a holdout's scores stand beside the naive ones, in one order, on the same rows", () => {
  const scores = scoresOf(HOLDOUT);
  assert.deepEqual(scores.naive, [{ name: "persistence", mae: 8, model: 6 }, { name: "mean", mae: 14, model: 6.8 }]);
  assert.deepEqual(naiveWords(scores), ["good", "25 % less error than the best naive one, persistence"]);
  assert.equal(otherScores(scores, 0.8), "R² 0.69 · RMSE 12.5 · the 80 % interval covers 79.4 % · 4,894 rows held out");
  assert.deepEqual(scoresOf({ horizon: "1h", holdout: HOLDOUT }), scores);
  assert.deepEqual(scoresOf({ horizon: "1h", holdout: { from: "", to: "" }, ...HOLDOUT }), scores);
  assert.deepEqual(scoresOf(null), null);
  assert.deepEqual(scoresOf({ score: { mae: "<b>" } }), null);
  assert.deepEqual(naiveWords(null), ["wait", "no naive forecast to compare with"]);
  const worse = scoresOf({ score: { mae: 9 }, beside: [{ baseline: "persistence", score: { mae: 8 }, model: { mae: 9 } }] });
  assert.deepEqual(naiveWords(worse), ["bad", "no better than the naive one, persistence: 12.5 % more error"]);
});

test("who forecasts, and why, is told by a number or more, a sentence or more", () => {
  assert.deepEqual([championOf({ champion: 3, trained_at: "y" }), championOf({ champion: { version: 4, trained_at: "x" } }), championOf({ champion: null })], [{ version: 3, trained_at: "y", promoted_at: undefined }, { version: 4, trained_at: "x" }, null]);
  assert.deepEqual([verdictOf({ verdict: "worse" }), verdictOf({ contest: { reason: "better" } }), verdictOf({})], ["worse", "better", ""]);
});

test("live error is judged in words", () => {
  assert.deepEqual(liveWords({ scored: 216, mae: 8.2, ratio: 1.204, drifted: false }, 24), ["good", "1.2 times the holdout's error over 216 forecasts: holds"]);
  assert.deepEqual(liveWords({ scored: 72, mae: 20, ratio: 2.1, drifted: true }, 24), ["bad", "2.1 times the holdout's error over 72 forecasts: drifts, trained early"]);
  assert.deepEqual(liveWords({ scored: 1, mae: 20, ratio: 3, drifted: false }, 24), ["wait", "3 times the holdout's error over 1 forecast: too few to judge, 24 are enough"]);
  assert.deepEqual(liveWords({ scored: 30, mae: 20, ratio: null, drifted: false }, 1), ["wait", "no holdout to compare with over 30 forecasts"]);
  for (const nothing of [null, undefined, { scored: 0, mae: 0, ratio: 0, drifted: false }]) {
    assert.deepEqual(liveWords(nothing), ["wait", "no forecast has met its truth yet"]);
  }
  const names = (live) => errorBars(live, scoresOf(HOLDOUT)).map(({ name }) => name);
  assert.deepEqual(names({ scored: 3, mae: 7 }), ["live", "holdout", "persistence", "mean"]);
  assert.deepEqual(names({ scored: 0, mae: 0 }), ["holdout", "persistence", "mean"]);
  assert.equal(ahead("24h"), "24 h ahead");
});

test("of forecasts without an interval nothing is said to be within one", () => {
  const bare = { ...document(2, 4, 5), low: null, high: null };
  const span = { from: Date.parse(hour(0)), to: Date.parse(hour(9)) };
  const of = (documents) => spanError(forecastLines(documents, { bucketSeconds: 3600, interval: 0.8 }).table, span);
  assert.deepEqual(of([bare]), { scored: 1, mae: 1, inside: null });
  assert.deepEqual(of([bare, document(3, 7, 1)]), { scored: 2, mae: 3.5, inside: 0 });
});

const hour = (n) => `2013-10-01T${String(n).padStart(2, "0")}:00:00Z`;
const document = (n, forecast, truth, made = 0) => ({ at: hour(n), forecast, low: forecast - 2, high: forecast + 2, truth, error: truth === null ? null : forecast - truth, made_at: hour(made) });

test("a missing hour is a hole in the lines, and of two forecasts of an hour the later one counts", () => {
  const { chart, table } = forecastLines([document(5, 9, null), document(2, 4, 5), document(3, 7, 1, 1), document(3, 6, 1)], { bucketSeconds: 3600, interval: 0.8 });
  assert.deepEqual(chart.times.map((ms) => new Date(ms).getUTCHours()), [2, 3, 4, 5]);
  assert.deepEqual(chart.lines, [{ name: "truth", values: [5, 1, null, null] }, { name: "forecast", values: [4, 7, null, 9] }]);
  assert.deepEqual(chart.band, { name: "80 % interval", of: "forecast", low: [2, 5, null, 7], high: [6, 9, null, 11] });
  assert.deepEqual(table.lines.map(({ name }) => name), ["truth", "forecast", "error", "low", "high"]);
  assert.deepEqual(spanError(table, { from: Date.parse(hour(2)), to: Date.parse(hour(6)) }), { scored: 2, mae: 3.5, inside: 0.5 });
  assert.deepEqual(spanError(table, { from: Date.parse(hour(5)), to: Date.parse(hour(6)) }), { scored: 0, mae: null, inside: null });
  assert.deepEqual(forecastLines([], { bucketSeconds: 3600, interval: 0.8 }).chart.times, []);
});

const FORECASTS = [
  { name: "delay", key: ["origin"], keys: [{ origin: "LGA" }, { origin: "EWR" }], horizons: [{ horizon: "1h" }, { horizon: "24h" }] },
  { name: "empty", key: ["a", "b"], keys: [], horizons: [] },
];

test("what is looked at is read from the address, and nonsense in it is passed over", () => {
  const state = stateFrom({ forecast: "delay", horizon: "24h", "key.origin": "x&y", version: "12", size: "100", range: "30d", from: hour(1), to: hour(2) }, FORECASTS);
  assert.deepEqual([state.horizon, state.key, state.version, state.size], ["24h", { origin: "x&y" }, 12, 100]);
  assert.deepEqual(stateFrom(Object.fromEntries(Object.entries(queryFrom(state)).map(([k, v]) => [k, String(v)])), FORECASTS), state);
  const usual = stateFrom({ forecast: "none", horizon: "9h", version: "-1", range: "x", from: hour(2), to: hour(1) }, FORECASTS);
  assert.deepEqual(usual, { forecast: "delay", horizon: "1h", key: { origin: "EWR" }, version: null, size: null, range: "7d", window: null });
  assert.deepEqual([stateFrom({ forecast: "empty", "key.a": "1" }, FORECASTS).key, stateFrom({}, [])], [null, null]);
  assert.deepEqual(sortedKeys([{ a: 2, b: 1 }, { a: 1, b: 1 }, { a: "2", b: 1 }], ["a", "b"]).map(({ a }) => String(a)), ["1", "2"]);
  assert.deepEqual(spanOf({ range: "24h", window: null }, Date.parse(hour(0)), 3600), { from: Date.parse("2013-09-30T01:00:00Z"), to: Date.parse(hour(1)) });
  const hours = { bucket_seconds: 3600, made_from: hour(3) };
  assert.deepEqual([lastForecast(hours, { buckets: 2 }), lastForecast(hours, { buckets: 2, last: hour(9) })], [Date.parse(hour(5)), Date.parse(hour(9))]);
  assert.ok(Number.isNaN(lastForecast({ bucket_seconds: 3600, made_from: null }, undefined)));
  assert.deepEqual(spanOf({ range: "all", window: null }, NaN, 3600), { from: null, to: null });
});

const run = (framework, size, workers, fit, memory) => ({ framework, size, rows: size * 10, workers, workers_had: 1, outcome: "fitted", seconds: { start_up: 0, load: 0, fit, predict: 0, wall: fit + 1 }, cpu_seconds: fit, peak_memory_bytes: memory, memory_is_resident: false, remarks: [] });
const parity = (framework, size, agrees) => ({ framework, reference: "linfa", size, workers: 1, coefficients: 2.4e-13, predictions: agrees ? 2.7e-10 : 0.5, agrees });
const COMPARISON = {
  tolerance: 1e-8,
  runs: [run("linfa", 1, 1, 2, 5e6), run("linfa", 10, 1, 2, 5e6), run("bief", 10, 1, 1, 9e6), { framework: "dask-ml", size: 10, rows: 100, workers: 1, outcome: "absent", why: "run bief compare --setup" }],
  parity: [parity("bief", 10, true)],
  scaling: [{ framework: "bief", workers: 1, sizes: [1, 10], fit_exponent: 0.93, wall_exponent: 0.9 }],
};

test("each run of a size is a row, with what it took and whether it agrees", () => {
  assert.deepEqual([sizesOf(COMPARISON), chosenSize(COMPARISON, 1), chosenSize(COMPARISON, 7)], [[1, 10], 1, 10]);
  const [linfa, bief, dask] = runRows(COMPARISON, 10);
  assert.deepEqual([linfa.parity, linfa.least, linfa.exponent], [["good", "the reference"], ["memory"], null]);
  assert.deepEqual([bief.parity, bief.least, bief.exponent, bief.megabytes], [["good", "agrees, 2.7e-10 apart"], ["fit", "wall"], 0.93, 9]);
  assert.deepEqual([dask.parity, dask.why, dask.megabytes, dask.least], [["wait", "absent"], "run bief compare --setup", null, []]);
  assert.deepEqual([bief.workers, bief.had, dask.had], [1, 1, null], "how many there were is known of those that fitted");
  assert.deepEqual(runRows(COMPARISON, 1)[0].least, [], "the only one is not the best");
});

test("a comparison's verdict names whoever differs, failed or is not there", () => {
  assert.deepEqual(verdictWords(COMPARISON), ["wait", "dask-ml: not installed"]);
  const whole = { ...COMPARISON, runs: COMPARISON.runs.slice(0, 3) };
  assert.deepEqual(verdictWords(whole), ["good", "all came to the same model, within 1e-8 of each other's coefficients and predictions"]);
  assert.deepEqual(verdictWords({ ...whole, parity: [parity("bief", 10, false)] }), ["bad", "bief: another model than the reference's"]);
  assert.deepEqual(verdictWords({ ...whole, runs: [], parity: [] })[0], "wait");
});

test("seconds and differences have as many digits as mean something", () => {
  assert.deepEqual([0.0021568, 0.000116, 0, 12.345, null].map(seconds), ["0.0022", "0.00012", "0", "12.35", "–"]);
  assert.deepEqual([2.4381e-13, 0, Number.MAX_VALUE, null].map(difference), ["2.4e-13", "0", "no number", "–"]);
});
