//! The `voxray` command.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the part that talks to a terminal"
)]

use std::process::ExitCode;

use clap::Parser;
use service_kit::config::Profile;
use service_kit::exit::{self, Fatal};
use voxray::cli::{Cli, Command, ModelsCommand, normalised_arguments};
use voxray::{commands, demo, services, settings, single};

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(normalised_arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong {
                ExitCode::from(exit::CONFIG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("voxray: cannot start: {error}");
            return ExitCode::from(exit::SOFTWARE);
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("voxray: {}", describe(&error));
            ExitCode::from(error.downcast_ref::<Fatal>().map_or(1, |fatal| fatal.status))
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let arguments = &cli.config;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => single::serve(settings::load(arguments, Profile::SingleProcess)?).await?,
        Command::Signaling => services::signaling(settings::load(arguments, Profile::Service)?).await?,
        Command::Media => services::media(settings::load(arguments, Profile::Service)?).await?,
        Command::Archiver => services::archiver(settings::load(arguments, Profile::Archiver)?).await?,
        Command::Demo(options) => {
            let passed = demo::run(arguments, options).await?;
            return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Call(options) => commands::call(options).await?,
        Command::Config(options) => println!("{}", commands::config(arguments, &options)?),
        Command::Models(ModelsCommand::Fetch) => commands::fetch_models()?,
        Command::Health { url } => commands::health(&url).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The error and its causes on one line each.
fn describe(error: &anyhow::Error) -> String {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes.join("\n  because: ")
}
