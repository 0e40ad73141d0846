// One dead letter: why it was set aside, its payload with the field marked, and what can be done with it.

import { button, element, group, notice, setText, show } from "./dom.js";
import { bytes, minute } from "./format.js";
import { faultOf, laidOut, parts, visible } from "./payload.js";

export class LetterView {
  constructor(host, actions) {
    this.host = host;
    this.actions = actions;
    /** Whether another may have changed the letter since it was read. */
    this.isOld = false;
    this.forget();
  }

  /** The editor is open, and its text is not the letter's any more. */
  get isEdited() {
    return this.editor !== null && !this.editor.hidden && this.editor.value !== this.unedited;
  }

  clear() {
    this.forget();
    this.host.replaceChildren(element("p", "quiet", "Choose a letter."));
  }

  /** The letter has ended, and with it what was written of it. */
  forget() {
    this.id = null;
    this.editor = null;
    this.unedited = "";
  }

  fail(text) {
    this.forget();
    this.host.replaceChildren(notice("bad", "This letter could not be read", text));
  }

  show(letter) {
    this.forget();
    this.id = letter.id;
    this.isOld = false;
    const title = element("h3", "letter-message", visible(letter.message));
    const facts = group(
      "dl",
      "pairs",
      ...[
        ["record", `${letter.topic}[${letter.partition}]@${letter.offset}`],
        ["field", letter.field ?? "–"],
        ["appended", letter.timestamp ? `${minute(Date.parse(letter.timestamp))} UTC` : "–"],
        ["set aside", `${minute(Date.parse(letter.stored_at))} UTC`],
        ["key", letter.key === null ? "none" : shownBytes(letter.key)],
        ["size", bytes(letter.bytes)],
        ["number", String(letter.id)],
      ].map(([name, value]) => group("div", "", element("dt", "", name), element("dd", "", value))),
    );
    this.host.replaceChildren(title, facts, ...this.payload(letter));
  }

  payload(letter) {
    if (letter.payload === null) {
      return [element("p", "quiet", "There is no payload: it was a tombstone, or too large to be kept. It can be dropped, not retried."), this.buttons(letter, null)];
    }
    if (letter.payload.base64 !== undefined) {
      return [element("p", "quiet", "The payload is no text; in base64:"), element("pre", "payload", letter.payload.base64), this.buttons(letter, null)];
    }
    const { text } = letter.payload;
    const shown = element("pre", "payload");
    shown.tabIndex = 0;
    shown.setAttribute("aria-label", "Payload");
    const [before, marked, after] = parts(text, letter.field, letter.message);
    shown.append(before);
    if (marked) shown.append(element("mark", "", marked));
    shown.append(after);
    const isMissing = letter.field && !marked;
    const remark = element("p", "quiet", isMissing ? `The field ${letter.field} is not in the payload.` : "");
    const editor = element("textarea", "payload-edit");
    editor.setAttribute("aria-label", "Payload, to be edited");
    editor.setAttribute("spellcheck", "false");
    editor.hidden = true;
    this.editor = editor;
    const fault = element("p", "error-text");
    editor.addEventListener("input", () => setText(fault, faultOf(editor.value)));
    const edit = button("", "Edit", () => {
      const isEditing = editor.hidden;
      show(editor, isEditing);
      show(shown, !isEditing);
      setText(edit, isEditing ? "Discard the edit" : "Edit");
      setText(fault, "");
      if (!isEditing) return;
      editor.value = laidOut(text);
      this.unedited = editor.value;
      editor.rows = Math.min(30, editor.value.split("\n").length + 1);
      editor.focus();
      if (marked) {
        const start = editor.value.indexOf(marked);
        if (start >= 0) editor.setSelectionRange(start, start + marked.length);
      }
    });
    // Scrolls into the payload's own box, so that the mark is seen.
    requestAnimationFrame(() => {
      const mark = shown.querySelector("mark");
      if (mark) shown.scrollTop = Math.max(0, mark.offsetTop - shown.offsetTop - shown.clientHeight / 2);
    });
    return [shown, editor, remark, fault, this.buttons(letter, () => (editor.hidden ? undefined : editor.value), edit)];
  }

  buttons(letter, payloadOf, ...more) {
    const ids = [letter.id];
    const retries = payloadOf
      ? [
          button("main", "Retry", () => this.actions.retry({ ids, size: 1, dryRun: false, payload: payloadOf() })),
          button("", "Try, change nothing", () => this.actions.retry({ ids, size: 1, dryRun: true, payload: payloadOf() })),
        ]
      : [];
    return group("div", "buttons", ...retries, ...more, button("risky", "Drop …", () => this.actions.drop({ ids, size: 1 })));
  }
}

function shownBytes(value) {
  return value.base64 === undefined ? visible(value.text) : `base64 ${value.base64}`;
}
