// The configured panels: history from the cache, kept up by the stream. One feed an aggregate serves all its panels.

import { explained, get } from "./api.js";
import { stepFor, stepStart } from "./documents.js";
import { element, group, notice, setText, show } from "./dom.js";
import { Feed } from "./feed.js";
import { bucketName, duration, minute } from "./format.js";
import { makePanel } from "./panel_kinds.js";
import { daemonNow, listen, store } from "./store.js";
import { formatView } from "./view.js";

const RETRY_MS = 5000;
const STAT_BUCKETS = 14;
/** The window of a panel moves with the clock, but not with each second of it. */
const MOVE_MS = 30000;
/** Where the first documents lie elsewhere, as those of a topic of years ago; the daemon keeps its list for 2 s. */
const LOOK_AGAIN_MS = 3000;

export class Panels {
  constructor(host) {
    this.host = host;
    this.feeds = new Map();
    this.cards = [];
    this.dirty = new Set();
    this.timer = 0;
    this.looking = 0;
    this.shown = false;
    this.isOld = true;
    this.signature = "";
    listen("documents", (events) => events.forEach((event) => this.takeDocuments(event)));
    listen("records", (events) => events.forEach((event) => this.takeRecords(event)));
    setInterval(() => this.move(), MOVE_MS);
  }

  /** Reads what is configured, and all that is shown of it; again after the stream was broken. Waits until it is seen. */
  async load() {
    clearTimeout(this.timer);
    this.isOld = !this.shown;
    if (this.isOld) return;
    try {
      const { panels } = await get("/api/v1/panels");
      const { aggregates } = panels.length > 0 ? await get("/api/v1/aggregates") : { aggregates: [] };
      if (aggregates.length > 0) store.aggregates = aggregates;
      this.build(panels, new Map(aggregates.map((a) => [a.name, a])));
    } catch (error) {
      if (this.cards.length === 0) this.host.replaceChildren(notice("bad", "The panels could not be read", explained(error)));
      this.timer = setTimeout(() => this.load(), RETRY_MS);
    }
  }

  build(panels, aggregates) {
    // Only another configuration builds anew; else the cards stay and their numbers are read again.
    const signature = JSON.stringify(panels);
    if (signature !== this.signature) {
      this.signature = signature;
      this.cards.forEach(({ panel }) => panel.destroy());
      this.feeds.forEach((feed) => feed.close());
      this.feeds.clear();
      this.stats = element("div", "stats");
      this.charts = element("div", "panels");
      this.host.replaceChildren(this.stats, this.charts);
      this.cards = panels.map((config, index) => this.card(config, index, aggregates.get(config.aggregate)));
      show(this.stats, this.stats.children.length > 0);
      if (panels.length === 0) {
        this.host.append(
          notice("wait", "No panel is configured", "Add a [[panel]] with title, source, kind and value to the configuration, and it is shown here, live."),
        );
      }
    }
    for (const [name, feed] of this.feeds) {
      feed.aggregate = aggregates.get(name) || feed.aggregate;
      feed.load(this.from(name), null);
    }
  }

  card(config, index, aggregate) {
    const card = element("article", `card panel panel-${config.kind}`);
    const title = element("h3", "", config.title);
    title.id = `panel-${index}`;
    card.setAttribute("aria-labelledby", title.id);
    const about = element("span", "quiet about");
    const open = element("a", "quiet open", "explore");
    open.setAttribute("href", exploreHash(config));
    open.setAttribute("aria-label", `Explore ${config.title}`);
    const body = element("div", "panel-body");
    const state = element("p", "panel-state");
    state.hidden = true;
    card.append(group("div", "head", title, about, open), state, body);
    // Single numbers stand together, above the charts.
    (config.kind === "stat" ? this.stats : this.charts).append(card);
    if (aggregate && !this.feeds.has(config.aggregate)) {
      this.feeds.set(config.aggregate, new Feed(aggregate, () => this.changed(config.aggregate)));
    }
    if (!aggregate) {
      show(state, true);
      setText(state, `There is no aggregate ${config.aggregate} here.`);
    }
    return { config, card, about, state, body, panel: makePanel(body, config) };
  }

