"""Runs pipecat-ai's own telephony serializers over messages given on stdin, for comparison with ours.

In:  [{"provider": "telnyx", "codec": "PCMU", "stream": "...", "call": "...", "messages": ["{...}"], "pcm": "base64"}]
Out: [{"heard": [{"audio": "base64"} | {"key": "5"} | null, ...], "sent": [media message, clear message]}]

The serializer modules are pipecat's, unchanged; see lean.py.
"""

import asyncio
import base64
import json
import logging
import sys

sys.path.insert(0, sys.argv[1])

from lean import RATE, Setup, serializer
from pipecat.frames.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame


def told(frame):
    if isinstance(frame, InputAudioRawFrame):
        assert frame.sample_rate == RATE and frame.num_channels == 1
        return {"audio": base64.b64encode(frame.audio).decode()}
    if isinstance(frame, InputDTMFFrame):
        return {"key": frame.button.value}
    return None


async def run(case):
    made = serializer(case["provider"], case["stream"], case["codec"])
    await made.setup(Setup)
    heard = [told(await made.deserialize(message)) for message in case["messages"]]
    audio = OutputAudioRawFrame(audio=base64.b64decode(case["pcm"]), sample_rate=RATE, num_channels=1)
    sent = [await made.serialize(audio), await made.serialize(InterruptionFrame())]
    return {"heard": heard, "sent": [json.loads(message) for message in sent]}


async def main():
    logging.disable(logging.CRITICAL)
    json.dump([await run(case) for case in json.load(sys.stdin)], sys.stdout)


asyncio.run(main())
