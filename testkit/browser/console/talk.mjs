// The talk page: a call by voice, by keys and by text, seen by a second pair of eyes that ends it.
import assert from "node:assert/strict";

import { lostAndFound } from "./lost.mjs";
import { above, accessible, answered, keepMicrophone, picture, value } from "./visitor.mjs";

const STATUS = "#status";

/** Holds a call; answers its `sessionId` and what was said. */
export async function talkPage(visitor, page, network, pictures) {
  await page.getByRole("button", { name: "Start talking" }).waitFor();
  await accessible(page, "talk");
  await picture(page, pictures, "talk-light");
  // Everything the status has said, and whether interim text was to be seen.
  await page.evaluate(() => {
    globalThis.said = [];
    globalThis.interim = "";
    const status = document.getElementById("status");
    new MutationObserver(() => globalThis.said.push(status.textContent)).observe(status, { childList: true, characterData: true, subtree: true });
    const look = () => {
      globalThis.interim ||= document.querySelector(".interim")?.textContent ?? "";
    };
    new MutationObserver(look).observe(document.querySelector(".turns"), { childList: true, subtree: true });
  });

  await keepMicrophone(page);
  await byKeyboard(page, page.getByRole("button", { name: "Start talking" }));
  const turns = page.locator(".talk-grid .turn");
  await turns.and(page.locator(".agent")).first().waitFor();
  await above(page, ".level.agent", 20);
  await above(page, ".level.caller", 20);
  await turns.filter({ hasText: /young man/i }).first().waitFor();
  await turns.filter({ hasText: "Mill Street" }).waitFor();
  await turns.filter({ hasText: /answered in [\d.]+ m?s/ }).first().waitFor();
  await picture(page, pictures, "talking-light");
  await turns.filter({ hasText: /amiable himself/i }).first().waitFor();
  await turns.filter({ hasText: "Monday to Saturday" }).waitFor();

  // Whoever cannot see it is read what is said and what happens.
  assert.equal(await page.locator(".talk-grid [role=log]").count(), 1);
  await byKeyboard(page, page.getByRole("button", { name: "Mute" }));
  assert.equal(await page.getByRole("button", { name: "Unmute" }).getAttribute("aria-pressed"), "true");
  await page.waitForFunction(() => document.querySelector(".level.caller").getAttribute("aria-valuenow") === "0");
  // What the page says, and what WebRTC gets to send.
  const muted = async () => {
    const grid = page.locator(".talk-grid");
    const [said, silent] = await grid.evaluate((grid) => [grid.classList.contains("muted"), !globalThis.microphone.enabled]);
    assert.equal(silent, said);
    return silent;
  };
  assert.equal(await muted(), true);
  await page.getByRole("button", { name: "Unmute" }).click();
  assert.equal(await muted(), false);

  // Held down, the space bar lets sound through; otherwise none is sent.
  await page.getByRole("button", { name: "Push to talk" }).click();
  assert.equal(await muted(), true);
  await page.keyboard.down("Space");
  assert.equal(await muted(), false);
  await page.keyboard.up("Space");
  assert.equal(await muted(), true);
  // It ends wherever the key is let go, and when the page is not there to be told.
  await page.keyboard.down("Space");
  await page.getByLabel("Message").focus();
  await page.keyboard.up("Space");
  assert.equal(await muted(), true);
  await page.getByRole("button", { name: "Mute" }).focus();
  await page.keyboard.down("Space");
  assert.equal(await muted(), false);
  await page.evaluate(() => dispatchEvent(new Event("blur")));
  assert.equal(await muted(), true);
  await page.keyboard.up("Space");
  // Without a keyboard the button is held.
  const hold = page.getByRole("button", { name: "Hold this or space to talk" });
  await hold.hover();
  await page.mouse.down();
  assert.equal(await muted(), false);
  await page.mouse.move(0, 0);
  // Longer than a tap, which turns it off.
  await page.waitForTimeout(400);
  assert.equal(await muted(), false);
  await page.mouse.up();
  assert.equal(await muted(), true);
  await hold.press("Enter");
  assert.equal(await muted(), false);

  await page.waitForFunction(() => document.getElementById("status").textContent === "Listening");
  const lost = await lostAndFound(page, network, pictures);
  await page.getByRole("button", { name: "Keypad" }).click();
  const spoken = await turns.and(page.locator(".agent")).count();
  for (const key of ["4", "2", "hash"]) await page.getByRole("button", { name: key, exact: true }).click();
  await turns.filter({ hasText: "4 2 #" }).waitFor();
  await page.waitForFunction((before) => document.querySelectorAll(".talk-grid .turn.agent").length > before, spoken);
  await accessible(page, "a running call");

  // The answer to the keys has not been heard yet: it is given up for this one, which comes below its question.
  await page.getByLabel("Message").fill("How much does tuning a piano cost?");
  await page.keyboard.press("Enter");
  await turns.filter({ hasText: "ninety dollars" }).waitFor();
  const words = await turns.allInnerTexts();
  const at = (text) => words.findIndex((turn) => turn.includes(text));
  assert.equal(at("ninety dollars"), at("How much does tuning") + 1, `${words}`);
  await page.waitForFunction(() => document.getElementById("status").textContent === "Listening");

  const way = (await page.locator(".detail").innerText()).replace("Connected by ", "");
  const sessionId = await end(visitor, page, pictures);
  const { said, interim } = await page.evaluate(() => ({ said: globalThis.said, interim: globalThis.interim }));
  for (const status of ["Connecting", "Reconnecting", "Listening", "Hearing you", "Thinking", "Speaking", "Call ended"]) {
    assert.ok(said.includes(status), `the status never was ${status}: ${said}`);
  }
  assert.notEqual(interim, "", "no interim text was seen");
  assert.equal(await value(page, ".level.caller"), 0);
  return { sessionId, way, said, interim, lost };
}

