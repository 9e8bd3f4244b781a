use super::*;
use proptest::prelude::*;

/// 20 ms of Opus.
const UNITS: u32 = 960;

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn frame(number: u32) -> Frame {
    Frame {
        sequence: (65_530 + number) as u16,
        timestamp: (u32::MAX - 2_000).wrapping_add(number * UNITS),
        duration: UNITS,
        payload: number.to_be_bytes().to_vec().into(),
    }
}

fn dtx(number: u32, at: u32) -> Frame {
    Frame {
        timestamp: frame(at).timestamp,
        payload: vec![0; 1].into(),
        ..frame(number)
    }
}

fn drain(buffer: &mut JitterBuffer, now: Time) -> Vec<Playout> {
    std::iter::from_fn(|| buffer.pop(now)).collect()
}

fn lost(next: Option<u32>) -> Playout {
    Playout::Lost {
        duration: UNITS,
        next: next.map(|number| frame(number).payload),
    }
}

#[test]
fn packets_in_order_are_handed_on_at_once_across_the_wrap_of_both_counters() {
    let mut buffer = JitterBuffer::new(48_000);
    for number in 0..20 {
        let now = ms(u64::from(number) * 20);
        assert_eq!(buffer.push(now, frame(number)), Arrival::Kept);
        assert_eq!(drain(&mut buffer, now), [Playout::Frame(frame(number))]);
        assert_eq!(buffer.poll_deadline(), None);
    }
    let report = buffer.report();
    assert_eq!((report.received, report.lost, report.jitter), (20, 0, Duration::ZERO));
}

#[test]
fn a_packet_that_was_overtaken_is_put_back_in_order_and_makes_the_next_wait_longer() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    drain(&mut buffer, ms(0));
    buffer.push(ms(40), frame(2));
    assert_eq!(drain(&mut buffer, ms(40)), []);
    buffer.push(ms(56), frame(1));
    assert_eq!(
        drain(&mut buffer, ms(56)),
        [Playout::Frame(frame(1)), Playout::Frame(frame(2))]
    );
    assert_eq!(buffer.report().wait, SHORTEST_WAIT);
    buffer.push(ms(80), frame(4));
    buffer.push(ms(99), frame(3));
    drain(&mut buffer, ms(99));
    assert_eq!(buffer.report().wait, Duration::from_micros(23_750));
    assert_eq!(buffer.report().lost, 0);
}

#[test]
fn a_missing_packet_is_given_up_after_the_wait_with_the_copy_in_the_next_one() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    drain(&mut buffer, ms(0));
    buffer.push(ms(60), frame(3));
    assert_eq!(buffer.poll_deadline(), Some(ms(80)));
    assert_eq!(drain(&mut buffer, ms(79)), []);
    assert_eq!(
        drain(&mut buffer, ms(80)),
        [lost(None), lost(Some(3)), Playout::Frame(frame(3))]
    );
    assert_eq!(buffer.report().lost, 2);
}

#[test]
fn packets_that_come_too_late_are_counted_and_waited_for_longer_up_to_the_limit() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    for number in 1..30 {
        let now = ms(u64::from(number) * 500);
        buffer.push(now, frame(number * 2));
        drain(&mut buffer, now + LONGEST_WAIT);
        assert_eq!(buffer.push(now + LONGEST_WAIT, frame(number * 2 - 1)), Arrival::Late);
    }
    let report = buffer.report();
    assert_eq!((report.late, report.lost, report.wait), (29, 29, LONGEST_WAIT));
}

#[test]
fn loss_is_the_part_of_all_packets_that_did_not_come_in_time_in_all_streams_of_a_call() {
    let report = |received, lost, late| JitterReport {
        received,
        lost,
        late,
        ..JitterReport::default()
    };
    // in time, not in time, of those too late; percent
    let cases = [
        (0, 0, 0, 0.0),
        (50, 0, 0, 0.0),
        (50, 50, 50, 50.0),
        (10, 30, 20, 75.0),
        (0, 5, 0, 100.0),
    ];
    for (received, lost, late, percent) in cases {
        assert_eq!(report(received, lost, late).loss_percent(), percent);
    }
    let both = report(90, 0, 0).after(&report(0, 10, 4));
    assert_eq!((both.loss_percent(), both.late), (10.0, 4));
}

#[test]
fn a_packet_that_comes_twice_is_heard_once() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    drain(&mut buffer, ms(0));
    assert_eq!(buffer.push(ms(1), frame(0)), Arrival::Duplicate);
    buffer.push(ms(40), frame(2));
    assert_eq!(buffer.push(ms(41), frame(2)), Arrival::Duplicate);
    assert_eq!(buffer.report().duplicates, 2);
}

#[test]
fn a_silence_that_was_announced_is_heard_while_it_lasts_and_not_again_after_it() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), dtx(0, 0));
    drain(&mut buffer, ms(0));
    let silence = Playout::Silence { duration: UNITS };
    assert_eq!(buffer.poll_deadline(), Some(ms(20)));
    assert_eq!(drain(&mut buffer, ms(60)), vec![silence; 3]);
    // 400 ms later the next one comes: three of twenty frames were heard as silence.
    buffer.push(ms(400), dtx(1, 20));
    let rest = Playout::Silence { duration: 16 * UNITS };
    assert_eq!(drain(&mut buffer, ms(400)), [rest, Playout::Frame(dtx(1, 20))]);
    assert_eq!(buffer.report().lost, 0);
}

