// The page's beginning: tabs, the connection, the login, and what is in sight on every tab.

import { forgetToken, hasToken, keepToken, request, whenTokenIsWanted } from "./api.js";
import { Connection } from "./connection.js";
import { announce, byId, element, group, keyed, setText, setTone, show } from "./dom.js";
import { reloadExplore, showExplore, startExplore } from "./explore.js";
import { ago, clock, count, duration } from "./format.js";
import { toneOf } from "./graph.js";
import { verdictOf } from "./ledger.js";
import { reloadLetters, showLetters, startLetters } from "./letters.js";
import { reloadLive, showLive, startLive } from "./live.js";
import { reloadModels, showModels } from "./models_later.js";
import { showPipeline, startPipeline } from "./pipeline.js";
import { listen, store, tell } from "./store.js";
import { startTheme } from "./theme.js";
import { TABS, currentView, whenViewChanges, writeView } from "./view.js";

const SHOW = { live: showLive, explore: showExplore, pipeline: showPipeline, letters: showLetters, models: showModels };
const POLLING_RELOAD_MS = 30000;
const LIVE_RELOAD_MS = 60000;
const RELOAD_APART_MS = 5000;
/** What was looked at on each tab, to come back to. */
const left = new Map();
let tab = null;
let lastTold = "";
let reloadedAt = 0;
let reloading = 0;

// Tabs

function openView(view) {
  const before = tab;
  tab = view.tab;
  for (const name of TABS) {
    const isOpen = name === tab;
    const press = byId(`tab-of-${name}`);
    press.setAttribute("aria-selected", String(isOpen));
    press.tabIndex = isOpen ? 0 : -1;
    show(byId(`tab-${name}`), isOpen);
  }
  // Nothing is asked for before the daemon has let us in.
  if (!store.status) return;
  if (before && before !== tab) SHOW[before](false, {});
  SHOW[tab](true, view.query);
}

function goTo(name) {
  if (name === tab) return;
  left.set(tab, currentView().query);
  const view = { tab: name, query: left.get(name) || {} };
  writeView(view);
  openView(view);
  window.scrollTo(0, 0);
}

function startTabs() {
  for (const name of TABS) byId(`tab-of-${name}`).addEventListener("click", () => goTo(name));
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
    goTo(next);
    byId(`tab-of-${next}`).focus();
  });
  // 1 to 5, where nothing is being written.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const name = TABS[Number(event.key) - 1];
    if (name) goTo(name);
  });
  byId("strip").addEventListener("click", (event) => {
    event.preventDefault();
    goTo("pipeline");
  });
  // The address is the view's, so that this is no link to a place.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  whenViewChanges(openView);
}

// What is in sight on every tab

function drawTop() {
  const { status } = store;
  if (!status) return;
  const { totals } = status;
  setText(byId("name"), status.name);
  document.title = `${status.ready ? "" : "▲ "}${status.name} · bief`;
  setText(byId("build"), `bief ${status.version} (${status.revision}), up ${duration(status.uptime_seconds)}`);
  const [tone, verdict] = verdictOf(totals);
  setTone(byId("strip"), tone);
  setText(byId("strip-verdict"), tone === "good" ? "0 unaccounted" : verdict);
  const sign = totals.unaccounted === 0 ? "=" : "≠";
  setText(byId("strip-terms"), `${count(totals.advanced)} advanced ${sign} ${count(totals.applied)} applied + ${count(totals.duplicates)} duplicates + ${count(totals.dead_letters)} dead letters + ${count(totals.gaps)} gaps`);
  const isSick = status.units.some(({ state }) => toneOf(state) === "bad") || status.streams.some((s) => s.in_doubt.length > 0 || (s.troubles || []).length > 0);
  show(byId("pipeline-badge"), isSick);
  drawState(status);
  // Said when it changes; else it would talk over what a chart says.
  const told = totals.unaccounted !== 0 ? verdict : status.ready ? "Ready" : "Not ready";
  if (told !== lastTold) announce(told);
  lastTold = told;
}

