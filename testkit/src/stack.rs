//! The whole deployment as real processes: Redis, PostgreSQL, S3, and the three services of the `voxray` command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use service_kit::config::PeerTlsFiles;
use tempfile::TempDir;

use crate::environment::{Whose, hide_settings};
use crate::ports::free_port;
use crate::process::Spec;
use crate::relay::Relay;
use crate::servers::{Postgres, Redis, S3, peer_certificates, says_port_taken};
use crate::service::{Role, Service};

/// Times the services are started again on other ports because somebody else took one in between.
const START_ATTEMPTS: usize = 5;

/// What to start.
#[derive(Debug, Clone)]
pub struct StackBuilder {
    signaling: usize,
    media: usize,
    archivers: usize,
    relays: bool,
    internal_tls: bool,
    operators: bool,
    binary: Option<PathBuf>,
    run_by: Vec<(Role, Vec<String>)>,
    inherit_settings: bool,
    env: Vec<(Whose, String, String)>,
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            signaling: 2,
            media: 2,
            archivers: 1,
            relays: false,
            internal_tls: false,
            operators: false,
            binary: None,
            run_by: Vec::new(),
            inherit_settings: false,
            env: Vec::new(),
        }
    }
}

impl StackBuilder {
    /// Two signaling services, two media nodes, one archiver, nothing inherited from this process's environment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of signaling services.
    #[must_use]
    pub fn signaling(mut self, count: usize) -> Self {
        self.signaling = count;
        self
    }

    /// Number of media nodes.
    #[must_use]
    pub fn media(mut self, count: usize) -> Self {
        self.media = count;
        self
    }

    /// Number of archivers; media nodes use the first that runs, through a relay.
    #[must_use]
    pub fn archivers(mut self, count: usize) -> Self {
        self.archivers = count;
        self.relays = true;
        self
    }

    /// Puts relays before S3 and before the archivers, which can be told to fail.
    #[must_use]
    pub fn relays(mut self) -> Self {
        self.relays = true;
        self
    }

    /// Has all internal gRPC be mutual TLS.
    #[must_use]
    pub fn internal_tls(mut self) -> Self {
        self.internal_tls = true;
        self
    }

    /// Gives every service a listener for operators.
    #[must_use]
    pub fn operators(mut self) -> Self {
        self.operators = true;
        self
    }

    /// Has another program run the services of a role: the command and its first arguments.
    #[must_use]
    pub fn run_by(mut self, role: Role, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.run_by.push((role, command.into_iter().map(Into::into).collect()));
        self
    }

    /// The `voxray` command to run; by default the one built next to this program.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Lets provider keys and `VOXRAY_*` settings of this process through. Tests must not depend on those.
    #[must_use]
    pub fn inherit_settings(mut self) -> Self {
        self.inherit_settings = true;
        self
    }

    /// Sets a variable for every service; wins over what the stack itself sets.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((Whose::Everybody, key.into(), value.into()));
        self
    }

    /// Sets a variable for the services of one role.
    #[must_use]
    pub fn env_for(mut self, role: Role, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((Whose::Role(role), key.into(), value.into()));
        self
    }

    /// Sets a variable for one service, by its name (`media-1`); wins over what was set for more of them before.
    #[must_use]
    pub fn env_of(mut self, name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((Whose::One(name.into()), key.into(), value.into()));
        self
    }

    /// Starts the servers side by side, then archiver, media nodes and signaling, each ready before the next kind.
    ///
    /// # Errors
    /// When something is missing or does not start; the message holds the last lines of its log.
    pub async fn start(self) -> anyhow::Result<Stack> {
        let binary = match self.binary.clone() {
            Some(binary) => binary,
            None => voxray_binary()?,
        };
        let (redis, postgres, s3) = tokio::try_join!(Redis::start(), Postgres::start(), S3::start())?;
        let transcripts_dsn = postgres.create_database("voxray").await?;
        let bucket = "recordings".to_owned();
        s3.create_bucket(&bucket).await?;
        let folder = tempfile::Builder::new().prefix("voxray-stack-").tempdir()?;
        let relays = if self.relays {
            Some(Relays::start(&s3).await?)
        } else {
            None
        };
        let internal_tls = if self.internal_tls {
            Some(peer_certificates(&folder.path().join("tls"))?)
        } else {
            None
        };
        let mut stack = Stack {
            signaling: Vec::new(),
            media: Vec::new(),
            archiver: Vec::new(),
            service_token: format!("{:032x}", rand::random::<u128>()),
            transcripts_dsn,
            bucket,
            relays,
            internal_tls,
            redis,
            postgres,
            s3,
            folder,
        };
        let mut attempt = 1;
        loop {
            match stack.start_services(&self, &binary).await {
                Err(error) if attempt < START_ATTEMPTS && says_port_taken(&error) => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(stack),
            }
        }
    }
}

