// The numbers of a chart as a table: newest first, as many rows as are asked for, the same text as in the chart.

import { button, element, group, keyed, setText, show } from "./dom.js";
import { bucketTime, figure } from "./format.js";

const ROWS = 60; // and as many more at each press

let made = 0;

export class NumbersTable {
  constructor({ label, bucketSeconds, onPoint = () => {} }) {
    made += 1;
    this.bucketSeconds = bucketSeconds;
    this.onPoint = onPoint;
    this.rowsShown = ROWS;
    this.latest = null;
    this.body = element("tbody");
    this.heading = element("tr");
    this.more = button("more", "Older", () => {
      this.rowsShown += ROWS;
      this.draw(this.latest);
    });
    const table = group("table", "numbers", element("caption", "unseen", `${label} as numbers`), group("thead", "", this.heading), this.body);
    this.node = group("div", "scroll numbers-table", table, this.more);
    this.node.id = `numbers-${made}`;
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", `${label} as numbers`);
  }

  /** `made` is of documents.js: times in ms ascending, and lines. */
  draw(latest) {
    this.latest = latest;
    const { times, lines } = latest;
    const titles = ["time", ...lines.map(({ name }) => name)];
    const heads = keyed(this.heading, titles.map((title, at) => `${at}-${title}`), () => element("th"));
    titles.forEach((title, at) => {
      heads[at].className = at === 0 ? "" : "n";
      heads[at].scope = "col";
      setText(heads[at], title);
    });
    const present = times.flatMap((_, at) => (lines.some(({ values }) => values[at] !== null) ? [at] : [])).reverse();
    const shown = present.slice(0, this.rowsShown);
    const rows = keyed(this.body, shown.map((at) => String(times[at])), () => this.makeRow());
    shown.forEach((index, at) => {
      const row = rows[at];
      while (row.children.length > titles.length) row.lastElementChild.remove();
      while (row.children.length < titles.length) row.append(element("td", "n"));
      setText(row.firstElementChild, bucketTime(times[index], this.bucketSeconds));
      lines.forEach(({ values }, column) => setText(row.children[column + 1], values[index] === null ? "" : figure(values[index])));
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

  /** Marks the row of the bucket that a cursor is at, and brings it into the table's own view. */
  mark(ms) {
    for (const row of this.body.children) {
      const here = ms !== null && Number(row.dataset.key) === ms;
      if (row.classList.contains("pointed") !== here) row.classList.toggle("pointed", here);
      if (!here || this.node.matches(":hover")) continue;
      const above = row.offsetTop - this.heading.offsetHeight;
      const isInView = above >= this.node.scrollTop && row.offsetTop + row.offsetHeight <= this.node.scrollTop + this.node.clientHeight;
      if (!isInView) this.node.scrollTop = above;
    }
  }
}
