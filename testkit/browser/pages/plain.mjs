// A call without a library, as the documentation shows it. Notes the same as the page of pipecat's clients.
import { call } from "../snippets/plain-webrtc.mjs";
import { moved, way } from "./moving.mjs";
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

/** Calls; `options.move`: changes the network as soon as the agent has said its first words. */
window.start = async (_transport, server, { move, ...options }) => {
  const tape = new Packets();
  tape.tap();
  let greeted;
  const heardOut = new Promise((resolve) => (greeted = resolve));
  const onMessage = ({ type, data }) => {
    if (type in NOTED) window.events.push({ type: NOTED[type], data: data ?? null, at: tape.samples });
    if (type === "bot-stopped-speaking") greeted();
  };
  window.opened = performance.now();
  const line = await call(server, { ...options, onMessage });
  const moves = move && heardOut.then(() => moved(line, move));
  window.heard = () => tape.heard();
  window.played = () => tape.played();
  window.quiet = () => quiet(window.events);
  window.moved = () => moves;
  window.measured = () => measured(line.pc);
  // What `pc.close()` says may not get through a relay that is closed with it: the server would wait for this page.
  window.hangUp = async () => {
    const closed = new Promise((resolve) => (line.chat.onclose = resolve));
    line.chat.send(JSON.stringify({ label: "rtvi-ai", type: "disconnect-bot", id: "2", data: {} }));
    await closed;
    line.pc.close();
  };
};

/** What the browser's statistics say of the connection: the server's reports of this page's audio, and the way it goes. */
async function measured(pc) {
  const stats = [...(await pc.getStats()).values()];
  const sent = stats.find(({ type, kind }) => type === "outbound-rtp" && kind === "audio");
  const reported = stats.find(({ type }) => type === "remote-inbound-rtp");
  return {
    rttMs: reported.roundTripTime * 1000,
    jitterMs: reported.jitter * 1000,
    lossPercent: (100 * reported.packetsLost) / sent.packetsSent,
    ...(await way(pc)),
  };
}
