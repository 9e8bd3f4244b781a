//! Between what SQL holds and what goes over the wire.

use time::OffsetDateTime;
use tonic::Status;
use voxray_proto::archive::{ArchivedSession, ArchivedTurn, ListArchivedSessionsRequest, TurnTiming};

use crate::transcripts::{Page, Row, SessionRow};

/// Most sessions of one page.
const MAX_PAGE: u32 = 500;

/// One turn.
pub fn turn(row: Row) -> ArchivedTurn {
    let timing = row.timing.as_ref();
    let latency = timing.and_then(|timing| timing.latency.as_ref());
    ArchivedTurn {
        started_ms: timing.map(|timing| timing.start_ms),
        ended_ms: timing.map(|timing| timing.end_ms),
        timing: latency.map(|latency| TurnTiming {
            endpoint_ms: latency.endpoint_ms,
            transcript_ms: latency.transcript_ms,
            first_token_ms: latency.first_token_ms,
            first_audio_ms: latency.first_audio_ms,
        }),
        seq: row.seq.unsigned_abs(),
        role: row.role,
        text: row.text,
        created_at_unix_ms: unix_ms(row.created_at),
        interrupted: row.interrupted,
    }
}

/// One session.
pub fn session(row: SessionRow) -> ArchivedSession {
    ArchivedSession {
        session_id: row.session_id,
        started_at_unix_ms: row.started_at.map(unix_ms),
        ended_at_unix_ms: row.ended_at.map(unix_ms),
        transport: row.transport,
        provider: row.provider,
        end_reason: row.end_reason,
        turns: row.turns.map(i32::unsigned_abs),
        has_recording: row.recording_bytes.is_some(),
        recording_bytes: row.recording_bytes.unwrap_or(0),
    }
}

/// Where the page behind this session begins.
pub fn cursor(last: &SessionRow) -> String {
    let started = last.started_at.map_or(0, unix_ms);
    format!("{started}.{}", last.session_id)
}

/// Checks a request.
pub fn page(request: &ListArchivedSessionsRequest) -> Result<Page, Status> {
    let after = match request.cursor.as_str() {
        "" => None,
        cursor => Some(position(cursor).ok_or_else(|| Status::invalid_argument("cursor: not one of this list"))?),
    };
    let bad = || Status::invalid_argument("day: out of range");
    Ok(Page {
        from: date(request.from_unix_ms).ok_or_else(bad)?,
        until: date(request.until_unix_ms).ok_or_else(bad)?,
        after,
        limit: request.limit.clamp(1, MAX_PAGE),
    })
}

fn position(cursor: &str) -> Option<(OffsetDateTime, String)> {
    let (started, id) = cursor.split_once('.')?;
    Some((date(started.parse().ok()?)?, id.to_owned()))
}

fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

fn date(unix_ms: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_leads_behind_the_session_it_was_made_of() {
        let last = SessionRow {
            session_id: "a.b-c".to_owned(),
            started_at: Some(time::macros::datetime!(2026-03-04 05:06:07.123 UTC)),
            ..SessionRow::default()
        };
        let request = |cursor: &str| ListArchivedSessionsRequest {
            cursor: cursor.to_owned(),
            limit: 0,
            ..ListArchivedSessionsRequest::default()
        };

        let page_behind = page(&request(&cursor(&last))).unwrap();

        assert_eq!(page_behind.after, Some((last.started_at.unwrap(), last.session_id)));
        assert_eq!(page_behind.limit, 1);
        for nonsense in ["x", "1", "x.y", "99999999999999999999.a"] {
            assert!(page(&request(nonsense)).is_err(), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_cursor_is_a_place_or_refused(text in "[0-9.]{0,30}|.{0,30}", day: u64) {
            let request = ListArchivedSessionsRequest {
                cursor: text,
                from_unix_ms: day,
                ..ListArchivedSessionsRequest::default()
            };
            let _ = page(&request);
        }

        #[test]
        fn a_cursor_survives(ms in 0_u64..253_402_300_799_000, session_id in "[ -~]{0,40}") {
            let started_at = date(ms);
            let last = SessionRow { session_id: session_id.clone(), started_at, ..SessionRow::default() };
            prop_assert_eq!(position(&cursor(&last)), Some((started_at.unwrap(), session_id)));
        }
    }
}
