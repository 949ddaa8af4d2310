/**
 * Serve the page, ONNX Runtime and one artifact on this machine: `node serve.mjs DIR [PORT]`.
 *
 * Any static server will do, as long as the page comes from https or localhost.
 */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const EXAMPLES = fileURLToPath(new URL("..", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** Return a listening server, and the address of the page with its artifact. */
export async function serve(artifact, port = 0) {
  const folders = {
    browser: join(EXAMPLES, "browser"),
    node: join(EXAMPLES, "node"),
    artifact: resolve(artifact),
  };
  const server = createServer((request, response) => answer(folders, request, response));
  await new Promise((listening) => server.listen(port, "127.0.0.1", listening));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { server, origin, page: `${origin}/browser/index.html?artifact=/artifact/` };
}

async function answer(folders, request, response) {
  const path = fileOf(folders, request);
  const found = path !== null && (await stat(path).catch(() => null));
  if (!found || !found.isFile()) {
    response.writeHead(404).end("not found\n");
    return;
  }
  response.writeHead(200, {
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "content-length": found.size,
  });
  createReadStream(path).pipe(response);
}

/** Return the file that a request names; null if it is not in one of the folders. */
function fileOf(folders, { method, url }) {
  if (method !== "GET") {
    return null;
  }
  try {
    const path = decodeURIComponent(new URL(url, "http://localhost").pathname);
    const [, folder, ...rest] = path.split("/");
    const file = normalize(join(folders[folder], ...rest));
    return file.startsWith(folders[folder] + sep) ? file : null;
  } catch {
    return null;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [artifact, port] = process.argv.slice(2);
  if (artifact === undefined) {
    console.error("usage: node serve.mjs DIR [PORT]");
    process.exit(2);
  }
  const { page } = await serve(artifact, Number(port ?? 0));
  console.log(page);
}
