// The page's frame: which view is shown, and what happens on the way from one to the next.

import { h, replace } from "./dom.js";
import { problem } from "./format.js";
import { startTheme } from "./theme.js";

/** Hash to module; the first that fits is shown. Each module has `title` and `show(place, ...parts)`, which may answer a
 *  function that is called when the view is left. The place is the view's own: what comes into it late is seen by nobody. */
const VIEWS = [
  [/^#\/calls\/([^/]+)$/, "./call/page.js", "calls"],
  [/^#\/calls$/, "./calls/page.js", "calls"],
  [/^#\/nodes$/, "./nodes/page.js", "nodes"],
  [/^#\/talk$/, "./talk/page.js", "talk"],
];

const main = document.getElementById("main");
let leave = () => {};
let turn = 0;

async function route() {
  const hash = location.hash || "#/talk";
  if (!hash.startsWith("#/")) return;
  const found = VIEWS.map(([pattern, module, section]) => ({ parts: hash.match(pattern), module, section }))
    .find(({ parts }) => parts);
  if (!found) {
    location.replace("#/talk");
    return;
  }
  const mine = ++turn;
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.getAttribute("href") === `#/${found.section}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = h("div", { class: `on-${found.section}` });
  replace(main, place);
  try {
    const view = await import(found.module);
    if (mine !== turn) return;
    document.title = `${view.title} · Voxray`;
    const left = await view.show(place, ...found.parts.slice(1).map(decodeURIComponent));
    if (typeof left !== "function") return;
    if (mine === turn) leave = left;
    else left();
  } catch (error) {
    if (mine === turn) replace(place, problem(error));
  }
}

startTheme(document.getElementById("theme"));
addEventListener("hashchange", async () => {
  await route();
  // The reader of a screen starts at the top of the new page.
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
route();
