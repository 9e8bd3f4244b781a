//! Values that must never be printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// A string that shows as `***` in logs and debug output.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: for the wire, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(unset)" } else { "***" })
    }
}

/// Keys that operators rotate: re-read on SIGHUP without dropping a call.
#[derive(Default)]
pub struct Secrets {
    current: ArcSwap<Values>,
}

#[derive(Default)]
struct Values {
    api_keys: BTreeMap<String, Secret>,
    server_api_keys: Vec<Secret>,
}

impl Secrets {
    /// Makes a set: provider name to key, and the keys that open this server.
    pub fn new(api_keys: BTreeMap<String, Secret>, server_api_keys: Vec<Secret>) -> Self {
        let secrets = Self::default();
        secrets.replace(api_keys, server_api_keys);
        secrets
    }

    /// Puts freshly read values in place for all readers at once.
    pub fn replace(&self, api_keys: BTreeMap<String, Secret>, server_api_keys: Vec<Secret>) {
        self.current.store(Arc::new(Values {
            api_keys,
            server_api_keys,
        }));
    }

    /// The key of a provider (`openai`, `twilio` for its auth token, …).
    pub fn api_key(&self, provider: &str) -> Option<Secret> {
        self.current.load().api_keys.get(provider).cloned()
    }

    /// Keys that clients of this server may present; empty = no key needed.
    pub fn server_api_keys(&self) -> Vec<Secret> {
        self.current.load().server_api_keys.clone()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}
