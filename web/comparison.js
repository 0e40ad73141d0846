// The newest comparison of frameworks: what each run took, whether it came to the same model, and what having the
// framework costs.

import { explained, get } from "./api.js";
import { chosenSize, runRows, seconds, settingsWords, sizesOf, verdictWords } from "./comparison_data.js";
import { byId, button, element, group, mark, notice, setText, setTone, show } from "./dom.js";
import { bytes, count, figure, minute } from "./format.js";

let comparison = null;
let told = null; // a notice in its place
let drawn = ""; // what is in the document, so that it is made again only when it changes

/** Reads the newest one; what was read before stays where that fails. */
export async function loadComparison() {
  try {
    comparison = await get("/api/v1/comparison");
    told = comparison ? null : none();
  } catch (error) {
    if (error.status === 404) {
      comparison = null;
      told = none();
    } else {
      told = notice("bad", comparison ? "The newest comparison could not be read; this is the one before" : "The comparison could not be read", explained(error));
    }
  }
}

const none = () => notice("wait", "No comparison yet", "Run `bief compare --setup` once, then `bief compare --sizes 1,10,100`; or give [compare] a schedule in the configuration.");

/** Shows the runs of one size; `onSize(size)` when another is chosen. */
export function drawComparison(asked, onSize) {
  show(byId("models-comparison"), comparison !== null || told !== null);
  const sign = JSON.stringify([comparison?.made_at, asked, told?.textContent]);
  if (sign === drawn) return;
  drawn = sign;
  const parts = told ? [told] : [];
  setText(byId("comparison-about"), comparison ? about(comparison) : "");
  if (comparison) {
    const size = chosenSize(comparison, asked);
    const [tone, words] = verdictWords(comparison);
    const verdict = group("p", "verdict-line", mark(), element("span", "", words));
    setTone(verdict, tone);
    const sizes = sizesOf(comparison).map((one) => {
      const chip = button("chip", `${count(one)} × rows`, () => onSize(one));
      chip.setAttribute("aria-pressed", String(one === size));
      return chip;
    });
    const rows = runRows(comparison, size);
    const label = element("span", "label", "matrix");
    const fitted = element("span", "quiet", `${count(Math.max(...rows.map((row) => row.rows)))} rows to fit`);
    parts.push(verdict, group("div", "control-row", label, group("div", "chips", ...sizes), fitted), runTable(rows), costs(comparison));
  }
  const hadFocus = byId("comparison-body").contains(document.activeElement) && document.activeElement.textContent;
  byId("comparison-body").replaceChildren(...parts);
  if (hadFocus) [...byId("comparison-body").querySelectorAll("button")].find((one) => one.textContent === hadFocus)?.focus();
}

function about({ made_at: made, version, optimised, machine, matrix }) {
  const left = matrix.left_out.length > 0 ? `, without ${matrix.left_out.join(", ")}` : "";
  const build = optimised ? "" : " (not optimised: a debug build)";
  return `${minute(Date.parse(made))} UTC, bief ${version}${build}, ${machine.processor}, ${count(machine.cores)} cores; ${matrix.source}, ${count(matrix.features)} features${left}`;
}

const HEADS = ["framework", "workers", "start-up s", "load s", "fit s", "predict s", "all s", "CPU s", "peak MB", "fit grows by", "the same model?"];

/** The number that was asked for, and how many there were where that is another. */
function workersWords({ workers, had }) {
  if (had === null || had === workers) return [count(workers)];
  return [`${count(workers)} (${count(had)})`, false, `${count(workers)} were asked for, ${count(had)} were there`];
}

function runTable(rows) {
  const made = rows.map((row) => {
    const head = element("th", "", row.framework);
    head.scope = "row";
    const { start_up: startUp, load, fit, predict, wall } = row.seconds;
    const number = (text, isLeast, title) => {
      const cell = element("td", isLeast ? "n least" : "n", text);
      if (title || isLeast) cell.title = title || "the least of this size";
      return cell;
    };
    const has = (name) => row.least.includes(name);
    const grows = row.exponent === null ? "–" : `rows^${figure(Math.round(row.exponent * 100) / 100)}`;
    const memory = row.megabytes === null ? "–" : `${row.isResident ? "≤ " : ""}${figure(Math.round(row.megabytes))}`;
    const [tone, words] = row.parity;
    const parity = group("span", "parity", mark(), element("span", "", words));
    setTone(parity, tone);
    const last = group("td", "", parity);
    for (const remark of [row.why, ...row.remarks].filter(Boolean)) last.append(element("p", "quiet why", remark));
    return group(
      "tr", "", head, number(...workersWords(row)), number(seconds(startUp)), number(seconds(load)), number(seconds(fit), has("fit")),
      number(seconds(predict)), number(seconds(wall), has("wall")), number(seconds(row.cpu)),
      number(memory, has("memory"), row.isResident ? "some pages may be counted more than once" : ""), number(grows), last,
    );
  });
  return table("What each run took; bold is the least", HEADS, made, 1, HEADS.length - 1);
}

/** What is a part of bief. */
const OWN = ["linfa", "bief"];

function costs({ frameworks, runs }) {
  const made = frameworks.map(({ framework, absent, complexity }) => {
    const head = element("th", "", framework);
    head.scope = "row";
    const inside = OWN.includes(framework) ? "in the binary" : "–";
    const size = complexity.install_bytes === null ? inside : bytes(complexity.install_bytes);
    const settings = element("td", "wrap", settingsWords(runs, framework));
    const needs = element("td", "wrap", complexity.needs);
    if (absent) needs.append(element("p", "quiet why", `absent: ${absent}`));
    return group("tr", "", head, element("td", "n", count(complexity.lines)), element("td", "n", count(complexity.dependencies)), element("td", "n", size), settings, needs);
  });
  return table("What it costs to have", ["framework", "our lines", "dependencies", "installed", "settings", "needs"], made, 1, 4);
}

/** A table whose columns `from..to` are numbers. */
function table(caption, titles, rows, from, to) {
  const heads = titles.map((title, at) => {
    const head = element("th", at >= from && at < to ? "n" : "", title);
    head.scope = "col";
    return head;
  });
  const made = group("table", "compared", element("caption", "", caption), group("thead", "", group("tr", "", ...heads)), group("tbody", "", ...rows));
  const scroll = group("div", "scroll", made);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", caption);
  return scroll;
}
