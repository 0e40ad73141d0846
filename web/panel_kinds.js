// What the kinds of panels draw: line, bar, histogram, table, stat. Each has draw(feed, window), live(feed) for records
// that no document counts yet, and destroy().

import { LineChart } from "./chart.js";
import { busiest, combinerOf, inDocumentsOrder, inOrder, keyLabel, lines, stepStart, totals } from "./documents.js";
import { element, group, keyed, place, setText, show, svg } from "./dom.js";
import { bucketTime, compact, figure, spoken, withUnit } from "./format.js";
import { NumbersTable } from "./numbers_table.js";

const MOST_LINES = 8;
const MOST_BARS = 10;
const MOST_COLUMNS = 12;
const MOST_ROWS = 12;

const nameBy = (by) => (by ? (key) => (key[by] === undefined ? null : String(key[by])) : () => "all");

/** What is said where documents that differ in other columns were made one. */
function foldedNote(config, names) {
  const folded = config.key.filter((column) => column !== config.by);
  if (folded.length === 0) return "";
  const how = [...new Set(config.values.map((value) => combinerOf(value, names).name))].join(" or ");
  return `${how} over ${folded.join(", ")}`;
}

/** One value a line a series; several values each a line of their own. */
function seriesOf(config, feed, window) {
  const nameOf = nameBy(config.by);
  const each = config.values.map((value) => {
    const made = lines(feed.documents, { value, nameOf, ...window });
    const label = (name) => (config.values.length === 1 ? (config.by ? name : spoken(value)) : config.by ? `${name} ${spoken(value)}` : spoken(value));
    return { times: made.times, lines: made.lines.map((line) => ({ ...line, name: label(line.name) })) };
  });
  const times = [...new Set(each.flatMap((one) => one.times))].sort((a, b) => a - b);
  const all = each.flatMap((one) => {
    const places = new Map(one.times.map((time, at) => [time, at]));
    return one.lines.map((line) => ({ name: line.name, values: times.map((time) => line.values[places.get(time)] ?? null) }));
  });
  const { kept, leftOut } = busiest(all, MOST_LINES);
  // Series of a column in the order of people, values as they are configured.
  const order = config.by ? inOrder(kept.map((line) => line.name)) : all.map((line) => line.name);
  kept.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  return { times, lines: kept, leftOut };
}

function note(host) {
  const made = element("p", "quiet panel-note");
  host.append(made);
  return made;
}

function fillNote(node, ...texts) {
  const text = texts.filter(Boolean).join("; ");
  show(node, text !== "");
  setText(node, text);
}

function linePanel(host, config, bars = false) {
  let marks = [];
  let view = null;
  let latest = null;
  const table = new NumbersTable({ label: config.title, bucketSeconds: config.bucket_seconds });
  const chart = new LineChart(host, {
    details: table.node.id,
    label: config.title,
    unit: config.unit,
    bucketSeconds: config.bucket_seconds,
    bars,
    marksOf: () => marks,
    onZoom: (range) => {
      view = range;
      if (latest) draw(latest.feed, latest.window);
    },
  });
  const remark = note(host);
  const folded = group("details", "as-table", element("summary", "quiet", "as a table"), table.node);
  let made = null;
  folded.addEventListener("toggle", () => folded.open && made && table.draw(made));
  host.append(folded);
  const readMarks = (feed) => {
    marks = feed.pending.records.map((record) => ({
      time: record.time,
      start: latest ? stepStart(record.start, latest.window.step) : record.start,
      name: config.by ? String(record.columns[config.by] ?? "") : spoken(config.values[0]),
    }));
  };
  function draw(feed, window) {
    latest = { feed, window };
    readMarks(feed);
    made = seriesOf(config, feed, window);
    chart.options.bucketSeconds = window.step / 1000;
    table.bucketSeconds = window.step / 1000;
    chart.set(made, view || window);
    if (folded.open) table.draw(made);
    const more = made.leftOut > 0 ? `${made.leftOut} more series are in Explore` : "";
    fillNote(remark, foldedNote(config, feed.documents.valueNames()), more, view ? "zoomed: double-click for all" : "");
  }
  return {
    draw,
    live(feed) {
      readMarks(feed);
      chart.redraw();
    },
    destroy: () => chart.destroy(),
  };
}

