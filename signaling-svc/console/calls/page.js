// The calls page: those that run, and those of a day.

import { api } from "../api.js";
import { h, poll, replace } from "../dom.js";
import { day, duration, problem, time, way, words } from "../format.js";

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

  async function load() {
    const asked = date.value;
    if (!asked) return;
    try {
      const page = await api.archived(asked);
      if (asked === date.value) showFinished(finished, asked, page);
    } catch (error) {
      if (asked === date.value) replace(finished, problem(error));
    }
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

function showFinished(list, asked, page) {
  const shown = [];
  const body = h("tbody", {});
  const more = h("button", { type: "button", class: "more" }, "Load the later calls of this day");
  const add = ({ sessions, nextCursor }) => {
    shown.push(...sessions);
    // The archive begins with the oldest; people want the newest.
    replace(body, [...shown].reverse().filter((call) => call.endedAt || call.hasRecording || call.turns !== undefined).map(finishedRow));
    more.hidden = !nextCursor;
    more.onclick = async () => add(await api.archived(asked, nextCursor));
  };
  add(page);
  if (body.children.length === 0 && more.hidden) {
    replace(list, h("p", { class: "empty" }, "No finished calls on this day (UTC)."));
    return;
  }
  replace(list, more, h("table", {},
    h("thead", {}, h("tr", {}, head("Began"), head("Way"), head("Length", "number"), head("Turns", "number"), head("Ended because"), head("Recording"))),
    body));
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
