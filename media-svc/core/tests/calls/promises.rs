//! What holds for every call, whatever comes in and when.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::*;
use media_core::conversation::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Speech(u64),
    Silence(u64),
    Wait(u64),
    Stt(u64, u8),
    Llm(u64, u8),
    Tts(u64, u8),
    Tool(u64),
    Played(u64),
    Key(char),
    Text,
    End(u8),
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..60).prop_map(|frames| Step::Speech(frames * 20)),
        6 => (1_u64..60).prop_map(|frames| Step::Silence(frames * 20)),
        6 => (1_u64..3_000).prop_map(Step::Wait),
        8 => (0_u64..2, 0_u8..8).prop_map(|(back, what)| Step::Stt(back, what)),
        12 => (0_u64..2, 0_u8..8).prop_map(|(back, what)| Step::Llm(back, what)),
        12 => (0_u64..3, 0_u8..8).prop_map(|(back, what)| Step::Tts(back, what)),
        3 => (0_u64..2).prop_map(Step::Tool),
        3 => (0_u64..3).prop_map(Step::Played),
        1 => prop::sample::select(vec!['1', '#', 'x']).prop_map(Step::Key),
        1 => Just(Step::Text),
        1 => (0_u8..4).prop_map(Step::End),
        1 => Just(Step::Gone),
    ]
}

fn variant() -> impl Strategy<Value = Settings> {
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (switches, 0_u32..3, prop::sample::select(vec![0_u64, 60, 200]), 1_u64..4).prop_map(
        |((marks, greets, interrupts, asks), words, lead, turn_max)| Settings {
            far_end_marks: marks,
            greeting: greets.then(|| "Hello. This is Vox, what can I do for you?".to_owned()),
            allow_interruptions: interrupts,
            interrupt_min_words: words,
            idle_prompt_after: asks.then(|| ms(4_000)),
            playout_lead: ms(lead),
            turn_max: Duration::from_secs(turn_max * 2),
            ..settings()
        },
    )
}

/// Ids of the newest utterance, reply, piece of speech and mark.
fn newest(call: &Call) -> (u64, u64, u64, u64) {
    let mut ids = (0, 0, 0, 0);
    for (_, output) in &call.log {
        match output {
            Output::BeginUtterance { utterance, .. } => ids.0 = utterance.0,
            Output::Generate { reply, .. } => ids.1 = reply.0,
            Output::Speak { speech, .. } => ids.2 = ids.2.max(speech.0),
            Output::Mark(mark) => ids.3 = mark.0,
            _ => {}
        }
    }
    ids
}

fn run(call: &mut Call, step: &Step) {
    let ids = newest(call);
    let tool = || ToolCall {
        id: "t".to_owned(),
        name: "tool".to_owned(),
        arguments: "{}".to_owned(),
    };
    match step {
        Step::Speech(length) => call.speech(ms(*length)),
        Step::Silence(length) => call.silence(ms(*length)),
        Step::Wait(length) => call.advance(ms(*length)),
        Step::Stt(back, what) => {
            let event = match what {
                0 => SttEvent::Failed("broken".to_owned()),
                1 => SttEvent::Final(String::new()),
                2 | 3 => SttEvent::Interim("some words so far".to_owned()),
                _ => SttEvent::Final("some words at last".to_owned()),
            };
            call.input(Input::Stt(UtteranceId(ids.0.saturating_sub(*back)), event));
        }
        Step::Llm(back, what) => {
            let event = match what {
                0 => LlmEvent::Failed("broken".to_owned()),
                1 | 2 => LlmEvent::Done,
                3 => LlmEvent::ToolCall(tool()),
                _ => LlmEvent::Text("Here is something to say. And some more, ".to_owned()),
            };
            call.input(Input::Llm(ReplyId(ids.1.saturating_sub(*back)), event));
        }
        Step::Tts(back, what) => {
            let event = match what {
                0 => TtsEvent::Failed("broken".to_owned()),
                1 | 2 => TtsEvent::Done,
                _ => TtsEvent::Audio(vec![1; usize::from(*what) * 997]),
            };
            call.input(Input::Tts(SpeechId(ids.2.saturating_sub(*back)), event));
        }
        Step::Tool(back) => {
            let reply = ReplyId(ids.1.saturating_sub(*back));
            call.input(Input::ToolResult {
                reply,
                call_id: "t".to_owned(),
                content: "done".to_owned(),
            });
        }
        Step::Played(back) => call.input(Input::Played(MarkId(ids.3.saturating_sub(*back)))),
        Step::Key(key) => call.input(Input::Dtmf(*key)),
        Step::Text => call.input(Input::Text("typed text".into())),
        Step::End(what) => {
            let reason = if what % 2 == 0 {
                EndReason::AgentHungUp
            } else {
                EndReason::Drained
            };
            let last_words = (*what < 2).then(|| "Good bye then.".to_owned());
            call.input(Input::EndRequested { reason, last_words });
        }
        Step::Gone => call.input(Input::CallerGone(EndReason::CallerHungUp)),
    }
}

