// What the reasons of dead letters mean, and what helps. Pure.

const REASONS = {
  invalid_json: ["is not JSON", "Fix the producer, or edit the payload here."],
  not_an_object: ["is JSON, but no object", "Records are objects of fields; fix the producer, or edit the payload here."],
  invalid_utf8: ["is not UTF-8", "Fix the producer's encoding."],
  tombstone: ["has no payload", "Say in the stream's configuration what a tombstone means, or drop them."],
  missing_field: ["lacks a field", "Edit it in, or map the column to another field or none, then retry."],
  null_not_allowed: ["has a null where a value must be", "Edit it, or let the column be null, then retry."],
  wrong_type: ["has a value of another kind than its column", "Edit it, or change the column or the mapping, then retry."],
  out_of_range: ["has a number that its column can't hold", "Edit it, or widen the column, then retry."],
  too_long: ["has a text longer than its column", "Edit it, or widen the column, then retry."],
  not_encodable: ["has characters that its column's character set lacks", "Make the column utf8mb4, then retry."],
  invalid_time: ["has a date or time that is none", "Edit it, then retry."],
  record_too_large: ["is larger than the stream's limit", "Its payload was not kept: raise max_record_bytes and reset the offset, or drop it."],
  foreign_key: ["points at a row that is not there", "When that row has come, retry."],
  check: ["is refused by a CHECK of the table", "Edit it, or change the constraint, then retry."],
  unique_key: ["clashes with another row's unique value", "Edit one of the two, then retry."],
  refused: ["is refused by the database", "The database's own words are below; when their cause is gone, retry."],
};

/** `[what is so, what helps]` */
export const meaningOf = (reason) => REASONS[reason] || ["was set aside", "When its cause is gone, retry."];

/** What a retry came to, in a sentence. */
export function outcomeOf(retried) {
  const number = (n, one, many = one) => (n > 0 ? `${n.toLocaleString("en")} ${n === 1 ? one : many}` : "");
  const told = [
    number(retried.applied, retried.dry_run ? "would be applied" : "applied"),
    number(retried.duplicates, retried.dry_run ? "would change nothing" : "changed nothing and ended"),
    number(retried.refused, "refused again"),
    number(retried.without_payload, "without a payload stays", "without a payload stay"),
    number(retried.without_stream, "of a topic that no stream reads stays", "of a topic that no stream reads stay"),
    number(retried.read_again, "is read again from the topic: drop it", "are read again from the topic: drop them"),
    number(retried.unanswered, "ended in a commit whose answer was lost; the ledger has it", "ended in commits whose answers were lost; the ledger has them"),
    number(retried.gone, "was taken by another meanwhile", "were taken by another meanwhile"),
  ].filter(Boolean);
  return told.length > 0 ? told.join(", ") : "nothing to do";
}

/** Whether letters are left as they were, or with another reason, after a retry or drop. */
export const leavesSome = (sum) => [sum.refused, sum.without_payload, sum.without_stream, sum.read_again].some((n) => n > 0);

/** Sums of two answers to the same request, when it took several. */
export function together(a, b) {
  if (!a) return b;
  const sum = { ...b };
  for (const [name, value] of Object.entries(b)) if (typeof value === "number") sum[name] = value + (a[name] || 0);
  if (a.refusals) sum.refusals = [...a.refusals, ...b.refusals].slice(0, 100);
  return sum;
}
