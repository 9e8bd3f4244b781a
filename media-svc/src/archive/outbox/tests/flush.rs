//! When what was written is flushed, and that nothing is sent before. The flushing thread is stopped, and its rounds are
//! done here.

use std::fs::File;
use std::time::{Duration, Instant};

use super::super::sync::{self, Complaints, FLUSH_INTERVAL};
use super::damage::logged;
use super::*;

/// An outbox that flushes nothing by itself.
fn without_thread(dir: &Path) -> Outbox {
    let mut outbox = open(dir);
    outbox.shared.lock().stop = true;
    outbox.shared.wake_sync.notify_one();
    outbox.sync_thread.take().unwrap().join().unwrap();
    outbox.shared.lock().stop = false;
    outbox
}

/// What one round flushes.
fn flush(outbox: &Outbox, complaints: &mut Complaints) {
    let work = sync::take_work(&mut outbox.shared.lock());
    let flushed = sync::flush(&outbox.shared, &work.written, complaints);
    sync::finish_round(&outbox.shared, &flushed);
}

#[test]
fn what_is_written_waits_a_tenth_of_a_second_for_its_flush_and_what_comes_meanwhile_for_the_next() {
    assert_eq!(FLUSH_INTERVAL, Duration::from_millis(100));
    let dir = tempfile::tempdir().unwrap();
    let outbox = without_thread(dir.path());
    let a = session(&outbox, "a");
    let due = |last_round| sync::due(&outbox.shared.lock(), last_round);

    let before = Instant::now();
    a.append(started()).unwrap();
    let first = outbox.shared.lock().work_since.unwrap();
    assert!((before..=Instant::now()).contains(&first));
    a.append(turn(0)).unwrap();
    // What comes later does not put it off, whenever the last round was.
    for last_round in [first, first + FLUSH_INTERVAL / 2, first + FLUSH_INTERVAL] {
        assert_eq!(due(last_round), first + FLUSH_INTERVAL);
    }

    // A flush has begun. What is written now has its own time, and is due when that flush is done, or a tenth after this.
    let work = sync::take_work(&mut outbox.shared.lock());
    assert_eq!((work.written.len(), outbox.shared.lock().work_since), (1, None));
    a.append(turn(1)).unwrap();
    let second = outbox.shared.lock().work_since.unwrap();
    assert_eq!(due(second), second + FLUSH_INTERVAL);

    outbox.flush_now();
    assert_eq!(due(second), second);
}

#[test]
fn only_what_was_flushed_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = without_thread(dir.path());
    let (a, mut reader) = (session(&outbox, "a"), outbox.reader());
    a.append(started()).unwrap();
    assert_eq!(reader.read(), []);

    // The second event is written while the first is being flushed.
    let work = sync::take_work(&mut outbox.shared.lock());
    a.append(turn(0)).unwrap();
    let flushed = sync::flush(&outbox.shared, &work.written, &mut Complaints::default());
    assert_eq!(reader.read(), []);
    sync::finish_round(&outbox.shared, &flushed);

    assert_eq!(names(&reader.read()), [("a", 1)]);
    assert_eq!(reader.read(), []);
    flush(&outbox, &mut Complaints::default());
    assert_eq!(names(&reader.read()), [("a", 2)]);
}

#[test]
fn where_flushing_fails_that_is_said_once_and_events_are_sent_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = without_thread(dir.path());
    let (a, mut reader) = (session(&outbox, "a"), outbox.reader());
    let mut complaints = Complaints::default();
    // Linux refuses to flush it.
    let unflushable = Arc::new(File::options().write(true).open("/dev/null").unwrap());

    let said = logged(|| {
        for seq in 0..3 {
            a.append(turn(seq)).unwrap();
            let mut state = outbox.shared.lock();
            let active = state.active.as_mut().unwrap();
            let real = std::mem::replace(&mut active.file, Arc::clone(&unflushable));
            drop(state);
            flush(&outbox, &mut complaints);
            outbox.shared.lock().active.as_mut().unwrap().file = real;
            assert_eq!(names(&reader.read()), [("a", u64::from(seq) + 1)]);
        }
    });

    let complaint = "the outbox cannot be flushed to disk: a power loss now may lose events";
    assert_eq!(said.matches(complaint).count(), 1, "{said}");
    // It is said again when it had worked in between.
    a.append(turn(3)).unwrap();
    assert_eq!(logged(|| flush(&outbox, &mut complaints)), "");
    a.append(turn(4)).unwrap();
    outbox.shared.lock().active.as_mut().unwrap().file = unflushable;
    let said = logged(|| flush(&outbox, &mut complaints));
    assert!(said.contains(" ERROR ") && said.contains(complaint), "{said}");
}
