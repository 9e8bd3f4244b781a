//! What is committed about the configuration is what the code says.

use std::path::{Path, PathBuf};

use service_kit::config::{Profile, SCHEMA, Sources, json_schema_text, load, markdown};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_committed(path: &str, option: &str, generated: &str) {
    let committed = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} is out of date: cargo run -- config {option} > {path}"
    );
}

#[test]
fn the_json_schema_is_up_to_date() {
    assert_committed("docs/config.schema.json", "--schema", &json_schema_text());
}

#[test]
fn the_table_of_keys_is_up_to_date() {
    assert_committed("docs/configuration.md", "--markdown", &markdown());
}

#[test]
fn the_example_is_a_valid_configuration() {
    let sources = Sources {
        file: Some(root().join("config.example.json")),
        ..Sources::default()
    };
    let loaded = load(&sources, Profile::SingleProcess);
    assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
}

#[test]
fn no_two_keys_share_a_name_or_a_variable() {
    let mut paths: Vec<String> = Vec::new();
    let mut variables: Vec<String> = Vec::new();
    for key in SCHEMA.iter() {
        paths.push(key.path.to_string());
        paths.extend(key.aliases.iter().map(|alias| (*alias).to_owned()));
        let mut names = key.env_names();
        names.dedup();
        variables.extend(names);
    }
    for mut names in [paths, variables] {
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

#[test]
fn every_key_says_what_it_does_in_a_sentence() {
    for key in SCHEMA.iter() {
        assert!(key.meaning.ends_with('.') && key.meaning.len() > 5, "{}", key.path);
        assert!(!key.meaning.contains('|'), "{}", key.path);
    }
}
