// The versions of a forecast's model: a table of them, page by page, and one in detail, beside the champion that it was
// judged against on the same holdout.

import { explained, get, withQuery } from "./api.js";
import { button, element, group, keyed, mark, notice, setText, setTone, show } from "./dom.js";
import { count, figure, minute, percent } from "./format.js";
import { ahead, championOf, scoresOf, verdictOf } from "./models_data.js";

const PAGE = 20;

const when = (text) => minute(Date.parse(text));

export class Versions {
  /** `onChoose(version)`: a row was pressed. `onOtherChampion()`: the forecast that was given is behind its versions. */
  constructor(host, onChoose, onOtherChampion) {
    this.onChoose = onChoose;
    this.onOtherChampion = onOtherChampion;
    this.forecast = null;
    this.byNumber = new Map();
    this.next = null;
    this.chosen = null;
    this.generation = 0;

    this.told = element("div", "versions-told");
    this.heading = element("tr");
    this.body = element("tbody");
    this.more = button("more", "Older", () => this.read(this.next));
    this.table = group("table", "versions", element("caption", "unseen", "Versions of the model"), group("thead", "", this.heading), this.body);
    this.scroll = group("div", "scroll versions-table", this.table, this.more);
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-label", "Versions of the model");
    this.detail = element("div", "version-detail");
    host.append(this.told, this.scroll, this.detail);
    [this.scroll, this.detail].forEach((node) => show(node, false));
  }

  /** Another forecast's, or the newest of the same again. */
  load(forecast) {
    if (forecast.name !== this.forecast?.name) {
      this.byNumber.clear();
      this.next = null;
      this.body.replaceChildren();
      this.told.replaceChildren(notice("wait", "Reading the versions …"));
      [this.scroll, this.detail].forEach((node) => show(node, false));
    }
    this.forecast = forecast;
    return this.read(null);
  }

  async read(after) {
    this.generation += 1;
    const generation = this.generation;
    try {
      const page = await get(withQuery("/api/v1/models", { forecast: this.forecast.name, limit: PAGE, after }));
      if (generation !== this.generation) return;
      // Read again from the top, what was paged to stays; what is not known to be joined to it does not.
      const isJoined = after !== null || page.models.some(({ version }) => this.byNumber.has(version));
      if (!isJoined) this.byNumber.clear();
      if (after !== null || !isJoined) this.next = page.next ?? null;
      for (const model of page.models) this.byNumber.set(model.version, model);
      this.told.replaceChildren();
      this.draw();
      const champion = page.models.find((model) => model.champion);
      if (champion && champion.version !== championOf(this.forecast)?.version) this.onOtherChampion();
    } catch (error) {
      if (generation !== this.generation) return;
      this.told.replaceChildren(notice("bad", "The versions could not be read", explained(error)));
    }
  }

  choose(version) {
    this.chosen = version;
    this.draw();
  }

  draw() {
    const models = [...this.byNumber.values()].sort((a, b) => b.version - a.version);
    const isEmpty = models.length === 0;
    show(this.scroll, !isEmpty);
    show(this.more, this.next !== null);
    show(this.detail, !isEmpty);
    if (isEmpty) {
      if (this.forecast && this.told.children.length === 0) this.told.replaceChildren(notice("wait", "No version yet", howToTrain(this.forecast)));
      return;
    }
    const horizons = this.forecast.horizons.map(({ horizon }) => horizon);
    const titles = ["version", "", "trained", "history", ...horizons.flatMap((h) => [`MAE, ${ahead(h)}`, "R²"]), "bief", "input"];
    const heads = keyed(this.heading, titles.map((title, index) => `${index}-${title}`), () => element("th"));
    titles.forEach((title, index) => {
      heads[index].scope = "col";
      heads[index].className = index >= 4 && index < 4 + 2 * horizons.length ? "n" : "";
      setText(heads[index], title);
    });
    const chosen = this.byNumber.get(this.chosen) || models[0];
    // Only the list knows who forecasts now: a version that was read before may have been replaced since.
    const champion = championOf(this.forecast)?.version;
    const rows = keyed(this.body, models.map(({ version }) => `v-${version}-${horizons.length}`), () => this.makeRow(horizons.length));
    models.forEach((model, index) => this.drawRow(rows[index], model, { horizons, champion, isChosen: model === chosen }));
    drawDetail(this.detail, chosen, this.forecast, champion);
  }

  makeRow(horizons) {
    const press = button("link-button", "", () => this.onChoose(Number(row.dataset.key.split("-")[1])));
    const head = group("th", "", press);
    head.scope = "row";
    const status = element("td");
    const cells = [element("td"), element("td"), ...Array.from({ length: 2 * horizons }, () => element("td", "n")), element("td"), element("td", "hash")];
    const row = group("tr", "", head, status, ...cells);
    return row;
  }

