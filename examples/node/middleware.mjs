/** Middleware that sets the model of a chat request by its tier and passes the request on. */

/** Only requests for this model are decided. */
const AUTO = "auto";
const LATE = Symbol("late");

/**
 * Return middleware for chat requests: `(request, next) => response`.
 *
 * @param {import("./router.mjs").Router} router
 * @param {{cheap: string, frontier: string}} models The model of each tier.
 * @param {object} [settings]
 * @param {number} [settings.timeoutMs] Time after which the artifact's fallback tier answers.
 * @param {(decision: import("./decision.mjs").Decision, request: object) => void} [settings.onDecision]
 *   Called with every decision, for a log; its errors are reported and otherwise ignored.
 * @throws {TypeError} If a tier has no model.
 */
export function tierMiddleware(router, models, { timeoutMs = 50, onDecision = () => {} } = {}) {
  for (const tier of ["cheap", "frontier"]) {
    if (typeof models[tier] !== "string") {
      throw new TypeError(`no model for the tier ${tier}; give {cheap: "...", frontier: "..."}`);
    }
  }
  return async (request, next) => {
    if (request.model !== AUTO) {
      return next(request);
    }
    const decision = await decidedInTime(router, request.messages, timeoutMs);
    report(onDecision, decision, request);
    return next({ ...request, model: models[decision.tier] });
  };
}

async function decidedInTime(router, messages, timeoutMs) {
  const started = performance.now();
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, timeoutMs, LATE);
  });
  const decision = await Promise.race([router.decide(messages), late]);
  clearTimeout(timer);
  return decision === LATE ? fallback(router, performance.now() - started) : decision;
}

function fallback({ classifier: { manifest } }, latencyMs) {
  return {
    tier: manifest.fallback_tier,
    p_frontier: null,
    gain: null,
    decision_score: null,
    threshold: manifest.threshold,
    reason: "fallback:timeout",
    model_version: manifest.model_version,
    latency_ms: latencyMs,
  };
}

function report(onDecision, decision, request) {
  try {
    onDecision(decision, request);
  } catch (error) {
    console.error("a decision could not be logged:", error);
  }
}