/** Bars lying down, the longest first: `[{name, value}]`. */
function barList(list, all, unit) {
  const shown = [...all].sort((a, b) => b.value - a.value).slice(0, MOST_BARS);
  const most = Math.max(...shown.map(({ value }) => Math.abs(value)), Number.MIN_VALUE);
  const rows = keyed(list, shown.map(({ name }) => `b-${name}`), () => {
    const bar = place(svg("svg", "bar"), { viewBox: "0 0 100 10" });
    bar.setAttribute("preserveAspectRatio", "none");
    bar.setAttribute("aria-hidden", "true");
    bar.append(place(svg("rect"), { x: 0, y: 0, height: 10, width: 0 }));
    return group("li", "", element("span", "bar-name"), bar, element("b"));
  });
  shown.forEach(({ name, value }, at) => {
    const [label, bar, number] = rows[at].children;
    setText(label, name);
    place(bar.firstElementChild, { width: (Math.abs(value) / most) * 100 });
    setText(number, withUnit(value, unit));
  });
  return all.length - shown.length;
}

/** A column for each value of a key's column, in order; where there are many of them, bars lying down, the longest first. */
function histogramPanel(host, config) {
  const column = config.by || config.key[0];
  const list = element("ol", "histogram");
  const bars = element("ol", "bars");
  host.append(list, bars);
  const remark = note(host);
  return {
    draw(feed, window) {
      const all = totals(feed.documents, { value: config.values[0], nameOf: nameBy(column), ...window });
      const how = `${combinerOf(config.values[0], feed.documents.valueNames()).name} over the span`;
      const isLong = all.length > MOST_COLUMNS;
      show(list, !isLong);
      show(bars, isLong);
      if (isLong) {
        const more = barList(bars, all, config.unit);
        fillNote(remark, `${spoken(config.values[0])} by ${spoken(column)}, ${how}`, more > 0 ? `${more} more are in Explore` : "");
        return;
      }
      const byName = new Map(all.map(({ name, value }) => [name, value]));
      const names = inDocumentsOrder(feed.documents, nameBy(column)).filter((name) => byName.has(name));
      const most = Math.max(...byName.values(), Number.MIN_VALUE);
      const sum = all.reduce((total, { value }) => total + value, 0);
      const columns = keyed(list, names.map((name) => `h-${name}`), () => {
        const bar = place(svg("svg", "column"), { viewBox: "0 0 10 100" });
        bar.setAttribute("preserveAspectRatio", "none");
        bar.setAttribute("aria-hidden", "true");
        bar.append(place(svg("rect"), { x: 0, y: 100, width: 10, height: 0 }));
        return group("li", "", element("b"), bar, element("span"));
      });
      names.forEach((name, at) => {
        const [number, bar, label] = columns[at].children;
        const value = byName.get(name);
        const height = (value / most) * 100;
        setText(number, compact(value));
        place(bar.firstElementChild, { y: 100 - height, height });
        setText(label, name);
        columns[at].title = `${column} ${name}: ${figure(value)}, ${((value / sum) * 100).toFixed(1)} %`;
      });
      fillNote(remark, `${spoken(config.values[0])} by ${spoken(column)}, ${how}${config.unit ? `, in ${config.unit}` : ""}`);
    },
    live() {},
    destroy() {},
  };
}

/** The buckets themselves where there is nothing to tell apart, newest first. */
function bucketsPanel(host, config) {
  const table = new NumbersTable({ label: config.title, bucketSeconds: config.bucket_seconds });
  host.append(table.node);
  const remark = note(host);
  return {
    draw(feed, window) {
      table.draw(seriesOf(config, feed, { ...window, step: config.bucket_seconds * 1000 }));
      fillNote(remark, foldedNote(config, feed.documents.valueNames()), config.unit ? `in ${config.unit}` : "");
    },
    live() {},
    destroy() {},
  };
}