  drawRow(row, model, { horizons, champion, isChosen }) {
    const [head, status, trained, history, ...rest] = row.children;
    row.classList.toggle("pointed", isChosen);
    head.firstElementChild.setAttribute("aria-pressed", String(isChosen));
    setText(head.firstElementChild, String(model.version));
    const isChampion = champion === undefined ? model.champion : model.version === champion;
    const isFormer = !isChampion && Boolean(model.promoted_at);
    setText(status, isChampion ? "champion" : isFormer ? "was champion" : "not promoted");
    status.className = isChampion ? "champion" : "quiet";
    status.title = model.promoted_at ? `promoted ${when(model.promoted_at)}` : "";
    setText(trained, when(model.trained_at));
    setText(history, model.data ? `${when(model.data.from)} to ${when(model.data.to)}` : "–");
    horizons.forEach((horizon, index) => {
      const scores = scoresOf(model.horizons?.find((one) => one.horizon === horizon));
      setText(rest[2 * index], figure(scores?.mae));
      setText(rest[2 * index + 1], figure(scores?.r2));
    });
    setText(rest[rest.length - 2], String(model.code_version ?? "–"));
    setText(rest[rest.length - 1], String(model.input_hash ?? "–").slice(0, 12));
    rest[rest.length - 1].title = String(model.input_hash ?? "");
  }
}

export function howToTrain({ train_at: trainAt }) {
  return trainAt ? `The first is trained at the times of train_at = "${trainAt}" (UTC), or at once by \`bief train\`.` : "Train the first with `bief train`, or give the forecast a train_at in the configuration.";
}

let drawn = "";

/** One version beside the naive forecasts, and beside the champion of its day. */
function drawDetail(host, model, forecast, champion) {
  // Made again only when it changes, so that it keeps its place while it is read.
  const sign = JSON.stringify([model, forecast.name, forecast.interval, champion]);
  if (drawn === sign && host.children.length > 0) return;
  drawn = sign;
  const title = element("h3", "", `Version ${model.version}`);
  const what = model.version === champion ? "forecasts now" : "does not forecast";
  const promoted = model.promoted_at ? `, promoted ${when(model.promoted_at)}` : "";
  const parts = [group("div", "head", title, element("span", "quiet about", `${what}${promoted}; input ${model.input_hash ?? "unknown"}`))];
  const { contest } = model;
  const why = verdictOf(model);
  if (why) {
    const isPromoted = contest ? contest.promote : Boolean(model.promoted_at);
    const told = group("p", "verdict-line", mark(), element("span", "", `${isPromoted ? "Promoted" : "Not promoted"}: ${why}`));
    setTone(told, isPromoted ? "good" : "wait");
    parts.push(told);
  }
  if (contest) {
    const rows = contest.horizons.map((one) => [ahead(one.horizon), figure(one.challenger), one.champion === null ? "–" : figure(one.champion), one.persistence ? figure(one.persistence[0]) : "–", count(one.rows)]);
    if (rows.length > 0) parts.push(smallTable("Challenger and champion on the same holdout, MAE", ["", "this version", "the champion then", "persistence", "rows"], rows));
  }
  const known = (model.horizons || []).map((one) => ({ ...one, scores: scoresOf(one) })).filter(({ scores }) => scores);
  const names = [...new Set(known.flatMap(({ scores }) => scores.naive.map(({ name }) => name)))];
  const rows = known.map(({ horizon, scores, features }) => {
    const naive = names.map((name) => figure(scores.naive.find((one) => one.name === name)?.mae));
    const covers = scores.coverage === null ? "–" : percent(scores.coverage);
    return [ahead(horizon), figure(scores.mae), ...naive, figure(scores.rmse), figure(scores.r2), figure(scores.mase), covers, count(Array.isArray(features) ? features.length : (features ?? null))];
  });
  if (rows.length > 0) {
    const titles = ["", "MAE", ...names, "RMSE", "R²", "MASE", `covered by the ${figure(forecast.interval * 100)} % interval`, "features"];
    parts.push(smallTable("Its own holdout, beside the naive forecasts' MAE", titles, rows));
  }
  host.replaceChildren(...parts);
}

function smallTable(caption, titles, rows) {
  const heads = titles.map((title, index) => {
    const head = element("th", index === 0 ? "" : "n", title);
    head.scope = "col";
    return head;
  });
  const made = rows.map(([first, ...others]) => {
    const head = element("th", "", first);
    head.scope = "row";
    return group("tr", "", head, ...others.map((text) => element("td", "n", text)));
  });
  const table = group("table", "", element("caption", "", caption), group("thead", "", group("tr", "", ...heads)), group("tbody", "", ...made));
  const scroll = group("div", "scroll", table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", caption);
  return scroll;
}
