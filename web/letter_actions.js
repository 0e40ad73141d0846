// Retrying and dropping: asked for once more where it can't be undone, told what came of it, and the audit of all of it.

import { explained, get, post, whenAgain, withQuery } from "./api.js";
import { announce, byId, element, group, keyed, setText, setTone, show } from "./dom.js";
import { cell, count, minute } from "./format.js";
import { outcomeOf, together } from "./reasons.js";

const AUDIT_SHOWN = 20;

/** `onDone` after letters may have ended; `onSettled` when the one that is shown is another now. */
export function startActions({ onDone, onSettled }) {
  let busy = false;
  let stopped = false;
  byId("result-stop").addEventListener("click", () => {
    stopped = true;
  });

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

  /** A large selection takes several requests; each says where the next begins. */
  async function inSteps(path, request, told) {
    if (busy) return;
    setBusy(true);
    stopped = false;
    let sum = null;
    let cursor;
    try {
      do {
        const answer = await post(path, { ...request, cursor });
        sum = together(sum, answer);
        cursor = answer.next ?? undefined;
        tell(sum.refused > 0 ? "wait" : "good", `${told(sum)}${cursor ? "; there are more" : ""}.`, sum.refusals);
      } while (cursor && !stopped);
    } catch (error) {
      tell("bad", `${sum ? `${told(sum)}; then: ` : ""}${explained(error)}${whenAgain(error)}`);
    } finally {
      setBusy(false);
    }
    if (sum && !sum.dry_run) {
      onSettled();
      onDone();
    }
  }

  async function retry({ ids, filter, size, dryRun, payload }) {
    const overwrite = byId("overwrite").checked;
    if (!ids && !dryRun && !(await confirmed("Retry", `Send ${count(size)} dead letters through the present mapping again?`, overwrite ? "Rows that are there already are set to what the letters say; they may be newer." : "No row that is there already is changed.", `Retry ${count(size)}`))) return;
    const request = { ids, filter, overwrite, dry_run: dryRun, payload };
    await inSteps("/api/v1/dead-letters/retry", request, (sum) => `${dryRun ? "Tried, changed nothing: " : ""}${outcomeOf(sum)}`);
  }

  async function drop({ ids, filter, size }) {
    const what = size === 1 ? "this dead letter" : `${count(size)} dead letters`;
    if (!(await confirmed("Drop", `Throw ${what} away for good?`, "Their payloads are gone then. The ledger goes on counting them, and the audit keeps who did it.", size === 1 ? "Drop it" : `Drop ${count(size)}`))) return;
    await inSteps("/api/v1/dead-letters/drop", { ids, filter }, (sum) => `${count(sum.dropped)} dropped`);
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
