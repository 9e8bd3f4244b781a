//! What a provider was asked.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// End a call.
    HangUp {
        /// Call id.
        call: String,
    },
    /// Connect a call with somebody else.
    Transfer {
        /// Call id.
        call: String,
        /// Number or address, or the URL of a document that names it.
        to: String,
    },
    /// Play digits.
    SendDtmf {
        /// Call id.
        call: String,
        /// Digits.
        digits: String,
    },
    /// Place a call.
    Place {
        /// Who is called.
        to: String,
        /// Number shown.
        from: String,
    },
    /// Nothing that is documented, and why.
    Unknown(String),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it means.
    pub asked: Asked,
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// `Authorization`.
    pub authorization: String,
    /// Form fields, in order; empty when it was no form.
    pub form: Vec<(String, String)>,
    /// JSON body; `Null` when it was none.
    pub json: Value,
}

impl Request {
    pub(super) fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Self {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let kind = header("content-type");
        let form = kind.starts_with("application/x-www-form-urlencoded");
        let json = kind.starts_with("application/json");
        Self {
            asked: Asked::Unknown(String::new()),
            method: method.to_string(),
            path: uri.path().to_owned(),
            authorization: header("authorization"),
            form: if form { pairs(body) } else { Vec::new() },
            json: json
                .then(|| serde_json::from_slice(body).ok())
                .flatten()
                .unwrap_or_default(),
        }
    }

    /// A form field, or empty.
    pub fn field(&self, name: &str) -> &str {
        let found = self.form.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// A text of the JSON body by its pointer, or empty.
    pub fn text(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.trim_matches('/').split('/').collect()
    }

    pub(super) fn has_basic(&self, user: &str, password: &str) -> bool {
        self.authorization == format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization.strip_prefix("Bearer ")
    }
}

fn pairs(body: &[u8]) -> Vec<(String, String)> {
    let query = format!("http://form/?{}", String::from_utf8_lossy(body));
    let url = reqwest::Url::parse(&query).ok();
    let pairs = url.iter().flat_map(reqwest::Url::query_pairs);
    pairs
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}
