// Walks through the console page of a real server: talks, looks at the call, ends it, and at everything else.
import assert from "node:assert/strict";

import { launch } from "../lib/chromium.mjs";
import { hideAddresses, nat } from "../lib/nat.mjs";
import { task } from "../lib/task.mjs";
import { chromium } from "../lib/tools.mjs";
import { callPage } from "./call.mjs";
import { lostForGood } from "./lost.mjs";
import { talkPage } from "./talk.mjs";
import { above, accessible, keepMicrophone, picture, VIEW, Visitor } from "./visitor.mjs";

await task(async ({ executable, server, guarded, key, way, mediaPort, microphone, pictures }) => {
  const browser = await launch({ executable, microphone });
  const context = await browser.newContext({ ...VIEW, colorScheme: "light", permissions: ["microphone"] });
  context.setDefaultTimeout(20_000);
  const network = await nat(mediaPort);
  await hideAddresses(context);
  const visitor = new Visitor(context, server);
  const page = await visitor.open("/");
  const talked = await step("talk", () => talkPage(visitor, page, network, pictures)).catch(async (error) => {
    console.log(visitor.complaints, await page.locator("main").innerText());
    await picture(page, pictures, "failed");
    throw error;
  });
  const seen = await step("call", () => callPage(page, pictures, talked));
  await step("calls", () => finishedCalls(page, pictures, talked));
  await step("away", () => leftEarly(page, talked));
  await step("nodes", () => nodes(page, pictures));
  // What waits longest waits beside what follows.
  const given = step("lost", () => lostForGood(visitor, network, pictures));
  given.catch(() => {});
  await step("socket", () => overSocket(visitor, pictures));
  await step("colours", () => colours(page, talked, pictures));
  const gone = await given;
  await step("automatic", () => anotherWay(visitor, network, pictures));
  assert.equal(talked.way, way);
  assert.ok(network.passed() > 1000, `${network.passed()} packets went through the NAT`);
  visitor.done();
  await context.close();
  await step("key", () => apiKey(browser, guarded, key, pictures));
  await browser.close();
  await step("permission", () => noPermission(executable, server, pictures));
  return { ...talked, ...seen, gone };
});

