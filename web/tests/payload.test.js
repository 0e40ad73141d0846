// payload.js: a payload from anyone, laid out and marked.

import assert from "node:assert/strict";
import { test } from "node:test";
import { faultOf, faultSpan, fieldSpan, laidOut, parts, visible } from "../payload.js";

const marked = (text, field) => {
  const span = fieldSpan(text, field);
  return span && text.slice(span.start, span.end);
};

test("the field is found wherever it stands, the last of two, and in a text that breaks off", () => {
  assert.equal(marked('{"a": 1, "b": "x,\\"}y", "c": [1, {"b": 2}]}', "b"), '"b": "x,\\"}y"');
  assert.equal(marked('{"a":{"b":[1,2]},"b":3}', "b"), '"b":3');
  assert.equal(marked('{"a":{"b":[1,2]},"b":3}', "a.b"), '"b":[1,2]');
  assert.equal(marked('{"b":1,"b":2}', "b"), '"b":2');
  assert.equal(marked('{"\\u0062": 5}', "b"), '"\\u0062": 5');
  assert.equal(marked('{"a":1,"b":"unfinis', "b"), '"b":"unfinis');
  assert.equal(marked('{"a":1}', "b"), null);
  assert.equal(marked("no json at all", "b"), null);
  assert.equal(marked('{"a":1}', null), null);
});

test("hostile texts end", () => {
  for (const text of ["[".repeat(5000), "{".repeat(5000), '{"a":'.repeat(5000), "[[[]]]]]]", '{"', '{"a"', '{"a":', "[1,,,]", ",", "\\", '"', '[{"a":1]', "[}"]) {
    fieldSpan(text, "a");
    laidOut(text);
    parts(text, "a");
  }
});

test("laying out changes blanks alone: numbers keep their digits", () => {
  const text = '{"n":12345678901234567890.10,"e":{},"l":[1, 2],"s":"a: {b, c}"}';
  const shown = laidOut(text);
  assert.equal(shown.replaceAll(/\n\s*/g, ""), '{"n": 12345678901234567890.10,"e": {},"l": [1,2],"s": "a: {b, c}"}');
  assert.equal(laidOut(shown), shown);
  assert.equal(laidOut("{broken"), "{broken");
});

test("what is not seen is shown as what it is", () => {
  assert.equal(visible("a\u202egnp.exe\u0000\u200b\n"), "a⟨U+202E⟩gnp.exe⟨U+0000⟩⟨U+200B⟩\n");
  assert.deepEqual(parts('{"a":1,"b":2}', "b"), ['{\n  "a": 1,\n  ', '"b": 2', "\n}"]);
});

test("where a reader of JSON gave up is marked", () => {
  const says = (line, column) => `the payload is not JSON: expected value at line ${line} column ${column}`;
  assert.deepEqual(parts('{"a": x}', null, says(1, 7)), ['{"a": ', "x", "}"]);
  assert.deepEqual(parts('{"é": x}', null, says(1, 8)), ['{"é": ', "x", "}"], "columns are bytes");
  assert.deepEqual(parts('{\n"a": x}', null, says(2, 6)), ['{\n"a": ', "x", "}"]);
  assert.deepEqual(parts('{"a"', null, says(1, 5)), ['{"a"', "⟨ends here⟩", ""]);
  assert.deepEqual(parts('{"a"', null, says(9, 5)), ['{"a"', "", ""]);
  assert.equal(faultSpan("x", "no place"), null);
});

test("a text that can't be sent in place of a payload is told before", () => {
  assert.equal(faultOf('{"a":1}'), "");
  assert.match(faultOf("[1]"), /no object/);
  assert.match(faultOf("{"), /no JSON/);
  assert.match(faultOf(JSON.stringify({ a: "é".repeat(40000) })), /longer/);
});

test("how long a text may be is measured as it is sent, its quotes escaped", () => {
  const sent = (text) => new TextEncoder().encode(JSON.stringify({ ids: [42], overwrite: false, dry_run: false, payload: text })).length;
  const quotes = JSON.stringify({ a: Array.from({ length: 9000 }, () => "xyz") });
  assert.ok(quotes.length < 60000 && sent(quotes) > 65536);
  assert.match(faultOf(quotes), /longer.*72,\d{3} bytes.*65,536/);
  const plain = JSON.stringify({ a: "x".repeat(65000) });
  assert.ok(sent(plain) < 65536);
  assert.equal(faultOf(plain), "", "what fits is let through");
});
