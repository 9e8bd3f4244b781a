// A recording as it comes in: how loud it is, a column of the picture each, without keeping its samples. Pure.

/** Columns a second. Each is a root mean square: a voice at the limit still has a shape, which its peaks have not. */
export const LEVELS_PER_SECOND = 100;

/** Reads a WAV file (RIFF, 16-bit PCM) piece by piece; an hour of sound becomes two lanes of 360 000 numbers. */
export class WavLevels {
  constructor() {
    this.pending = new Uint8Array(0);
    this.format = null;
    this.left = 0;
    this.frames = 0;
    this.column = 0;
    this.inColumn = 0;
    this.lanes = [];
  }

  /** Whether these first bytes are a WAV file that can be read here. */
  static fits(bytes) {
    const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
    return text(0, 4) === "RIFF" && text(8, 12) === "WAVE";
  }

  /** More of the file. */
  push(bytes) {
    let all = bytes;
    if (this.pending.length > 0) {
      all = new Uint8Array(this.pending.length + bytes.length);
      all.set(this.pending);
      all.set(bytes, this.pending.length);
    }
    let at = this.format?.data ? 0 : this.header(all);
    if (this.format?.data) at += this.samples(all.subarray(at));
    this.pending = all.slice(at);
  }

  header(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 12;
    while (at + 8 <= bytes.length) {
      const name = String.fromCharCode(...bytes.subarray(at, at + 4));
      const length = view.getUint32(at + 4, true);
      if (name === "data") {
        if (!this.format) throw new Error("This recording has no format.");
        this.format.data = true;
        this.left = length === 0 || length === 0xffffffff ? Infinity : length;
        this.lanes = Array.from({ length: this.format.channels }, () => []);
        this.power = new Float64Array(this.format.channels);
        this.summed = 0;
        return at + 8;
      }
      if (at + 8 + length > bytes.length) return 0;
      if (name === "fmt ") {
        const [kind, channels, rate, bits] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true), view.getUint32(at + 12, true), view.getUint16(at + 22, true)];
        if ((kind !== 1 && kind !== 0xfffe) || bits !== 16 || channels < 1) throw new Error("Only 16-bit PCM can be drawn.");
        this.format = { channels, rate, data: false };
      }
      at += 8 + length + (length % 2);
    }
    return 0;
  }

  samples(bytes) {
    const { channels, rate } = this.format;
    const usable = Math.min(this.left, bytes.length);
    const whole = usable - (usable % (2 * channels));
    const view = new DataView(bytes.buffer, bytes.byteOffset, whole);
    for (let at = 0; at < whole; at += 2 * channels) {
      for (let channel = 0; channel < channels; channel++) {
        const level = view.getInt16(at + 2 * channel, true) / 32768;
        this.power[channel] += level * level;
      }
      this.summed++;
      this.frames++;
      if (this.frames >= ((this.column + 1) * rate) / LEVELS_PER_SECOND) this.nextColumn();
    }
    this.left -= whole;
    return this.left <= 0 ? bytes.length : whole;
  }

  nextColumn() {
    this.lanes.forEach((lane, channel) => lane.push(Math.sqrt(this.power[channel] / Math.max(1, this.summed))));
    this.power.fill(0);
    this.summed = 0;
    this.column++;
  }

  /** `{seconds, lanes}`: of each channel its levels, 0 to 1. */
  finish() {
    if (!this.format?.data) throw new Error("This recording is empty.");
    this.nextColumn();
    return { seconds: this.frames / this.format.rate, lanes: this.lanes };
  }
}

/** Levels of sound that the browser has decoded. */
export function levelsOf(buffer) {
  const step = buffer.sampleRate / LEVELS_PER_SECOND;
  const lanes = Array.from({ length: buffer.numberOfChannels }, (_, channel) => {
    const samples = buffer.getChannelData(channel);
    return Array.from({ length: Math.ceil(samples.length / step) }, (_, column) => {
      const piece = samples.subarray(Math.floor(column * step), Math.floor((column + 1) * step));
      return Math.sqrt(piece.reduce((power, sample) => power + sample * sample, 0) / Math.max(1, piece.length));
    });
  });
  return { seconds: buffer.duration, lanes };
}
