// A person whose network changes during a call.

/** Longest wait for media on the new way, milliseconds. */
const LIMIT_MS = 15_000;

/** How media goes: kind and name of this side's candidate, and where the far end is. */
export async function way(pc) {
  const stats = await pc.getStats();
  const transport = [...stats.values()].find(({ type }) => type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  if (!pair) return null;
  const [local, remote] = [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
  return {
    kind: local.candidateType,
    fragment: local.usernameFragment,
    remote: `${remote.address}:${remote.port}`,
    roundTripMs: pair.currentRoundTripTime * 1000,
  };
}

/**
 * First another track is offered on the live connection, then ICE is restarted under another policy (`RTCIceTransportPolicy`).
 * Answers the ways before and after, what was answered to the track, and how long the answer and the new way took.
 */
export async function moved({ pc, offer }, policy) {
  const before = await way(pc);
  const camera = pc.addTransceiver("video", { direction: "sendonly" });
  await offer();
  const onward = await way(pc);

  pc.setConfiguration({ ...pc.getConfiguration(), iceTransportPolicy: policy });
  const began = performance.now();
  pc.restartIce();
  await offer();
  const answeredMs = performance.now() - began;
  const fragment = pc.localDescription.sdp.match(/^a=ice-ufrag:(.*)$/m)[1].trim();
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    const after = await way(pc);
    if (after?.fragment === fragment && pc.connectionState === "connected") {
      return { before, onward, after, camera: camera.currentDirection, answeredMs, connectedMs: performance.now() - began };
    }
    if (performance.now() > end) throw new Error(`still ${pc.connectionState} by ${JSON.stringify(after)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
