// The actors as a graph: what flows from the topics to the tables, how full the ponds between are, what has gone wrong.
// Boxes are buttons; shapes stay where they are and are only patched.

import { keyed, place, setText, setTone, svg } from "./dom.js";
import { compact, count, percent } from "./format.js";
import { graphOf, place as placed } from "./graph_layout.js";

const TONES = new Map([["running", "good"], ["finished", "good"], ["starting", "wait"], ["draining", "wait"], ["stopped", "wait"], ["backing_off", "bad"], ["failed", "bad"], ["panicked", "bad"], ["abandoned", "bad"]]);
/** Room for frames and badges at the edges. */
const MARGIN = 10;
const RANK = { good: 0, wait: 1, bad: 2 };

export const toneOf = (state) => TONES.get(state) || "wait";

/** The actors of a unit that do a stage's work: `writer-0`, `writer-1`; the poll thread is the consumer's. */
export function actorsOf(unit, stage) {
  return (unit?.actors || []).filter(({ name }) => name === stage || name.startsWith(`${stage}-`) || (stage === "consumer" && name === "poll"));
}

/** What a box says of itself. Pure. */
export function faceOf(node) {
  if (node.kind === "topic") {
    const { totals } = node.stream;
    return { tone: null, lines: [`${count(totals.partitions)} partition${totals.partitions === 1 ? "" : "s"}`, `lag ${compact(totals.lag)}`], restarts: 0, wrong: "" };
  }
  if (node.kind === "store") return { tone: null, lines: node.lines, restarts: 0, wrong: "" };
  const { unit } = node;
  if (node.kind === "unit") {
    const tone = toneOf(unit.state);
    return { tone, lines: [node.about, stateWord(unit)].filter(Boolean), restarts: unit.restarts || 0, wrong: tone === "bad" ? unit.last_error || stateWord(unit) : "" };
  }
  const actors = actorsOf(unit, node.title);
  const trouble = (node.stream.troubles || []).find(({ actor }) => actors.some(({ name }) => name === actor) || actor === node.title || actor.startsWith(`${node.title}-`));
  const tones = [toneOf(unit?.state), ...actors.map(({ state }) => toneOf(state)), trouble ? "bad" : "good"];
  const tone = tones.reduce((worst, one) => (RANK[one] > RANK[worst] ? one : worst), "good");
  const { stage } = node;
  const first = stage.blocked >= 0.01 && stage.blocked >= stage.busy ? `blocked ${percent(stage.blocked)}` : node.title === "writer" || stage.busy >= 0.01 ? `busy ${percent(stage.busy)}` : "idle";
  const lanes = actors.filter(({ name }) => name !== "poll").length;
  return {
    tone,
    lines: [unit && unit.state !== "running" ? stateWord(unit) : first, lanes > 1 ? `${lanes} lanes` : ""].filter(Boolean),
    restarts: actors.reduce((sum, { restarts }) => sum + (restarts || 0), 0),
    wrong: trouble ? trouble.cause : tone === "bad" ? unit?.last_error || "" : "",
  };
}

export const stateWord = (unit) => String(unit.state || "unknown").replaceAll("_", " ");

export class Graph {
  constructor(host, onChoose) {
    this.host = host;
    this.onChoose = onChoose;
    this.chosen = null;
    this.status = null;
    this.shape = svg("svg", "graph");
    this.shape.setAttribute("role", "group");
    this.shape.setAttribute("aria-label", "Actors, from the topics to the tables");
    this.lines = svg("g");
    this.ponds = svg("g");
    this.boxes = svg("g");
    this.shape.append(this.lines, this.ponds, this.boxes);
    host.append(this.shape);
    new ResizeObserver(() => this.status && this.draw(this.status)).observe(host);
  }

  choose(id) {
    this.chosen = id;
    if (this.status) this.draw(this.status);
  }

  draw(status) {
    this.status = status;
    const width = this.host.clientWidth - MARGIN;
    if (width <= 0) return;
    const graph = graphOf(status);
    const layout = placed(graph, width);
    place(this.shape, { viewBox: `-2 -10 ${layout.width + MARGIN} ${layout.height + 18}`, width: layout.width + MARGIN, height: layout.height + 18 });
    this.drawLines(layout);
    this.drawPonds(layout);
    this.drawBoxes(graph.nodes, layout);
  }

  drawLines({ paths, wide }) {
    const made = keyed(this.lines, paths.map(({ edge }) => `${edge.from}>${edge.to}`), () => {
      const group = svg("g");
      group.append(svg("path", "flow"), svg("text", "rate"));
      return group;
    });
    paths.forEach(({ edge, d, x, y }, at) => {
      const [line, label] = made[at].children;
      place(line, { d });
      line.classList.toggle("flows", edge.rate > 0.5);
      const text = edge.rate === null || edge.rate === undefined ? "" : `${compact(edge.rate)}/s`;
      setText(label, text);
      place(label, wide ? { x, y: y - 7 } : { x: x + 8, y: y + 4 });
      label.setAttribute("text-anchor", wide ? "middle" : "start");
    });
  }

