//! What the demo shows while the call runs, and afterwards.
#![expect(clippy::print_stdout, reason = "this is what the demo is for")]

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use archiver_svc::Row;
use media_core::conversation::{Notice, TurnTiming};
use tokio::sync::broadcast;

use super::verdict::Verdict;

/// The screen.
pub struct Display {
    terminal: bool,
}

/// State of the running line.
#[derive(Default)]
struct Lines {
    session_id: Option<String>,
    interim_shown: bool,
    last_timing: Option<TurnTiming>,
}

impl Display {
    /// Prints the headline.
    pub fn start(base_url: &str, out: &Path) -> Self {
        println!("voxray demo: one phone call over Twilio Media Streams to {base_url}");
        println!("everything stays in {}", out.display());
        println!();
        println!("  caller: an American synthetic voice, and a recording of a real person for the message");
        println!("  agent:  the `local` providers (Moonshine hears, a receptionist answers, Pico speaks British)");
        println!();
        Self {
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Shows what happens until the call is over; answers its outcome and the session it was.
    pub async fn while_calling<T>(
        &self,
        call: impl Future<Output = T>,
        mut events: broadcast::Receiver<(Arc<str>, Notice)>,
    ) -> (T, Option<String>) {
        let mut lines = Lines::default();
        tokio::pin!(call);
        let outcome = loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok((session, notice)) => self.show(&mut lines, &session, notice),
                    Err(broadcast::error::RecvError::Lagged(missed)) => println!("  ({missed} events not shown)"),
                    Err(broadcast::error::RecvError::Closed) => break call.await,
                },
                outcome = &mut call => break outcome,
            }
        };
        while let Ok((session, notice)) = events.try_recv() {
            self.show(&mut lines, &session, notice);
        }
        (outcome, lines.session_id)
    }

    fn show(&self, lines: &mut Lines, session: &str, notice: Notice) {
        lines.session_id.get_or_insert_with(|| session.to_owned());
        match notice {
            Notice::UserTranscript { text, is_final: false } => self.interim(lines, &text),
            Notice::UserTranscript { text, is_final: true } => {
                self.end_interim(lines);
                println!("  caller  {text}");
            }
            Notice::Speaking { text, .. } => {
                self.end_interim(lines);
                println!("  agent   {text}");
            }
            Notice::TurnTiming(timing) => {
                self.end_interim(lines);
                lines.last_timing = Some(timing);
                println!(
                    "          end of speech → turn over {} ms → transcript {} ms → first token {} ms → first audio {} ms",
                    timing.endpoint.as_millis(),
                    timing.transcript.as_millis(),
                    timing.first_token.as_millis(),
                    timing.first_audio.as_millis(),
                );
            }
            Notice::Interrupted { heard } => println!("          (the caller interrupted after: {heard:?})"),
            Notice::StageFailed { stage, error } => println!("          ({stage} failed: {error})"),
            Notice::ToolStarted(call) => println!("          (the agent calls {})", call.name),
            Notice::AnsweredBy(_)
            | Notice::Asked(_)
            | Notice::Spoken { .. }
            | Notice::Written { .. }
            | Notice::Withdrawn
            | Notice::ToolRunning { .. }
            | Notice::ToolCancelled { .. }
            | Notice::UserStartedSpeaking
            | Notice::UserStoppedSpeaking
            | Notice::ReplyStarted
            | Notice::ReplyText(_)
            | Notice::ReplyDone
            | Notice::SpeechQueued { .. }
            | Notice::AgentStartedSpeaking
            | Notice::AgentStoppedSpeaking
            | Notice::ToolDone { .. } => {}
        }
    }

    /// Interim text is overwritten on a terminal, and a line of its own elsewhere.
    fn interim(&self, lines: &mut Lines, text: &str) {
        if self.terminal {
            let shown: String = text.chars().take(90).collect();
            print!("\r\x1b[2K  caller~ {shown}");
            // A terminal that is gone is noticed by the next println.
            let _ = std::io::stdout().flush();
            lines.interim_shown = true;
        } else {
            println!("  caller~ {text}");
        }
    }

    fn end_interim(&self, lines: &mut Lines) {
        if std::mem::take(&mut lines.interim_shown) {
            print!("\r\x1b[2K");
        }
    }

    /// Prints what is left of the call.
    pub fn summary(&self, rows: &[Row], recording: &Path, verdict: &Verdict) {
        println!();
        println!("transcript rows, read back from SQLite:");
        for row in rows {
            println!("  {:>3}  {:<9}  {}", row.seq, row.role, row.text);
        }
        println!();
        println!("recording (left caller, right agent): {}", recording.display());
        println!();
        println!("{verdict}");
    }
}
