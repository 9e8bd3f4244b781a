// Media nodes that are killed under the calls of the talk page: it says what has happened and what to do, and that works.
import assert from "node:assert/strict";

import { launch } from "../lib/chromium.mjs";
import { task } from "../lib/task.mjs";
import { callInS3 } from "./call.mjs";
import { accessible, picture, VIEW } from "./visitor.mjs";

/** Longest until the page knows that the node is gone and not the network, milliseconds. */
const TOLD_MS = 30_000;

/** `nodes`: process ids by the names of the nodes, two of them. `session`: a call that is archived. */
await task(async ({ executable, microphone, server, nodes, session, pictures }) => {
  const browser = await launch({ executable, microphone });
  const context = await browser.newContext({ ...VIEW, colorScheme: "light", permissions: ["microphone"] });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  await callInS3(page, server, session, pictures);
  await page.goto(`${server}/console/#/nodes`);
  for (const name of Object.keys(nodes)) await page.getByText(name, { exact: true }).first().waitFor();
  await page.goto(`${server}/console/#/talk`);
  const talks = async (way, button) => {
    await page.getByLabel("Connection").selectOption(way);
    await page.getByRole("button", { name: button }).click();
    await page.getByText(`Connected by ${way}`).waitFor();
    await page.locator(".turn.agent").first().waitFor();
    const { data } = await (await fetch(`${server}/sessions`)).json();
    const [{ node }] = data.sessions.filter(({ node, state }) => state === "connected" && nodes[node]);
    return node;
  };
  const dies = (node) => {
    process.kill(nodes[node], "SIGKILL");
    delete nodes[node];
    return performance.now();
  };
  const says = async (pattern) => {
    const told = page.getByRole("alert").filter({ hasText: pattern });
    await told.waitFor({ timeout: TOLD_MS });
    return told.innerText();
  };

  const first = await talks("WebRTC", "Start talking");
  let died = dies(first);
  const told = [await says(/its media node has failed/)];
  const afterMs = [performance.now() - died];
  await accessible(page, "a node that has failed");
  await picture(page, pictures, "node-lost-light");

  const second = await talks("WebSocket", "Talk again");
  assert.notEqual(second, first);
  died = dies(second);
  told.push(await says(/connection to the media node was lost/));
  afterMs.push(performance.now() - died);
  for (const words of told) assert.match(words, /Press the button to talk again, to another node/);

  // There is none.
  await page.getByRole("button", { name: "Talk again" }).click();
  told.push(await says(/No media node accepts websocket sessions.*Try again in a moment/));
  await page.getByRole("button", { name: "Start talking" }).waitFor();
  await browser.close();
  return { nodes: [first, second], told, afterMs };
});
