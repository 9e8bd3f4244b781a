//! The logic of one conversation: turns, barge-in, playout, what was heard, tool rounds.
//!
//! `Conversation::handle_input(now, input)` then `poll_output()` until `None`; call `handle_input(now, Input::Tick)`
//! when `poll_deadline()` has passed. The same inputs at the same times give the same outputs.
//!
//! A file a job: `endpoint` finds speech in voice frames, `recognition` collects its text, `caller` makes user turns
//! of it, `collect` takes the keys a tool asked for; `turn` is what the agent says in answer, `reply` the model behind it,
//! `speech` the pieces in synthesis, `playout` the clock of outgoing audio and what of it was heard; `screening` finds out
//! who has answered an outbound call; `away` is the time while a caller is being put through to somebody else; `ending`
//! closes the call.

mod away;
mod caller;
mod collect;
mod ending;
mod endpoint;
mod heard;
mod history;
mod io;
mod notice;
mod playout;
mod recognition;
mod reply;
pub mod screening;
mod speech;
mod timing;
mod turn;

use std::collections::VecDeque;
use std::time::Duration;

pub use caller::is_key;
pub(crate) use collect::KEYS_PRESSED;
pub use collect::KeyPlan;
pub use ending::LAST_TEXT_WAIT;
pub use io::*;
pub use notice::{Notice, TurnTiming};
pub use screening::{AnsweredBy, Screening};

use self::away::Away;
use self::caller::{Keys, UserTurn};
use self::collect::Collecting;
use self::ending::Phase;
use self::endpoint::Endpoint;
use self::history::History;
use self::playout::{Marks, Pacer};
use self::recognition::Recognition;
use self::screening::Screen;
use self::timing::Idle;
use self::turn::{Agent, AgentTurn};
use crate::Time;

/// One call's conversation. Pure state: no clock, no I/O.
pub struct Conversation {
    settings: Settings,
    now: Time,
    outputs: VecDeque<Output>,
    phase: Phase,
    endpoint: Endpoint,
    recognition: Recognition,
    keys: Keys,
    /// A tool that takes the keys instead.
    collecting: Option<Collecting>,
    screen: Screen,
    /// What the caller has said that no answer is under way for.
    pending: Option<UserTurn>,
    agent: Agent,
    pacer: Pacer,
    marks: Marks,
    history: History,
    idle: Idle,
    ids: Ids,
    next_seq: u32,
    /// The network to the far end is cut: nothing is played.
    line_is_cut: bool,
    /// The caller is being put through to somebody else.
    away: Option<Away>,
}

/// Ids given out last.
#[derive(Debug, Default)]
struct Ids {
    utterance: u64,
    reply: u64,
    speech: u64,
    mark: u64,
}

impl Ids {
    fn utterance(&mut self) -> UtteranceId {
        self.utterance += 1;
        UtteranceId(self.utterance)
    }

    fn reply(&mut self) -> ReplyId {
        self.reply += 1;
        ReplyId(self.reply)
    }

    fn speech(&mut self) -> SpeechId {
        self.speech += 1;
        SpeechId(self.speech)
    }

    fn mark(&mut self) -> MarkId {
        self.mark += 1;
        MarkId(self.mark)
    }
}

impl Conversation {
    /// A conversation that waits for [`Input::Connected`].
    pub fn new(settings: Settings) -> Self {
        Self {
            now: Time::ZERO,
            outputs: VecDeque::new(),
            phase: Phase::Connecting,
            endpoint: Endpoint::default(),
            recognition: Recognition::default(),
            keys: Keys::default(),
            collecting: None,
            screen: Screen::default(),
            pending: None,
            agent: Agent::Listening,
            pacer: Pacer::new(settings.output_rate_hz, settings.playout_lead),
            marks: Marks::new(settings.far_end_marks),
            history: History::default(),
            idle: Idle::default(),
            ids: Ids::default(),
            next_seq: 0,
            line_is_cut: false,
            away: None,
            settings,
        }
    }

