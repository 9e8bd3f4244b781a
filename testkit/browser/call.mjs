// One call by a client in Chromium: the microphone is played to its end, the last answer is waited for, then the
// client hangs up. With a page that measures, what both sides tell of the connection is noted until they agree.
import { fileURLToPath } from "node:url";

import { launch, open } from "./lib/chromium.mjs";
import { bundle, front } from "./lib/front.mjs";
import { task } from "./lib/task.mjs";

/** Longest wait for an answer after the last word of the microphone. */
const ANSWER_MS = 30_000;
/** Longest wait for statistics that agree: reports come every few seconds. */
const AGREE_MS = 30_000;

await task(async ({ executable, page: name, transport, microphone, seconds, server, port, upstreams, options }) => {
  const script = await bundle(fileURLToPath(new URL(`./pages/${name}.mjs`, import.meta.url)));
  const before = await front({ script, port, upstreams });
  const browser = await launch({ executable, microphone });
  const page = await open(browser, before.url);
  await page.evaluate(([transport, server, options]) => window.start(transport, server, options), [
    transport,
    server ?? before.url,
    options ?? {},
  ]);
  const answered = page.waitForFunction((end) => performance.now() - window.opened > end && window.quiet(), seconds * 1000, {
    timeout: seconds * 1000 + ANSWER_MS,
    polling: 100,
  });
  await answered.catch(async (error) => {
    console.log(await page.evaluate(() => window.events));
    throw error;
  });
  const moved = await page.evaluate(() => window.moved?.() ?? null);
  const told = await agreement(page, server);
  const played = await page.evaluate(() => window.played());
  await page.evaluate(() => window.hangUp());
  const { heard, events } = await page.evaluate(() => ({ heard: window.heard(), events: window.events }));
  await browser.close();
  before.close();
  return { events, heard, played, moved, told, passed: before.passed };
});

/** What the browser's statistics and the session's API answer say of the same connection, as soon as it is the same. */
async function agreement(page, server) {
  const get = async (path) => (await (await fetch(server + path)).json()).data;
  const read = async () => {
    const browser = await page.evaluate(() => window.measured?.() ?? null);
    if (!browser) return null;
    const { sessions } = await get("/sessions");
    const { media } = await get(`/sessions/${sessions[0].sessionId}`);
    return { browser, server: media };
  };
  const near = (one, other) => Math.abs(one - other) <= 1 + 0.5 * Math.max(one, other);
  const end = performance.now() + AGREE_MS;
  for (;;) {
    const told = await read();
    if (!told || performance.now() > end) return told;
    const { browser, server } = told;
    if (server.rttMs > 0 && ["jitterMs", "lossPercent"].every((field) => near(browser[field], server[field]))) return told;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
