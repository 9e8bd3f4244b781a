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

/**
 * A call whose network is gone for good, requests included: the page gives up after 15 seconds, and so does the server, by
 * the times that everybody relies on: noticed within 5 s, kept 15 s, then ended and archived. Answers what it took, milliseconds.
 */
export async function lostForGood(visitor, network, pictures) {
  const page = await visitor.open("/console/#/talk");
  await page.getByLabel("Connection").selectOption("WebRTC");
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.locator(".turn.agent").first().waitFor();
  const [{ sessionId }] = await sessions(visitor);
  visitor.expected.push(/net::ERR_INTERNET_DISCONNECTED/);
  await page.route("**/api/offer", (route) => route.abort("internetdisconnected"));
  const before = await disconnected(visitor);
  network.cut();
  const cut = performance.now();
  const kept = serverGivesUp(visitor, before, cut);
  kept.catch(() => {});
  await status(page, "Reconnecting");
  const noticed = performance.now();
  const told = page.getByRole("alert").filter({ hasText: "did not come back within 15 seconds" });
  await told.waitFor({ timeout: GIVEN_UP_MS });
  const waited = performance.now() - noticed;
  assert.match(await told.innerText(), /Check the network, then press the button again/);
  assert.ok(waited > 12_000, `given up after ${waited} ms`);
  await page.getByRole("button", { name: "Talk again" }).waitFor();
  await picture(page, pictures, "lost-light");
  // Closing the page is not what ends it.
  const gone = await kept;
  network.mend();
  await page.close();
  await isArchived(visitor, sessionId);
  return gone;
}

/** Live WebRTC calls; the one of this page is the only one. */
async function sessions(visitor) {
  const { data } = await (await fetch(`${visitor.base}/sessions`)).json();
  return data.sessions.filter(({ transport }) => transport === "webrtc");
}

/** How many connections the server has seen to fall silent. */
async function disconnected(visitor) {
  const metrics = await (await fetch(`${visitor.base}/metrics`)).text();
  return Number(metrics.match(/^webrtc_peer_connections_total\{state="disconnected"\} (.*)$/m)?.[1] ?? 0);
}

async function serverGivesUp(visitor, before, cut) {
  const since = (time) => performance.now() - time;
  const moment = () => new Promise((resolve) => setTimeout(resolve, 50));
  while ((await disconnected(visitor)) === before && since(cut) < NOTICED_MS) await moment();
  const noticed = performance.now();
  const noticedMs = noticed - cut;
  assert.ok(noticedMs < 5_000, `the server noticed it after ${noticedMs} ms`);
  while ((await sessions(visitor)).length > 0 && since(noticed) < GIVEN_UP_MS) await moment();
  const keptMs = since(noticed);
  assert.ok(keptMs > 14_500 && keptMs < GIVEN_UP_MS, `the server kept the call for ${keptMs} ms`);
  return { noticedMs, keptMs };
}

/** What was said until the network went is kept as sound and as text, and why the call ended. */
async function isArchived(visitor, sessionId) {
  const get = (path) => fetch(`${visitor.base}/sessions/${sessionId}/${path}`);
  const began = performance.now();
  for (;;) {
    const [recording, transcript] = await Promise.all([get("recording"), get("transcript")]);
    const said = transcript.status === 200 ? (await transcript.json()).data : null;
    if (recording.status === 200 && said?.session?.endedAt) {
      assert.equal(said.session.endReason, "transport_failed");
      assert.match(said.turns[0].text, /Harbour Music/);
      // 16 bits of two voices at 16 kHz.
      const seconds = ((await recording.arrayBuffer()).byteLength - 44) / 64_000;
      assert.ok(seconds > 1, `${seconds} s of sound`);
      return;
    }
    assert.ok(performance.now() - began < GIVEN_UP_MS, `it is not archived: ${recording.status}, ${JSON.stringify(said)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