#[test]
fn a_sender_that_stops_without_a_word_is_not_taken_for_silence() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    drain(&mut buffer, ms(0));
    assert_eq!((buffer.poll_deadline(), buffer.pop(ms(5_000))), (None, None));
}

#[test]
fn a_packet_without_audio_is_no_loss() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    let key = Frame {
        duration: 0,
        ..frame(1)
    };
    buffer.push(ms(20), key);
    let after = Frame {
        sequence: frame(2).sequence,
        ..frame(1)
    };
    buffer.push(ms(40), after.clone());
    assert_eq!(
        drain(&mut buffer, ms(40)),
        [Playout::Frame(frame(0)), Playout::Frame(after)]
    );
    assert_eq!(buffer.report().lost, 0);
}

#[test]
fn a_jump_begins_a_new_stream() {
    let mut buffer = JitterBuffer::new(48_000);
    buffer.push(ms(0), frame(0));
    drain(&mut buffer, ms(0));
    buffer.push(ms(20), frame(5_000));
    assert_eq!(drain(&mut buffer, ms(20)), [Playout::Frame(frame(5_000))]);
    assert_eq!(buffer.report().lost, 0);
}

#[test]
fn what_an_outage_took_is_lost_although_nothing_is_heard_in_its_place() {
    let mut buffer = JitterBuffer::new(48_000);
    for number in (0..10).chain(200..210) {
        let now = ms(u64::from(number) * 20 + 3);
        buffer.push(now, frame(number));
        assert_eq!(drain(&mut buffer, now), [Playout::Frame(frame(number))]);
    }
    let report = buffer.report();
    assert_eq!((report.received, report.lost), (20, 190));
    assert_eq!(report.jitter, Duration::ZERO);
}

#[test]
fn jitter_is_that_of_the_standard() {
    let mut buffer = JitterBuffer::new(48_000);
    // Every other packet is 10 ms late: the transit changes by 10 ms each time, and the estimate converges to that.
    for number in 0..400 {
        let now = ms(u64::from(number) * 20 + u64::from(number % 2) * 10);
        buffer.push(now, frame(number));
        drain(&mut buffer, now);
    }
    let jitter = buffer.report().jitter.as_secs_f64();
    assert!((jitter - 0.010).abs() < 0.001, "{jitter}");
}

proptest! {
    #[test]
    fn whatever_the_network_does_audio_comes_in_order_once_and_in_time(
        delays in proptest::collection::vec(0_u64..400, 1..200),
        losses in proptest::collection::vec(any::<bool>(), 200),
        copies in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let mut arrivals = Vec::new();
        for (number, delay) in delays.iter().enumerate() {
            if !losses[number] || number == 0 {
                let sent = number as u64 * 20;
                // The first packet sets where the stream begins: nothing overtakes it.
                let delay = if number == 0 { 0 } else { *delay };
                arrivals.push((sent + delay, number as u32));
                if copies[number] {
                    arrivals.push((sent + delay + 5, number as u32));
                }
            }
        }
        arrivals.sort_unstable();
        let mut buffer = JitterBuffer::new(48_000);
        let mut heard = Vec::new();
        let mut units = 0_u64;
        for (at, number) in arrivals {
            while let Some(deadline) = buffer.poll_deadline().filter(|&deadline| deadline <= ms(at)) {
                let playout = buffer.pop(deadline);
                prop_assert!(playout.is_some());
                units += playout.map_or(0, |playout| length(&playout, &mut heard));
            }
            buffer.push(ms(at), frame(number));
            while let Some(playout) = buffer.pop(ms(at)) {
                units += length(&playout, &mut heard);
            }
            prop_assert!(buffer.poll_deadline().is_none_or(|deadline| deadline <= ms(at) + LONGEST_WAIT));
        }
        prop_assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{heard:?}");
        prop_assert!(units <= u64::from(UNITS) * delays.len() as u64);
        let report = buffer.report();
        prop_assert!(report.wait >= SHORTEST_WAIT && report.wait <= LONGEST_WAIT);
    }

    #[test]
    fn no_sequence_of_packets_upsets_it(packets: Vec<(u16, u32, u32, u8, u8)>) {
        let mut buffer = JitterBuffer::new(48_000);
        let mut now = ms(0);
        for (sequence, timestamp, duration, length, pause) in packets {
            now += Duration::from_millis(u64::from(pause));
            let payload = vec![0; usize::from(length)].into();
            buffer.push(now, Frame { sequence, timestamp, duration: duration % 5_761, payload });
            for _ in 0..1_000 {
                if buffer.pop(now).is_none() {
                    break;
                }
            }
            prop_assert!(buffer.waiting.len() <= MOST_WAITING + 1);
        }
    }
}

fn length(playout: &Playout, heard: &mut Vec<u32>) -> u64 {
    match playout {
        Playout::Frame(frame) => {
            heard.push(u32::from_be_bytes(frame.payload[..].try_into().unwrap()));
            u64::from(frame.duration)
        }
        Playout::Lost { duration, .. } | Playout::Silence { duration } => u64::from(*duration),
    }
}
