// The calls that run: a table whose rows stay as long as their calls do, with what came of ending them.

import { h, replace, update } from "../dom.js";
import { duration, problem, way } from "../format.js";

export class Live {
  /** `end(id)` ends a call; it fails with an error to show. */
  constructor(place, end) {
    this.place = place;
    this.end = end;
    this.rows = new Map();
    this.body = h("tbody");
    this.table = h("table", {},
      h("thead", {}, h("tr", {}, head("State"), head("Way"), head("Node"), head("Age", "number"), head("Session"), h("th", {}, h("span", { class: "unseen" }, "Actions")))),
      this.body);
    this.empty = h("p", { class: "empty" }, "Nobody is on the line. ", h("a", { href: "#/talk" }, "Talk to the agent"), ".");
  }

  show(sessions) {
    const ids = new Set(sessions.map((session) => session.sessionId));
    for (const [id, { element }] of this.rows) {
      if (ids.has(id)) continue;
      element.remove();
      this.rows.delete(id);
    }
    sessions.forEach((session, index) => {
      const { element, fill } = this.row(session.sessionId);
      fill(session);
      const there = this.body.children[index] ?? null;
      if (there !== element) this.body.insertBefore(element, there);
    });
    const content = sessions.length > 0 ? this.table : this.empty;
    if (this.place.firstChild !== content) replace(this.place, content);
  }

  row(id) {
    if (!this.rows.has(id)) this.rows.set(id, row(id, this.end));
    return this.rows.get(id);
  }
}

/** A column's head. */
export function head(text, kind) {
  return h("th", { scope: "col", class: kind }, text);
}

function row(id, end) {
  const [state, by, node, age] = [h("td"), h("td"), h("td"), h("td", { class: "number" })];
  const button = h("button", { type: "button", class: "small", "aria-label": `End call ${id.slice(0, 8)}` }, "End");
  const trouble = h("div");
  const busy = (now) => {
    button.disabled = now;
    button.textContent = now ? "Ending…" : "End";
  };
  button.addEventListener("click", async () => {
    busy(true);
    replace(trouble);
    try {
      // It is busy until the call is not listed any more.
      await end(id);
    } catch (error) {
      busy(false);
      replace(trouble, problem(error));
      // Who pressed it by keyboard is still there.
      if (document.activeElement === document.body) button.focus();
    }
  });
  const element = h("tr", { "data-session": id }, state, by, node, age, h("td", { class: "code" }, id.slice(0, 8)), h("td", { class: "act" }, button, trouble));
  const fill = (session) => {
    update(state, h("span", { class: `dot ${session.state}`, "aria-hidden": "true" }), session.state);
    update(by, way(session));
    update(node, session.node ?? "none yet");
    update(age, duration(session.ageSeconds));
  };
  return { element, fill };
}
