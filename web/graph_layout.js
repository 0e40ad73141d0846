// Where the graph's boxes and lines are. Pure: from a status to numbers.

import { delay } from "./format.js";

const UNKNOWN_UNITS_BESIDE = 1;

/** Nodes `{id, kind, title, ...}` by column, and the edges between them. */
export function graphOf(status) {
  const streams = status.streams;
  const ofStream = new Set(streams.map(({ stream }) => stream));
  const units = new Map(status.units.map((unit) => [unit.name, unit]));
  const nodes = [];
  const edges = [];
  streams.forEach((stream, row) => {
    const id = (part) => `${stream.stream}/${part}`;
    nodes.push({ id: id("topic"), kind: "topic", title: stream.topic, stream, column: 0, row });
    let before = id("topic");
    (stream.stages || []).forEach((stage, at) => {
      const me = id(stage.stage);
      nodes.push({ id: me, kind: "stage", title: stage.stage, stream, stage, unit: units.get(stream.stream), column: at + 1, row });
      edges.push({ from: before, to: me, queue: stage.queue_fill === null || stage.queue_fill === undefined ? null : stage, rate: at === 0 ? stage.records_per_second : null });
      before = me;
    });
    edges.push({ from: before, to: "tables", queue: null, rate: stream.totals.records_per_second });
  });
  const columns = Math.max(1, ...streams.map(({ stages = [] }) => stages.length + 1));
  const rows = Math.max(1, streams.length);
  nodes.push({ id: "tables", kind: "store", title: "tables", lines: latencyOf(streams), column: columns, row: 0, rows });
  const others = status.units.filter(({ name }) => !ofStream.has(name));
  others.forEach((unit, at) => {
    nodes.push({ id: `unit/${unit.name}`, kind: "unit", ...named(unit.name), unit, column: columns + 1, row: at, of: others.length });
    edges.push({ from: "tables", to: `unit/${unit.name}`, queue: null, rate: null });
  });
  return { nodes, edges, columns: columns + 1 + (others.length > 0 ? UNKNOWN_UNITS_BESIDE : 0), rows: Math.max(rows, others.length), streamRows: rows };
}

function latencyOf(streams) {
  return ["p50", "p95"].flatMap((name) => {
    const all = streams.map(({ latency_seconds: latency }) => latency?.[name]).filter((value) => typeof value === "number");
    return all.length > 0 ? [`${name} ${delay(Math.max(...all))}`] : [];
  });
}

/** Boxes in pixels for a width: from left to right, or from top to bottom where that is too narrow. */
export function place({ nodes, edges, columns, rows, streamRows }, width) {
  const wide = width >= 760;
  const box = new Map();
  const along = wide ? { size: Math.min(150, (width - 44 * (columns - 1)) / columns), thick: 62 } : { size: 62, thick: Math.max(128, (width - 14 * (rows - 1)) / rows) };
  const gap = wide ? (width - along.size * columns) / Math.max(1, columns - 1) : 46;
  const across = wide ? 24 : 14;
  const span = rows * along.thick + (rows - 1) * across;
  for (const node of nodes) {
    const start = node.column * (along.size + gap);
    // A column with fewer boxes than the tallest is centred.
    const inColumn = node.kind === "unit" ? node.of : streamRows;
    const used = inColumn * along.thick + (inColumn - 1) * across;
    const top = (span - used) / 2 + (node.kind === "store" ? 0 : node.row * (along.thick + across));
    const thick = node.kind === "store" ? used : along.thick;
    box.set(node.id, wide ? { x: start, y: top, w: along.size, h: thick } : { x: top, y: start, w: thick, h: along.size });
  }
  const paths = edges.map((edge) => ({ edge, ...between(box.get(edge.from), box.get(edge.to), wide) }));
  const length = columns * along.size + (columns - 1) * gap;
  return { wide, box, paths, width: wide ? width : Math.max(width, span), height: wide ? span : length };
}

/** `aggregator-flight.departed/1h` is an aggregator, of that. */
function named(name) {
  const [title, about] = [name.split("-", 1)[0], name.slice(name.indexOf("-") + 1 || name.length)];
  return { title, about };
}

/** A line from box to box that leaves and enters straight, with the spot for what stands on it. */
function between(a, b, wide) {
  const one = wide ? "y" : "x";
  const size = wide ? "h" : "w";
  const centre = (box) => box[one] + box[size] / 2;
  // Into or out of a tall box: level with the smaller one.
  const level = a[size] >= b[size] ? clamp(centre(b), a[one] + 12, a[one] + a[size] - 12) : centre(a);
  const [p, q] = a[size] >= b[size] ? [level, centre(b)] : [centre(a), clamp(centre(a), b[one] + 12, b[one] + b[size] - 12)];
  const [s, t] = wide ? [a.x + a.w, b.x] : [a.y + a.h, b.y];
  const m = (s + t) / 2;
  const d = wide ? `M${s},${p} C${m},${p} ${m},${q} ${t},${q}` : `M${p},${s} C${p},${m} ${q},${m} ${q},${t}`;
  const centreLine = (p + q) / 2;
  return { d, x: wide ? m : centreLine, y: wide ? centreLine : m };
}

const clamp = (value, low, high) => (low > high ? (low + high) / 2 : Math.min(high, Math.max(low, value)));
