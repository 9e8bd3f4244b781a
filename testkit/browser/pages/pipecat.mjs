// A call by one of pipecat's clients, as the documentation shows it. What happens is noted with the place on the tape.
import { WavMediaManager } from "@pipecat-ai/websocket-transport";
import { call as byWebRtc } from "../snippets/pipecat-webrtc.mjs";
import { call as byWebSocket } from "../snippets/pipecat-websocket.mjs";
import { Received, Recorder, tapElements } from "./recorder.mjs";

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
// What comes by WebRTC is recorded as it is played; what comes by WebSocket, as it comes.
const TAPES = {
  async webrtc() {
    const recorder = await Recorder.start();
    tapElements(recorder);
    return recorder;
  },
  async websocket() {
    const received = new Received(24_000);
    received.tap(WavMediaManager, "bufferBotAudio");
    return received;
  },
};

/** Calls, and answers when the agent is ready. */
window.start = async (transport, server, options) => {
  const tape = await TAPES[transport]();
  const note = (type) => [type, (data) => window.events.push({ type, data: data ?? null, at: tape.samples })];
  const callbacks = Object.fromEntries(NOTED.map(note));
  window.opened = performance.now();
  const client = await CALLS[transport](server, { ...options, callbacks });
  window.heard = () => ({ rate: tape.rate, base64: tape.base64() });
  window.hangUp = () => client.disconnect();
};

/** Whether the agent has spoken since the caller last did, and both are quiet. */
window.quiet = () => {
  const { type } = window.events.findLast(({ type }) => type.endsWith("Speaking")) ?? {};
  return type === "onBotStoppedSpeaking";
};
