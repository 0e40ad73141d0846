// What is looked at, kept in the address, so that a reload or a link shows the same: `#explore?aggregate=…&from=…`.

export const TABS = ["live", "explore", "pipeline", "letters", "models"];

/** `{tab, query}` of an address's hash; what is no view of ours is the first tab. Pure. */
export function parseView(hash) {
  const text = hash.startsWith("#") ? hash.slice(1) : hash;
  const [name, rest] = [text.split("?", 1)[0], text.slice(text.indexOf("?") + 1 || text.length)];
  const tab = TABS.includes(name) ? name : TABS[0];
  const query = {};
  for (const [key, value] of new URLSearchParams(tab === name ? rest : "")) query[key] = value;
  return { tab, query };
}

/** The hash of a view; what is empty is left out. Pure. */
export function formatView({ tab, query }) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(kept).toString();
  return `#${tab}${text ? `?${text}` : ""}`;
}

/** Lists in one value, as `a,b`; a comma or backslash within a part has a backslash before it. Pure. */
export const joinList = (parts) => parts.map((part) => String(part).replace(/[\\,]/g, "\\$&")).join(",");

export function splitList(text) {
  if (!text) return [];
  const parts = [""];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\" && at + 1 < text.length) parts[parts.length - 1] += text[(at += 1)];
    else if (text[at] === ",") parts.push("");
    else parts[parts.length - 1] += text[at];
  }
  return parts;
}

export const currentView = () => parseView(window.location.hash);

/** Puts a view into the address; a new tab can be gone back from, a change within one replaces what was there. */
export function writeView(view) {
  const hash = formatView(view);
  if (hash === window.location.hash) return;
  if (view.tab === currentView().tab) window.history.replaceState(null, "", hash);
  else window.history.pushState(null, "", hash);
}

export function whenViewChanges(then) {
  window.addEventListener("hashchange", () => then(currentView()));
}
