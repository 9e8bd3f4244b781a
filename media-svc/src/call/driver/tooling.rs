//! What becomes of a tool that the model calls: done here, by the phone provider, or at the client.

use std::sync::Arc;
use std::time::Duration;

use media_core::conversation::{Conversation, EndReason, Input, ReplyId, ToolCall};
use service_kit::tasks::AbortOnDrop;

use super::Call;
use crate::call::phone::DigitsBy;
use crate::call::tools::Wish;

/// How long a client may take to run a tool; it may have to ask a person.
const CLIENT_TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// A tool that runs at the client.
pub(super) struct AtClient {
    pub(super) reply: ReplyId,
    /// Answers in its stead, unless it does first.
    _giving_up: AbortOnDrop,
}

impl Call {
    /// Runs a tool that the model has called; its result goes into the conversation, now or later.
    pub(super) fn call_tool(&mut self, reply: ReplyId, call: ToolCall, conversation: &mut Conversation) {
        let now = self.now();
        let call_id = call.id.clone();
        let result = move |content: String| Input::ToolResult {
            reply,
            call_id,
            content,
        };
        match (
            Wish::read(&call, self.line.as_deref(), &self.settings.tools),
            &self.line,
        ) {
            (Wish::End, _) => {
                conversation.handle_input(now, result("the call ends after your last words".to_owned()));
                let end = Input::EndRequested {
                    reason: EndReason::AgentHungUp,
                    last_words: None,
                };
                conversation.handle_input(now, end);
            }
            (Wish::Collect(plan), _) => {
                let call_id = call.id.clone();
                conversation.handle_input(now, Input::CollectKeys { reply, call_id, plan });
            }
            (Wish::Transfer(to), Some(line)) => {
                let line = Arc::clone(line);
                let wait = line.waits_for_return();
                if let Some(wait) = wait {
                    let tool = Some((reply, call.id.clone()));
                    conversation.handle_input(now, Input::PutThrough { tool, wait });
                }
                self.ask_provider(async move {
                    match (line.transfer(&to).await, wait) {
                        (Ok(()), Some(_)) => Vec::new(),
                        (Ok(()), None) => vec![Input::EndRequested {
                            reason: EndReason::Transferred,
                            last_words: None,
                        }],
                        (Err(error), Some(_)) => vec![Input::NotPutThrough(error.to_string())],
                        (Err(error), None) => {
                            vec![result(format!("error: the call could not be transferred: {error}"))]
                        }
                    }
                });
            }
            (Wish::SendDtmf(digits), Some(line)) => {
                let line = Arc::clone(line);
                self.ask_provider(async move {
                    match line.send_dtmf(&digits).await {
                        Ok(DigitsBy::Provider) => vec![result("the keys were sent".to_owned())],
                        Ok(DigitsBy::Tones) => {
                            vec![Input::SendKeys(digits), result("the keys are being played".to_owned())]
                        }
                        Err(error) => vec![result(format!("error: the keys could not be sent: {error}"))],
                    }
                });
            }
            (Wish::Transfer(_) | Wish::SendDtmf(_), None) => {
                conversation.handle_input(now, result(format!("error: there is no tool named {}", call.name)));
            }
            (Wish::AtClient, _) => {
                let events = self.context.events.clone();
                let giving_up = self.context.tasks.spawn_owned("tool at the client", async move {
                    tokio::time::sleep(CLIENT_TOOL_TIMEOUT).await;
                    let secs = CLIENT_TOOL_TIMEOUT.as_secs();
                    // A call that is over wants to know nothing.
                    let _ = events.send(result(format!("error: no answer within {secs} s"))).await;
                });
                let asked = AtClient {
                    reply,
                    _giving_up: giving_up,
                };
                self.at_client.insert(call.id, asked);
            }
            (Wish::Refused(why), _) => conversation.handle_input(now, result(why)),
        }
    }

    /// Waits for the phone provider in a task of its own; what comes of it goes into the conversation. The provider's
    /// client bounds the time it takes.
    fn ask_provider(&self, asking: impl Future<Output = Vec<Input>> + Send + 'static) {
        let events = self.context.events.clone();
        self.context.tasks.spawn("phone provider", async move {
            for input in asking.await {
                // A call that is over wants to know nothing.
                let _ = events.send(input).await;
            }
        });
    }
}
