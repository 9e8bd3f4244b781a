//! What is generated from the table of keys: the JSON Schema for editors and the table for people.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::schema::{Key, Kind, SCHEMA};
use super::unsupported;
use super::value::allowed;

/// The committed JSON Schema (draft 2020-12) that makes editors complete a configuration file. Keys are offered nested
/// and dotted; values that this release refuses are left out.
pub fn json_schema() -> Json {
    let mut root = Map::new();
    for key in SCHEMA.iter().filter(|key| !unsupported::is_whole_key(&key.path)) {
        for path in std::iter::once(key.path.as_ref()).chain(key.aliases.iter().copied()) {
            root.insert(path.to_owned(), property(key));
            if let Some((group, name)) = path.split_once('.') {
                let group = root.entry(group).or_insert_with(group_schema);
                if let Some(properties) = group.get_mut("properties").and_then(Json::as_object_mut) {
                    properties.insert(name.to_owned(), property(key));
                }
            }
        }
    }
    root.insert("$schema".to_owned(), json!({ "type": "string" }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Voxray configuration",
        "type": "object",
        "properties": root,
        "patternProperties": { "^_": {} },
        "additionalProperties": false,
    })
}

fn group_schema() -> Json {
    json!({ "type": "object", "properties": {}, "patternProperties": { "^_": {} }, "additionalProperties": false })
}

fn property(key: &Key) -> Json {
    let mut schema = match key.kind {
        Kind::Text => match unsupported::supported(&key.path, &[]) {
            none if none.is_empty() => json!({ "type": "string" }),
            words => json!({ "type": "string", "enum": words }),
        },
        Kind::Path => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int { min, max: i64::MAX } => json!({ "type": "integer", "minimum": min }),
        Kind::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Float { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Choice(choices) => json!({ "type": "string", "enum": unsupported::supported(&key.path, choices) }),
        Kind::List => json!({ "type": ["array", "string"], "items": { "type": "string" } }),
        Kind::ChoiceList(choices) => {
            let choices = unsupported::supported(&key.path, choices);
            json!({ "type": "array", "items": { "type": "string", "enum": choices }, "minItems": 1 })
        }
        Kind::Url(schemes) => {
            // In a pattern a plus is none.
            let schemes = schemes.join("|").replace('+', "\\+");
            json!({ "type": "string", "pattern": format!("^({schemes})://") })
        }
        Kind::IceServers => json!({
            "type": "array",
            "items": { "anyOf": [
                { "type": "string" },
                { "type": "object", "required": ["urls"], "additionalProperties": false, "properties": {
                    "urls": { "type": ["array", "string"], "items": { "type": "string" } },
                    "username": { "type": "string" },
                    "credential": { "type": "string" },
                } },
            ] },
        }),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), json!(key.meaning));
        if let Some(default) = default_json(key) {
            fields.insert("default".to_owned(), default);
        }
    }
    schema
}

fn default_json(key: &Key) -> Option<Json> {
    let default = key.default?;
    match key.kind {
        Kind::Bool | Kind::Int { .. } | Kind::Float { .. } => serde_json::from_str(default).ok(),
        Kind::Text | Kind::Choice(_) | Kind::Url(_) | Kind::Path => Some(json!(default)),
        Kind::List | Kind::ChoiceList(_) | Kind::IceServers => Some(
            default
                .split(',')
                .filter(|item| !item.is_empty())
                .map(|item| json!(item))
                .collect(),
        ),
    }
}

/// [`json_schema`] as it is committed in `docs/config.schema.json`.
pub fn json_schema_text() -> String {
    // Writing a tree of plain values cannot fail.
    let mut text = serde_json::to_string_pretty(&json_schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// The text of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for key in SCHEMA.iter() {
        let names = std::iter::once(key.path.as_ref()).chain(key.aliases.iter().copied());
        let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let env = key
            .env_names()
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let default = match (key.default, key.single_process_default) {
            (Some(""), _) => "empty".to_owned(),
            (Some(default), None) => format!("`{default}`"),
            (Some(default), Some(alone)) => format!("`{default}`; in one process `{alone}`"),
            (None, Some(alone)) => format!("in one process `{alone}`"),
            (None, None) => "–".to_owned(),
        };
        let mut meaning = key.meaning.to_string();
        let takes = if unsupported::is_whole_key(&key.path) {
            meaning.push_str(" *Not in this release.*");
            "–".to_owned()
        } else {
            allowed(key).replace('|', "\\|")
        };
        if key.secret {
            meaning.push_str(" *Secret.*");
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {names} | {env} | {takes} | {default} | {meaning} |");
    }
    text
}

const INTRODUCTION: &str = "# Configuration

<!-- Generated from service-kit/src/config: cargo run -- config --markdown > docs/configuration.md -->

One JSON file (`--config PATH`, else `VOXRAY_CONFIG`, else `./config.json` if it is there, else defaults), then
environment variables, then flags; later wins.

- Keys may be nested (`{\"recording\": {\"enable\": true}}`) or dotted (`{\"recording.enable\": true}`). Keys that start
  with `_` are comments. Unknown keys are errors.
- In the environment lists are separated by commas, and an empty variable is the same as none (except for `greeting`,
  `runner_transport` and `media.drain_message`, where empty means something).
- A secret `X` can be read from a file named by `X_FILE`. Keys of providers and `server_api_key` are read again on
  SIGHUP, without dropping a call.
- Everything is checked before any port is opened, and every problem is printed at once; the exit status is then 64, or
  66 when a named file cannot be read.
- `voxray config` prints the effective values and where each came from, secrets masked. `docs/config.schema.json` makes
  editors complete the file: add `\"$schema\": \"./docs/config.schema.json\"` to it.

| key | environment | takes | default | meaning |
|---|---|---|---|---|
";
