//! `voxray demo`: one phone call against the whole server in this process, shown as it happens.
//!
//! The caller speaks with another local voice than the agent's, and leaves a message that is a recording of a real
//! person. The demo succeeds only if the words were understood and every answer was audible.

mod display;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use archiver_svc::Row;
use media_svc::speech::{SpeechEngine, Voice};
use service_kit::config::Profile;
use service_kit::exit::{self, Fatal};

use crate::caller::{Call, Step};
use crate::cli::{ConfigArgs, DemoArgs};
use crate::single::SingleProcess;
use crate::{settings, wav};
use display::Display;

/// The message a real person leaves: a LibriVox reader with a sentence of Jane Austen (`testdata/speech/ORIGIN.md`).
const MESSAGE_WAV: &[u8] = include_bytes!("../../../testdata/speech/austen-0870.wav");
const MESSAGE_TEXT: &str = "and mister john dashwood had then leisure to consider how much there might be prudently in \
    his power to do for them";

/// The caller's other words, spoken by an American voice; the agent's is British.
const BEFORE: [&str; 2] = [
    "Hello, this is Robert Wilson. I would like to leave a message, please.",
    "You can reach me on two three four, seven six one eight.",
];
const AFTER: [&str; 2] = ["Yes, that is correct.", "No, thank you. Goodbye."];
const CALLER_VOICE: Voice = Voice::EnUs;
const AGENT_VOICE: &str = "en-GB";

/// Runs the demo; true when the caller was understood and answered.
///
/// # Errors
/// Models, folders or ports that cannot be had; a call that fails.
pub async fn run(arguments: &ConfigArgs, options: DemoArgs) -> anyhow::Result<bool> {
    let out = output_folder(&options)?;
    let settings = settings(arguments, &out)?;
    let process = SingleProcess::start(&settings.config, None).await?;
    let speech = process
        .media()
        .speech()
        .context("the demo needs stt_provider and tts_provider `local`")?
        .clone();
    let steps = script(&speech).await?;

    let display = Display::start(&process.base_url(), &out);
    let events = process.media().events();
    let call = Call::new(process.base_url(), steps).place();
    let (report, session_id) = display.while_calling(call, events).await;
    let report = report.context("the demo call failed")?;
    let session_id = session_id.context("the call never reached the media plane")?;
    let recording = out.join("heard-by-the-caller.wav");
    wav::write_stereo(&recording, &report.sent, &report.heard, wav::TELEPHONE_HZ)?;

    // Nothing is running any more: draining waits until the archive has everything.
    process.media().drain().await;
    let rows = rows(&process, &session_id).await?;
    let archived = find_recording(&out, &session_id)?;
    let verdict = verdict::judge(&report, &rows, &archived)?;
    display.summary(&rows, &archived, &verdict);
    process.stop().await;
    Ok(verdict.passed())
}

fn output_folder(options: &DemoArgs) -> Result<PathBuf, Fatal> {
    let out = options.out.clone().unwrap_or_else(|| {
        let id = service_kit::ids::session_id();
        std::env::temp_dir().join(format!("voxray-demo-{}", id.get(..8).unwrap_or(&id)))
    });
    std::fs::create_dir_all(&out).map_err(|error| {
        let what = format!("cannot make the folder {}: {error}", out.display());
        Fatal::new(
            exit::CANNOT_CREATE,
            what,
            "name a folder that can be written with --out",
        )
    })?;
    Ok(out)
}

/// The default configuration on a free loopback port, everything kept in one folder, only warnings logged.
fn settings(arguments: &ConfigArgs, out: &Path) -> Result<settings::Settings, Fatal> {
    let mut arguments = arguments.clone();
    let defaults = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("log_level", "warn"),
        ("recording.enable", "true"),
        ("transcripts.enable", "true"),
        ("transcripts.driver", "sqlite"),
        ("tts_voice", AGENT_VOICE),
    ];
    let mut set: Vec<_> = defaults.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    set.push(("data_dir".to_owned(), out.display().to_string()));
    set.append(&mut arguments.set);
    arguments.set = set;
    settings::load(&arguments, Profile::SingleProcess)
}

async fn script(speech: &Arc<SpeechEngine>) -> anyhow::Result<Vec<Step>> {
    let mut steps = vec![Step::answer()];
    for text in BEFORE {
        steps.push(say(speech, text).await?);
        steps.push(Step::answer());
    }
    steps.push(Step::Say {
        text: MESSAGE_TEXT.to_owned(),
        samples: wav::read(MESSAGE_WAV)?,
    });
    steps.push(Step::answer());
    let (last, before_last) = AFTER.split_last().context("the caller says something last")?;
    for text in before_last {
        steps.push(say(speech, text).await?);
        steps.push(Step::answer());
    }
    steps.push(say(speech, last).await?);
    steps.push(Step::WaitForHangUp {
        timeout: Duration::from_secs(30),
    });
    Ok(steps)
}

async fn say(speech: &Arc<SpeechEngine>, text: &str) -> anyhow::Result<Step> {
    let mut stream = speech.synthesise(text.to_owned(), CALLER_VOICE)?;
    let mut samples = Vec::new();
    while let Some(chunk) = stream.next().await {
        samples.extend(chunk?);
    }
    let samples = wav::resample(&samples, media_core::audio::RECOGNITION_RATE_HZ, wav::TELEPHONE_HZ)?;
    Ok(Step::Say {
        text: text.to_owned(),
        samples,
    })
}

async fn rows(process: &SingleProcess, session_id: &str) -> anyhow::Result<Vec<Row>> {
    let store = process
        .archiver()
        .transcripts()
        .context("transcripts are off: remove transcripts.enable=false")?;
    Ok(store.rows(session_id).await?)
}

/// The archive's file of this session below `recordings/YYYY/MM/DD/`.
fn find_recording(out: &Path, session_id: &str) -> anyhow::Result<PathBuf> {
    let wanted = format!("{session_id}.wav");
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == wanted.as_str()) {
                return Ok(path);
            }
        }
    }
    ensure!(false, "the archive has no recording {wanted} below {}", out.display());
    Ok(out.to_owned())
}
