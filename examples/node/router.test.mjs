import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { GOLDEN, MANIFEST, MODEL, utf8 } from "./artifact.mjs";
import { capTokens } from "./classifier.mjs";
import { replay } from "./golden.mjs";
import { Router } from "./router.mjs";
import { tinyArtifact } from "./tiny_artifact.mjs";

async function golden(folder) {
  return utf8(await readFile(join(folder, GOLDEN)), GOLDEN);
}

for (const input of ["token_ids", "text"]) {
  test(`an artifact that reads ${input} decides`, async () => {
    const router = await Router.load(await tinyArtifact(input));
    const decision = await router.decide([{ role: "user", content: "Prove" }]);
    assert.ok(decision.latency_ms > 0);
    assert.deepEqual(
      { ...decision, p_frontier: decision.p_frontier.toFixed(6), latency_ms: 0 },
      {
        tier: "frontier",
        p_frontier: "0.880797",
        gain: 2,
        decision_score: 2,
        threshold: 0.5,
        reason: "classifier",
        model_version: "tiny",
        latency_ms: 0,
      },
    );
    assert.equal((await router.decide("hello")).tier, "cheap");
  });

  test(`an artifact that reads ${input} repeats its golden vectors`, async () => {
    const folder = await tinyArtifact(input);
    const { classifier } = await Router.load(folder);
    const found = await replay(classifier, await golden(folder));
    assert.deepEqual(found.mismatches, []);
    assert.equal(found.vectors, input === "token_ids" ? 4 : 3);
    assert.ok(found.largest < 1e-6);
  });
}

test("queries at the same time get the same decisions as alone", async () => {
  const router = await Router.load(await tinyArtifact("token_ids"));
  const queries = Array.from({ length: 100 }, (_, at) => ["hello", "prove", "prove it"][at % 3]);
  const decisions = await Promise.all(queries.map((query) => router.decide(query)));
  const scores = decisions.map((decision) => decision.decision_score);
  assert.deepEqual(
    scores,
    queries.map((_, at) => [-2, 2, 0.5][at % 3]),
  );
});

test("a score at the threshold goes to the frontier tier", async () => {
  const router = await Router.load(await tinyArtifact("text"));
  const { decision_score: score, threshold, tier } = await router.decide("prove it");
  assert.deepEqual([score, threshold, tier], [0.5, 0.5, "frontier"]);
});

test("gain is null if queries are not ranked by it", async () => {
  const router = await Router.load(await tinyArtifact("text", { decision_score: "p_frontier" }));
  const { gain, p_frontier: pFrontier, decision_score: score } = await router.decide("prove");
  assert.equal(gain, null);
  assert.equal(score, pFrontier);
});

test("a query that cannot be decided gets the fallback tier with the reason", async (t) => {
  t.mock.method(console, "error", () => {});
  const router = await Router.load(await tinyArtifact("text", { fallback_tier: "cheap" }));
  const empty = await router.decide("<system>only rules</system>");
  assert.deepEqual([empty.tier, empty.reason], ["cheap", "fallback:empty"]);
  const hostile = {
    get role() {
      throw new Error("no");
    },
  };
  for (const query of [null, undefined, 7, {}, ["a"], [hostile]]) {
    const { tier, reason, p_frontier: pFrontier } = await router.decide(query);
    assert.deepEqual([tier, reason, pFrontier], ["cheap", "fallback:error", null]);
  }
});

test("an expired certificate leads to the fallback tier", async () => {
  const days = { "2020-02-02": "fallback:certificate", "9999-01-01": "classifier", soon: "fallback:certificate" };
  for (const [expires, expected] of Object.entries(days)) {
    const certificate = { status: "granted", reason: "a test", details: { expires } };
    const router = await Router.load(await tinyArtifact("text", { certificate }));
    assert.equal((await router.decide("hello")).reason, expected);
    const refused = { ...certificate, status: "refused" };
    const other = await Router.load(await tinyArtifact("text", { certificate: refused }));
    assert.equal((await other.decide("hello")).reason, "classifier");
  }
});

