// Retrying and dropping: asked for once more where it can't be undone, told what came of it, and the audit of all of it.

import { explained, get, post, tooSoonFor, whenAgain, withQuery } from "./api.js";
import { announce, byId, element, group, keyed, setText, setTone, show } from "./dom.js";
import { cell, count, minute } from "./format.js";
import { leavesSome, outcomeOf, together } from "./reasons.js";

const AUDIT_SHOWN = 20;

/**
 * A large selection takes several requests; each says where the next begins. What came too soon is asked again from there
 * once the daemon lets it in: begun anew, letters that stay would keep it from the rest. True where it came to the end.
 */
export async function inSteps(ask, { onAnswer, pause, isStopped }) {
  let cursor;
  while (!isStopped()) {
    let answer;
    try {
      answer = await ask(cursor);
    } catch (error) {
      const seconds = tooSoonFor(error);
      if (seconds === 0) throw error;
      if (!isStopped()) await pause(seconds);
      continue;
    }
    onAnswer(answer);
    if (!answer.next) return true;
    cursor = answer.next;
  }
  return false;
}

/** `onDone` after letters may have ended; before it `onSettled` where none was left, with their ids if those were named. */
export function startActions({ onDone, onSettled }) {
  let busy = false;
  let stopped = false;
  let wake = () => {};
  byId("result-stop").addEventListener("click", () => {
    stopped = true;
    wake();
  });

  /** Ends early when it is stopped. */
  function sleep(seconds) {
    return new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, seconds * 1000);
    });
  }

  function tell(tone, text, refusals = []) {
    const box = byId("result");
    show(box, true);
    setTone(box, tone);
    setText(byId("result-text"), text);
    announce(text);
    const items = keyed(byId("refusals"), refusals.slice(0, 10).map(({ id }) => String(id)), () => element("li"));
    refusals.slice(0, 10).forEach((one, at) => setText(items[at], `${one.id}: ${one.reason.replaceAll("_", " ")}${one.field ? ` in ${one.field}` : ""}: ${one.message}`));
  }

  function setBusy(now) {
    busy = now;
    for (const press of document.querySelectorAll("#tab-letters .buttons button")) press.disabled = now;
    show(byId("result-stop"), now);
  }

  async function change(path, request, told) {
    if (busy) return;
    setBusy(true);
    stopped = false;
    let sum = null;
    const soFar = (then) => (sum ? `${told(sum)}; ${then}` : then[0].toUpperCase() + then.slice(1));
    try {
      const isDone = await inSteps((cursor) => post(path, { ...request, cursor }), {
        onAnswer(answer) {
          sum = together(sum, answer);
          tell(sum.refused > 0 ? "wait" : "good", `${told(sum)}${answer.next ? "; there are more" : ""}.`, sum.refusals);
        },
        pause(seconds) {
          tell("wait", soFar(`the daemon takes no change for ${Math.ceil(seconds)} s, then this goes on by itself.`), sum?.refusals);
          return sleep(seconds);
        },
        isStopped: () => stopped,
      });
      if (!isDone) tell("wait", soFar(`stopped${sum ? ", there are more" : ""}.`), sum?.refusals);
    } catch (error) {
      tell("bad", `${sum ? soFar("then: ") : ""}${explained(error)}${whenAgain(error)}`);
    } finally {
      setBusy(false);
    }
    if (sum && !sum.dry_run) {
      if (!leavesSome(sum)) onSettled(request.ids);
      onDone();
    }
  }

  async function retry({ ids, filter, size, dryRun, payload }) {
    const overwrite = byId("overwrite").checked;
    if (!ids && !dryRun && !(await confirmed("Retry", `Send ${count(size)} dead letters through the present mapping again?`, overwrite ? "Rows that are there already are set to what the letters say; they may be newer." : "No row that is there already is changed.", `Retry ${count(size)}`))) return;
    const request = { ids, filter, overwrite, dry_run: dryRun, payload };
    await change("/api/v1/dead-letters/retry", request, (sum) => `${dryRun ? "Tried, changed nothing: " : ""}${outcomeOf(sum)}`);
  }

  async function drop({ ids, filter, size }) {
    const what = size === 1 ? "this dead letter" : `${count(size)} dead letters`;
    if (!(await confirmed("Drop", `Throw ${what} away for good?`, "Their payloads are gone then. The ledger goes on counting them, and the audit keeps who did it.", size === 1 ? "Drop it" : `Drop ${count(size)}`))) return;
    await change("/api/v1/dead-letters/drop", { ids, filter }, (sum) => `${count(sum.dropped)} dropped`);
  }

  return { retry, drop, loadAudit };
}

/** Asks in a dialog of the page; true where the reader pressed the button that does it. */
function confirmed(title, question, advice, deed) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-question"), question);
  setText(byId("confirm-advice"), advice);
  setText(byId("confirm-yes"), deed);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = (event) => {
      dialog.close(event.currentTarget.value);
    };
    const ended = () => {
      for (const press of [byId("confirm-yes"), byId("confirm-no")]) press.removeEventListener("click", answer);
      resolve(dialog.returnValue === "yes");
    };
    for (const press of [byId("confirm-yes"), byId("confirm-no")]) press.addEventListener("click", answer);
    dialog.addEventListener("close", ended, { once: true });
  });
}

async function loadAudit() {
  let entries;
  try {
    ({ entries } = await get(withQuery("/api/v1/audit", { limit: AUDIT_SHOWN })));
  } catch {
    // The audit is beside the point where the letters themselves can be read.
    return;
  }
  show(byId("audit"), entries.length > 0);
  const rows = keyed(byId("audit-rows"), entries.map(({ id }) => String(id)), () => group("tr", "", element("td"), element("td"), element("td"), element("td"), element("td")));
  entries.forEach((entry, at) => {
    const cells = rows[at].children;
    setText(cells[0], minute(Date.parse(entry.at)));
    setText(cells[1], entry.action + (entry.request.edited ? ", edited" : "") + (entry.request.dry_run ? ", tried" : ""));
    setText(cells[2], entry.request.filter ? Object.entries(entry.request.filter).map(([name, value]) => `${name} ${value}`).join(", ") : `number ${entry.letters.slice(0, 5).join(", ")}`);
    setText(cells[3], Object.entries(entry.outcome).filter(([, value]) => typeof value === "number" && value > 0).map(([name, value]) => `${name} ${count(value)}`).join(", ") || "nothing");
    setText(cells[4], cell(entry.peer));
  });
}
