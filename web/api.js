// Asking the daemon. The token is kept for this tab alone and sent as a header, never as a cookie: no other site can
// make a browser send it along.

const TOKEN_KEY = "bief-token";

/** The daemon's refusal, in its own words. */
class Refused extends Error {
  constructor(status, title, detail, retryAfter) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail || "";
    this.retryAfter = retryAfter;
  }
}

/** Called when the daemon wants the token, or another one. */
let onTokenWanted = () => {};
/** Nothing but the stream is asked for until there is a token to show. */
let isLocked = false;

export function whenTokenIsWanted(then) {
  onTokenWanted = then;
}

export const hasToken = () => sessionStorage.getItem(TOKEN_KEY) !== null;

export function forgetToken() {
  isLocked = true;
  sessionStorage.removeItem(TOKEN_KEY);
}

/** False where it could not be sent in a header, and so can't be one. */
export function keepToken(token) {
  if (!/^[\x21-\x7e]+$/.test(token)) return false;
  sessionStorage.setItem(TOKEN_KEY, token);
  isLocked = false;
  return true;
}

/** A path of the daemon's, written out but for its values, which are encoded. */
export function at(parts, ...values) {
  return parts.reduce((path, part, index) => path + encodeURIComponent(String(values[index - 1])) + part);
}

/** The same with a query; null and undefined are left out, an array is said once a value. */
export function withQuery(path, query) {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((one) => one !== null && one !== undefined && one !== "")
      .map((one) => `${encodeURIComponent(name)}=${encodeURIComponent(String(one))}`),
  );
  return pairs.length > 0 ? `${path}?${pairs.join("&")}` : path;
}

export function request(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { cache: "no-cache", credentials: "omit", redirect: "error", ...options, headers });
}

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // A proxy's own words are no problem document.
  }
  const wait = Number(answer.headers.get("retry-after"));
  return new Refused(answer.status, String(problem.title || `Status ${answer.status}`), problem.detail ? String(problem.detail) : "", wait);
}

async function json(answer) {
  if (answer.status === 401) onTokenWanted();
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

function refuseWhileLocked() {
  if (isLocked) throw new Refused(401, "Token needed", "Log in first.", 0);
}

export async function get(path) {
  refuseWhileLocked();
  return json(await request(path));
}

export async function post(path, body) {
  refuseWhileLocked();
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return json(await request(path, options));
}

/** What went wrong and what to do, for people. */
export function explained(error) {
  if (error instanceof Refused) return error.detail || error.title;
  if (error instanceof SyntaxError) return "The daemon's answer could not be read; report it.";
  return "The daemon did not answer. It is asked again when it is back.";
}

/** When a change that was refused can be tried again. */
export function whenAgain(error) {
  return error instanceof Refused && error.retryAfter > 0 ? ` Try again in ${Math.ceil(error.retryAfter)} s.` : "";
}

/** Seconds after which a change that came too soon is let in; 0 where something else is wrong. */
export const tooSoonFor = (error) => (error instanceof Refused && error.status === 429 && error.retryAfter > 0 ? error.retryAfter : 0);
