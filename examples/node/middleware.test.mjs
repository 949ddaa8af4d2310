import assert from "node:assert/strict";
import { test } from "node:test";

import { tierMiddleware } from "./middleware.mjs";
import { Router } from "./router.mjs";
import { tinyArtifact } from "./tiny_artifact.mjs";

const MODELS = { cheap: "small-model", frontier: "large-model" };

async function router() {
  return Router.load(await tinyArtifact("text"));
}

function chat(query, model = "auto") {
  return { model, temperature: 0, messages: [{ role: "user", content: query }] };
}

/** The next handler: it returns the request that it got. */
const echo = async (request) => request;

test("a request gets the model of its tier, and nothing else changes", async () => {
  const routed = tierMiddleware(await router(), MODELS);
  assert.deepEqual(await routed(chat("hello"), echo), chat("hello", "small-model"));
  assert.deepEqual(await routed(chat("prove"), echo), chat("prove", "large-model"));
});

test("a request that names a model gets it without a decision", async () => {
  const decisions = [];
  const onDecision = (decision) => decisions.push(decision);
  const routed = tierMiddleware(await router(), MODELS, { onDecision });
  assert.equal((await routed(chat("prove", "small-model"), echo)).model, "small-model");
  assert.deepEqual(decisions, []);
});

test("every decision is logged, and a failing log changes nothing", async (t) => {
  const reported = t.mock.method(console, "error", () => {});
  const reasons = [];
  const onDecision = ({ reason }) => {
    reasons.push(reason);
    throw new Error("disk full");
  };
  const routed = tierMiddleware(await router(), MODELS, { onDecision });
  assert.equal((await routed(chat("hello"), echo)).model, "small-model");
  assert.equal((await routed(chat(""), echo)).model, "large-model");
  assert.deepEqual(reasons, ["classifier", "fallback:empty"]);
  assert.equal(reported.mock.callCount(), 2);
});

test("a late decision is replaced by the fallback tier", async () => {
  const slow = await router();
  slow.decide = () => new Promise(() => {});
  const decisions = [];
  const onDecision = (decision) => decisions.push(decision);
  const routed = tierMiddleware(slow, MODELS, { timeoutMs: 20, onDecision });
  assert.equal((await routed(chat("hello"), echo)).model, "large-model");
  const [{ reason, tier, latency_ms: latency }] = decisions;
  assert.deepEqual([reason, tier], ["fallback:timeout", "frontier"]);
  assert.ok(latency >= 19 && latency < 2000);
});

test("requests without messages go to the fallback tier", async (t) => {
  t.mock.method(console, "error", () => {});
  const routed = tierMiddleware(await router(), MODELS);
  assert.equal((await routed({ model: "auto" }, echo)).model, "large-model");
});

test("an error of the next handler reaches the caller", async () => {
  const routed = tierMiddleware(await router(), MODELS);
  const down = async () => {
    throw new Error("the model is down");
  };
  await assert.rejects(routed(chat("hello"), down), /the model is down/);
});

test("a tier without a model is refused at once", async () => {
  const loaded = await router();
  assert.throws(() => tierMiddleware(loaded, { cheap: "small-model" }), /tier frontier/);
});
