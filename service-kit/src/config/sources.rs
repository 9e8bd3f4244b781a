//! Merging file, environment and flags into one value per key.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::load::{Problem, Profile, Sources};
use super::schema::{Key, Kind, SCHEMA, find};
use super::unsupported;
use super::value::{Value, from_json, from_text};

/// Variables with our prefix that are not keys.
const NOT_KEYS: [&str; 2] = ["VOXRAY_CONFIG", "VOXRAY_MODELS"];

/// Least likeness (0 to 1) of a known key that is worth suggesting.
const LIKENESS: f64 = 0.6;

/// A value and where it came from.
struct Entry {
    value: Value,
    source: String,
}

/// One value per key that has one.
#[derive(Default)]
pub(super) struct Values {
    entries: BTreeMap<String, Entry>,
}

impl Values {
    /// The value of a key, by its canonical path.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.entries.get(path).map(|entry| &entry.value)
    }

    /// Whether someone set the key.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.entries.get(path).is_some_and(|entry| entry.source != "default")
    }

    /// Replaces a value that follows from others.
    pub(super) fn derive(&mut self, path: &str, value: Value) {
        let source = "default".to_owned();
        self.entries.insert(path.to_owned(), Entry { value, source });
    }

    /// Every key with its shown value and source; provider keys only when set.
    pub(super) fn effective(&self) -> Vec<(String, String, String)> {
        let rows = SCHEMA.iter().filter_map(|key| {
            let path = key.path.to_string();
            match self.entries.get(key.path.as_ref()) {
                Some(entry) => Some((path, entry.value.shown(key), entry.source.clone())),
                None if key.per_provider || unsupported::is_whole_key(&key.path) => None,
                None => Some((path, "(unset)".to_owned(), "default".to_owned())),
            }
        });
        rows.collect()
    }

    fn set(&mut self, key: &Key, value: Value, source: &str) {
        let source = source.to_owned();
        self.entries.insert(key.path.to_string(), Entry { value, source });
    }

    fn unset(&mut self, key: &Key) {
        self.entries.remove(key.path.as_ref());
    }
}

/// Everything read, and everything wrong with it.
#[derive(Default)]
pub(super) struct Merged {
    /// One value per key.
    pub(super) values: Values,
    /// In the order of the sources.
    pub(super) problems: Vec<Problem>,
    /// Things that work but deserve a look.
    pub(super) warnings: Vec<String>,
    /// A named file is missing or unreadable.
    pub(super) unreadable_file: bool,
    /// Nothing of the file could be used.
    pub(super) whole_file_failed: bool,
}

/// Defaults, then file, then environment, then flags.
pub(super) fn merge(sources: &Sources, profile: Profile) -> Merged {
    let mut merged = Merged::default();
    merged.apply_defaults(profile);
    merged.apply_file(sources);
    merged.apply_environment(&sources.env);
    merged.apply_flags(&sources.flags);
    merged.resolve_data_dir();
    merged
}

impl Merged {
    fn apply_defaults(&mut self, profile: Profile) {
        for key in SCHEMA.iter() {
            let default = match profile {
                Profile::SingleProcess => key.single_process_default.or(key.default),
                Profile::Service | Profile::Archiver => key.default,
            };
            if let Some(default) = default {
                self.accept(key, &key.path, "default", from_text(key, default));
            }
        }
    }

