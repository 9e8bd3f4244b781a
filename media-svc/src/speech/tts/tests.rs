//! Promises of local synthesis, with the real synthesiser.

use proptest::prelude::*;

use super::*;

async fn said(synthesis: &Synthesis, text: &str, voice: Voice) -> Result<Vec<i16>, SpeechError> {
    let mut stream = synthesis.speak(text.to_owned(), voice)?;
    let mut audio = Vec::new();
    while let Some(chunk) = stream.next().await {
        audio.extend(chunk?);
    }
    Ok(audio)
}

fn loudness(audio: &[i16]) -> f64 {
    (audio.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / audio.len().max(1) as f64).sqrt()
}

#[tokio::test]
async fn every_voice_speaks_audibly() {
    let synthesis = Synthesis::new(1).unwrap();
    for voice in Voice::ALL {
        let audio = said(&synthesis, "Hello 1 2 3.", voice).await.unwrap();
        assert!(
            audio.len() > 8_000 && loudness(&audio) > 300.0,
            "{voice:?}: {} {}",
            audio.len(),
            loudness(&audio)
        );
    }
}

#[tokio::test]
async fn the_same_text_sounds_the_same_again() {
    let synthesis = Synthesis::new(1).unwrap();
    let first = said(&synthesis, "Please leave a message.", Voice::EnUs).await.unwrap();
    let second = said(&synthesis, "Please leave a message.", Voice::EnUs).await.unwrap();
    assert_eq!(first.len(), second.len());
}

#[tokio::test]
async fn text_with_nothing_to_say_is_done_at_once() {
    let synthesis = Synthesis::new(1).unwrap();
    for text in ["", "...", "\u{1f600}\u{1f600}", "<>", "\0"] {
        assert!(said(&synthesis, text, Voice::EnUs).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn very_long_text_is_said_to_its_end() {
    let synthesis = Synthesis::new(1).unwrap();
    let text = "The meeting is moved to Thursday at half past three. ".repeat(60);
    let audio = said(&synthesis, &text, Voice::EnUs).await.unwrap();
    assert!(audio.len() > 16_000 * 120, "{} s", audio.len() / 16_000);
}

#[tokio::test]
async fn a_listener_that_leaves_does_not_disturb_the_next_text() {
    let synthesis = Synthesis::new(1).unwrap();
    let expected = said(&synthesis, "Good morning.", Voice::EnUs).await.unwrap().len();
    let mut stream = synthesis
        .speak(
            "One two three four five six seven eight nine ten. ".repeat(20),
            Voice::EnUs,
        )
        .unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(
        said(&synthesis, "Good morning.", Voice::EnUs).await.unwrap().len(),
        expected
    );
}

#[tokio::test]
async fn many_texts_at_once_are_all_said() {
    let synthesis = Synthesis::new(2).unwrap();
    let texts: Vec<_> = (0..20).map(|n| format!("This is caller number {n}.")).collect();
    let all = texts.iter().map(|text| said(&synthesis, text, Voice::EnUs));
    for audio in futures_util::future::join_all(all).await {
        assert!(audio.unwrap().len() > 8_000);
    }
}

#[tokio::test]
async fn awkward_words_are_survived() {
    let synthesis = Synthesis::new(1).unwrap();
    for text in [
        "a".repeat(5_000),
        "1".repeat(500),
        "1,000,000,000,000,000.00001".to_owned(),
        "http://example.com/a?b=c&d=%20#x mailto:a@b.c".to_owned(),
        "!?!?!?!?".repeat(100) + "a",
        "ÿþýüûúùø÷öõôóòñðïîíìëêéèçæåäãâáàß".to_owned(),
        "Dr. Smith, 5th Ave., Nov. 22nd 2026, 14:30, $5.99, +49 (0)30 1234-567".to_owned(),
        "'\"'\"'\"()()()-----".to_owned() + "x",
    ] {
        said(&synthesis, &text, Voice::EnUs).await.unwrap();
    }
}

/// One for all cases: what one text leaves behind must not trouble the next.
static SHARED: std::sync::LazyLock<Synthesis> = std::sync::LazyLock::new(|| Synthesis::new(1).unwrap());

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_synthesiser(text in "\\PC{0,120}", latin in "[ -~\u{a0}-\u{17f}]{0,120}", voice in 0usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for text in [text, latin] {
            runtime.block_on(said(&SHARED, &text, Voice::ALL[voice])).unwrap();
        }
        let audio = runtime.block_on(said(&SHARED, "Still here.", Voice::ALL[voice])).unwrap();
        prop_assert!(loudness(&audio) > 100.0);
    }
}
