// What stands before the services in a test: serves the page, and sends each method to an instance of its own.
import http from "node:http";
import { once } from "node:events";

import { esbuild } from "./tools.mjs";

const PAGE = `<!doctype html><meta charset="utf-8"><title>test</title><script type="module" src="/page.js"></script>`;

/** A module and all it imports, as one that a browser runs. */
export async function bundle(entry) {
  const built = await esbuild.build({
    entryPoints: [entry],
    bundle: true,
    format: "esm",
    write: false,
    logLevel: "warning",
    nodePaths: process.env.NODE_PATH.split(":"),
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return built.outputFiles[0].text;
}

/**
 * Listens on a loopback port (0: any). `upstreams`: base URL by method, `{ POST: …, PATCH: … }`; nothing is passed on
 * without. Answers `{ url, passed, close }`; `passed` fills with `{ method, path, upstream, status }`.
 */
export async function front({ script, port = 0, upstreams = {} }) {
  const passed = [];
  const server = http.createServer((request, response) => {
    if (request.method === "GET" && request.url === "/") {
      response.setHeader("content-type", "text/html").end(PAGE);
    } else if (request.method === "GET" && request.url === "/page.js") {
      response.setHeader("content-type", "text/javascript").end(script);
    } else if (request.url === "/favicon.ico") {
      response.writeHead(204).end();
    } else if (upstreams[request.method]) {
      pass(request, response, upstreams[request.method], passed);
    } else {
      response.writeHead(404).end();
    }
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, passed, close: () => server.close() };
}

function pass(request, response, upstream, passed) {
  const { method, url: path, headers } = request;
  const onward = http.request(`${upstream}${path}`, { method, headers }, (answer) => {
    passed.push({ method, path, upstream, status: answer.statusCode });
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on("error", (error) => {
    console.log(`${method} ${path}: ${upstream} does not answer: ${error}`);
    response.writeHead(502).end();
  });
  request.pipe(onward);
}
