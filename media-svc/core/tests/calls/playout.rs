//! Outgoing audio keeps its time.

use crate::harness::*;
use media_core::conversation::*;

fn speaking(settings: Settings) -> (Call, SpeechId) {
    let call = Call::new(Settings {
        greeting: Some("A greeting long enough.".into()),
        ..settings
    });
    let speech = call.last_speech();
    (call, speech)
}

fn silent(settings: Settings) -> (Call, SpeechId) {
    let mut call = Call::unconnected(Settings {
        greeting: Some("A greeting long enough.".into()),
        ..settings
    });
    call.voice = None;
    call.input(Input::Connected);
    let speech = call.last_speech();
    (call, speech)
}

#[test]
fn frames_are_20_ms_and_the_last_one_is_padded() {
    let (mut call, speech) = silent(settings());
    call.input(Input::Tts(speech, TtsEvent::Audio(vec![7; FRAME_SAMPLES * 3 + 10])));
    call.input(Input::Tts(speech, TtsEvent::Done));
    call.advance(ms(500));
    let frames = call.frames();
    assert_eq!(frames.len(), 4);
    assert!(frames.iter().all(|(_, frame)| frame.len() == FRAME_SAMPLES));
    let last = &frames[3].1;
    assert!(last[..10].iter().all(|sample| *sample == 7) && last[10..].iter().all(|sample| *sample == 0));
}

#[test]
fn the_first_audio_goes_out_as_soon_as_it_arrives() {
    let (mut call, speech) = silent(settings());
    call.advance(ms(333));
    call.input(Input::Tts(speech, TtsEvent::Audio(vec![7; FRAME_SAMPLES])));
    assert_eq!(call.frames().first().map(|(at, _)| *at), Some(ms(333)));
}

#[test]
fn audio_never_runs_ahead_more_than_the_lead() {
    for lead in [0, 20, 60, 200] {
        let (mut call, _) = speaking(Settings {
            playout_lead: ms(lead),
            ..settings()
        });
        call.advance(ms(2_000));
        let frames = call.frames();
        assert!(frames.len() > 40);
        for (index, (at, _)) in frames.iter().enumerate() {
            let sent = FRAME * u32::try_from(index + 1).unwrap();
            assert!(
                sent <= *at + ms(lead.max(20)),
                "{sent:?} sent at {at:?} with a lead of {lead} ms"
            );
            assert!(sent + ms(1) > *at, "late: {sent:?} sent at {at:?}");
        }
    }
}

#[test]
fn late_ticks_do_not_slow_the_audio_down() {
    let (mut call, _) = speaking(Settings {
        playout_lead: ms(20),
        ..settings()
    });
    for _ in 0..40 {
        call.now += ms(25);
        call.input(Input::Tick);
    }
    assert_eq!(call.frames().len(), 50 + 1);
}

#[test]
fn after_an_underrun_time_starts_again() {
    let (mut call, speech) = silent(settings());
    call.input(Input::Tts(speech, TtsEvent::Audio(vec![1; FRAME_SAMPLES * 2])));
    call.advance(ms(1_000));
    call.input(Input::Tts(speech, TtsEvent::Audio(vec![1; FRAME_SAMPLES * 10])));
    call.advance(ms(1_000));
    let times: Vec<_> = call.frames().iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 12);
    // Three at once fill the lead of 60 ms, the rest follows every 20 ms.
    assert_eq!(times[2..6], [ms(1_000), ms(1_000), ms(1_000), ms(1_020)]);
    assert_eq!(times[11], ms(1_000) + FRAME * 7);
}

#[test]
fn sentences_are_played_in_order_whichever_is_ready_first() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hi.");
    call.answer("This is the first. This is the second.");
    let (first, second) = (SpeechId(1), SpeechId(2));
    call.input(Input::Tts(second, TtsEvent::Audio(vec![2; FRAME_SAMPLES * 5])));
    call.input(Input::Tts(second, TtsEvent::Done));
    assert_eq!(call.frames(), []);
    call.input(Input::Tts(first, TtsEvent::Audio(vec![1; FRAME_SAMPLES * 5])));
    call.input(Input::Tts(first, TtsEvent::Done));
    call.advance(ms(1_000));
    let order: Vec<i16> = call.frames().iter().map(|(_, frame)| frame[0]).collect();
    assert_eq!(order, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
}

#[test]
fn synthesis_is_at_most_two_sentences_ahead() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hi.");
    call.answer("This is one. This is two. This is three. This is four. This is five.");
    assert_eq!(call.spoken(), ["This is one.", "This is two.", "This is three."]);
    call.input(Input::Tts(SpeechId(1), TtsEvent::Audio(vec![1; FRAME_SAMPLES * 50])));
    call.input(Input::Tts(SpeechId(1), TtsEvent::Done));
    call.advance(ms(500));
    assert_eq!(call.spoken().len(), 3);
    call.advance(ms(600));
    assert_eq!(call.spoken().len(), 4);
}

#[test]
fn the_second_sentence_is_requested_before_the_first_is_done() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hi.");
    let reply = call.last_reply();
    for token in ["Hello", " there, my", " friend", ". How", " are you", "? I"] {
        call.input(Input::Llm(reply, LlmEvent::Text(token.to_owned())));
    }
    assert_eq!(call.spoken(), ["Hello there,", "my friend.", "How are you?"]);
}

#[test]
fn the_turn_is_over_when_its_last_audio_was_heard() {
    let (mut call, _) = speaking(settings());
    let length = ms(50) * 23;
    call.advance(length - ms(1));
    assert_eq!(call.rows(), []);
    call.advance(FRAME);
    assert_eq!(call.rows(), [agent_row("A greeting long enough.")]);
    assert!(call.has(&Output::Notice(Notice::AgentStoppedSpeaking)));
}
