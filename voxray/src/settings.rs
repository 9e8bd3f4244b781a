//! Reads the configuration for a command and turns every problem into one message.

use std::collections::BTreeMap;
use std::sync::Arc;

use service_kit::config::{self, Config, Loaded, Profile, Sources};
use service_kit::exit::{self, Fatal};
use service_kit::tasks::TaskScope;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ConfigArgs;

/// A configuration ready to run with.
pub struct Settings {
    /// The typed configuration.
    pub config: Arc<Config>,
    /// Where it came from, for SIGHUP.
    pub sources: Sources,
}

/// Loads, prints warnings, and starts logging.
pub fn load(arguments: &ConfigArgs, profile: Profile) -> Result<Settings, Fatal> {
    let sources = sources(arguments);
    let loaded = load_from(&sources, profile)?;
    // Before the first line is logged.
    let node = loaded.config.media.node_id.clone();
    service_kit::telemetry::identify(&node.unwrap_or_else(service_kit::ids::node_id));
    service_kit::telemetry::init(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Settings {
        config: Arc::new(loaded.config),
        sources,
    })
}

/// Sources of this process with the flags of the command line.
pub fn sources(arguments: &ConfigArgs) -> Sources {
    let flags: BTreeMap<String, String> = arguments.set.iter().cloned().collect();
    Sources::from_process(arguments.config.clone(), flags)
}

/// Loads, with every problem in one message.
pub fn load_from(sources: &Sources, profile: Profile) -> Result<Loaded, Fatal> {
    Ok(config::load(sources, profile)?)
}

/// Hears SIGHUP from now on, before anything says that the process runs: not heard, it ends a process.
pub fn hangups() -> Result<Signal, Fatal> {
    signal(SignalKind::hangup()).map_err(|error| {
        Fatal::new(
            exit::SOFTWARE,
            format!("cannot listen to SIGHUP: {error}"),
            "start it again",
        )
    })
}

/// Re-reads API keys and the log level on SIGHUP for as long as the scope lives. A reload that fails keeps the old ones.
pub fn reload_on(mut hangup: Signal, settings: &Settings, scope: &TaskScope) {
    let (config, sources, watched) = (settings.config.clone(), settings.sources.clone(), scope.clone());
    scope.spawn("configuration reload", async move {
        loop {
            tokio::select! {
                () = watched.cancelled() => return,
                received = hangup.recv() => if received.is_none() { return },
            }
            match config::reload(&sources, &config) {
                Ok(level) => {
                    service_kit::telemetry::set_level(level);
                    tracing::info!(log_level = %level, "API keys and log level read again");
                }
                Err(error) => {
                    tracing::warn!(problems = ?error.problems, "API keys and log level not read again: old ones stay");
                }
            }
        }
    });
}