/** The last bucket of each key, with the way its first value went. */
function tablePanel(host, config) {
  if (!config.by && config.key.length === 0) return bucketsPanel(host, config);
  const columns = config.by ? [config.by] : config.key;
  const table = element("table", "newest");
  const heading = element("tr");
  for (const title of [...columns, "time", ...config.values, ""]) {
    const cell = element("th", config.values.includes(title) ? "n" : "", spoken(title));
    cell.scope = "col";
    heading.append(cell);
  }
  const body = element("tbody");
  table.append(group("thead", "", heading), body);
  const scroll = group("div", "scroll", table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", config.title);
  host.append(scroll);
  const remark = note(host);
  return {
    draw(feed, window) {
      const nameOf = (key) => keyLabel(key, columns);
      const made = config.values.map((value) => lines(feed.documents, { value, nameOf, ...window }));
      const names = inOrder(new Set(made.flatMap(({ lines: all }) => all.map(({ name }) => name))));
      const shown = names.slice(0, MOST_ROWS);
      const rows = keyed(body, shown.map((name) => `r-${name}`), () => {
        const row = element("tr");
        const head = element("th");
        head.scope = "row";
        row.append(head, element("td", "quiet"), ...config.values.map(() => element("td", "n")), group("td", "spark-cell", sparkline()));
        return row;
      });
      shown.forEach((name, at) => {
        const cells = rows[at].children;
        const of = made.map((one) => ({ times: one.times, values: one.lines.find((line) => line.name === name)?.values || [] }));
        const last = Math.max(...of.map(({ times, values }) => times[lastIndex(values)] ?? -Infinity));
        setText(cells[0], name);
        setText(cells[1], bucketTime(last, config.bucket_seconds));
        of.forEach(({ times, values }, v) => setText(cells[2 + v], figure(values[times.indexOf(last)] ?? null)));
        drawSpark(cells[2 + of.length].firstElementChild, of[0].values);
      });
      fillNote(remark, foldedNote({ ...config, by: null, key: config.key.filter((c) => !columns.includes(c)) }, feed.documents.valueNames()), names.length > shown.length ? `${names.length - shown.length} more are in Explore` : "", config.unit ? `in ${config.unit}` : "");
    },
    live() {},
    destroy() {},
  };
}

/** The last bucket's number, beside the one before. */
function statPanel(host, config) {
  const number = element("b", "stat-number");
  const about = element("span", "quiet");
  const spark = sparkline();
  host.append(group("div", "stat", number, about), spark);
  return {
    draw(feed, window) {
      const made = lines(feed.documents, { value: config.values[0], nameOf: nameBy(null), ...window });
      const values = made.lines[0]?.values || [];
      const at = lastIndex(values);
      setText(number, at < 0 ? "–" : withUnit(values[at], config.unit));
      const before = values[at - 1];
      const time = bucketTime(made.times[at], config.bucket_seconds);
      setText(about, at < 0 ? "no number in this span" : before === undefined || before === null ? time : `${time}; before ${figure(before)}`);
      drawSpark(spark, values);
    },
    live() {},
    destroy() {},
  };
}

function lastIndex(values) {
  let at = values.length - 1;
  while (at >= 0 && values[at] === null) at -= 1;
  return at;
}

export function sparkline() {
  const made = place(svg("svg", "sparkline"), { viewBox: "0 0 120 32" });
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("aria-hidden", "true");
  made.append(svg("polygon"), svg("polyline"));
  return made;
}

/** The way of some values, without numbers; at most 120 points, since it is no wider. */
export function drawSpark(spark, all, slots = 0) {
  const values = all.slice(-120).map((value) => value ?? NaN);
  const known = values.filter(Number.isFinite);
  if (known.length === 0) return;
  const top = Math.max(...known, 0);
  const low = Math.min(...known, 0);
  const span = top - low || 1;
  const width = Math.max(slots, values.length) - 1 || 1;
  const first = width - (values.length - 1);
  const points = values.flatMap((value, at) => {
    if (!Number.isFinite(value)) return [];
    return [`${(((first + at) / width) * 120).toFixed(1)},${(30 - ((value - low) / span) * 27).toFixed(1)}`];
  });
  place(spark.lastElementChild, { points: points.join(" ") });
  const left = points[0].split(",")[0];
  place(spark.firstElementChild, { points: `${left},32 ${points.join(" ")} 120,32` });
}

const KINDS = { line: linePanel, bar: (host, config) => linePanel(host, config, true), histogram: histogramPanel, table: tablePanel, stat: statPanel };

export function makePanel(host, config) {
  const make = KINDS[config.kind];
  if (make) return make(host, config);
  host.append(element("p", "quiet", `This page can't draw “${config.kind}” yet. Its numbers are in Explore.`));
  return { draw() {}, live() {}, destroy() {} };
}
