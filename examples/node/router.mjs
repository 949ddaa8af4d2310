/** A router: load an artifact once, decide every query. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import * as ort from "onnxruntime-node";

import { ArtifactError, readArtifact } from "./artifact.mjs";
import { Classifier } from "./classifier.mjs";
import { decide } from "./decision.mjs";

export class Router {
  /** @param {Classifier} classifier */
  constructor(classifier) {
    this.classifier = classifier;
  }

  /**
   * Load an artifact.
   *
   * @param {string} folder The artifact that `querytier run` or `querytier export` wrote.
   * @throws {ArtifactError} If the folder is not an artifact, or a file is missing or changed.
   */
  static async load(folder) {
    const artifact = await readArtifact((name) => readFrom(folder, name));
    return new Router(await Classifier.open(artifact, ort, "cpu"));
  }

  /**
   * Decide a query; never throws.
   *
   * @param {string | {role: string, content: unknown}[]} query Text, or chat messages of which the
   *   last user turn is the query.
   * @returns {Promise<import("./decision.mjs").Decision>}
   */
  async decide(query) {
    return decide(this.classifier, query);
  }
}

async function readFrom(folder, name) {
  try {
    return await readFile(join(folder, name));
  } catch (error) {
    throw new ArtifactError(
      `${folder} is not a querytier artifact: ${name} cannot be read (${error.code}); give the ` +
        "folder that `querytier run` or `querytier export` wrote",
    );
  }
}

async function main(folder, ...queries) {
  const router = await Router.load(folder);
  for (const query of queries) {
    console.log(JSON.stringify(await router.decide(query)));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(...process.argv.slice(2));
}
