// What the talk page looks like.

import { h, icon, replace } from "../dom.js";
import { millis } from "../format.js";

/** What the agent is doing, for people. */
export const ACTIVITY = {
  idle: "Ready when you are",
  connecting: "Connecting",
  reconnecting: "Reconnecting",
  listening: "Listening",
  hearing: "Hearing you",
  thinking: "Thinking",
  tool: "Using a tool",
  speaking: "Speaking",
  over: "Call ended",
};

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const MICROPHONE = "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5 11a7 7 0 0 0 14 0M12 18v3";

/** The page's elements, by what they are for. */
export function build() {
  const level = (side, label) =>
    h("span", { class: `level ${side}`, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 });
  const v = {
    go: h("button", { type: "button", class: "go", id: "go" }, icon(MICROPHONE), h("span", {}, "Start talking")),
    status: h("p", { class: "status", id: "status", role: "status" }, ACTIVITY.idle),
    detail: h("p", { class: "detail" }, "Your microphone is used only while a call runs."),
    canvas: h("canvas", { class: "ribbon", "aria-hidden": "true" }),
    meters: [level("caller", "Your microphone"), level("agent", "The agent's voice")],
    trouble: h("div", { class: "trouble", role: "alert" }),
    mute: h("button", { type: "button", "aria-pressed": "false", disabled: true }, "Mute"),
    hold: h("button", { type: "button", "aria-pressed": "false" }, "Push to talk"),
    keys: h("button", { type: "button", "aria-expanded": "false", "aria-controls": "pad", disabled: true }, "Keypad"),
    pad: h("div", { id: "pad", class: "pad", role: "group", "aria-label": "Telephone keys", hidden: true },
      KEYS.map((key) => h("button", { type: "button", "data-key": key, "aria-label": spoken(key) }, key))),
    device: h("select", { id: "device" }, h("option", { value: "" }, "Default microphone")),
    way: h("select", { id: "way" },
      h("option", { value: "auto" }, "Automatic"), h("option", { value: "webrtc" }, "WebRTC"), h("option", { value: "websocket" }, "WebSocket")),
    log: h("div", { class: "turns", role: "log", "aria-live": "polite", "aria-relevant": "additions text", "aria-label": "What was said", tabindex: 0 }),
    empty: h("p", { class: "empty" }, "What you and the agent say appears here as it is said."),
    after: h("p", { class: "after" }),
    text: h("input", { id: "text", type: "text", autocomplete: "off", placeholder: "Type instead of speaking" }),
    send: h("button", { type: "submit" }, "Send"),
  };
  v.form = h("form", { class: "type", "aria-label": "Type to the agent" }, h("label", { for: "text", class: "unseen" }, "Message"), v.text, v.send);
  v.root = h("div", { class: "talk-grid" },
    h("section", { class: "stage", "aria-labelledby": "talk-title" },
      h("h1", { id: "talk-title", class: "unseen" }, "Talk to the agent"),
      v.status, v.detail,
      h("div", { class: "levels" },
        h("span", { class: "side caller", "aria-hidden": "true" }, "You"), v.canvas,
        h("span", { class: "side agent", "aria-hidden": "true" }, "Agent"), v.meters),
      v.go, v.trouble,
      h("div", { class: "controls", role: "group", "aria-label": "While you talk" }, v.mute, v.hold, v.keys),
      v.pad,
      h("div", { class: "choices" },
        h("div", {}, h("label", { for: "device" }, "Microphone"), v.device),
        h("div", {}, h("label", { for: "way" }, "Connection"), v.way))),
    h("section", { class: "script", "aria-labelledby": "script-title" },
      h("h2", { id: "script-title" }, "Transcript"), v.empty, v.log, v.after, v.form));
  return v;
}

function spoken(key) {
  return { "*": "star", "#": "hash" }[key] ?? key;
}

/** Shows where the call is. */
export function showActivity(v, activity, { tool = "", way = "" } = {}) {
  const live = !["idle", "connecting", "over"].includes(activity);
  const said = activity === "tool" && tool ? `Using ${tool.replaceAll("_", " ")}` : ACTIVITY[activity];
  if (v.status.textContent !== said) v.status.textContent = said;
  v.root.dataset.activity = activity;
  const label = live ? "Hang up" : activity === "connecting" ? "Cancel" : activity === "over" ? "Talk again" : "Start talking";
  v.go.querySelector("span").textContent = label;
  v.go.classList.toggle("live", live || activity === "connecting");
  v.mute.disabled = v.keys.disabled = !live;
  v.way.disabled = v.device.disabled = live || activity === "connecting";
  if (activity === "reconnecting") v.detail.textContent = "The connection was lost. The call waits for it for up to 15 seconds.";
  else if (live) v.detail.textContent = `Connected by ${way}`;
}

/** What each element of the transcript shows. */
const shown = new WeakMap();

/** Shows the turns; those that have not changed are left alone, so that nothing is read out twice. */
export function showTurns(v, turns) {
  keepEnd(v, () => fill(v, turns));
}

/** Shows where the call that is over is to be found. */
export function showAfter(v, ...content) {
  keepEnd(v, () => replace(v.after, ...content));
}

/** Changes the transcript's column; who reads the last words goes on seeing them. */
function keepEnd(v, change) {
  const follow = v.log.scrollHeight - v.log.scrollTop - v.log.clientHeight < 60;
  change();
  if (follow) v.log.scrollTop = v.log.scrollHeight;
}

function fill(v, turns) {
  v.empty.hidden = turns.length > 0;
  while (v.log.children.length > turns.length) v.log.lastChild.remove();
  turns.forEach((turn, index) => {
    const shape = JSON.stringify(turn);
    const old = v.log.children[index];
    if (old && shown.get(old) === shape) return;
    const item = old ?? h("div", {});
    shown.set(item, shape);
    item.className = `turn ${turn.role}${turn.cut ? " cut" : ""}`;
    replace(item,
      h("span", { class: "who" }, who(turn)),
      h("p", {}, turn.role === "agent" ? pieces(turn) : spokenSoFar(turn)),
      turn.answeredMs ? h("span", { class: "took", title: "from the end of your speech to the first sound of the answer" }, `answered in ${millis(turn.answeredMs)}`) : null,
      turn.cut ? h("span", { class: "took" }, "interrupted") : null);
    if (!old) v.log.append(item);
  });
}

function who(turn) {
  if (turn.role === "agent") return "Agent";
  if (turn.keys) return "You pressed";
  return turn.typed ? "You typed" : "You";
}

function spokenSoFar(turn) {
  return [turn.text && `${turn.text} `, turn.interim && h("span", { class: "interim", "aria-hidden": "true" }, turn.interim)];
}

/** What was heard is bright, what is still to come is not. */
function pieces(turn) {
  return turn.pieces.flatMap(({ text, status, progress }) => {
    if (status === "completed") return [`${text} `];
    if (status === "in-progress" && progress) return [progress, h("span", { class: "ahead" }, `${text.slice(progress.length)} `)];
    return status === "in-progress" ? [`${text} `] : [h("span", { class: "ahead" }, `${text} `)];
  });
}

/** Fills the list of microphones and keeps the choice. */
export function showMicrophones(v, found) {
  const chosen = v.device.value;
  replace(v.device, h("option", { value: "" }, "Default microphone"), found.map(({ id, name }) => h("option", { value: id }, name)));
  if (found.some(({ id }) => id === chosen)) v.device.value = chosen;
}
