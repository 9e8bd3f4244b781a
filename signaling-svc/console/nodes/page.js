// The nodes page: who carries calls, how full they are and how quick.

import { api } from "../api.js";
import { h, poll, replace, update } from "../dom.js";
import { millis, problem } from "../format.js";

export const title = "Nodes";

/** How often nodes are asked for: as often as they report, milliseconds. */
const EVERY_MS = 2000;

const NAMES = { telephony: "Phone", websocket: "WebSocket", webrtc: "WebRTC" };

export function show(main) {
  const total = h("p", { class: "lead", role: "status" });
  const list = h("div", { class: "nodes" });
  replace(main, h("h1", {}, "Nodes"), total, list,
    h("p", { class: "fine" }, "Answers: from the end of a caller's speech to the first sound of the answer, with the silence that ends a turn; the median, and what 95 and 99 of 100 stay below. Frames late: how long after its time a 20 ms frame of sound left, 99 of 100; up to 20 ms nobody hears it."));
  return poll(async () => {
    try {
      const nodes = await api.nodes();
      const sum = (value) => nodes.reduce((all, node) => all + value(node), 0);
      const free = sum((node) => (node.draining ? 0 : Math.max(0, node.capacity - node.sessions)));
      update(total, nodes.length === 0
        ? "No media node has reported within the last seconds: calls cannot be taken. Start one, or look at its log."
        : `${count(sum((node) => node.sessions), "call")} on ${count(nodes.length, "node")}, room for ${free} more.`);
      update(list, nodes.map(card));
    } catch (error) {
      update(list, problem(error));
    }
  }, EVERY_MS);
}

function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function card(node) {
  const share = node.capacity > 0 ? Math.min(1, node.sessions / node.capacity) : 1;
  const fill = h("span", { class: "fill" });
  fill.style.width = `${share * 100}%`;
  const latency = node.latency;
  const answered = latency && latency.turns > 0;
  const state = node.draining ? "draining" : share >= 1 ? "full" : "accepting";
  return h("article", { class: "card node", "aria-label": `Node ${node.node}`, "data-node": node.node },
    h("header", { class: "row between" },
      h("h2", {}, node.node), h("span", { class: `chip ${state}` }, state)),
    h("div", { class: "load" },
      h("div", { class: "bar", role: "meter", "aria-label": "Load", "aria-valuemin": 0, "aria-valuemax": node.capacity, "aria-valuenow": node.sessions }, fill),
      h("span", { class: "numbers" }, h("b", {}, node.sessions), ` of ${node.capacity} calls`)),
    h("dl", { class: "facts" },
      fact("Median answer", answered ? millis(latency.turnP50Ms) : "–"),
      fact("95 %", answered ? millis(latency.turnP95Ms) : "–"),
      fact("99 %", answered ? millis(latency.turnP99Ms) : "–"),
      fact("Frames late", latency ? `${latency.frameLateP99Ms.toFixed(1)} ms` : "–")),
    h("p", { class: "fine" },
      [node.transports.map((name) => NAMES[name] ?? name).join(", "), node.zone && `zone ${node.zone}`, `release ${node.version}`,
        answered ? `${count(latency.turns, "answer")} in the last ${Math.round(latency.windowSeconds / 60)} min` : "no answers in the last minutes"].filter(Boolean).join(" · ")));
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}
