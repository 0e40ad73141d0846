// Shows /status live. Everything that came from the daemon is written as text, never as markup.
"use strict";

const KEPT_RATES = 120; // two minutes of seconds
const PARTITIONS_SHOWN = 50; // a stream's partitions beyond these are in /status
const SILENCE_MS = 4000; // a document comes each second; after so long the daemon counts as gone
const POLL_MS = 2000; // where too many pages are open for an event stream of one's own
const POLLS = 15; // then the stream is tried again
const RETRY_MAX_MS = 15000; // between two tries to reach a daemon that is away; the first come sooner

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
/** What is not known yet is a dash; what there cannot be, as the lane of a total, is nothing. */
const count = (value) => (value === undefined ? "" : value === null ? "–" : number.format(value));
const rates = [];
let source = null;
let polling = null;
let retryMs = POLL_MS;
let lastHeard = 0;
let lastAnnounced = "";

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setTone(node, tone) {
  if (tone) {
    if (node.dataset.tone !== tone) node.dataset.tone = tone;
  } else if (node.dataset.tone) {
    delete node.dataset.tone;
  }
}

function element(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Makes `parent` hold one child a key, in order, and returns them; children that stay keep their place and focus. */
function keyed(parent, keys, make) {
  const old = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  const nodes = keys.map((key) => {
    let node = old.get(key);
    if (!node) {
      node = make();
      node.dataset.key = key;
    }
    old.delete(key);
    return node;
  });
  for (const gone of old.values()) gone.remove();
  nodes.forEach((node, at) => {
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] || null);
  });
  return nodes;
}

function duration(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** How long ago by the daemon's own clock, which need not be the browser's. */
function ago(since, now) {
  const seconds = (Date.parse(now) - Date.parse(since)) / 1000;
  return Number.isFinite(seconds) ? duration(Math.max(0, seconds)) : "";
}

// The ledger

const COLUMNS = [
  ["Lane", (p) => count(p.lane)],
  ["Start", (p) => count(p.start_offset)],
  ["Next", (p) => count(p.next_offset)],
  ["End", (p) => count(p.end_offset)],
  ["Lag", (p) => count(p.lag)],
  ["Advanced", (p) => count(p.advanced)],
  ["Applied", (p) => count(p.applied)],
  ["Duplicates", (p) => count(p.duplicates)],
  ["Dead letters", (p) => count(p.dead_letters)],
  ["Gaps", (p) => count(p.gaps)],
  ["Unaccounted", (p) => count(p.unaccounted)],
];

function streamCard() {
  const card = element("article", "stream");
  const head = element("div", "head");
  head.append(element("h3"), element("span", "quiet topic"), element("span", "quiet pace"));
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  const table = element("table", "ledger");
  const caption = element("caption", "unseen");
  const heading = element("tr");
  for (const title of ["Partition", ...COLUMNS.map((c) => c[0])]) {
    const cell = element("th", title === "Partition" ? "" : "n", title);
    cell.scope = "col";
    heading.append(cell);
  }
  const thead = element("thead");
  thead.append(heading);
  const tfoot = element("tfoot");
  tfoot.append(ledgerRow());
  table.append(caption, thead, element("tbody"), tfoot);
  scroll.append(table);
  withRoles(table);
  card.append(head, scroll, element("p", "foot quiet"));
  return card;
}

function ledgerRow() {
  const row = element("tr");
  const name = element("th");
  name.scope = "row";
  const cells = COLUMNS.map(([title]) => {
    const cell = element("td", "n");
    cell.dataset.label = title.toLowerCase();
    return cell;
  });
  row.append(name, ...cells);
  return withRoles(row);
}

const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TFOOT: "rowgroup", TR: "row", TD: "cell" };

/** Says what the parts of a table are, since a table that a phone lays out as cards is none to a screen reader. */
function withRoles(table) {
  for (const part of [table, ...table.querySelectorAll("*")]) {
    const role = part.tagName === "TH" ? (part.scope === "col" ? "columnheader" : "rowheader") : ROLES[part.tagName];
    if (role) part.setAttribute("role", role);
  }
  return table;
}

