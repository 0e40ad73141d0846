// How far a forecast is off, for each horizon: live beside the holdout beside the naive forecasts, and what that means.

import { element, group, keyed, mark, place, setText, setTone, svg } from "./dom.js";
import { spoken, withUnit } from "./format.js";
import { ahead, errorBars, liveWords, naiveWords, otherScores, scoresOf } from "./models_data.js";

const sentence = () => group("p", "verdict-line", mark(), element("span"));

function say(line, [tone, words]) {
  setTone(line, tone);
  setText(line.lastElementChild, words);
}

/** A card for each horizon; `chosen` is the one whose forecasts are drawn. */
export function drawErrors(host, forecast, chosen) {
  const cards = keyed(host, forecast.horizons.map(({ horizon }) => `${forecast.name}/${horizon}`), () =>
    group("div", "card horizon", group("div", "head", element("h3"), element("span", "quiet about")), sentence(), sentence(), element("ol", "bars"), element("p", "quiet")),
  );
  forecast.horizons.forEach((horizon, at) => {
    const [head, live, naive, bars, others] = cards[at].children;
    const scores = scoresOf(horizon);
    cards[at].classList.toggle("chosen", horizon.horizon === chosen);
    setText(head.firstElementChild, ahead(horizon.horizon));
    setText(head.lastElementChild, `mean absolute error of ${spoken(forecast.target)}`);
    say(live, liveWords(horizon.live, forecast.drift?.least));
    say(naive, scores ? naiveWords(scores) : ["wait", "no model yet, so no holdout"]);
    drawBars(bars, errorBars(horizon.live, scores));
    setText(others, otherScores(scores, forecast.interval));
  });
}

/** Bars lying down, in the order given. */
function drawBars(list, all) {
  const most = Math.max(...all.map(({ value }) => value), Number.MIN_VALUE);
  const rows = keyed(list, all.map(({ name }) => name), () => {
    const bar = place(svg("svg", "bar"), { viewBox: "0 0 100 10" });
    bar.setAttribute("preserveAspectRatio", "none");
    bar.setAttribute("aria-hidden", "true");
    bar.append(place(svg("rect"), { x: 0, y: 0, height: 10, width: 0 }));
    return group("li", "", element("span", "bar-name"), bar, element("b"));
  });
  all.forEach(({ name, value, kind }, at) => {
    const [label, bar, number] = rows[at].children;
    rows[at].className = `error-${kind}`;
    setText(label, name);
    place(bar.firstElementChild, { width: (value / most) * 100 });
    setText(number, withUnit(value));
  });
}
