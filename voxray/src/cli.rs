//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Real-time voice agents: speech in, an answer out, for phones and browsers.
///
/// Without a command: the whole server in one process (memory store, SQLite, local folder) on port 8080.
#[derive(Debug, Parser)]
#[command(name = "voxray", version, after_help = EXIT_STATUS)]
pub struct Cli {
    /// Configuration, for every command that runs something.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What to do; `serve` when missing.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// JSON configuration file (else $VOXRAY_CONFIG, else ./config.json if it is there).
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Sets one key, over file and environment; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// One thing to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, until Ctrl-C (the default).
    Serve,
    /// Starts everything on free loopback ports, places one phone call and shows it as it happens.
    Demo(DemoArgs),
    /// Places a phone call as a provider would against a server: plays a WAV, keeps what was heard.
    Call(CallArgs),
    /// Runs the signaling service: HTTP API, webhooks, choice of a media node.
    Signaling,
    /// Runs a media node: calls.
    Media,
    /// Runs the archiver: recordings and transcripts.
    Archiver,
    /// Prints the effective configuration with the source of each value, secrets masked.
    Config(ConfigPrintArgs),
    /// Local speech models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Asks a health URL; exit status 0 when it answers 200 (for containers without a shell).
    Health {
        /// `http://127.0.0.1:8080/health`
        url: String,
    },
}

/// `voxray demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the recording and the database; default: a new one in the system's temporary folder.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// `voxray call`
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Base URL of the server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Phone provider to act as.
    #[arg(long, default_value = "twilio", value_parser = ["twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"])]
    pub provider: String,
    /// What the server knows the provider by, when it checks: Twilio's auth token, the secret in Exotel's URL, the API
    /// key of Genesys; default for Twilio: $TWILIO_AUTH_TOKEN, for Genesys: $GENESYS_API_KEY.
    #[arg(long)]
    pub auth_token: Option<String>,
    /// Client secret with which Genesys signs its connections, in base64.
    #[arg(long, env = "GENESYS_CLIENT_SECRET", hide_env_values = true)]
    pub client_secret: Option<String>,
    /// Where to write what the caller heard (left: sent, right: heard).
    #[arg(long, default_value = "call.wav")]
    pub out: PathBuf,
    /// What the caller says: one or more WAV files, each after the agent has finished speaking.
    #[arg(required = true, value_name = "FILE.wav")]
    pub files: Vec<PathBuf>,
}

/// `voxray config`
#[derive(Debug, Args)]
pub struct ConfigPrintArgs {
    /// Prints the JSON Schema for editors instead.
    #[arg(long, conflicts_with = "markdown")]
    pub schema: bool,
    /// Prints the table of keys as Markdown instead.
    #[arg(long)]
    pub markdown: bool,
}

/// `voxray models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Fetches the local speech models unless they are there, and checks every file.
    Fetch,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done, 1 a call, the demo or a health check failed, 64 wrong command line or configuration, 66 a named file is missing or not what it has to be, \
69 something needed does not answer (Redis, SQL, S3), 70 a bug, 73 a port is taken or a folder cannot be written, \
74 speech models could not be fetched or are damaged.";

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

/// `-config` is the original server's spelling of `--config`.
pub fn normalised_arguments() -> Vec<std::ffi::OsString> {
    std::env::args_os()
        .map(|argument| match argument.to_str() {
            Some("-config") => "--config".into(),
            Some(text) if text.starts_with("-config=") => format!("-{text}").into(),
            Some(_) | None => argument,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// The page is what people copy from.
    #[test]
    fn every_providers_page_has_a_line_that_is_a_call_of_that_provider() {
        let page = include_str!("../../docs/telephony.md");
        let lines: Vec<_> = page
            .split('`')
            .filter(|code| code.starts_with("voxray call --provider "))
            .collect();
        let mut providers = Vec::new();
        for line in &lines {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            let parsed = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            let Some(Command::Call(call)) = parsed.command else {
                panic!("{line}: {:?}", parsed.command)
            };
            assert_eq!(call.files, [PathBuf::from("hello.wav")], "{line}");
            providers.push(call.provider);
        }
        assert_eq!(providers, ["twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"]);
    }
}