/// A running deployment. Dropping it kills everything; [`stop`](Self::stop) ends it politely.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order: services before the servers they stand on.
    /// Signaling services.
    pub signaling: Vec<Service>,
    /// Media nodes.
    pub media: Vec<Service>,
    /// The archiver; a list, because more may be wanted.
    pub archiver: Vec<Service>,
    /// Secret of all internal gRPC.
    pub service_token: String,
    /// Where transcripts are written.
    pub transcripts_dsn: String,
    /// Where recordings are written.
    pub bucket: String,
    /// Present when asked for.
    pub relays: Option<Relays>,
    /// What services show each other, when asked for.
    pub internal_tls: Option<PeerTlsFiles>,
    /// Redis.
    pub redis: Redis,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// S3.
    pub s3: S3,
    folder: TempDir,
}

/// What stands between the services, and can be told to fail.
#[derive(Debug)]
pub struct Relays {
    /// Between archivers and S3.
    pub s3: Relay,
    /// Between media nodes and archivers.
    pub archive: Relay,
}

impl Relays {
    async fn start(s3: &S3) -> anyhow::Result<Self> {
        let relays = Self {
            s3: Relay::start().await?,
            archive: Relay::start().await?,
        };
        relays.s3.set_targets([s3.port()]);
        Ok(relays)
    }
}

