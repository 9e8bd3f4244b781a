//! nginx in front of a deployment, with the configuration that is deployed.

use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{server_folder, tools};
use crate::process::{Process, Spec};
use crate::service::Service;

/// It listens within 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What differs between a container network and loopback ports. Every line must be found in the file.
const CONTAINER_LINES: [&str; 5] = [
    "pid /tmp/nginx.pid;",
    "    resolver 127.0.0.11 valid=5s ipv6=off;",
    "        listen 8080;",
    "        set $signaling signaling:8080;",
    "        set $media     media:8080;",
];

/// `nginx` on a free loopback port with `deploy/nginx/nginx.conf`: one address for signaling services and media nodes.
#[derive(Debug)]
pub struct Nginx {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it on this port in front of these services. The port is drawn before the services start, which are told
    /// what callers have to connect to.
    ///
    /// # Errors
    /// When nginx is missing, the configuration has changed beyond what is known here, or it does not start.
    pub async fn start(port: u16, signaling: &[Service], media: &[Service]) -> anyhow::Result<Self> {
        let folder = server_folder("nginx")?;
        let file = folder.path().join("nginx.conf");
        let config = configuration(port, &folder.path().display().to_string(), signaling, media)?;
        std::fs::write(&file, config).context("cannot write nginx.conf")?;
        let spec = Spec::new("nginx", tools::nginx()?)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder.path())
            .args(["-g", "daemon off;"]);
        let process = Process::spawn(spec, &folder.path().join("nginx.log"))?;
        let listens = || async {
            TcpStream::connect(("127.0.0.1", port))
                .await
                .map(drop)
                .context("cannot connect")
        };
        process.wait_until_ready(START_LIMIT, listens).await?;
        Ok(Self {
            port,
            _process: process,
            _folder: folder,
        })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn configuration(port: u16, folder: &str, signaling: &[Service], media: &[Service]) -> anyhow::Result<String> {
    let deployed = tools::workspace_root().join("deploy/nginx/nginx.conf");
    let mut config =
        std::fs::read_to_string(&deployed).with_context(|| format!("cannot read {}", deployed.display()))?;
    let replacements = [
        format!("pid {folder}/nginx.pid;"),
        format!(
            "    {}\n    {}",
            upstream("signaling", signaling),
            upstream("media", media)
        ),
        format!("        listen 127.0.0.1:{port};"),
        "        set $signaling signaling;".to_owned(),
        format!("        set $media     media;{}", node_paths(media)),
    ];
    for (line, replacement) in CONTAINER_LINES.into_iter().zip(replacements) {
        ensure!(
            config.contains(line),
            "{} has no line {line:?} any more",
            deployed.display()
        );
        config = config.replacen(line, &replacement, 1);
    }
    Ok(config)
}

/// `/{node}/telephony/ws/…` and `/{node}/ws` go to that node: what `media_public_url` with `{node}` needs of a front.
fn node_paths(media: &[Service]) -> String {
    let paths = media.iter().map(|service| {
        let (name, url) = (service.name(), service.url());
        format!(
            "\n        location ~ ^/{name}(/telephony/ws/.*|/ws)$ {{\n            proxy_pass {url}$1$is_args$args;\n            \
             proxy_read_timeout 3600s;\n        }}"
        )
    });
    paths.collect()
}

/// As a name with several addresses does in containers: taken in turn, and none is left out for what it answered.
fn upstream(name: &str, services: &[Service]) -> String {
    let servers = services.iter().map(|service| {
        let url = service.url();
        format!(" server {} max_fails=0;", url.trim_start_matches("http://"))
    });
    format!("upstream {name} {{{} }}", servers.collect::<String>())
}
