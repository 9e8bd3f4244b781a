// The calls page: those that run, and those of a day.

import { api } from "../api.js";
import { h, poll, replace, update } from "../dom.js";
import { day, duration, problem, time, way, words } from "../format.js";
import { Day } from "./day.js";
import { head, Live } from "./live.js";

export const title = "Calls";

/** How often live calls are asked for, milliseconds. */
const EVERY_MS = 2000;
/** How long the archive is asked again after a call has come or gone: it hears of the end a little later, milliseconds. */
const LATE_MS = 20_000;

export function show(main) {
  const live = h("div", { class: "list", id: "live" }, h("p", { class: "empty" }, "Looking for calls…"));
  const count = h("span", { class: "count" });
  const date = h("input", { type: "date", id: "day", value: day(new Date()), max: day(new Date()) });
  const finished = h("div", { class: "list", id: "finished", "aria-live": "polite" });
  const step = (days) => () => {
    const moved = new Date(`${date.value || day(new Date())}T00:00:00Z`);
    moved.setUTCDate(moved.getUTCDate() + days);
    date.value = day(moved) > date.max ? date.max : day(moved);
    load();
  };
  replace(main,
    h("h1", {}, "Calls"),
    h("section", { "aria-labelledby": "live-title" }, h("h2", { id: "live-title" }, "Live now ", count), live),
    h("section", { "aria-labelledby": "finished-title" },
      h("div", { class: "row between" }, h("h2", { id: "finished-title" }, "Finished"),
        h("div", { class: "row" },
          h("button", { type: "button", class: "quiet", "aria-label": "The day before", onclick: step(-1) }, "‹"),
          h("label", { for: "day" }, "Day, UTC"), date,
          h("button", { type: "button", class: "quiet", "aria-label": "The day after", onclick: step(1) }, "›"))),
      finished));
  date.addEventListener("change", load);

  /** The day that is shown, and its calls. */
  let shown = {};
  /** The calls that ran when they were last asked for, and when they were others. */
  let known = null;
  let changed = 0;
  let looks = 0;
  const running = new Live(live, async (id) => {
    await api.end(id);
    look();
  });
  const look = async () => {
    const mine = ++looks;
    followDay();
    try {
      const sessions = await api.sessions();
      if (mine !== looks) return;
      count.textContent = sessions.length || "";
      running.show(sessions);
      const ids = sessions.map((session) => session.sessionId).join();
      if (known !== ids) changed = performance.now();
      known = ids;
    } catch (error) {
      if (mine === looks) update(live, problem(error));
    }
    if (date.value === date.max && performance.now() - changed < LATE_MS) load();
  };
  const stop = poll(look, EVERY_MS);
  load();
  return stop;

  /** Days end at midnight UTC, whether the page is open or not. */
  function followDay() {
    const today = day(new Date());
    if (date.max === today) return;
    const isLatest = date.value === date.max;
    date.max = today;
    if (!isLatest) return;
    date.value = today;
    load();
  }

  /** Shows the chosen day, and what is new in it. */
  function load() {
    const asked = date.value;
    if (!asked) return;
    if (shown.day !== asked) shown = { day: asked, calls: new Day((cursor) => api.archived(asked, cursor)) };
    work((calls) => calls.refresh());
  }

  /** One after the other, and what is asked for meanwhile once after that. */
  async function work(what) {
    const mine = shown;
    if (mine.busy) {
      mine.next = what;
      return;
    }
    mine.busy = true;
    let content;
    try {
      await what(mine.calls);
      content = table(mine.calls, () => work((calls) => calls.later()));
    } catch (error) {
      content = [problem(error), h("button", { type: "button", class: "more", onclick: load }, "Try again")];
    }
    mine.busy = false;
    if (mine !== shown) return;
    update(finished, content);
    const { next } = mine;
    mine.next = null;
    if (next) work(next);
  }
}

function table({ calls, more }, later) {
  const rows = calls.filter((call) => call.endedAt || call.hasRecording || call.turns !== undefined).map(finishedRow);
  if (rows.length === 0 && !more) return h("p", { class: "empty" }, "No finished calls on this day (UTC).");
  return [
    more && h("button", { type: "button", class: "more", onclick: later }, "Load the later calls of this day"),
    h("table", {},
      h("thead", {}, h("tr", {}, head("Began"), head("Way"), head("Length", "number"), head("Turns", "number"), head("Ended because"), head("Recording"))),
      h("tbody", {}, rows))];
}

function finishedRow(call) {
  return h("tr", { class: "link" },
    h("th", { scope: "row" }, h("a", { href: `#/calls/${call.sessionId}` }, time(call.startedAt), h("span", { class: "unseen" }, `, call ${call.sessionId.slice(0, 8)}`))),
    h("td", {}, way(call)),
    h("td", { class: "number" }, duration(call.durationSeconds)),
    h("td", { class: "number" }, call.turns ?? "–"),
    h("td", {}, call.endedAt ? words(call.endReason) : "node lost"),
    h("td", {}, call.hasRecording ? "yes" : "–"));
}