    /// Takes one input at a time of the call; a time before the latest one counts as the latest. Events for ids that
    /// were cancelled or are complete are ignored, and after [`Output::HangUp`] everything is.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        self.elapse();
        match (&self.phase, &input) {
            // Only the caller's last words still matter.
            (Phase::Closing { .. }, Input::Stt(..)) | (Phase::Connecting | Phase::Live | Phase::Leaving { .. }, _) => {
                self.apply(input);
            }
            (Phase::Closing { .. } | Phase::Ended, _) => {}
        }
        self.progress();
    }

    /// The next thing to do, in order; `None` when there is nothing until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_input` with [`Input::Tick`] at the latest; `None` when only an input can change anything.
    pub fn poll_deadline(&self) -> Option<Time> {
        let deadlines = match &self.phase {
            Phase::Ended => return None,
            Phase::Closing { until, .. } => return Some(*until),
            Phase::Connecting | Phase::Live | Phase::Leaving { .. } => [
                self.endpoint.deadline(&self.settings),
                self.recognition.deadline(),
                self.keys.due(),
                self.collecting.as_ref().and_then(Collecting::due),
                self.screen.due(),
                self.away_until(),
                self.idle_due(),
                self.agent_deadline(),
            ],
        };
        deadlines.into_iter().flatten().min()
    }

    /// How much later than sent the far end plays audio, as far as its answers to marks have taught it: zero without any,
    /// one second at most.
    pub fn far_end_delay(&self) -> Duration {
        self.marks.delay()
    }

    fn apply(&mut self, input: Input) {
        if self.misses(&input) {
            return;
        }
        match input {
            Input::Connected => self.on_connected(),
            Input::Voice(frame) => {
                self.screen_voice(frame);
                self.on_voice(frame);
            }
            Input::Stt(utterance, event) => self.on_stt(utterance, event),
            Input::Llm(reply, event) => self.on_llm(reply, event),
            Input::Tts(speech, event) => self.on_tts(speech, event),
            Input::ToolResult {
                reply,
                call_id,
                content,
            } => self.on_tool_result(reply, call_id, content),
            Input::Played(mark) => self.marks.played(mark, self.now),
            Input::Dtmf(key) => self.on_key(key),
            Input::CollectKeys { reply, call_id, plan } => self.on_collect_keys(reply, call_id, plan),
            Input::SendKeys(keys) => self.on_send_keys(&keys),
            Input::AnsweredBy(verdict) => self.on_answered_by(verdict),
            Input::Beep => self.on_beep(),
            Input::Text(typed) => self.on_text(typed),
            Input::Interrupt => self.on_interrupt(),
            Input::EndRequested { reason, last_words } => self.on_end_requested(reason, last_words),
            Input::LineCut => self.on_line_cut(),
            Input::LineBack => self.on_line_back(),
            Input::PutThrough { tool, wait } => self.on_put_through(tool, wait),
            Input::NotPutThrough(why) => self.on_not_put_through(&why),
            Input::TransferWithdrawn => self.away = None,
            Input::CallerGone(reason) => self.close(reason),
            Input::Tick => {}
        }
    }

    /// What time alone brings about.
    fn elapse(&mut self) {
        match &self.phase {
            Phase::Ended => return,
            Phase::Closing { until, reason } => {
                if *until <= self.now {
                    self.finish(reason.clone());
                }
                return;
            }
            Phase::Connecting | Phase::Live | Phase::Leaving { .. } => {}
        }
        if let Some(edge) = self.endpoint.elapsed(self.now, &self.settings) {
            self.on_edge(edge);
        }
        self.expire_recognition();
        self.expire_keys();
        self.expire_collecting();
        self.expire_screen();
        self.expire_away();
        self.marks.expire(self.now);
        self.expire_reply();
        self.expire_speech();
        if self.idle_due().is_some_and(|due| due <= self.now) {
            self.idle.prompted();
            self.say(timing::IDLE_PROMPT, None);
        }
    }

    /// Carries on as far as possible without another input.
    fn progress(&mut self) {
        self.pump();
        self.tell_what_is_heard();
        self.settle();
        self.run_held_tools();
        self.wait_for_keys_when_heard();
        self.finish_turn_when_heard();
        self.leave_when_done();
        self.finish_when_understood();
        self.greet_when_understood();
        self.answer_when_possible();
        let quiet = matches!(self.phase, Phase::Live)
            && self.screen.is_open()
            && self.away.is_none()
            && matches!(self.agent, Agent::Listening)
            && !self.has_question()
            && self.keys.due().is_none()
            && self.recognition.is_empty()
            && !self.endpoint.is_speaking();
        self.idle.observe(quiet, self.now);
    }

    fn on_connected(&mut self) {
        if matches!(self.phase, Phase::Connecting) {
            self.phase = Phase::Live;
            if self.settings.screening.is_some() {
                self.screen = Screen::listening(self.now);
            } else if let Some(greeting) = self.settings.greeting.clone() {
                self.say(&greeting, None);
            }
        }
    }

    fn idle_due(&self) -> Option<Time> {
        self.idle.due(self.settings.idle_prompt_after)
    }

    fn talking(&mut self) -> Option<&mut AgentTurn> {
        match &mut self.agent {
            Agent::Listening => None,
            Agent::Talking(turn) => Some(turn),
        }
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn notify(&mut self, notice: Notice) {
        self.emit(Output::Notice(notice));
    }

    fn stage_failed(&mut self, stage: &'static str, error: String) {
        self.notify(Notice::StageFailed { stage, error });
    }

    /// Writes one row of the transcript; what has no text is none.
    fn record(&mut self, spoken: Spoken) {
        if spoken.text.is_empty() {
            return;
        }
        let record = TurnRecord {
            seq: self.next_seq,
            role: spoken.role,
            text: spoken.text,
            started_at: spoken.started_at,
            ended_at: spoken.ended_at.max(spoken.started_at),
            interrupted: spoken.interrupted,
            timing: spoken.timing,
            parts: spoken.parts,
        };
        self.next_seq += 1;
        self.emit(Output::Turn(record));
    }
}

/// A turn that has no number yet.
struct Spoken {
    role: Role,
    text: String,
    started_at: Time,
    ended_at: Time,
    interrupted: bool,
    timing: Option<TurnTiming>,
    parts: Vec<TurnPart>,
}

impl Spoken {
    /// What was typed or pressed has no end but now.
    fn by_caller(user: UserTurn, now: Time) -> Self {
        Self {
            role: Role::User,
            text: user.text,
            started_at: user.started_at,
            ended_at: user.end.map_or(now, |end| end.last_voice_at),
            interrupted: false,
            timing: None,
            parts: user.parts,
        }
    }
}

/// Length of an outgoing frame.
const FRAME: Duration = Duration::from_millis(crate::audio::FRAME_MS as u64);
