/** Opens the microphone and connects; resolves when both sides can be heard. `pc.close()` hangs up. */
export async function call(server, { body, apiKey, onMessage = console.log } = {}) {
  const headers = { "Content-Type": "application/json", ...(apiKey && { Authorization: `Bearer ${apiKey}` }) };
  const send = async (method, path, json) => {
    const answer = await fetch(server + path, { method, headers, body: JSON.stringify(json) });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    return answer.json();
  };
  const { sessionId, iceConfig } = await send("POST", "/start", { body });
  const path = `/sessions/${sessionId}/api/offer`;

  const pc = new RTCPeerConnection(iceConfig);
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  pc.addTrack(microphone.getAudioTracks()[0], microphone);
  const speaker = new Audio();
  pc.ontrack = ({ track }) => {
    speaker.srcObject = new MediaStream([track]);
    speaker.play();
  };
  const chat = pc.createDataChannel("chat");
  chat.onmessage = ({ data }) => onMessage(JSON.parse(data));
  const opened = new Promise((resolve) => (chat.onopen = resolve));

  let pc_id;
  const trickle = (candidates) =>
    send("PATCH", path, {
      pc_id,
      candidates: candidates.map((one) => ({
        candidate: one.candidate,
        sdp_mid: one.sdpMid,
        sdp_mline_index: one.sdpMLineIndex,
      })),
    });
  /** Offers what the connection is to be: at first, after a change of its tracks, and after `pc.restartIce()`. */
  const offer = async () => {
    const found = [];
    pc.onicecandidate = ({ candidate }) => candidate && found.push(candidate);
    await pc.setLocalDescription();
    const answer = await send("POST", path, { sdp: pc.localDescription.sdp, type: "offer", pc_id });
    pc_id = answer.pc_id;
    pc.onicecandidate = ({ candidate }) => candidate && trickle([candidate]);
    await pc.setRemoteDescription(answer);
    if (found.length) await trickle(found);
  };
  await offer();
  await opened;
  const ready = { version: "2.0.0", about: { library: "browser" } };
  chat.send(JSON.stringify({ label: "rtvi-ai", type: "client-ready", id: "1", data: ready }));
  return { pc, chat, speaker, sessionId, offer };
}
