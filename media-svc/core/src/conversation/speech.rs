//! Pieces of text on their way through synthesis to the caller, in the order they are said.

use std::collections::VecDeque;
use std::time::Duration;

use super::ending::Phase;
use super::heard::heard_words;
use super::playout::Schedule;
use super::reply::Model;
use super::turn::{Agent, AgentTurn};
use super::{Conversation, Notice, Output, ReplyId, SpeechId, TtsEvent};
use crate::Time;
use crate::audio::dtmf;
use crate::text::{is_speakable, join};

/// Pieces in synthesis or ready ahead of the one being played: enough to never wait, little to throw away.
const PIECES_AHEAD: usize = 2;
/// How long synthesis may be silent before its oldest piece counts as failed.
const SYNTHESIS_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of speech guessed for text whose audio is not complete: 15 characters a second.
const MS_PER_CHAR: usize = 66;

/// What one agent turn says.
#[derive(Debug, Default)]
pub(super) struct Speech {
    pieces: Vec<Piece>,
    /// Index of the piece being sent.
    current: usize,
    pub(super) schedule: Schedule,
    /// When synthesis was last asked for something or answered.
    last_event_at: Time,
    /// Index of the piece last told to be heard, and how many bytes of it.
    told: (usize, usize),
    /// Whether synthesis was asked for any piece, and clients were told of it.
    is_announced: bool,
}

#[derive(Debug)]
struct Piece {
    id: SpeechId,
    reply: Option<ReplyId>,
    round: usize,
    text: String,
    synthesis: Synthesis,
    audio: VecDeque<i16>,
    received: usize,
    first_frame: u64,
    frames: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Speech.
    Spoken,
    /// Text that is shown and not spoken.
    Written,
    /// Tones for a machine at the far end.
    Keys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Synthesis {
    Waiting,
    Running,
    Complete,
    Failed,
}

impl Piece {
    fn heard(&self, frames: u64, sent: bool, frame_samples: usize) -> &str {
        let heard = frames.saturating_sub(self.first_frame).min(self.frames);
        let whole = sent && self.synthesis == Synthesis::Complete && heard == self.frames;
        if whole && (heard > 0 || self.kind == Kind::Written || !is_speakable(&self.text)) {
            return &self.text;
        }
        let played = usize::try_from(heard)
            .unwrap_or(usize::MAX)
            .saturating_mul(frame_samples);
        // 50 frames a second.
        let guessed = self.text.chars().count() * MS_PER_CHAR * frame_samples * 50 / 1_000;
        let total = if self.synthesis == Synthesis::Complete {
            self.received
        } else {
            self.received.max(guessed)
        };
        if total == 0 {
            ""
        } else {
            heard_words(&self.text, played.min(total.saturating_sub(1)), total)
        }
    }
}

/// What can be sent next.
enum Next {
    Frame,
    /// All of a piece has been sent.
    PieceEnd,
    /// Nothing until synthesis or the model goes on.
    Nothing,
}

impl Speech {
    pub(super) fn push(&mut self, id: SpeechId, reply: Option<ReplyId>, round: usize, text: String) {
        // There is nothing to synthesise in a smiley, but it belongs to the text.
        let synthesis = if is_speakable(&text) {
            Synthesis::Waiting
        } else {
            Synthesis::Complete
        };
        let (audio, received, first_frame, frames) = (VecDeque::new(), 0, 0, 0);
        self.pieces.push(Piece {
            id,
            reply,
            round,
            text,
            synthesis,
            audio,
            received,
            first_frame,
            frames,
            kind: Kind::Spoken,
        });
    }

    /// Puts text behind everything that is to be said, which is shown and not spoken.
    pub(super) fn push_written(&mut self, id: SpeechId, round: usize, text: String) {
        self.pieces.push(Piece {
            id,
            reply: None,
            round,
            text,
            synthesis: Synthesis::Complete,
            received: 0,
            audio: VecDeque::new(),
            first_frame: 0,
            frames: 0,
            kind: Kind::Written,
        });
    }

    /// Puts tones behind everything that is to be said.
    fn push_keys(&mut self, id: SpeechId, round: usize, sound: Vec<i16>) {
        self.pieces.push(Piece {
            id,
            reply: None,
            round,
            text: String::new(),
            synthesis: Synthesis::Complete,
            received: sound.len(),
            audio: sound.into(),
            first_frame: 0,
            frames: 0,
            kind: Kind::Keys,
        });
    }

    /// Whether tones are still to be sent.
    fn has_keys_left(&self) -> bool {
        self.pieces
            .iter()
            .skip(self.current)
            .any(|piece| piece.kind == Kind::Keys)
    }

    /// Whether everything pushed so far has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.current >= self.pieces.len()
    }

    /// Text of one round, whether heard or not.
    pub(super) fn text(&self, round: usize) -> String {
        let pieces = self.pieces.iter().filter(|piece| piece.round == round);
        pieces.fold(String::new(), |said, piece| join(&said, &piece.text))
    }

