// Dark and light: as the system says, or as the reader chose for this browser.

import { byId, setText } from "./dom.js";

const KEY = "bief-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const SIGNS = { system: "◐", light: "☀", dark: "☾" };
const listeners = new Set();
const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    const kept = localStorage.getItem(KEY);
    return Object.hasOwn(NEXT, kept) ? kept : "system";
  } catch {
    // A browser may forbid keeping anything.
    return "system";
  }
}

/** For what is drawn rather than styled. */
export function whenThemeChanges(then) {
  listeners.add(then);
  return () => listeners.delete(then);
}

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const toggle = byId("theme");
  setText(toggle.firstElementChild, SIGNS[theme]);
  toggle.setAttribute("aria-label", `Colours: ${theme === "system" ? "as the system says" : theme}. Press for ${NEXT[theme]}.`);
  toggle.title = `Colours: ${theme === "system" ? "as the system" : theme}`;
  listeners.forEach((then) => then());
}

export function startTheme() {
  let theme = chosen();
  apply(theme);
  byId("theme").addEventListener("click", () => {
    theme = NEXT[theme];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Then it holds until the page is closed.
    }
    apply(theme);
  });
  systemIsDark.addEventListener("change", () => listeners.forEach((then) => then()));
}
