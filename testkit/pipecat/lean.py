"""pipecat-ai's own telephony serializers, without what they import for other purposes.

The modules are pipecat's, unchanged. What they import for resampling, HTTP or images and never use at equal rates is
replaced by empty modules, so that a dozen megabytes are installed and not hundreds. What was imported before this module
stays what it is.
"""

import asyncio
import importlib.abc
import importlib.machinery
import os
import sys
import types

os.environ["LOGURU_LEVEL"] = "ERROR"

UNUSED = {
    "PIL", "aiofiles", "aiohttp", "docstring_parser", "loudness", "numpy", "sentencex", "soxr", "wait_for2",
    "websockets", "resampy", "soundfile", "openai", "onnxruntime", "num2words", "markdown", "dotenv",
}
REAL = {name.split(".")[0] for name in sys.modules}


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
        root = name.split(".")[0]
        if root not in UNUSED or root in REAL:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
wait_for = asyncio.wait_for

from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

# pipecat puts that of wait_for2 in its place, which is an empty module here.
asyncio.wait_for = wait_for

RATE = 8000


class SameRate:
    """Hands audio through: both sides are at 8 kHz."""

    async def resample(self, audio, in_rate, out_rate):
        assert in_rate == out_rate, (in_rate, out_rate)
        return audio


class Setup:
    audio_in_sample_rate = RATE


def serializer(provider, stream, codec="PCMU"):
    """A serializer for a stream of this provider's, at the telephone's rate on both sides; `setup` it with `Setup`."""
    match provider:
        case "twilio":
            made = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
        case "telnyx":
            params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
            made = TelnyxFrameSerializer(stream, outbound_encoding=codec, inbound_encoding=codec, params=params)
        case "plivo":
            made = PlivoFrameSerializer(stream, params=PlivoFrameSerializer.InputParams(auto_hang_up=False))
        case "exotel":
            made = ExotelFrameSerializer(stream)
    made._input_resampler = made._output_resampler = SameRate()
    return made
