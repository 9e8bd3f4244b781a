import { PipecatClient } from "@pipecat-ai/client-js";
import { WavMediaManager, WebSocketTransport } from "@pipecat-ai/websocket-transport";

/** Opens the microphone and connects; resolves when the agent is ready. `client.disconnect()` hangs up. */
export async function call(server, { body, apiKey, callbacks } = {}) {
  const client = new PipecatClient({
    // 16 kHz in packets of 32 ms. Without this the library loads its default microphone code from the internet.
    transport: new WebSocketTransport({ mediaManager: new WavMediaManager(1024, 16_000) }),
    enableMic: true,
    callbacks: {
      onUserTranscript: ({ text, final }) => final && console.log("you:", text),
      onBotOutput: ({ text }) => console.log("agent:", text),
      onError: ({ data }) => console.error(data),
      ...callbacks,
    },
  });
  await client.startBotAndConnect({
    endpoint: `${server}/start`,
    headers: new Headers(apiKey ? { Authorization: `Bearer ${apiKey}` } : {}),
    requestData: { transport: "websocket", body },
  });
  return client;
}
