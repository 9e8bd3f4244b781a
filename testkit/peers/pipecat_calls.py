"""Phone calls by pipecat-ai's own serializers: what a provider says is written by them, and what the server says is read
by them.

Usage: pipecat_calls.py ARGUMENTS FOLDER. Arguments (JSON): `server`, `clips` (two files of 16-bit samples at 8 kHz) and
`calls`, a list of {provider, call_id}; all calls at once. Each asks the webhook, starts the stream it is told, hears the
greeting, says the first clip, interrupts the answer with the second one, hears that answered, and hangs up. What its
telephone played is in FOLDER/PROVIDER.s16le; what it was told besides, in result.json.
"""

import asyncio
import html
import json
import pathlib
import re
import sys
import urllib.parse
import urllib.request

# Before `lean`, which leaves out what nobody has imported.
import websockets.asyncio.client
import websockets.asyncio.connection

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "pipecat"))

from lean import RATE, Setup, serializer
from pipecat.frames.frames import InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame

PACKET_MS = 20
PACKET_BYTES = RATE * PACKET_MS // 1000 * 2
LIMIT_SECONDS = 80
# Of the agent's answer, before it is interrupted.
INTERRUPT_AFTER_SECONDS = 1.5
# Nothing more comes after this.
QUIET_SECONDS = 1.5


def ask_webhook(server, provider, call_id):
    """The stream's URL in the document that the provider's webhook is answered with."""
    fields = {"CallSid": call_id, "CallUUID": call_id, "From": "+15550001111", "To": "+15552223333"}
    query, url = urllib.parse.urlencode(fields), f"{server}/telephony/{provider}"
    # Exotel asks with GET, and is answered in JSON.
    asked = urllib.request.Request(f"{url}?{query}") if provider == "exotel" else urllib.request.Request(url, query.encode())
    with urllib.request.urlopen(asked, timeout=LIMIT_SECONDS) as answer:
        document = answer.read().decode()
    if provider == "exotel":
        return json.loads(document)["url"]
    return html.unescape(re.search(r"wss?://[^\"<\s]+", document).group())


def opening(provider, stream, call_id):
    """What the provider sends before any audio."""
    match provider:
        case "twilio":
            form = {"encoding": "audio/x-mulaw", "sampleRate": RATE, "channels": 1}
            start = {"streamSid": stream, "callSid": call_id, "accountSid": "AC1", "tracks": ["inbound"], "mediaFormat": form}
            yield {"event": "connected", "protocol": "Call", "version": "1.0.0"}
            yield {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream}
        case "telnyx":
            form = {"encoding": "PCMU", "sample_rate": RATE, "channels": 1}
            start = {"call_control_id": call_id, "user_id": "u1", "media_format": form}
            yield {"event": "connected", "version": "1.0.0"}
            yield {"event": "start", "sequence_number": "1", "start": start, "stream_id": stream}
        case "plivo":
            form = {"encoding": "audio/x-mulaw", "sampleRate": RATE}
            start = {"callId": call_id, "streamId": stream, "accountId": "MA1", "tracks": ["inbound"], "mediaFormat": form}
            yield {"event": "start", "sequenceNumber": 0, "start": start, "extra_headers": ""}
        case "exotel":
            form = {"encoding": "audio/x-raw", "sample_rate": str(RATE), "bit_rate": "16"}
            start = {"stream_sid": stream, "call_sid": call_id, "account_sid": "EX1", "media_format": form}
            yield {"event": "connected"}
            yield {"event": "start", "sequence_number": "1", "stream_sid": stream, "start": start}


