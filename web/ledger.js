// The ledger: the strip that is in sight on every tab, the equation, and each partition's line.

import { byId, element, group, keyed, setText, setTone, show } from "./dom.js";
import { count } from "./format.js";

const PARTITIONS_SHOWN = 50; // a stream's partitions beyond these are in /status

const TERMS = ["advanced", "applied", "duplicates", "dead_letters", "gaps"];

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

/** The sentence under the equation, and its tone. Pure. */
export function verdictOf(totals) {
  if (totals.unaccounted !== 0) {
    return ["bad", `${count(totals.unaccounted)} offsets are unaccounted for. This must not happen: run “bief verify”.`];
  }
  if (totals.partitions === 0) return ["wait", "nothing to add up yet"];
  return ["good", "0 unaccounted: every offset has exactly one outcome"];
}

export function showBalance(totals) {
  for (const name of TERMS) setText(byId(`sum-${name}`), count(totals[name]));
  setTone(byId("term-dead"), totals.dead_letters > 0 ? "bad" : null);
  const [tone, text] = verdictOf(totals);
  setText(byId("sign"), totals.unaccounted === 0 ? "=" : "≠");
  setTone(byId("balance"), tone);
  setText(byId("verdict"), text);
}

/** What is wrong first, then what is furthest behind; all of them in order where they are few. Pure. */
export function shownPartitions(partitions) {
  if (partitions.length <= PARTITIONS_SHOWN) return partitions;
  const worst = [...partitions].sort((a, b) => Math.abs(b.unaccounted) - Math.abs(a.unaccounted) || b.lag - a.lag);
  return worst.slice(0, PARTITIONS_SHOWN).sort((a, b) => a.partition - b.partition);
}

export function showStreams(streams) {
  const cards = keyed(byId("streams"), streams.length > 0 ? streams.map((s) => `s-${s.stream}`) : ["none"], () =>
    streams.length > 0 ? streamCard() : element("p", "quiet", "No stream yet."),
  );
  streams.forEach((stream, at) => {
    const card = cards[at];
    const { totals } = stream;
    setText(card.querySelector("h3"), stream.stream);
    setText(card.querySelector(".topic"), stream.topic === stream.stream ? "" : `topic ${stream.topic}`);
    const where = totals.partitions === 0 ? "no partition held here yet" : totals.caught_up === totals.partitions ? "caught up" : `${count(totals.lag)} behind`;
    setText(card.querySelector(".pace"), `${count(Math.round(totals.records_per_second))} records/s · ${where}`);
    card.querySelector(".scroll").setAttribute("aria-label", `Ledger of ${stream.stream}`);
    setText(card.querySelector("caption"), `Ledger of ${stream.stream} by partition`);
    const shown = shownPartitions(stream.partitions);
    const rows = keyed(card.querySelector("tbody"), shown.map((p) => `p-${p.partition}`), ledgerRow);
    shown.forEach((partition, index) => fillRow(rows[index], String(partition.partition), partition));
    fillRow(card.querySelector("tfoot tr"), "All partitions", totals);
    setText(card.querySelector(".foot"), footnote(stream, shown.length));
    showDoubts(card.querySelector(".doubts"), stream);
  });
}

function streamCard() {
  const card = element("article", "card stream");
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  const heading = element("tr");
  for (const title of ["Partition", ...COLUMNS.map((c) => c[0])]) {
    const cell = element("th", title === "Partition" ? "" : "n", title);
    cell.scope = "col";
    heading.append(cell);
  }
  const table = group("table", "ledger", element("caption", "unseen"), group("thead", "", heading), element("tbody"), group("tfoot", "", ledgerRow()));
  scroll.append(table);
  withRoles(table);
  card.append(group("div", "head", element("h3"), element("span", "quiet topic"), element("span", "quiet pace")), element("ul", "doubts"), scroll, element("p", "foot quiet"));
  return card;
}

function ledgerRow() {
  const name = element("th");
  name.scope = "row";
  const cells = COLUMNS.map(([title]) => {
    const cell = element("td", "n");
    cell.dataset.label = title.toLowerCase();
    return cell;
  });
  return withRoles(group("tr", "", name, ...cells));
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
  COLUMNS.forEach(([title, tell], at) => {
    const cell = row.children[at + 1];
    const text = tell(figures);
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

function showDoubts(list, { in_doubt: doubts }) {
  show(list, doubts.length > 0);
  const items = keyed(list, doubts.map((d) => String(d.partition)), () => element("li"));
  doubts.forEach((doubt, at) => {
    setText(items[at], `Partition ${doubt.partition} is in doubt (${doubt.kind.replaceAll("_", " ")}): expected ${doubt.expected}, found ${doubt.found}. Nothing is consumed until you decide: run “bief offsets show”, then “bief offsets reset”.`);
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
