// The console page's logic, without a browser: `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scale, stages, summary } from "../../../signaling-svc/console/call/timing.js";
import { LEVELS_PER_SECOND, WavLevels } from "../../../signaling-svc/console/call/wav.js";
import { Day } from "../../../signaling-svc/console/calls/day.js";
import { poll } from "../../../signaling-svc/console/dom.js";
import { clock, duration, millis, percentile } from "../../../signaling-svc/console/format.js";
import { ATTEMPT_MS, GONE, HOLD_MS, Lifeline, OVER } from "../../../signaling-svc/console/talk/lifeline.js";
import { audioFrame, messageFrame, readFrame, readRtvi, rtvi, sessionOf } from "../../../signaling-svc/console/talk/rtvi.js";
import { pressed, quiet, take, typed } from "../../../signaling-svc/console/talk/state.js";
import { reason } from "../../../signaling-svc/console/talk/microphone.js";

const after = (...messages) => messages.reduce(take, quiet());
const output = (segment_id, text, spoken_status, spoken) => ({
  type: "bot-output",
  data: { segment_id, text, spoken_status, spoken_progress: spoken === undefined ? undefined : { accumulated_text: spoken } },
});
const transcript = (text, final) => ({ type: "user-transcription", data: { text, final } });

test("frames are read as they were written, at any length", () => {
  for (const length of [0, 1, 100, 127, 128, 20000]) {
    const text = "ä".repeat(length);
    assert.equal(readFrame(messageFrame(text).slice().buffer).message, text);
  }
  const samples = Int16Array.from([0, 1, -1, 32767, -32768]);
  const { audio, sampleRate } = readFrame(audioFrame(samples, 16000).slice().buffer);
  assert.deepEqual([...audio], [...samples]);
  assert.equal(sampleRate, 16000);
});

test("a frame has the bytes that protobuf prescribes", () => {
  assert.deepEqual([...messageFrame("hi")], [0x22, 4, 0x0a, 2, 0x68, 0x69]);
  assert.deepEqual([...audioFrame(Int16Array.of(1), 16000)], [0x12, 9, 0x1a, 2, 1, 0, 0x20, 0x80, 0x7d, 0x28, 1]);
});

test("what is no frame breaks off and what is no message is none", () => {
  assert.throws(() => readFrame(Uint8Array.of(0x12).buffer));
  assert.throws(() => readFrame(Uint8Array.of(0x13, 1).buffer));
  for (const text of ["", "{", "null", "3", '{"type":"error"}', '{"label":"other","type":"error"}']) assert.equal(readRtvi(text), null);
  assert.equal(readRtvi(rtvi("dtmf", { buttons: ["1"] })).type, "dtmf");
});

/** Bytes that are different each time and the same in each run (Marsaglia's xorshift). */
function* noise(seed) {
  for (let state = seed; ; ) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state & 255;
  }
}

test("no bytes upset the page's readers", () => {
  const bytes = noise(7);
  const next = () => bytes.next().value;
  const whole = [messageFrame("hello"), audioFrame(Int16Array.of(1, 2, 3), 16000)];
  for (let round = 0; round < 5000; round++) {
    const frame = round % 2 ? Uint8Array.from({ length: next() }, next) : whole[round % 4 ? 1 : 0].slice();
    if (frame.length > 0) frame[next() % frame.length] = next();
    try {
      const { message, audio } = readFrame(frame.slice(0, next()).buffer);
      assert.ok(message === undefined || typeof message === "string");
      assert.ok(audio === undefined || audio.length <= 255);
    } catch (error) {
      assert.ok(error instanceof Error);
    }
    const text = String.fromCharCode(...frame);
    assert.equal(readRtvi(text), null);
    assert.equal(sessionOf(text), null);
    const levels = new WavLevels();
    levels.push(wav(2, 1600, []));
    levels.push(frame);
    assert.ok(levels.finish().seconds >= 0);
  }
});

test("a token names its session, and one that is none names nothing", () => {
  const token = `${Buffer.from('{"s":"abc","t":"websocket"}').toString("base64url")}.signature`;
  assert.equal(sessionOf(token), "abc");
  assert.equal(sessionOf("nonsense"), null);
});