function fillRow(row, name, figures) {
  setText(row.firstElementChild, name);
  COLUMNS.forEach(([title, show], at) => {
    const cell = row.children[at + 1];
    const text = show(figures);
    setText(cell, text);
    if (title === "Unaccounted") {
      cell.className = "n loud";
      setTone(cell, text === "0" ? "good" : "bad");
    } else if (title === "Dead letters") {
      setTone(cell, text === "0" ? null : "bad");
      cell.classList.toggle("zero", text === "0");
    } else {
      cell.classList.toggle("zero", text === "0" || text === "–");
      cell.classList.toggle("none", text === "");
    }
  });
}

/** What is wrong first, then what is furthest behind; all of them in order where they are few. */
function shownPartitions(partitions) {
  if (partitions.length <= PARTITIONS_SHOWN) return partitions;
  const worst = [...partitions].sort((a, b) => Math.abs(b.unaccounted) - Math.abs(a.unaccounted) || b.lag - a.lag);
  return worst.slice(0, PARTITIONS_SHOWN).sort((a, b) => a.partition - b.partition);
}

function showStreams(streams) {
  const parent = byId("streams");
  if (streams.length === 0) return;
  const cards = keyed(parent, streams.map((s) => `s-${s.stream}`), streamCard);
  streams.forEach((stream, at) => {
    const card = cards[at];
    const { totals } = stream;
    setText(card.querySelector("h3"), stream.stream);
    setText(card.querySelector(".topic"), stream.topic === stream.stream ? "" : `topic ${stream.topic}`);
    const where = totals.partitions === 0 ? "no partition held here yet"
      : totals.caught_up === totals.partitions ? "caught up" : `${count(totals.lag)} behind`;
    setText(card.querySelector(".pace"), `${count(Math.round(totals.records_per_second))} records/s · ${where}`);
    card.querySelector(".scroll").setAttribute("aria-label", `Ledger of ${stream.stream}`);
    setText(card.querySelector("caption"), `Ledger of ${stream.stream} by partition`);
    const shown = shownPartitions(stream.partitions);
    const rows = keyed(card.querySelector("tbody"), shown.map((p) => `p-${p.partition}`), ledgerRow);
    shown.forEach((partition, index) => fillRow(rows[index], String(partition.partition), partition));
    fillRow(card.querySelector("tfoot tr"), "All partitions", totals);
    setText(card.querySelector(".foot"), footnote(stream, shown.length));
  });
}

function footnote(stream, shown) {
  const notes = [];
  if (shown < stream.partitions.length) {
    notes.push(`${stream.partitions.length - shown} more partitions are in /status; the totals hold all.`);
  }
  const fields = Object.entries(stream.unknown_fields);
  if (fields.length > 0) {
    notes.push(`Fields that no mapping reads: ${fields.map(([name, n]) => `${name} (${count(n)})`).join(", ")}.`);
  }
  return notes.join(" ");
}

function showBalance(totals) {
  for (const name of ["advanced", "applied", "duplicates", "dead_letters", "gaps"]) {
    setText(byId(`sum-${name}`), count(totals[name]));
  }
  setTone(byId("term-dead"), totals.dead_letters > 0 ? "bad" : null);
  const balanced = totals.unaccounted === 0;
  setText(byId("sign"), balanced ? "=" : "≠");
  setTone(byId("balance"), balanced ? (totals.partitions === 0 ? "wait" : "good") : "bad");
  setText(byId("verdict"), !balanced
    ? `${count(totals.unaccounted)} offsets are unaccounted for. This must not happen: run “bief verify”.`
    : totals.partitions === 0 ? "nothing to add up yet" : "0 unaccounted: every offset has exactly one outcome");
}

// The rest

