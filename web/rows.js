// The newest rows of a table in the warehouse, each with the Kafka record that made it and how long that took.

import { at, explained, get, withQuery } from "./api.js";
import { element, fillSelect, group, keyed, notice, setText } from "./dom.js";
import { delay, shortTime } from "./format.js";
import { delayOf, recordId, recordName } from "./matching.js";
import { store } from "./store.js";

const LIMIT = 14;
const ASK_MS = 2000; // while records come
const ASK_SELDOM_MS = 15000; // while none do

export class Rows {
  constructor({ host, select, matches, point }) {
    this.host = host;
    this.select = select;
    this.matches = matches;
    this.point_ = point;
    this.table = null;
    this.shown = false;
    this.fresh = true;
    this.asked = 0;
    this.asking = false;
    this.columns = "";
    this.names = "";
    this.isChosen = false;
    select.addEventListener("change", () => {
      this.isChosen = true;
      this.table = select.value;
      this.reload();
    });
    setInterval(() => this.tick(), 500);
  }

  /** Tables of the aggregates first, since those are what happens; then those with the longest keys, for the same reason. */
  recordsCame() {
    this.fresh = true;
    const fed = [...this.matches.tables].sort(([, a], [, b]) => b.length - a.length).map(([name]) => name);
    const names = [...new Set([...(store.aggregates || []).map((a) => a.table), ...fed])];
    if (names.length === 0) return;
    if (!this.isChosen) this.table = names[0];
    const signature = names.join("\n");
    if (signature === this.names) return;
    this.names = signature;
    fillSelect(this.select, names.map((name) => ({ value: name, text: name })), this.table);
  }

  setShown(shown) {
    this.shown = shown;
    this.tick();
  }

  reload() {
    this.asked = 0;
    this.fresh = true;
    this.tick();
  }

  tick() {
    if (this.table === null) this.recordsCame();
    if (!this.shown || this.asking || this.table === null || store.link === "gone" || document.hidden) return;
    if (Date.now() - this.asked > (this.fresh ? ASK_MS : ASK_SELDOM_MS)) this.ask();
  }

  async ask() {
    this.asking = true;
    this.fresh = false;
    const { table } = this;
    try {
      const answer = await get(withQuery(at`/api/v1/rows/${table}`, { limit: LIMIT }));
      if (table === this.table) this.draw(answer);
    } catch (error) {
      if (table === this.table) this.fail(explained(error));
    } finally {
      this.asking = false;
      this.asked = Date.now();
    }
  }

  fail(text) {
    this.columns = "";
    this.host.replaceChildren(notice("bad", "The newest rows could not be read", text));
  }

  draw({ table, key, columns, rows }) {
    const signature = JSON.stringify([table, columns]);
    if (rows.length === 0) {
      this.columns = "";
      this.host.replaceChildren(notice("wait", `No row in ${table} yet`, "The first is shown as soon as a record is written."));
      return;
    }
    if (signature !== this.columns) {
      this.columns = signature;
      this.host.replaceChildren(this.makeTable(table, columns));
    }
    const body = this.host.querySelector("tbody");
    const ids = rows.map((row) => JSON.stringify(key.map((column) => row[column])));
    const nodes = keyed(body, ids, () => this.makeRow(columns));
    rows.forEach((row, at) => {
      const record = this.matches.recordOf(table, key, row);
      const node = nodes[at];
      node.dataset.record = record ? recordId(record) : "";
      setText(node.children[0], record ? delay(delayOf(record)) : "–");
      setText(node.children[1], record ? recordName(record) : "not sampled");
      node.classList.toggle("matched", Boolean(record));
      columns.forEach((column, c) => {
        const value = row[column];
        const text = value === null ? "null" : typeof value === "number" ? String(value) : shortTime(value);
        setText(node.children[2 + c], text);
        node.children[2 + c].classList.toggle("null", value === null);
      });
    });
  }

  makeTable(table, columns) {
    const heading = element("tr");
    for (const title of ["delay", "record", ...columns]) {
      const cell = element("th", "", title);
      cell.scope = "col";
      heading.append(cell);
    }
    return group("table", "rows", element("caption", "unseen", `Newest rows of ${table}, with the record that made each`), group("thead", "", heading), element("tbody"));
  }

  makeRow(columns) {
    const row = group("tr", "fresh", element("td", "took"), element("td", "where quiet"), ...columns.map(() => element("td")));
    row.addEventListener("pointerenter", () => this.point_(row.dataset.record || null));
    row.addEventListener("pointerleave", () => this.point_(null));
    return row;
  }

  /** Marks the rows that a record made. */
  point(id) {
    for (const row of this.host.querySelectorAll("tbody tr")) row.classList.toggle("pointed", id !== null && row.dataset.record === id);
  }
}