async function step(name, work) {
  const began = performance.now();
  const result = await work();
  console.log(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
  return result;
}

async function finishedCalls(page, pictures, { sessionId }) {
  await page.getByRole("link", { name: "‹ Calls" }).click();
  const row = page.locator("#finished tr", { hasText: sessionId.slice(0, 8) });
  await row.waitFor();
  assert.match(await row.innerText(), /WebRTC|WebSocket/);
  assert.match(await row.innerText(), /requested/);
  await page.getByText("Nobody is on the line").waitFor();
  await accessible(page, "calls");
  await picture(page, pictures, "calls-light");
  await midnight(page, row);
  await page.getByRole("button", { name: "The day before" }).click();
  await page.getByText("No finished calls on this day").waitFor();
}

/** A day begins while the page is open, and is shown; and, as it may here, ends again. */
async function midnight(page, row) {
  const today = await page.getByLabel("Day, UTC").inputValue();
  await page.evaluate(() => {
    const Today = Date;
    const tomorrow = () => Today.now() + 24 * 3600 * 1000;
    globalThis.Date = class extends Today {
      constructor(...args) {
        super(...(args.length > 0 ? args : [tomorrow()]));
      }
    };
    globalThis.backToday = () => (globalThis.Date = Today);
  });
  await page.waitForFunction((today) => document.getElementById("day").value > today, today);
  await page.getByText("No finished calls on this day").waitFor();
  await page.evaluate(() => void globalThis.backToday());
  await row.waitFor();
  assert.equal(await page.getByLabel("Day, UTC").inputValue(), today);
}

/** What comes late of a page that was left is seen by nobody. */
async function leftEarly(page, { sessionId }) {
  let goOn;
  const held = new Promise((resolve) => (goOn = resolve));
  await page.route("**/transcript", async (route) => {
    await held;
    await route.continue();
  });
  await page.evaluate((id) => (location.hash = `#/calls/${id}`), sessionId);
  await page.getByText("Loading the call").waitFor();
  await page.getByRole("navigation").getByRole("link", { name: "Talk" }).click();
  await page.getByRole("button", { name: "Start talking" }).waitFor();
  const late = page.waitForResponse(/transcript/);
  goOn();
  await (await late).finished();
  await page.unroute("**/transcript");
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.ok(await page.getByRole("button", { name: "Start talking" }).isVisible());
}

async function nodes(page, pictures) {
  await page.getByRole("navigation").getByRole("link", { name: "Nodes" }).click();
  const card = page.locator("[data-node]");
  await card.waitFor();
  assert.match(await page.getByRole("status").innerText(), /0 calls on 1 node/);
  assert.match(await card.innerText(), /accepting/);
  // The call that was just held was measured.
  await page.waitForFunction(() => /Median answer\s*[\d.]+ m?s/.test(document.querySelector("[data-node]").innerText));
  await accessible(page, "nodes");
  await picture(page, pictures, "nodes-light");
}

/** The other way to talk, another microphone, and how one hangs up. */
async function overSocket(visitor, pictures) {
  const page = await visitor.open("/console/#/talk");
  await page.getByLabel("Connection").selectOption("WebSocket");
  await keepMicrophone(page);
  await countSound(page);
  const microphones = page.getByLabel("Microphone", { exact: true });
  await microphones.locator("option").nth(2).waitFor({ state: "attached" });
  const [chosen] = await microphones.selectOption({ index: 2 });
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.getByText("Connected by WebSocket").waitFor();
  assert.equal(await page.evaluate(() => globalThis.microphone.getSettings().deviceId), chosen);
  await page.locator(".turn.agent").first().waitFor();
  await above(page, ".level.agent", 20);
  await mutedSocket(page);
  // As when it is pulled out.
  await page.evaluate(() => globalThis.microphone.dispatchEvent(new Event("ended")));
  await page.getByRole("alert").filter({ hasText: "The microphone is gone" }).waitFor();
  await page.getByRole("button", { name: "Hang up" }).click();
  await page.getByText("Call ended").waitFor();
  await page.getByRole("link", { name: "See this call" }).waitFor();
  await picture(page, pictures, "ended-light");
  await nowhere(visitor, page);
  await page.close();
}

/** A network that lets no datagrams through: what is chosen by itself is the other way to talk. */
async function anotherWay(visitor, network, pictures) {
  const page = await visitor.open("/console/#/talk");
  network.cut();
  await page.getByLabel("Connection").selectOption("Automatic");
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.getByText("Connected by WebSocket").waitFor();
  await page.locator(".turn.agent").first().waitFor();
  await picture(page, pictures, "automatic-light");
  await page.getByRole("button", { name: "Hang up" }).click();
  await page.getByText("Call ended").waitFor();
  network.mend();
  await page.close();
}

/** Counts the pieces of sound that come from the microphone, and those that are sent. */
function countSound(page) {
  return page.evaluate(() => {
    Object.assign(globalThis, { recorded: 0, sent: 0 });
    globalThis.AudioWorkletNode = class extends AudioWorkletNode {
      constructor(context, name, options) {
        super(context, name, options);
        if (name === "microphone") this.port.addEventListener("message", () => (globalThis.recorded += 1));
      }
    };
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (bytes) {
      // Of pipecat's frames, the second is sound.
      if (bytes[0] >> 3 === 2) globalThis.sent += 1;
      return send.call(this, bytes);
    };
  });
}

/** What the microphone goes on hearing is not sent while it is muted. */
async function mutedSocket(page) {
  const counts = () => page.evaluate(() => ({ recorded: globalThis.recorded, sent: globalThis.sent }));
  const more = (name, least) => page.waitForFunction(([name, least]) => globalThis[name] > least, [name, least]);
  await more("sent", 10);
  await page.getByRole("button", { name: "Mute" }).click();
  const before = await counts();
  await more("recorded", before.recorded + 20);
  assert.equal((await counts()).sent, before.sent);
  await page.getByRole("button", { name: "Unmute" }).click();
  await more("sent", before.sent);
}

/** A media node that cannot be reached: the slot that it was to give is given back. */
async function nowhere(visitor, page) {
  visitor.expected.push(/WebSocket connection to .*nowhere/);
  await page.route("**/start", async (route) => {
    const response = await route.fetch();
    const wsUrl = `${visitor.base.replace("http", "ws")}/nowhere`;
    await route.fulfill({ response, json: { ...(await response.json()), wsUrl } });
  });
  const ended = page.waitForResponse((response) => response.request().method() === "DELETE");
  await page.getByRole("button", { name: "Talk again" }).click();
  await page.getByText("cannot be reached from here").waitFor();
  assert.equal((await ended).status(), 200);
}

async function colours(page, { sessionId }, pictures) {
  const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const bright = async () => (await paper()).match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  assert.ok((await bright()) > 200);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.ok((await bright()) < 60);
  for (const [path, name] of [["#/nodes", "nodes"], ["#/calls", "calls"], [`#/calls/${sessionId}`, "call"], ["#/talk", "talk"]]) {
    await page.evaluate((path) => (location.hash = path), path);
    await page.locator({ nodes: "[data-node]", calls: "#finished tr", call: "canvas.wave", talk: "#go" }[name]).first().waitFor();
    await accessible(page, `${name} in the dark`);
    await picture(page, pictures, `${name}-dark`);
  }
  const theme = page.getByRole("button", { name: /colours/ });
  await theme.click();
  assert.ok((await bright()) > 200, "light is chosen over the system's dark");
  await page.reload();
  assert.ok((await bright()) > 200, "the choice stays");
  await theme.click();
  assert.ok((await bright()) < 60);
  await theme.click();
}

async function apiKey(browser, server, key, pictures) {
  const context = await browser.newContext({ ...VIEW, colorScheme: "light", permissions: ["microphone"] });
  context.setDefaultTimeout(20_000);
  const visitor = new Visitor(context, server);
  visitor.expected.push(/401 \(Unauthorized\)/);
  const page = await visitor.open("/console/#/nodes");
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.waitFor();
  await accessible(page, "key");
  // Chromium closes a dialog whatever the page says when it is asked often enough.
  for (let times = 0; times < 3; times++) await page.keyboard.press("Escape");
  await page.getByLabel("Key", { exact: true }).fill("not the key");
  await page.keyboard.press("Enter");
  await page.getByText("does not take this key").waitFor();
  await picture(page, pictures, "key-light");
  await page.getByLabel("Key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.locator("[data-node]").waitFor();
  await page.reload();
  await page.locator("[data-node]").waitFor();
  const kept = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]);
  assert.deepEqual([kept[0].includes(key), kept[1].includes(key), kept[2]], [true, false, ""]);
  const other = await visitor.open("/console/#/nodes");
  await other.getByRole("dialog", { name: "API key" }).waitFor();
  await other.close();
  await overIpv6(page);
  visitor.done();
  await context.close();
}