    /// Text of one round that was heard within the first `frames` frames.
    pub(super) fn heard(&self, round: usize, frames: u64, frame_samples: usize) -> String {
        let pieces = self.pieces.iter().enumerate().filter(|(_, piece)| piece.round == round);
        pieces.fold(String::new(), |said, (index, piece)| {
            join(&said, piece.heard(frames, index < self.current, frame_samples))
                .trim_end()
                .to_owned()
        })
    }

    /// The piece being heard with the words of it that are complete, when they have become more.
    fn newly_heard(&mut self, frames: u64, frame_samples: usize) -> Option<(SpeechId, &str)> {
        let (from, told) = self.told;
        let begun = |piece: &Piece| piece.kind == Kind::Spoken && piece.frames > 0 && piece.first_frame < frames;
        // Nothing before the last one told is looked at again.
        let mut pieces = self.pieces.iter().enumerate().skip(from);
        let (index, piece) = pieces.rfind(|(_, piece)| begun(piece))?;
        let told = if index == from { told } else { 0 };
        let heard = piece.heard(frames, index < self.current, frame_samples);
        if heard.len() <= told {
            return None;
        }
        self.told = (index, heard.len());
        Some((piece.id, heard))
    }

    /// Whether clients were told of any piece as one that will be heard.
    pub(super) fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// Pieces that synthesis works on.
    pub(super) fn running(&self) -> impl Iterator<Item = SpeechId> {
        self.pieces
            .iter()
            .filter(|piece| piece.synthesis == Synthesis::Running)
            .map(|piece| piece.id)
    }

    fn deadline(&self) -> Option<Time> {
        self.running().next().map(|_| self.last_event_at + SYNTHESIS_TIMEOUT)
    }

    fn running_piece(&mut self, id: SpeechId) -> Option<&mut Piece> {
        self.pieces
            .iter_mut()
            .find(|piece| piece.id == id && piece.synthesis == Synthesis::Running)
    }

    fn next(&self, frame_samples: usize) -> Next {
        let Some(piece) = self.pieces.get(self.current) else {
            return Next::Nothing;
        };
        match piece.synthesis {
            Synthesis::Failed => Next::PieceEnd,
            Synthesis::Complete if piece.audio.is_empty() => Next::PieceEnd,
            Synthesis::Complete => Next::Frame,
            Synthesis::Waiting | Synthesis::Running if piece.audio.len() >= frame_samples => Next::Frame,
            Synthesis::Waiting | Synthesis::Running => Next::Nothing,
        }
    }

    /// Takes the next frame, padded with silence at the end of a piece; with the piece when it is its first.
    fn take_frame(&mut self, start: Time, frame_samples: usize) -> Option<(Vec<i16>, Option<&Piece>)> {
        let position = self.schedule.frames();
        let piece = self.pieces.get_mut(self.current)?;
        let available = piece.audio.len().min(frame_samples);
        let mut frame: Vec<i16> = piece.audio.drain(..available).collect();
        frame.resize(frame_samples, 0);
        let first = piece.frames == 0;
        if first {
            piece.first_frame = position;
        }
        piece.frames += 1;
        self.schedule.sent(start);
        Some((frame, first.then_some(&*piece)))
    }

    /// Goes on to the next piece; returns whether the one before had any audio.
    fn end_piece(&mut self) -> bool {
        let position = self.schedule.frames();
        let Some(piece) = self.pieces.get_mut(self.current) else {
            return false;
        };
        piece.audio.clear();
        if piece.frames == 0 {
            piece.first_frame = position;
        }
        self.current += 1;
        piece.frames > 0
    }

    /// The next piece to synthesise, if playout has come near enough.
    fn request(&mut self, now: Time) -> Option<&Piece> {
        let near = self.pieces.iter_mut().take(self.current + PIECES_AHEAD + 1);
        let piece = { near }.find(|piece| piece.synthesis == Synthesis::Waiting)?;
        piece.synthesis = Synthesis::Running;
        self.last_event_at = now;
        self.is_announced = true;
        Some(piece)
    }
}

impl Conversation {
    pub(super) fn on_tts(&mut self, id: SpeechId, event: TtsEvent) {
        let now = self.now;
        let Some(turn) = self.talking() else { return };
        let Some(piece) = turn.speech.running_piece(id) else {
            return;
        };
        match event {
            TtsEvent::Audio(samples) => {
                piece.received += samples.len();
                piece.audio.extend(samples);
            }
            TtsEvent::Done => piece.synthesis = Synthesis::Complete,
            TtsEvent::Failed(error) => {
                piece.synthesis = Synthesis::Failed;
                turn.speech.last_event_at = now;
                self.stage_failed("tts", error);
                return;
            }
        }
        turn.speech.last_event_at = now;
    }

