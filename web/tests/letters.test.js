// letters.js and letter_actions.js: what is done to many letters.

import assert from "node:assert/strict";
import { test } from "node:test";
import { post } from "../api.js";
import { inSteps } from "../letter_actions.js";
import { counted } from "../letters.js";

const tooSoon = (seconds) => new Response(JSON.stringify({ title: "Too Many Requests" }), { status: 429, headers: { "Retry-After": String(seconds) } });
const answered = (next) => Response.json({ dropped: 2000, next });

/** What is done where the daemon answers so, one answer a request; it is stopped in a pause where `stops` says so. */
async function changed(answers, stops = false) {
  const done = [];
  let isStopped = false;
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.fetch = async (_, { body }) => {
    done.push(`asks from ${JSON.parse(body).cursor ?? "the beginning"}`);
    return answers.shift();
  };
  try {
    const isDone = await inSteps((cursor) => post("/api/v1/dead-letters/drop", { cursor }), {
      onAnswer: ({ dropped }) => done.push(dropped),
      pause: async (seconds) => {
        done.push(`waits ${seconds} s`);
        isStopped = stops;
      },
      isStopped: () => isStopped,
    });
    done.push(isDone ? "to the end" : "stopped");
  } catch (error) {
    done.push(error.status);
  }
  return done;
}

test("a change that comes too soon is asked again when it is let in, from where it was", async () => {
  assert.deepEqual(await changed([answered("b"), tooSoon(34), tooSoon(2), answered(null)]), ["asks from the beginning", 2000, "asks from b", "waits 34 s", "asks from b", "waits 2 s", "asks from b", 2000, "to the end"]);
  assert.deepEqual(await changed([tooSoon(2), answered(null)]), ["asks from the beginning", "waits 2 s", "asks from the beginning", 2000, "to the end"]);
});

test("a change that waits can be stopped, and what else is wrong ends it", async () => {
  assert.deepEqual(await changed([answered("b"), tooSoon(34)], true), ["asks from the beginning", 2000, "asks from b", "waits 34 s", "stopped"]);
  const away = new Response("{}", { status: 503, headers: { "Retry-After": "2" } });
  assert.deepEqual(await changed([answered("b"), away]), ["asks from the beginning", 2000, "asks from b", 503]);
});

test("what is done to all of a group is done to those that were counted", () => {
  const group = { topic: "sales", reason: "check", letters: 120, first_stored_at: "2026-01-31T14:02:11.5Z", last_stored_at: "2026-01-31T14:19:58.101234Z", newest: 42 };
  assert.deepEqual(counted(group, undefined), { topic: "sales", reason: "check", since: undefined, until: "2026-01-31T14:19:58.102Z" });
  assert.equal(counted(group, "2026-01-31T13:20:00.000Z").since, "2026-01-31T13:20:00.000Z");
  assert.equal(counted({ ...group, last_stored_at: "2026-01-31T14:19:59.999999Z" }).until, "2026-01-31T14:20:00.000Z");
});
