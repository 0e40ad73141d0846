// The tab Dead letters: groups by reason, the worst first and open; the letters of one; one letter with what is wrong.

import { at, explained, get, withQuery } from "./api.js";
import { byId, button, element, keyed, notice, setText, show } from "./dom.js";
import { ago, count, minute } from "./format.js";
import { LetterView } from "./letter.js";
import { startActions } from "./letter_actions.js";
import { meaningOf } from "./reasons.js";
import { listen, store } from "./store.js";
import { writeView } from "./view.js";

const PAGE = 50;
const LOOK_AGAIN_MS = 3000; // after more letters came
const BADGE_MS = 10000; // the same while another tab is shown
const KEPT_MS = 2000; // for which the daemon gives the groups again: what came since may not be in them
const RETRY_MS = 5000;
const SPANS = { any: NaN, "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3 };

let shown = false;
let groups = null;
let groupsSince; // what they were counted from
let chosen = null; // {topic, reason}
let span = "any";
let letters = [];
let next = null;
let openId = null;
let isChosen = false; // by the reader, or a link
let view = null;
let actions = null;
let seen = null;
let seenAt = 0;
let timer = 0;
let generation = 0;

export function startLetters() {
  actions = startActions({ onDone: changed, onSettled: settled });
  view = new LetterView(byId("letter"), actions);
  byId("letters-span").addEventListener("change", (event) => {
    span = event.target.value;
    load();
  });
  byId("letters-more").addEventListener("click", more);
  byId("group-try").addEventListener("click", () => actions.retry({ ...ofGroup(), dryRun: true }));
  byId("group-retry").addEventListener("click", () => actions.retry({ ...ofGroup(), dryRun: false }));
  byId("group-drop").addEventListener("click", () => actions.drop(ofGroup()));
  byId("letter-list").addEventListener("keydown", walk);
  listen("status", (all) => watch(all[all.length - 1]));
}

export function showLetters(isShown, query) {
  shown = isShown;
  if (!shown) return;
  if (timer) lookAgain(LOOK_AGAIN_MS);
  chosen = query.reason ? { topic: query.topic || "", reason: query.reason } : chosen;
  const linked = Number(query.letter);
  // What is written of another letter is worth more than the link.
  if (linked > 0 && !view.isEdited) {
    openId = linked;
    isChosen = true;
  }
  load();
}

export function reloadLetters() {
  load();
}

/** More were set aside, or some ended: look again, but not at each one. */
function watch({ totals }) {
  if (seen === totals.dead_letters) return;
  const isFirst = seen === null;
  seen = totals.dead_letters;
  seenAt = Date.now();
  if (!timer) lookAgain(lookAfter(isFirst, shown));
}

function lookAgain(after) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = 0;
    load();
    if (Date.now() - seenAt < KEPT_MS) lookAgain(lookAfter(false, shown));
  }, after);
}

/** Milliseconds until letters are counted again, which reads them all: for the number on the tab alone, seldom. Pure. */
export function lookAfter(isFirst, isShown) {
  if (isFirst) return 0;
  return isShown ? LOOK_AGAIN_MS : BADGE_MS;
}

const same = (a, b) => a && b && a.topic === b.topic && a.reason === b.reason;
const sizeOf = (one) => groups?.find((g) => same(g, one))?.letters ?? 0;
const since = () => (Number.isFinite(SPANS[span]) ? new Date(Date.now() + store.daemonAhead - SPANS[span]).toISOString() : undefined);
const filter = () => ({ topic: chosen.topic, reason: chosen.reason, since: since() });
const ofGroup = () => ({ filter: counted(groups.find((g) => same(g, chosen)), groupsSince), size: sizeOf(chosen) });

/** Names the letters that a group's number counts: none that came after its last, while one reads and decides. Pure. */
export function counted({ topic, reason, last_stored_at: last }, since) {
  // The daemon's own time, which is finer than a Date; `until` is the first moment that is not meant any more.
  return { topic, reason, since, until: new Date(Date.parse(last) + 1).toISOString() };
}

async function load() {
  generation += 1;
  const mine = generation;
  const from = since();
  try {
    const answer = await get(withQuery("/api/v1/dead-letters/groups", { since: from }));
    if (mine !== generation) return;
    ({ groups } = answer);
    groupsSince = from;
  } catch (error) {
    if (mine !== generation || !shown) return;
    byId("letters-told").replaceChildren(notice("bad", "The dead letters could not be read", explained(error)));
    setTimeout(() => mine === generation && load(), RETRY_MS);
    return;
  }
  drawBadge();
  if (!shown) return;
  drawGroups();
  if (groups.length === 0) return;
  // The largest group is the worst.
  if (!groups.some((one) => same(one, chosen))) choose(groups[0], false);
  else await loadLetters(mine);
  actions.loadAudit();
}

function drawBadge() {
  const sum = groups.reduce((total, { letters: n }) => total + n, 0);
  const badge = byId("letters-badge");
  show(badge, sum > 0);
  setText(badge, sum > 9999 ? "9,999+" : count(sum));
}

