"""pipecat as a phone agent, to be measured beside Voxray: the same callers, the same scripted agent.

    pipecat_agent.py PORT OPENAI_BASE_URL

Twilio's stream on any path, pipecat's defaults but for what Voxray has otherwise: the same silence ends a turn (pipecat's
default is a model, which costs more), and nothing is recorded. One process, as asyncio has it.
"""

import json
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

# With the 0.2 s after which its voice activity detection ends: 0.7 s of silence, as Voxray's turn_stop_secs.
SILENCE_SECS = 0.5

port, base_url = int(sys.argv[1]), sys.argv[2]
app = FastAPI()


@app.websocket("/{path:path}")
async def call(socket: WebSocket, path: str):
    await socket.accept()
    await socket.receive_text()
    start = json.loads(await socket.receive_text())["start"]
    serializer = TwilioFrameSerializer(
        stream_sid=start["streamSid"],
        call_sid=start["callSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=serializer)
    transport = FastAPIWebsocketTransport(websocket=socket, params=params)
    provider = {"api_key": "bench", "base_url": base_url}
    aggregators = LLMContextAggregatorPair(
        LLMContext([{"role": "system", "content": "You answer the phone."}]),
        user_params=LLMUserAggregatorParams(
            vad_analyzer=SileroVADAnalyzer(),
            user_turn_strategies=UserTurnStrategies(
                stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=SILENCE_SECS)]
            ),
        ),
    )
    pipeline = Pipeline(
        [
            transport.input(),
            OpenAISTTService(**provider),
            aggregators.user(),
            OpenAILLMService(**provider),
            OpenAITTSService(**provider),
            transport.output(),
            aggregators.assistant(),
        ]
    )
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000))

    @transport.event_handler("on_client_disconnected")
    async def hung_up(_transport, _client):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


logger.remove()
logger.add(sys.stderr, level="WARNING")
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
