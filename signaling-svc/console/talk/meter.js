// How loud both sides are, drawn as the last seconds of the call.

import { colours, sharp } from "../dom.js";

/** Bars of the picture, and how long one lasts, milliseconds. */
const BARS = 96;
const STEP_MS = 60;

/** Loudness of a node's sound, 0 to 1, on a scale like hearing. */
export function listenTo(context, node) {
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  node.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  return () => {
    analyser.getFloatTimeDomainData(samples);
    const mean = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const decibels = 10 * Math.log10(mean + 1e-9);
    return Math.max(0, Math.min(1, (decibels + 60) / 54));
  };
}

/** Draws both sides until stopped. `levels` answers `[caller, agent]`; `meters` are told the numbers. */
export function startMeter(canvas, meters, levels) {
  const history = Array.from({ length: BARS }, () => [0, 0]);
  let peak = [0, 0];
  let next = performance.now();
  let frame = 0;
  const draw = (now) => {
    const current = levels();
    peak = peak.map((value, side) => Math.max(value, current[side]));
    if (now >= next) {
      history.push(peak);
      history.shift();
      meters.forEach((meter, side) => meter.setAttribute("aria-valuenow", Math.round(peak[side] * 100)));
      peak = [0, 0];
      next = Math.max(next + STEP_MS, now);
    }
    paint(canvas, history);
    frame = requestAnimationFrame(draw);
  };
  frame = requestAnimationFrame(draw);
  return () => {
    cancelAnimationFrame(frame);
    meters.forEach((meter) => meter.setAttribute("aria-valuenow", 0));
    rest(canvas);
  };
}

/** The picture while nobody talks: a ripple without a colour. */
export function rest(canvas) {
  const ripple = (index, pace) => 0.05 + 0.16 * Math.sin((Math.PI * index) / BARS) ** 2 * (1 + Math.sin(index * pace));
  paint(canvas, Array.from({ length: BARS }, (_, index) => [ripple(index, 0.55), ripple(index, 0.41)]), true);
}

/** Caller above the line, agent below. */
export function paint(canvas, history, colourless = false) {
  const { context, width, height } = sharp(canvas);
  const { caller, agent, line } = colours("caller", "agent", "line");
  const pitch = width / history.length;
  const middle = height / 2;
  history.forEach(([up, down], index) => {
    const x = index * pitch + pitch * 0.2;
    const thick = pitch * 0.6;
    const age = 0.35 + (0.65 * index) / history.length;
    for (const [level, colour, direction] of [[up, caller, -1], [down, agent, 1]]) {
      const silent = colourless || level <= 0.02;
      context.globalAlpha = silent ? 1 : age;
      context.fillStyle = silent ? line : colour;
      const tall = Math.max(1, level * (middle - 4));
      context.beginPath();
      context.roundRect(x, direction < 0 ? middle - 1.5 - tall : middle + 1.5, thick, tall, Math.min(thick / 2, tall / 2));
      context.fill();
    }
  });
  context.globalAlpha = 1;
}