impl Stack {
    /// What to start.
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }

    /// The folder with the logs (`NAME.log`) and a folder for each service's own data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.signaling.iter().chain(&self.media).chain(&self.archiver)
    }

    /// Waits until a service ends that nobody asked to, and says which and why.
    pub async fn unexpected_end(&self) -> anyhow::Error {
        const LOOK: Duration = Duration::from_millis(200);
        loop {
            for service in self.services() {
                let ended = service
                    .process()
                    .and_then(|process| Ok((process.exited()?, process.log_tail())));
                match ended {
                    Ok((None, _)) => {}
                    Ok((Some(status), said)) => {
                        return anyhow::anyhow!("{} ended with {status}; it said:\n{said}", service.name());
                    }
                    Err(error) => return error,
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends everything in order: no new calls, then the calls, then what they left to archive, then the servers.
    /// Each service gets `limit` to end after SIGTERM, the same kind side by side.
    ///
    /// # Errors
    /// When a service had to be killed or failed; everything is gone all the same.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<()> {
        let mut first_error = None;
        for services in [&mut self.signaling, &mut self.media, &mut self.archiver] {
            let results = futures_util::future::join_all(services.iter_mut().map(|service| service.stop(limit))).await;
            first_error = first_error.or(results.into_iter().find_map(Result::err));
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn start_services(&mut self, plan: &StackBuilder, binary: &Path) -> anyhow::Result<()> {
        // An earlier attempt's services go first: they hold names and disks.
        self.signaling.clear();
        self.media.clear();
        self.archiver.clear();

        let internal = if self.internal_tls.is_some() { "https" } else { "http" };
        let archiver_ports = (0..plan.archivers.max(1)).map(|_| free_port());
        let archiver_ports = archiver_ports.collect::<anyhow::Result<Vec<_>>>()?;
        let (archiver_url, s3_endpoint) = match &self.relays {
            Some(relays) => {
                relays.archive.set_targets(archiver_ports.iter().copied());
                (
                    format!("{internal}://{}", relays.archive.address()),
                    format!("http://{}", relays.s3.address()),
                )
            }
            None => {
                let port = archiver_ports.first().copied().unwrap_or_default();
                (format!("{internal}://127.0.0.1:{port}"), self.s3.endpoint())
            }
        };
        let archivers = archiver_ports.iter().zip(1..).map(|(port, number)| {
            self.service(plan, binary, Role::Archiver, format!("archiver-{number}"), |spec, _| {
                Ok(self.archiver_settings(spec, *port, &s3_endpoint))
            })
        });
        let archivers = archivers.collect::<anyhow::Result<Vec<_>>>()?;
        self.archiver = start_all(archivers).await?;

        let media = (1..=plan.media).map(|number| {
            let name = format!("media-{number}");
            self.service(plan, binary, Role::Media, name.clone(), |spec, port| {
                let control_port = free_port()?;
                let spec = spec
                    .env("VOXRAY_MEDIA_NODE_ID", name)
                    .env("VOXRAY_MEDIA_CONTROL_PORT", control_port.to_string())
                    .env("VOXRAY_MEDIA_UDP_PORT", "0")
                    .env(
                        "VOXRAY_MEDIA_CONTROL_URL",
                        format!("{internal}://127.0.0.1:{control_port}"),
                    )
                    .env("VOXRAY_MEDIA_ADVERTISE_URL", format!("ws://127.0.0.1:{port}"))
                    .env("VOXRAY_ARCHIVER_URL", &archiver_url);
                Ok(spec)
            })
        });
        let media = media.collect::<anyhow::Result<Vec<_>>>()?;
        self.media = start_all(media).await?;

        let signaling = (1..=plan.signaling).map(|number| {
            self.service(
                plan,
                binary,
                Role::Signaling,
                format!("signaling-{number}"),
                |spec, _| Ok(spec.env("VOXRAY_ARCHIVER_URL", &archiver_url)),
            )
        });
        let signaling = signaling.collect::<anyhow::Result<Vec<_>>>()?;
        // Ready only when a media node accepts calls, so these come last.
        self.signaling = start_all(signaling).await?;
        Ok(())
    }

    fn archiver_settings(&self, spec: Spec, port: u16, s3_endpoint: &str) -> Spec {
        spec.env("VOXRAY_ARCHIVER_PORT", port.to_string())
            .env("VOXRAY_TRANSCRIPTS_DSN", &self.transcripts_dsn)
            .env("VOXRAY_S3_ENDPOINT", s3_endpoint)
            .env("VOXRAY_S3_REGION", self.s3.region())
            .env("VOXRAY_S3_FORCE_PATH_STYLE", "true")
            .env("AWS_ACCESS_KEY_ID", self.s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key())
    }

    fn service(
        &self,
        plan: &StackBuilder,
        binary: &Path,
        role: Role,
        name: String,
        settings: impl FnOnce(Spec, u16) -> anyhow::Result<Spec>,
    ) -> anyhow::Result<Service> {
        let port = free_port()?;
        let home = self.folder.path().join(&name);
        std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let spec = Spec::new(&name, binary).arg(role.name()).folder(&home);
        let mut spec = hide_settings(spec, plan.inherit_settings)
            .env("VOXRAY_HOST", "127.0.0.1")
            .env("VOXRAY_PORT", port.to_string())
            .env("VOXRAY_DATA_DIR", home.join("data"))
            .env("VOXRAY_SERVICE_TOKEN", &self.service_token)
            .env("VOXRAY_SESSION_STORE", "redis")
            .env("VOXRAY_REDIS_URL", self.redis.url())
            .env("VOXRAY_RECORDING_ENABLE", "true")
            .env("VOXRAY_RECORDING_BUCKET", &self.bucket)
            .env("VOXRAY_TRANSCRIPTS_ENABLE", "true")
            .env("VOXRAY_TRANSCRIPTS_DRIVER", "postgres")
            // A machine that builds and tests at the same time would be found too slow.
            .env("VOXRAY_MEDIA_MEASURE_CAPACITY", "false");
        if let Some(files) = &self.internal_tls {
            spec = spec
                .env("VOXRAY_INTERNAL_TLS_CERT_FILE", &files.cert_file)
                .env("VOXRAY_INTERNAL_TLS_KEY_FILE", &files.key_file)
                .env("VOXRAY_INTERNAL_TLS_CA_FILE", &files.ca_file);
        }
        spec = settings(spec, port)?;
        for (_, key, value) in plan.env.iter().filter(|(whose, _, _)| whose.includes(role, &name)) {
            spec = spec.env(key, value);
        }
        for (_, command) in plan.run_by.iter().filter(|(only, _)| *only == role) {
            let (program, arguments) = command.split_first().context("an empty command")?;
            spec = spec.run_by(program, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let log = self.folder.path().join(format!("{name}.log"));
        let service = Service::new(role, name, port, spec, log);
        Ok(if plan.operators {
            service.with_operators_port(free_port()?)
        } else {
            service
        })
    }
}

/// Starts services of one kind side by side.
async fn start_all(mut services: Vec<Service>) -> anyhow::Result<Vec<Service>> {
    for service in &mut services {
        service.spawn()?;
    }
    for service in &services {
        service.wait_until_ready().await?;
    }
    Ok(services)
}

/// The `voxray` command of the same build profile as this program.
///
/// # Errors
/// When it has not been built.
pub fn voxray_binary() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("VOXRAY_BIN") {
        return Ok(PathBuf::from(binary));
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // target/debug/stack or target/debug/deps/some_test-0123
    let candidates = program.ancestors().skip(1).take(2).map(|folder| folder.join("voxray"));
    let mut tried = Vec::new();
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
        tried.push(candidate.display().to_string());
    }
    bail!(
        "the voxray command is not built: run `cargo build --workspace` (looked for {})",
        tried.join(", ")
    )
}
