//! `GET /archive/sessions`, `GET /sessions/{id}/transcript`, `DELETE /sessions/{id}/archive`.

use std::sync::Arc;

use axum::extract::{Query, State};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use service_kit::http::{ApiError, Data, requester};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use voxray_proto::archive::{
    ArchivedSession, ArchivedTurn, EraseSessionRequest, GetTranscriptRequest, ListArchivedSessionsRequest,
};

use super::shape::SessionId;
use crate::app::App;

/// Sessions of a page when the client does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Most of them.
const MAX_LIMIT: u32 = 500;

/// Which page of which day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `YYYY-MM-DD`, UTC day of the start; today when left out.
    day: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// 1 to 500; 50 when left out.
    limit: Option<u32>,
}

/// One page of archived calls, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedList {
    /// `YYYY-MM-DD`
    day: String,
    sessions: Vec<ArchivedView>,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What the archive knows of a call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedView {
    /// UUID.
    session_id: String,
    /// RFC 3339, UTC; absent when the start was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    /// RFC 3339, UTC; absent while the call runs, and when its media node was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// Between the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<f64>,
    /// `telephony`, `websocket`, `webrtc`.
    transport: String,
    /// Telephony provider; absent for others.
    #[serde(skip_serializing_if = "String::is_empty")]
    provider: String,
    /// Why it ended; absent until then.
    #[serde(skip_serializing_if = "String::is_empty")]
    end_reason: String,
    /// Turns of both sides; absent while the call runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<u32>,
    /// `GET /sessions/{id}/recording` has it.
    has_recording: bool,
}

/// What was said in a call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transcript {
    session_id: String,
    /// Absent when nothing but turns is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<ArchivedView>,
    /// In the order spoken; of a call that runs, those so far.
    turns: Vec<TurnView>,
}

/// One turn.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnView {
    /// Number within the call, from 0.
    seq: u32,
    /// `user` or `assistant`.
    role: String,
    /// What was said; of the assistant, what the caller heard.
    text: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// The caller cut the agent off; absent unless `transcripts.extended` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
    /// Its first word, milliseconds from the beginning of the recording; absent unless `transcripts.extended` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<u64>,
    /// Its last word; as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_ms: Option<u64>,
    /// How long an answer to something spoken took; as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<TimingView>,
}

/// How long an answer took, each counted from the end of the caller's speech, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimingView {
    /// Until the turn was judged over.
    endpoint_ms: u32,
    /// Until the final transcript.
    transcript_ms: u32,
    /// Until the model's first token.
    first_token_ms: u32,
    /// Until the first audio of the answer was sent.
    first_audio_ms: u32,
}

/// Confirms that a session is erased.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasedView {
    session_id: String,
    /// Always true.
    erased: bool,
    /// Turns that this request removed.
    turns_removed: u64,
    /// Whether this request removed a recording.
    recording_removed: bool,
    /// It had been erased before; nothing but what had come since was left to remove.
    again: bool,
}

/// Lists the calls that began on one day, as the archive knows them.
#[utoipa::path(get, path = "/archive/sessions", tag = "archive", params(ListQuery),
    responses((status = 200, description = "`data`", body = ArchivedList),
        (status = 409, description = "No archive: transcripts.enable is false, or archiver_url is not set"),
        (status = 422, description = "Not a day, a limit or a cursor"),
        (status = 503, description = "The archive does not answer")))]
pub async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Result<Data<ArchivedList>, ApiError> {
    let day = match query.day.as_deref() {
        None | Some("") => OffsetDateTime::now_utc().date(),
        Some(day) => parse_day(day)?,
    };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid_field("limit", format!("1 to {MAX_LIMIT}")));
    }
    let from = day.midnight().assume_utc();
    let request = ListArchivedSessionsRequest {
        from_unix_ms: unix_ms(from),
        until_unix_ms: unix_ms(from + time::Duration::DAY),
        cursor: query.cursor.unwrap_or_default(),
        limit,
    };
    let found = app.archive.sessions(request).await?;
    Ok(Data(ArchivedList {
        day: day.to_string(),
        sessions: found.sessions.into_iter().map(ArchivedView::from).collect(),
        next_cursor: Some(found.next_cursor).filter(|cursor| !cursor.is_empty()),
    }))
}

