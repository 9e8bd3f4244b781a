//! Local speech: voice activity, recognition and synthesis without a key.
