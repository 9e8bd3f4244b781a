// Plays what comes over a socket, without gaps, and falls silent at once when the agent was interrupted.

/** Rate of what the server sends, Hz; browsers bring it to that of the loudspeaker. */
export const PLAYER_RATE = 24000;

/** A player; `output` is where its sound can be measured. */
export async function openPlayer() {
  const context = new AudioContext({ sampleRate: PLAYER_RATE, latencyHint: "interactive" });
  await context.audioWorklet.addModule("/console/talk/worklets.js");
  const node = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
  node.connect(context.destination);
  await context.resume();
  return {
    context,
    output: node,
    play: (samples, rate) => node.port.postMessage(rate === PLAYER_RATE ? samples : stretch(samples, rate)),
    flush: () => node.port.postMessage("flush"),
    close: () => context.close(),
  };
}

/** Another rate than the usual: straight lines between samples are good enough for the rare case. */
function stretch(samples, rate) {
  const length = Math.round((samples.length * PLAYER_RATE) / rate);
  return Int16Array.from({ length }, (_, i) => {
    const at = Math.min((i * rate) / PLAYER_RATE, samples.length - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, samples.length - 1);
    return samples[low] + (samples[high] - samples[low]) * (at - low);
  });
}
