// One call: its sound, its words, and how long each answer took.

import { api, failure, request } from "../api.js";
import { h, icon, replace } from "../dom.js";
import { clock, duration, millis, moment, problem, way, words } from "../format.js";
import { bars, STAGES, summary } from "./timing.js";
import { levelsOf, WavLevels } from "./wav.js";
import { Waveform } from "./waveform.js";

export const title = "Call";

/** How often a call that is still being stored is asked for again, and for how long, milliseconds. */
const AGAIN_MS = 1500;
const PATIENCE_MS = 20000;
/** How long the end of a call is waited for whose words are there; it may run, or its node may be lost. Milliseconds. */
const END_MS = 4000;

const PLAY = "M7 5l12 7-12 7z";
const PAUSE = "M8 5v14M16 5v14";

export function show(main, id) {
  let page;
  let left = false;
  replace(main, h("p", { class: "empty", role: "status" }, "Loading the call…"));
  const began = Date.now();
  const isDone = ({ session, turns }) => !session || session.endedAt || (turns.length > 0 && Date.now() - began > END_MS);
  const load = async () => {
    const call = await patiently(async () => left || api.transcript(id), (found) => left || isDone(found));
    if (left) return;
    page = new Page(id, call);
    replace(main, page.root);
    page.load();
  };
  load().catch((error) => left || replace(main, problem(error)));
  return () => {
    left = true;
    page?.leave();
  };
}

