/** The decision that a router gets for every query, whatever happens. */

import { textView } from "./text_view.mjs";

/**
 * @typedef {object} Decision
 * @property {"cheap" | "frontier"} tier
 * @property {number | null} p_frontier Null if the classifier could not answer.
 * @property {number | null} gain Null if the artifact does not rank by it.
 * @property {number | null} decision_score The score that was compared with the threshold.
 * @property {number} threshold
 * @property {string} reason "classifier", "fallback:empty", "fallback:error", "fallback:timeout",
 *   "fallback:certificate"; others may follow (the service also has "cap" and "override"): log the
 *   reason and use the tier.
 * @property {string} model_version
 * @property {number} latency_ms From the query to the decision.
 */

/**
 * Decide a query; never throws. If the classifier cannot answer, the fallback tier does.
 *
 * @param {import("./classifier.mjs").Classifier} classifier
 * @param {string | {role: string, content: unknown}[]} query
 * @returns {Promise<Decision>}
 */
export async function decide(classifier, query) {
  const started = performance.now();
  const { tier, reason, scores } = await answer(classifier, query);
  return {
    tier,
    p_frontier: scores?.p_frontier ?? null,
    gain: scores?.gain ?? null,
    decision_score: scores?.decision_score ?? null,
    threshold: classifier.manifest.threshold,
    reason,
    model_version: classifier.manifest.model_version,
    latency_ms: performance.now() - started,
  };
}

/** The inequality between a decision score and the threshold. */
export function tierOf(decisionScore, threshold) {
  return decisionScore >= threshold ? "frontier" : "cheap";
}

async function answer(classifier, query) {
  const { fallback_tier: fallbackTier, threshold, certificate } = classifier.manifest;
  try {
    if (Date.now() >= lapses(certificate)) {
      return { tier: fallbackTier, reason: "fallback:certificate" };
    }
    const view = textView(query);
    if (!view) {
      return { tier: fallbackTier, reason: "fallback:empty" };
    }
    const scores = await classifier.scores(view);
    if (Number.isFinite(scores.p_frontier + scores.decision_score)) {
      return { tier: tierOf(scores.decision_score, threshold), reason: "classifier", scores };
    }
  } catch (error) {
    console.error("the classifier failed; the fallback tier answers:", error);
  }
  return { tier: fallbackTier, reason: "fallback:error" };
}

/** Return when a certificate expires, in milliseconds since 1970; Infinity if it promises nothing. */
export function lapses(certificate) {
  const expires = certificate?.details?.expires;
  if (certificate?.status !== "granted" || expires === undefined || expires === null) {
    return Infinity;
  }
  const day = Date.parse(`${expires}T00:00:00Z`);
  return Number.isNaN(day) ? -Infinity : day;
}
