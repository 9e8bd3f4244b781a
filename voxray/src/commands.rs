//! The small commands: call, config, models, health.

use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use media_core::wire::telephony::Provider;
use media_svc::speech::models;
use service_kit::config::{self, Profile};
use service_kit::exit::{self, Fatal};

use crate::caller::{Call, Step, rms};
use crate::cli::{CallArgs, ConfigArgs, ConfigPrintArgs};
use crate::{settings, wav};

/// `voxray call`: plays the files one after another, each after the agent has finished; keeps what was heard.
#[expect(clippy::print_stdout, reason = "the result is for the person who asked")]
pub async fn call(options: CallArgs) -> anyhow::Result<()> {
    let mut steps = vec![Step::answer()];
    for path in &options.files {
        if !path.is_file() {
            let remedy = "give the path of an existing WAV file";
            return Err(Fatal::new(exit::NO_INPUT, format!("{} is not a file", path.display()), remedy).into());
        }
        let samples = wav::read_file(path).map_err(|error| {
            let remedy =
                "give a WAV file with 16-bit or float samples at 8000 Hz or more (ffmpeg -i IN -c:a pcm_s16le OUT.wav)";
            Fatal::new(exit::NO_INPUT, format!("{error:#}"), remedy)
        })?;
        steps.push(Step::Say {
            text: path.display().to_string(),
            samples,
        });
        steps.push(Step::answer());
    }
    let provider = Provider::from_name(&options.provider).unwrap_or(Provider::Twilio);
    let variable = match provider {
        Provider::Twilio => Some("TWILIO_AUTH_TOKEN"),
        Provider::Genesys => Some("GENESYS_API_KEY"),
        Provider::Telnyx | Provider::Plivo | Provider::Exotel | Provider::Vonage => None,
    };
    let from_environment = || variable.and_then(|name| std::env::var(name).ok());
    let call = Call {
        provider,
        auth_token: options.auth_token.clone().or_else(from_environment),
        client_secret: options.client_secret.clone(),
        ..Call::new(options.url.clone(), steps)
    };
    let progress = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}")?);
    progress.set_message(format!("on the line with {}", options.url));
    progress.enable_steady_tick(Duration::from_millis(200));
    let report = call.place().await;
    progress.finish_and_clear();
    let report = report?;
    wav::write_stereo(&options.out, &report.sent, &report.heard, wav::TELEPHONE_HZ)?;
    let seconds = Duration::from_millis(20 * report.sent.len() as u64 / 160).as_secs_f64();
    println!("call {} on {}: {seconds:.1} s", report.call_id, report.media_host);
    println!(
        "heard {:.0} RMS; written to {} (left sent, right heard)",
        rms(&report.heard),
        options.out.display()
    );
    Ok(())
}

/// `voxray config`.
pub fn config(arguments: &ConfigArgs, options: &ConfigPrintArgs) -> anyhow::Result<String> {
    if options.schema {
        return Ok(config::json_schema_text().trim_end().to_owned());
    }
    if options.markdown {
        return Ok(config::markdown().trim_end().to_owned());
    }
    let loaded = settings::load_from(&settings::sources(arguments), Profile::SingleProcess)?;
    let widest = loaded.effective.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let lines: Vec<_> = loaded
        .effective
        .iter()
        .map(|(key, value, source)| format!("{key:widest$}  {value}  ({source})"))
        .chain(loaded.warnings.iter().map(|warning| format!("warning: {warning}")))
        .collect();
    Ok(lines.join("\n"))
}

/// `voxray models fetch`.
#[expect(clippy::print_stdout, reason = "the result is for the person who asked")]
pub fn fetch_models() -> anyhow::Result<()> {
    models::fetch(&models::Progress::detect())?;
    println!("speech models are complete in {}", models::cache_folder()?.display());
    Ok(())
}

/// `voxray health`.
pub async fn health(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build()?;
    let response = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    if !response.status().is_success() {
        bail!("{url} answered {}", response.status());
    }
    Ok(())
}
