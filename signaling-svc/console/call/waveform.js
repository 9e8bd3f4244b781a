// The picture of a call: caller above, agent below, time from left to right. A slider for the keyboard and for people who
// hear the page.

import { colours, h, sharp } from "../dom.js";
import { clock, millis } from "../format.js";
import { LEVELS_PER_SECOND } from "./wav.js";

/** What the arrow keys and the page keys move by, seconds. */
const STEPS = { ArrowRight: 2, ArrowUp: 2, ArrowLeft: -2, ArrowDown: -2, PageUp: 15, PageDown: -15 };
/** Room above for the time and between the lanes for what an answer took, CSS pixels. */
const RULER = 20;
const MIDDLE = 24;

export class Waveform {
  /** `seek(seconds)` is called when the person chooses a place. */
  constructor(seek) {
    this.seek = seek;
    this.seconds = 0;
    this.lanes = [];
    this.turns = [];
    this.cursor = 0;
    this.hover = null;
    this.canvas = h("canvas", { class: "wave", tabindex: 0, role: "slider", "aria-label": "Place in the recording", "aria-valuemin": 0, "aria-valuenow": 0 });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.seek(this.timeAt(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      this.hover = this.timeAt(event);
      if (event.buttons & 1) this.seek(this.hover);
      this.draw();
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.draw();
    });
    this.canvas.addEventListener("keydown", (event) => {
      const to = { Home: 0, End: this.seconds }[event.key] ?? (STEPS[event.key] ? this.cursor + STEPS[event.key] : null);
      if (to === null) return;
      event.preventDefault();
      this.seek(Math.max(0, Math.min(this.seconds, to)));
    });
    this.redraw = () => this.draw();
    addEventListener("themechange", this.redraw);
    this.watch = new ResizeObserver(this.redraw);
    this.watch.observe(this.canvas);
  }

  close() {
    removeEventListener("themechange", this.redraw);
    this.watch.disconnect();
  }

  /** What is drawn. `turns` as the API has them. */
  show({ seconds, lanes }, turns) {
    this.seconds = seconds;
    this.lanes = lanes;
    this.turns = turns.filter((turn) => turn.startMs !== undefined);
    this.canvas.setAttribute("aria-valuemax", Math.round(seconds));
    this.loudest = lanes.map((lane) => Math.max(0.02, lane.reduce((most, level) => Math.max(most, level), 0)));
    this.draw();
  }

  /** Where the sound is now. */
  at(seconds) {
    this.cursor = seconds;
    this.canvas.setAttribute("aria-valuenow", Math.round(seconds));
    this.canvas.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(this.seconds)}`);
    this.draw();
  }

  timeAt(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    return Math.max(0, Math.min(this.seconds, ((event.clientX - left) / width) * this.seconds));
  }

  draw() {
    const { context, width, height } = sharp(this.canvas);
    if (!this.seconds || width === 0) return;
    const c = colours("caller", "agent", "line", "ink", "soft", "caller-wash", "agent-wash", "gap", "accent");
    const x = (seconds) => (seconds / this.seconds) * width;
    const half = (height - RULER - MIDDLE) / 2;
    const lanes = [
      { top: RULER, colour: c.caller, wash: c["caller-wash"], role: "user" },
      { top: RULER + half + MIDDLE, colour: c.agent, wash: c["agent-wash"], role: "assistant" },
    ];
    this.ruler(context, c, x, width, height);
    this.lanes.length === 1 ? this.mono(context, c, width, height) : lanes.forEach((lane, index) => this.lane(context, lane, index, half, width, x));
    this.gaps(context, c, x, RULER + half);
    if (this.hover !== null) this.line(context, x(this.hover), height, c.soft, clock(this.hover), c, width);
    this.line(context, x(this.cursor), height, c.ink, null, c, width);
  }

  ruler(context, c, x, width, height) {
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((one) => x(one) >= 64) ?? 3600;
    context.font = "11px ui-monospace, monospace";
    context.textBaseline = "top";
    for (let second = 0; second <= this.seconds; second += step) {
      context.fillStyle = c.line;
      context.fillRect(Math.round(x(second)), 0, 1, height);
      context.fillStyle = c.soft;
      if (x(second) + 34 < width) context.fillText(clock(second), x(second) + 4, 2);
    }
  }

  lane(context, { top, colour, wash, role }, index, half, width, x) {
    const middle = top + half / 2;
    for (const turn of this.turns.filter((one) => one.role === role)) {
      context.fillStyle = wash;
      context.beginPath();
      context.roundRect(x(turn.startMs / 1000), top, Math.max(2, x((turn.endMs - turn.startMs) / 1000)), half, 4);
      context.fill();
    }
    const lane = this.lanes[index] ?? [];
    const gain = 1 / this.loudest[index];
    // A bar of two pixels and one between: finer is noise to the eye.
    const pitch = 3;
    for (let px = 0; px < width; px += pitch) {
      const from = Math.floor((px / width) * this.seconds * LEVELS_PER_SECOND);
      const to = Math.max(from + 1, Math.floor(((px + pitch) / width) * this.seconds * LEVELS_PER_SECOND));
      let level = 0;
      for (let column = from; column < to && column < lane.length; column++) level = Math.max(level, lane[column]);
      const tall = Math.max(1, (level * gain) ** 0.7 * (half - 6));
      context.globalAlpha = (px / width) * this.seconds <= this.cursor || this.cursor === 0 ? 1 : 0.55;
      context.fillStyle = colour;
      context.beginPath();
      context.roundRect(px, middle - tall / 2, 2, tall, 1);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  mono(context, c, width, height) {
    const half = height - RULER;
    this.lane(context, { top: RULER, colour: c.accent, wash: c["caller-wash"], role: "user" }, 0, half, width, (s) => (s / this.seconds) * width);
  }

  /** Between the lanes: from the caller's last word to the agent's first. */
  gaps(context, c, x, top) {
    context.font = "600 11px ui-monospace, monospace";
    context.textBaseline = "middle";
    let free = 0;
    for (const { startMs, timing } of this.turns) {
      if (!timing) continue;
      const [from, to] = [x((startMs - timing.firstAudioMs) / 1000), x(startMs / 1000)];
      context.fillStyle = c.gap;
      context.beginPath();
      context.roundRect(from, top + MIDDLE / 2 - 3, Math.max(2, to - from), 6, 3);
      context.fill();
      const label = millis(timing.firstAudioMs);
      const at = Math.min(to + 5, context.canvas.getBoundingClientRect().width - context.measureText(label).width);
      if (at < free) continue;
      context.fillStyle = c.ink;
      context.fillText(label, at, top + MIDDLE / 2 + 0.5);
      free = at + context.measureText(label).width + 8;
    }
  }

  line(context, x, height, colour, label, c, width) {
    context.fillStyle = colour;
    context.fillRect(Math.round(x) - 0.5, 0, label === null ? 1.5 : 1, height);
    if (label === null) return;
    context.font = "11px ui-monospace, monospace";
    context.textBaseline = "top";
    const wide = context.measureText(label).width;
    context.fillText(label, x + wide + 8 > width ? x - wide - 5 : x + 5, height - 14);
  }
}
