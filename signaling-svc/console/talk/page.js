// The talk page: one button, and everything that happens after it.

import { api } from "../api.js";
import { h, replace } from "../dom.js";
import { rest, startMeter } from "./meter.js";
import { microphones, openMicrophone, UNPLUGGED } from "./microphone.js";
import { rtvi } from "./rtvi.js";
import { connectSocket } from "./socket.js";
import { pressed, quiet, take, typed } from "./state.js";
import { build, showActivity, showAfter, showMicrophones, showTurns } from "./view.js";
import { connectWebRtc } from "./webrtc.js";

export const title = "Talk";

/** Of the push-to-talk button: who holds it for longer talks, and does not turn it off. Milliseconds. */
const TAP_MS = 300;

export function show(main) {
  const v = build();
  replace(main, v.root);
  const talk = new Talk(v);
  talk.rest();
  return () => talk.leave();
}

/** Whether it is worth trying: a browser or a deployment may do without. */
async function serveWebRtc() {
  if (!globalThis.RTCPeerConnection) return false;
  return (await api.nodes()).some((node) => node.transports.includes("webrtc") && !node.draining);
}

class Talk {
  constructor(v) {
    this.v = v;
    this.state = quiet();
    this.link = null;
    /** Counts attempts: what comes from an earlier one is passed over. */
    this.attempt = 0;
    this.phase = "idle";
    /** There is no way through the network at the moment. */
    this.lost = false;
    this.holding = false;
    /** Ends what is listened to beyond the page's own elements. */
    this.away = new AbortController();
    v.go.addEventListener("click", () => (this.phase === "idle" || this.phase === "over" ? this.begin(true) : this.hangUp()));
    v.mute.addEventListener("click", () => this.toggle(v.mute));
    this.listenToHolding();
    v.keys.addEventListener("click", () => {
      v.pad.hidden = !v.pad.hidden;
      v.keys.setAttribute("aria-expanded", String(!v.pad.hidden));
    });
    v.pad.addEventListener("click", ({ target }) => target.dataset.key && this.press(target.dataset.key));
    v.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.type(v.text.value.trim());
    });
    this.plugged = async () => showMicrophones(v, await microphones());
    navigator.mediaDevices?.addEventListener?.("devicechange", this.plugged);
    this.plugged();
    this.repaint = () => this.stopMeter || this.rest();
    addEventListener("themechange", this.repaint);
    addEventListener("resize", this.repaint);
  }

  rest() {
    rest(this.v.canvas);
  }

  /** Push to talk: the space bar, or the button itself. Whatever takes the key or the finger away ends it. */
  listenToHolding() {
    const { hold } = this.v;
    const listen = (target, name, heard) => target.addEventListener(name, heard, { signal: this.away.signal });
    const release = () => this.hold(false);
    let pressedAt = null;
    listen(globalThis, "keydown", (event) => this.space(event, true));
    listen(globalThis, "keyup", (event) => this.space(event, false));
    listen(globalThis, "blur", release);
    listen(document, "visibilitychange", release);
    listen(hold, "pointerdown", (event) => {
      if (!this.holds() || !this.link || event.button !== 0) return;
      pressedAt = event.timeStamp;
      // The finger may move while it talks.
      hold.setPointerCapture(event.pointerId);
      this.hold(true);
    });
    listen(hold, "lostpointercapture", release);
    listen(hold, "contextmenu", (event) => this.holds() && event.preventDefault());
    listen(hold, "click", (event) => {
      // By keyboard it is a click and nothing before it.
      const talked = event.detail > 0 && pressedAt !== null && event.timeStamp - pressedAt > TAP_MS;
      pressedAt = null;
      if (!talked) this.toggle(hold);
    });
  }

  leave() {
    this.hangUp();
    this.away.abort();
    removeEventListener("themechange", this.repaint);
    removeEventListener("resize", this.repaint);
    navigator.mediaDevices?.removeEventListener?.("devicechange", this.plugged);
  }

  /** Connects, with the microphone or, for someone who types, without. */
  async begin(withMicrophone) {
    const mine = ++this.attempt;
    const current = () => mine === this.attempt;
    this.state = quiet();
    this.lost = false;
    this.show("connecting");
    replace(this.v.trouble);
    replace(this.v.after);
    try {
      if (withMicrophone) {
        this.microphone = await openMicrophone(this.v.device.value);
        // By itself only: not when it is stopped here.
        for (const track of this.microphone.getTracks()) track.addEventListener("ended", () => current() && this.unplugged());
        // Their names are known only now.
        this.plugged();
      }
      if (!current()) return this.closeMicrophone();
      const link = await this.connect(current);
      if (!current()) return link.close();
      this.link = link;
      this.stopMeter = startMeter(this.v.canvas, this.v.meters, link.levels);
      this.applyMute();
      this.show("live");
    } catch (error) {
      if (!current()) return;
      this.closeMicrophone();
      this.show("idle");
      replace(this.v.trouble, h("p", { class: "notice bad" }, error.message));
    }
  }

  async connect(current) {
    const handlers = {
      microphone: this.microphone,
      told: (message) => current() && this.told(message),
      lost: () => current() && this.line(true),
      back: () => current() && this.line(false),
      ended: (why) => current() && this.over(why),
    };
    const way = this.v.way.value;
    if (way === "webrtc" || (way === "auto" && (await serveWebRtc()))) {
      try {
        return await connectWebRtc(handlers);
      } catch (error) {
        if (way === "webrtc" || error.status === 429 || !current()) throw error;
      }
    }
    return connectSocket(handlers);
  }

  told(message) {
    this.state = take(this.state, message);
    if (message.type === "error") replace(this.v.trouble, h("p", { class: "notice" }, this.state.error));
    this.show("live");
  }

  unplugged() {
    replace(this.v.trouble, h("p", { class: "notice bad" }, UNPLUGGED));
  }

  line(lost) {
    this.lost = lost;
    this.show("live");
  }

  hangUp() {
    if (this.phase === "idle" || this.phase === "over") return;
    const link = this.link;
    this.over("");
    link?.close();
  }

  over(why) {
    const sessionId = this.link?.sessionId;
    this.attempt++;
    this.link = null;
    this.stopMeter?.();
    this.stopMeter = null;
    this.closeMicrophone();
    this.show(this.phase === "connecting" ? "idle" : "over");
    if (why) replace(this.v.trouble, h("p", { class: "notice bad" }, why));
    if (sessionId && this.state.turns.length > 0) {
      showAfter(this.v, h("a", { href: `#/calls/${sessionId}` }, "See this call: its sound, and how long each answer took"));
    }
  }

  closeMicrophone() {
    this.microphone?.getTracks().forEach((track) => track.stop());
    this.microphone = null;
  }

  show(phase) {
    this.phase = phase;
    const live = this.lost ? "reconnecting" : this.state.activity;
    const activity = phase === "live" ? live : phase;
    showActivity(this.v, activity, { tool: this.state.tool, way: this.link?.way });
    if (phase === "over") this.v.detail.textContent = "";
    showTurns(this.v, this.state.turns);
  }

  toggle(button) {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    this.v.hold.textContent = this.holds() ? "Hold this or space to talk" : "Push to talk";
    this.applyMute();
  }

  applyMute() {
    const muted = this.v.mute.getAttribute("aria-pressed") === "true";
    const silent = muted || (this.holds() && !this.holding);
    this.v.mute.textContent = muted ? "Unmute" : "Mute";
    this.v.root.classList.toggle("muted", silent);
    this.link?.mute(silent);
  }

  /** Whether sound goes out only while something is held down. */
  holds() {
    return this.v.hold.getAttribute("aria-pressed") === "true";
  }

  space(event, down) {
    if (event.code !== "Space") return;
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    const counts = this.holds() && this.link && !typing;
    if (counts) event.preventDefault();
    // Let go it counts wherever the person is by then.
    if (counts || !down) this.hold(down);
  }

  hold(down) {
    if (this.holding === down) return;
    this.holding = down;
    this.applyMute();
  }

  press(key) {
    if (!this.link) return;
    this.link.send(rtvi("dtmf", { buttons: [key] }));
    this.state = pressed(this.state, key);
    this.show("live");
  }

  async type(text) {
    if (!text) return;
    this.v.text.value = "";
    if (!this.link) await this.begin(false);
    if (!this.link) {
      this.v.text.value = text;
      return;
    }
    this.link.send(rtvi("send-text", { content: text, options: { run_immediately: true, audio_response: true } }));
    this.state = typed(this.state, text);
    this.show("live");
  }
}
