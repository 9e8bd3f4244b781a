//! What the agent says between two user turns.

use super::caller::UserTurn;
use super::ending::Phase;
use super::reply::Model;
use super::speech::Speech;
use super::timing::SpeechEnd;
use super::{Conversation, Notice, Output, ReplyId, Role, Spoken, ToolCall, TurnTiming};
use crate::Time;
use crate::text::{SentenceSplitter, join};

/// Whose turn it is on our side.
#[derive(Debug)]
pub(super) enum Agent {
    /// The agent has nothing to say.
    Listening,
    /// An answer is being made or spoken.
    Talking(Box<AgentTurn>),
}

/// One turn of the agent, from the question until the last word is heard.
#[derive(Debug)]
pub(super) struct AgentTurn {
    /// The user turn this answers, until the caller has heard a word of the answer: till then, it may be continued.
    pub(super) answering: Option<UserTurn>,
    /// Whether the model answers; else it is a fixed sentence.
    pub(super) is_answer: bool,
    /// Whether it is text alone.
    pub(super) silent: bool,
    pub(super) model: Model,
    /// Requests to the model; the last one is going on.
    pub(super) rounds: Vec<Round>,
    pub(super) speech: Speech,
    /// Tools that run when everything said so far was heard.
    pub(super) held: Vec<(ReplyId, ToolCall)>,
    /// When the first frame is heard.
    pub(super) audible_at: Option<Time>,
    pub(super) first_token_at: Option<Time>,
    pub(super) speech_end: Option<SpeechEnd>,
    /// Latencies, since the first frame of an answer.
    pub(super) measured: Option<TurnTiming>,
}

/// Tools called by one reply.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) calls: Vec<Call>,
}

/// A tool call and its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) call: ToolCall,
    pub(super) result: Option<String>,
}

impl AgentTurn {
    pub(super) fn new(answering: Option<UserTurn>, model: Model) -> Self {
        Self {
            is_answer: !matches!(model, Model::Complete),
            silent: answering.as_ref().is_some_and(|user| user.silent),
            speech_end: answering.as_ref().and_then(|user| user.end),
            answering,
            model,
            rounds: vec![Round::default()],
            speech: Speech::default(),
            held: Vec::new(),
            audible_at: None,
            first_token_at: None,
            measured: None,
        }
    }

    /// Latencies, when this answers something that was spoken.
    pub(super) fn timing(&self, first_audio_at: Time) -> Option<TurnTiming> {
        let end = self.speech_end.filter(|_| self.is_answer)?;
        Some(end.timing(self.first_token_at, first_audio_at))
    }

    /// Whether nothing more will be said.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.model, Model::Complete) && self.speech.is_sent()
    }

    pub(super) fn round(&self) -> usize {
        self.rounds.len().saturating_sub(1)
    }

    fn heard_rounds(&self, frames: u64, frame_samples: usize) -> Vec<String> {
        (0..self.rounds.len())
            .map(|round| self.speech.heard(round, frames, frame_samples))
            .collect()
    }
}

impl Conversation {
    /// Says fixed text, in a turn of its own or at the end of the current one.
    pub(super) fn say(&mut self, text: &str, answering: Option<UserTurn>) {
        if matches!(self.agent, Agent::Listening) {
            self.agent = Agent::Talking(Box::new(AgentTurn::new(answering, Model::Complete)));
        }
        let mut splitter = SentenceSplitter::new();
        let mut pieces = splitter.push(text);
        pieces.extend(splitter.finish());
        self.queue(None, pieces);
    }

    /// Queues text for synthesis.
    pub(super) fn queue(&mut self, reply: Option<ReplyId>, pieces: Vec<String>) {
        let Agent::Talking(turn) = &mut self.agent else { return };
        for text in pieces {
            let speech = self.ids.speech();
            if turn.silent {
                turn.speech.push_written(speech, turn.round(), text.clone());
                self.outputs.push_back(Output::Notice(Notice::Written { speech, text }));
            } else {
                turn.speech.push(speech, reply, turn.round(), text);
            }
        }
    }

    /// Answers what the caller has said, as soon as they are done and nobody else speaks.
    pub(super) fn answer_when_possible(&mut self) {
        let ready = matches!(self.phase, Phase::Live)
            && self.screen.is_open()
            && self.away.is_none()
            && matches!(self.agent, Agent::Listening)
            && !self.recognition.is_finishing()
            && !self.caller_holds_turn();
        if ready
            && self.has_question()
            && let Some(user) = self.pending.take()
        {
            if !user.unsaid.is_empty() {
                self.notify(Notice::Asked(user.unsaid.clone()));
            }
            let model = self.generate(&user.unsaid, &AgentTurn::new(None, Model::Complete));
            self.agent = Agent::Talking(Box::new(AgentTurn::new(Some(user), model)));
        }
    }