/** Asks again while the archive has not all of it: a call that has just ended takes a moment. */
async function patiently(ask, done) {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      const found = await ask();
      if (done(found) || Date.now() > until) return found;
    } catch (error) {
      if (error.status !== 404 || Date.now() > until) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

class Page {
  constructor(id, { session = {}, turns }) {
    this.id = id;
    this.turns = turns;
    this.session = session;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.waveform = new Waveform((seconds) => this.seek(seconds));
    this.play = h("button", { type: "button", class: "play", disabled: true, "aria-label": "Play", onclick: () => this.toggle() }, icon(PLAY));
    this.clock = h("span", { class: "clock", id: "clock" }, "0:00");
    this.speed = h("select", { "aria-label": "Speed", onchange: () => (this.audio.playbackRate = Number(this.speed.value)) },
      ["0.75", "1", "1.25", "1.5", "2"].map((rate) => h("option", { value: rate, selected: rate === "1" }, `${rate}×`)));
    this.sound = h("div", { class: "sound", "aria-live": "polite" }, h("p", { class: "empty" }, "Loading the recording…"));
    this.save = h("a", { class: "button quiet", hidden: true }, "Download");
    this.transcript = h("ol", { class: "turns" }, turns.map((turn) => this.turn(turn)));
    this.root = h("div", { class: "call-page" }, this.header(),
      h("div", { class: "call-grid" },
        h("section", { class: "card wide", "aria-labelledby": "sound-title" },
          h("div", { class: "row between" },
            h("h2", { id: "sound-title" }, "Recording"),
            h("div", { class: "row legend" },
              h("span", {}, h("i", { class: "key caller" }), "Caller"), h("span", {}, h("i", { class: "key agent" }), "Agent"),
              h("span", {}, h("i", { class: "key gap" }), "Wait for the answer"))),
          this.sound,
          h("div", { class: "row player" }, this.play, this.clock, this.speed, this.save)),
        h("section", { class: "card words", "aria-labelledby": "words-title" }, h("h2", { id: "words-title" }, "Transcript"),
          turns.length ? this.transcript : h("p", { class: "empty" }, "Nobody said anything that was understood.")),
        h("section", { class: "card wide", "aria-labelledby": "timing-title" }, this.timing())));
    this.follow = () => {
      this.move();
      if (!this.audio.paused) this.frame = requestAnimationFrame(this.follow);
    };
    this.audio.addEventListener("play", () => this.playing(true));
    this.audio.addEventListener("pause", () => this.playing(false));
    this.audio.addEventListener("seeked", () => this.move());
    this.audio.addEventListener("ended", () => this.playing(false));
  }

  header() {
    const facts = [way(this.session), duration(this.session.durationSeconds), this.session.endReason && words(this.session.endReason)].filter(Boolean);
    return h("header", { class: "call-head" },
      h("a", { href: "#/calls", class: "back" }, "‹ Calls"),
      h("h1", {}, this.session.startedAt ? moment(this.session.startedAt) : "Call"),
      h("p", { class: "lead" }, facts.join(" · "), h("span", { class: "code" }, this.id)));
  }

  turn(turn) {
    const agent = turn.role === "assistant";
    const known = turn.startMs !== undefined;
    return h("li", { class: `turn ${agent ? "agent" : "caller"}${turn.interrupted ? " cut" : ""}`, "data-seq": turn.seq },
      h("button", { type: "button", class: "plain", disabled: !known, onclick: () => this.listen(turn.startMs / 1000) },
        h("span", { class: "who" }, agent ? "Agent" : "Caller", known && h("span", { class: "at" }, clock(turn.startMs / 1000))),
        h("span", { class: "text" }, turn.text),
        turn.timing && h("span", { class: "took" }, `answered in ${millis(turn.timing.firstAudioMs)}`),
        turn.interrupted && h("span", { class: "took" }, "interrupted")));
  }

  timing() {
    const heading = h("h2", { id: "timing-title" }, "Answer times");
    const table = bars(this.turns, (ms) => this.listen(ms / 1000));
    if (!table) {
      const why = this.turns.some((turn) => turn.startMs !== undefined)
        ? "The agent answered nothing that was spoken in this call."
        : "This call's times were not kept. Set transcripts.extended=true for archiver-svc (one process has it by default); calls from then on are shown here with the time of every answer.";
      return [heading, h("p", { class: "empty" }, why)];
    }
    const { count, median, p95, slowest } = summary(this.turns);
    return [h("div", { class: "row between" }, heading,
      h("dl", { class: "facts" },
        [["Median", median], ["95 %", p95], ["Slowest", slowest]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, millis(value)))))),
    h("p", { class: "fine" }, `${count} answer${count === 1 ? "" : "s"}, each from the end of the caller's speech. Numbers are milliseconds until ${STAGES.map(({ name }) => name).join(", ")}.`),
    table];
  }

  async load() {
    const stop = new AbortController();
    this.stop = stop;
    try {
      const levels = await patiently(() => this.fetchSound(stop.signal), Boolean);
      replace(this.sound, this.waveform.canvas);
      this.waveform.show(levels, this.turns);
      this.seconds = levels.seconds;
      this.play.disabled = false;
      this.move();
    } catch (error) {
      if (error.name !== "AbortError") replace(this.sound, h("p", { class: "empty" }, error.message));
    }
  }

  /** The recording, its picture made while it comes in. */
  async fetchSound(signal) {
    const response = await request(api.recording(this.id), { signal, headers: { accept: "*/*" } }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Error("The recording lies in an object store that does not let this page read it, or that cannot be reached from here. Allow this page's address in the bucket's CORS rules.");
    });
    if (!response.ok) throw failure(response, await response.json().catch(() => null));
    const kind = response.headers.get("content-type") ?? "audio/wav";
    const parts = [];
    let wav = null;
    for (let reader = response.body.getReader(), piece; !(piece = await reader.read()).done; ) {
      if (parts.length === 0 && WavLevels.fits(piece.value)) wav = new WavLevels();
      wav?.push(piece.value);
      parts.push(piece.value);
    }
    const file = new Blob(parts, { type: kind });
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
    this.save.href = this.url;
    this.save.download = `${this.id}.${{ "audio/flac": "flac", "audio/ogg": "ogg" }[kind.split(";")[0]] ?? "wav"}`;
    this.save.hidden = false;
    if (wav) return wav.finish();
    // 8 kHz keep an hour below 300 MB.
    const decoder = new OfflineAudioContext(2, 1, 8000);
    return levelsOf(await decoder.decodeAudioData(await file.arrayBuffer()));
  }

  toggle() {
    if (this.audio.paused) this.audio.play();
    else this.audio.pause();
  }

  listen(seconds) {
    this.seek(seconds);
    if (this.audio.paused && !this.play.disabled) this.audio.play();
  }

  seek(seconds) {
    if (this.play.disabled) return;
    this.audio.currentTime = seconds;
    this.move(seconds);
  }

  playing(now) {
    this.play.setAttribute("aria-label", now ? "Pause" : "Play");
    replace(this.play, icon(now ? PAUSE : PLAY));
    cancelAnimationFrame(this.frame);
    if (now) this.frame = requestAnimationFrame(this.follow);
    this.move();
  }

  /** Everything that shows where the sound is. */
  move(to = this.audio.currentTime) {
    this.waveform.at(to);
    this.clock.textContent = `${clock(to)} / ${clock(this.seconds ?? 0)}`;
    const now = this.turns.findLast((turn) => turn.startMs !== undefined && turn.startMs / 1000 <= to + 0.05);
    for (const item of this.transcript.children) {
      const here = to > 0 && item.dataset.seq === String(now?.seq);
      if (here && item.getAttribute("aria-current") !== "true") this.reveal(item);
      if (here) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  }

  /** Scrolls the list and never the page. */
  reveal(item) {
    const list = this.transcript;
    const { top, bottom } = item.getBoundingClientRect();
    const frame = list.getBoundingClientRect();
    if (top < frame.top || bottom > frame.bottom) list.scrollTop += top - frame.top - frame.height / 3;
  }

  leave() {
    this.stop?.abort();
    this.audio.pause();
    this.audio.removeAttribute("src");
    cancelAnimationFrame(this.frame);
    this.waveform.close();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
