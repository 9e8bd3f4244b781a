// The talk page: one button, and everything that happens after it.

import { api } from "../api.js";
import { h, replace } from "../dom.js";
import { rest, startMeter } from "./meter.js";
import { microphones, openMicrophone } from "./microphone.js";
import { rtvi } from "./rtvi.js";
import { connectSocket } from "./socket.js";
import { pressed, quiet, take, typed } from "./state.js";
import { build, showActivity, showMicrophones, showTurns } from "./view.js";
import { connectWebRtc } from "./webrtc.js";

export const title = "Talk";

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
    v.go.addEventListener("click", () => (this.phase === "idle" || this.phase === "over" ? this.begin(true) : this.hangUp()));
    v.mute.addEventListener("click", () => this.toggle(v.mute));
    v.hold.addEventListener("click", () => this.toggle(v.hold));
    v.keys.addEventListener("click", () => {
      v.pad.hidden = !v.pad.hidden;
      v.keys.setAttribute("aria-expanded", String(!v.pad.hidden));
    });
    v.pad.addEventListener("click", ({ target }) => target.dataset.key && this.press(target.dataset.key));
    v.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.type(v.text.value.trim());
    });
    this.keyDown = (event) => this.space(event, true);
    this.keyUp = (event) => this.space(event, false);
    addEventListener("keydown", this.keyDown);
    addEventListener("keyup", this.keyUp);
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

  leave() {
    this.hangUp();
    removeEventListener("keydown", this.keyDown);
    removeEventListener("keyup", this.keyUp);
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
      replace(this.v.after, h("a", { href: `#/calls/${sessionId}` }, "See this call: its sound, and how long each answer took"));
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
    const holds = this.v.hold.getAttribute("aria-pressed") === "true";
    this.v.hold.textContent = holds ? "Hold space to talk" : "Push to talk";
    this.applyMute();
  }

  applyMute() {
    const muted = this.v.mute.getAttribute("aria-pressed") === "true";
    const holds = this.v.hold.getAttribute("aria-pressed") === "true";
    this.v.mute.textContent = muted ? "Unmute" : "Mute";
    this.v.root.classList.toggle("muted", muted || (holds && !this.holding));
    this.link?.mute(muted || (holds && !this.holding));
  }

  space(event, down) {
    const holds = this.v.hold.getAttribute("aria-pressed") === "true";
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.code !== "Space" || !holds || !this.link || typing) return;
    event.preventDefault();
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
