// A conversation over WebRTC: the browser's own audio, and a data channel for everything else.

import { api } from "../api.js";
import { Lifeline } from "./lifeline.js";
import { listenTo } from "./meter.js";
import { clientReady, readRtvi } from "./rtvi.js";

/** Longest wait for a way through the network and for the server's greeting, milliseconds. */
const READY_MS = 8000;
/** How often the data channel says that this page is still there, milliseconds. */
const PING_MS = 1000;

/**
 * Connects; `microphone` may be missing. `told` gets every RTVI message, `ended` why it is over. `lost` and `back` are
 * called when there is no way through the network for a while.
 */
export async function connectWebRtc({ microphone, told, lost, back, ended }) {
  const { sessionId, iceConfig } = await api.start({ transport: "webrtc" });
  const peer = new RTCPeerConnection({ iceServers: iceConfig?.iceServers ?? [] });
  const context = new AudioContext();
  const sender = peer.addTransceiver(microphone?.getAudioTracks()[0] ?? "audio", { direction: "sendrecv" }).sender;
  const channel = peer.createDataChannel("chat", { ordered: true });
  const speaker = new Audio();
  speaker.autoplay = true;
  const levels = [microphone ? listenTo(context, context.createMediaStreamSource(microphone)) : () => 0, () => 0];
  peer.ontrack = ({ streams, track }) => {
    if (track.kind !== "audio") return;
    const stream = streams[0] ?? new MediaStream([track]);
    speaker.srcObject = stream;
    levels[1] = listenTo(context, context.createMediaStreamSource(stream));
  };
  /** What was said before the greeting was answered: the agent may begin as soon as there is a connection. */
  const before = [];
  let over = false;
  let muted = false;
  let ping = 0;
  let peerId;
  const finish = (why) => {
    if (over) return;
    over = true;
    clearInterval(ping);
    lifeline.end();
    peer.close();
    context.close();
    speaker.srcObject = null;
    ended(why);
  };
  const restart = (signal) => {
    peer.restartIce();
    return negotiate(signal);
  };
  const lifeline = new Lifeline({ restart, lost, back, gone: finish });
  const send = (text) => channel.readyState === "open" && channel.send(text);
  try {
    await context.resume();
    await greet();
  } catch (error) {
    over = true;
    peer.close();
    context.close();
    // A session that nobody talks to ends by itself; this only makes room earlier.
    api.end(sessionId).catch(() => {});
    throw error;
  }
  ping = setInterval(() => send(`ping: ${Date.now()}`), PING_MS);
  channel.onclose = () => finish("");
  peer.onconnectionstatechange = () => lifeline.state(peer.connectionState);
  lifeline.state(peer.connectionState);
  channel.onmessage = ({ data }) => {
    const message = typeof data === "string" ? readRtvi(data) : null;
    if (message) told(message);
    else if (typeof data === "string" && data.includes("peerLeft")) finish("");
  };
  setTimeout(() => before.forEach(told));
  return {
    way: "WebRTC",
    sessionId,
    send,
    mute: (now) => {
      muted = now;
      if (sender.track) sender.track.enabled = !now;
    },
    levels: () => [muted ? 0 : levels[0](), levels[1]()],
    close: () => {
      // Without a connection it gets there by the API alone.
      if (lifeline.holding) api.end(sessionId).catch(() => {});
      send(JSON.stringify({ label: "rtvi-ai", type: "disconnect-bot", id: "bye", data: {} }));
      finish("");
    },
  };

  /** Offers, at first and again. What is found before the answer belongs to this offer, and waits for it. */
  async function negotiate(signal) {
    const early = [];
    let answered = false;
    const tell = (candidates) => api.candidates(sessionId, { pc_id: peerId, candidates }).catch(() => {});
    peer.onicecandidate = ({ candidate }) => {
      const one = { candidate: candidate?.candidate ?? "", sdp_mid: candidate?.sdpMid ?? "0", sdp_mline_index: candidate?.sdpMLineIndex ?? 0 };
      if (answered) tell([one]);
      else early.push(one);
    };
    await peer.setLocalDescription();
    const { sdp, type } = peer.localDescription;
    const answer = await api.offer(sessionId, { sdp, type, pc_id: peerId }, signal);
    answered = true;
    peerId = answer.pc_id;
    if (early.length > 0) tell(early);
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  }

  async function greet() {
    await negotiate();
    await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("No way through the network to the media node was found by WebRTC. Choose WebSocket, or check media.udp_port and the firewall.")), READY_MS);
      channel.onopen = () => send(clientReady());
      channel.onmessage = ({ data }) => {
        const message = readRtvi(data);
        if (message && message.type !== "bot-ready") before.push(message);
        if (message?.type !== "bot-ready") return;
        clearTimeout(late);
        resolve();
      };
      if (channel.readyState === "open") send(clientReady());
    });
  }
}