/** Goes to a control and presses it without a mouse, as everybody can who begins at the top of the page. */
async function byKeyboard(page, control) {
  await page.evaluate(() => document.activeElement?.blur());
  for (let steps = 0; !(await control.evaluate((element) => element === document.activeElement)); steps++) {
    assert.ok(steps < 30, "the tab key does not lead to it");
    await page.keyboard.press("Tab");
  }
  assert.equal(await control.evaluate((element) => element.matches(":focus-visible")), true);
  await page.keyboard.press("Enter");
}

/** Somebody else finds the call in the list and ends it. */
async function end(visitor, page, pictures) {
  const other = await visitor.open("/console/#/calls");
  const row = other.locator("#live tr[data-session]");
  await row.filter({ hasText: "connected" }).waitFor();
  assert.equal(await row.count(), 1);
  const sessionId = await row.getAttribute("data-session");
  await accessible(other, "a live call");
  await picture(other, pictures, "live-light");
  await refusedThenEnded(visitor, other, row, sessionId);
  await other.close();
  await page.waitForFunction((selector) => document.querySelector(selector).textContent === "Call ended", STATUS);
  await page.getByRole("link", { name: "See this call" }).waitFor();
  const hidden = await page.locator(".talk-grid .turns").evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  assert.ok(hidden < 2, `${hidden} pixels of what was said last are hidden`);
  return sessionId;
}

/** Ends a call at the second attempt. What came of each stays to be seen, however often the list is asked for. */
async function refusedThenEnded(visitor, other, row, sessionId) {
  const id = sessionId.slice(0, 8);
  const button = row.getByRole("button", { name: `End call ${id}` });
  const thisCall = `**/sessions/${sessionId}`;
  visitor.expected.push(new RegExp(`503 .*/sessions/${sessionId}`));
  await other.route(thisCall, (route) => route.fulfill({ status: 503, json: { error: { message: "its media node cannot be reached" } } }));
  await button.click();
  const refused = row.getByRole("alert").filter({ hasText: "Its media node cannot be reached. Try again in a moment." });
  await refused.waitFor();
  await answered(other, /\/sessions$/);
  assert.ok(await refused.isVisible());
  await other.unroute(thisCall);

  let goOn;
  const held = new Promise((resolve) => (goOn = resolve));
  await other.route(thisCall, async (route) => {
    await held;
    await route.continue();
  });
  await button.click();
  await answered(other, /\/sessions$/);
  assert.deepEqual([await button.innerText(), await button.isDisabled(), await refused.count()], ["Ending…", true, 0]);

  // The archive hears of the end later than this page.
  const archive = /\/archive\/sessions/;
  await other.route(archive, (route) => route.fulfill({ json: { data: { sessions: [] } } }));
  goOn();
  await other.getByText("Nobody is on the line").waitFor();
  await answered(other, archive);
  await other.unroute(archive);
  await other.locator("#finished tr", { hasText: id }).waitFor();
}
