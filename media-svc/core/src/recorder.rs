//! Puts caller and agent on one timeline and cuts it into chunks for the archive.
