//! The task that owns a call: feeds the conversation, does what it asks, never waits for a provider.

mod tooling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use media_core::Time;
use media_core::audio::beep::BeepDetector;
use media_core::audio::resample::UnsupportedRate;
use media_core::conversation::screening::LONGEST_GREETING;
use media_core::conversation::{Conversation, EndReason, Input, Notice, Output, ReplyId, Settings, SpeechId, SttEvent};
use media_core::recorder::Channels;
use media_core::redact::Redactor;
use service_kit::tasks::{AbortOnDrop, TaskScope};
use service_kit::trace::Span;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::tooling::AtClient;
use super::ear::{Ear, Stalled};
use super::end::End;
use super::line::{CallerCommand, CallerEvent, CallerEvents, CallerLink, STUCK_WRITER, TransportTraits};
use super::phone::PhoneLine;
use super::record::{CallRecord, RecordedCall};
use super::registry::Slot;
use super::watch::{CallWatch, Watched};
use crate::archive::ArchiveSession;
use crate::latency;
use crate::metrics;
use crate::providers::{CallContext, LlmRequest, Providers, SpeechRequest};

/// Everything a call is made of.
pub struct CallSetup {
    /// Session.
    pub session_id: Arc<str>,
    /// This node.
    pub node_id: Arc<str>,
    /// Telephony provider, or empty.
    pub provider: String,
    /// What the transport is like.
    pub transport: TransportTraits,
    /// The phone call at its provider, where there is one.
    pub line: Option<Arc<PhoneLine>>,
    /// How the conversation behaves.
    pub settings: Settings,
    /// Recognition, answers, voice.
    pub providers: Providers,
    /// Where it is archived.
    pub archive: Option<Arc<dyn ArchiveSession>>,
    /// Present when sound is recorded.
    pub recording_channels: Option<Channels>,
    /// Present when something is taken out of transcripts.
    pub redactor: Option<Arc<Redactor>>,
    /// Whether that is to be silent in the recording too.
    pub mute_redacted: bool,
    /// The transport's end.
    pub link: CallerLink,
    /// The call's input queue: providers and the node's control send here.
    pub inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    /// The call's place on this node; free again when the call is over.
    pub slot: Slot,
    /// Scope that ends with this call.
    pub scope: TaskScope,
    /// The call in its trace.
    pub trace: Span,
}

/// Runs a call to its end. The scope is cancelled when it is over.
pub async fn run(setup: CallSetup) -> EndReason {
    let scope = setup.scope.clone();
    let session_id = setup.session_id.clone();
    tracing::info!(%session_id, transport = setup.transport.name, "call began");
    let reason = match Call::start(setup) {
        Ok((call, conversation)) => call.talk(conversation).await,
        Err(error) => EndReason::TransportFailed(error.to_string()),
    };
    scope.cancel();
    let why = match &reason {
        EndReason::TransportFailed(why) => Some(why.as_str()),
        _ => None,
    };
    tracing::info!(%session_id, reason = reason.as_str(), why, "call ended");
    reason
}

struct Call {
    session_id: Arc<str>,
    context: CallContext,
    transport: TransportTraits,
    settings: Settings,
    line: Option<Arc<PhoneLine>>,
    /// Listens for an answering machine, while that matters.
    beep: Option<BeepDetector>,
    providers: Providers,
    caller: mpsc::Sender<CallerCommand>,
    events: CallerEvents,
    /// Nothing more comes from the transport; what is being recognised is still waited for.
    caller_gone: bool,
    end: End,
    inputs: mpsc::Receiver<Input>,
    slot: Slot,
    ear: Ear,
    record: CallRecord,
    watch: CallWatch,
    replies: HashMap<ReplyId, AbortOnDrop>,
    speeches: HashMap<SpeechId, AbortOnDrop>,
    /// Tools that run at the client and have not answered, by the id of the call.
    at_client: HashMap<String, AtClient>,
    started: Instant,
    /// Since when the transport has taken nothing.
    stuck_since: Option<Instant>,
    /// How long the next frames could have been released before they are.
    lateness: Duration,
}