    /// Sends keys as tones, behind what is being said.
    pub(super) fn on_send_keys(&mut self, keys: &str) {
        if !matches!(self.phase, Phase::Live) {
            return;
        }
        let sound = dtmf::tones(keys, self.settings.output_rate_hz);
        if sound.is_empty() {
            return;
        }
        if matches!(self.agent, Agent::Listening) {
            self.agent = Agent::Talking(Box::new(AgentTurn::new(None, Model::Complete)));
        }
        let id = self.ids.speech();
        if let Some(turn) = self.talking() {
            let round = turn.round();
            turn.speech.push_keys(id, round, sound);
        }
    }

    /// Whether tones are being sent, which a voice at the far end must not cut off.
    pub(super) fn sends_keys(&self) -> bool {
        match &self.agent {
            Agent::Listening => false,
            Agent::Talking(turn) => turn.speech.has_keys_left(),
        }
    }

    /// Gives up on synthesis that has gone silent.
    pub(super) fn expire_speech(&mut self) {
        let now = self.now;
        let Some(turn) = self.talking() else { return };
        if turn.speech.deadline().is_none_or(|due| due > now) {
            return;
        }
        let Some(id) = turn.speech.running().next() else { return };
        if let Some(piece) = turn.speech.running_piece(id) {
            piece.synthesis = Synthesis::Failed;
        }
        turn.speech.last_event_at = now;
        self.emit(Output::CancelSpeech(id));
        self.stage_failed("tts", format!("no audio for {} s", SYNTHESIS_TIMEOUT.as_secs()));
    }

    /// Sends what is due and asks for what will be needed.
    pub(super) fn pump(&mut self) {
        let now = self.now;
        let frame_samples = self.pacer.frame_samples();
        let is_unheard = self.is_unheard();
        let Agent::Talking(turn) = &mut self.agent else { return };
        loop {
            match turn.speech.next(frame_samples) {
                // Nobody hears it.
                Next::Frame if is_unheard => break,
                Next::Frame => {
                    let Some(start) = self.pacer.admit(now) else { break };
                    let Some((frame, begins)) = turn.speech.take_frame(start, frame_samples) else {
                        break;
                    };
                    let notice = begins
                        .filter(|piece| piece.kind == Kind::Spoken)
                        .map(|piece| Notice::Speaking {
                            speech: piece.id,
                            text: piece.text.clone(),
                        });
                    if turn.audible_at.is_none() {
                        turn.audible_at = Some(start);
                        self.outputs.push_back(Output::Notice(Notice::AgentStartedSpeaking));
                        turn.measured = turn.timing(now);
                        if let Some(timing) = turn.measured {
                            self.outputs.push_back(Output::Notice(Notice::TurnTiming(timing)));
                        }
                    }
                    self.outputs.extend(notice.map(Output::Notice));
                    self.outputs.push_back(Output::Play(frame));
                }
                Next::PieceEnd => {
                    if turn.speech.end_piece() && self.settings.far_end_marks {
                        let mark = self.ids.mark();
                        // A piece that failed late ends after its audio.
                        let at = self.pacer.end().max(now);
                        self.marks.sent(mark, turn.speech.schedule.frames(), at);
                        self.outputs.push_back(Output::Mark(mark));
                    }
                }
                Next::Nothing => {
                    self.pacer.ran_dry();
                    break;
                }
            }
        }
        while let Some(piece) = turn.speech.request(now) {
            let (speech, reply, text) = (piece.id, piece.reply, piece.text.clone());
            self.outputs.push_back(Output::Speak {
                speech,
                reply,
                text: text.clone(),
            });
            self.outputs
                .push_back(Output::Notice(Notice::SpeechQueued { speech, text }));
        }
    }

    /// Tells which words of the sentence being heard are complete.
    pub(super) fn tell_what_is_heard(&mut self) {
        let frame_samples = self.pacer.frame_samples();
        let Agent::Talking(turn) = &mut self.agent else { return };
        let frames = self.marks.heard(&turn.speech.schedule, self.now);
        if let Some((speech, heard)) = turn.speech.newly_heard(frames, frame_samples) {
            let heard = heard.to_owned();
            self.outputs.push_back(Output::Notice(Notice::Spoken { speech, heard }));
        }
    }

    /// When outgoing speech needs attention next: a frame, a silent synthesis, the end of what was sent.
    pub(super) fn agent_deadline(&self) -> Option<Time> {
        let Agent::Talking(turn) = &self.agent else { return None };
        let frame = match turn.speech.next(self.pacer.frame_samples()) {
            Next::Frame => Some(self.pacer.due()).filter(|_| !self.is_unheard()),
            Next::PieceEnd | Next::Nothing => None,
        };
        let awaited = turn.is_complete() || self.waits_to_be_heard();
        let heard = if turn.speech.schedule.frames() > 0 && awaited {
            self.marks.deadline().or(Some(self.marks.heard_at(self.pacer.end())))
        } else {
            self.marks.deadline()
        };
        [frame, heard, turn.speech.deadline(), turn.reply_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
