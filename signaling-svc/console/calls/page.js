// The calls page: those that run, and those of a day.

import { api } from "../api.js";
import { h, poll, replace } from "../dom.js";
import { day, duration, problem, time, way, words } from "../format.js";
import { Day } from "./day.js";

export const title = "Calls";

/** How often live calls are asked for, milliseconds. */
const EVERY_MS = 2000;

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
          h("label", { for: "day", class: "unseen" }, "Day, UTC"), date,
          h("button", { type: "button", class: "quiet", "aria-label": "The day after", onclick: step(1) }, "›"))),
      finished));
  date.addEventListener("change", load);

  /** The day that is shown, and its calls. */
  let shown = {};
  let known = "";
  const stop = poll(async () => {
    try {
      const sessions = await api.sessions();
      count.textContent = sessions.length || "";
      showLive(live, sessions, refresh);
      // A call that has gone is now a finished one.
      const ids = sessions.map((session) => session.sessionId).join();
      if (known !== ids && date.value === date.max) load();
      known = ids;
    } catch (error) {
      replace(live, problem(error));
    }
  }, EVERY_MS);
  const refresh = async () => {
    known = "";
    showLive(live, await api.sessions(), refresh);
  };
  load();
  return stop;

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
    replace(finished, content);
    const { next } = mine;
    mine.next = null;
    if (next) work(next);
  }
}

function showLive(list, sessions, refresh) {
  if (sessions.length === 0) {
    replace(list, h("p", { class: "empty" }, "Nobody is on the line. ", h("a", { href: "#/talk" }, "Talk to the agent"), "."));
    return;
  }
  const focused = document.activeElement?.dataset?.end;
  replace(list, h("table", {},
    h("thead", {}, h("tr", {}, head("State"), head("Way"), head("Node"), head("Age", "number"), head("Session"), h("th", {}, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, sessions.map((session) => row(session, refresh)))));
  if (focused) list.querySelector(`[data-end="${CSS.escape(focused)}"]`)?.focus();
}

function head(text, kind) {
  return h("th", { scope: "col", class: kind }, text);
}

function row(session, refresh) {
  const id = session.sessionId;
  const end = h("button", { type: "button", class: "small", "data-end": id, "aria-label": `End call ${id.slice(0, 8)}` }, "End");
  end.addEventListener("click", async () => {
    end.disabled = true;
    end.textContent = "Ending…";
    try {
      await api.end(id);
      await refresh();
    } catch (error) {
      end.replaceWith(problem(error));
    }
  });
  return h("tr", { "data-session": id },
    h("td", {}, h("span", { class: `dot ${session.state}`, "aria-hidden": "true" }), session.state),
    h("td", {}, way(session)),
    h("td", {}, session.node ?? "none yet"),
    h("td", { class: "number" }, duration(session.ageSeconds)),
    h("td", { class: "code" }, id.slice(0, 8)),
    h("td", { class: "act" }, end));
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
