//! What the local speech parts understand of real people, and of each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that prints what it measures"
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use media_core::audio::{g711, resample::Resampler};
use media_core::conversation::{Input, SttEvent, UtteranceId};
use media_svc::providers::local::LocalStt;
use media_svc::providers::{CallContext, SpeechToText, SttCommand};
use media_svc::speech::models::{self, Progress};
use media_svc::speech::{ModelPaths, SpeechEngine, Voice};
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;
use voxray::words::{word_error_rate, word_errors};

static MODELS: LazyLock<ModelPaths> =
    LazyLock::new(|| models::fetch(&Progress::Lines(Default::default())).expect("speech models"));

#[derive(serde::Deserialize)]
struct Clip {
    file: String,
    read: bool,
    text: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/speech")
}

fn clips() -> Vec<Clip> {
    serde_json::from_slice(&std::fs::read(folder().join("transcripts.json")).unwrap()).unwrap()
}

/// Mono 16 kHz audio of a WAV file of any supported rate.
fn recording(path: &Path) -> Vec<i16> {
    let mut wav = hound::WavReader::open(path).unwrap();
    assert_eq!(wav.spec().channels, 1);
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    converted(&samples, wav.spec().sample_rate, 16_000)
}

fn converted(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    let mut resampler = Resampler::new(from, to).unwrap();
    let mut out = resampler.process(samples);
    out.extend(resampler.flush());
    out
}

/// What a phone line leaves of it: 8 kHz µ-law and back.
fn telephone(samples: &[i16]) -> Vec<i16> {
    let codes = g711::encode_ulaw(&converted(samples, 16_000, 8_000));
    converted(&g711::decode_ulaw(&codes), 8_000, 16_000)
}

fn engine() -> SpeechEngine {
    SpeechEngine::new(MODELS.clone(), 1).unwrap()
}

async fn spoken(engine: &SpeechEngine, text: &str, voice: Voice) -> Vec<i16> {
    let mut stream = engine.synthesise(text.to_owned(), voice).unwrap();
    let mut audio = Vec::new();
    while let Some(chunk) = stream.next().await {
        audio.extend(chunk.unwrap());
    }
    audio
}

/// Word error rate over the read sentences, and over all clips.
async fn rates(line: fn(&[i16]) -> Vec<i16>, name: &str) -> (f64, f64) {
    let engine = engine();
    engine.warm_up(Voice::EnUs).await.unwrap();
    let (mut read, mut all) = ((0, 0), (0, 0));
    let (mut audio_time, mut work_time) = (Duration::ZERO, Duration::ZERO);
    for clip in clips() {
        let audio = line(&recording(&folder().join(&clip.file)));
        let started = Instant::now();
        let text = engine.transcribe(&audio).await.unwrap();
        work_time += started.elapsed();
        audio_time += Duration::from_secs_f64(audio.len() as f64 / 16_000.0);
        let (errors, words) = word_errors(&clip.text, &text);
        println!(
            "{name} {}: {errors}/{words} {text:?} {:?}",
            clip.file,
            started.elapsed()
        );
        all = (all.0 + errors, all.1 + words);
        if clip.read {
            read = (read.0 + errors, read.1 + words);
        }
    }
    let rate = |(errors, words): (usize, usize)| errors as f64 / words as f64;
    println!(
        "{name}: read {:.1} %, all {:.1} %, RTF {:.3}",
        rate(read) * 100.0,
        rate(all) * 100.0,
        work_time.as_secs_f64() / audio_time.as_secs_f64()
    );
    (rate(read), rate(all))
}

#[tokio::test]
async fn people_are_understood_in_wide_band() {
    let (read, all) = rates(<[i16]>::to_vec, "16 kHz").await;
    assert!(read <= 0.08 && all <= 0.15, "{read} {all}");
}

#[tokio::test]
async fn people_are_understood_on_the_telephone() {
    let (read, all) = rates(telephone, "8 kHz µ-law").await;
    assert!(read <= 0.08 && all <= 0.15, "{read} {all}");
}

#[tokio::test]
async fn what_the_agent_says_can_be_understood() {
    let engine = engine();
    let sentences = [
        "Hello, thank you for calling. How can I help you?",
        "Would you like to leave a message?",
        "Please tell me your name and your phone number.",
        "I am sorry, I did not understand that. Could you say it again, please?",
        "We are open from nine to five, Monday to Friday.",
        "Thank you, I have written that down. Goodbye.",
        "It is a quarter past three on Thursday.",
        "Your message will be passed on to the manager this afternoon.",
    ];
    for (voice, line) in [
        (Voice::EnUs, telephone as fn(&[i16]) -> Vec<i16>),
        (Voice::EnGb, <[i16]>::to_vec),
    ] {
        let (mut errors, mut words) = (0, 0);
        for sentence in sentences {
            let audio = line(&spoken(&engine, sentence, voice).await);
            let text = engine.transcribe(&audio).await.unwrap();
            let (wrong, of) = word_errors(sentence, &text);
            println!("{voice:?} {wrong}/{of} {text:?}");
            errors += wrong;
            words += of;
        }
        let rate = errors as f64 / words as f64;
        println!("{voice:?}: {:.1} %", rate * 100.0);
        assert!(rate <= 0.10, "{voice:?}: {rate}");
    }
}

