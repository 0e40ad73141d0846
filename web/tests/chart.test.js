// chart.js: the x axis is in UTC, wherever one looks from.

import assert from "node:assert/strict";
import { test } from "node:test";

// Clocks there go ahead on 2026-03-29 at 01:00 UTC, and back on 2026-10-25.
process.env.TZ = "Europe/Berlin";
globalThis.window = { matchMedia: () => ({}) };
const { timeSplits, utc } = await import("../chart.js");

const HOUR = 3600;
const DAY = 24 * HOUR;
const seconds = (text) => Date.parse(text) / 1000;
/** As uPlot reads a date. */
const labels = (splits) =>
  splits.map((at) => {
    const date = utc(at);
    return [date.getFullYear(), date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds()].join(" ");
  });

test("hours are labelled as they are about a change of the clocks", () => {
  assert.equal(new Date("2026-03-29T01:00:00Z").getHours(), 3, "the zone holds");
  for (const day of ["2026-03-29", "2026-10-25"]) {
    const [year, month, date] = day.split("-").map(Number);
    const start = seconds(`${day}T00:00:00Z`);
    const splits = timeSplits(start - 1, start + 4 * HOUR, HOUR);
    assert.deepEqual(labels(splits), [0, 1, 2, 3, 4].map((hour) => `${year} ${month} ${date} ${hour} 0 0 0`));
    assert.equal(utc(start).getDay(), 0);
  }
});

test("hours, days, months and years begin where they do in UTC", () => {
  const from = seconds("2026-03-27T17:10:00Z");
  const days = (count) => timeSplits(from, from + count * DAY, 6 * HOUR).map((at) => at % (6 * HOUR));
  assert.deepEqual(new Set(days(5)), new Set([0]));
  assert.deepEqual(labels(timeSplits(from, from + 5 * DAY, 2 * DAY)), ["2026 3 28 0 0 0 0", "2026 3 30 0 0 0 0", "2026 4 1 0 0 0 0"]);
  assert.deepEqual(labels(timeSplits(from, from + 290 * DAY, 90 * DAY)), ["2026 4 1 0 0 0 0", "2026 7 1 0 0 0 0", "2026 10 1 0 0 0 0", "2027 1 1 0 0 0 0"]);
  assert.deepEqual(labels(timeSplits(seconds("1968-05-01T00:00:00Z"), seconds("1991-01-01T00:00:00Z"), 3650 * DAY)), ["1970 1 1 0 0 0 0", "1980 1 1 0 0 0 0", "1990 1 1 0 0 0 0"]);
  assert.deepEqual(timeSplits(from, from + 600, 300).map((at) => at - from), [0, 300, 600]);
});
