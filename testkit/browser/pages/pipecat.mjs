// A call by one of pipecat's clients, as the documentation shows it. What happens is noted with the place on the tape.
import { WavMediaManager } from "@pipecat-ai/websocket-transport";
import { call as byWebRtc } from "../snippets/pipecat-webrtc.mjs";
import { call as byWebSocket } from "../snippets/pipecat-websocket.mjs";
import { Packets, Received } from "./recorder.mjs";
import { quiet } from "./turns.mjs";

const NOTED = [
  "onConnected",
  "onDisconnected",
  "onBotReady",
  "onTransportStateChanged",
  "onUserStartedSpeaking",
  "onUserStoppedSpeaking",
  "onUserTranscript",
  "onBotStartedSpeaking",
  "onBotStoppedSpeaking",
  "onBotOutput",
  "onMetrics",
  "onError",
  "onDeviceError",
];

window.events = [];

const CALLS = { websocket: byWebSocket, webrtc: byWebRtc };
const TAPES = {
  webrtc() {
    const packets = new Packets();
    packets.tap();
    return packets;
  },
  websocket() {
    const received = new Received(24_000);
    received.tap(WavMediaManager, "bufferBotAudio");
    return received;
  },
};

/** Calls, and answers when the agent is ready. */
window.start = async (transport, server, options) => {
  const tape = TAPES[transport]();
  const note = (type) => [type, (data) => window.events.push({ type, data: data ?? null, at: tape.samples })];
  const callbacks = Object.fromEntries(NOTED.map(note));
  window.opened = performance.now();
  const client = await CALLS[transport](server, { ...options, callbacks });
  window.heard = () => tape.heard();
  window.played = () => tape.played?.();
  window.quiet = () => quiet(window.events);
  window.hangUp = () => client.disconnect();
};