    /// Whether an answer is under way that the caller has heard nothing of.
    pub(super) fn answers_in_silence(&self) -> bool {
        match &self.agent {
            Agent::Listening => false,
            Agent::Talking(turn) => turn.is_answer && turn.audible_at.is_none(),
        }
    }

    /// Stops the agent at once. What was heard becomes a turn; if nothing was, the user turn is open again.
    pub(super) fn cut(&mut self) {
        self.stop_collecting();
        let Agent::Talking(turn) = std::mem::replace(&mut self.agent, Agent::Listening) else {
            return;
        };
        let frames = self.marks.heard(&turn.speech.schedule, self.now);
        if turn.audible_at.is_some() {
            let unheard = turn.speech.schedule.frames().saturating_sub(frames);
            self.emit(Output::ClearPlayback { unheard });
            self.pacer.cleared(self.now);
        }
        if let Model::Generating { reply, .. } = &turn.model {
            self.emit(Output::CancelReply(*reply));
        }
        for speech in turn.speech.running() {
            self.emit(Output::CancelSpeech(speech));
        }
        let complete = turn.is_complete() && frames == turn.speech.schedule.frames();
        self.close_turn(*turn, frames, !complete);
    }

    /// Once the caller has heard a word of the answer, the user turn is over.
    pub(super) fn settle(&mut self) {
        let frame_samples = self.pacer.frame_samples();
        let Agent::Talking(turn) = &mut self.agent else { return };
        if turn.answering.is_none() || turn.audible_at.is_none() {
            return;
        }
        let frames = self.marks.heard(&turn.speech.schedule, self.now);
        if turn
            .heard_rounds(frames, frame_samples)
            .iter()
            .any(|heard| !heard.is_empty())
            && let Some(user) = turn.answering.take()
        {
            self.settle_user(user);
        }
    }

    /// Closes the agent's turn when its last word has been heard.
    pub(super) fn finish_turn_when_heard(&mut self) {
        let Agent::Talking(turn) = &self.agent else { return };
        let frames = self.marks.heard(&turn.speech.schedule, self.now);
        if !turn.is_complete() || frames < turn.speech.schedule.frames() {
            return;
        }
        let Agent::Talking(mut turn) = std::mem::replace(&mut self.agent, Agent::Listening) else {
            return;
        };
        if let Some(user) = turn.answering.take() {
            self.settle_user(user);
        }
        self.close_turn(*turn, frames, false);
    }

    /// Moves a turn into history and transcript as far as it was heard, and tells how it ended.
    pub(super) fn close_turn(&mut self, mut turn: AgentTurn, frames: u64, interrupted: bool) {
        let heard = turn.heard_rounds(frames, self.pacer.frame_samples());
        let whole = heard
            .iter()
            .fold(String::new(), |said, part| join(&said, part).trim().to_owned());
        if let Some(mut user) = turn.answering.take() {
            if !whole.is_empty() {
                self.settle_user(user);
            } else {
                // Tools that were called stay called: the model must know when it is asked again.
                if turn.rounds.iter().any(|round| !round.calls.is_empty()) {
                    self.history.user(&std::mem::take(&mut user.unsaid));
                }
                self.pending = Some(user.join(self.pending.take()));
            }
        }
        for (_, call) in std::mem::take(&mut turn.held) {
            self.notify(Notice::ToolCancelled { call_id: call.id });
        }
        for (round, said) in turn.rounds.iter().zip(heard) {
            self.history.agent(said, round);
        }
        self.record(Spoken {
            role: Role::Assistant,
            text: whole.clone(),
            started_at: turn.audible_at.unwrap_or(self.now),
            ended_at: self.now,
            interrupted,
            timing: turn.measured,
            parts: Vec::new(),
        });
        self.marks.forget_turn();
        if turn.audible_at.is_some() {
            if interrupted {
                self.notify(Notice::Interrupted { heard: whole });
            }
            self.notify(Notice::AgentStoppedSpeaking);
        } else if turn.speech.is_announced() {
            self.notify(Notice::Withdrawn);
        }
    }

    pub(super) fn settle_user(&mut self, user: UserTurn) {
        self.history.user(&user.unsaid);
        self.record(Spoken::by_caller(user, self.now));
    }
}
