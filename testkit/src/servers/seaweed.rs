//! An S3 server: SeaweedFS in one process.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use tempfile::TempDir;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers after 1 to 2 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

const ACCESS_KEY: &str = "voxray-test";
const SECRET_KEY: &str = "voxray-test-secret";
const REGION: &str = "us-east-1";

/// Bucket and key of the object that shows whether the server is ready.
const READY: &str = "voxray-ready";

/// SeaweedFS on free loopback ports: checks signatures, refuses buckets that were not created.
#[derive(Debug)]
pub struct S3 {
    ports: Ports,
    process: Option<Process>,
    folder: TempDir,
    client: aws_sdk_s3::Client,
}

/// Every listener it has; each would otherwise take a fixed port.
#[derive(Debug)]
struct Ports {
    s3: u16,
    s3_grpc: u16,
    master: u16,
    master_grpc: u16,
    filer: u16,
    filer_grpc: u16,
    volume: u16,
    volume_grpc: u16,
    admin: u16,
    admin_grpc: u16,
}

impl S3 {
    /// Starts a server and waits until it stores an object and gives it back. It has one bucket, for that.
    ///
    /// # Errors
    /// When `weed` is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let ports = Ports::draw()?;
            let folder = server_folder("s3")?;
            write_identity(&folder)?;
            let mut server = Self {
                client: client(ports.s3),
                ports,
                process: None,
                folder,
            };
            server.kill_and_restart().await?;
            Ok(server)
        })
        .await
    }

    /// `http://127.0.0.1:PORT`; buckets are in the path, not in the host name.
    pub fn endpoint(&self) -> String {
        endpoint(self.ports.s3)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports.s3
    }

    /// Key id of the only identity; it may do everything.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Its secret.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Region to sign for.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// A client that is signed in.
    pub fn client(&self) -> &aws_sdk_s3::Client {
        &self.client
    }

    /// Creates a bucket.
    ///
    /// # Errors
    /// When the server refuses or is stopped.
    pub async fn create_bucket(&self, name: &str) -> anyhow::Result<()> {
        let sent = self.client.create_bucket().bucket(name).send().await;
        sent.map(drop).with_context(|| format!("cannot create bucket {name}"))
    }

    /// All bytes of an object.
    ///
    /// # Errors
    /// When it does not exist or the server is stopped.
    pub async fn object(&self, bucket: &str, key: &str) -> anyhow::Result<bytes::Bytes> {
        let sent = self.client.get_object().bucket(bucket).key(key).send().await;
        let object = sent.with_context(|| format!("cannot read {bucket}/{key}"))?;
        Ok(object.body.collect().await?.into_bytes())
    }

    /// Keys in a bucket below a prefix, in order, at most 1000.
    ///
    /// # Errors
    /// When the bucket does not exist or the server is stopped.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
        let sent = self.client.list_objects_v2().bucket(bucket).prefix(prefix).send().await;
        let list = sent.with_context(|| format!("cannot list {bucket}/{prefix}"))?;
        Ok(list
            .contents()
            .iter()
            .filter_map(|object| object.key().map(str::to_owned))
            .collect())
    }

    /// Kills it: connections break, later ones are refused, what was stored is kept.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it in the middle of whatever it does and starts it again on the same ports with the same data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.stop();
        let process = Process::spawn(self.spec()?, &self.folder.path().join("weed.log"))?;
        process
            .wait_until_ready(START_LIMIT, || store_and_read_back(&self.client))
            .await?;
        self.process = Some(process);
        Ok(())
    }

    fn spec(&self) -> anyhow::Result<Spec> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let ports = &self.ports;
        Ok(Spec::new("weed", tools::weed()?)
            // Its configuration is looked for in the home and working folder too.
            .folder(self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("S3_BUCKET")
            .args(["-logtostderr=true", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .arg(format!("-dir={}", path("data")))
            .arg(format!("-s3.config={}", path("identity.json")))
            .arg(format!("-filer.localSocket={}", path("filer.sock")))
            .arg(format!("-s3.localSocket={}", path("s3.sock")))
            .arg(format!("-admin.dataDir={}", path("admin")))
            .arg(format!("-s3.port={}", ports.s3))
            .arg(format!("-s3.port.grpc={}", ports.s3_grpc))
            .arg(format!("-master.port={}", ports.master))
            .arg(format!("-master.port.grpc={}", ports.master_grpc))
            .arg(format!("-filer.port={}", ports.filer))
            .arg(format!("-filer.port.grpc={}", ports.filer_grpc))
            .arg(format!("-volume.port={}", ports.volume))
            .arg(format!("-volume.port.grpc={}", ports.volume_grpc))
            .arg(format!("-admin.port={}", ports.admin))
            .arg(format!("-admin.port.grpc={}", ports.admin_grpc))
            .args([
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
            ])
            .args(["-s3.autoCreateBucket=false", "-master.telemetry=false"]))
    }
}

impl Ports {
    fn draw() -> anyhow::Result<Self> {
        Ok(Self {
            s3: free_port()?,
            s3_grpc: free_port()?,
            master: free_port()?,
            master_grpc: free_port()?,
            filer: free_port()?,
            filer_grpc: free_port()?,
            volume: free_port()?,
            volume_grpc: free_port()?,
            admin: free_port()?,
            admin_grpc: free_port()?,
        })
    }
}

fn endpoint(port: u16) -> String {
    format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
}

fn client(port: u16) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .endpoint_url(endpoint(port))
        .force_path_style(true)
        // Plain HTTP: no certificates are read.
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn write_identity(folder: &TempDir) -> anyhow::Result<()> {
    let identity = serde_json::json!({ "identities": [{
        "name": "test",
        "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }] });
    let file = folder.path().join("identity.json");
    std::fs::write(&file, identity.to_string()).context("cannot write the identities")?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    for data in ["data", "admin"] {
        std::fs::create_dir(folder.path().join(data)).context("cannot make the data folder")?;
    }
    Ok(())
}

/// It answers before its volumes are there, and what was stored before a restart is found later still: the same object
/// is read before it is written again.
async fn store_and_read_back(client: &aws_sdk_s3::Client) -> anyhow::Result<()> {
    let get = || client.get_object().bucket(READY).key(READY).send();
    match get().await {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.code(), Some("NoSuchBucket")) => {
            client.create_bucket().bucket(READY).send().await?;
        }
        Err(error) if matches!(error.code(), Some("NoSuchKey")) => {}
        Err(error) => bail!("{}", DisplayErrorContext(&error)),
    }
    let put = client
        .put_object()
        .bucket(READY)
        .key(READY)
        .body(READY.as_bytes().to_vec().into());
    put.send().await?;
    get().await?;
    Ok(())
}
