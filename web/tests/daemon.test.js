// What is said of the daemon: bottleneck.js, graph_layout.js, graph.js, ledger.js, metrics_text.js, reasons.js.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sentenceOf } from "../bottleneck.js";
import { faceOf } from "../graph.js";
import { graphOf, place } from "../graph_layout.js";
import { shownPartitions, verdictOf } from "../ledger.js";
import { countersOf, countersOfUnit, parseMetrics } from "../metrics_text.js";
import { meaningOf, outcomeOf, together } from "../reasons.js";

const totals = { partitions: 4, caught_up: 4, lag: 0, records_per_second: 12, unaccounted: 0, advanced: 0 };
const stages = ["consumer", "decoder", "writer"].map((stage, at) => ({ stage, records_per_second: 12, busy: at / 10, blocked: 0, queue_fill: at === 0 ? null : 0.5, queue_records: 5 }));
const stream = (more = {}) => ({ stream: "sales", topic: "sales", totals: { ...totals, ...more.totals }, in_doubt: [], bottleneck: null, troubles: [], stages, partitions: [], ...more, ...(more.totals ? { totals: { ...totals, ...more.totals } } : {}) });

test("what holds a stream up is said in a sentence, the gravest first", () => {
  assert.deepEqual(sentenceOf(stream()), ["good", "Nothing holds sales up: it is caught up, at 12 records/s, its writer busy 20 % of the last minute."]);
  assert.match(sentenceOf(stream({ totals: { caught_up: 1, lag: 20 } }))[1], /keeps up with 12 records\/s/);
  assert.match(sentenceOf(stream({ totals: { caught_up: 1, lag: 1200 } }))[1], /1,200 offsets behind, at 12 records\/s.* About 1 min/);
  assert.equal(sentenceOf(stream({ totals: { caught_up: 1, lag: 1200, records_per_second: 0 } }))[0], "wait");
  const narrow = { bottleneck: { stage: "writer", share: 0.83, sentence: "The writer waits for MySQL, 83 % of the last minute." } };
  assert.deepEqual(sentenceOf(stream(narrow)), ["bad", "sales: The writer waits for MySQL, 83 % of the last minute."]);
  assert.match(sentenceOf(stream({ ...narrow, in_doubt: [{ partition: 1 }] }))[1], /stands still/);
  assert.equal(sentenceOf(stream({ totals: { partitions: 0, caught_up: 0 } }))[0], "wait");
});

test("the graph leads each topic to the tables, and boxes never overlap at any width", () => {
  const unit = (name) => ({ name, state: "running", actors: [] });
  const status = { streams: [stream(), stream({ stream: "shops", topic: "shops" })], units: ["sales", "shops", "outbox-sales", "aggregator", "trainer"].map(unit) };
  const graph = graphOf(status);
  assert.deepEqual(graph.nodes.filter(({ kind }) => kind === "unit").map(({ title }) => title), ["outbox", "aggregator", "trainer"]);
  assert.equal(graph.edges.filter(({ queue }) => queue).length, 4, "two queues a stream");
  for (const width of [320, 390, 760, 1100, 1900]) {
    const { box, width: total, height } = place(graph, width);
    const boxes = [...box.values()];
    for (const a of boxes) {
      assert.ok(a.x >= 0 && a.y >= 0 && a.x + a.w <= total + 0.01 && a.y + a.h <= height + 0.01, `inside at ${width}`);
      for (const b of boxes) {
        const apart = a === b || a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
        assert.ok(apart, `apart at ${width}`);
      }
    }
  }
});

test("the ledger's verdict, and the partitions that are wrong come first", () => {
  assert.equal(verdictOf({ unaccounted: 3, partitions: 1 })[0], "bad");
  assert.equal(verdictOf({ unaccounted: 0, partitions: 0 })[0], "wait");
  assert.equal(verdictOf({ unaccounted: 0, partitions: 1 })[0], "good");
  const many = Array.from({ length: 200 }, (_, partition) => ({ partition, unaccounted: partition === 150 ? -1 : 0, lag: partition }));
  const shown = shownPartitions(many);
  assert.equal(shown.length, 50);
  assert.ok(shown.some(({ partition }) => partition === 150));
});

test("counters are read from the text format", () => {
  const series = parseMetrics('# HELP x y\nbief_records_applied_total{stream="sales"} 12345\nbief_commit_duration_seconds_bucket{stream="sales",le="0.1"} 5\nbief_commit_duration_seconds_sum{stream="sales"} 2\nbief_commit_duration_seconds_count{stream="sales"} 10\nbief_stage_blocked_seconds_total{stream="sales",stage="decoder"} 3.5\nbief_dead_letters_total{stream="sales",reason="a \\"b\\""} 1\nbief_aggregates_refreshed_total 8\n');
  assert.deepEqual(countersOf(series, "sales", "writer"), [["records applied", "12,345"], ["commit duration, mean", "200 ms of 10"]]);
  assert.deepEqual(countersOf(series, "sales", "decoder"), [["stage blocked seconds", "3.5 s"], ['dead letters (a "b")', "1"]]);
  assert.deepEqual(countersOf(series, "other", "writer"), []);
  assert.deepEqual(countersOfUnit(series, "aggregator"), [["aggregates refreshed", "8"]]);
});

test("what a retry came to is a sentence, over several answers", () => {
  const answer = { dry_run: false, applied: 2, duplicates: 1, refused: 0, refusals: [], without_payload: 1, without_stream: 0, read_again: 0, unanswered: 0, gone: 0, next: "x" };
  assert.equal(outcomeOf(answer), "2 applied, 1 changed nothing and ended, 1 without a payload stays");
  assert.equal(outcomeOf({ ...answer, applied: 0, duplicates: 0, without_payload: 0 }), "nothing to do");
  const sum = together(answer, { ...answer, next: null });
  assert.deepEqual([sum.applied, sum.next], [4, null]);
  assert.equal(meaningOf("of another version").length, 2);
});

test("a box says what its actors do, and which of them is in trouble", () => {
  const [sales] = [stream({ troubles: [{ actor: "writer-1", cause: "refused", since: "2013-01-01T00:00:00Z" }] })];
  const actors = ["consumer", "poll", "decoder-0", "decoder-1", "writer-0", "writer-1"].map((name) => ({ name, state: "running", restarts: name === "writer-1" ? 2 : 0 }));
  const { nodes } = graphOf({ streams: [sales], units: [{ name: "sales", state: "running", restarts: 2, last_error: null, actors }] });
  const face = (title) => faceOf(nodes.find((node) => node.title === title));
  assert.deepEqual(face("writer"), { tone: "bad", lines: ["busy 20 %", "2 lanes"], restarts: 2, wrong: "refused" });
  assert.deepEqual(face("decoder"), { tone: "good", lines: ["busy 10 %", "2 lanes"], restarts: 0, wrong: "" });
  assert.deepEqual(face("consumer").lines, ["idle"]);
  const ended = faceOf({ kind: "unit", unit: { name: "trainer", state: "failed", restarts: 9, last_error: "no room" } });
  assert.deepEqual([ended.tone, ended.wrong], ["bad", "no room"]);
});
