//! Wire formats: provider messages and client frames to and from typed events.
