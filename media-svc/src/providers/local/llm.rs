//! The `local` language model: the receptionist of `media_core::dialogue`, streamed like any other model.

use std::sync::Arc;
use std::time::Instant;

use media_core::conversation::{Input, LlmEvent, ReplyId};
use media_core::dialogue::{LocalTime, Receptionist, ReplyPart};
use service_kit::tasks::AbortOnDrop;

use crate::providers::{CallContext, Labels, LanguageModel, LlmRequest, metrics};

/// A deterministic agent that needs no key.
#[derive(Clone)]
pub struct LocalLlm {
    receptionist: Arc<Receptionist>,
    labels: Labels,
}

impl LocalLlm {
    /// With this receptionist.
    pub fn new(receptionist: Receptionist) -> Self {
        let labels = Labels {
            provider: "local",
            model: "receptionist".to_owned(),
        };
        Self {
            receptionist: Arc::new(receptionist),
            labels,
        }
    }
}

impl LanguageModel for LocalLlm {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn generate(&self, call: CallContext, request: LlmRequest) -> AbortOnDrop {
        let model = self.clone();
        let tasks = call.tasks.clone();
        tasks.spawn_owned("local llm", async move { model.answer(&call, request).await })
    }
}

impl LocalLlm {
    async fn answer(&self, call: &CallContext, request: LlmRequest) {
        let asked = Instant::now();
        let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        let parts = self.receptionist.reply(&request.messages, &tools, local_time());
        metrics::llm_first_token(&self.labels, asked.elapsed());
        let mut previous: Option<Instant> = None;
        for part in parts {
            match part {
                ReplyPart::Text(text) => {
                    for token in text.split_inclusive(' ') {
                        if let Some(before) = previous.replace(Instant::now()) {
                            metrics::llm_inter_token(&self.labels, before.elapsed());
                        }
                        if !tell(call, request.reply, LlmEvent::Text(token.to_owned())).await {
                            return;
                        }
                    }
                    // Parts are sentences of their own.
                    tell(call, request.reply, LlmEvent::Text(" ".to_owned())).await;
                }
                ReplyPart::ToolCall(tool_call) => {
                    tell(call, request.reply, LlmEvent::ToolCall(tool_call)).await;
                }
            }
        }
        metrics::llm_generated(&self.labels, asked.elapsed());
        tell(call, request.reply, LlmEvent::Done).await;
    }
}

/// False when the call is gone.
async fn tell(call: &CallContext, reply: ReplyId, event: LlmEvent) -> bool {
    call.events.send(Input::Llm(reply, event)).await.is_ok()
}

/// The wall clock of this machine's time zone (`TZ`, else the system's; UTC where there is none).
fn local_time() -> LocalTime {
    let now = jiff::Zoned::now();
    let seconds = now.timestamp().as_second() + i64::from(now.offset().seconds());
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .into()
}
