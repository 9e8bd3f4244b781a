"""Plays a WAV file to an agent, prints what both said, and keeps the agent's voice:
python3 talk.py ws://127.0.0.1:8080/ws question.wav answer.wav"""
import asyncio, base64, json, sys, wave

import websockets


async def speak(socket, path):
    with wave.open(path) as wav:  # 16-bit, mono or stereo, any usual rate
        form = {"sample_rate": wav.getframerate(), "num_channels": wav.getnchannels()}
        while samples := wav.readframes(wav.getframerate() // 50):  # 20 ms
            data = {"audio": base64.b64encode(samples).decode(), **form}
            await socket.send(json.dumps({"type": "audio", "data": data}))
            await asyncio.sleep(0.02)


async def talk(url, question, answer):
    async with websockets.connect(url) as socket:
        start, heard = json.loads(await socket.recv())["data"], False
        speaking = asyncio.create_task(speak(socket, question))
        with wave.open(answer, "wb") as wav:
            wav.setparams((1, 2, start["audio_out_sample_rate"], 0, "NONE", ""))
            async for message in socket:
                frame = json.loads(message)
                kind, data = frame["type"], frame["data"]
                if kind == "audio":
                    wav.writeframes(base64.b64decode(data["audio"]))
                elif kind == "TranscriptionFrame" and data["finalized"]:
                    heard = True
                    print("you:", data["text"], flush=True)
                elif kind == "AggregatedTextFrame":
                    print("agent:", data["text"], flush=True)
                elif kind == "BotStoppedSpeakingFrame" and heard and speaking.done():
                    await socket.send(json.dumps({"type": "EndFrame", "data": {}}))


asyncio.run(talk(*sys.argv[1:4]))
