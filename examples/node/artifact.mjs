/** Load an artifact, manifest and files, only if every byte is as exported. */

export const MANIFEST = "manifest.json";
export const MODEL = "model.onnx";
export const TOKENIZER = "tokenizer.json";
export const GOLDEN = "golden.jsonl";
const CARD = "README.md";

const FORMAT_VERSIONS = [1, 2];
// The tolerance for format 1, whose manifest has none: 32-bit floats, with or without trees.
const TOLERANCE_OF_FORMAT_1 = { difference: 1e-5, exceptions: 0.01, largest: 0.01 };
const ALLOWED = {
  input: ["token_ids", "text"],
  decision_score: ["p_frontier", "gain"],
  fallback_tier: ["cheap", "frontier"],
};
const OWN_HASH = /^ {2}"sha256": "([0-9a-f]{64})",\n/m;

export class ArtifactError extends Error {
  name = "ArtifactError";
}

/**
 * Read an artifact and verify all of its files.
 *
 * @param {(name: string) => Promise<Uint8Array>} read Returns the content of a file by its name.
 * @returns {Promise<{manifest: object, files: Map<string, Uint8Array>}>}
 * @throws {ArtifactError} If a file is missing or changed, or the format is unknown.
 */
export async function readArtifact(read) {
  const manifest = await checkedManifest(utf8(await read(MANIFEST), MANIFEST));
  const files = new Map();
  for (const name of filesOf(manifest.input)) {
    const content = await read(name);
    await checkHash(name, content, manifest.files[name]);
    files.set(name, content);
  }
  return { manifest, files };
}

/** Return the text of a file. */
export function utf8(content, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    throw new ArtifactError(`${name} is not UTF-8; copy the artifact again from its source`);
  }
}

/** Return the sha256 of bytes in hexadecimal digits. */
export async function sha256(content) {
  if (!globalThis.crypto?.subtle) {
    throw new ArtifactError("sha256 is not available here: serve the page from https or localhost");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function checkedManifest(text) {
  const manifest = parsed(text);
  if (!FORMAT_VERSIONS.includes(manifest.format_version)) {
    throw new ArtifactError(
      `${MANIFEST} has format_version ${JSON.stringify(manifest.format_version)}, this router ` +
        `reads ${FORMAT_VERSIONS.join(", ")}; export the artifact again`,
    );
  }
  await checkOwnHash(text);
  checkValues(manifest);
  return { tolerance: TOLERANCE_OF_FORMAT_1, ...manifest };
}

function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch (error) {
    throw new ArtifactError(`${MANIFEST} is not JSON: ${error.message}`);
  }
}

/** Return the hash of the manifest's text without the line that contains the hash. */
async function checkOwnHash(text) {
  const stated = OWN_HASH.exec(text)?.[1];
  if ((await sha256(new TextEncoder().encode(text.replace(OWN_HASH, "")))) !== stated) {
    throw new ArtifactError(
      `${MANIFEST} does not match its own sha256: it was changed after the export; copy the ` +
        "artifact again from its source",
    );
  }
}

function checkValues(manifest) {
  for (const [name, allowed] of Object.entries(ALLOWED)) {
    if (!allowed.includes(manifest[name])) {
      throw new ArtifactError(
        `${MANIFEST} has ${name} ${JSON.stringify(manifest[name])}, not one of ` +
          `${allowed.join(", ")}; export the artifact again`,
      );
    }
  }
}

function filesOf(input) {
  return [MODEL, ...(input === "token_ids" ? [TOKENIZER] : []), GOLDEN, CARD];
}

async function checkHash(name, content, stated) {
  const found = await sha256(content);
  if (found !== stated) {
    throw new ArtifactError(
      `${name} has sha256 ${found.slice(0, 12)}..., the manifest says ` +
        `${String(stated).slice(0, 12)}...: it was changed or damaged after the export; copy the ` +
        "artifact again from its source",
    );
  }
}