impl Call {
    fn start(setup: CallSetup) -> Result<(Self, Conversation), UnsupportedRate> {
        let started = Instant::now();
        let (events, inputs) = setup.inputs;
        let context = CallContext {
            session_id: setup.session_id.clone(),
            tasks: setup.scope,
            events,
        };
        let recorded = RecordedCall {
            session_id: setup.session_id.clone(),
            node_id: &setup.node_id,
            transport: setup.transport,
            provider: &setup.provider,
            traceparent: setup.trace.parent().traceparent(),
            channels: setup.recording_channels,
            redactor: setup.redactor,
            mute: setup.mute_redacted.then(|| setup.settings.longest_pre_roll()),
        };
        let record = CallRecord::start(recorded, setup.archive)?;
        let watched = Watched {
            session_id: &setup.session_id,
            transport: setup.transport.name,
            telephony: &setup.provider,
        };
        let watch = CallWatch::start(setup.trace, &watched, &setup.providers);
        let ear = Ear::new(
            setup.transport.input_rate_hz,
            setup.providers.stt.start(context.clone()),
        )?;
        tracing::info!(session_id = %setup.session_id, transport = setup.transport.name, "call started");
        let conversation = Conversation::new(setup.settings.clone());
        let call = Self {
            session_id: setup.session_id,
            context,
            transport: setup.transport,
            beep: setup
                .settings
                .screening
                .as_ref()
                .map(|_| BeepDetector::new(setup.transport.input_rate_hz)),
            settings: setup.settings,
            line: setup.line,
            providers: setup.providers,
            caller: setup.link.commands,
            events: setup.link.events,
            caller_gone: false,
            end: setup.link.end,
            inputs,
            slot: setup.slot,
            ear,
            record,
            watch,
            replies: HashMap::new(),
            speeches: HashMap::new(),
            at_client: HashMap::new(),
            started,
            stuck_since: None,
            lateness: Duration::ZERO,
        };
        Ok((call, conversation))
    }

    async fn talk(mut self, mut conversation: Conversation) -> EndReason {
        conversation.handle_input(Time::ZERO, Input::Connected);
        loop {
            if let Some(reason) = self.perform(&mut conversation) {
                return self.finish(reason).await;
            }
            let deadline = conversation.poll_deadline().map(|deadline| self.started + deadline);
            let late = || deadline.map(|deadline| deadline.elapsed()).unwrap_or_default();
            tokio::select! {
                biased;
                // Whatever comes first: on a node that falls behind, what the caller says is there before the clock is asked.
                event = self.events.recv(), if !self.caller_gone => {
                    self.lateness = late();
                    let event = event.unwrap_or(CallerEvent::Closed(EndReason::CallerHungUp));
                    if let Some(reason) = self.hear(event, &mut conversation) {
                        return self.finish(reason).await;
                    }
                }
                // The call holds a sender itself, so this queue never closes before the call does.
                Some(input) = self.inputs.recv() => {
                    self.lateness = late();
                    conversation.handle_input(self.now(), self.settle(input));
                }
                () = sleep_until(deadline) => {
                    self.lateness = late();
                    conversation.handle_input(self.now(), Input::Tick);
                }
                () = self.context.tasks.cancelled() => {
                    let reason = EndReason::ProviderFailed("a task of this call panicked".to_owned());
                    conversation.handle_input(self.now(), Input::CallerGone(reason));
                }
            }
        }
    }

    fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Takes what the transport says; a reason when the call cannot go on.
    fn hear(&mut self, event: CallerEvent, conversation: &mut Conversation) -> Option<EndReason> {
        let now = self.now();
        match event {
            CallerEvent::Audio(samples) => {
                self.record.caller(now, &samples);
                self.listen_for_beep(&samples, conversation);
                for frame in self.ear.hear(&samples) {
                    conversation.handle_input(now, Input::Voice(frame));
                    // Each verdict is acted on at once, so that an utterance begins where its voice does.
                    if let Some(reason) = self.perform(conversation) {
                        return Some(reason);
                    }
                }
                let forwarded = self.ear.forward();
                self.report_stall(forwarded, conversation);
            }
            CallerEvent::Dtmf(key) => {
                self.record.key(now, key);
                conversation.handle_input(now, Input::Dtmf(key));
            }
            CallerEvent::Played(mark) => conversation.handle_input(now, Input::Played(mark)),
            CallerEvent::Text(typed) => conversation.handle_input(now, Input::Text(typed)),
            CallerEvent::Interrupt => conversation.handle_input(now, Input::Interrupt),
            CallerEvent::ToolResult { call_id, content } => {
                // An answer nobody waits for is none.
                if let Some(asked) = self.at_client.remove(&call_id) {
                    let reply = asked.reply;
                    let result = Input::ToolResult {
                        reply,
                        call_id,
                        content,
                    };
                    conversation.handle_input(now, result);
                }
            }
            CallerEvent::LineCut => conversation.handle_input(now, Input::LineCut),
            CallerEvent::LineBack => conversation.handle_input(now, Input::LineBack),
            CallerEvent::Closed(reason) => {
                self.caller_gone = true;
                self.end.begin();
                conversation.handle_input(now, Input::CallerGone(reason));
            }
        }
        None
    }

