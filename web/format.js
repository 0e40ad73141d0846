// Numbers and times as people read them. Times are UTC, as they are stored. Pure.

const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** What is not known yet is a dash; what there cannot be, as the lane of a total, is nothing. */
export const count = (value) => (value === undefined ? "" : value === null ? "–" : grouped.format(value));

export const compact = (value) => (Math.abs(value) < 10000 ? grouped.format(Math.round(value)) : short.format(value));

/** A measured number: as many digits as mean something. */
export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return grouped.format(value);
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function withUnit(value, unit) {
  const text = figure(value);
  return unit && text !== "–" ? `${text} ${unit}` : text;
}

export function percent(ratio) {
  return Number.isFinite(ratio) ? `${Math.round(ratio * 100)} %` : "–";
}

/** Whole seconds and larger. */
export function duration(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A delay, from milliseconds up. */
export function delay(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 0) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return duration(seconds);
}

export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

/** How long ago by the daemon's own clock, which need not be the browser's. */
export function ago(since, now) {
  const seconds = (Date.parse(now) - Date.parse(since)) / 1000;
  return Number.isFinite(seconds) ? duration(Math.max(0, seconds)) : "";
}

/** `2013-01-31 14:05` */
export function minute(ms) {
  if (!Number.isFinite(ms)) return "–";
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}

/** `14:05:09.123` */
export function clock(ms, withMillis = false) {
  if (!Number.isFinite(ms)) return "–";
  return new Date(ms).toISOString().slice(11, withMillis ? 23 : 19);
}

/** A bucket's start: the day alone where buckets are days or longer. */
export function bucketTime(ms, bucketSeconds) {
  if (!Number.isFinite(ms)) return "–";
  const text = new Date(ms).toISOString();
  if (bucketSeconds >= 86400) return text.slice(0, 10);
  return `${text.slice(0, 10)} ${text.slice(11, bucketSeconds >= 60 ? 16 : 19)}`;
}

const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

export function weekday(ms) {
  return Number.isFinite(ms) ? WEEKDAYS[new Date(ms).getUTCDay()] : "";
}

/** What a field of a datetime-local input holds, read and written as UTC. */
export function toInput(ms) {
  return Number.isFinite(ms) ? new Date(ms).toISOString().slice(0, 16) : "";
}

export function fromInput(text) {
  return /^\d{4,}-\d\d-\d\dT\d\d:\d\d/.test(text) ? Date.parse(`${text}Z`) : NaN;
}

const SPANS = { s: 1, m: 60, min: 60, h: 3600, d: 86400, w: 604800 };

/** `7d` in milliseconds; NaN where it is no span. */
export function spanMs(text) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)\s*$/.exec(String(text));
  return found ? Number(found[1]) * SPANS[found[2]] * 1000 : NaN;
}

/** `1 h`, `1 day` */
export function bucketName(seconds) {
  if (seconds % 86400 === 0) return seconds === 86400 ? "day" : `${seconds / 86400} days`;
  if (seconds % 3600 === 0) return seconds === 3600 ? "hour" : `${seconds / 3600} hours`;
  if (seconds % 60 === 0) return seconds === 60 ? "minute" : `${seconds / 60} min`;
  return `${seconds} s`;
}

/** Any value of a row or document, on one line. */
export function cell(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return figure(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** A name as it stands in a heading: `mean_dep_delay` as `mean dep delay`. */
export function spoken(name) {
  return String(name).replaceAll("_", " ");
}

/** A moment without its zone and its empty seconds; all times here are UTC. */
export function shortTime(value) {
  const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(?:\.(\d+))?Z$/.exec(String(value));
  if (!found) return cell(value);
  return `${found[1]} ${found[2]}${found[3] && found[3] !== ":00" ? found[3] : ""}`;
}
