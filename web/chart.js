// A line chart: uPlot with a readout, zoom by dragging, keys, and a voice for who can't see it. It is told its data and
// the span to show; what it is zoomed to is the caller's to keep, so that charts can be linked.

import { announce, button, element, group, keyed, place, setText, show, svg } from "./dom.js";
import { bucketTime, figure, weekday, withUnit } from "./format.js";
import { faint, seriesColour, seriesDash, styleColour } from "./palette.js";
import { daemonNow } from "./store.js";
import { whenThemeChanges } from "./theme.js";

/* global uPlot */

const HEIGHT = 220;
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

const SECOND = 1;
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const MONTH = 30 * DAY;
const YEAR = 365 * DAY;

/**
 * A date whose local parts, for which uPlot asks, are those of UTC. Shifted by the zone's offset, as uPlot would, they were
 * an hour off where the reader's clocks change.
 */
class UtcDate extends Date {}
for (const part of ["FullYear", "Month", "Date", "Day", "Hours", "Minutes", "Seconds", "Milliseconds"]) {
  UtcDate.prototype[`get${part}`] = Date.prototype[`getUTC${part}`];
}

export const utc = (seconds) => new UtcDate(seconds * 1000);

/** Where the x axis is labelled: `min` to `max`, `step` apart, all in seconds. uPlot's own way goes by local midnights. */
export function timeSplits(min, max, step) {
  const splits = [];
  if (step >= MONTH) {
    const months = step >= YEAR ? 12 * Math.round(step / YEAR) : Math.round(step / MONTH);
    const date = utc(min);
    // Quarters begin in January, ten years with a year that ends in 0.
    let month = Math.floor((date.getFullYear() * 12 + date.getMonth()) / months) * months;
    for (let at; (at = Date.UTC(1970, month - 1970 * 12) / 1000) <= max; month += months) if (at >= min) splits.push(at);
    return splits;
  }
  // Days are counted from the first that is shown.
  const unit = Math.min(step, DAY);
  for (let at = Math.ceil(min / unit) * unit; at <= max; at += step) splits.push(at);
  return splits;
}

