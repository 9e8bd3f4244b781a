//! The rule, window by window.

use proptest::prelude::*;

use super::*;

fn window(sessions: usize, late: u64, cpu: f64) -> Window {
    Window {
        sessions,
        frames: 1_000,
        late,
        cpu,
    }
}

fn most(sessions: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(sessions)
}

/// What a machine that carries `able` sessions measures with this many: late frames grow with what is too much.
fn machine(able: usize, sessions: usize) -> Window {
    let cpu = sessions as f64 / able as f64 * BUSY_CPU;
    let late = if sessions > able { 100 } else { 0 };
    window(sessions, late, cpu.min(1.0))
}

#[test]
fn a_node_that_is_not_strained_says_what_is_configured() {
    let mut capacity = Capacity::new(200, most(200));
    for sessions in [0, 50, 150, 199] {
        assert_eq!(capacity.observe(&window(sessions, 0, 0.3)), 200);
    }
}

#[test]
fn one_bad_window_is_bad_luck_and_the_second_cuts_to_less_than_what_runs() {
    let mut capacity = Capacity::new(200, most(200));
    assert_eq!(capacity.observe(&window(100, 300, 0.5)), 200);
    assert_eq!(capacity.observe(&window(100, 0, 0.5)), 200);
    assert_eq!(capacity.observe(&window(100, 300, 0.5)), 200);
    assert_eq!(capacity.observe(&window(100, 300, 0.5)), 90);
    assert_eq!(capacity.observe(&window(100, 300, 0.5)), 90, "no faster than calls end");
    assert_eq!(capacity.observe(&window(90, 300, 0.5)), 81);
}

#[test]
fn processor_time_strains_before_frames_are_late() {
    let mut capacity = Capacity::new(200, most(200));
    capacity.observe(&window(60, 0, 0.95));
    assert_eq!(capacity.observe(&window(60, 0, 0.95)), 54);
}

#[test]
fn a_window_with_hardly_any_frames_says_nothing() {
    let mut capacity = Capacity::new(200, most(200));
    let few = Window {
        sessions: 1,
        frames: 20,
        late: 20,
        cpu: 0.1,
    };
    for _ in 0..5 {
        assert_eq!(capacity.observe(&few), 200);
    }
}

#[test]
fn what_was_cut_comes_back_step_by_step_once_the_strain_is_over() {
    let mut capacity = Capacity::new(200, most(200));
    for _ in 0..2 {
        capacity.observe(&window(100, 300, 0.5));
    }
    let steps: Vec<usize> = (0..12).map(|_| capacity.observe(&window(40, 0, 0.3))).collect();
    assert_eq!(
        steps[..4],
        [100, 110, 120, 130],
        "cut to 90, and a part in twenty of 200 each time"
    );
    assert_eq!(steps.last(), Some(&200));
}

#[test]
fn between_ease_and_strain_nothing_changes() {
    let mut capacity = Capacity::new(200, most(200));
    for _ in 0..2 {
        capacity.observe(&window(100, 300, 0.5));
    }
    assert_eq!(capacity.observe(&window(90, 0, 0.8)), 90);
    assert_eq!(capacity.observe(&window(85, 0, 0.8)), 90);
}

#[test]
fn without_a_limit_it_grows_while_it_is_needed() {
    let mut capacity = Capacity::new(80, None);
    assert_eq!(capacity.observe(&window(10, 0, 0.1)), 80, "nobody needs more");
    for expected in [84, 88, 92] {
        assert_eq!(capacity.observe(&window(expected - 10, 0, 0.3)), expected);
    }
}

#[test]
fn it_settles_near_what_the_machine_carries() {
    // what the machine carries, limit
    for (able, limit) in [(50, 200), (137, 200), (200, 200), (500, 200)] {
        let mut capacity = Capacity::new(limit, most(limit));
        let mut allowed = limit;
        let mut seen = Vec::new();
        // Twenty minutes in which there are always more callers than places, and a tenth of the calls end in a window.
        let mut sessions = 0;
        for n in 0..600 {
            sessions -= sessions / 10;
            sessions = sessions.max(allowed.min(sessions + 30));
            allowed = capacity.observe(&machine(able, sessions));
            if n > 100 {
                seen.push(sessions);
            }
        }
        let mean = seen.iter().sum::<usize>() as f64 / seen.len() as f64;
        let best = able.min(limit) as f64;
        println!("carries {able}, limit {limit}: {mean:.0} sessions on average");
        assert!(mean <= best * 1.05 && mean >= best * 0.6, "{mean} of {best}");
    }
}

proptest! {
    #[test]
    fn never_more_than_the_limit_and_never_cut_by_more_than_a_tenth_of_what_runs(
        limit in 1usize..300,
        windows in proptest::collection::vec((0usize..300, 0u64..1_000, 0.0f64..1.0), 1..60),
    ) {
        let mut capacity = Capacity::new(limit, most(limit));
        for (sessions, late, cpu) in windows {
            let sessions = sessions.min(limit);
            let before = capacity.now;
            let allowed = capacity.observe(&window(sessions, late, cpu));
            prop_assert!(allowed >= 1 && allowed <= limit);
            prop_assert!(allowed >= before.min(sessions * 9 / 10));
        }
    }
}
