// The page's one event stream: kept open, taken up again where it ended, and replaced by asking now and then where too
// many pages are open. EventSource can show no token, so the stream is read from a fetch.

import { EventReader } from "./sse.js";

const POLL_MS = 2000; // where too many pages are open for an event stream of one's own
const POLLS = 15; // then the stream is tried again
const RETRY_MAX_MS = 15000; // between two tries to reach a daemon that is away; the first come sooner
const SILENCE_MS = 4000; // a status comes each second; after so long the daemon counts as gone
const GIVE_UP_MS = 10000; // and its stream as dead, also where no end of it came, as when a network went without a word

export class Connection {
  /**
   * `onEvent(type, document)`; `onState(state)` with connecting, live, polling, gone or token. Whoever missed events is
   * told so, `missed`: by the daemon, or here where there was no stream. `world` stands in for the browser in tests.
   */
  constructor({ request, onEvent, onState }, world = {}) {
    this.request = request;
    this.onEvent = onEvent;
    this.onState = onState;
    this.after = world.setTimeout || ((then, ms) => setTimeout(then, ms));
    this.cancel = world.clearTimeout || ((timer) => clearTimeout(timer));
    this.isHidden = world.isHidden || (() => document.hidden);
    this.now = world.now || Date.now;
    this.source = null;
    this.timer = null;
    this.retryMs = POLL_MS;
    this.lastId = null;
    this.lastHeard = 0;
    this.stirred = 0; // when the stream was asked for, or some of it came
    this.hasPolled = false;
    this.locked = false;
  }

  /** Reads the stream until it ends, then sees to the next. */
  async listen() {
    this.stop();
    const stream = new AbortController();
    this.source = stream;
    this.stirred = this.now();
    let full = false;
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.lastId !== null) headers["Last-Event-ID"] = this.lastId;
      const answer = await this.request("/events", { signal: stream.signal, headers });
      if (answer.status === 401) {
        if (this.source === stream) this.lock();
        return;
      }
      full = answer.status === 503;
      if (answer.ok) await this.read(answer.body, stream);
    } catch {
      // Gone, or stopped by ourselves; both are seen below.
    } finally {
      // Whatever ended it, the connection does not stay behind.
      stream.abort();
    }
    if (this.source !== stream) return;
    this.source = null;
    if (this.isHidden()) return;
    if (full) {
      this.poll(POLLS);
      return;
    }
    this.timer = this.after(() => this.listen(), this.retryMs);
    this.retryMs = Math.min(2 * this.retryMs, RETRY_MAX_MS);
  }

  async read(body, stream) {
    const events = new EventReader((type, data, id) => {
      if (this.source !== stream) return;
      const document = JSON.parse(data);
      if (id !== null) this.lastId = id;
      this.retryMs = POLL_MS;
      this.heard("live");
      // No stream tells what happened while the status alone was asked for.
      if (this.hasPolled && type !== "missed") this.onEvent("missed", null);
      this.hasPolled = false;
      this.onEvent(type, document);
    });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.stirred = this.now();
      events.push(value);
    }
  }

  /** Asks for the status, and so on until it was had so many times or the daemon is away; then listens again. */
  async poll(times) {
    let heard = false;
    try {
      const answer = await this.request("/status", { signal: AbortSignal.timeout(SILENCE_MS) });
      if (answer.status === 401) {
        this.lock();
        return;
      }
      if (answer.ok) {
        const document = await answer.json();
        this.hasPolled = true;
        this.heard("polling");
        this.onEvent("status", document);
        heard = true;
      }
    } catch {
      // The watch says that nothing was heard.
    }
    if (this.source || this.isHidden()) return;
    this.timer = this.after(() => (heard && times > 1 ? this.poll(times - 1) : this.listen()), POLL_MS);
  }

  heard(state) {
    this.lastHeard = this.now();
    this.onState(state);
  }

  /** Nothing is asked until `unlock`. */
  lock() {
    this.locked = true;
    this.stop();
    this.onState("token");
  }

  unlock() {
    this.locked = false;
    this.listen();
  }

  stop() {
    const stream = this.source;
    this.source = null;
    if (stream) stream.abort();
    this.cancel(this.timer);
  }

  /** A page that nobody sees asks for nothing. */
  visibilityChanged() {
    if (this.isHidden()) {
      this.stop();
    } else if (!this.locked) {
      // Silence while nobody listened says nothing of the daemon.
      if (this.lastHeard > 0) this.lastHeard = this.now();
      this.retryMs = POLL_MS;
      this.listen();
    }
  }

  /** To be called each second. */
  watch() {
    if (this.isHidden() || this.locked || this.now() - this.lastHeard < SILENCE_MS) return;
    this.onState(this.lastHeard === 0 ? "connecting" : "gone");
    if (this.source && this.now() - this.stirred >= GIVE_UP_MS) this.listen();
  }
}
