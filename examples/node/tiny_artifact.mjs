/** Artifacts of a few hundred bytes for the tests: "hello" is cheap, "prove" needs the frontier. */

import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { sha256 } from "./artifact.mjs";
import { viewFingerprint } from "./view_fingerprint.mjs";

// gain is the mean of [0, -1, -2, 2][token_ids], p_frontier its sigmoid; the second graph computes
// the ids itself: StringNormalizer, Tokenizer, LabelEncoder of {hello: 2, prove: 3}, else 1.
const READS_TOKEN_IDS =
  "CAg6iQIKHwoHd2VpZ2h0cwoJdG9rZW5faWRzEgF3IgZHYXRoZXIKLAoBdwoEYXhpcxIEZ2FpbiIKUmVkdWNlTWVhbioP" +
  "CghrZWVwZGltcxgAoAECChsKBGdhaW4SCnBfZnJvbnRpZXIiB1NpZ21vaWQSBHRpbnkqHwgEEAFCB3dlaWdodHNKEAAA" +
  "AAAAAIC/AAAAwAAAAEAqFAgBEAdCBGF4aXNKCAEAAAAAAAAAWiYKCXRva2VuX2lkcxIZChcIBxITCgcSBWJhdGNoCggS" +
  "Bmxlbmd0aGIdCgpwX2Zyb250aWVyEg8KDQgBEgkKBxIFYmF0Y2hiFwoEZ2FpbhIPCg0IARIJCgcSBWJhdGNoQgQKABAS";
const READS_TEXT =
  "CAg68AQKTwoEdGV4dBIFc21hbGwiEFN0cmluZ05vcm1hbGl6ZXIqHgoSY2FzZV9jaGFuZ2VfYWN0aW9uIgVMT1dFUqAB" +
  "AyoOCgZsb2NhbGUiAUOgAQMKfgoFc21hbGwSBXdvcmRzIglUb2tlbml6ZXIqCwoEbWFyaxgAoAECKhEKCm1pbmNoYXJu" +
  "dW0YAaABAioVCglwYWRfdmFsdWUiBTxwYWQ+oAEDKh0KCHRva2VuZXhwIg5bYS16XSt8W14gYS16XaABAzoNY29tLm1p" +
  "Y3Jvc29mdAp7CgV3b3JkcxIJdG9rZW5faWRzIgxMYWJlbEVuY29kZXIqFAoNZGVmYXVsdF9pbnQ2NBgBoAECKh8KDGtl" +
  "eXNfc3RyaW5nc0oFaGVsbG9KBXByb3ZloAEIKhYKDXZhbHVlc19pbnQ2NHNAAkADoAEHOgphaS5vbm54Lm1sCh8KB3dl" +
  "aWdodHMKCXRva2VuX2lkcxIBdyIGR2F0aGVyCiwKAXcKBGF4aXMSBGdhaW4iClJlZHVjZU1lYW4qDwoIa2VlcGRpbXMY" +
  "AKABAgobCgRnYWluEgpwX2Zyb250aWVyIgdTaWdtb2lkEgR0aW55Kh8IBBABQgd3ZWlnaHRzShAAAAAAAACAvwAAAMAA" +
  "AABAKhQIARAHQgRheGlzSggBAAAAAAAAAFoXCgR0ZXh0Eg8KDQgIEgkKBxIFYmF0Y2hiHQoKcF9mcm9udGllchIPCg0I" +
  "ARIJCgcSBWJhdGNoYhcKBGdhaW4SDwoNCAESCQoHEgViYXRjaGImCgl0b2tlbl9pZHMSGQoXCAcSEwoHEgViYXRjaAoI" +
  "EgZsZW5ndGhCBAoAEBJCDgoKYWkub25ueC5tbBADQhEKDWNvbS5taWNyb3NvZnQQAQ==";

const WORD = "[a-z]+|[^ a-z]";
const TOKENIZER = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: [],
  normalizer: { type: "Lowercase" },
  pre_tokenizer: { type: "Split", pattern: { Regex: WORD }, behavior: "Removed", invert: true },
  post_processor: null,
  decoder: null,
  model: {
    type: "WordLevel",
    vocab: { "<pad>": 0, "<unk>": 1, hello: 2, prove: 3 },
    unk_token: "<unk>",
  },
};

const FOLDERS = mkdtempSync(join(tmpdir(), "tiny-artifacts-"));
process.once("exit", () => rmSync(FOLDERS, { recursive: true }));

/**
 * Write an artifact into a new folder; return the folder.
 *
 * @param {"token_ids" | "text"} input
 * @param {object} changes Changes to the manifest, made before it is hashed.
 */
export async function tinyArtifact(input, changes = {}) {
  const folder = await mkdtemp(join(FOLDERS, "artifact-"));
  const files = contents(input);
  const hashes = {};
  for (const [name, content] of Object.entries(files)) {
    hashes[name] = await sha256(content);
    await writeFile(join(folder, name), content);
  }
  const manifest = { ...(await manifestOf(input, hashes)), ...changes };
  await writeFile(join(folder, "manifest.json"), await signed(manifest));
  return folder;
}

function contents(input) {
  const encoded = (text) => new TextEncoder().encode(text);
  const files = { "README.md": encoded("A card.\n"), "golden.jsonl": encoded(goldenLines(input)) };
  if (input === "text") {
    return { ...files, "model.onnx": Buffer.from(READS_TEXT, "base64") };
  }
  const tokenizer = encoded(JSON.stringify(TOKENIZER));
  return {
    ...files,
    "model.onnx": Buffer.from(READS_TOKEN_IDS, "base64"),
    "tokenizer.json": tokenizer,
  };
}

async function manifestOf(input, files) {
  return {
    decision_score: "gain",
    fallback_tier: "frontier",
    files,
    format_version: input === "text" ? 2 : 1,
    input,
    max_tokens: 4,
    model_version: "tiny",
    text_view: { sha256: await viewFingerprint(), version: 1 },
    threshold: 0.5,
    ...(input === "text" && { tolerance: { difference: 1e-5, exceptions: 0, largest: 1e-5 } }),
  };
}

/** Return a manifest as the exporter writes it: sorted, with the hash of the rest. */
async function signed(manifest) {
  const unsigned = json(manifest);
  return json({ ...manifest, sha256: await sha256(new TextEncoder().encode(unsigned)) });
}

function json(value) {
  return `${JSON.stringify(sorted(value), null, 2)}\n`;
}

function sorted(value) {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  const names = Object.keys(value).sort();
  return Object.fromEntries(names.map((name) => [name, sorted(value[name])]));
}

function goldenLines(input) {
  const vector = (query, tokenIds, gain) => ({
    query,
    view: query.trim(),
    token_ids: tokenIds,
    p_frontier: gain === null ? null : 1 / (1 + Math.exp(-gain)),
    decision_score: gain,
    tier: gain === null || gain >= 0.5 ? "frontier" : "cheap",
  });
  const vectors = [
    vector("Hello", [2], -2),
    vector(" prove it", [3, 1], 0.5),
    vector(" ", [], null),
    // The graph that reads text does not truncate.
    ...(input === "token_ids" ? [vector("hello a b c d prove", [2, 1, 1, 3], -0.5)] : []),
  ];
  return vectors.map((one) => `${JSON.stringify(one)}\n`).join("");
}
