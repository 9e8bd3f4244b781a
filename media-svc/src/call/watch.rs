//! What is measured of a call from outside the conversation: where the time of a turn goes, and the call's trace.
//!
//! Both are read off what the conversation asks for and what it is told, so that they are the same for every provider
//! and transport.

use std::collections::HashMap;
use std::time::Duration;

use media_core::conversation::{
    EndReason, Input, LlmEvent, Output, ReplyId, Role, SpeechId, SttEvent, TtsEvent, TurnTiming, UtteranceId,
};
use service_kit::trace::{Parent, Side, Span};
use tokio::time::Instant;

use crate::latency;
use crate::metrics;
use crate::providers::{Labels, Providers};

/// Replies whose turn is remembered: what is spoken belongs to the last ones.
const REMEMBERED_REPLIES: u64 = 8;

/// What a call is, in its trace.
pub struct Watched<'a> {
    /// Session.
    pub session_id: &'a str,
    /// Transport.
    pub transport: &'static str,
    /// Telephony provider, or empty.
    pub telephony: &'a str,
}

/// The observer of one call.
pub struct CallWatch {
    waits: Waits,
    spans: Option<Spans>,
}

impl CallWatch {
    /// From the first moment on.
    pub fn start(call: Span, watched: &Watched<'_>, providers: &Providers) -> Self {
        let spans = call.is_on().then(|| {
            call.set("voxray.session_id", watched.session_id.to_owned());
            call.set("voxray.transport", watched.transport);
            if !watched.telephony.is_empty() {
                call.set("voxray.telephony", watched.telephony.to_owned());
            }
            Spans {
                call,
                turn: None,
                labels: [providers.stt.labels(), providers.llm.labels(), providers.tts.labels()],
                utterances: HashMap::new(),
                replies: HashMap::new(),
                speeches: HashMap::new(),
                turns: HashMap::new(),
            }
        });
        Self {
            waits: Waits::default(),
            spans,
        }
    }

    /// The conversation asks for something.
    pub fn asked(&mut self, output: &Output) {
        self.waits.asked(output);
        if let Some(spans) = &mut self.spans {
            spans.asked(output);
        }
    }

    /// Something is about to be told to the conversation.
    pub fn heard(&mut self, input: &Input) {
        self.waits.heard(input);
        if let Some(spans) = &mut self.spans {
            spans.heard(input);
        }
    }

    /// The first audio of an answer goes out.
    pub fn answered(&mut self, timing: TurnTiming) {
        let stages = self.waits.stages(timing);
        for (stage, latency) in stages {
            metrics::TURN_LATENCY
                .with_label_values(&[stage])
                .observe(latency.as_secs_f64());
        }
        latency::turn_answered(timing.first_audio);
        if let Some(turn) = self.spans.as_ref().and_then(|spans| spans.turn.as_ref()) {
            turn.span.set("voxray.latency_ms", millis(timing.first_audio));
            turn.span.set("voxray.endpointing_ms", millis(timing.endpoint));
            turn.span.event("first audio sent");
        }
    }

