// The talk page in a network that fails: it brings the call back, or says what to do.
import assert from "node:assert/strict";

import { accessible, picture } from "./visitor.mjs";

/** Longest until the browser finds out that nothing comes any more, milliseconds. */
const NOTICED_MS = 20_000;
/** Longest until it has given up after that, milliseconds. */
const GIVEN_UP_MS = 30_000;

const status = (page, text) => page.waitForFunction((text) => document.getElementById("status").textContent === text, text, { timeout: NOTICED_MS });

/** A running call loses its way and finds it again. Answers how long the page took to notice, and to be back, milliseconds. */
export async function lostAndFound(page, network, pictures) {
  network.cut();
  const began = performance.now();
  await status(page, "Reconnecting");
  const noticed = performance.now();
  assert.equal(await page.locator("#status").getAttribute("role"), "status");
  assert.match(await page.locator(".detail").innerText(), /waits/);
  await page.getByRole("button", { name: "Hang up" }).waitFor();
  await accessible(page, "a lost connection");
  await picture(page, pictures, "reconnecting-light");
  network.mend();
  await status(page, "Listening");
  await page.getByText("Connected by WebRTC").waitFor();
  return { noticedMs: noticed - began, backMs: performance.now() - noticed };
}

/** A call whose network is gone for good, requests included: the page gives up after 15 seconds. */
export async function lostForGood(visitor, network, pictures) {
  const page = await visitor.open("/console/#/talk");
  await page.getByLabel("Connection").selectOption("WebRTC");
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.locator(".turn.agent").first().waitFor();
  visitor.expected.push(/net::ERR_INTERNET_DISCONNECTED/);
  await page.route("**/api/offer", (route) => route.abort("internetdisconnected"));
  network.cut();
  await status(page, "Reconnecting");
  const noticed = performance.now();
  const sessions = async () => (await (await fetch(`${visitor.base}/sessions`)).json()).data.sessions.filter(({ transport }) => transport === "webrtc");
  assert.equal((await sessions()).length, 1, "the server keeps the call");
  const told = page.getByRole("alert").filter({ hasText: "did not come back within 15 seconds" });
  await told.waitFor({ timeout: GIVEN_UP_MS });
  const waited = performance.now() - noticed;
  assert.match(await told.innerText(), /Check the network, then press the button again/);
  assert.ok(waited > 12_000, `given up after ${waited} ms`);
  await page.getByRole("button", { name: "Talk again" }).waitFor();
  await picture(page, pictures, "lost-light");
  // Closing the page is not what ends it.
  while ((await sessions()).length > 0) await page.waitForTimeout(100);
  network.mend();
  await page.close();
}
