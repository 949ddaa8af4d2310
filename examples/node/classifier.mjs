/** Runs an artifact's graph, in Node and in a browser. */

import { ArtifactError, MODEL, TOKENIZER, utf8 } from "./artifact.mjs";
import { VIEW_VERSION } from "./text_view.mjs";
import { viewFingerprint } from "./view_fingerprint.mjs";

/** One thread: two threads are slower if another process is busy. */
const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 };

// Ideographs beyond U+FFFF: @huggingface/tokenizers 0.2.0 sees their halves, so it does not separate
// them from their neighbours as the exporter's tokenizer does.
const RARE_HAN = /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

export class Classifier {
  #ort;
  #session;
  #tokenize;

  /**
   * Open the result of `readArtifact`.
   *
   * @param {{manifest: object, files: Map<string, Uint8Array>}} artifact
   * @param {object} ort The module onnxruntime-node or onnxruntime-web.
   * @param {string} provider "cpu" or "wasm".
   * @throws {ArtifactError} If the artifact was trained on another text view.
   */
  static async open({ manifest, files }, ort, provider) {
    await checkView(manifest.text_view);
    const classifier = new Classifier();
    classifier.manifest = manifest;
    classifier.#ort = ort;
    if (manifest.input === "token_ids") {
      classifier.#tokenize = await openTokenizer(utf8(files.get(TOKENIZER), TOKENIZER));
    }
    const options = { ...ONE_THREAD, executionProviders: [provider] };
    classifier.#session = await ort.InferenceSession.create(files.get(MODEL), options);
    return classifier;
  }

  /** Return `p_frontier`, `gain` (null if queries are not ranked by it) and `decision_score` of a view. */
  async scores(view) {
    const names = [...new Set(["p_frontier", this.manifest.decision_score])];
    const values = await this.#run(names, view);
    return {
      p_frontier: values.p_frontier.data[0],
      gain: values.gain?.data[0] ?? null,
      decision_score: values[this.manifest.decision_score].data[0],
    };
  }

  /** Return the token ids of a view that the encoder sees, as numbers. */
  async tokenIds(view) {
    if (this.#tokenize) {
      return capTokens(this.#tokenize(view), this.manifest.max_tokens);
    }
    const { token_ids: tokenIds } = await this.#run(["token_ids"], view);
    return Array.from(tokenIds.data, Number);
  }

  async #run(outputs, view) {
    return this.#session.run(await this.#feed(view), outputs);
  }

  async #feed(view) {
    const { Tensor } = this.#ort;
    if (!this.#tokenize) {
      return { text: new Tensor("string", [view], [1]) };
    }
    const tokenIds = await this.tokenIds(view);
    const data = BigInt64Array.from(tokenIds, BigInt);
    return { token_ids: new Tensor("int64", data, [1, tokenIds.length]) };
  }
}

/** Keep the first and the last ids if there are more than `maxTokens`. */
export function capTokens(tokenIds, maxTokens) {
  if (tokenIds.length <= maxTokens) {
    return tokenIds;
  }
  const head = Math.floor(maxTokens / 2);
  return [...tokenIds.slice(0, head), ...tokenIds.slice(head - maxTokens)];
}

async function checkView({ version, sha256 }) {
  const own = await viewFingerprint();
  if (sha256 !== own) {
    throw new ArtifactError(
      `the artifact was trained on text view ${version} (${String(sha256).slice(0, 12)}), this ` +
        `router has ${VIEW_VERSION} (${own.slice(0, 12)}): retrain, or port that view`,
    );
  }
}

/** Return a function from a view to all its token ids; only graphs that read token ids need it. */
async function openTokenizer(json) {
  const { Tokenizer } = await import("@huggingface/tokenizers");
  const settings = JSON.parse(json);
  // For a vocabulary of words, the unknown token comes from the second argument only.
  const tokenizer = new Tokenizer(settings, { unk_token: settings.model.unk_token });
  const partsHan = settings.normalizer?.handle_chinese_chars === true;
  return (view) => tokenizer.encode(partsHan ? view.replace(RARE_HAN, " $& ") : view).ids;
}