    /// The call is over.
    pub fn ended(self, reason: &EndReason) {
        if let Some(spans) = self.spans {
            spans.call.set("voxray.end_reason", reason.as_str().to_owned());
            if matches!(reason, EndReason::ProviderFailed(_) | EndReason::TransportFailed(_)) {
                spans.call.fail("the call broke");
            }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How long the answer being made has waited for the model and for synthesis.
#[derive(Debug, Default)]
struct Waits {
    asked_model: Option<Instant>,
    model: Option<Duration>,
    asked_voice: Option<(SpeechId, Instant)>,
    voice: Option<Duration>,
}

impl Waits {
    fn asked(&mut self, output: &Output) {
        match output {
            // Another round of the model, or another attempt: the last one is what is heard.
            Output::Generate { .. } => {
                *self = Self {
                    asked_model: Some(Instant::now()),
                    ..Self::default()
                };
            }
            Output::Speak { speech, .. } if self.asked_voice.is_none() => {
                self.asked_voice = Some((*speech, Instant::now()));
            }
            Output::Speak { .. }
            | Output::BeginUtterance { .. }
            | Output::EndUtterance(_)
            | Output::CancelUtterance(_)
            | Output::CancelReply(_)
            | Output::CancelSpeech(_)
            | Output::Play(_)
            | Output::Mark(_)
            | Output::ClearPlayback { .. }
            | Output::CallTool { .. }
            | Output::Turn(_)
            | Output::Notice(_)
            | Output::Leave(_)
            | Output::HangUp(_) => {}
        }
    }

    fn heard(&mut self, input: &Input) {
        match (input, self.asked_model, self.asked_voice) {
            (Input::Llm(_, LlmEvent::Text(_)), Some(asked), _) if self.model.is_none() => {
                self.model = Some(asked.elapsed());
            }
            (Input::Tts(speech, TtsEvent::Audio(_)), _, Some((first, asked)))
                if *speech == first && self.voice.is_none() =>
            {
                self.voice = Some(asked.elapsed());
            }
            (_, _, _) => {}
        }
    }

    /// What each stage has taken of a turn. Overhead is the rest: collecting the first sentence, tool calls, our own
    /// queues and pacing.
    fn stages(&mut self, timing: TurnTiming) -> [(&'static str, Duration); 6] {
        let waits = std::mem::take(self);
        let total = timing.first_audio;
        let endpointing = timing.endpoint.min(total);
        let mut left = total.saturating_sub(endpointing);
        let mut take = |wanted: Duration| {
            let taken = wanted.min(left);
            left = left.saturating_sub(taken);
            taken
        };
        let stt = take(timing.transcript.saturating_sub(timing.endpoint));
        let llm = take(waits.model.unwrap_or_default());
        let tts = take(waits.voice.unwrap_or_default());
        [
            ("endpointing", endpointing),
            ("stt", stt),
            ("llm", llm),
            ("tts", tts),
            ("overhead", left),
            ("total", total),
        ]
    }
}

/// One trace a call, a span a turn, a span a request to a provider.
struct Spans {
    call: Span,
    turn: Option<Turn>,
    /// Of recognition, model and voice.
    labels: [Labels; 3],
    utterances: HashMap<UtteranceId, Span>,
    replies: HashMap<ReplyId, Request>,
    speeches: HashMap<SpeechId, Request>,
    /// Which turn a reply belongs to: its sentences are spoken when the next turn may have begun.
    turns: HashMap<ReplyId, Parent>,
}

struct Turn {
    span: Span,
    /// The model was asked: what the caller says from now on is another turn.
    replied: bool,
}

/// A request whose first piece is noted.
struct Request {
    span: Span,
    begun: bool,
}

impl Request {
    fn first(&mut self, event: &'static str) {
        if !std::mem::replace(&mut self.begun, true) {
            self.span.event(event);
        }
    }
}

impl Spans {
    fn asked(&mut self, output: &Output) {
        match output {
            Output::BeginUtterance { utterance, .. } => {
                // A caller who goes on before there is an answer is still in the same turn.
                let turn = self.turn(|turn| !turn.replied);
                let span = self.request("stt", 0, &turn);
                self.utterances.insert(*utterance, span);
            }
            Output::EndUtterance(utterance) => {
                if let Some(span) = self.utterances.get(utterance) {
                    span.event("end of speech");
                }
            }
            Output::CancelUtterance(utterance) => cancelled(self.utterances.remove(utterance)),
            Output::Generate { reply, .. } => {
                // A model that is asked again, with the answer of a tool, stays in its turn.
                let turn = self.turn(|_| true);
                if let Some(turn) = &mut self.turn {
                    turn.replied = true;
                }
                self.turns.retain(|known, _| known.0 + REMEMBERED_REPLIES > reply.0);
                self.turns.insert(*reply, turn.clone());
                let span = self.request("llm", 1, &turn);
                self.replies.insert(*reply, Request { span, begun: false });
            }
            Output::CancelReply(reply) => cancelled(self.replies.remove(reply).map(|request| request.span)),
            Output::Speak { speech, reply, text: _ } => {
                let turn = reply.and_then(|reply| self.turns.get(&reply).cloned());
                let span = self.request("tts", 2, &turn.unwrap_or_else(|| self.call.parent()));
                self.speeches.insert(*speech, Request { span, begun: false });
            }
            Output::CancelSpeech(speech) => cancelled(self.speeches.remove(speech).map(|request| request.span)),
            Output::Turn(record) if record.role == Role::Assistant => {
                if let Some(turn) = self.turn.take_if(|turn| turn.replied) {
                    turn.span.set("voxray.interrupted", record.interrupted);
                }
            }
            Output::Play(_)
            | Output::Mark(_)
            | Output::ClearPlayback { .. }
            | Output::CallTool { .. }
            | Output::Turn(_)
            | Output::Notice(_)
            | Output::Leave(_)
            | Output::HangUp(_) => {}
        }
    }

    fn heard(&mut self, input: &Input) {
        match input {
            Input::Stt(utterance, SttEvent::Final(_)) => drop(self.utterances.remove(utterance)),
            Input::Stt(utterance, SttEvent::Failed(_)) => failed(self.utterances.remove(utterance)),
            Input::Llm(reply, LlmEvent::Text(_)) => {
                if let Some(request) = self.replies.get_mut(reply) {
                    request.first("first token");
                }
            }
            Input::Llm(reply, LlmEvent::Done) => drop(self.replies.remove(reply)),
            Input::Llm(reply, LlmEvent::Failed(_)) => failed(self.replies.remove(reply).map(|request| request.span)),
            Input::Tts(speech, TtsEvent::Audio(_)) => {
                if let Some(request) = self.speeches.get_mut(speech) {
                    request.first("first audio");
                }
            }
            Input::Tts(speech, TtsEvent::Done) => drop(self.speeches.remove(speech)),
            Input::Tts(speech, TtsEvent::Failed(_)) => failed(self.speeches.remove(speech).map(|request| request.span)),
            Input::Connected
            | Input::Voice(_)
            | Input::Stt(_, SttEvent::Interim(_) | SttEvent::Words(_))
            | Input::Llm(_, LlmEvent::ToolCall(_))
            | Input::ToolResult { .. }
            | Input::Played(_)
            | Input::Dtmf(_)
            | Input::CollectKeys { .. }
            | Input::SendKeys(_)
            | Input::AnsweredBy(_)
            | Input::Interrupt
            | Input::Beep
            | Input::Text(_)
            | Input::EndRequested { .. }
            | Input::LineCut
            | Input::LineBack
            | Input::PutThrough { .. }
            | Input::NotPutThrough(_)
            | Input::TransferWithdrawn
            | Input::CallerGone(_)
            | Input::Tick => {}
        }
    }

    /// The turn that goes on, or a new one.
    fn turn(&mut self, goes_on: impl Fn(&Turn) -> bool) -> Parent {
        if let Some(turn) = self.turn.as_ref().filter(|turn| goes_on(turn)) {
            return turn.span.parent();
        }
        let span = Span::within("turn", Side::Internal, &self.call.parent());
        let parent = span.parent();
        self.turn = Some(Turn { span, replied: false });
        parent
    }

    fn request(&self, stage: &'static str, label: usize, turn: &Parent) -> Span {
        let span = Span::within(stage, Side::Client, turn);
        if let Some(labels) = self.labels.get(label) {
            span.set("voxray.provider", labels.provider);
            span.set("voxray.model", labels.model.clone());
        }
        span
    }
}

fn cancelled(span: Option<Span>) {
    if let Some(span) = span {
        span.set("voxray.cancelled", true);
    }
}

fn failed(span: Option<Span>) {
    if let Some(span) = span {
        span.fail("the provider failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(endpoint: u64, transcript: u64, first_audio: u64) -> TurnTiming {
        TurnTiming {
            endpoint: Duration::from_millis(endpoint),
            transcript: Duration::from_millis(transcript),
            first_token: Duration::ZERO,
            first_audio: Duration::from_millis(first_audio),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_stages_of_a_turn_add_up_to_its_total() {
        let mut waits = Waits::default();
        waits.asked(&Output::Generate {
            reply: ReplyId(1),
            messages: Vec::new(),
        });
        tokio::time::advance(Duration::from_millis(200)).await;
        waits.heard(&Input::Llm(ReplyId(1), LlmEvent::Text("Yes. ".to_owned())));
        tokio::time::advance(Duration::from_millis(30)).await;
        waits.asked(&Output::Speak {
            speech: SpeechId(1),
            reply: Some(ReplyId(1)),
            text: "Yes.".to_owned(),
        });
        tokio::time::advance(Duration::from_millis(100)).await;
        waits.heard(&Input::Tts(SpeechId(1), TtsEvent::Audio(vec![0])));

        let stages = waits
            .stages(timing(700, 750, 1_100))
            .map(|(name, latency)| (name, latency.as_millis()));

        let expected = [
            ("endpointing", 700),
            ("stt", 50),
            ("llm", 200),
            ("tts", 100),
            ("overhead", 50),
            ("total", 1_100),
        ];
        assert_eq!(stages, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_overlaps_another_is_not_counted_twice() {
        let mut waits = Waits::default();
        waits.asked(&Output::Generate {
            reply: ReplyId(1),
            messages: Vec::new(),
        });
        tokio::time::advance(Duration::from_secs(3)).await;
        waits.heard(&Input::Llm(ReplyId(1), LlmEvent::Text("Yes.".to_owned())));

        let stages = waits.stages(timing(700, 600, 1_000));

        let sum: Duration = stages.iter().take(5).map(|(_, latency)| *latency).sum();
        assert_eq!(sum, Duration::from_secs(1));
    }
}