/// Every final text that was taken over, in order.
fn understood(call: &Call) -> Vec<String> {
    let texts = call.log.iter().filter_map(|(_, output)| match output {
        Output::Notice(Notice::UserTranscript { text, is_final: true }) => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

fn check(call: &Call) {
    let rows = call.rows();
    assert!(rows.iter().all(|(_, text, _)| !text.trim().is_empty()), "{rows:?}");
    assert!(call.frames().iter().all(|(_, frame)| frame.len() == FRAME_SAMPLES));

    // The call is over exactly once, with nothing behind it.
    assert_eq!(call.count(|output| matches!(output, Output::HangUp(_))), 1);
    assert!(
        matches!(call.log.last(), Some((_, Output::HangUp(_)))),
        "{:?}",
        call.log.last()
    );

    // Every word the caller was understood to say is in the transcript.
    let said: String = rows
        .iter()
        .filter(|(role, ..)| *role == Role::User)
        .map(|(_, text, _)| format!("{text} "))
        .collect();
    assert_eq!(said.matches("some words").count(), understood(call).len(), "{rows:?}");

    // Starts and stops come in pairs, and audio only in between.
    let (mut talking, mut speaking, mut replies, mut utterances) = (false, false, HashSet::new(), HashSet::new());
    for (at, output) in &call.log {
        match output {
            Output::Notice(Notice::AgentStartedSpeaking) => assert!(!std::mem::replace(&mut talking, true), "{at:?}"),
            Output::Notice(Notice::AgentStoppedSpeaking) => assert!(std::mem::replace(&mut talking, false), "{at:?}"),
            Output::Notice(Notice::UserStartedSpeaking) => assert!(!std::mem::replace(&mut speaking, true), "{at:?}"),
            Output::Notice(Notice::UserStoppedSpeaking) => assert!(std::mem::replace(&mut speaking, false), "{at:?}"),
            Output::Play(_) => assert!(talking, "{at:?}"),
            Output::Generate { reply, messages } => {
                assert!(replies.insert(*reply));
                let users = messages
                    .windows(2)
                    .filter(|pair| matches!(pair, [Message::User(_), Message::User(_)]));
                assert_eq!(users.count(), 0, "two user messages in a row: {messages:?}");
            }
            Output::BeginUtterance { utterance, .. } => assert!(utterances.insert(*utterance)),
            Output::EndUtterance(utterance) | Output::CancelUtterance(utterance) => {
                assert!(utterances.contains(utterance));
            }
            Output::CancelReply(reply) => assert!(replies.contains(reply)),
            _ => {}
        }
    }
    assert!(!talking);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_breaks_a_promise(
        settings in variant(),
        speaks in any::<bool>(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut call = Call::unconnected(settings.clone());
        call.voice = speaks.then(|| ms(10));
        call.echo_marks = settings.far_end_marks.then(|| ms(70));
        call.input(Input::Connected);
        for step in &steps {
            run(&mut call, step);
        }
        call.input(Input::CallerGone(EndReason::CallerHungUp));
        call.advance(ms(2_000));
        check(&call);
        prop_assert_eq!(call.conversation.poll_deadline(), None);
    }

    #[test]
    fn the_same_inputs_give_the_same_call(steps in prop::collection::vec(step(), 0..40)) {
        let play = || {
            let mut call = Call::new(settings());
            steps.iter().for_each(|step| run(&mut call, step));
            call.log
        };
        prop_assert_eq!(play(), play());
    }
}
