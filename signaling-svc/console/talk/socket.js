// A conversation over a WebSocket: pipecat's frames, sound in both directions.

import { api } from "../api.js";
import { openPlayer } from "./player.js";
import { audioFrame, clientReady, messageFrame, readFrame, readRtvi, sessionOf } from "./rtvi.js";
import { listenTo } from "./meter.js";

/** Longest wait for the server's greeting, milliseconds. */
const READY_MS = 8000;
/** Sound that may wait to be sent, bytes (two seconds); more would only arrive late, and is dropped. */
const MAX_WAITING = 64000;

/** Why a call is over that nobody has ended. A socket does not come back to its call (docs/client-sockets.md). */
const broken = (code, reason) =>
  `${reason ? `The media node ended the call: ${reason}` : "The connection to the media node was lost, and the call with it"} (${code}). Press the button to talk again, to another node if need be.`;

/** Connects; `microphone` may be missing. `told` gets every RTVI message, `ended` why it is over. */
export async function connectSocket({ microphone, told, ended }) {
  const { wsUrl, token } = await api.start({ transport: "websocket" });
  const sessionId = sessionOf(token);
  const url = new URL(wsUrl, location.href);
  url.searchParams.set("format", "protobuf");
  url.searchParams.set("token", token);
  let player;
  let capture;
  let socket;
  let muted = false;
  let over = false;
  const finish = (why) => {
    if (over) return;
    over = true;
    capture.close();
    player.close();
    ended(why);
  };
  const send = (text) => socket.readyState === WebSocket.OPEN && socket.send(messageFrame(text));
  try {
    player = await openPlayer();
    capture = await openCapture(microphone);
    socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("The media node did not answer in time. Press the button again.")), READY_MS);
      socket.onopen = () => send(clientReady());
      socket.onclose = () => reject(new Error(`The media node at ${url.host} cannot be reached from here, or refused the call. Check media_public_url and what stands between.`));
      socket.onmessage = ({ data }) => {
        const message = readRtvi(readFrame(data).message ?? "");
        if (message?.type !== "bot-ready") return;
        clearTimeout(late);
        resolve();
      };
    });
  } catch (error) {
    over = true;
    socket?.close();
    capture?.close();
    player?.close();
    // A slot waits for a session that nobody has come to; this makes room earlier.
    api.end(sessionId).catch(() => {});
    throw error;
  }
  socket.onmessage = ({ data }) => {
    const frame = readFrame(data);
    if (frame.audio) player.play(frame.audio, frame.sampleRate);
    if (frame.interruption) player.flush();
    const message = frame.message && readRtvi(frame.message);
    if (!message) return;
    if (message.type === "bot-interrupted") player.flush();
    told(message);
  };
  socket.onclose = ({ code, reason }) => finish(code === 1000 || code === 1005 ? "" : broken(code, reason));
  capture.onpiece = (samples) => {
    if (!muted && socket.readyState === WebSocket.OPEN && socket.bufferedAmount < MAX_WAITING) socket.send(audioFrame(samples, 16000));
  };
  return {
    way: "WebSocket",
    sessionId,
    send,
    mute: (now) => {
      muted = now;
    },
    levels: () => [muted ? 0 : capture.level(), player.level()],
    close: () => {
      socket.close(1000);
      finish("");
    },
  };

  async function openCapture(stream) {
    player.level = listenTo(player.context, player.output);
    if (!stream) return { level: () => 0, close() {}, onpiece: null };
    const context = new AudioContext();
    await context.audioWorklet.addModule("/console/talk/worklets.js").catch((error) => {
      context.close();
      throw error;
    });
    const source = context.createMediaStreamSource(stream);
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    source.connect(node);
    await context.resume();
    const captured = { level: listenTo(context, source), close: () => context.close(), onpiece: null };
    node.port.onmessage = ({ data }) => captured.onpiece?.(data);
    return captured;
  }
}
