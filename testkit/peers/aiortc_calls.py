"""Calls by aiortc, a WebRTC peer that is no browser, some of whose packets are lost on the way to the server.

Usage: aiortc_calls.py ARGUMENTS FOLDER. Arguments (JSON): `calls`, a list of {clip, server, restart}, and `at_once`,
`loss`, `seed`. `restart`: in the middle of the call, "ice" restarts ICE, "pc" puts another peer connection in the place of
the first. One more client offers in a single request and never connects. What each call heard is in
FOLDER/call-N.s16le (16 kHz); what it was told, in result.json.
"""

import asyncio
import fractions
import json
import pathlib
import random
import sys
import urllib.error
import urllib.request
import wave

import aioice
import aioice.ice
import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, sdp
from aiortc.rtcdtlstransport import RTCDtlsTransport

PACKET_MS = 20
# Of the clips, and of what is written.
RATE = 16_000
LIMIT_SECONDS = 60
# As often as pipecat's client.
TRIES = 4

# Only this machine.
aioice.ice.get_host_addresses = lambda **_: ["127.0.0.1"]


def lose_packets(loss, seed):
    """Drops this share of the RTP packets (not RTCP) that any call sends; answers what was sent and dropped."""
    chance = random.Random(seed)
    counts = {"sent": 0, "dropped": 0}
    send = RTCDtlsTransport._send_rtp

    async def sometimes(transport, data):
        is_rtcp = 192 <= data[1] <= 223
        if not is_rtcp:
            counts["sent"] += 1
            if chance.random() < loss:
                counts["dropped"] += 1
                return
        await send(transport, data)

    RTCDtlsTransport._send_rtp = sometimes
    return counts


async def request(url, body):
    """The JSON that a POST of JSON is answered with; a server that is busy (503) says when to ask again."""

    def send():
        asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=LIMIT_SECONDS) as answer:
                return json.load(answer), None
        except urllib.error.HTTPError as refused:
            print(url, refused.code, refused.read())
            if refused.code != 503:
                raise
            return None, float(refused.headers["Retry-After"])

    for _ in range(TRIES):
        answer, later = await asyncio.to_thread(send)
        if answer is not None:
            return answer
        await asyncio.sleep(later)
    raise RuntimeError(f"{url} is busy for too long")


