//! From configuration to the three stages of an agent.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use media_core::dialogue::{Facts, Receptionist};
use service_kit::config::Config;
use service_kit::exit::{self, Fatal};

use super::Providers;
use super::local::{LocalLlm, LocalStt, LocalTts};
use super::openai::{OpenAi, OpenAiLlm, OpenAiStt, OpenAiTts};
use crate::speech::{SpeechEngine, Voice, models};

/// The stages of an agent, and the local speech engine when one of them uses it.
pub struct Agent {
    /// Recognition, answers, voice.
    pub providers: Providers,
    /// Local speech.
    pub speech: Option<Arc<SpeechEngine>>,
}

impl From<Providers> for Agent {
    fn from(providers: Providers) -> Self {
        Self {
            providers,
            speech: None,
        }
    }
}

/// Makes the configured providers; the local speech engine too when one of them needs it. Speech models are fetched
/// when they are not there, and loaded before this returns: who has an agent can serve the first caller at once.
///
/// # Errors
/// A key is missing, a voice is unknown, the facts file is wrong, models cannot be had or are damaged.
pub async fn build(config: &Config) -> Result<Agent, Fatal> {
    let agent = &config.agent;
    let engine = if needs_local_speech(config) {
        Some(start_engine(config).await?)
    } else {
        None
    };
    let cloud = Cloud::new(config);
    let providers = Providers {
        stt: match (agent.stt_provider.as_str(), &engine) {
            ("local", Some(engine)) => Arc::new(LocalStt::new(engine.clone())),
            (name, _) => Arc::new(OpenAiStt::new(cloud.openai(name, "stt_provider")?, config)?),
        },
        llm: match agent.llm_provider.as_str() {
            "local" => Arc::new(LocalLlm::new(Receptionist::new(facts(config)?))),
            name => Arc::new(OpenAiLlm::new(cloud.openai(name, "llm_provider")?, config)),
        },
        tts: match (agent.tts_provider.as_str(), &engine) {
            ("local", Some(engine)) => Arc::new(LocalTts::new(engine.clone(), voice(config)?)),
            (name, _) => Arc::new(OpenAiTts::new(cloud.openai(name, "tts_provider")?, config)),
        },
    };
    if let Some(engine) = &engine {
        warm_up(engine, voice(config)?).await?;
    }
    super::metrics::declare(
        &providers.stt.labels(),
        &providers.llm.labels(),
        &providers.tts.labels(),
    );
    Ok(Agent {
        providers,
        speech: engine,
    })
}

/// The voice of the `local` agent. Where somebody else speaks, `tts_voice` is none of ours.
fn voice(config: &Config) -> Result<Voice, Fatal> {
    let agent = &config.agent;
    let Some(name) = agent.tts_voice.as_ref().filter(|_| agent.tts_provider == "local") else {
        return Ok(Voice::default());
    };
    name.parse().map_err(|error| {
        Fatal::new(
            exit::CONFIG,
            format!("tts_voice: {error}"),
            "choose one of the local voices, or another tts_provider",
        )
    })
}

fn needs_local_speech(config: &Config) -> bool {
    config.agent.stt_provider == "local" || config.agent.tts_provider == "local"
}

async fn start_engine(config: &Config) -> Result<Arc<SpeechEngine>, Fatal> {
    let paths = speech_models().await?;
    let engine = SpeechEngine::new(paths, config.media.speech_threads)
        .map_err(|error| Fatal::new(exit::SOFTWARE, error.to_string(), "set media.speech_threads lower"))?;
    Ok(Arc::new(engine))
}

/// Loads the models and the voice into every thread.
async fn warm_up(engine: &SpeechEngine, voice: Voice) -> Result<(), Fatal> {
    let began = Instant::now();
    engine.warm_up(voice).await.map_err(|error| {
        Fatal::new(
            exit::MODELS,
            format!("local speech does not start: {error}"),
            "run `voxray models fetch`",
        )
    })?;
    tracing::info!(took_ms = began.elapsed().as_millis(), "speech models are loaded");
    Ok(())
}

async fn speech_models() -> Result<models::ModelPaths, Fatal> {
    let progress = models::Progress::detect();
    // A download takes minutes: it must not hold a worker of the runtime.
    tokio::task::spawn_blocking(move || models::ensure(&progress))
        .await
        .map_err(|error| {
            Fatal::new(
                exit::SOFTWARE,
                format!("fetching models failed: {error}"),
                "start it again",
            )
        })?
}

fn facts(config: &Config) -> Result<Facts, Fatal> {
    let Some(path) = &config.agent.local_facts_file else {
        return Ok(Facts::built_in());
    };
    let problem = |what: String| {
        Fatal::new(
            exit::NO_INPUT,
            format!("local.facts_file {}: {what}", path.display()),
            "see docs/local-agent.md",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    Facts::from_json(&text).map_err(|error| problem(error.to_string()))
}

/// Clients of cloud providers, made when the first stage asks and shared by all.
struct Cloud<'a> {
    config: &'a Config,
    openai: OnceCell<OpenAi>,
}

impl<'a> Cloud<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            openai: OnceCell::new(),
        }
    }

    fn openai(&self, name: &str, key: &str) -> Result<OpenAi, Fatal> {
        if name != "openai" {
            let what = format!("{key}: there is no provider named {name:?}");
            return Err(Fatal::new(exit::CONFIG, what, "choose `local` or `openai`"));
        }
        if let Some(made) = self.openai.get() {
            return Ok(made.clone());
        }
        let made = OpenAi::new(self.config)?;
        Ok(self.openai.get_or_init(|| made).clone())
    }
}
