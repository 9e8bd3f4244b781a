// One call by a client in Chromium: the microphone is played to its end, the last answer is waited for, then the
// client hangs up.
import { fileURLToPath } from "node:url";

import { launch, open } from "./lib/chromium.mjs";
import { bundle, front } from "./lib/front.mjs";
import { task } from "./lib/task.mjs";

/** Longest wait for an answer after the last word of the microphone. */
const ANSWER_MS = 30_000;

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
  const played = await page.evaluate(() => window.played());
  await page.evaluate(() => window.hangUp());
  const { heard, events } = await page.evaluate(() => ({ heard: window.heard(), events: window.events }));
  await browser.close();
  before.close();
  return { events, heard, played, passed: before.passed };
});