class Microphone(MediaStreamTrack):
    """Silence at the pace of the clock, and what is to be said in between."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.pending = b""
        self.packets = 0
        self.started = None

    def say(self, file):
        with wave.open(file) as clip:
            assert (clip.getnchannels(), clip.getframerate()) == (1, RATE)
            self.pending = clip.readframes(clip.getnframes())

    async def recv(self):
        clock = asyncio.get_running_loop().time
        if self.started is None:
            self.started = clock()
        await asyncio.sleep(max(0, self.started + self.packets * PACKET_MS / 1000 - clock()))
        samples = RATE * PACKET_MS // 1000
        data, self.pending = self.pending[: samples * 2], self.pending[samples * 2 :]
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(data.ljust(samples * 2, b"\0"))
        frame.sample_rate = RATE
        frame.pts = self.packets * samples
        frame.time_base = fractions.Fraction(1, RATE)
        self.packets += 1
        return frame


class Call:
    def __init__(self, plan, tape):
        self.plan = plan
        self.tape = tape
        self.told = []
        self.news = asyncio.Condition()
        self.pc = None
        self.pc_ids = []

    async def connect(self, restart=False):
        """Offers; with `restart` in place of the peer connection there is."""
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()
        pc.addTrack(self.microphone)
        chat = pc.createDataChannel("chat")
        chat.on("message", lambda text: asyncio.ensure_future(self.note(json.loads(text))))
        opened = asyncio.Event()
        chat.on("open", opened.set)
        pc.on("track", lambda track: asyncio.ensure_future(self.record(track)))
        await self.offer(pc, {"pc_id": self.pc_ids[-1], "restart_pc": True} if restart else {})
        await asyncio.wait_for(opened.wait(), LIMIT_SECONDS)
        ready = {"version": "2.0.0", "about": {"library": "aiortc"}}
        chat.send(json.dumps({"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": ready}))
        old, self.pc = self.pc, pc
        if old:
            await old.close()

    async def offer(self, pc, more):
        """Offers what the peer connection is to be, and takes the answer; answers that."""
        await pc.setLocalDescription(await pc.createOffer())
        offer = {"sdp": pc.localDescription.sdp, "type": "offer"} | more
        answer = await request(f"{self.plan['server']}/sessions/{self.session_id}/api/offer", offer)
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        self.pc_ids.append(answer["pc_id"])
        return answer["sdp"]

    async def restart_ice(self):
        """Offers the same peer connection with ICE anew (RFC 8445, section 9), and goes on by the way that is found.

        aiortc has no restartIce(): another connection of its ICE library takes the place of the first below the DTLS
        transport, which notices nothing: same keys, same streams, same data channel. Answers what was before and after.
        """
        dtls = self.pc.getTransceivers()[0].receiver.transport
        ice, old = dtls.transport, dtls.transport._connection
        before = way(dtls, old)
        new = aioice.Connection(ice_controlling=old.ice_controlling)
        # What the DTLS transport is waiting for comes by either of them.
        new._queue = old._queue
        await new.gather_candidates()
        ice._connection = ice.iceGatherer._connection = new
        ice.iceGatherer._remote_candidates_end = False
        answer = await self.offer(self.pc, {"pc_id": self.pc_ids[-1], "restart_pc": False})
        theirs = sdp.SessionDescription.parse(answer).media[0].ice
        new.remote_username, new.remote_password = theirs.usernameFragment, theirs.password
        await asyncio.wait_for(new.connect(), LIMIT_SECONDS)
        ice._recv, ice._send = new.recv, new.send
        # Whoever watches the old one would take its end for the end of the call, and its inbox is in use.
        ice._RTCIceTransport__monitor_task.cancel()
        ice._RTCIceTransport__monitor_task = asyncio.ensure_future(ice._monitor())
        old._queue = asyncio.Queue()
        await old.close()
        return {"before": before, "after": way(dtls, new)}

    async def record(self, track):
        """Writes what is heard, and silence where the sender's clock says that nothing was sent."""
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        due = None
        try:
            while True:
                heard = await track.recv()
                pause = 0 if due is None else max(0, heard.pts - due)
                due = heard.pts + heard.samples
                self.tape.write(bytes(2 * round(pause * heard.time_base * RATE)))
                for frame in resampler.resample(heard):
                    self.tape.write(bytes(frame.planes[0])[: frame.samples * 2])
        except Exception as error:  # The track is over: aiortc has no other way to say so.
            print("the track ended:", repr(error))

    async def note(self, message):
        if message.get("label") != "rtvi-ai":
            return
        async with self.news:
            self.told.append({"type": message["type"], "data": message.get("data"), "at": self.tape.tell() // 2})
            self.news.notify_all()

    async def until(self, kind, after=0, **fields):
        """Waits for a message after the first so many; answers how many there were with it."""

        def found():
            for index, message in enumerate(self.told[after:], after + 1):
                data = message["data"] or {}
                if message["type"] == kind and all(data.get(name) == value for name, value in fields.items()):
                    return index
            return None

        async with self.news:
            try:
                return await asyncio.wait_for(self.news.wait_for(found), LIMIT_SECONDS)
            except asyncio.TimeoutError:
                print(f"no {kind} {fields} after {after}; {self.pc.connectionState}, and was told:")
                print(*self.told, sep="\n")
                raise

    async def ask(self, after):
        """Says the clip and hears the answer out."""
        self.microphone.say(self.plan["clip"])
        understood = await self.until("user-transcription", after, final=True)
        started = await self.until("bot-started-speaking", after)
        return await self.until("bot-stopped-speaking", max(understood, started))

    async def hold(self):
        started = await request(self.plan["server"] + "/start", {"body": {"name": "Mary"}})
        self.session_id = started["sessionId"]
        await self.connect()
        after = await self.until("bot-stopped-speaking")
        after = await self.ask(after)
        restarted = None
        if self.plan.get("restart") == "pc":
            await self.connect(restart=True)
            await self.until("bot-ready", after)
        elif self.plan.get("restart") == "ice":
            restarted = await self.restart_ice()
        if self.plan.get("restart"):
            await self.ask(len(self.told))
        await self.pc.close()
        return {"session_id": self.session_id, "pc_ids": self.pc_ids, "told": self.told, "restarted": restarted}


def way(dtls, ice):
    """How media goes: ICE's user name fragments and this side's port, and the DTLS connection that goes over it."""
    pair = ice._nominated[1]
    return {
        "ours": ice.local_username,
        "theirs": ice.remote_username,
        "port": pair.local_addr[1],
        "dtls": [dtls.state, id(dtls._ssl)],
    }


async def abandon(server):
    """Has an offer answered, and leaves it at that."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTrack(Microphone())
    await pc.setLocalDescription(await pc.createOffer())
    answer = await request(server + "/webrtc/offer", {"offer": pc.localDescription.sdp})
    await pc.close()
    return answer["answer"]


async def main(args, folder):
    counts = lose_packets(args["loss"], args["seed"])
    lines = asyncio.Semaphore(args["at_once"])

    async def one(number, plan):
        async with lines:
            with open(folder / f"call-{number}.s16le", "wb") as tape:
                return await Call(plan, tape).hold()

    plans = args["calls"]
    abandoned, *calls = await asyncio.gather(
        abandon(plans[0]["server"]), *(one(number, plan) for number, plan in enumerate(plans))
    )
    result = {"calls": calls, "packets": counts, "abandoned": abandoned}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])))