test("interim text is replaced and becomes final, and what follows joins it until the agent answers", () => {
  let state = after(transcript("he", false), transcript("hello", false));
  assert.deepEqual(state.turns.map((turn) => [turn.text, turn.interim]), [["", "hello"]]);
  state = [transcript("Hello.", true), transcript("Are you there?", true), output(1, "Yes.", "new"), transcript("Good.", true)].reduce(take, state);
  assert.deepEqual(state.turns.map((turn) => turn.text ?? turn.pieces[0].text), ["Hello. Are you there?", "Yes.", "Good."]);
});

test("an answer is one turn of pieces until the agent falls silent", () => {
  const state = after(output(1, "One.", "new"), output(2, "Two.", "new"), output(1, "One.", "completed", "One."), { type: "bot-stopped-speaking" }, output(3, "Three.", "new"));
  assert.deepEqual(state.turns.map((turn) => turn.pieces.map((piece) => piece.status)), [["completed", "new"], ["new"]]);
});

test("who is interrupted has not said what nobody heard", () => {
  const state = after(output(1, "One.", "in-progress", "O"), output(2, "Two.", "new"), { type: "bot-interrupted" });
  assert.deepEqual(state.turns.map((turn) => [turn.cut, turn.pieces.length]), [[true, 1]]);
  assert.equal(after(output(1, "One.", "new"), { type: "bot-interrupted" }).turns.length, 0);
});

test("an answer that nobody has heard gives way to the next, below its question", () => {
  const words = (state) => state.turns.map((turn) => turn.text ?? turn.pieces.map((piece) => piece.text).join(" "));
  const question = after(transcript("When are you", true), output(1, "Could you say more?", "new"));
  // Whether the server says that it was given up, or only that it asks again.
  for (const told of ["bot-interrupted", "user-llm-text"]) {
    const again = [{ type: told }, output(2, "Ninety dollars.", "new")].reduce(take, typed(question, "And what does it cost?"));
    assert.deepEqual(words(again), ["When are you", "And what does it cost?", "Ninety dollars."], told);
  }
  const asked = take(after(output(1, "One.", "in-progress", "O"), { type: "bot-started-speaking" }), { type: "user-llm-text" });
  assert.deepEqual(asked.turns.map((turn) => [turn.open, turn.cut]), [[true, undefined]]);
});

test("what the caller is saying while the agent goes on stays one turn, until the model is asked", () => {
  const state = after(output(1, "One.", "new"), { type: "bot-started-speaking" }, transcript("and on", false), output(2, "Two.", "new"), transcript("And on Sunday?", true));
  assert.deepEqual(state.turns.map((turn) => turn.text ?? turn.pieces.length), [2, "And on Sunday?"]);
  // What turned out to be nothing is not shown for ever.
  assert.deepEqual(after(transcript("hm", false), { type: "user-llm-text" }).turns, []);
});

test("a cough is not thought about", () => {
  const cough = [{ type: "user-started-speaking" }, { type: "user-stopped-speaking" }];
  assert.equal(after(...cough).activity, "listening");
  assert.equal(after(transcript("Hello.", true), output(1, "Yes.", "new"), ...cough).activity, "listening");
  assert.equal(after(transcript("Hello.", true), ...cough).activity, "thinking");
  assert.equal(after(...cough, transcript("Hello.", true)).activity, "thinking");
});

test("one always sees what the agent is doing", () => {
  const steps = [
    ["user-started-speaking", "hearing"],
    ["user-transcription", "hearing"],
    ["user-stopped-speaking", "thinking"],
    ["bot-llm-started", "thinking"],
    ["llm-function-call-started", "tool"],
    ["llm-function-call-stopped", "thinking"],
    ["bot-started-speaking", "speaking"],
    ["user-started-speaking", "speaking"],
    ["bot-interrupted", "speaking"],
    ["bot-stopped-speaking", "hearing"],
    ["user-stopped-speaking", "thinking"],
  ];
  let state = quiet();
  assert.equal(state.activity, "listening");
  for (const [type, activity] of steps) {
    state = take(state, { type, data: type === "user-transcription" ? { text: "Hello", final: false } : {} });
    assert.equal(state.activity, activity, type);
  }
  assert.equal(typed(quiet(), "hi").activity, "thinking");
  assert.deepEqual(take(state, { type: "something-new" }), state);
});

test("keys pressed one after the other are one turn", () => {
  const state = ["4", "2", "#"].reduce(pressed, after(transcript("Hello.", true)));
  assert.deepEqual(state.turns.map((turn) => turn.text), ["Hello.", "4 2 #"]);
});

