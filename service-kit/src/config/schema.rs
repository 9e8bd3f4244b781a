//! The table of keys: one row each with type, default, environment names and meaning.

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// Type.
    pub kind: Kind,
}

/// All keys.
pub static SCHEMA: &[Key] = &[];

/// The committed JSON Schema that makes editors complete a configuration file.
pub fn json_schema() -> serde_json::Value {
    serde_json::Value::Null
}
