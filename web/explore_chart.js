// One value of an aggregate: its chart, and beside it the same numbers as a table, pointed at together.

import { LineChart } from "./chart.js";
import { busiest, combinerOf, inOrder, keyLabel, lines } from "./documents.js";
import { element, group, setText } from "./dom.js";
import { bucketName, spoken } from "./format.js";
import { NumbersTable } from "./numbers_table.js";

const MOST_LINES = 8;

/** Which lines are drawn: those with most of the first value. `{nameOf, names, leftOut}` */
export function chooseLines(documents, { value, key, by, accepts, span, step }) {
  const label = by === "" ? () => "all" : by === "*" ? (k) => keyLabel(k, key) : (k) => (k[by] === undefined ? null : String(k[by]));
  const nameOf = (k) => (accepts(k) ? label(k) : null);
  const { kept, leftOut } = busiest(lines(documents, { value, nameOf, step, ...span }).lines, MOST_LINES);
  return { nameOf, names: inOrder(kept.map(({ name }) => name)), leftOut };
}

export class ExploreChart {
  constructor(host, { value, aggregate, onZoom, onPoint }) {
    this.value = value;
    this.aggregate = aggregate;
    const label = spoken(value);
    this.note = element("span", "quiet about");
    this.table = new NumbersTable({ label, bucketSeconds: aggregate.bucket_seconds, onPoint });
    const plot = element("div", "explore-plot");
    host.append(group("div", "head", element("h3", "", label), this.note), group("div", "explore-pair", plot, this.table.node));
    this.chart = new LineChart(plot, {
      label,
      bucketSeconds: aggregate.bucket_seconds,
      sync: "explore",
      height: 260,
      details: this.table.node.id,
      onZoom,
      onCursor: (ms) => this.table.mark(ms),
    });
  }

  destroy() {
    this.chart.destroy();
  }

  /** `names` are those of the lines, the same in all charts, so that a colour means the same in all. */
  draw(documents, { by, nameOf, names, leftOut, window, span, step }) {
    const { key } = this.aggregate;
    const series = lines(documents, { value: this.value, nameOf, step, ...span });
    const isWide = step > documents.bucketMs;
    this.chart.options.bucketSeconds = step / 1000;
    this.table.bucketSeconds = step / 1000;
    const known = new Map(series.lines.map((line) => [line.name, line]));
    const none = series.times.map(() => null);
    const made = { times: series.times, lines: names.map((name) => known.get(name) || { name, values: none }) };
    const folded = by === "*" ? [] : key.filter((column) => column !== by);
    const notes = [
      folded.length > 0 || isWide ? `${combinerOf(this.value, documents.valueNames()).name} over ${[...(isWide ? [`each ${bucketName(step / 1000)}`] : []), ...folded].join(", ")}` : "",
      leftOut > 0 ? `the ${MOST_LINES} largest of ${leftOut + MOST_LINES}; choose “only” for others` : "",
    ];
    setText(this.note, notes.filter(Boolean).join("; "));
    this.chart.set(made, window);
    this.table.draw(made);
  }

  point(ms) {
    this.chart.point(ms);
  }
}
