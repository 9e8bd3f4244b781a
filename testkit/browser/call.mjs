// One call by a client in Chromium: the microphone is played to its end, the last answer is waited for, then the
// client hangs up. What was heard is in `heard.s16le`.
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

import { launch, open } from "./lib/chromium.mjs";
import { bundle, front } from "./lib/front.mjs";
import { task } from "./lib/task.mjs";

/** Longest wait for an answer after the last word of the microphone. */
const ANSWER_MS = 30_000;

await task(async ({ executable, page: name, transport, microphone, seconds, server, port, upstreams, options }, folder) => {
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
  await page.evaluate(() => window.hangUp());
  const { rate, base64 } = await page.evaluate(() => window.heard());
  await writeFile(join(folder, "heard.s16le"), Buffer.from(base64, "base64"));
  const events = await page.evaluate(() => window.events);
  await browser.close();
  before.close();
  return { events, rate, passed: before.passed };
});
