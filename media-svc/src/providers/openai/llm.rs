//! Chat completions, streamed.
//!
//! <https://platform.openai.com/docs/api-reference/chat/streaming>

use std::time::Instant;

use eventsource_stream::Eventsource;
use media_core::conversation::{Input, LlmEvent, Message, ToolCall};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::config::Config;
use service_kit::tasks::AbortOnDrop;

use super::client::{OpenAi, OpenAiError, next_piece};
use crate::providers::metrics::Stage;
use crate::providers::{CallContext, Labels, LanguageModel, LlmRequest, metrics};

const DEFAULT_MODEL: &str = "gpt-4.1-mini";

/// A chat model.
#[derive(Clone)]
pub struct OpenAiLlm {
    api: OpenAi,
    labels: Labels,
}

impl OpenAiLlm {
    /// The configured model (`model`).
    pub fn new(api: OpenAi, config: &Config) -> Self {
        let model = config.agent.model.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Self {
            api,
            labels: Labels {
                provider: "openai",
                model,
            },
        }
    }
}

impl LanguageModel for OpenAiLlm {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn generate(&self, call: CallContext, request: LlmRequest) -> AbortOnDrop {
        let model = self.clone();
        let tasks = call.tasks.clone();
        tasks.spawn_owned("openai llm", async move {
            let reply = request.reply;
            let last = match model.stream(&call, &request).await {
                Ok(()) => LlmEvent::Done,
                Err(error) => {
                    metrics::failed(Stage::Llm, &model.labels, error.kind());
                    LlmEvent::Failed(error.to_string())
                }
            };
            // A call that is gone wants no event.
            let _ = call.events.send(Input::Llm(reply, last)).await;
        })
    }
}

impl OpenAiLlm {
    async fn stream(&self, call: &CallContext, request: &LlmRequest) -> Result<(), OpenAiError> {
        let asked = Instant::now();
        let body = self.body(request);
        let response = self
            .api
            .post("/chat/completions", Stage::Llm, &self.labels, |http| http.json(&body))
            .await?;
        let mut events = response.bytes_stream().eventsource();
        let mut calls = ToolCalls::default();
        let mut previous: Option<Instant> = None;
        while let Some(event) = next_piece(&mut events).await {
            let data = event?.data;
            if data == "[DONE]" {
                break;
            }
            let chunk: Chunk =
                serde_json::from_str(&data).map_err(|error| OpenAiError::Malformed(format!("no chunk: {error}")))?;
            let Some(choice) = chunk.choices.into_iter().next() else {
                continue;
            };
            calls.add(choice.delta.tool_calls);
            let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) else {
                continue;
            };
            match previous.replace(Instant::now()) {
                None => metrics::llm_first_token(&self.labels, asked.elapsed()),
                Some(before) => metrics::llm_inter_token(&self.labels, before.elapsed()),
            }
            if call
                .events
                .send(Input::Llm(request.reply, LlmEvent::Text(text)))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        for tool_call in calls.finish() {
            if call
                .events
                .send(Input::Llm(request.reply, LlmEvent::ToolCall(tool_call)))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        metrics::llm_generated(&self.labels, asked.elapsed());
        Ok(())
    }

    fn body(&self, request: &LlmRequest) -> RequestBody<'_> {
        let tools = request.tools.iter().map(|tool| {
            let function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
            json!({"type": "function", "function": function})
        });
        RequestBody {
            model: &self.labels.model,
            messages: request.messages.iter().map(message).collect(),
            stream: true,
            tools: tools.collect(),
        }
    }
}

#[derive(Serialize)]
struct RequestBody<'a> {
    model: &'a str,
    messages: Vec<Value>,
    stream: bool,
    /// An empty list is an error to the API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
}

fn message(message: &Message) -> Value {
    match message {
        Message::System(text) => json!({"role": "system", "content": text}),
        Message::User(text) => json!({"role": "user", "content": text}),
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            });
            json!({"role": "assistant", "content": text, "tool_calls": calls.collect::<Vec<_>>()})
        }
        Message::ToolResult { call_id, content } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": content})
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<CallDelta>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: usize,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

/// Tool calls, put together from their pieces.
#[derive(Default)]
struct ToolCalls(std::collections::BTreeMap<usize, ToolCall>);

impl ToolCalls {
    fn add(&mut self, pieces: Vec<CallDelta>) {
        for piece in pieces {
            let call = self.0.entry(piece.index).or_insert_with(|| ToolCall {
                id: String::new(),
                name: String::new(),
                arguments: String::new(),
            });
            call.id.push_str(piece.id.as_deref().unwrap_or_default());
            if let Some(function) = piece.function {
                call.name.push_str(function.name.as_deref().unwrap_or_default());
                call.arguments
                    .push_str(function.arguments.as_deref().unwrap_or_default());
            }
        }
    }

    fn finish(self) -> impl Iterator<Item = ToolCall> {
        self.0.into_values().filter(|call| !call.name.is_empty())
    }
}