    fn apply_file(&mut self, sources: &Sources) {
        let named = sources.file.clone().or_else(|| {
            let path = sources.env.get("VOXRAY_CONFIG").filter(|path| !path.is_empty());
            path.map(PathBuf::from)
        });
        let is_named = named.is_some();
        let path = named.unwrap_or_else(|| sources.working_dir.join("config.json"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return,
            Err(error) => {
                self.unreadable_file = true;
                return self.file_failed(&path, format!("cannot read this configuration file: {error}"));
            }
        };
        match serde_json::from_str::<Json>(&text) {
            Ok(Json::Object(fields)) => {
                let source = format!("file {}", path.display());
                let mut seen = BTreeMap::new();
                self.apply_object(&fields, "", &source, &mut seen);
            }
            Ok(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => {
                self.file_failed(&path, "a configuration file is one JSON object: {…}".to_owned());
            }
            Err(error) => self.file_failed(&path, format!("not valid JSON: {error}")),
        }
    }

    fn file_failed(&mut self, path: &Path, message: String) {
        self.whole_file_failed = true;
        self.problems.push(Problem::new(path.display().to_string(), message));
    }

    /// Nested and dotted spellings may be mixed; `seen` finds a key that is given twice.
    fn apply_object(
        &mut self,
        fields: &serde_json::Map<String, Json>,
        prefix: &str,
        source: &str,
        seen: &mut BTreeMap<String, String>,
    ) {
        for (name, json) in fields {
            let is_editor_hint = prefix.is_empty() && name == "$schema";
            if name.starts_with('_') || is_editor_hint {
                continue;
            }
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            match (find(&path), json) {
                (Some(key), _) => {
                    if let Some(first) = seen.insert(key.path.to_string(), path.clone()) {
                        let message = if first == path {
                            "given twice in this file, nested and dotted; keep one".to_owned()
                        } else {
                            format!("given twice in this file, also as {first}; keep one")
                        };
                        self.problems.push(Problem::new(path, message));
                    } else if json.is_null() || is_blank_json(key, json) {
                        // The same as leaving it out.
                    } else {
                        self.accept(key, &path, source, from_json(key, json));
                    }
                }
                (None, Json::Object(inner)) => self.apply_object(inner, &path, source, seen),
                (None, _) => self.unknown(&path, "key", nearest_path(&path)),
            }
        }
    }

    fn apply_environment(&mut self, env: &BTreeMap<String, String>) {
        let mut known: Vec<String> = NOT_KEYS.map(str::to_owned).to_vec();
        for key in SCHEMA.iter() {
            let names = key.env_names();
            if let Some((source, text)) = self.read_environment(key, &names, env) {
                self.accept(key, &source, &format!("env {source}"), from_text(key, &text));
            }
            if key.secret {
                known.extend(names.iter().map(|name| format!("{name}_FILE")));
            }
            known.extend(names);
        }
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with("VOXRAY_")) {
            if is_service_link(name, value) {
                self.warnings.push(format!(
                    "{name}={value} comes from Kubernetes service links and is ignored; set enableServiceLinks: false"
                ));
            } else if !known.contains(name) {
                let plain = name
                    .strip_suffix("_FILE")
                    .filter(|plain| known.iter().any(|known| known == plain));
                match plain {
                    Some(plain) => self.problems.push(Problem::new(
                        name,
                        format!("only secrets are read from files; set {plain} to the value itself"),
                    )),
                    None => self.unknown(name, "variable", nearest(name, known.iter().map(String::as_str))),
                }
            }
        }
    }

    /// The first name that is set, or the content of the file that it names.
    fn read_environment(
        &mut self,
        key: &Key,
        names: &[String],
        env: &BTreeMap<String, String>,
    ) -> Option<(String, String)> {
        for (index, name) in names.iter().enumerate() {
            // An empty variable is what `${X:-}` leaves behind; only the documented name can mean "empty".
            let means_empty = key.empty_is_a_value && index == 0;
            let plain = env
                .get(name)
                .filter(|value| means_empty || !value.is_empty())
                .filter(|value| !is_service_link(name, value));
            let file_name = format!("{name}_FILE");
            let file = env.get(&file_name).filter(|path| key.secret && !path.is_empty());
            match (plain, file) {
                (Some(_), Some(_)) => {
                    let message = format!("{name} and {file_name} are both set; keep one");
                    self.problems.push(Problem::new(key.path.as_ref(), message));
                    return None;
                }
                (Some(value), None) => return Some((name.clone(), value.clone())),
                (None, Some(path)) => match std::fs::read_to_string(path) {
                    Ok(text) => return Some((file_name, text.trim_end_matches(['\r', '\n']).to_owned())),
                    Err(error) => {
                        let message = format!("{file_name} names {path}, which cannot be read: {error}");
                        self.problems.push(Problem::new(key.path.as_ref(), message));
                        return None;
                    }
                },
                (None, None) => {}
            }
        }
        None
    }

    fn apply_flags(&mut self, flags: &BTreeMap<String, String>) {
        for (path, text) in flags {
            match find(path) {
                Some(key) => self.accept(key, path, "flag", from_text(key, text)),
                None => self.unknown(path, "key", nearest_path(path)),
            }
        }
    }

    /// Takes a checked value, or notes what is wrong with it.
    fn accept(&mut self, key: &Key, named: &str, source: &str, value: Result<Value, String>) {
        let choices = match key.kind {
            Kind::Choice(choices) | Kind::ChoiceList(choices) => choices,
            Kind::Text
            | Kind::Bool
            | Kind::Int { .. }
            | Kind::Float { .. }
            | Kind::List
            | Kind::Url(_)
            | Kind::Path
            | Kind::IceServers => &[],
        };
        let is_default = source == "default";
        let value = value.and_then(|value| match unsupported::refusal(&key.path, &value, choices) {
            Some(refusal) if !is_default => Err(refusal),
            Some(_) | None => Ok(value),
        });
        match value {
            Ok(Value::Text(text)) if text.is_empty() && !key.empty_is_a_value => self.values.unset(key),
            Ok(value) => self.values.set(key, value, source),
            Err(message) => {
                let message = if named == key.path || is_default {
                    message
                } else {
                    format!("{message} (set by {named})")
                };
                self.problems.push(Problem::new(key.path.as_ref(), message));
            }
        }
    }

    fn unknown(&mut self, name: &str, what: &str, nearest: Option<String>) {
        let hint = nearest
            .map(|nearest| format!("; did you mean {nearest}?"))
            .unwrap_or_default();
        self.problems.push(Problem::new(name, format!("unknown {what}{hint}")));
    }

    /// Folders default to places inside `data_dir`, which may have been set.
    fn resolve_data_dir(&mut self) {
        let Some(Value::Text(data_dir)) = self.values.get("data_dir").cloned() else {
            return;
        };
        let data_dir = data_dir.trim_end_matches('/');
        for entry in self
            .values
            .entries
            .values_mut()
            .filter(|entry| entry.source == "default")
        {
            if let Value::Text(text) = &mut entry.value {
                *text = text.replace("{data_dir}", data_dir);
            }
        }
    }
}

/// An empty text in the file is "unset" for keys whose empty text means nothing.
fn is_blank_json(key: &Key, json: &Json) -> bool {
    json.as_str() == Some("")
        && !key.empty_is_a_value
        && !matches!(key.kind, Kind::Bool | Kind::Int { .. } | Kind::Float { .. })
}

/// Kubernetes puts `VOXRAY_PORT=tcp://10.0.0.1:80` and the like into every pod beside a Service named `voxray…`.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = value.starts_with("tcp://") || value.starts_with("udp://");
    let is_service = ["_SERVICE_HOST", "_SERVICE_PORT"]
        .iter()
        .any(|part| name.contains(part));
    // `VOXRAY_PORT_80_TCP_ADDR`: our own `VOXRAY_MEDIA_UDP_PORT` is none.
    let is_part = name.contains("_PORT_")
        && ["_TCP", "_UDP"].iter().any(|protocol| {
            let of_port = name
                .split_once("_PORT_")
                .is_some_and(|(_, rest)| rest.contains(protocol));
            of_port && ["_ADDR", "_PORT", "_PROTO"].iter().any(|part| name.ends_with(part))
        });
    is_url || is_service || is_part
}

fn nearest_path(path: &str) -> Option<String> {
    let paths = SCHEMA
        .iter()
        .flat_map(|key| std::iter::once(key.path.as_ref()).chain(key.aliases.iter().copied()));
    nearest(path, paths)
}

fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = known.map(|name| (strsim::normalized_damerau_levenshtein(given, name), name));
    scored
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}
