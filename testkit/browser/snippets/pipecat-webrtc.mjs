import { PipecatClient } from "@pipecat-ai/client-js";
import { SmallWebRTCTransport, WavMediaManager } from "@pipecat-ai/small-webrtc-transport";

/** Opens the microphone and connects; resolves when the agent is ready. `client.disconnect()` hangs up. */
export async function call(server, { body, apiKey, callbacks } = {}) {
  const speaker = new Audio();
  const client = new PipecatClient({
    // Without this the library loads its default microphone code from the internet.
    transport: new SmallWebRTCTransport({ mediaManager: new WavMediaManager() }),
    enableMic: true,
    callbacks: {
      onTrackStarted: (track, participant) => {
        if (participant?.local || track.kind !== "audio") return;
        speaker.srcObject = new MediaStream([track]);
        speaker.play();
      },
      onUserTranscript: ({ text, final }) => final && console.log("you:", text),
      onBotOutput: ({ text }) => console.log("agent:", text),
      onError: ({ data }) => console.error(data),
      ...callbacks,
    },
  });
  await client.startBotAndConnect({
    endpoint: `${server}/start`,
    headers: new Headers(apiKey ? { Authorization: `Bearer ${apiKey}` } : {}),
    requestData: { enableDefaultIceServers: true, body },
  });
  return client;
}