test("an answer shows how long it took", () => {
  const metrics = { type: "metrics", data: { processing: [{ processor: "turn", value: 0.7124 }] } };
  assert.equal(after(output(1, "One.", "new"), metrics).turns[0].answeredMs, 712);
  assert.deepEqual(after(metrics).turns, []);
});

function wav(channels, rate, samples) {
  const buffer = Buffer.alloc(44 + samples.length * 2);
  buffer.write("RIFF", 0);
  buffer.writeUInt32LE(36 + samples.length * 2, 4);
  buffer.write("WAVEfmt ", 8);
  buffer.writeUInt32LE(16, 16);
  buffer.writeUInt16LE(1, 20);
  buffer.writeUInt16LE(channels, 22);
  buffer.writeUInt32LE(rate, 24);
  buffer.writeUInt16LE(16, 34);
  buffer.write("data", 36);
  buffer.writeUInt32LE(samples.length * 2, 40);
  samples.forEach((sample, index) => buffer.writeInt16LE(sample, 44 + 2 * index));
  return new Uint8Array(buffer);
}

test("levels are the same however the file comes in", () => {
  const samples = Array.from({ length: 2 * 1600 }, (_, i) => (i % 2 ? -16384 : i < 1600 ? 8192 : 0));
  const file = wav(2, 1600, samples);
  assert.ok(WavLevels.fits(file));
  for (const step of [1, 3, 44, 1000, file.length]) {
    const levels = new WavLevels();
    for (let at = 0; at < file.length; at += step) levels.push(file.subarray(at, at + step));
    const { seconds, lanes } = levels.finish();
    assert.equal(seconds, 1);
    assert.equal(lanes[0].length, LEVELS_PER_SECOND + 1);
    assert.deepEqual([lanes[0][10], lanes[0][90], lanes[1][10], lanes[1][90]], [0.25, 0, 0.5, 0.5]);
  }
});

test("a bar is made of pieces without gaps that end where the first sound does", () => {
  const pieces = stages({ endpointMs: 700, transcriptMs: 690, firstTokenMs: 705, firstAudioMs: 812 });
  assert.deepEqual(pieces.map(({ from, to }) => [from, to]), [[0, 700], [700, 700], [700, 705], [705, 812]]);
});

test("the summary is of answers alone, and the scale has marks to count", () => {
  const answer = (firstAudioMs) => ({ role: "assistant", timing: { endpointMs: 0, transcriptMs: 0, firstTokenMs: 0, firstAudioMs } });
  assert.deepEqual(summary([{ role: "user" }, answer(300), answer(100), answer(200)]), { count: 3, median: 200, p95: 300, slowest: 300 });
  assert.equal(summary([]).count, 0);
  for (const longest of [1, 49, 712, 1300, 9000, 700000]) {
    const { step, end } = scale(longest);
    assert.ok(end >= longest && end / step <= 7, `${longest}: ${end} by ${step}`);
  }
});

test("numbers are written for people", () => {
  assert.deepEqual([duration(4.21), duration(67), duration(3727), duration(undefined)], ["4.2 s", "1:07", "1:02:07", "–"]);
  assert.deepEqual([clock(0), clock(59.9), clock(3600)], ["0:00", "0:59", "1:00:00"]);
  assert.deepEqual([millis(712.4), millis(1240)], ["712 ms", "1.24 s"]);
  assert.equal(percentile([], 0.5), undefined);
});

test("a page that is looked at again while an answer is awaited asks once and goes on as before", async () => {
  const woken = new Set();
  globalThis.document = { hidden: false, addEventListener: (_, heard) => woken.add(heard), removeEventListener: (_, heard) => woken.delete(heard) };
  let asked = 0;
  let answer;
  const stop = poll(() => new Promise((resolve) => ((asked += 1), (answer = resolve))), 1);
  for (let times = 0; times < 3; times++) woken.forEach((heard) => heard());
  assert.equal(asked, 1);
  answer();
  while (asked < 2) await new Promise(setImmediate);
  stop();
  answer();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([asked, woken.size], [2, 0]);
  delete globalThis.document;
});

