// What a page hears, as s16.

const RATE = 16000;
const WORKLET = `
registerProcessor("tape", class extends AudioWorkletProcessor {
  process([input]) {
    this.port.postMessage(input[0] ? input[0].slice() : new Float32Array(128));
    return true;
  }
});`;

/** Everything that is added, on one timeline: silence counts. */
export class Recorder {
  static async start() {
    const context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
    return new Recorder(context);
  }

  constructor(context) {
    this.context = context;
    this.rate = RATE;
    this.blocks = [];
    this.samples = 0;
    this.tape = new AudioWorkletNode(context, "tape", { channelCount: 1, channelCountMode: "explicit" });
    this.tape.port.onmessage = ({ data }) => {
      this.blocks.push(data);
      this.samples += data.length;
    };
    // Nothing runs that does not lead to the speakers; the tape itself is silent.
    this.tape.connect(context.destination);
  }

  /** Puts a stream on the tape. */
  add(stream) {
    this.context.createMediaStreamSource(stream).connect(this.tape);
  }

  /** The tape in base64. */
  base64() {
    const bytes = new DataView(new ArrayBuffer(this.samples * 2));
    let at = 0;
    for (const block of this.blocks) {
      for (const sample of block) {
        bytes.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
        at += 2;
      }
    }
    return base64(new Uint8Array(bytes.buffer));
  }
}

/** Puts on the tape what the page plays through media elements. */
export function tapElements(recorder) {
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    recorder.add(this.srcObject);
    return play.call(this);
  };
}

/** What a client that has a player of its own gives to it: s16, without the silence in between. */
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

  base64() {
    const all = new Int16Array(this.samples);
    let at = 0;
    for (const block of this.blocks) {
      all.set(block, at);
      at += block.length;
    }
    return base64(new Uint8Array(all.buffer));
  }
}

function base64(bytes) {
  let text = "";
  for (let from = 0; from < bytes.length; from += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(from, from + 0x8000));
  }
  return btoa(text);
}
