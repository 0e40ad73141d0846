// What the page knows of the daemon now, and who is told when it changes. Told once a frame, however many events came,
// and only what is looked at.

/** Subjects: status, records, documents; lost, when documents were let go. */
const listeners = new Map();
let pending = new Map();
let frame = 0;

export const store = { status: null, link: "connecting", daemonAhead: 0 };

export function listen(subject, then) {
  if (!listeners.has(subject)) listeners.set(subject, new Set());
  listeners.get(subject).add(then);
  return () => listeners.get(subject).delete(then);
}

/** Most items of one subject that wait for a frame, which a covered window may not get; older ones are let go. */
const MAX_PENDING = 200;
let isLost = false;

export function tell(subject, item) {
  const items = pending.get(subject) || [];
  items.push(item);
  if (items.length > MAX_PENDING) {
    items.shift();
    isLost = isLost || subject === "documents";
  }
  pending.set(subject, items);
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  const told = pending;
  pending = new Map();
  for (const [subject, items] of told) {
    for (const then of listeners.get(subject) || []) then(items);
  }
  if (!isLost) return;
  isLost = false;
  for (const then of listeners.get("lost") || []) then();
}

/** Now by the daemon's clock, in milliseconds. */
export const daemonNow = () => Date.now() + store.daemonAhead;