function showState(status) {
  const failing = status.checks.filter((check) => !check.ok);
  setTone(byId("state"), status.ready ? "good" : "bad");
  setText(byId("state-text"), status.ready ? "Ready" : "Not ready");
  const items = keyed(byId("causes"), failing.map((check) => `c-${check.name}`), () => {
    const item = element("li");
    item.append(element("b"), element("span"), element("span", "quiet"));
    return item;
  });
  failing.forEach((check, at) => {
    const [name, cause, since] = items[at].children;
    setText(name, check.name);
    setText(cause, check.cause ? `: ${check.cause}` : " fails");
    setText(since, check.since ? ` for ${ago(check.since, status.now)}` : "");
    since.title = check.since ? `since ${check.since}` : "";
  });
}

function showFigures(status) {
  const { totals } = status;
  rates.push(totals.records_per_second);
  if (rates.length > KEPT_RATES) rates.shift();
  setText(byId("rate"), count(Math.round(totals.records_per_second)));
  setText(byId("lag"), count(totals.lag));
  setText(byId("caught"), `${count(totals.caught_up)} / ${count(totals.partitions)}`);
  setText(byId("restarts"), count(status.units.reduce((sum, unit) => sum + (unit.restarts || 0), 0)));
  drawRates();
}

const SVG = "http://www.w3.org/2000/svg";
const area = document.createElementNS(SVG, "polygon");
const line = document.createElementNS(SVG, "polyline");

function drawRates() {
  const top = Math.max(1, ...rates) * 1.1;
  const points = rates.map((rate, at) => {
    const x = 240 - ((rates.length - 1 - at) * 240) / (KEPT_RATES - 1);
    return `${x.toFixed(1)},${(47 - (rate / top) * 46).toFixed(1)}`;
  });
  const left = (240 - ((rates.length - 1) * 240) / (KEPT_RATES - 1)).toFixed(1);
  line.setAttribute("points", points.join(" "));
  area.setAttribute("points", `${left},48 ${points.join(" ")} 240,48`);
}

const TONES = new Map([["running", "good"], ["finished", "good"], ["failed", "bad"], ["panicked", "bad"], ["abandoned", "bad"]]);

function actorRow() {
  const row = element("tr");
  const state = element("td");
  const shown = element("span", "stateful");
  const mark = element("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  shown.append(mark, element("span"));
  state.append(shown);
  const name = element("th");
  name.scope = "row";
  row.append(name, state, element("td", "n"), element("td", "quiet"), element("td", "error"));
  return withRoles(row);
}

/** "backing off, next try in 8 s" */
function stateText(unit, now) {
  const text = String(unit.state || "unknown").replaceAll("_", " ");
  const wait = unit.next_try_at ? (Date.parse(unit.next_try_at) - Date.parse(now)) / 1000 : NaN;
  return wait > 0 ? `${text}, ${duration(wait + 1)}` : text;
}

function showActors(status) {
  const lines = status.units.flatMap((unit) => [
    { key: `u-${unit.name}`, kind: "unit", of: unit, error: unit.last_error, since: unit.since },
    ...(unit.actors || []).map((actor) => ({ key: `a-${unit.name}-${actor.name}`, kind: "actor", of: actor, error: actor.note })),
  ]);
  const rows = keyed(byId("actors"), lines.map((line) => line.key), actorRow);
  lines.forEach(({ kind, of, error, since }, at) => {
    const row = rows[at];
    row.className = kind;
    const [name, state, restarts, forHowLong, lastError] = row.children;
    setText(name, of.name);
    setText(state.firstElementChild.lastElementChild, stateText(of, status.now));
    setTone(state.firstElementChild, TONES.get(of.state) || "wait");
    setText(restarts, count(of.restarts || 0));
    setText(forHowLong, since ? ago(since, status.now) : "");
    setText(lastError, error || "");
  });
}

function announce(text) {
  if (text === lastAnnounced) return;
  lastAnnounced = text;
  setText(byId("announce"), text);
}

function show(status) {
  lastHeard = Date.now();
  document.body.classList.remove("gone");
  setTone(byId("link"), "good");
  setText(byId("link-text"), source ? "live" : "every 2 s");
  setText(byId("name"), status.name);
  document.title = `${status.ready ? "" : "▲ "}${status.name} · bief`;
  setText(byId("build"), `bief ${status.version} · up ${duration(status.uptime_seconds)}`);
  byId("build").title = `revision ${status.revision}, started ${status.started_at}`;
  showState(status);
  showBalance(status.totals);
  showFigures(status);
  showStreams(status.streams);
  showActors(status);
  announce(status.totals.unaccounted !== 0 ? `${status.totals.unaccounted} offsets are unaccounted for`
    : status.ready ? "Ready" : "Not ready");
}

// The connection

// EventSource can show no token, so the event stream is read from a fetch. The token is kept for this tab alone and
// sent as a header, never as a cookie: no other site can make a browser send it along.

const TOKEN_KEY = "bief-token";

function request(path, signal) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", headers, signal });
}