test("a changed file is refused", async () => {
  for (const name of [MANIFEST, MODEL, GOLDEN]) {
    const folder = await tinyArtifact("text");
    await appendFile(join(folder, name), "\n");
    await assert.rejects(Router.load(folder), { name: "ArtifactError", message: /sha256/ });
  }
});

test("a missing file and an empty folder are refused", async () => {
  const folder = await tinyArtifact("token_ids");
  await rm(join(folder, "tokenizer.json"));
  await assert.rejects(Router.load(folder), /tokenizer.json cannot be read/);
  await rm(join(folder, MANIFEST));
  await assert.rejects(Router.load(folder), /is not a querytier artifact/);
});

test("unknown formats and values are refused", async () => {
  const unknown = [
    [{ format_version: 3 }, /format_version 3/],
    [{ input: "audio" }, /input "audio"/],
    [{ fallback_tier: "none" }, /fallback_tier "none"/],
    [{ text_view: { sha256: "0".repeat(64), version: 9 } }, /text view 9/],
  ];
  for (const [changes, message] of unknown) {
    await assert.rejects(Router.load(await tinyArtifact("text", changes)), message);
  }
  const folder = await tinyArtifact("text");
  await writeFile(join(folder, MANIFEST), "null");
  await assert.rejects(Router.load(folder), /format_version undefined/);
});

test("a replay names the vectors that differ", async () => {
  const folder = await tinyArtifact("text");
  const { classifier } = await Router.load(folder);
  const [first, second] = (await golden(folder))
    .split("\n")
    .map((line) => line && JSON.parse(line));
  const wrong = [
    { ...first, view: "other", token_ids: [3], tier: "frontier" },
    { ...first, p_frontier: first.p_frontier + 2e-5 },
    { ...second, tier: "cheap" },
  ];
  const text = wrong.map((vector) => JSON.stringify(vector)).join("\n");
  const { mismatches, beyond } = await replay(classifier, text);
  assert.deepEqual(
    mismatches.map(({ what }) => what),
    ["view", "token_ids", "tier", "scores"],
    "a tier may differ where the score lies on the threshold",
  );
  assert.equal(beyond, 1);
});

test("verify.mjs prints the differences, and exits with 1", async () => {
  const script = fileURLToPath(new URL("verify.mjs", import.meta.url));
  const verify = (...args) => spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
  const passed = verify(await tinyArtifact("text"));
  assert.deepEqual([passed.status, passed.stderr], [0, ""]);
  assert.match(passed.stdout, /^3 golden vectors: scores differ by at most/);
  const failed = verify(await tinyArtifact("text", { threshold: -3 }));
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /^tier of "Hello": golden "cheap", found "frontier"/);
  const folder = await tinyArtifact("text");
  await rm(join(folder, MODEL));
  assert.match(verify(folder).stderr, /model.onnx cannot be read/);
  assert.equal(verify().status, 2);
});

test("a tolerance allows a share of exceptions, rounded up, to a limit", async () => {
  const wide = { difference: 1e-5, exceptions: 0.4, largest: 0.1 };
  const folder = await tinyArtifact("text", { tolerance: wide });
  const { classifier } = await Router.load(folder);
  const [first] = (await golden(folder)).split("\n").map((line) => line && JSON.parse(line));
  const apart = async (...distances) => {
    const vectors = distances.map((by) => ({ ...first, p_frontier: first.p_frontier + by }));
    const text = vectors.map((vector) => JSON.stringify(vector)).join("\n");
    return (await replay(classifier, text)).mismatches.length;
  };
  assert.equal(await apart(0.05, 0.05, 0), 0);
  assert.equal(await apart(0.05, 0.05, 0.05), 3);
  assert.equal(await apart(0.2, 0.05, 0), 1);
});

test("head and tail of too many token ids are kept", () => {
  assert.deepEqual(capTokens([101, 1, 2, 3, 4, 102], 4), [101, 1, 4, 102]);
  assert.deepEqual(capTokens([1, 2, 3, 4, 5], 3), [1, 4, 5]);
  assert.deepEqual(capTokens([1, 2, 3], 3), [1, 2, 3]);
});
