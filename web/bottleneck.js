// What holds a stream up, in a sentence. Pure.

import { count, duration, percent } from "./format.js";

/** `[tone, sentence]` */
export function sentenceOf(stream) {
  const { totals, in_doubt: doubts, bottleneck, troubles = [], stages = [] } = stream;
  const name = stream.stream;
  if (doubts.length > 0) return ["bad", `${name} stands still: ${count(doubts.length)} of its partitions are in doubt. Run “bief offsets show”.`];
  if (bottleneck) return [bottleneck.share >= 0.5 ? "bad" : "wait", `${name}: ${bottleneck.sentence}${/[.!?]$/.test(bottleneck.sentence) ? "" : "."}`];
  if (troubles.length > 0) return ["bad", `${name}: ${troubles[0].actor} waits. ${troubles[0].cause}`];
  if (totals.partitions === 0) return ["wait", `${name} holds no partition here yet.`];
  if (totals.caught_up === totals.partitions || totals.lag === 0) return ["good", `Nothing holds ${name} up: it is caught up, at ${count(Math.round(totals.records_per_second))} records/s${busiest(stages)}.`];
  const pace = totals.records_per_second;
  // What is on its way at any moment is no backlog.
  if (totals.lag <= 2 * pace) return ["good", `Nothing holds ${name} up: it keeps up with ${count(Math.round(pace))} records/s${busiest(stages)}.`];
  if (pace < 1) return ["wait", `${name} is ${count(totals.lag)} offsets behind and nothing was committed in the last seconds.`];
  return ["good", `Nothing holds ${name} up: ${count(totals.lag)} offsets behind, at ${count(Math.round(pace))} records/s${busiest(stages)}. About ${duration(Math.ceil(totals.lag / pace))} at this pace.`];
}

function busiest(stages) {
  const worst = stages.reduce((most, stage) => (stage.busy > (most?.busy ?? 0) ? stage : most), null);
  return worst ? `, its ${worst.stage} busy ${percent(worst.busy)} of the last minute` : "";
}
