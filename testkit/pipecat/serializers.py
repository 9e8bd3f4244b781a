"""Runs pipecat-ai's own telephony serializers over messages given on stdin, for comparison with ours.

In:  [{"provider": "telnyx", "codec": "PCMU", "stream": "...", "call": "...", "messages": ["{...}"], "pcm": "base64"}]
Out: [{"heard": [{"audio": "base64"} | {"key": "5"} | null, ...], "sent": [media message, clear message]}]

The serializer modules are pipecat's, unchanged. What they import for other purposes (resampling, HTTP, images) and never
use at equal rates is replaced by empty modules, so that a dozen megabytes are installed and not hundreds.
"""

import asyncio
import base64
import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
import types

sys.path.insert(0, sys.argv[1])
os.environ["LOGURU_LEVEL"] = "ERROR"

UNUSED = {
    "PIL", "aiofiles", "aiohttp", "docstring_parser", "loudness", "numpy", "sentencex", "soxr", "wait_for2",
    "websockets", "resampy", "soundfile", "openai", "onnxruntime", "num2words", "markdown", "dotenv",
}


class Empty(types.ModuleType):
    """A module whose every name is a class that does nothing."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        nothing = {
            "__init__": lambda self, *arguments, **named: None,
            "__class_getitem__": classmethod(lambda cls, item: cls),
        }
        return type(name, (), nothing)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the unused modules, whether they are installed or not."""

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in UNUSED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())

from pipecat.frames.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

RATE = 8000


class SameRate:
    """Hands audio through: both sides are at 8 kHz."""

    async def resample(self, audio, in_rate, out_rate):
        assert in_rate == out_rate, (in_rate, out_rate)
        return audio


class Setup:
    audio_in_sample_rate = RATE


def serializer(case):
    stream = case["stream"]
    match case["provider"]:
        case "twilio":
            made = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
        case "telnyx":
            codec = case["codec"]
            params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
            made = TelnyxFrameSerializer(stream, outbound_encoding=codec, inbound_encoding=codec, params=params)
        case "plivo":
            made = PlivoFrameSerializer(stream, params=PlivoFrameSerializer.InputParams(auto_hang_up=False))
        case "exotel":
            made = ExotelFrameSerializer(stream)
    made._input_resampler = made._output_resampler = SameRate()
    return made


def told(frame):
    if isinstance(frame, InputAudioRawFrame):
        assert frame.sample_rate == RATE and frame.num_channels == 1
        return {"audio": base64.b64encode(frame.audio).decode()}
    if isinstance(frame, InputDTMFFrame):
        return {"key": frame.button.value}
    return None


async def run(case):
    made = serializer(case)
    await made.setup(Setup)
    heard = [told(await made.deserialize(message)) for message in case["messages"]]
    audio = OutputAudioRawFrame(audio=base64.b64decode(case["pcm"]), sample_rate=RATE, num_channels=1)
    sent = [await made.serialize(audio), await made.serialize(InterruptionFrame())]
    return {"heard": heard, "sent": [json.loads(message) for message in sent]}


async def main():
    logging.disable(logging.CRITICAL)
    json.dump([await run(case) for case in json.load(sys.stdin)], sys.stdout)


asyncio.run(main())
