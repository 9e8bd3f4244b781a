//! Whether the demo call went well: the caller was understood, and every answer could be heard.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use archiver_svc::Row;

use crate::caller::{CallReport, TICK_SAMPLES, rms};
use crate::words::word_error_rate;

/// Most wrong words, as a share of the words spoken.
const MAX_WORD_ERROR_RATE: f64 = 0.15;
/// Least speech heard after each thing the caller said, in 20 ms packets.
const MIN_AUDIBLE_PACKETS: usize = 25;
/// Root mean square above which a packet is speech (about −50 dBFS).
const AUDIBLE_RMS: f64 = 100.0;

/// The outcome, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Share of wrong words over everything the caller said.
    pub word_error_rate: f64,
    /// Things said by the caller.
    pub said: usize,
    /// How many of them were answered audibly.
    pub answered: usize,
    /// Loudness of the agent's side of the archived recording.
    pub recorded_agent_rms: f64,
}

/// Compares what was said with the rows, and looks for speech after each of the caller's sentences.
pub fn judge(report: &CallReport, rows: &[Row], recording: &Path) -> anyhow::Result<Verdict> {
    let said: Vec<_> = report.said.iter().map(|said| said.text.as_str()).collect();
    let understood: Vec<_> = rows
        .iter()
        .filter(|row| row.role == "user")
        .map(|row| row.text.as_str())
        .collect();
    let ends = report
        .said
        .iter()
        .skip(1)
        .map(|said| said.from)
        .chain([report.heard.len() / TICK_SAMPLES]);
    let answered = report
        .said
        .iter()
        .zip(ends)
        .filter(|(said, next)| audible(report, said.to, *next))
        .count();
    Ok(Verdict {
        word_error_rate: word_error_rate(&said.join(" "), &understood.join(" ")),
        said: report.said.len(),
        answered,
        recorded_agent_rms: recorded_agent_rms(recording)?,
    })
}

fn audible(report: &CallReport, from: usize, to: usize) -> bool {
    let span = report
        .heard
        .get(from * TICK_SAMPLES..(to * TICK_SAMPLES).min(report.heard.len()))
        .unwrap_or_default();
    span.chunks(TICK_SAMPLES)
        .filter(|packet| rms(packet) > AUDIBLE_RMS)
        .count()
        >= MIN_AUDIBLE_PACKETS
}

fn recorded_agent_rms(path: &Path) -> anyhow::Result<f64> {
    let mut reader = hound::WavReader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let right: Vec<i16> = reader.samples::<i16>().skip(1).step_by(2).collect::<Result<_, _>>()?;
    Ok(rms(&right))
}

impl Verdict {
    /// Whether everything was as it should be.
    pub fn passed(&self) -> bool {
        self.word_error_rate <= MAX_WORD_ERROR_RATE
            && self.said > 0
            && self.answered == self.said
            && self.recorded_agent_rms > AUDIBLE_RMS
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        write!(
            f,
            "{verdict}: {:.1} % of the caller's words were misunderstood (at most {:.0} %), {} of {} sentences were \
             answered in audible speech",
            self.word_error_rate * 100.0,
            MAX_WORD_ERROR_RATE * 100.0,
            self.answered,
            self.said,
        )
    }
}
