// Elements without a framework: `h("p", { class: "x" }, "text", child)`.

/** An element. Properties that begin with `on` are listeners, `true` sets an empty attribute, `null` and `false` none. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A drawing of 24 by 24, as lines. */
export function icon(...paths) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true", class: "icon" })) {
    svg.setAttribute(key, value);
  }
  for (const d of paths) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** Puts these children in place of what is there. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** The same, unless they look like what is there: that stays, with its focus, and is not read out again. */
export function update(element, ...children) {
  const next = [...h("div", {}, ...children).childNodes];
  const same = next.length === element.childNodes.length && next.every((child, index) => child.isEqualNode(element.childNodes[index]));
  if (!same) element.replaceChildren(...next);
}

/** Calls `work` now and again `every` milliseconds after it has answered, while the page is looked at. Answers how to stop. */
export function poll(work, every) {
  let timer = 0;
  let stopped = false;
  let busy = false;
  const again = async () => {
    clearTimeout(timer);
    // It goes on by itself.
    if (busy) return;
    busy = true;
    if (!document.hidden) await work();
    busy = false;
    if (!stopped) timer = setTimeout(again, every);
  };
  const woken = () => !document.hidden && again();
  document.addEventListener("visibilitychange", woken);
  again();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", woken);
  };
}

/** A canvas as sharp as the screen; answers its context, scaled, and its size in CSS pixels. */
export function sharp(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The page's colours as they are now, by the names in style.css. */
export function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
