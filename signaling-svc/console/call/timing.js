// How long each answer took. `stages` and `summary` are pure.

import { h } from "../dom.js";
import { clock, millis, percentile } from "../format.js";

/** What an answer waits for, in this order. */
export const STAGES = [
  { key: "endpointMs", name: "end of turn", long: "silence until the turn counts as over" },
  { key: "transcriptMs", name: "transcript", long: "until the last words were recognised" },
  { key: "firstTokenMs", name: "first token", long: "until the model began to answer" },
  { key: "firstAudioMs", name: "first audio", long: "until the first sound of the answer was sent" },
];

/** The pieces of a bar, milliseconds: each from the end of the one before. */
export function stages(timing) {
  let before = 0;
  return STAGES.map(({ key, name }) => {
    const at = Math.max(before, timing[key]);
    const piece = { name, from: before, to: at, length: at - before };
    before = at;
    return piece;
  });
}

/** The answers of a call with what they answer: `{turn, question}`. */
export function answers(turns) {
  return turns
    .map((turn, index) => ({ turn, question: turns.slice(0, index).findLast((other) => other.role === "user") }))
    .filter(({ turn }) => turn.timing);
}

/** `{count, median, p95, slowest}` of the time to first audio, milliseconds. */
export function summary(turns) {
  const times = answers(turns).map(({ turn }) => turn.timing.firstAudioMs);
  return { count: times.length, median: percentile(times, 0.5), p95: percentile(times, 0.95), slowest: times.length ? Math.max(...times) : undefined };
}

/** A step for the scale under the bars that leaves between three and eight marks. */
export function scale(longest) {
  const step = [50, 100, 200, 250, 500, 1000, 2000, 5000, 10000, 20000, 60000].find((one) => longest / one <= 6) ?? 120000;
  return { step, end: Math.max(step, Math.ceil(longest / step) * step) };
}

/** The bars, one an answer, and the numbers beside them. `jump(ms)` is called with a place in the recording. */
export function bars(turns, jump) {
  const found = answers(turns);
  if (found.length === 0) return null;
  const all = summary(turns);
  const { step, end } = scale(all.slowest);
  const marks = Array.from({ length: Math.round(end / step) + 1 }, (_, index) => index * step);
  const rows = found.map(({ turn, question }) => {
    const pieces = stages(turn.timing).map((piece, index) => {
      const element = h("span", { class: `stage-${index}`, title: `${piece.name}: ${millis(piece.length)}` });
      element.style.left = `${(100 * piece.from) / end}%`;
      element.style.width = `${(100 * piece.length) / end}%`;
      return element;
    });
    const asked = question?.text ?? "";
    const end_of_speech = turn.startMs === undefined ? 0 : Math.max(0, turn.startMs - turn.timing.firstAudioMs);
    const go = h("button", { type: "button", class: "plain", onclick: () => jump(end_of_speech) },
      h("span", { class: "at" }, clock(end_of_speech / 1000)), h("span", { class: "asked" }, asked || "(keys)"));
    return h("tr", { "data-answer": turn.seq },
      h("th", { scope: "row", class: "bar-cell" }, go, h("div", { class: "latency", "aria-hidden": "true" }, pieces, gridlines(marks, end))),
      STAGES.map(({ key }, index) => h("td", { class: `number${index === STAGES.length - 1 ? " total" : ""}` }, Math.round(turn.timing[key]))));
  });
  const ruler = h("div", { class: "ruler", "aria-hidden": "true" }, marks.map((mark) => {
    const label = h("span", {}, mark === end ? millis(mark) : String(mark));
    label.style.left = `${(100 * mark) / end}%`;
    return label;
  }));
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Answer times" },
    h("table", { class: "answers" },
    h("caption", { class: "unseen" }, "Milliseconds from the end of the caller's speech"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "bar-cell" }, h("span", { class: "unseen" }, "After the caller said"), ruler),
      STAGES.map(({ name, long }, index) => h("th", { scope: "col", class: "number", title: long }, h("i", { class: `key stage-${index}`, "aria-hidden": "true" }), name)))),
    h("tbody", {}, rows)));
}

function gridlines(marks, end) {
  return marks.map((mark) => {
    const line = h("i", {});
    line.style.left = `${(100 * mark) / end}%`;
    return line;
  });
}