/** Asks for the token; what was shown before is known to be wrong. */
function askForToken() {
  const wrong = sessionStorage.getItem(TOKEN_KEY) !== null;
  sessionStorage.removeItem(TOKEN_KEY);
  stop();
  byId("login").hidden = false;
  setText(byId("login-told"), wrong ? "The daemon does not take this token." : "");
  setText(byId("link-text"), "token needed");
  setText(byId("state-text"), "Log in to see the daemon");
  byId("token").focus();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  const token = field.value.trim();
  // What cannot be sent in a header is no token.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    setText(byId("login-told"), "A token has no blanks and only ASCII characters.");
    return;
  }
  sessionStorage.setItem(TOKEN_KEY, token);
  field.value = "";
  byId("login").hidden = true;
  listen();
});

async function listen() {
  stop();
  const stream = new AbortController();
  source = stream;
  let full = false;
  try {
    const answer = await request("/events", stream.signal);
    if (answer.status === 401) {
      if (source === stream) askForToken();
      return;
    }
    full = answer.status === 503;
    if (answer.ok) await readEvents(answer.body.pipeThrough(new TextDecoderStream()).getReader());
  } catch {
    // The daemon went away, or the page is not looked at any more: the watch below says so.
  } finally {
    // Whatever ended it, the connection does not stay behind.
    stream.abort();
  }
  if (source !== stream) return;
  source = null;
  if (document.hidden) return;
  // Where too many pages are open, the document is asked for instead, for a while.
  if (full) {
    poll(POLLS);
    return;
  }
  polling = setTimeout(listen, retryMs);
  retryMs = Math.min(2 * retryMs, RETRY_MAX_MS);
}

/** Shows each document of an event stream until it ends. Events have one data line each. */
async function readEvents(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue;
      retryMs = POLL_MS;
      show(JSON.parse(data.slice(6)));
    }
  }
}

/** Asks for the document, and so on until it was had so many times or the daemon is away; then listens again. */
async function poll(times) {
  let heard = false;
  try {
    const answer = await request("/status", AbortSignal.timeout(SILENCE_MS));
    if (answer.status === 401) {
      askForToken();
      return;
    }
    if (answer.ok) {
      show(await answer.json());
      heard = true;
    }
  } catch {
    // The watch below says that nothing was heard.
  }
  if (source || document.hidden) return;
  polling = setTimeout(() => (heard && times > 1 ? poll(times - 1) : listen()), POLL_MS);
}

function stop() {
  const stream = source;
  source = null;
  if (stream) stream.abort();
  clearTimeout(polling);
}

function watch() {
  if (document.hidden || !byId("login").hidden || Date.now() - lastHeard < SILENCE_MS) return;
  document.body.classList.toggle("gone", lastHeard > 0);
  setTone(byId("link"), "bad");
  const text = lastHeard === 0 ? "no answer yet" : `daemon gone, last heard ${new Date(lastHeard).toLocaleTimeString()}`;
  setText(byId("link-text"), text);
  if (lastHeard > 0) {
    setTone(byId("state"), "bad");
    setText(byId("state-text"), "The daemon does not answer; what is below is the last that it said");
    document.title = `▲ gone · ${byId("name").textContent} · bief`;
    announce("The daemon does not answer");
  }
}

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else if (byId("login").hidden) {
    retryMs = POLL_MS;
    listen();
  }
});
byId("spark").append(area, line);
withRoles(document.querySelector(".actors"));
listen();
setInterval(watch, 1000);
