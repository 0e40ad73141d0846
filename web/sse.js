// The text of an event stream cut into events, as the standard on server-sent events says. Pure.

/** More than this without an event's end is no stream of ours; it is let go rather than kept. */
const MAX_EVENT_CHARS = 16 << 20;

/** Gives each whole event to `onEvent(type, data, id)`; `id` is null where the event has none. */
export class EventReader {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.reset();
  }

  reset() {
    this.type = "message";
    this.data = [];
    this.id = null;
  }

  push(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    if (this.rest.length > MAX_EVENT_CHARS) throw new Error("an event without an end");
    for (const line of lines) this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length > 0) this.onEvent(this.type, this.data.join("\n"), this.id);
      this.reset();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "event") this.type = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id") this.id = value;
  }
}