function drawGroups() {
  const isEmpty = groups.length === 0;
  show(byId("letters-body"), !isEmpty);
  const told = byId("letters-told");
  if (isEmpty) {
    const title = span === "any" ? "No dead letters" : "No dead letters in this time";
    told.replaceChildren(notice("good", title, "A record that can't be written comes here with its reason, and takes no other record with it."));
    return;
  }
  told.replaceChildren();
  const most = groups[0].letters;
  const items = keyed(byId("groups"), groups.map(({ topic, reason }) => `${topic}/${reason}`), () => {
    const press = button("group");
    press.append(element("b"), element("span", "group-name"), element("span", "quiet"), element("progress"));
    press.addEventListener("click", () => {
      openId = null;
      isChosen = false;
      choose(groups.find(({ topic, reason }) => `${topic}/${reason}` === press.dataset.key));
    });
    return press;
  });
  groups.forEach((one, at) => {
    const [number, name, about, bar] = items[at].children;
    setText(number, count(one.letters));
    setText(name, one.reason.replaceAll("_", " "));
    setText(about, `${one.topic}, last ${store.status ? `${ago(one.last_stored_at, store.status.now)} ago` : minute(Date.parse(one.last_stored_at))}`);
    bar.max = most;
    bar.value = one.letters;
    bar.setAttribute("aria-hidden", "true");
    items[at].setAttribute("aria-pressed", String(Boolean(same(one, chosen))));
  });
}

function choose(one, byReader = true) {
  if (!one) return;
  chosen = { topic: one.topic, reason: one.reason };
  letters = [];
  drawGroups();
  if (byReader) writeView({ tab: "letters", query: { topic: chosen.topic, reason: chosen.reason } });
  generation += 1;
  loadLetters(generation);
}

async function loadLetters(mine) {
  const [what, advice] = meaningOf(chosen.reason);
  setText(byId("group-title"), chosen.reason.replaceAll("_", " "));
  setText(byId("group-what"), `The record ${what}. ${advice}`);
  const size = count(sizeOf(chosen));
  setText(byId("group-retry"), `Retry all ${size}`);
  setText(byId("group-drop"), `Drop all ${size} …`);
  try {
    const page = await get(withQuery("/api/v1/dead-letters", { ...filter(), limit: Math.max(PAGE, Math.min(500, letters.length)) }));
    if (mine !== generation) return;
    ({ letters, next } = page);
    drawList();
    const wanted = toOpen(letters, { openId, isChosen, editedId: view.isEdited ? view.id : null });
    if (wanted !== null) open(wanted, false);
    else view.clear();
  } catch (error) {
    if (mine === generation) byId("letters-told").replaceChildren(notice("bad", "These dead letters could not be read", explained(error)));
  }
}

async function more() {
  const mine = generation;
  const cursor = next;
  // Pressed twice, it would append one page twice.
  byId("letters-more").disabled = true;
  try {
    const page = await get(withQuery("/api/v1/dead-letters", { ...filter(), limit: PAGE, cursor }));
    // Behind another end than the list's, letters would be missing or come twice.
    if (mine !== generation || cursor !== next) return;
    letters = [...letters, ...page.letters];
    ({ next } = page);
    drawList();
  } catch (error) {
    byId("letters-told").replaceChildren(notice("bad", "More could not be read", explained(error)));
  } finally {
    byId("letters-more").disabled = false;
  }
}

function drawList() {
  const items = keyed(byId("letter-list"), letters.map(({ id }) => String(id)), () => {
    const press = button("letter-line");
    press.append(element("span", "line-message"), element("span", "quiet"));
    press.addEventListener("click", () => open(Number(press.dataset.key)));
    return press;
  });
  letters.forEach((letter, index) => {
    const [message, about] = items[index].children;
    setText(message, letter.message);
    setText(about, `${letter.field ? `${letter.field} · ` : ""}${letter.topic}[${letter.partition}]@${letter.offset} · ${minute(Date.parse(letter.stored_at))}`);
    items[index].setAttribute("aria-pressed", String(letter.id === openId));
  });
  show(byId("letters-more"), next !== null);
}

/** Arrow keys walk through the list. */
function walk(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const to = event.key === "ArrowDown" ? document.activeElement.nextElementSibling : document.activeElement.previousElementSibling;
  if (!to) return;
  event.preventDefault();
  to.focus();
  open(Number(to.dataset.key));
}

/**
 * Which letter is shown beside a list that was read again: the one that is being edited, then the one that the reader
 * chose, on the list or not, since newer ones push it off; then the one that was shown, then the newest. Pure.
 */
export function toOpen(letters, { openId, isChosen, editedId }) {
  if (editedId !== null) return editedId;
  if (isChosen || letters.some(({ id }) => id === openId)) return openId;
  return letters[0]?.id ?? null;
}

async function open(id, byReader = true) {
  openId = id;
  for (const item of byId("letter-list").children) item.setAttribute("aria-pressed", String(Number(item.dataset.key) === id));
  if (byReader) {
    isChosen = true;
    writeView({ tab: "letters", query: { ...chosen, letter: id } });
  }
  if (view.id === id && (view.isEdited || !view.isOld)) return;
  // While it was asked for, the reader may have chosen another, or begun to edit what is there.
  const isWanted = () => openId === id && (byReader || !view.isEdited);
  try {
    const letter = await get(at`/api/v1/dead-letters/${id}`);
    if (isWanted()) view.show(letter);
  } catch (error) {
    if (isWanted()) view.fail(explained(error));
  }
}

/** Letters ended, or got another reason: what is shown of one is old. */
function changed() {
  view.isOld = true;
  load();
}

/** Those with these numbers ended, or a whole group; what is written of another letter stays. */
function settled(ids) {
  if (view.isEdited && !ids?.includes(view.id)) return;
  view.forget();
  openId = null;
  isChosen = false;
  // Else a reload would ask for a letter that is gone.
  if (shown) writeView({ tab: "letters", query: { ...chosen } });
}
