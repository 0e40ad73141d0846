// sse.js and connection.js: the page's one stream.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection } from "../connection.js";
import { EventReader } from "../sse.js";

test("events are cut out of the stream wherever its pieces end", () => {
  const text = "retry: 2000\n\n: beat\n\nid: a-1\nevent: status\ndata: {\"x\":1}\n\ndata: one\r\ndata: two\r\n\r\nevent: unfinished\ndata: no";
  for (let size = 1; size < text.length; size += 1) {
    const events = [];
    const reader = new EventReader((...event) => events.push(event));
    for (let at = 0; at < text.length; at += size) reader.push(text.slice(at, at + size));
    assert.deepEqual(events, [["status", '{"x":1}', "a-1"], ["message", "one\ntwo", null]]);
  }
});

const STREAM = 'id: e-7\nevent: status\ndata: {"now":1}\n\n';

/** What is asked for, as `path milliseconds waited`, while the daemon answers so, with the states that were told. */
async function played(answers) {
  const asked = [];
  const states = [];
  const events = [];
  let waited = 0;
  const isLocked = answers.includes(401);
  await new Promise((done) => {
    const request = async (path, options) => {
      asked.push(`${path} ${waited}${options.headers?.["Last-Event-ID"] ? ` after ${options.headers["Last-Event-ID"]}` : ""}`);
      waited = 0;
      const answer = answers.shift();
      if (answer === undefined) {
        done();
        return new Promise(() => {});
      }
      if (answer === "away") throw new TypeError("away");
      const isStream = answer === "stream";
      return { status: isStream ? 200 : answer, ok: isStream || answer === 200, body: new Blob([isStream ? STREAM : ""]).stream(), json: async () => ({ now: 2 }) };
    };
    const world = {
      setTimeout: (then, ms) => {
        waited = ms;
        setImmediate(then);
        return 1;
      },
      clearTimeout() {},
      isHidden: () => false,
      now: () => 5,
    };
    const connection = new Connection({ request, onEvent: (...event) => events.push(event), onState: (state) => states.push(state) }, world);
    connection.listen();
    if (isLocked) setTimeout(done, 50);
  });
  return { asked, states, events };
}

test("after a restart the page goes back to its stream, and says where it was", async () => {
  const { asked, events } = await played(["stream", "away", "away", 502, "away", "stream", "stream"]);
  const tries = [0, 2000, 4000, 8000, 15000, 15000, 2000, 2000];
  // The wait grows while the daemon is away, and is short again once an event came.
  assert.deepEqual(asked, tries.map((ms, n) => `/events ${ms}${n > 0 ? " after e-7" : ""}`));
  assert.deepEqual(events[0], ["status", { now: 1 }]);
});

test("where too many pages are open the status is asked for, and the stream tried again later", async () => {
  const { asked, states } = await played([503, ...Array(15).fill(200), 503, 200, "away", "stream"]);
  const paths = asked.map((line) => line.split(" ")[0]);
  assert.deepEqual(paths, ["/events", ...Array(15).fill("/status"), "/events", "/status", "/status", "/events", "/events"]);
  assert.ok(states.includes("polling"));
});

test("without a token nothing more is asked", async () => {
  const { asked, states } = await played([401]);
  assert.deepEqual([asked, states], [["/events 0"], ["token"]]);
});

test("a page that nobody sees asks for nothing, and silence then is no fault of the daemon's", () => {
  let hidden = false;
  let now = 0;
  const states = [];
  let asked = 0;
  const connection = new Connection(
    { request: () => ((asked += 1), new Promise(() => {})), onEvent() {}, onState: (state) => states.push(state) },
    { setTimeout: () => 0, clearTimeout() {}, isHidden: () => hidden, now: () => now },
  );
  connection.heard("live");
  now = 5000;
  connection.watch();
  connection.lastHeard = 1;
  connection.watch();
  hidden = true;
  connection.visibilityChanged();
  now = 500000;
  connection.watch();
  hidden = false;
  connection.visibilityChanged();
  connection.watch();
  assert.deepEqual([states, asked], [["live", "connecting", "gone"], 1]);
});

test("a stream that no longer says anything is given up, though its end never came, and taken up where it was", async () => {
  let now = 100000;
  const asked = [];
  const signals = [];
  const connection = new Connection(
    {
      request: async (path, { signal, headers }) => {
        asked.push([now, headers["Last-Event-ID"]]);
        signals.push(signal);
        const said = asked.length === 1 ? [new TextEncoder().encode(STREAM)] : [];
        return { status: 200, ok: true, body: new ReadableStream({ start: (stream) => said.forEach((bytes) => stream.enqueue(bytes)) }) };
      },
      onEvent() {},
      onState() {},
    },
    { setTimeout: () => 0, clearTimeout() {}, isHidden: () => false, now: () => now },
  );
  connection.listen();
  await new Promise((done) => setTimeout(done, 20));
  for (let second = 0; second < 25; second += 1) {
    now += 1000;
    connection.watch();
    await new Promise((done) => setImmediate(done));
  }
  assert.deepEqual(asked, [[100000, undefined], [110000, "e-7"], [120000, "e-7"]], "each 10 s, not each second");
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, false]);
});

test("what was missed while there was no stream is told when there is one again", async () => {
  const { events } = await played([503, 200, 200, "away", "stream", "stream"]);
  assert.deepEqual(events.map(([type]) => type), ["status", "status", "missed", "status", "status"]);
});
