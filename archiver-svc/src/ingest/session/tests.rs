//! A session without an archiver.

use voxray_proto::archive::AudioChunk;

use super::*;

fn turn(seq: u32) -> Option<Body> {
    Some(Body::Turn(Turn {
        seq,
        role: "user".to_owned(),
        text: "a\0b".to_owned(),
        ..Turn::default()
    }))
}

fn rows(work: &Work) -> impl Iterator<Item = &Row> {
    work.entries.iter().filter_map(|(_, entry)| match entry {
        Entry::Row(row) => Some(row),
        Entry::Start(_) | Entry::End(_) | Entry::Recorded(_) => None,
    })
}

fn started() -> Option<Body> {
    Some(Body::Started(SessionStarted::default()))
}

#[test]
fn events_are_applied_in_sequence_whatever_order_they_come_in() {
    let mut session = Session::default();
    let mut work = Work::default();
    for (sequence, body) in [(3, turn(1)), (1, started()), (2, turn(0)), (5, turn(3))] {
        assert!(session.arrive(sequence, body));
    }
    assert!(!session.arrive(3, turn(1)));

    session.advance("s", None, &mut work).unwrap();

    assert_eq!(session.received, 3);
    assert_eq!(rows(&work).map(|row| row.seq).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rows(&work).next().unwrap().text, "a\u{fffd}b");
    assert_eq!(session.pending.keys().collect::<Vec<_>>(), [&5]);
}

#[test]
fn a_session_that_makes_no_sense_is_refused() {
    let bad = [
        vec![turn(0)],
        vec![started(), started()],
        vec![started(), turn(u32::MAX)],
        vec![started(), Some(Body::Audio(Default::default()))],
    ];
    for events in bad {
        let mut session = Session::default();
        for (sequence, body) in (1..).zip(events) {
            session.arrive(sequence, body);
        }
        session.advance("s", None, &mut Work::default()).unwrap_err();
        assert!(matches!(session.stage, Stage::Refused));
        assert_eq!(session.received, 0);
    }
}

#[test]
fn what_waits_behind_a_gap_is_limited_in_number_and_in_bytes() {
    let audio = |bytes| {
        Some(Body::Audio(AudioChunk {
            first_frame: 0,
            pcm: vec![0; bytes].into(),
        }))
    };
    let (mut many, mut large) = (Session::default(), Session::default());
    (2..4098).for_each(|sequence| assert!(many.arrive(sequence, audio(2))));
    (2..6).for_each(|sequence| assert!(large.arrive(sequence, audio(1024 * 1024))));
    assert!(!many.waits_for_too_long() && !large.waits_for_too_long());

    many.arrive(4098, audio(2));
    large.arrive(6, audio(2));
    assert!(many.waits_for_too_long() && large.waits_for_too_long());

    many.arrive(1, started());
    assert!(!many.waits_for_too_long());
}

#[test]
fn an_event_that_says_nothing_takes_its_place_in_the_sequence_and_changes_nothing_else() {
    let mut session = Session::default();
    let mut work = Work::default();
    for (sequence, body) in (1..).zip([None, started(), None, turn(0), None]) {
        session.arrive(sequence, body);
    }

    session.advance("s", None, &mut work).unwrap();

    assert_eq!((session.received, rows(&work).count()), (5, 1));
}

#[test]
fn a_session_that_was_set_aside_goes_on_when_the_missing_event_comes() {
    let mut session = Session::default();
    let mut work = Work::default();
    session.arrive(1, started());
    session.advance("s", None, &mut work).unwrap();
    (3..4100).for_each(|sequence| assert!(session.arrive(sequence, turn(0))));
    assert!(session.waits_for_too_long());

    assert_eq!(session.set_aside(), 4099);
    assert_eq!((session.received, session.pending.len()), (1, 0));

    (2..6).for_each(|sequence| assert!(session.arrive(sequence, turn(0))));
    session.advance("s", None, &mut work).unwrap();
    assert_eq!((session.received, rows(&work).count()), (5, 4));
}

#[test]
fn ids_that_could_leave_the_folder_are_not_ids() {
    assert!(is_session_id("8f14e45f-ceea-467f-a0e6-1c1f0d5f3c1b"));
    for bad in ["", "../x", "a/b", ".hidden", "a b", "a\0", &"x".repeat(129)] {
        assert!(!is_session_id(bad), "{bad}");
    }
}

#[test]
fn the_time_of_a_clock_that_was_never_set_is_not_believed() {
    let said = 1_772_600_000_123;
    assert_eq!(date(said).unix_timestamp_nanos(), i128::from(said) * 1_000_000);
    let before = OffsetDateTime::now_utc() - std::time::Duration::from_millis(1);
    for nonsense in [0, 86_400_000, 946_684_800_000, u64::MAX] {
        let at = date(nonsense);
        assert!(at >= before && at <= OffsetDateTime::now_utc(), "{at}");
        assert_eq!(at.nanosecond() % 1_000_000, 0);
    }
}
