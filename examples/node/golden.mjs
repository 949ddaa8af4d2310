/** Golden vectors: queries that prove that a port decides like querytier. */

import { tierOf } from "./decision.mjs";
import { textView } from "./text_view.mjs";

/**
 * Replay the golden vectors.
 *
 * @param {import("./classifier.mjs").Classifier} classifier
 * @param {string} golden The text of `golden.jsonl`.
 * @returns {Promise<object>} The number of `vectors`, the `largest` difference of a score, the number
 *   `beyond` the usual difference, the median milliseconds of a decision, and the `mismatches`.
 */
export async function replay(classifier, golden) {
  const vectors = golden
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const answers = [];
  for (const vector of vectors) {
    answers.push(await answerTo(classifier, vector.query));
  }
  const differences = vectors.map((vector, at) => difference(vector, answers[at]));
  const { tolerance } = classifier.manifest;
  return {
    vectors: vectors.length,
    largest: differences.reduce((most, one) => Math.max(most, one), 0),
    beyond: differences.filter((one) => !(one <= tolerance.difference)).length,
    milliseconds: median(answers.filter(({ view }) => view).map((one) => one.milliseconds)),
    mismatches: [
      ...vectors.flatMap((vector, at) => unequal(vector, answers[at], classifier.manifest)),
      ...straying(vectors, differences, tolerance),
    ],
  };
}

async function answerTo(classifier, query) {
  const { fallback_tier: fallbackTier, threshold } = classifier.manifest;
  const started = performance.now();
  const view = textView(query);
  if (!view) {
    return { view, token_ids: [], p_frontier: null, decision_score: null, tier: fallbackTier };
  }
  const scores = await classifier.scores(view);
  const milliseconds = performance.now() - started;
  const tier = tierOf(scores.decision_score, threshold);
  return { view, token_ids: await classifier.tokenIds(view), ...scores, tier, milliseconds };
}

/** Return how far scores are from a golden vector; 0 if neither has any. */
function difference(vector, answer) {
  if (vector.p_frontier === null && answer.p_frontier === null) {
    return 0;
  }
  return Math.max(
    ...["p_frontier", "decision_score"].map((name) =>
      Math.abs((vector[name] ?? NaN) - (answer[name] ?? NaN)),
    ),
  );
}

/** Compare view and token ids, and the tier unless the score is close to the threshold. */
function unequal(vector, answer, { threshold, tolerance }) {
  const isClose =
    vector.decision_score !== null &&
    Math.abs(vector.decision_score - threshold) <= tolerance.largest;
  return ["view", "token_ids", ...(isClose ? [] : ["tier"])]
    .filter((name) => JSON.stringify(vector[name]) !== JSON.stringify(answer[name]))
    .map((name) => ({
      query: vector.query,
      what: name,
      golden: vector[name],
      found: answer[name],
    }));
}

/** Return the vectors that differ by more than the tolerance; NaN always does. */
function straying(vectors, differences, { difference: usual, exceptions, largest }) {
  const beyond = vectors.flatMap((vector, at) => {
    const found = differences[at];
    return found <= usual ? [] : [{ query: vector.query, what: "scores", golden: 0, found }];
  });
  const allowed = Math.ceil(exceptions * vectors.length);
  return beyond.length > allowed ? beyond : beyond.filter(({ found }) => !(found <= largest));
}

function median(values) {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];
}