  /** A pond between two actors holds what waits; its water stands as high as its queue is full. */
  drawPonds({ paths, wide }) {
    const full = paths.filter(({ edge }) => edge.queue);
    const made = keyed(this.ponds, full.map(({ edge }) => `${edge.from}>${edge.to}`), () => {
      const group = svg("g", "pond");
      group.append(svg("rect", "basin"), svg("rect", "water"), svg("text", "rate"), svg("title"));
      return group;
    });
    full.forEach(({ edge, x, y }, at) => {
      const [basin, water, label, title] = made[at].children;
      const fill = Math.min(1, Math.max(0, edge.queue.queue_fill));
      const [w, h] = [30, 26];
      place(basin, { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 4 });
      const level = (h - 4) * fill;
      place(water, { x: x - w / 2 + 2, y: y + h / 2 - 2 - level, width: w - 4, height: level, rx: 2 });
      setText(label, percent(fill));
      place(label, wide ? { x, y: y + h / 2 + 14 } : { x: x + w / 2 + 6, y: y + 4 });
      label.setAttribute("text-anchor", wide ? "middle" : "start");
      setTone(made[at], fill >= 0.8 ? "bad" : null);
      setText(title, `queue above the ${edge.queue.stage}: ${percent(fill)} full, ${count(edge.queue.queue_records ?? 0)} records`);
    });
  }

  drawBoxes(nodes, { box }) {
    const made = keyed(this.boxes, nodes.map(({ id }) => id), () => this.makeBox());
    nodes.forEach((node, at) => {
      const shape = made[at];
      const { x, y, w, h } = box.get(node.id);
      const { tone, lines, restarts, wrong } = faceOf(node);
      const [frame, sign, title, first, second, badge, badgeText] = shape.children;
      shape.setAttribute("class", `node node-${node.kind}${this.chosen === node.id ? " chosen" : ""}${isBottleneck(node) ? " narrow" : ""}`);
      setTone(shape, tone);
      place(frame, { x, y, width: w, height: h, rx: node.kind === "topic" ? h / 2.4 : 8 });
      const left = x + (tone ? 30 : 16);
      const middle = y + h / 2;
      place(sign, { d: tone ? signOf(tone, x + 17, middle - (lines.length > 0 ? 10 : 0)) : "M0,0" });
      const fits = Math.max(4, Math.floor((w - (tone ? 36 : 22)) / 7.4));
      setText(title, cut(node.title, fits));
      place(title, { x: left, y: middle + (lines.length === 0 ? 4 : lines.length === 1 ? -4 : -10) });
      setText(first, cut(lines[0] || "", fits + 1));
      place(first, { x: left, y: middle + (lines.length === 1 ? 13 : 6) });
      setText(second, cut(lines[1] || "", fits + 1));
      place(second, { x: left, y: middle + 21 });
      const text = wrong ? (restarts > 0 ? `▲ ${restarts}` : "▲") : restarts > 0 ? `↻ ${restarts}` : "";
      setText(badgeText, text);
      place(badge, text ? { x: x + w - 34, y: y - 8, width: 38, height: 18, rx: 9 } : { x: 0, y: 0, width: 0, height: 0 });
      place(badgeText, { x: x + w - 15, y: y + 5 });
      badge.setAttribute("class", wrong ? "badge badge-bad" : "badge");
      badgeText.setAttribute("class", wrong ? "badge-text badge-bad" : "badge-text");
      shape.setAttribute("aria-label", said(node, tone, lines, restarts, wrong));
      shape.setAttribute("aria-pressed", String(this.chosen === node.id));
    });
  }

  makeBox() {
    const shape = svg("g", "node");
    shape.setAttribute("tabindex", "0");
    shape.setAttribute("role", "button");
    shape.append(svg("rect", "frame"), svg("path", "sign"), svg("text", "name"), svg("text", "about"), svg("text", "about"), svg("rect", "badge"), svg("text", "badge-text"));
    shape.addEventListener("click", () => this.onChoose(shape.dataset.key));
    shape.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.onChoose(shape.dataset.key);
    });
    return shape;
  }
}

/** So that it fits; beginning and end tell names apart. */
function cut(text, fits) {
  if (text.length <= fits) return text;
  const end = Math.min(4, Math.floor(fits / 3));
  return `${text.slice(0, fits - 1 - end)}…${text.slice(text.length - end)}`;
}

const isBottleneck = (node) => node.kind === "stage" && (node.stream.bottleneck?.stage === node.title || node.stream.bottleneck?.stage.startsWith(`${node.title}-`));

/** A disc is good, a triangle bad, a ring waits: the page's three shapes. */
function signOf(tone, x, y) {
  if (tone === "bad") return `M${x},${y - 6} L${x + 6},${y + 5} L${x - 6},${y + 5} Z`;
  const disc = `M${x - 5},${y} a5,5 0 1,0 10,0 a5,5 0 1,0 -10,0 Z`;
  return tone === "good" ? disc : `${disc} M${x - 3},${y} a3,3 0 1,1 6,0 a3,3 0 1,1 -6,0 Z`;
}

function said(node, tone, lines, restarts, wrong) {
  const of = node.stream && node.kind === "stage" ? ` of ${node.stream.stream}` : "";
  const words = { good: "well", wait: "waiting", bad: "in trouble" };
  return [`${node.kind === "topic" ? "topic " : ""}${node.title}${of}`, tone ? words[tone] : "", ...lines, restarts > 0 ? `${restarts} restarts` : "", wrong].filter(Boolean).join(", ");
}