  /**
   * Where the bucket begins with which the widest panel of an aggregate does: while that is the same, what is read again has
   * the same address, and the daemon says in a word that nothing changed.
   */
  from(name) {
    const feed = this.feeds.get(name);
    const spans = this.cards.filter(({ config }) => config.aggregate === name).map(({ config }) => windowOf(config, feed).from);
    return Math.floor(Math.min(...spans) / feed.documents.bucketMs) * feed.documents.bucketMs;
  }

  takeDocuments(event) {
    for (const [name, feed] of this.feeds) {
      if (feed.take(event)) this.changed(name);
      if (feed.isElsewhere(event)) this.lookAgain();
    }
  }

  /** Where the last bucket is says the daemon. */
  lookAgain() {
    if (this.looking) return;
    this.looking = setTimeout(() => {
      this.looking = 0;
      this.load();
    }, LOOK_AGAIN_MS);
  }

  takeRecords(event) {
    for (const [name, feed] of this.feeds) {
      if (!feed.takeRecords(event)) continue;
      if (this.shown) this.cards.filter(({ config }) => config.aggregate === name).forEach(({ panel }) => panel.live(feed));
    }
  }

  /** The windows end now again. */
  move() {
    for (const [name, feed] of this.feeds) feed.trim(this.from(name));
    if (this.shown) this.draw();
  }

  /** What is let go of is let go of also while another tab is looked at. */
  changed(name) {
    this.feeds.get(name).trim(this.from(name));
    this.dirty.add(name);
    if (this.shown) this.draw(this.dirty);
  }

  /** Draws the panels of these aggregates, or all. */
  draw(names = new Set(this.feeds.keys())) {
    for (const { config, about, state, panel, body } of this.cards) {
      if (!names.has(config.aggregate)) continue;
      const feed = this.feeds.get(config.aggregate);
      const window = windowOf(config, feed);
      setText(about, aboutOf(config, window));
      const [tone, text] = stateOf(feed, config);
      show(state, text !== "");
      setText(state, text);
      state.dataset.tone = tone;
      show(body, feed.documents.count > 0);
      if (feed.documents.count > 0) panel.draw(feed, window);
    }
    this.dirty.clear();
  }

  setShown(shown) {
    this.shown = shown;
    if (!shown) return;
    if (this.isOld) this.load();
    this.draw();
  }
}

/** From so far back to now; to the last bucket where that is near ahead, or where all there is lies before. */
export function windowOf(config, feed) {
  // A number alone is read beside how it went before.
  const range = Math.max(config.range_seconds, config.kind === "stat" ? STAT_BUCKETS * config.bucket_seconds : 0) * 1000;
  const now = daemonNow();
  let last = feed ? feed.documents.lastStart() : NaN;
  if (!Number.isFinite(last)) last = feed?.aggregate.last_bucket ? Date.parse(feed.aggregate.last_bucket) : NaN;
  const end = last + config.bucket_seconds * 1000;
  const isPast = end < now - range;
  const isNearAhead = end > now && end < now + range / 2;
  const to = isPast || isNearAhead ? end : now;
  const step = stepFor(range, config.bucket_seconds * 1000);
  return { from: step > config.bucket_seconds * 1000 ? stepStart(to - range, step) : to - range, to, step, isPast };
}

function aboutOf(config, window) {
  const by = config.by ? ` by ${config.by}` : "";
  const until = window.isPast ? `, up to ${minute(window.to)}` : "";
  return `${duration(config.range_seconds).replace(" 0 h", "")}, each ${bucketName(config.kind === "line" ? window.step / 1000 : config.bucket_seconds)}${by}${until}`;
}

function stateOf(feed, config) {
  if (feed.state === "failed" || feed.state === "stale") {
    return ["bad", `${feed.state === "stale" ? "Not up to date. " : ""}${feed.error}`];
  }
  if (feed.state === "loading") return ["wait", "Reading the cache …"];
  if (feed.documents.count === 0) return ["wait", "No document yet. The first comes when rows were written and their bucket was computed."];
  const names = feed.documents.valueNames();
  const missing = config.values.filter((value) => !names.includes(value));
  if (missing.length > 0) return ["bad", `The documents of ${config.aggregate} have no ${missing.join(", ")}. They have ${names.join(", ")}.`];
  return ["good", feed.truncated ? "Too many documents for one chart: no more than 40,000 are shown." : ""];
}

function exploreHash(config) {
  const range = `${Math.round(config.range_seconds / 3600)}h`;
  return formatView({ tab: "explore", query: { aggregate: config.aggregate, values: config.values.join(","), by: config.by, range } });
}