    /// Lets go of finished provider requests.
    fn settle(&mut self, input: Input) -> Input {
        use media_core::conversation::{LlmEvent, TtsEvent};
        self.watch.heard(&input);
        if let Input::Stt(utterance, event) = &input {
            self.record.recognised(*utterance, event);
        }
        match &input {
            Input::Llm(reply, LlmEvent::Done | LlmEvent::Failed(_)) => {
                self.replies.remove(reply);
            }
            Input::Tts(speech, TtsEvent::Done | TtsEvent::Failed(_)) => {
                self.speeches.remove(speech);
            }
            Input::NotPutThrough(_) => metrics::PHONE_TRANSFERS.with_label_values(&["not_taken"]).inc(),
            Input::Connected
            | Input::Voice(_)
            | Input::Stt(..)
            | Input::Llm(_, LlmEvent::Text(_) | LlmEvent::ToolCall(_))
            | Input::Tts(_, TtsEvent::Audio(_))
            | Input::ToolResult { .. }
            | Input::Played(_)
            | Input::Dtmf(_)
            | Input::CollectKeys { .. }
            | Input::SendKeys(_)
            | Input::AnsweredBy(_)
            | Input::Beep
            | Input::Text(_)
            | Input::Interrupt
            | Input::EndRequested { .. }
            | Input::LineCut
            | Input::LineBack
            | Input::PutThrough { .. }
            | Input::TransferWithdrawn
            | Input::CallerGone(_)
            | Input::Tick => {}
        }
        input
    }

    /// Does everything the conversation asks; a reason when it has ended.
    fn perform(&mut self, conversation: &mut Conversation) -> Option<EndReason> {
        while let Some(output) = conversation.poll_output() {
            self.watch.asked(&output);
            match output {
                Output::BeginUtterance { utterance, pre_roll } => {
                    self.record.utterance_begins(utterance, self.ear.position(pre_roll));
                    let begun = self.ear.begin(utterance, pre_roll);
                    self.report_stall(begun, conversation);
                }
                Output::EndUtterance(utterance) => {
                    self.record.utterance_ends(utterance);
                    let ended = self.ear.end(utterance);
                    self.report_stall(ended, conversation);
                }
                Output::CancelUtterance(utterance) => {
                    self.record.utterance_lost(utterance);
                    // A stalled recogniser has nothing to report for a cancelled utterance.
                    let _ = self.ear.cancel(utterance);
                }
                Output::Generate { reply, messages } => {
                    let request = LlmRequest {
                        reply,
                        messages,
                        tools: self.settings.tools.clone(),
                    };
                    self.replies
                        .insert(reply, self.providers.llm.generate(self.context.clone(), request));
                }
                Output::CancelReply(reply) => drop(self.replies.remove(&reply)),
                Output::Speak { speech, reply: _, text } => {
                    let sample_rate_hz = self.settings.output_rate_hz;
                    let request = SpeechRequest {
                        speech,
                        text,
                        sample_rate_hz,
                    };
                    self.speeches
                        .insert(speech, self.providers.tts.speak(self.context.clone(), request));
                }
                Output::CancelSpeech(speech) => drop(self.speeches.remove(&speech)),
                Output::Play(frame) => {
                    self.record.agent(self.now(), conversation.far_end_delay(), &frame);
                    metrics::FRAME_LATENESS
                        .with_label_values(&[self.transport.name])
                        .observe(self.lateness.as_secs_f64());
                    latency::frame_left(self.lateness);
                    if let Some(reason) = self.tell(CallerCommand::Audio(frame)) {
                        conversation.handle_input(self.now(), Input::CallerGone(reason));
                    }
                }
                Output::Mark(mark) => drop(self.tell(CallerCommand::Mark(mark))),
                Output::ClearPlayback { unheard } => {
                    self.record.agent_cut(self.now(), unheard);
                    self.tell(CallerCommand::Clear);
                }
                Output::CallTool { reply, call } => self.call_tool(reply, call, conversation),
                Output::Turn(turn) => {
                    // What was said is the transcript's to keep.
                    tracing::debug!(role = ?turn.role, interrupted = turn.interrupted, "turn");
                    self.record.turn(turn);
                }
                Output::Notice(notice) => self.notify(notice),
                Output::Leave(reason) => self.leave(reason),
                Output::HangUp(reason) => return Some(reason),
            }
        }
        None
    }

