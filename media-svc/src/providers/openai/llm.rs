//! Chat completions, streamed.
//!
//! <https://platform.openai.com/docs/api-reference/chat/streaming>

use std::time::Instant;

use futures_util::StreamExt;
use media_core::conversation::{Input, LlmEvent, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::config::Config;
use service_kit::tasks::AbortOnDrop;

use super::client::OpenAi;
use super::error::{OpenAiError, Problem};
use super::tools::{CallDelta, ToolCalls};
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
        let answer = self
            .api
            .post("/chat/completions", Stage::Llm, &self.labels, |http| http.json(&body))
            .await?;
        let mut events = answer.events();
        let mut calls = ToolCalls::default();
        let mut previous: Option<Instant> = None;
        let mut complete = false;
        while let Some(event) = events.next().await {
            let data = event?;
            if data.trim() == "[DONE]" {
                complete = true;
                break;
            }
            let chunk: Chunk =
                serde_json::from_str(&data).map_err(|error| OpenAiError::Malformed(format!("no chunk: {error}")))?;
            if let Some(error) = chunk.error {
                return Err(OpenAiError::Reported(Problem::described(&error).message));
            }
            // The last chunk may hold nothing but token counts.
            let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() else {
                continue;
            };
            complete |= choice.finish_reason.is_some();
            let delta = choice.delta.unwrap_or_default();
            calls.add(delta.tool_calls.unwrap_or_default())?;
            // A refusal is worded for the person who asked.
            let Some(text) = delta.content.or(delta.refusal).filter(|text| !text.is_empty()) else {
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
        // A connection that closed early is no end, and half a tool call is no call.
        if !complete {
            return Err(OpenAiError::Malformed("a reply without an end".to_owned()));
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

/// Everything may be missing or null: servers differ in what they leave out.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}
