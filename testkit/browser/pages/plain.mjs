// A call without a library, as the documentation shows it. Notes the same as the page of pipecat's clients.
import { call } from "../snippets/plain-webrtc.mjs";
import { Packets } from "./recorder.mjs";
import { quiet } from "./turns.mjs";

const NOTED = {
  "bot-ready": "onBotReady",
  "user-started-speaking": "onUserStartedSpeaking",
  "user-stopped-speaking": "onUserStoppedSpeaking",
  "user-transcription": "onUserTranscript",
  "bot-started-speaking": "onBotStartedSpeaking",
  "bot-stopped-speaking": "onBotStoppedSpeaking",
};

window.events = [];

window.start = async (_transport, server, options) => {
  const tape = new Packets();
  tape.tap();
  const onMessage = ({ type, data }) => {
    if (type in NOTED) window.events.push({ type: NOTED[type], data: data ?? null, at: tape.samples });
  };
  window.opened = performance.now();
  const { pc } = await call(server, { ...options, onMessage });
  window.heard = () => tape.heard();
  window.played = () => tape.played();
  window.quiet = () => quiet(window.events);
  window.hangUp = () => pc.close();
};
