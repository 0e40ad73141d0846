// style.css: colours of series, as people see them whose eyes lack one kind of cones (Machado, Oliveira and Fernandes 2009).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const SEEN = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

const linear = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
const seen = (rgb, matrix) => matrix.map((row) => Math.min(1, Math.max(0, row.reduce((sum, m, at) => sum + m * rgb[at], 0))));
const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

/** CIE 1976 L*a*b*, in which distances are about as people see them. */
function lab([r, g, b]) {
  const f = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(luminance([r, g, b]));
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const style = readFileSync(new URL("../style.css", import.meta.url), "utf8");
const themes = style.split("--paper:").slice(1).map((text) => ({
  card: /--card: (#[0-9a-f]{6})/.exec(text)[1],
  series: [...text.split("}")[0].matchAll(/--s\d: (#[0-9a-f]{6})/g)].map(([, hex]) => hex),
}));

test("the first four series are told apart by every eye, and all stand out from the card", () => {
  assert.equal(themes.length, 3);
  assert.deepEqual(themes[1], themes[2], "dark is the same whoever chose it");
  for (const { card, series } of themes) {
    assert.equal(series.length, 8);
    for (const hex of series) {
      const [low, high] = [luminance(linear(hex)), luminance(linear(card))].sort((a, b) => a - b);
      assert.ok((high + 0.05) / (low + 0.05) >= 3, `${hex} on ${card}`);
    }
    for (const [eye, matrix] of Object.entries(SEEN)) {
      const colours = series.slice(0, 4).map((hex) => lab(seen(linear(hex), matrix)));
      colours.forEach((one, at) => colours.slice(0, at).forEach((other, before) => {
        const distance = Math.hypot(...one.map((c, n) => c - other[n]));
        assert.ok(distance >= 25, `${eye}: ${series[before]} and ${series[at]} are ${distance.toFixed(0)} apart`);
      }));
    }
  }
});
