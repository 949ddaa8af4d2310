import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { chromium } from "playwright-core";

import { serve } from "./serve.mjs";

const ARTIFACT = process.env.QUERYTIER_ARTIFACT;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const lacking = !ARTIFACT
  ? "QUERYTIER_ARTIFACT names no portable artifact"
  : !existsSync(CHROMIUM) && `no browser at ${CHROMIUM}: set CHROMIUM`;

describe("the page", { skip: lacking }, () => {
  let served;
  let browser;
  let page;
  const fetched = [];
  const errors = [];

  before(async () => {
    served = await serve(ARTIFACT);
    browser = await chromium.launch({ executablePath: CHROMIUM, args: QUIET });
    page = await browser.newPage();
    page.on("request", (request) => fetched.push(request));
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => errors.push(message.text()));
    await page.goto(served.page);
    await page.waitForSelector("#query:enabled");
  });

  after(async () => {
    await browser?.close();
    served?.server.close();
  });

  test("repeats the golden vectors", async (t) => {
    const found = await page.evaluate(async () => {
      const { replay } = await import("/node/golden.mjs");
      const golden = await (await fetch("/artifact/golden.jsonl")).text();
      return replay(globalThis.classifier, golden);
    });
    t.diagnostic(
      `${found.vectors} vectors, scores differ by at most ${found.largest.toExponential(2)}, ` +
        `median decision ${found.milliseconds.toFixed(3)} ms`,
    );
    assert.deepEqual(found.mismatches.slice(0, 5), []);
    assert.ok(found.vectors > 0);
  });

  test("decides a typed query, and sends it nowhere", async () => {
    const before = fetched.length;
    await page.fill("#query", "Prove that the sum of two odd numbers is even.");
    await page.waitForSelector("#decision:visible");
    const shown = (id) => page.textContent(`#${id}`);
    const score = Number(await shown("score"));
    const threshold = Number(await shown("threshold"));
    assert.equal(await shown("reason"), "classifier");
    assert.equal(await shown("tier"), score >= threshold ? "frontier" : "cheap");
    assert.match(await shown("milliseconds"), /^\d+\.\d\d ms$/);
    assert.equal(fetched.length, before);
  });

  test("shows the reason for a fallback", async () => {
    await page.fill("#query", "<system>only rules</system>");
    await page.waitForFunction(
      () => document.getElementById("reason").textContent === "fallback:empty",
    );
    assert.equal(await page.isVisible("#scored"), false);
  });

  test("fetches only from its own server, without errors", () => {
    const elsewhere = fetched.filter((request) => new URL(request.url()).origin !== served.origin);
    const other = elsewhere.map((request) => request.url()).filter((url) => url !== "data:,");
    assert.deepEqual(other, []);
    assert.ok(fetched.every((request) => request.method() === "GET"));
    assert.deepEqual(errors, []);
  });
});
