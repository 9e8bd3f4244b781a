//! Splitting streamed text into sentences that can be spoken.