class Call:
    def __init__(self, server, plan, clips):
        self.server, self.clips = server, clips
        self.provider, self.call_id = plan["provider"], plan["call_id"]
        self.stream = f"stream-of-{self.provider}"
        self.serializer = serializer(self.provider, self.stream)
        self.clock = asyncio.get_running_loop().time
        # What is still to be said.
        self.pending = b""
        # What the telephone was given to play, and until when it plays.
        self.tape, self.plays_until = bytearray(), 0.0
        self.marks = []
        self.clears, self.frames = [], 0

    async def hold(self):
        await self.serializer.setup(Setup)
        url = await asyncio.to_thread(ask_webhook, self.server, self.provider, self.call_id)
        async with websockets.asyncio.client.connect(url, proxy=None) as self.socket:
            for message in opening(self.provider, self.stream, self.call_id):
                await self.socket.send(json.dumps(message))
            async with asyncio.TaskGroup() as tasks:
                line = [tasks.create_task(self.speak()), tasks.create_task(self.listen())]
                await asyncio.wait_for(self.converse(), LIMIT_SECONDS)
                for task in line:
                    task.cancel()
            if self.provider != "plivo":
                await self.socket.send(json.dumps({"event": "stop", "stop": {}, **self.named()}))
        expected = json.loads(await self.serializer.serialize(InterruptionFrame()))
        return {"clears": self.clears, "expected_clear": expected, "frames": self.frames}

    async def converse(self):
        await self.answered(0)
        before = len(self.tape)
        self.say(self.clips[0])
        await self.until(lambda: self.played() - before > INTERRUPT_AFTER_SECONDS * RATE * 2)
        self.say(self.clips[1])
        await self.until(lambda: self.clears)
        await self.until(lambda: not self.pending)
        await self.answered(len(self.tape))

    def say(self, clip):
        self.pending = clip

    async def until(self, true):
        while not true():
            await asyncio.sleep(PACKET_MS / 1000)

    async def answered(self, before):
        """Waits until something has been played after so much, and nothing more comes."""
        await self.until(lambda: len(self.tape) > before and self.clock() > self.plays_until + QUIET_SECONDS)

    def played(self):
        """Bytes of the tape that the telephone has played by now."""
        ahead = max(0, self.plays_until - self.clock())
        return len(self.tape) - int(ahead * RATE) * 2

    async def speak(self):
        """Frames at the pace of the clock: what is to be said, and silence."""
        started, packets = self.clock(), 0
        while True:
            await asyncio.sleep(max(0, started + packets * PACKET_MS / 1000 - self.clock()))
            packets += 1
            data, self.pending = self.pending[:PACKET_BYTES], self.pending[PACKET_BYTES:]
            frame = OutputAudioRawFrame(audio=data.ljust(PACKET_BYTES, b"\0"), sample_rate=RATE, num_channels=1)
            await self.socket.send(turned_round(await self.serializer.serialize(frame)))
            for mark in [mark for until, mark in self.marks if until <= self.clock()]:
                await self.socket.send(json.dumps(mark))
            self.marks = [(until, mark) for until, mark in self.marks if until > self.clock()]

    async def listen(self):
        async for text in self.socket:
            message = json.loads(text)
            match message["event"]:
                case "media" | "playAudio":
                    frame = await self.serializer.deserialize(turned_round(text))
                    assert isinstance(frame, InputAudioRawFrame), (self.provider, text)
                    assert (frame.sample_rate, frame.num_channels) == (RATE, 1), frame
                    self.frames += 1
                    self.tape += frame.audio
                    seconds = len(frame.audio) / 2 / RATE
                    self.plays_until = max(self.plays_until, self.clock()) + seconds
                case "mark":
                    name = {"event": "mark", "mark": message["mark"], **self.named()}
                    self.marks.append((self.plays_until, name))
                case "checkpoint":
                    name = {"event": "playedStream", "name": message["name"], **self.named()}
                    self.marks.append((self.plays_until, name))
                case "clear" | "clearAudio":
                    self.clears.append(message)
                    del self.tape[self.played() :]
                    self.plays_until = self.clock()
                    self.marks = [(self.clock(), mark) for _, mark in self.marks]
                case other:
                    raise ValueError(f"{self.provider} knows no {other!r}")
        raise ConnectionError(f"{self.provider}: the server has ended the call")

    def named(self):
        match self.provider:
            case "twilio":
                return {"streamSid": self.stream}
            case "telnyx":
                return {"stream_id": self.stream}
            case "plivo":
                return {"streamId": self.stream}
            case "exotel":
                return {"stream_sid": self.stream}


def turned_round(text):
    """A serializer stands at the server's end, and this is the provider's: Plivo alone calls audio by another name on the
    way to it (`playAudio`) than on the way from it (`media`)."""
    message = json.loads(text)
    message["event"] = "media"
    return json.dumps(message)


async def main(args, folder):
    clips = [pathlib.Path(clip).read_bytes() for clip in args["clips"]]

    async def one(plan):
        call = Call(args["server"], plan, clips)
        try:
            return await call.hold()
        finally:
            (folder / f"{call.provider}.s16le").write_bytes(call.tape)

    calls = await asyncio.gather(*(one(plan) for plan in args["calls"]))
    (folder / "result.json").write_text(json.dumps({"calls": calls}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])))