test("what was loaded of a busy day stays, what is new comes to it, and only pages that may change are asked for again", async () => {
  const archive = Array.from({ length: 450 }, (_, number) => ({ sessionId: `s${number}`, endedAt: "then" }));
  const asked = [];
  const day = new Day(async (cursor) => {
    asked.push(cursor ?? "first");
    const from = cursor ? archive.findIndex(({ sessionId }) => sessionId === cursor) + 1 : 0;
    const sessions = archive.slice(from, from + 200);
    return { sessions, nextCursor: sessions.length === 200 ? sessions.at(-1).sessionId : undefined };
  });
  const newest = () => day.calls[0].sessionId;
  await day.refresh();
  assert.deepEqual([day.calls.length, newest(), day.more], [450, "s449", false]);

  archive[3] = { sessionId: "s3" };
  await day.refresh();
  assert.deepEqual(asked.splice(0), ["first", "s199", "s399", "s399"]);
  archive.push(...Array.from({ length: 200 }, (_, number) => ({ sessionId: `s${450 + number}`, endedAt: "then" })));
  await day.refresh();
  assert.deepEqual([day.calls.length, newest()], [650, "s649"]);
  assert.deepEqual(asked, ["s399", "s599"]);
});

test("a day with more calls than are wanted at once is loaded on from where it was", async () => {
  const day = new Day(async (cursor = 0) => ({ sessions: [{ sessionId: `s${cursor}`, endedAt: "then" }], nextCursor: cursor + 1 }));
  await day.refresh();
  const loaded = day.calls.length;
  assert.ok(loaded > 1 && day.more);
  await day.refresh();
  assert.equal(day.calls.length, loaded);
  await day.later();
  assert.equal(day.calls.length, 2 * loaded);
});

test("whatever the microphone's trouble is, the person is told what to do", () => {
  for (const name of ["NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError"]) {
    assert.match(reason({ name }), /Allow|Connect|Close/);
  }
  assert.match(reason(new Error("odd")), /odd/);
});

/** A lifeline whose clock stands still until it is moved. `answers`: what each attempt meets, an error or nothing. */
function lifeline(...answers) {
  const seen = [];
  const due = new Map();
  let now = 0;
  let last = 0;
  const clock = {
    setTimeout: (work, after) => (due.set(++last, [now + after, work]), last),
    clearTimeout: (timer) => due.delete(timer),
  };
  const restart = async () => {
    seen.push("restart");
    const answer = answers.shift();
    if (answer) throw answer;
  };
  const line = new Lifeline({ restart, lost: () => seen.push("lost"), back: () => seen.push("back"), gone: (why) => seen.push(why), clock });
  const settle = () => new Promise(setImmediate);
  const pass = async (span) => {
    const end = now + span;
    for (;;) {
      await settle();
      const [timer, entry] = [...due].sort(([, [a]], [, [b]]) => a - b)[0] ?? [];
      if (timer === undefined || entry[0] > end) break;
      due.delete(timer);
      now = entry[0];
      entry[1]();
    }
    now = end;
  };
  return { line, seen, pass, due };
}

test("a connection that is lost is offered anew until it is back, and nothing goes on after that", async () => {
  const { line, seen, pass, due } = lifeline(Object.assign(new Error("no network"), { status: 0 }), Object.assign(new Error("busy"), { status: 503 }));
  line.state("connected");
  line.state("disconnected");
  line.state("failed");
  await pass(2 * ATTEMPT_MS);
  line.state("connecting");
  line.state("connected");
  assert.deepEqual(seen, ["lost", "restart", "restart", "restart", "back"]);
  await pass(2 * HOLD_MS);
  assert.deepEqual([seen.length, due.size], [5, 0]);
  line.state("disconnected");
  assert.deepEqual(seen.slice(5), ["lost", "restart"]);
});

test("who is not back in time, or has been given up by the server, is told what to do", async () => {
  const late = lifeline();
  late.line.state("failed");
  await late.pass(HOLD_MS - 1);
  assert.ok(!late.seen.includes(GONE));
  await late.pass(1);
  assert.equal(late.seen.at(-1), GONE);
  const refused = lifeline(Object.assign(new Error("unknown"), { status: 404 }));
  refused.line.state("disconnected");
  await refused.pass(0);
  assert.equal(refused.seen.at(-1), OVER);
  for (const { line, seen, pass, due } of [late, refused]) {
    line.state("connected");
    line.state("disconnected");
    await pass(HOLD_MS);
    assert.deepEqual([seen.filter((what) => what === "back").length, due.size], [0, 0]);
  }
  for (const why of [GONE, OVER]) assert.match(why, /press the button/i);
});
