//! How a call ends: last words, the last thing the caller said, and nothing after `HangUp`.

use std::time::Duration;

use super::reply::Model;
use super::turn::Agent;
use super::{Conversation, EndReason, Output, Spoken};
use crate::Time;
use crate::text::is_speakable;

/// How long the text of what the caller was just saying is waited for before the call is over. Its line is closed
/// meanwhile ([`Output::Leave`]).
pub const LAST_TEXT_WAIT: Duration = Duration::from_millis(1_500);

/// Where the call stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The transport is not up yet.
    Connecting,
    /// They talk.
    Live,
    /// The agent finishes what it is saying, then the call ends.
    Leaving {
        reason: EndReason,
        last_words: Option<String>,
    },
    /// Nobody is listening any more; the caller's last text is still to come.
    Closing { reason: EndReason, until: Time },
    /// Hung up.
    Ended,
}

impl Conversation {
    pub(super) fn on_end_requested(&mut self, reason: EndReason, last_words: Option<String>) {
        // Nobody would hear last words on a line that is cut, or while the caller hears another phone ring.
        let at_once = self.is_unheard()
            || match &reason {
                EndReason::Requested
                | EndReason::TimeLimit
                | EndReason::Transferred
                | EndReason::CallerHungUp
                | EndReason::TransportFailed(_) => last_words.is_none(),
                EndReason::AgentHungUp
                | EndReason::AnsweringMachine
                | EndReason::Drained
                | EndReason::ProviderFailed(_) => false,
            };
        match &self.phase {
            Phase::Connecting => self.finish(reason),
            Phase::Live | Phase::Leaving { .. } if at_once => self.finish(reason),
            Phase::Live => {
                // The agent's own goodbye is let finish; anyone else's wish ends what has not been put into words.
                if reason != EndReason::AgentHungUp {
                    self.stop_model();
                }
                if let Some(turn) = self.talking()
                    && matches!(turn.model, Model::AwaitingTools { .. })
                {
                    turn.model = Model::Complete;
                }
                self.phase = Phase::Leaving { reason, last_words };
            }
            Phase::Leaving { .. } | Phase::Closing { .. } | Phase::Ended => {}
        }
    }

    /// The far end is out of reach for a while; a call that is ending anyway ends now.
    pub(super) fn on_line_cut(&mut self) {
        self.line_is_cut = true;
        self.pacer.ran_dry();
        if let Phase::Leaving { reason, .. } = &self.phase {
            let reason = reason.clone();
            self.close(reason);
        }
    }

    /// Says the last words when their time has come, and ends the call when they were heard.
    pub(super) fn leave_when_done(&mut self) {
        let Phase::Leaving { reason, last_words } = &mut self.phase else {
            return;
        };
        let model_complete = match &self.agent {
            Agent::Listening => true,
            Agent::Talking(turn) => matches!(turn.model, Model::Complete),
        };
        if !model_complete {
            return;
        }
        if let Some(words) = last_words.take().filter(|words| is_speakable(words)) {
            let unanswered = if matches!(self.agent, Agent::Listening) {
                self.pending.take()
            } else {
                None
            };
            self.say(&words, unanswered);
            self.pump();
        } else if matches!(self.agent, Agent::Listening) {
            let reason = reason.clone();
            self.close(reason);
        }
    }

    /// Ends the call, after the text of what the caller has just said; the line is not kept for that.
    pub(super) fn close(&mut self, reason: EndReason) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended) {
            return;
        }
        self.cut();
        if let Some(edge) = self.endpoint.stop(None) {
            self.on_edge(edge);
        }
        if self.recognition.is_waiting() {
            self.emit(Output::Leave(reason.clone()));
        }
        self.phase = Phase::Closing {
            reason,
            until: self.now + LAST_TEXT_WAIT,
        };
        self.finish_when_understood();
    }

    /// Ends a closing call as soon as recognition has nothing more to say.
    pub(super) fn finish_when_understood(&mut self) {
        if let Phase::Closing { reason, .. } = &self.phase
            && !self.recognition.is_waiting()
        {
            let reason = reason.clone();
            self.finish(reason);
        }
    }

    /// Hangs up now. What was said and heard so far is in the transcript.
    pub(super) fn finish(&mut self, reason: EndReason) {
        if reason == EndReason::Transferred
            && let Some(turn) = self.talking()
            && matches!(turn.model, Model::AwaitingTools { .. })
        {
            // The tool that it waits for has done what it was called for: nothing is cut off.
            turn.model = Model::Complete;
        }
        self.cut();
        for utterance in self.recognition.abandon(self.now) {
            self.emit(Output::CancelUtterance(utterance));
        }
        self.phase = Phase::Ended;
        self.take_understood();
        self.take_keys();
        if let Some(user) = self.pending.take() {
            self.record(Spoken::by_caller(user, self.now));
        }
        self.emit(Output::HangUp(reason));
    }

    /// The model is not needed any more; what it has put into words is still said.
    fn stop_model(&mut self) {
        let Some(turn) = self.talking() else { return };
        if let Model::Generating { reply, .. } = std::mem::replace(&mut turn.model, Model::Complete) {
            self.emit(Output::CancelReply(reply));
        }
    }
}