/** A call with the key, by the only address that this server has. */
async function overIpv6(page) {
  await page.addInitScript(() => {
    const Peer = globalThis.RTCPeerConnection;
    globalThis.RTCPeerConnection = class extends Peer {
      constructor(...args) {
        super(...args);
        globalThis.peer = this;
      }
    };
  });
  await page.reload();
  await page.getByRole("navigation").getByRole("link", { name: "Talk" }).click();
  await page.getByLabel("Connection").selectOption("WebRTC");
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.getByText("Connected by WebRTC").waitFor();
  await page.locator(".turn.agent").first().waitFor();
  await above(page, ".level.agent", 20);
  const way = await page.evaluate(async () => {
    const stats = await globalThis.peer.getStats();
    const transport = [...stats.values()].find(({ type }) => type === "transport");
    const pair = stats.get(transport.selectedCandidatePairId);
    // Chromium shows a page no address of its own; who talks to ::1 talks from there.
    const { address, candidateType } = stats.get(pair.remoteCandidateId);
    return `${candidateType} ${address}`;
  });
  assert.equal(way, "host ::1");
  await page.getByRole("button", { name: "Hang up" }).click();
  await page.getByText("Call ended").waitFor();
}

/** Chromium without a window says no for a person who is asked. */
async function noPermission(executable, server, pictures) {
  const browser = await chromium.launch({ executablePath: executable, args: ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"] });
  const context = await browser.newContext({ ...VIEW, colorScheme: "light" });
  const visitor = new Visitor(context, server);
  const page = await visitor.open("/");
  await page.getByRole("button", { name: "Start talking" }).click();
  await page.getByText("The browser does not let this page use the microphone. Allow it").waitFor();
  await page.getByRole("button", { name: "Start talking" }).waitFor();
  await picture(page, pictures, "refused-light");
  visitor.done();
  await browser.close();
}
