//! What a configuration key is, and the list of all of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::keys;

/// Type of a value, with what is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number in this range.
    Int {
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// A number in this range.
    Float {
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of text; comma-separated in the environment.
    List,
    /// A list of these words; comma-separated in the environment.
    ChoiceList(&'static [&'static str]),
    /// A URL with one of these schemes.
    Url(&'static [&'static str]),
    /// A file or folder.
    Path,
    /// STUN and TURN servers: URLs or `{urls, username, credential}`.
    IceServers,
}

/// One configuration key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Dotted path.
    pub path: Cow<'static, str>,
    /// Type and allowed values.
    pub kind: Kind,
    /// Default as it would be written in the environment; `None` = unset.
    pub default: Option<&'static str>,
    /// Default when everything runs in one process, where it differs.
    pub single_process_default: Option<&'static str>,
    /// Other dotted paths for the same key.
    pub aliases: &'static [&'static str],
    /// Environment names besides `VOXRAY_` + path in upper snake case.
    pub extra_env: &'static [&'static str],
    /// Whether the value is never shown and may come from a file named by `…_FILE`.
    pub secret: bool,
    /// Whether an empty text is a value of its own and not the same as unset.
    pub empty_is_a_value: bool,
    /// Whether the row belongs to a provider: shown only when set.
    pub per_provider: bool,
    /// What it does, in a sentence.
    pub meaning: Cow<'static, str>,
}

impl Key {
    /// A key without default.
    pub(super) const fn new(path: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            path: Cow::Borrowed(path),
            kind,
            default: None,
            single_process_default: None,
            aliases: &[],
            extra_env: &[],
            secret: false,
            empty_is_a_value: false,
            per_provider: false,
            meaning: Cow::Borrowed(meaning),
        }
    }

    /// Sets the default.
    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Sets the default of the single process.
    pub(super) const fn or_alone(mut self, default: &'static str) -> Self {
        self.single_process_default = Some(default);
        self
    }

    /// Adds other paths.
    pub(super) const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Adds environment names.
    pub(super) const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.extra_env = names;
        self
    }

    /// Hides the value.
    pub(super) const fn hidden(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Lets an empty text be a value.
    pub(super) const fn may_be_empty(mut self) -> Self {
        self.empty_is_a_value = true;
        self
    }

    /// Names of the environment variables, the first that is set wins.
    pub fn env_names(&self) -> Vec<String> {
        std::iter::once(self.path.as_ref())
            .chain(self.aliases.iter().copied())
            .map(env_name)
            .chain(self.extra_env.iter().map(|&name| name.to_owned()))
            .collect()
    }

    /// Whether `path` is this key or an alias of it.
    pub fn is_named(&self, path: &str) -> bool {
        self.path == path || self.aliases.contains(&path)
    }
}

/// `recording.worker_count` → `VOXRAY_RECORDING_WORKER_COUNT`.
fn env_name(path: &str) -> String {
    format!("VOXRAY_{}", path.replace(['.', '-'], "_").to_ascii_uppercase())
}

/// All keys, in the order of the documentation: the fixed rows, then two rows for every provider.
pub static SCHEMA: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut all = keys::FIXED.to_vec();
    for provider in keys::PROVIDERS {
        all.push(Key {
            path: Cow::Owned(format!("api_keys.{}", provider.name)),
            extra_env: provider.key_env,
            secret: true,
            per_provider: true,
            meaning: Cow::Owned(provider.key_meaning.to_owned()),
            ..Key::new("", Kind::Text, "")
        });
        all.push(Key {
            path: Cow::Owned(format!("{}.base_url", provider.name)),
            per_provider: true,
            meaning: Cow::Owned(format!(
                "Where {}'s API is reached, instead of its own address.",
                provider.name
            )),
            ..Key::new("", Kind::Url(keys::PROVIDER_SCHEMES), "")
        });
    }
    all
});

/// The row for a path or alias.
pub fn find(path: &str) -> Option<&'static Key> {
    SCHEMA.iter().find(|key| key.is_named(path))
}
