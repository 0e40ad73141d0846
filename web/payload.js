// A payload as it is read: laid out, with the place that is wrong marked. Pure.

/**
 * Where the value of a top-level field (or of `a.b`, step by step) stands in a JSON text: `{start, end}` of name and
 * value, or null. The text need not be whole: what comes before its fault is found.
 */
export function fieldSpan(text, field) {
  let found = null;
  let at = 0;
  const space = () => {
    while (at < text.length && " \t\r\n".includes(text[at])) at += 1;
  };
  const string = () => {
    const start = at;
    at += 1;
    while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    at += 1;
    return text.slice(start, at);
  };
  const value = (path) => {
    space();
    if (text[at] === "{") return members(path);
    if (text[at] === "[") return items(path);
    if (text[at] === '"') return string();
    while (at < text.length && !",]}".includes(text[at])) at += 1;
    return null;
  };
  const members = (path) => {
    at += 1;
    for (;;) {
      space();
      if (text[at] !== '"') break;
      const start = at;
      let name;
      try {
        name = JSON.parse(string());
      } catch {
        break;
      }
      space();
      if (text[at] !== ":") break;
      at += 1;
      const here = path === null ? name : `${path}.${name}`;
      value(here);
      let end = Math.min(at, text.length);
      while (end > start && " \t\r\n".includes(text[end - 1])) end -= 1;
      // The last of two with one name counts, as it does for the decoder.
      if (here === field) found = { start, end };
      space();
      if (text[at] !== ",") break;
      at += 1;
    }
    if (text[at] === "}") at += 1;
  };
  const items = (path) => {
    at += 1;
    for (let guard = 0; guard < text.length; guard += 1) {
      space();
      if (at >= text.length || text[at] === "]") break;
      const before = at;
      value(path);
      space();
      if (text[at] === ",") at += 1;
      else if (at === before) break;
    }
    if (text[at] === "]") at += 1;
  };
  if (field !== null && field !== undefined) {
    try {
      value(null);
    } catch {
      // Nested deeper than anyone writes.
    }
  }
  return found;
}

/** Laid out where it is JSON; numbers keep their digits, since only blanks are put in. */
export function laidOut(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at];
    if (inString) {
      out += c;
      if (c === "\\") out += text[(at += 1)];
      else if (c === '"') inString = false;
    } else if (c === '"') {
      inString = true;
      out += c;
    } else if (c === "{" || c === "[") {
      const empty = /^\s*[}\]]/.exec(text.slice(at + 1, at + 64));
      if (empty) {
        out += c + empty[0].trim();
        at += empty[0].length;
      } else {
        depth += 1;
        out += `${c}\n${"  ".repeat(depth)}`;
      }
    } else if (c === "}" || c === "]") {
      depth -= 1;
      out += `\n${"  ".repeat(depth)}${c}`;
    } else if (c === ",") {
      out += `,\n${"  ".repeat(depth)}`;
    } else if (c === ":") {
      out += ": ";
    } else if (!" \t\r\n".includes(c)) {
      out += c;
    }
  }
  return out;
}

/** Characters that are not seen or change the order of others, as what they are: `⟨U+202E⟩`. */
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Where a reader of JSON gave up, out of its words `at line 1 column 118` (columns are bytes, from 1); null without. */
export function faultSpan(text, message) {
  const found = /\bline (\d+) column (\d+)/.exec(message || "");
  if (!found) return null;
  const before = text.split("\n").slice(0, Number(found[1]) - 1);
  const line = text.split("\n")[before.length];
  if (line === undefined) return null;
  const bytes = new TextEncoder().encode(line);
  const within = new TextDecoder().decode(bytes.slice(0, Math.max(0, Number(found[2]) - 1))).length;
  const start = before.reduce((sum, one) => sum + one.length + 1, 0) + within;
  return { start: Math.min(start, text.length), end: Math.min(start + 1, text.length) };
}

/** `[before, marked, after]`; where nothing is to be marked all is before. */
export function parts(text, field, message) {
  const shown = laidOut(text);
  const span = fieldSpan(shown, field) || (shown === text && !field ? faultSpan(text, message) : null);
  if (!span) return [visible(shown), "", ""];
  const marked = visible(shown.slice(span.start, span.end)) || "⟨ends here⟩";
  return [visible(shown.slice(0, span.start)), marked, visible(shown.slice(span.end))];
}

/** What the daemon takes of a request's body. */
const MOST_BODY_BYTES = 65536;

/** Bytes of a retry with this text, its number the longest: quotes and line breaks take more in JSON than in the text. */
function bodyBytes(text) {
  const body = { ids: [Number.MAX_SAFE_INTEGER], overwrite: false, dry_run: false, payload: text };
  return new TextEncoder().encode(JSON.stringify(body)).length;
}

/** Why a text can't be sent in place of a payload, or "". */
export function faultOf(text) {
  const sent = bodyBytes(text);
  if (sent > MOST_BODY_BYTES) {
    return `This is longer than can be sent from here: ${sent.toLocaleString("en")} bytes as a request, of at most ${MOST_BODY_BYTES.toLocaleString("en")}. Take out line breaks and blanks, or shorten it.`;
  }
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? "" : "This is JSON, but no object: the decoder wants { … }.";
  } catch (error) {
    return `This is no JSON: ${error.message}`;
  }
}
