// The stored comparison of frameworks, in the form in which the tab shows it. Pure.

import { numeric } from "./documents.js";
import { figure } from "./format.js";

/** Megabytes, as other programs count memory. */
export const megabytes = (bytes) => (numeric(bytes) === null ? null : bytes / 1e6);

/** Seconds with three digits that mean something, from microseconds up. */
export function seconds(value) {
  if (numeric(value) === null) return "–";
  if (value === 0) return "0";
  return value < 1 ? String(Number(value.toPrecision(2))) : figure(value);
}

/** A relative difference: `2.7e-10`; `0` where there is none. */
export function difference(value) {
  if (numeric(value) === null) return "–";
  if (value === 0) return "0";
  // The largest number that there is stands for no number.
  return value > 1e300 ? "no number" : value.toExponential(1);
}

export const sizesOf = (comparison) => [...new Set(comparison.runs.map(({ size }) => size))].sort((a, b) => a - b);

/** The size that is asked for, else the largest. */
export function chosenSize(comparison, asked) {
  const sizes = sizesOf(comparison);
  return sizes.includes(asked) ? asked : (sizes[sizes.length - 1] ?? null);
}

/** What a framework's estimator was given that is not its default, as the first run that fitted tells it. */
export function settingsWords(runs, framework) {
  const run = runs.find((one) => one.framework === framework && one.outcome === "fitted");
  if (!run) return "–";
  return Object.entries(run.settings || {}).map(([name, value]) => `${name}=${value}`).join(", ") || "none";
}

const same = (run) => (one) => one.framework === run.framework && one.workers === run.workers;

/**
 * A row for each run of a size: `{framework, workers, had, outcome, seconds, cpu, megabytes, isResident, exponent, parity:
 * [tone, words], why, remarks, least}`, `least` holding what no other run of the size has less of: `fit`, `wall`, `memory`.
 */
export function runRows(comparison, size) {
  const runs = comparison.runs.filter((run) => run.size === size);
  const fitted = runs.filter(({ outcome }) => outcome === "fitted");
  const least = (of) => Math.min(...fitted.map(of).filter((value) => numeric(value) !== null));
  const best = { fit: least((run) => run.seconds.fit), wall: least((run) => run.seconds.wall), memory: least((run) => run.peak_memory_bytes) };
  return runs.map((run) => {
    const isFitted = run.outcome === "fitted";
    const scaling = (comparison.scaling || []).find(same(run));
    const has = { fit: run.seconds?.fit, wall: run.seconds?.wall, memory: run.peak_memory_bytes };
    return {
      framework: run.framework,
      workers: run.workers,
      had: isFitted ? numeric(run.workers_had) : null,
      rows: run.rows,
      outcome: run.outcome,
      seconds: isFitted ? run.seconds : {},
      cpu: isFitted ? numeric(run.cpu_seconds) : null,
      megabytes: isFitted ? megabytes(run.peak_memory_bytes) : null,
      isResident: Boolean(run.memory_is_resident),
      exponent: numeric(scaling?.fit_exponent),
      parity: parityWords(comparison, run),
      why: [run.why, run.stderr].filter(Boolean).join("\n"),
      remarks: run.remarks || [],
      least: fitted.length < 2 || !isFitted ? [] : Object.keys(best).filter((name) => has[name] === best[name]),
    };
  });
}

/** `[tone, words]`: whether a run came to the same model as the reference. */
function parityWords(comparison, run) {
  if (run.outcome === "absent") return ["wait", "absent"];
  if (run.outcome !== "fitted") return ["bad", "failed"];
  const found = (comparison.parity || []).find((one) => one.size === run.size && same(run)(one));
  if (!found) {
    const isReference = (comparison.parity || []).some((one) => one.reference === run.framework);
    return isReference ? ["good", "the reference"] : ["wait", "no reference to compare with"];
  }
  const off = difference(Math.max(found.coefficients, found.predictions));
  return found.agrees ? ["good", `agrees, ${off} apart`] : ["bad", `differs by ${off}`];
}

/** `[tone, sentence]` over all that was compared. */
export function verdictWords(comparison) {
  const { runs, parity, tolerance } = comparison;
  const names = (list) => [...new Set(list.map(({ framework }) => framework))].join(", ");
  const failed = runs.filter(({ outcome }) => outcome === "failed");
  const absent = runs.filter(({ outcome }) => outcome === "absent");
  const differ = (parity || []).filter(({ agrees }) => !agrees);
  const told = [
    differ.length > 0 ? `${names(differ)}: another model than the reference's` : "",
    failed.length > 0 ? `${names(failed)}: failed` : "",
    absent.length > 0 ? `${names(absent)}: not installed` : "",
  ].filter(Boolean);
  if (told.length > 0) return [differ.length + failed.length > 0 ? "bad" : "wait", told.join("; ")];
  if (runs.length === 0) return ["wait", "nothing was compared"];
  if (!(parity || []).length) return ["wait", "nothing to compare it with"];
  return ["good", `all came to the same model, within ${difference(tolerance).replace(".0", "")} of each other's coefficients and predictions`];
}
