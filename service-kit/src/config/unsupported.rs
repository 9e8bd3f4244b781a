//! What the specification names and this release does not do yet. Such values are refused, never ignored: building a
//! feature means deleting its row here.

use super::value::Value;

/// What a row refuses.
#[derive(Debug, Clone, Copy)]
enum Refused {
    /// These values; the rest of the key's choices stay.
    Values(&'static [&'static str]),
    /// Every value but these.
    AllBut(&'static [&'static str]),
    /// Setting the key at all.
    Setting,
}

/// One key with what is refused of it.
struct Row {
    key: &'static str,
    refused: Refused,
}

const fn row(key: &'static str, refused: Refused) -> Row {
    Row { key, refused }
}

const PROVIDERS: &[&str] = &["local", "openai"];

#[rustfmt::skip]
static UNSUPPORTED: &[Row] = &[
    row("turn_detection", Refused::Values(&["smart", "none"])),
    row("vad_type", Refused::Values(&["silero"])),
    row("interruption_strategy", Refused::Values(&["keyword"])),
    row("provider", Refused::AllBut(PROVIDERS)),
    row("stt_provider", Refused::AllBut(PROVIDERS)),
    row("llm_provider", Refused::AllBut(PROVIDERS)),
    row("tts_provider", Refused::AllBut(PROVIDERS)),
    row("fallback.stt", Refused::Setting),
    row("fallback.llm", Refused::Setting),
    row("fallback.tts", Refused::Setting),
    row("mcp.command", Refused::Setting),
    row("mcp.args", Refused::Setting),
    row("mcp.tools_filter", Refused::Setting),
    row("mcp.url", Refused::Setting),
];

fn find(key: &str) -> Option<Refused> {
    UNSUPPORTED.iter().find(|row| row.key == key).map(|row| row.refused)
}

/// Whether no value of this key does anything yet.
pub(super) fn is_whole_key(key: &str) -> bool {
    matches!(find(key), Some(Refused::Setting))
}

/// The choices of a key that work today, given all that are specified.
pub(super) fn supported(key: &str, choices: &[&'static str]) -> Vec<&'static str> {
    match find(key) {
        Some(Refused::Values(refused)) => choices
            .iter()
            .copied()
            .filter(|choice| !refused.contains(choice))
            .collect(),
        Some(Refused::AllBut(allowed)) => allowed.to_vec(),
        Some(Refused::Setting) => Vec::new(),
        None => choices.to_vec(),
    }
}

/// Why a value that was set (not defaulted) is refused, or `None`.
pub(super) fn refusal(key: &str, value: &Value, choices: &[&'static str]) -> Option<String> {
    let words = match value {
        Value::Text(word) => std::slice::from_ref(word),
        Value::List(words) => words.as_slice(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::IceServers(_) => &[],
    };
    let refused = match find(key)? {
        Refused::Values(refused) => words.iter().find(|word| refused.contains(&word.as_str()))?,
        Refused::AllBut(allowed) => words.iter().find(|word| !allowed.contains(&word.as_str()))?,
        Refused::Setting if matches!(value, Value::List(list) if list.is_empty()) => return None,
        Refused::Setting => return Some("this key is not supported by this release; remove it".to_owned()),
    };
    let allowed = supported(key, choices)
        .iter()
        .map(|word| quote_if_empty(word))
        .collect::<Vec<_>>()
        .join(", ");
    Some(format!(
        "{refused:?} is not supported by this release; allowed: {allowed}"
    ))
}

/// An empty word in a list of allowed ones needs quotes to be seen.
pub(super) fn quote_if_empty(word: &str) -> String {
    if word.is_empty() {
        "\"\"".to_owned()
    } else {
        word.to_owned()
    }
}
