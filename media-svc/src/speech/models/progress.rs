//! Telling a person how far a download is.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress goes. Everything is written to standard error.
#[derive(Debug)]
pub enum Progress {
    /// A bar on a terminal.
    Bar(ProgressBar),
    /// A line for every tenth, for logs and pipes.
    Lines(AtomicU64),
    /// Nothing.
    Silent,
}

impl Progress {
    /// A bar when standard error is a terminal, lines otherwise.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
        } else {
            Self::Lines(AtomicU64::new(0))
        }
    }

    pub(super) fn start(&self, what: &str, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                if let Ok(style) =
                    ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
                {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(what.to_owned());
            }
            Self::Lines(tenths) => {
                tenths.store(0, Ordering::Relaxed);
                self.note(&format!("{what}: {}", megabytes(total)));
            }
            Self::Silent => {}
        }
    }

    pub(super) fn at(&self, bytes: u64, total: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(bytes.min(total)),
            Self::Lines(last) => {
                let tenths = bytes.min(total) * 10 / total.max(1);
                if last.fetch_max(tenths, Ordering::Relaxed) < tenths {
                    self.note(&format!("  {} of {}", megabytes(bytes.min(total)), megabytes(total)));
                }
            }
            Self::Silent => {}
        }
    }

    pub(super) fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines(_) | Self::Silent => {}
        }
    }

    pub(super) fn note(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.println(line),
            // Nobody to tell when standard error is closed.
            Self::Lines(_) => drop(writeln!(std::io::stderr(), "{line}")),
            Self::Silent => {}
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
