// The page of a finished call: its picture, its sound, its words, its numbers.
import assert from "node:assert/strict";

import { accessible, picture, value } from "./visitor.mjs";

/** A call whose recording is in S3, to which the page is redirected, another origin: its picture, an answer's bar, its sound. */
export async function callInS3(page, server, sessionId, pictures) {
  await page.goto(`${server}/console/#/calls/${sessionId}`);
  await page.locator("canvas.wave").waitFor();
  await page.locator("[data-answer]").first().waitFor();
  const { caller, agent } = await painted(page);
  assert.ok(caller > 500 && agent > 500, `the picture is empty: ${caller} and ${agent} pixels`);
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await page.waitForFunction(() => Number(document.querySelector("canvas.wave").getAttribute("aria-valuenow")) >= 1);
  await page.getByRole("button", { name: "Pause" }).click();
  await picture(page, pictures, "call-in-s3-light");
}

/** How many pixels of the upper and the lower half of a canvas have the colour of the caller and of the agent. */
function painted(page) {
  return page.locator("canvas.wave").evaluate((canvas) => {
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const whole = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const rgb = (name) => {
      probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
      probe.fillRect(0, 0, 1, 1);
      return [...probe.getImageData(0, 0, 1, 1).data];
    };
    const count = (name, from, to) => {
      const [red, green, blue] = rgb(name);
      const data = whole.subarray(4 * canvas.width * Math.round(from * canvas.height), 4 * canvas.width * Math.round(to * canvas.height));
      let found = 0;
      for (let at = 0; at < data.length; at += 4) {
        const near = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue) < 24;
        if (near && data[at + 3] > 90) found++;
      }
      return found;
    };
    return { caller: count("caller", 0, 0.5), agent: count("agent", 0.5, 1), crossed: count("agent", 0, 0.4) + count("caller", 0.6, 1) };
  });
}

/** Looks at the call that was just held; answers its numbers. */
export async function callPage(page, pictures, { sessionId }) {
  await page.getByRole("link", { name: "See this call" }).click();
  await page.locator("canvas.wave").waitFor();
  assert.match(page.url(), new RegExp(sessionId));
  const { caller, agent, crossed } = await painted(page);
  assert.ok(caller > 500 && agent > 500, `the picture is empty: ${caller} and ${agent} pixels`);
  assert.equal(crossed, 0, "each voice is in its own lane");

  // An answer a row, with its numbers.
  const rows = page.locator("[data-answer]");
  const numbers = await rows.evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll("td.number")].map((cell) => Number(cell.textContent))));
  assert.ok(numbers.length >= 2, `${numbers.length} answers`);
  for (const [endpoint, transcript, token, audio] of numbers) {
    assert.ok(endpoint > 0 && endpoint <= audio && transcript <= token && token <= audio, `${[endpoint, transcript, token, audio]}`);
  }
  const bars = await rows.evaluateAll((rows) => rows.map((row) => row.querySelector(".stage-0").getBoundingClientRect().width));
  assert.ok(bars.every((width) => width > 10), `${bars}`);

  // The words, the keys and what was typed.
  const words = page.locator(".words .turn");
  for (const text of [/young man/i, /Mill Street/, /keys pressed: 42/, /How much does tuning/, /ninety dollars/]) {
    await words.filter({ hasText: text }).first().waitFor();
  }

  // Playing moves the cursor; a click on the picture moves it too.
  const wave = page.locator("canvas.wave");
  const length = Number(await wave.getAttribute("aria-valuemax"));
  assert.equal(await value(page, "canvas.wave"), 0);
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await page.waitForFunction(() => Number(document.querySelector("canvas.wave").getAttribute("aria-valuenow")) >= 1);
  await page.getByRole("button", { name: "Pause" }).click();
  const { width, height } = await wave.boundingBox();
  await wave.click({ position: { x: width * 0.5, y: height / 2 } });
  assert.ok(Math.abs((await value(page, "canvas.wave")) - length / 2) <= 1);
  await wave.press("End");
  assert.ok(Math.abs((await value(page, "canvas.wave")) - length) <= 1);

  // A click on a turn goes to it and plays it.
  await words.filter({ hasText: "Mill Street" }).first().getByRole("button").click();
  await page.locator('.words .turn[aria-current="true"]', { hasText: "Mill Street" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await accessible(page, "call");
  await page.mouse.move(0, 0);
  await picture(page, pictures, "call-light");
  return { numbers, seconds: length };
}
