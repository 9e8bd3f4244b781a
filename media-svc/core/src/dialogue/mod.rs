//! The `local` language model: a deterministic receptionist.