/// Shows what was said in a call.
#[utoipa::path(get, path = "/sessions/{id}/transcript", tag = "archive",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, description = "`data`", body = Transcript),
        (status = 404, description = "Unknown to the archive, or erased"),
        (status = 409, description = "No archive: transcripts.enable is false, or archiver_url is not set"),
        (status = 503, description = "The archive does not answer")))]
pub async fn transcript(
    State(app): State<Arc<App>>,
    SessionId(session_id): SessionId,
) -> Result<Data<Transcript>, ApiError> {
    let request = GetTranscriptRequest {
        session_id: session_id.clone(),
    };
    let found = app.archive.transcript(request).await?;
    Ok(Data(Transcript {
        session_id,
        session: found.session.map(ArchivedView::from),
        turns: found.turns.into_iter().map(TurnView::from).collect(),
    }))
}

/// Erases what the archive has of a call: its turns, its recording and what is still to come of it. A call that runs is
/// not ended by it; nothing more of it is kept.
#[utoipa::path(delete, path = "/sessions/{id}/archive", tag = "archive",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, description = "It is erased; asking again is no error", body = ErasedView),
        (status = 409, description = "No archive: transcripts.enable is false, or archiver_url is not set"),
        (status = 503, description = "Not all of it could be erased now: ask again; it is tried hourly as well")))]
pub async fn erase(
    State(app): State<Arc<App>>,
    SessionId(session_id): SessionId,
    headers: HeaderMap,
) -> Result<Data<ErasedView>, ApiError> {
    let requested_by = requester(&headers);
    tracing::info!(target: "audit", session_id, requested_by, "erasure of a session asked for");
    let request = EraseSessionRequest {
        session_id: session_id.clone(),
        requested_by,
    };
    let erased = app.archive.erase(request).await?;
    Ok(Data(ErasedView {
        session_id,
        erased: true,
        turns_removed: erased.rows,
        recording_removed: erased.recording,
        again: erased.again,
    }))
}

fn parse_day(day: &str) -> Result<Date, ApiError> {
    Date::parse(day, format_description!("[year]-[month]-[day]"))
        .ok()
        .filter(|day| (1970..=9998).contains(&day.year()))
        .ok_or_else(|| ApiError::invalid_field("day", "a day like 2026-03-01 (UTC)"))
}

fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp()).unwrap_or(0) * 1000
}

fn rfc3339(unix_ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

impl From<ArchivedSession> for ArchivedView {
    fn from(session: ArchivedSession) -> Self {
        let (started, ended) = (session.started_at_unix_ms, session.ended_at_unix_ms);
        let millis = started.zip(ended).map(|(start, end)| end.saturating_sub(start));
        Self {
            session_id: session.session_id,
            started_at: started.map(rfc3339),
            ended_at: ended.map(rfc3339),
            duration_seconds: millis.map(|millis| std::time::Duration::from_millis(millis).as_secs_f64()),
            transport: session.transport,
            provider: session.provider,
            end_reason: session.end_reason,
            turns: session.turns,
            has_recording: session.has_recording,
        }
    }
}

impl From<ArchivedTurn> for TurnView {
    fn from(turn: ArchivedTurn) -> Self {
        Self {
            seq: turn.seq,
            role: turn.role,
            text: turn.text,
            created_at: rfc3339(turn.created_at_unix_ms),
            interrupted: turn.interrupted,
            start_ms: turn.started_ms,
            end_ms: turn.ended_ms,
            timing: turn.timing.map(|timing| TimingView {
                endpoint_ms: timing.endpoint_ms,
                transcript_ms: timing.transcript_ms,
                first_token_ms: timing.first_token_ms,
                first_audio_ms: timing.first_audio_ms,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_day_or_refused(text in "[0-9-]{0,12}|.{0,20}") {
            if let Ok(day) = parse_day(&text) {
                prop_assert_eq!(day.to_string(), text);
                prop_assert!(unix_ms(day.midnight().assume_utc()) < u64::MAX);
            }
        }
    }
}
