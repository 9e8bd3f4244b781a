// RTVI messages and pipecat's frames: what goes over the data channel and the socket. Nothing in here touches the page.

let last = 0;

/** One message as text. */
export function rtvi(type, data = {}) {
  return JSON.stringify({ label: "rtvi-ai", type, id: `c${++last}`, data });
}

/** The greeting after which the server speaks and listens. */
export function clientReady() {
  return rtvi("client-ready", { version: "2.0.0", about: { library: "voxray-console", library_version: "1" } });
}

/** A message as an object; nothing when it is not one of RTVI. */
export function readRtvi(text) {
  try {
    const message = JSON.parse(text);
    return message?.label === "rtvi-ai" && typeof message.type === "string" ? message : null;
  } catch {
    return null;
  }
}

// Protocol buffers, as much as frames need (https://protobuf.dev/programming-guides/encoding): wire type 0 is a number of
// seven bits a byte, 2 is a length and bytes.

function varint(number) {
  const bytes = [];
  while (number > 127) {
    bytes.push((number & 127) | 128);
    number >>>= 7;
  }
  bytes.push(number);
  return bytes;
}

function field(number, bytes) {
  return join([Uint8Array.from([(number << 3) | 2, ...varint(bytes.length)]), bytes]);
}

function number(fieldNumber, value) {
  return Uint8Array.from([fieldNumber << 3, ...varint(value)]);
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** `Frame{message: MessageFrame{data}}` */
export function messageFrame(text) {
  return field(4, field(1, new TextEncoder().encode(text)));
}

/** `Frame{audio: AudioRawFrame{audio, sample_rate, num_channels}}` of mono samples. */
export function audioFrame(samples, sampleRate) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  return field(2, join([field(3, bytes), number(4, sampleRate), number(5, 1)]));
}

function* fields(bytes) {
  let at = 0;
  const varintAt = () => {
    let value = 0;
    let factor = 1;
    for (;;) {
      if (at >= bytes.length) throw new Error("cut short");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const key = varintAt();
    const kind = key & 7;
    let value;
    if (kind === 0) value = varintAt();
    else if (kind === 2) {
      const length = varintAt();
      value = bytes.subarray(at, at + length);
      at += length;
    } else if (kind === 5 || kind === 1) at += kind === 5 ? 4 : 8;
    else throw new Error("not a frame");
    yield [Math.floor(key / 8), value];
  }
}

/** `{audio, sampleRate}`, `{message}`, `{interruption: true}`, or `{}` for what means nothing here. */
export function readFrame(buffer) {
  for (const [kind, body] of fields(new Uint8Array(buffer))) {
    if (kind === 5) return { interruption: true };
    const parts = body instanceof Uint8Array && (kind === 2 || kind === 4) ? Object.fromEntries(fields(body)) : {};
    if (kind === 4) return { message: new TextDecoder().decode(parts[1] ?? new Uint8Array()) };
    if (kind === 2 && parts[3]) {
      // A copy: samples must begin at an even place.
      const samples = new Int16Array(parts[3].slice().buffer, 0, parts[3].length >> 1);
      return { audio: samples, sampleRate: parts[4] || 24000 };
    }
  }
  return {};
}

/** The session a socket's token is for: the first part of it is our own JSON, signed and not secret. */
export function sessionOf(token) {
  try {
    const payload = token.split(".")[0].replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(payload));
    return claims.s ?? null;
  } catch {
    return null;
  }
}
