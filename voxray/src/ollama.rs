//! Notices an Ollama on this machine, so that someone who has one learns how to talk to it.
//!
//! <https://github.com/ollama/ollama/blob/main/docs/api.md>

use std::time::Duration;

use serde::Deserialize;

/// Where Ollama listens unless it is told otherwise.
pub const USUAL_ADDRESS: &str = "http://127.0.0.1:11434";

/// Longest wait; an Ollama on this machine answers in a few milliseconds.
const TIMEOUT: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
struct Tags {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
}

/// The options that make the Ollama at this address the language model, if one answers there and has a model.
pub async fn suggestion(address: &str) -> Option<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().ok()?;
    let response = client.get(format!("{address}/api/tags")).send().await.ok()?;
    let tags: Tags = response.error_for_status().ok()?.json().await.ok()?;
    let model = tags
        .models
        .into_iter()
        .map(|model| model.name)
        .find(|name| is_chat(name))?;
    Some(format!(
        "--set llm_provider=openai --set openai.base_url={address}/v1 --set model={model}"
    ))
}

/// Embedding models cannot answer; and what is printed to be copied into a shell holds nothing a shell would read.
fn is_chat(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-');
    !name.is_empty() && name.chars().all(plain) && !name.contains("embed")
}