#[tokio::test]
async fn half_a_minute_of_speech_is_understood_to_its_end() {
    let engine = engine();
    let sentences = "My name is Peter Miller. I am calling about the invoice from last month. The amount on it is wrong. \
        I ordered three chairs, but the invoice says five. Please send me a new one. You can call me back in the afternoon. \
        I am in the office until six. Tomorrow I will be out of town. Thank you very much for your help. Goodbye.";
    let audio = spoken(&engine, &sentences.replace(". ", ", "), Voice::EnUs).await;
    let text = engine.transcribe(&audio).await.unwrap();
    let rate = word_error_rate(sentences, &text);
    println!(
        "{} s in one breath: {:.1} % {text:?}",
        audio.len() / 16_000,
        rate * 100.0
    );
    assert!(rate <= 0.10, "{rate}");
}

/// The model package's own sample: a man reads the first sentence of "A Tale of Two Cities" with pauses, 44 s.
#[tokio::test]
async fn a_long_reading_with_pauses_is_understood_on_the_telephone() {
    let said = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of \
        foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was \
        the season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us, \
        we had nothing before us, we were all going direct to heaven, we were all going direct the other way, in \
        short, the period was so far like the present period that some of its noisiest authorities insisted on its \
        being received, for good or for evil, in the superlative degree of comparison only.";
    let audio = telephone(&recording(&MODELS.sample));
    let text = engine().transcribe(&audio).await.unwrap();
    let rate = word_error_rate(said, &text);
    println!("two cities: {:.1} % {text:?}", rate * 100.0);
    assert!(rate <= 0.08, "{rate} {text}");
}

#[tokio::test]
async fn silence_and_noise_are_not_words() {
    let engine = engine();
    let mut state = 1u32;
    let mut noise = |amplitude: i32| -> Vec<i16> {
        (0..48_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (((state >> 16) as i32 - 32_768) * amplitude / 32_768) as i16
            })
            .collect()
    };
    for audio in [
        vec![0; 48_000],
        noise(50),
        noise(1_000),
        noise(3_000),
        noise(8_000),
        noise(20_000),
    ] {
        assert_eq!(engine.transcribe(&audio).await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_very_quiet_caller_is_understood() {
    let engine = engine();
    let (mut errors, mut words) = (0, 0);
    for clip in clips().into_iter().filter(|clip| clip.read) {
        let quiet: Vec<i16> = recording(&folder().join(&clip.file))
            .iter()
            .map(|sample| sample / 40)
            .collect();
        let (wrong, of) = word_errors(&clip.text, &engine.transcribe(&quiet).await.unwrap());
        errors += wrong;
        words += of;
    }
    println!("32 dB down: {errors}/{words}");
    assert!(errors as f64 / words as f64 <= 0.10);
}

/// A caller speaks at the pace of people: a frame every 20 ms.
#[tokio::test]
async fn a_call_gets_interim_text_and_one_final_text() {
    let stt = LocalStt::new(Arc::new(engine()));
    let (events, mut inbox) = mpsc::channel(64);
    let call = CallContext {
        session_id: "s".into(),
        tasks: TaskScope::root("test"),
        events,
    };
    let commands = stt.start(call);
    let id = UtteranceId(1);
    let mut audio = recording(&folder().join("austen-0870.wav"));
    audio.extend([0; 8_000]);
    let scope = TaskScope::root("caller");
    let (done, finished) = tokio::sync::oneshot::channel();
    scope.spawn("caller", async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        commands.send(SttCommand::Begin(id)).await.unwrap();
        for frame in audio.chunks(320) {
            pace.tick().await;
            commands.send(SttCommand::Audio(id, frame.to_vec())).await.unwrap();
        }
        commands.send(SttCommand::End(id)).await.unwrap();
        drop(done.send(commands));
    });

    let mut interims = Vec::new();
    let text = loop {
        match inbox.recv().await.unwrap() {
            Input::Stt(of, SttEvent::Interim(text)) if of == id => interims.push(text),
            Input::Stt(of, SttEvent::Final(text)) if of == id => break text,
            other => panic!("unexpected {other:?}"),
        }
    };

    println!("{interims:#?}\n{text}");
    let clip = clips().into_iter().find(|clip| clip.file == "austen-0870.wav").unwrap();
    assert!(word_error_rate(&clip.text, &text) <= 0.15, "{text}");
    assert!(!interims.is_empty());
    drop(finished.await.unwrap());
    assert!(inbox.recv().await.is_none(), "nothing follows the final text");
}

#[tokio::test]
async fn a_cancelled_utterance_is_silent_and_the_next_one_is_understood() {
    let stt = LocalStt::new(Arc::new(engine()));
    let (events, mut inbox) = mpsc::channel(64);
    let call = CallContext {
        session_id: "s".into(),
        tasks: TaskScope::root("test"),
        events,
    };
    let commands = stt.start(call);
    let audio = recording(&folder().join("cards-001.wav"));

    for (id, end) in [
        (1, SttCommand::Cancel(UtteranceId(1))),
        (2, SttCommand::End(UtteranceId(2))),
    ] {
        commands.send(SttCommand::Begin(UtteranceId(id))).await.unwrap();
        commands
            .send(SttCommand::Audio(UtteranceId(id), audio.clone()))
            .await
            .unwrap();
        commands.send(end).await.unwrap();
    }
    commands.send(SttCommand::End(UtteranceId(9))).await.unwrap();

    let mut finals = Vec::new();
    while finals.len() < 2 {
        match inbox.recv().await.unwrap() {
            Input::Stt(UtteranceId(1), event) => assert!(matches!(event, SttEvent::Interim(_)), "{event:?}"),
            Input::Stt(UtteranceId(9), SttEvent::Failed(_)) => finals.push("failed".to_owned()),
            Input::Stt(UtteranceId(2), SttEvent::Final(text)) => finals.push(text),
            Input::Stt(UtteranceId(2), SttEvent::Interim(_)) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(finals[0], "failed");
    assert_eq!(word_error_rate("ten of clubs", &finals[1]), 0.0, "{}", finals[1]);
}
