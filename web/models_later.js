// The tab Models, fetched when it is first opened: most who look at the page want none of it, and a first load is to be
// light.

import { byId, notice } from "./dom.js";

let part = null;
/** The query to show; null while another tab is looked at. */
let wanted = null;

export async function showModels(isShown, query) {
  wanted = isShown ? query : null;
  if (part) {
    part.showModels(isShown, query);
    return;
  }
  if (!isShown) return;
  byId("models-told").replaceChildren(notice("wait", "Fetching this part of the page …"));
  try {
    const fetched = await import("./models.js");
    // It may have been opened twice meanwhile.
    if (part) return;
    part = fetched;
    part.startModels();
  } catch {
    byId("models-told").replaceChildren(notice("bad", "This part of the page could not be fetched", "Reload the page when the daemon answers."));
    return;
  }
  byId("models-told").replaceChildren();
  if (wanted) part.showModels(true, wanted);
}

/** The daemon was restarted, or events were passed over. */
export function reloadModels() {
  if (part) part.reloadModels();
}
