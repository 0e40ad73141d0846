// One value of an aggregate: its chart, and beside it the same numbers as a table, pointed at together.

import { LineChart } from "./chart.js";
import { busiest, combinerOf, inOrder, keyLabel, lines } from "./documents.js";
import { button, element, group, keyed, setText, show } from "./dom.js";
import { bucketTime, figure, spoken } from "./format.js";

const MOST_LINES = 8;
const ROWS = 60; // and as many more at each press

let made = 0;

export class ExploreChart {
  constructor(host, { value, aggregate, onZoom, onPoint }) {
    this.value = value;
    this.aggregate = aggregate;
    this.rowsShown = ROWS;
    this.latest = null;
    made += 1;
    const id = `explore-table-${made}`;

    this.note = element("span", "quiet about");
    const left = element("div", "explore-plot");
    this.body = element("tbody");
    this.heading = element("tr");
    const table = group("table", "numbers", element("caption", "unseen", `${spoken(value)} as numbers`), group("thead", "", this.heading), this.body);
    this.scroll = group("div", "scroll explore-table", table);
    this.scroll.id = id;
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-label", `${spoken(value)} as numbers`);
    this.more = button("more", "Older", () => {
      this.rowsShown += ROWS;
      this.drawTable();
    });
    this.scroll.append(this.more);
    host.append(group("div", "head", element("h3", "", spoken(value)), this.note), group("div", "explore-pair", left, this.scroll));
    this.onPoint = onPoint;
    this.chart = new LineChart(left, {
      label: spoken(value),
      bucketSeconds: aggregate.bucket_seconds,
      sync: "explore",
      height: 260,
      details: id,
      onZoom,
      onCursor: (ms) => this.mark(ms),
    });
  }

  destroy() {
    this.chart.destroy();
  }

  draw(documents, { by, accepts, window }) {
    const { key } = this.aggregate;
    const label = by === "" ? () => "all" : by === "*" ? (k) => keyLabel(k, key) : (k) => (k[by] === undefined ? null : String(k[by]));
    const series = lines(documents, { value: this.value, nameOf: (k) => (accepts(k) ? label(k) : null), ...window });
    const { kept, leftOut } = busiest(series.lines, MOST_LINES);
    const order = inOrder(kept.map((line) => line.name));
    kept.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    this.latest = { times: series.times, lines: kept };
    const folded = by === "*" ? [] : key.filter((column) => column !== by);
    const notes = [folded.length > 0 ? `${combinerOf(this.value).name} over ${folded.join(", ")}` : "", leftOut > 0 ? `the ${MOST_LINES} largest of ${leftOut + MOST_LINES}; choose “only” for others` : ""];
    setText(this.note, notes.filter(Boolean).join("; "));
    this.chart.set(this.latest, window);
    this.drawTable();
  }

  /** Newest first, as many as are asked for. */
  drawTable() {
    const { times, lines: all } = this.latest;
    const titles = ["time", ...all.map(({ name }) => name)];
    const heads = keyed(this.heading, titles.map((title, at) => `${at}-${title}`), () => element("th"));
    titles.forEach((title, at) => {
      heads[at].className = at === 0 ? "" : "n";
      heads[at].scope = "col";
      setText(heads[at], title);
    });
    const present = times.flatMap((_, at) => (all.some(({ values }) => values[at] !== null) ? [at] : [])).reverse();
    const shown = present.slice(0, this.rowsShown);
    const rows = keyed(this.body, shown.map((at) => String(times[at])), () => this.makeRow());
    shown.forEach((index, at) => {
      const row = rows[at];
      while (row.children.length > titles.length) row.lastElementChild.remove();
      while (row.children.length < titles.length) row.append(element("td", "n"));
      setText(row.firstElementChild, bucketTime(times[index], this.aggregate.bucket_seconds));
      all.forEach(({ values }, column) => setText(row.children[column + 1], values[index] === null ? "" : figure(values[index])));
    });
    show(this.more, present.length > shown.length);
  }

  makeRow() {
    const head = element("th");
    head.scope = "row";
    const row = group("tr", "", head);
    row.addEventListener("pointerenter", () => this.onPoint(Number(row.dataset.key)));
    row.addEventListener("pointerleave", () => this.onPoint(null));
    return row;
  }

  point(ms) {
    this.chart.point(ms);
  }

  /** Marks the row of the bucket that the cursor is at, and brings it into the table's own view. */
  mark(ms) {
    for (const row of this.body.children) {
      const here = ms !== null && Number(row.dataset.key) === ms;
      if (row.classList.contains("pointed") !== here) row.classList.toggle("pointed", here);
      if (!here || this.scroll.matches(":hover")) continue;
      const above = row.offsetTop - this.heading.offsetHeight;
      const isInView = above >= this.scroll.scrollTop && row.offsetTop + row.offsetHeight <= this.scroll.scrollTop + this.scroll.clientHeight;
      if (!isInView) this.scroll.scrollTop = above;
    }
  }
}
