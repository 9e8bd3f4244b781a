// What a page receives of the agent, without the silence in between: what it plays would have holes on a busy machine.

/** Clock units of one packet of Opus: 20 ms at 48 kHz. */
const PACKET = 960;

const WORKER = `
onrtctransform = ({ transformer: { readable, writable } }) => {
  const tape = new TransformStream({
    transform(frame, controller) {
      postMessage([frame.getMetadata().rtpTimestamp, new Uint8Array(frame.data.slice(0))]);
      controller.enqueue(frame);
    },
  });
  readable.pipeThrough(tape).pipeTo(writable);
};`;

/** What comes by WebRTC: packets of Opus as they come, on their way to the player. */
export class Packets {
  constructor() {
    this.packets = [];
    this.peers = [];
  }

  /** So far, at 48 kHz. */
  get samples() {
    return this.packets.length * PACKET;
  }

  /**
   * Notes the audio of every peer connection that is made from now on. Chromium asks whether there is a transform when
   * the receiver is made: when its track arrives it is too late.
   */
  tap() {
    const tape = this;
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        tape.peers.push(this);
      }

      addTrack(...args) {
        const sender = super.addTrack(...args);
        tape.add(this);
        return sender;
      }

      addTransceiver(...args) {
        const transceiver = super.addTransceiver(...args);
        tape.add(this);
        return transceiver;
      }
    };
  }

  add(peer) {
    for (const receiver of peer.getReceivers()) {
      if (receiver.transform || receiver.track.kind !== "audio") continue;
      const worker = new Worker(URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => this.packets.push(data);
      receiver.transform = new RTCRtpScriptTransform(worker);
    }
  }

  heard() {
    return { kind: "opus", rate: 48_000, packets: this.packets.map(([time, bytes]) => [time, base64(bytes)]) };
  }

  /** What the browser says that it has played of it (`inbound-rtp` of its statistics). */
  async played() {
    const reports = await Promise.all(this.peers.map((peer) => peer.getStats()));
    const inbound = reports.flatMap((report) => [...report.values()]).filter(({ type }) => type === "inbound-rtp");
    const sum = (field) => inbound.reduce((sum, one) => sum + (one[field] ?? 0), 0);
    const fields = ["packetsReceived", "totalAudioEnergy", "totalSamplesReceived", "concealedSamples", "silentConcealedSamples"];
    return Object.fromEntries(fields.map((field) => [field, sum(field)]));
  }
}

/** What a client that has a player of its own gives to it: s16. */
export class Received {
  constructor(rate) {
    this.rate = rate;
    this.blocks = [];
    this.samples = 0;
  }

  /** Notes the argument of a method of this class. */
  tap({ prototype }, method) {
    const original = prototype[method];
    const received = this;
    prototype[method] = function (samples, ...rest) {
      received.blocks.push(samples.slice());
      received.samples += samples.length;
      return original.call(this, samples, ...rest);
    };
  }

  heard() {
    const all = new Int16Array(this.samples);
    let at = 0;
    for (const block of this.blocks) {
      all.set(block, at);
      at += block.length;
    }
    return { kind: "samples", rate: this.rate, base64: base64(new Uint8Array(all.buffer)) };
  }
}

function base64(bytes) {
  let text = "";
  for (let from = 0; from < bytes.length; from += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(from, from + 0x8000));
  }
  return btoa(text);
}