/** Only what is wrong takes room. */
function drawState(status) {
  show(byId("state"), !status.ready);
  if (status.ready) return;
  const failing = status.checks.filter((check) => !check.ok);
  setTone(byId("state"), "bad");
  setText(byId("state-text"), "Not ready");
  const items = keyed(byId("causes"), failing.map(({ name }) => name), () => group("li", "", element("b"), element("span"), element("span", "quiet")));
  failing.forEach((check, at) => {
    const [name, cause, since] = items[at].children;
    setText(name, check.name);
    setText(cause, check.cause ? `: ${check.cause}` : " fails");
    setText(since, check.since ? ` for ${ago(check.since, status.now)}` : "");
    since.title = check.since ? `since ${check.since}` : "";
  });
}

// The connection

const LINKS = { connecting: ["wait", "connecting"], live: ["good", "live"], polling: ["wait", "every 2 s"], token: ["wait", "token needed"] };

const connection = new Connection({
  request,
  onState: drawLink,
  onEvent(type, document) {
    if (type === "status") {
      const isFirst = store.status === null;
      store.status = document;
      store.daemonAhead = Date.parse(document.now) - Date.now();
      if (isFirst) openView(currentView());
      tell("status", document);
    } else if (type === "missed") {
      reload();
    } else if (type === "records" || type === "documents") {
      tell(type, document);
    }
  },
});

function reload() {
  // Who misses events often would else do nothing but read.
  const wait = RELOAD_APART_MS - (Date.now() - reloadedAt);
  if (wait > 0) {
    clearTimeout(reloading);
    reloading = setTimeout(reload, wait);
    return;
  }
  reloadedAt = Date.now();
  reloadLive();
  reloadExplore();
  reloadLetters();
  reloadModels();
}

function drawLink(state) {
  store.link = state;
  if (state === "token") askForToken();
  document.body.classList.toggle("gone", state === "gone");
  const [tone, text] = LINKS[state] || ["bad", `daemon gone, last heard ${clock(connection.lastHeard)}`];
  setTone(byId("link"), tone);
  setText(byId("link-text"), text);
  if (state !== "gone") return;
  show(byId("state"), true);
  setTone(byId("state"), "bad");
  setText(byId("state-text"), "The daemon does not answer; what is below is the last that it said. The page goes on by itself when it is back.");
  byId("causes").replaceChildren();
  document.title = `▲ gone · ${byId("name").textContent} · bief`;
  announce("The daemon does not answer");
}

// The login

function askForToken() {
  if (!byId("login").hidden) return;
  const wasWrong = hasToken();
  forgetToken();
  show(byId("login"), true);
  connection.lock();
  show(byId("state"), false);
  setText(byId("login-told"), wasWrong ? "The daemon does not take this token." : "");
  byId("token").focus();
}

function startLogin() {
  whenTokenIsWanted(askForToken);
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("token");
    if (!keepToken(field.value.trim())) {
      setText(byId("login-told"), "A token has no blanks and only ASCII characters.");
      return;
    }
    field.value = "";
    show(byId("login"), false);
    connection.unlock();
    if (store.status) reload();
  });
}

startTheme();
startLogin();
startLive();
startExplore();
startPipeline();
startLetters();
startTabs();
listen("status", drawTop);
listen("lost", reload);
openView(currentView());
document.addEventListener("visibilitychange", () => connection.visibilityChanged());
connection.listen();
setInterval(() => connection.watch(), 1000);
// Without a stream nothing tells what changed.
setInterval(() => store.link === "polling" && reload(), POLLING_RELOAD_MS);
// The stream tells what its own daemon computed; others, and commands, fill the same cache.
setInterval(() => {
  if (store.link !== "live" || document.hidden) return;
  reloadLive();
  reloadExplore();
}, LIVE_RELOAD_MS);
