//! What a deployment's HTTP API says.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::wait::eventually;

/// Made once: reading the system's certificates takes long enough to hold up the calls of the same test. It keeps no
/// connections, which would end with the test that opened them.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build();
    client.unwrap_or_default()
});

/// Asks anything.
pub fn client() -> &'static reqwest::Client {
    &CLIENT
}

/// `data` of an answer; `None` for 404.
///
/// # Errors
/// There is no answer, or it is another error.
pub async fn data(url: &str) -> anyhow::Result<Option<Value>> {
    let answer = CLIENT.get(url).send().await?;
    if answer.status() == 404 {
        return Ok(None);
    }
    let mut body: Value = answer.error_for_status()?.json().await?;
    Ok(body.get_mut("data").map(Value::take))
}

/// Who said what, once the archive has all of it: the session is over.
///
/// # Errors
/// It is not there within `limit`, or no transcript.
pub async fn turns(base_url: &str, session_id: &str, limit: Duration) -> anyhow::Result<Vec<(String, String)>> {
    #[derive(serde::Deserialize)]
    struct Turn {
        role: String,
        text: String,
    }
    let url = format!("{base_url}/sessions/{session_id}/transcript");
    let mut archived = eventually("the transcript", limit, || async {
        let found = data(&url).await?;
        Ok(found.filter(|found| found.pointer("/session/endedAt").is_some_and(|at| !at.is_null())))
    })
    .await?;
    let turns = archived.get_mut("turns").map(Value::take).unwrap_or_default();
    let turns: Vec<Turn> = serde_json::from_value(turns)?;
    Ok(turns.into_iter().map(|turn| (turn.role, turn.text)).collect())
}
