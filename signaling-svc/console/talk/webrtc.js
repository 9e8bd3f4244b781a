// A conversation over WebRTC: the browser's own audio, and a data channel for everything else.

import { api } from "../api.js";
import { listenTo } from "./meter.js";
import { clientReady, readRtvi } from "./rtvi.js";

/** Longest wait for a way through the network and for the server's greeting, milliseconds. */
const READY_MS = 8000;
/** How often the data channel says that this page is still there, milliseconds. */
const PING_MS = 1000;

/** Connects; `microphone` may be missing. `told` gets every RTVI message, `ended` why it is over. */
export async function connectWebRtc({ microphone, told, ended }) {
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
  const finish = (why) => {
    if (over) return;
    over = true;
    clearInterval(ping);
    peer.close();
    context.close();
    speaker.srcObject = null;
    ended(why);
  };
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
  peer.onconnectionstatechange = () => {
    if (peer.connectionState === "failed") finish("The connection was lost. Check the network, then press the button again.");
  };
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
      send(JSON.stringify({ label: "rtvi-ai", type: "disconnect-bot", id: "bye", data: {} }));
      finish("");
    },
  };

  async function greet() {
    let peerId;
    const early = [];
    const tell = (candidates) => api.candidates(sessionId, { pc_id: peerId, candidates }).catch(() => {});
    peer.onicecandidate = ({ candidate }) => {
      const one = { candidate: candidate?.candidate ?? "", sdp_mid: candidate?.sdpMid ?? "0", sdp_mline_index: candidate?.sdpMLineIndex ?? 0 };
      if (peerId) tell([one]);
      else early.push(one);
    };
    await peer.setLocalDescription();
    const { sdp, type } = peer.localDescription;
    const answer = await api.offer(sessionId, { sdp, type });
    peerId = answer.pc_id;
    if (early.length > 0) tell(early);
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
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
