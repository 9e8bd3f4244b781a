//! Values of configuration keys: read from text or JSON, checked against their kind, shown with secrets masked.

use serde_json::Value as Json;

use super::IceServer;
use super::schema::{Key, Kind};
use super::unsupported::{self, quote_if_empty};

/// What a secret looks like wherever it is shown.
const MASK: &str = "***";

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Text, choices, URLs, paths.
    Text(String),
    /// Bool.
    Bool(bool),
    /// Whole numbers.
    Int(i64),
    /// Numbers.
    Float(f64),
    /// Lists of text.
    List(Vec<String>),
    /// ICE servers.
    IceServers(Vec<IceServer>),
}

impl Value {
    /// As `voxray config` prints it.
    pub(super) fn shown(&self, key: &Key) -> String {
        if key.secret {
            return MASK.to_owned();
        }
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::List(items) => format!("{items:?}"),
            // A TURN user and password are nobody's business.
            Self::IceServers(servers) => {
                format!(
                    "{:?}",
                    servers.iter().flat_map(|server| &server.urls).collect::<Vec<_>>()
                )
            }
        }
    }
}

/// Reads a value as written in the environment or on the command line.
///
/// # Errors
/// What is allowed instead, with the value (masked for secrets).
pub(super) fn from_text(key: &Key, text: &str) -> Result<Value, String> {
    let text = if key.secret || key.kind == Kind::Text {
        text
    } else {
        text.trim()
    };
    let value = match key.kind {
        Kind::Text | Kind::Choice(_) | Kind::Url(_) | Kind::Path => Some(Value::Text(text.to_owned())),
        Kind::Bool => match text {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::Int { .. } => text.parse().ok().map(Value::Int),
        Kind::Float { .. } => text.parse().ok().map(Value::Float),
        Kind::List | Kind::ChoiceList(_) => Some(Value::List(split(text))),
        Kind::IceServers if text.starts_with('[') => {
            let json = serde_json::from_str(text).map_err(|error| format!("{text:?} is not valid JSON: {error}"))?;
            ice_servers(&json)
        }
        Kind::IceServers => Some(Value::IceServers(
            split(text).into_iter().map(IceServer::open).collect(),
        )),
    };
    checked(key, value, &format!("{text:?}"))
}

/// Reads a value from the configuration file.
///
/// # Errors
/// What is allowed instead, with the value (masked for secrets).
pub(super) fn from_json(key: &Key, json: &Json) -> Result<Value, String> {
    let value = match key.kind {
        Kind::Text | Kind::Choice(_) | Kind::Url(_) | Kind::Path => {
            json.as_str().map(|text| Value::Text(text.to_owned()))
        }
        Kind::Bool => json.as_bool().map(Value::Bool),
        Kind::Int { .. } => json.as_i64().map(Value::Int),
        Kind::Float { .. } => json.as_f64().map(Value::Float),
        Kind::List | Kind::ChoiceList(_) => list(json),
        Kind::IceServers => ice_servers(json),
    };
    checked(key, value, &json.to_string())
}

/// A list; a single text is a list of one.
fn list(json: &Json) -> Option<Value> {
    if let Some(text) = json.as_str() {
        return Some(Value::List(split(text)));
    }
    let items = json.as_array()?.iter().map(|item| item.as_str().map(str::to_owned));
    items.collect::<Option<Vec<_>>>().map(Value::List)
}

fn split(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn ice_servers(json: &Json) -> Option<Value> {
    let servers = json.as_array()?.iter().map(|entry| match entry {
        Json::String(url) => Some(IceServer::open(url.clone())),
        // Browsers allow one URL where a list is meant.
        Json::Object(fields) => {
            let mut fields = fields.clone();
            if let Some(url) = fields.get("urls").filter(|urls| urls.is_string()).cloned() {
                fields.insert("urls".to_owned(), Json::Array(vec![url]));
            }
            serde_json::from_value(Json::Object(fields)).ok()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => None,
    });
    servers.collect::<Option<Vec<_>>>().map(Value::IceServers)
}

/// Checks range, choices and form.
fn checked(key: &Key, value: Option<Value>, written: &str) -> Result<Value, String> {
    let written = if key.secret { MASK } else { written };
    let refuse = || Err(format!("{written} is not allowed; allowed: {}", allowed(key)));
    let Some(value) = value else { return refuse() };
    let fits = match (&value, key.kind) {
        (Value::Int(number), Kind::Int { min, max }) => (min..=max).contains(number),
        (Value::Float(number), Kind::Float { min, max }) => (min..=max).contains(number),
        (Value::Text(word), Kind::Choice(choices)) => choices.contains(&word.as_str()),
        (Value::List(words), Kind::ChoiceList(choices)) => {
            !words.is_empty() && words.iter().all(|word| choices.contains(&word.as_str()))
        }
        (Value::Text(url), Kind::Url(schemes)) => return check_url(key, url, schemes, written).map(|()| value),
        (Value::IceServers(servers), Kind::IceServers) => {
            servers
                .iter()
                .flat_map(|server| &server.urls)
                .all(|url| is_ice_url(url))
                && servers
                    .iter()
                    .all(|server| !server.urls.is_empty() && server.is_usable())
        }
        _ => true,
    };
    if fits { Ok(value) } else { refuse() }
}

fn check_url(key: &Key, url: &str, schemes: &[&str], written: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    // sqlite URLs name a file or memory, all others a host.
    let has_host = scheme == "sqlite" || !rest.split(['/', '?', '#']).next().unwrap_or_default().is_empty();
    if schemes.contains(&scheme) && has_host && !rest.is_empty() && !rest.contains(char::is_whitespace) {
        Ok(())
    } else {
        Err(format!("{written} is not allowed; allowed: {}", allowed(key)))
    }
}

fn is_ice_url(url: &str) -> bool {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    ["stun", "stuns", "turn", "turns"].contains(&scheme) && !rest.is_empty()
}

/// What a key takes, for people.
pub(super) fn allowed(key: &Key) -> String {
    let words = |choices: &[&'static str]| {
        let words = unsupported::supported(&key.path, choices);
        words
            .iter()
            .map(|word| quote_if_empty(word))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match key.kind {
        Kind::Text => Some(words(&[]))
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| "text".to_owned()),
        Kind::Bool => "true or false".to_owned(),
        Kind::Int { min, max: i64::MAX } => format!("a whole number from {min}"),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Float { min, max } => format!("a number from {min} to {max}"),
        Kind::Choice(choices) => words(choices),
        Kind::List => "a list of text".to_owned(),
        Kind::ChoiceList(choices) => format!("a list of at least one of {}", words(choices)),
        Kind::Url(schemes) => {
            let schemes: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            format!("a URL starting with {}", schemes.join(", "))
        }
        Kind::Path => "a path".to_owned(),
        Kind::IceServers => {
            "a list of stun: URLs, and for TURN of {\"urls\": […], \"username\", \"credential\"} or {\"urls\": […], \"secret\"}"
                .to_owned()
        }
    }
}
