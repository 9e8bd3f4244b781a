// What runs beside the page, where sound must not wait: the microphone at 16 kHz, and a player that can be emptied.

/** Zero crossings of the low-pass on either side. */
const REACH = 8;
/** Fractions of a sample between which the low-pass is not computed anew. */
const PHASES = 32;

/** Brings sound from one rate down to another: a windowed sinc, so that nothing above the new half rate folds back. */
class Downsampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = (0.92 * Math.min(1, to / from)) / 2;
    this.half = Math.ceil(REACH / (2 * cutoff));
    this.kernels = Array.from({ length: PHASES + 1 }, (_, phase) => {
      const kernel = Float32Array.from({ length: 2 * this.half }, (_, i) => {
        const x = i - this.half + 1 - phase / PHASES;
        const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / this.half);
        const sinc = x === 0 ? 2 * cutoff : Math.sin(2 * Math.PI * cutoff * x) / (Math.PI * x);
        return Math.abs(x) >= this.half ? 0 : sinc * window;
      });
      const sum = kernel.reduce((total, value) => total + value, 0);
      return kernel.map((value) => value / sum);
    });
    this.kept = new Float32Array(2 * this.half);
    this.position = this.half;
  }

  process(input) {
    const all = new Float32Array(this.kept.length + input.length);
    all.set(this.kept);
    all.set(input, this.kept.length);
    const output = [];
    while (this.position + this.half < all.length) {
      const whole = Math.floor(this.position);
      const kernel = this.kernels[Math.round((this.position - whole) * PHASES)];
      let sum = 0;
      for (let i = 0; i < kernel.length; i++) sum += kernel[i] * all[whole - this.half + 1 + i];
      output.push(sum);
      this.position += this.step;
    }
    const from = Math.max(0, Math.floor(this.position) - this.half);
    this.kept = all.slice(from);
    this.position -= from;
    return output;
  }
}

/** Samples of a piece: 20 ms at 16 kHz. */
const PIECE = 320;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.down = new Downsampler(sampleRate, 16000);
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    for (const sample of this.down.process(channel)) {
      this.piece[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece, [this.piece.buffer]);
        this.piece = new Int16Array(PIECE);
        this.filled = 0;
      }
    }
    return true;
  }
}

/** Sound kept back before playing begins, seconds: what a network usually shakes a stream by. */
const CUSHION = 0.06;

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.pieces = [];
    this.offset = 0;
    this.waiting = 0;
    this.playing = false;
    this.port.onmessage = ({ data }) => {
      if (data === "flush") {
        this.pieces = [];
        this.offset = this.waiting = 0;
        this.playing = false;
      } else {
        this.pieces.push(data);
        this.waiting += data.length;
      }
    };
  }

  process(_, [[channel]]) {
    if (!this.playing && this.waiting >= CUSHION * sampleRate) this.playing = true;
    // The end of what was said is shorter than the cushion and must come all the same.
    if (!this.playing && this.waiting > 0 && (this.idle = (this.idle ?? 0) + channel.length) > 2 * CUSHION * sampleRate) this.playing = true;
    if (!this.playing) return true;
    this.idle = 0;
    let at = 0;
    while (at < channel.length && this.pieces.length > 0) {
      const piece = this.pieces[0];
      const count = Math.min(channel.length - at, piece.length - this.offset);
      for (let i = 0; i < count; i++) channel[at + i] = piece[this.offset + i] / 32768;
      at += count;
      this.offset += count;
      this.waiting -= count;
      if (this.offset === piece.length) {
        this.pieces.shift();
        this.offset = 0;
      }
    }
    if (this.pieces.length === 0) this.playing = false;
    return true;
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("player", Player);
