// What is explored, read from and written to the address. Pure.

import { spanMs } from "./format.js";
import { joinList, splitList } from "./view.js";

export const RANGES = ["24h", "7d", "30d", "90d", "all"];
const DEFAULT_RANGE = "7d";
const FILTER = "key.";
const ALL_COLUMNS = "*";

/** The first value and the first mean, else the second. */
function usualValues(values) {
  const mean = values.find((value, at) => at > 0 && value.startsWith("mean_")) ?? values[1];
  return [values[0], mean].filter((value) => value !== undefined);
}

/** Of a query and the aggregates that there are; null where there are none. */
export function stateFrom(query, aggregates) {
  if (aggregates.length === 0) return null;
  const aggregate = aggregates.find(({ name }) => name === query.aggregate) || aggregates[0];
  const known = splitList(query.values).filter((value) => aggregate.values.includes(value));
  const from = Date.parse(query.from);
  const to = Date.parse(query.to);
  const isBy = query.by === "" || query.by === ALL_COLUMNS || aggregate.key.includes(query.by);
  const isRange = query.range === "all" || spanMs(query.range) > 0;
  return {
    aggregate: aggregate.name,
    values: known.length > 0 ? known : usualValues(aggregate.values),
    by: query.aggregate === aggregate.name && query.by !== undefined && isBy ? query.by : query.by === "none" ? "" : aggregate.key[0] || "",
    filters: Object.fromEntries(
      Object.entries(query)
        .filter(([name]) => name.startsWith(FILTER) && aggregate.key.includes(name.slice(FILTER.length)))
        .map(([name, value]) => [name.slice(FILTER.length), value]),
    ),
    range: isRange ? query.range : DEFAULT_RANGE,
    window: from < to ? { from, to } : null,
  };
}

export function queryFrom(state) {
  const moment = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");
  return {
    aggregate: state.aggregate,
    values: joinList(state.values),
    by: state.by === "" ? "none" : state.by,
    range: state.range,
    from: state.window ? moment(Math.round(state.window.from / 1000) * 1000) : "",
    to: state.window ? moment(Math.round(state.window.to / 1000) * 1000) : "",
    ...Object.fromEntries(Object.entries(state.filters).map(([column, value]) => [FILTER + column, value])),
  };
}

/** Whether documents of `span` are all that is wanted, but for `slack` ms at the ends; null is open, and all. */
export function covers(span, wanted, slack) {
  if (!span) return false;
  if (span.from === null && span.to === null) return true;
  if (wanted === null) return false;
  return span.from <= wanted.from + slack && (span.to ?? Infinity) >= wanted.to - slack;
}

/** Whether a document is meant. */
export const accepts = (filters) => (key) => Object.entries(filters).every(([column, value]) => String(key[column]) === value);
