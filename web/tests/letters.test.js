// letters.js, letter_actions.js and reasons.js: what is done to many letters, and which one is shown.

import assert from "node:assert/strict";
import { test } from "node:test";
import { post } from "../api.js";
import { inSteps } from "../letter_actions.js";
import { counted, lookAfter, toOpen } from "../letters.js";
import { leavesSome } from "../reasons.js";

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

test("the letter that is edited or chosen stays, however many newer ones come", () => {
  const letters = [{ id: 90 }, { id: 89 }];
  const none = { openId: null, isChosen: false, editedId: null };
  assert.equal(toOpen(letters, none), 90);
  assert.equal(toOpen([], none), null);
  assert.equal(toOpen(letters, { ...none, openId: 89 }), 89);
  assert.equal(toOpen(letters, { ...none, openId: 7 }), 90, "nobody chose it, and it is not there");
  assert.equal(toOpen(letters, { ...none, openId: 7, isChosen: true }), 7, "linked to");
  assert.equal(toOpen(letters, { ...none, openId: 7, editedId: 7 }), 7);
  assert.equal(toOpen([], { openId: null, isChosen: false, editedId: 7 }), 7, "another group was chosen");
});

test("a letter that stays as it was has not ended", () => {
  const none = { applied: 0, duplicates: 0, refused: 0, without_payload: 0, without_stream: 0, read_again: 0, unanswered: 0, gone: 0 };
  assert.equal(leavesSome({ ...none, applied: 3, duplicates: 1, unanswered: 1, gone: 1 }), false);
  assert.equal(leavesSome({ dropped: 3 }), false);
  for (const name of ["refused", "without_payload", "without_stream", "read_again"]) assert.equal(leavesSome({ ...none, applied: 3, [name]: 1 }), true, name);
});

test("while letters come they are counted every 3 s where they are looked at, and every 10 s for the number on the tab", () => {
  assert.deepEqual([lookAfter(true, true), lookAfter(true, false)], [0, 0]);
  assert.deepEqual([lookAfter(false, true), lookAfter(false, false)], [3000, 10000]);
});
