//! What clients of the HTTP API see.

use std::time::Duration;

use serde_json::Value;
use voxray::caller::{Call, CallReport, Step};
use voxray_testkit::api::client;
use voxray_testkit::wait::eventually;

/// Long enough for anything on a machine that is busy with something else.
pub const LIMIT: Duration = Duration::from_secs(90);

/// A session of `GET /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub session_id: String,
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub call_id: String,
    pub state: String,
}

/// A call with an id of its own, so that it can be found while it runs.
pub fn call(base_url: &str, steps: Vec<Step>) -> (Call, String) {
    let id = format!("CA{}", uuid::Uuid::new_v4().simple());
    let mut call = Call::new(base_url, steps);
    call.call_id = Some(id.clone());
    (call, id)
}

/// Ends a session.
pub async fn end(base_url: &str, session_id: &str) -> u16 {
    let asked = client().delete(format!("{base_url}/sessions/{session_id}")).send();
    asked.await.unwrap().status().as_u16()
}

async fn get(url: &str) -> reqwest::Result<reqwest::Response> {
    client().get(url).send().await
}

pub async fn sessions(base_url: &str) -> anyhow::Result<Vec<Session>> {
    let answer = get(&format!("{base_url}/sessions")).await?.error_for_status()?;
    let mut body: Value = answer.json().await?;
    Ok(serde_json::from_value(body["data"]["sessions"].take())?)
}

/// An archived recording, once it is there; the redirect to S3 is followed.
pub async fn recording(base_url: &str, session_id: &str) -> anyhow::Result<Option<bytes::Bytes>> {
    let answer = get(&format!("{base_url}/sessions/{session_id}/recording")).await?;
    if answer.status() == 404 {
        return Ok(None);
    }
    Ok(Some(answer.error_for_status()?.bytes().await?))
}

/// Erases a session from the archive.
pub async fn erase(base_url: &str, session_id: &str) -> u16 {
    let asked = client()
        .delete(format!("{base_url}/sessions/{session_id}/archive"))
        .send();
    asked.await.unwrap().status().as_u16()
}

/// The session of this call, once its media stream is open.
pub async fn connected(base_url: &str, call_id: &str) -> Session {
    let found = eventually("the session of a call", LIMIT, || async {
        let sessions = sessions(base_url).await?;
        Ok(sessions
            .into_iter()
            .find(|session| session.call_id == call_id && session.state == "connected"))
    });
    found.await.unwrap()
}

/// Waits until no session is left.
pub async fn no_sessions(base_url: &str) {
    let gone = eventually("the last session to go", LIMIT, || async {
        Ok(sessions(base_url).await?.is_empty().then_some(()))
    });
    gone.await.unwrap();
}

/// Places a call through one base URL while another one (or the same) says which session it is.
pub async fn place(through: &str, seen_at: &str, steps: Vec<Step>) -> (CallReport, Session) {
    let (call, id) = call(through, steps);
    let (report, session) = tokio::join!(call.place(), connected(seen_at, &id));
    (report.unwrap(), session)
}

pub async fn status(url: &str) -> anyhow::Result<u16> {
    Ok(get(url).await?.status().as_u16())
}

pub async fn has_status(url: &str, wanted: u16) {
    let what = format!("{url} to answer {wanted}");
    let seen = eventually(&what, LIMIT, || async {
        Ok((status(url).await? == wanted).then_some(()))
    });
    seen.await.unwrap();
}

/// Open media streams of phone calls, as the service counts them.
pub async fn open_streams(base_url: &str) -> anyhow::Result<u64> {
    let text = get(&format!("{base_url}/metrics")).await?.text().await?;
    let line = text
        .lines()
        .find(|line| line.starts_with("http_active_connections{") && line.contains("\"/telephony/ws\""));
    let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    Ok(value.parse::<f64>()? as u64)
}
