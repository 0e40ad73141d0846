// Colours of series, from the style sheet (--s0 to --s7). The first four can be told apart with any kind of colour
// blindness, as a test computes; from the fifth on dashes tell too.

import { whenThemeChanges } from "./theme.js";

const PALETTE_SIZE = 8;
const DASHES = [[], [], [], [], [8, 4], [3, 3], [10, 3, 3, 3], [6, 6]];

const read = new Map();
whenThemeChanges(() => read.clear());

/** A colour of the style sheet, by its name without the dashes. */
export function styleColour(name) {
  if (!read.has(name)) read.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return read.get(name);
}

export const seriesColour = (index) => styleColour(`s${index % PALETTE_SIZE}`);
export const seriesDash = (index) => DASHES[index % PALETTE_SIZE];

/** The same colour, less of it. */
export function faint(colour, share) {
  const alpha = Math.round(share * 255).toString(16).padStart(2, "0");
  return /^#[0-9a-f]{6}$/i.test(colour) ? `${colour}${alpha}` : colour;
}