/** uPlot's forms of the x axis, with the day written as everywhere on the page. */
const TIME_FORMS = [
  [YEAR, "{YYYY}", null, null, null, null, null, null, 1],
  [MONTH, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [HOUR, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [MINUTE, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [SECOND, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

export class LineChart {
  /**
   * `options`: label (what it shows), unit, bucketSeconds, sync (charts of one key share the cursor), height,
   * onZoom({from, to} in ms, or null for all), marksOf() for live records, onCursor(ms or null), details (id of its table).
   */
  constructor(host, options) {
    this.options = options;
    this.names = [];
    /** `{name, of, low, high}`: an interval about the line `of`, drawn behind it; null where there is none. */
    this.band = null;
    this.hidden = new Set();
    this.raw = [[]];
    this.data = [[]];
    this.window = { from: 0, to: 1 };
    this.plot = null;
    this.focused = 0;

    this.legend = element("div", "legend");
    this.canvas = element("div", "plot");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "line chart");
    this.canvas.setAttribute("aria-label", `${options.label}. Arrow keys move along it, plus and minus zoom, zero shows all.`);
    if (options.details) this.canvas.setAttribute("aria-details", options.details);
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    this.tip.setAttribute("aria-hidden", "true");
    host.append(this.legend, this.canvas);

    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => this.leave());
    this.resizes = new ResizeObserver(() => this.fit());
    this.resizes.observe(this.canvas);
    this.forgetTheme = whenThemeChanges(() => this.recolour());
  }

  destroy() {
    this.resizes.disconnect();
    this.forgetTheme();
    if (this.plot) this.plot.destroy();
    this.plot = null;
  }

  get height() {
    return this.options.height || HEIGHT;
  }

  /**
   * `made` is of documents.js: times in ms and lines; `made.band`, where there is one, has `name`, the line that it is
   * `of`, and as many values `low` and `high`. `window` is the span to show, in ms.
   */
  set(made, window) {
    this.window = { from: window.from / 1000, to: window.to / 1000 };
    // Bars stand on each other: the last is drawn first, behind the others and as high as all together.
    const drawn = this.options.bars ? [...made.lines].reverse() : made.lines;
    this.raw = [made.times.map((ms) => ms / 1000), ...drawn.map((line) => line.values)];
    const names = drawn.map((line) => line.name);
    const band = made.band || null;
    const same = names.length === this.names.length && names.every((name, at) => name === this.names[at]) && band?.of === this.band?.of;
    this.band = band;
    if (!same) {
      this.names = names;
      if (this.plot) this.plot.destroy();
      this.plot = null;
    }
    this.data = this.stacked();
    if (this.plot) this.plot.setData(this.data, true);
    else this.make();
    this.showLegend();
  }

  /** What is drawn of the numbers: for bars, the sum of a series and those below it. */
  stacked() {
    if (!this.options.bars) return this.band ? [...this.raw, this.band.low, this.band.high] : this.raw;
    const [times, ...rows] = this.raw;
    const sums = times.map(() => 0);
    const made = rows.map(() => null);
    for (let at = rows.length - 1; at >= 0; at -= 1) {
      made[at] = rows[at].map((value, index) => {
        if (value === null || this.hidden.has(this.names[at])) return null;
        sums[index] += value;
        return sums[index];
      });
    }
    return [times, ...made];
  }

  colour(at) {
    return seriesColour(this.options.bars ? this.names.length - 1 - at : at);
  }

  /** Draws again what is not of the data: live records. */
  redraw() {
    if (this.plot) this.plot.redraw(false, false);
  }

  make() {
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    const quiet = () => styleColour("quiet");
    const line = () => styleColour("line");
    const axis = { stroke: quiet, font: FONT, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const bar = this.options.bars ? uPlot.paths.bars({ size: [0.8, 60] }) : undefined;
    const isEdge = (index) => index > this.names.length;
    const edge = () => ({ show: this.isBandShown(), width: 0, points: { show: false } });
    const [low, high] = [this.names.length + 1, this.names.length + 2];
    this.plot = new uPlot(
      {
        width,
        height: this.height,
        padding: [8, 18, 0, 0],
        tzDate: utc,
        legend: { show: false },
        scales: {
          x: { range: () => [this.window.from, this.window.to] },
          y: { range: (_, min, max) => span(min, max) },
        },
        axes: [
          { ...axis, values: TIME_FORMS, splits: (_, __, min, max, step) => timeSplits(min, max, step), space: 64, size: 40, gap: 6 },
          { ...axis, size: (_, values) => widest(values), values: (_, all) => all.map(figure), space: 34 },
        ],
        series: [
          {},
          ...this.names.map((name, at) => ({
            label: name,
            show: !this.hidden.has(name),
            stroke: () => this.colour(at),
            fill: bar ? () => this.colour(at) : this.names.length === 1 ? () => faint(this.colour(at), 0.1) : undefined,
            dash: bar ? undefined : seriesDash(at),
            width: bar ? 0 : 1.75,
            paths: bar,
            points: { show: !bar, size: 5, fill: () => this.colour(at), filter: (_, index) => lonely(this.data[index]) },
          })),
          ...(this.band ? [edge(), edge()] : []),
        ],
        bands: this.band ? [{ series: [high, low], fill: () => faint(this.bandColour(), 0.18) }] : [],
        cursor: {
          sync: this.options.sync ? { key: this.options.sync } : undefined,
          drag: { x: true, y: false, setScale: false, dist: 6 },
          focus: { prox: 20 },
          // The ends of an interval are no lines: no point stands on them.
          points: { size: (_, index) => (isEdge(index) ? 0 : 8), width: (_, index) => (isEdge(index) ? 0 : 2) },
          bind: { dblclick: () => () => this.zoom(null) },
        },
        // What is not pointed at steps back, but an interval belongs to its line.
        focus: { alpha: this.band ? 1 : 0.35 },
        hooks: {
          setSelect: [(plot) => this.selected(plot)],
          setCursor: [(plot) => this.moved(plot)],
          draw: [(plot) => this.drawLive(plot)],
        },
      },
      this.data,
      this.canvas,
    );
    this.plot.over.append(this.tip);
  }

  fit() {
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    if (this.plot) {
      if (this.plot.width !== width) this.plot.setSize({ width, height: this.height });
    } else if (this.names.length > 0) {
      this.make();
    }
  }

  recolour() {
    this.redraw();
    this.showLegend();
  }

  // The legend: each series with its colour, its dashes and its last number; pressed to hide it.

  showLegend() {
    show(this.legend, this.names.length > 1 || Boolean(this.options.alwaysLegend));
    const chips = keyed(this.legend, this.names.map((name) => `s-${name}`), () => {
      const chip = button("chip", undefined, () => this.toggle(chip.dataset.key.slice(2)));
      const swatch = svg("svg", "swatch");
      place(swatch, { viewBox: "0 0 22 8" });
      swatch.append(place(svg("line"), { x1: 0, y1: 4, x2: 22, y2: 4 }));
      swatch.setAttribute("aria-hidden", "true");
      chip.append(swatch, element("span", "chip-name"), element("b"));
      return chip;
    });
    if (this.band) {
      if (!this.bandKey) this.bandKey = bandKey();
      const [swatch, label] = this.bandKey.children;
      swatch.firstElementChild.setAttribute("fill", faint(this.bandColour(), 0.3));
      setText(label, this.band.name);
      this.legend.append(this.bandKey);
      show(this.bandKey, this.isBandShown());
    }
    this.names.forEach((name, at) => {
      const [swatch, label, last] = chips[at].children;
      const shape = swatch.firstElementChild;
      shape.setAttribute("stroke", this.colour(at));
      shape.setAttribute("stroke-dasharray", (this.options.bars ? "" : seriesDash(at).join(" ")) || "none");
      setText(label, name);
      setText(last, withUnit(lastOf(this.raw[at + 1]), this.options.unit));
      chips[at].setAttribute("aria-pressed", String(!this.hidden.has(name)));
    });
  }

  toggle(name) {
    if (this.hidden.has(name)) this.hidden.delete(name);
    else if (this.hidden.size < this.names.length - 1) this.hidden.add(name);
    else this.hidden.clear();
    if (this.plot) {
      this.names.forEach((one, at) => this.plot.setSeries(at + 1, { show: !this.hidden.has(one) }));
      if (this.band) [1, 2].forEach((end) => this.plot.setSeries(this.names.length + end, { show: this.isBandShown() }));
    }
    if (this.plot && this.options.bars) {
      this.data = this.stacked();
      this.plot.setData(this.data, true);
    }
    this.showLegend();
  }

  // The interval

  isBandShown() {
    return this.band !== null && !this.hidden.has(this.band.of);
  }

  bandColour() {
    return this.colour(Math.max(0, this.names.indexOf(this.band.of)));
  }

  /** As people read it; empty where there is none. */
  bandText(index) {
    if (!this.isBandShown() || this.band.low[index] === null || this.band.high[index] === null) return "";
    return `${figure(this.band.low[index])} to ${withUnit(this.band.high[index], this.options.unit)}`;
  }

  // Zoom

  zoom(range) {
    if (this.options.onZoom) this.options.onZoom(range);
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 6) return;
    const range = { from: plot.posToVal(left, "x") * 1000, to: plot.posToVal(left + width, "x") * 1000 };
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.zoom(range);
  }

  // The cursor

  moved(plot) {
    const { left, idx } = plot.cursor;
    const out = left === undefined || left < 0 || idx === null || idx === undefined;
    show(this.tip, !out);
    if (this.options.onCursor) this.options.onCursor(out ? null : this.data[0][idx] * 1000);
    if (!out) this.fillTip(plot, idx);
  }

  fillTip(plot, index) {
    const time = this.data[0][index] * 1000;
    const shown = this.names
      .map((name, at) => ({ name, at, value: this.raw[at + 1][index] }))
      .filter(({ name, value }) => value !== null && value !== undefined && !this.hidden.has(name))
      .sort((a, b) => b.value - a.value);
    const band = this.bandText(index);
    const live = this.options.marksOf ? this.options.marksOf().filter((m) => m.start === time).length : 0;
    const rows = keyed(this.tip, ["time", ...shown.map(({ name }) => `s-${name}`), ...(band ? ["band"] : []), ...(shown.length === 0 ? ["none"] : []), ...(live > 0 ? ["live"] : [])], () => {
      return group("p", "", element("i"), element("span"), element("b"));
    });
    const day = this.options.bucketSeconds < DAY ? `${weekday(time)} ${bucketTime(time, this.options.bucketSeconds)}` : `${weekday(time)} ${bucketTime(time, DAY)}`;
    setText(rows[0].children[1], day);
    shown.forEach(({ name, at, value }, row) => {
      const [dot, label, number] = rows[row + 1].children;
      dot.className = `dot dot-${(this.options.bars ? this.names.length - 1 - at : at) % 8}`;
      setText(label, name);
      setText(number, withUnit(value, this.options.unit));
    });
    if (band) {
      const [, label, ends] = rows[shown.length + 1].children;
      setText(label, this.band.name);
      setText(ends, band);
    }
    if (shown.length === 0) setText(rows[1].children[1], "no document here");
    if (live > 0) setText(rows[rows.length - 1].children[1], `+ ${live} live, not in the numbers yet`);
    const left = plot.valToPos(this.data[0][index], "x");
    const flip = left > plot.over.clientWidth / 2;
    this.tip.className = flip ? "tip flip" : "tip";
    this.tip.style.transform = `translate(${Math.round(flip ? left - 12 : left + 12)}px, 0)${flip ? " translateX(-100%)" : ""}`;
  }

  leave() {
    if (this.plot) this.plot.setCursor({ left: -10, top: -10 });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.plot) return;
    const times = this.data[0];
    const inside = times.flatMap((time, at) => (time >= this.window.from && time <= this.window.to && this.has(at) ? [at] : []));
    const now = inside.indexOf(this.plot.cursor.idx ?? -1);
    const from = now < 0 ? inside.length - 1 : now;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      if (inside.length === 0) return;
      const to = now < 0 ? from : Math.max(0, Math.min(inside.length - 1, from + steps[event.key]));
      this.goTo(inside[to]);
    } else if (event.key === "+" || event.key === "-") {
      const middle = times[inside[from]] ?? (this.window.from + this.window.to) / 2;
      const half = ((this.window.to - this.window.from) / 2) * (event.key === "+" ? 0.5 : 2);
      this.zoom({ from: (middle - half) * 1000, to: (middle + half) * 1000 });
    } else if (event.key === "0" || event.key === "Escape") {
      this.zoom(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  has(index) {
    return this.names.some((name, at) => !this.hidden.has(name) && this.raw[at + 1][index] !== null);
  }

  /** Moves the cursor to a point and says it. */
  goTo(index) {
    const time = this.data[0][index];
    const first = this.names.findIndex((name, at) => !this.hidden.has(name) && this.raw[at + 1][index] !== null);
    const top = first < 0 ? 0 : this.plot.valToPos(this.data[first + 1][index], "y");
    this.plot.setCursor({ left: this.plot.valToPos(time, "x"), top });
    const said = this.names.flatMap((name, at) => {
      const value = this.raw[at + 1][index];
      return value === null || this.hidden.has(name) ? [] : [`${name} ${withUnit(value, this.options.unit)}`];
    });
    const band = this.bandText(index);
    if (band) said.push(`${this.band.name} ${band}`);
    announce(`${bucketTime(time * 1000, this.options.bucketSeconds)}: ${said.join(", ")}`);
  }

  /** Puts the cursor where a linked table points; null takes it away. */
  point(ms) {
    if (!this.plot) return;
    if (ms === null) this.leave();
    else this.plot.setCursor({ left: this.plot.valToPos(ms / 1000, "x"), top: 10 });
  }

  // The live end: where each line ends now, and records that are not in its numbers yet.

  drawLive(plot) {
    if (this.options.bars) return;
    const { ctx } = plot;
    const ratio = uPlot.pxRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left - 6 * ratio, plot.bbox.top - 6 * ratio, plot.bbox.width + 12 * ratio, plot.bbox.height + 12 * ratio);
    ctx.clip();
    const spot = (x, y, radius, colour, filled) => {
      ctx.beginPath();
      ctx.arc(plot.valToPos(x, "x", true), plot.valToPos(y, "y", true), radius * ratio, 0, 2 * Math.PI);
      ctx.lineWidth = 1.5 * ratio;
      ctx.strokeStyle = colour;
      ctx.fillStyle = filled ? colour : styleColour("card");
      ctx.fill();
      ctx.stroke();
    };
    const ends = this.names.map((name, at) => {
      const values = this.data[at + 1];
      let index = values.length - 1;
      while (index >= 0 && values[index] === null) index -= 1;
      return this.hidden.has(name) || index < 0 ? null : { time: this.data[0][index], value: values[index] };
    });
    if (this.options.marksOf) {
      for (const { name, time, start } of this.options.marksOf()) {
        const at = this.names.length === 1 ? 0 : this.names.indexOf(name);
        if (at < 0 || !ends[at] || time / 1000 < this.window.from || start / 1000 > this.window.to) continue;
        const index = this.data[0].indexOf(start / 1000);
        const value = index < 0 ? ends[at].value : (this.data[at + 1][index] ?? ends[at].value);
        spot(time / 1000, value, 1.25, faint(this.colour(at), 0.5), true);
      }
    }
    // A bucket that is still filling ends in a ring.
    const isClosed = (time) => (time + this.options.bucketSeconds) * 1000 <= daemonNow();
    ends.forEach((end, at) => {
      if (end && end.time >= this.window.from && end.time <= this.window.to) spot(end.time, end.value, 3, this.colour(at), isClosed(end.time));
    });
    ctx.restore();
  }
}

/** What an interval looks like, in the legend. */
function bandKey() {
  const swatch = place(svg("svg", "swatch"), { viewBox: "0 0 22 8" });
  swatch.append(place(svg("rect"), { x: 0, y: 0, width: 22, height: 8 }));
  swatch.setAttribute("aria-hidden", "true");
  return group("span", "band-key", swatch, element("span"));
}

/** From 0 where nothing is below it, with room above. */
function span(min, max) {
  if (min === null || max === null) return [0, 1];
  const low = Math.min(0, min);
  const high = Math.max(0, max);
  // Numbers far from 0 that hardly differ, such as a pressure, are shown closely.
  if (min > 0 && (max - min) / max < 0.2) return uPlot.rangeNum(min, max, 0.1, true);
  const room = (high - low || 1) * 0.08;
  return [low < 0 ? low - room : 0, high + room];
}

/** Points without a neighbour: no line shows them. */
function lonely(values) {
  const found = [];
  for (let at = 0; at < values.length; at += 1) {
    const alone = (index) => values[index] === null || values[index] === undefined;
    if (!alone(at) && alone(at - 1) && alone(at + 1)) found.push(at);
  }
  return found;
}

const widest = (values) => 18 + 7 * Math.max(2, ...(values || []).map((v) => String(v).length));

function lastOf(values) {
  for (let at = values.length - 1; at >= 0; at -= 1) if (values[at] !== null) return values[at];
  return null;
}
