/**
 * Replay an artifact's golden vectors: `node verify.mjs DIR`.
 *
 * Exits with 1 if a view, token ids, a score or a tier differs from the exporter's.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { ArtifactError, GOLDEN } from "./artifact.mjs";
import { replay } from "./golden.mjs";
import { Router } from "./router.mjs";

const SHOWN = 5;

async function verify(folder) {
  const { classifier } = await Router.load(folder);
  const found = await replay(classifier, await readFile(join(folder, GOLDEN), "utf8"));
  const { difference, exceptions, largest } = classifier.manifest.tolerance;
  console.log(
    `${found.vectors} golden vectors: scores differ by at most ${found.largest.toExponential(2)}, ` +
      `${found.beyond} by more than ${difference} (allowed: a share of ${exceptions}, up to ` +
      `${largest}); median decision ${found.milliseconds.toFixed(3)} ms`,
  );
  for (const mismatch of found.mismatches.slice(0, SHOWN)) {
    const { query, what, golden, found: actual } = mismatch;
    console.error(`${what} of ${shown(query)}: golden ${shown(golden)}, found ${shown(actual)}`);
  }
  if (found.mismatches.length > 0) {
    console.error(`${found.mismatches.length} mismatches: this port decides differently`);
    process.exitCode = 1;
  }
}

function shown(value) {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 160)}...` : text;
}

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: node verify.mjs DIR");
  process.exitCode = 2;
} else {
  await verify(folder).catch((error) => {
    if (!(error instanceof ArtifactError)) {
      throw error;
    }
    console.error(error.message);
    process.exitCode = 1;
  });
}