    /// A phone is let go while the last words of its caller are still being recognised; a client may want to show them.
    fn leave(&mut self, reason: EndReason) {
        let Some(line) = self.line.clone() else { return };
        self.end.begin();
        line.hang_up_after(&reason, self.session_id.clone(), &self.context.tasks);
        self.tell(CallerCommand::Close(reason));
    }

    fn listen_for_beep(&mut self, samples: &[i16], conversation: &mut Conversation) {
        let now = self.now();
        if now > LONGEST_GREETING {
            self.beep = None;
        }
        if self.beep.as_mut().is_some_and(|beep| beep.hear(samples)) {
            conversation.handle_input(now, Input::Beep);
        }
    }

    fn report_stall(&mut self, sent: Result<(), Stalled>, conversation: &mut Conversation) {
        if let Err(Stalled(utterance)) = sent {
            let labels = self.providers.stt.labels();
            tracing::warn!(session_id = %self.session_id, provider = labels.provider, "recognition takes no audio");
            let failed = SttEvent::Failed("recognition takes no audio".to_owned());
            self.record.recognised(utterance, &failed);
            conversation.handle_input(self.now(), Input::Stt(utterance, failed));
        }
    }

    /// Hands something to the transport without waiting; a reason when the far end has not read for too long.
    fn tell(&mut self, command: CallerCommand) -> Option<EndReason> {
        match self.caller.try_send(command) {
            Ok(()) => {
                self.stuck_since = None;
                None
            }
            // The transport has left, and has said so.
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::FRAMES_DROPPED.with_label_values(&[self.transport.name]).inc();
                let since = *self.stuck_since.get_or_insert_with(Instant::now);
                (since.elapsed() >= STUCK_WRITER)
                    .then(|| EndReason::TransportFailed("the far end has not read for 10 s".to_owned()))
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        match &notice {
            Notice::TurnTiming(timing) => self.watch.answered(*timing),
            Notice::Interrupted { .. } => metrics::INTERRUPTIONS.with_label_values(&["interrupted"]).inc(),
            Notice::StageFailed { stage, error } => {
                tracing::warn!(session_id = %self.session_id, stage, error, "a stage failed; the call goes on");
            }
            Notice::UserStartedSpeaking
            | Notice::UserStoppedSpeaking
            | Notice::UserTranscript { .. }
            | Notice::ReplyStarted
            | Notice::ReplyText(_)
            | Notice::ReplyDone
            | Notice::SpeechQueued { .. }
            | Notice::AgentStartedSpeaking
            | Notice::AgentStoppedSpeaking
            | Notice::Speaking { .. }
            | Notice::Spoken { .. }
            | Notice::Written { .. }
            | Notice::Withdrawn
            | Notice::Asked(_)
            | Notice::AnsweredBy(_)
            | Notice::ToolStarted(_)
            | Notice::ToolRunning { .. }
            | Notice::ToolCancelled { .. }
            | Notice::ToolDone { .. } => {}
        }
        self.record.noticed(&notice);
        self.slot.notify(notice.clone());
        self.tell(CallerCommand::Notice(notice));
    }

    async fn finish(mut self, reason: EndReason) -> EndReason {
        if reason == EndReason::Transferred {
            metrics::PHONE_TRANSFERS.with_label_values(&["taken"]).inc();
        }
        self.end.begin();
        self.replies.clear();
        self.speeches.clear();
        let now = self.now();
        self.tell(CallerCommand::Close(reason.clone()));
        if self.record.holds_audio() {
            let (record, reason) = (self.record, reason.clone());
            if tokio::task::spawn_blocking(move || record.finish(now, &reason))
                .await
                .is_err()
            {
                tracing::error!(session_id = %self.session_id, "the end of this call is not recorded");
            }
        } else {
            self.record.finish(now, &reason);
        }
        self.watch.ended(&reason);
        reason
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
