// Somebody who looks at the console page with Chromium, and everything that went wrong while they did.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const require = createRequire(import.meta.url);

/** A window as most people have one. */
export const VIEW = { viewport: { width: 1360, height: 860 }, locale: "en-GB", timezoneId: "UTC" };

/** What nobody should see; words of the browser about failures that are part of a test are passed over. */
export class Visitor {
  constructor(context, base) {
    this.context = context;
    this.base = base;
    this.complaints = [];
    this.expected = [];
    context.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complain(`console ${message.type()}: ${message.text()} (${message.location().url})`);
    });
    context.on("weberror", (error) => this.complain(`page error: ${error.error().stack}`));
    context.on("request", (request) => this.look(request.url()));
    context.on("page", (page) => page.on("websocket", (socket) => this.look(socket.url().replace(/^ws/, "http"))));
  }

  complain(text) {
    if (!this.expected.some((pattern) => pattern.test(text))) this.complaints.push(text);
  }

  look(url) {
    const ours = url.startsWith(`${this.base}/`) || url.startsWith(`blob:${this.base}/`) || url.startsWith("data:");
    if (!ours) this.complaints.push(`asked somebody else: ${url}`);
  }

  async open(path) {
    const page = await this.context.newPage();
    await page.goto(`${this.base}${path}`);
    return page;
  }

  /** Nothing went wrong so far. */
  done() {
    assert.deepEqual(this.complaints, []);
  }
}

/** Nothing that keeps anybody from using the page, as far as axe can tell. Answers the number of rules that were checked. */
export async function accessible(page, what) {
  // The page's own rules forbid scripts of others; this one comes in through the debugger.
  await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf8"));
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  const told = serious.map((one) => `${what}: ${one.id}: ${one.help}: ${one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
  assert.deepEqual(told, []);
  return passes.length;
}

/** Keeps a picture. */
export async function picture(page, folder, name) {
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** The number of a meter or slider. */
export function value(page, selector) {
  return page.locator(selector).evaluate((element) => Number(element.getAttribute("aria-valuenow")));
}

/** Waits until the number of a meter is above this. */
export async function above(page, selector, least) {
  await page.waitForFunction(([selector, least]) => Number(document.querySelector(selector)?.getAttribute("aria-valuenow")) > least, [selector, least]);
}

/** Keeps the track of the microphone that the page opens next, as `globalThis.microphone`. */
export function keepMicrophone(page) {
  return page.evaluate(() => {
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      const stream = await ask(wanted);
      globalThis.microphone = stream.getAudioTracks()[0];
      return stream;
    };
  });
}

/** Waits until the page shows what the server answered next about this. */
export async function answered(page, path) {
  await (await page.waitForResponse(path)).finished();
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
