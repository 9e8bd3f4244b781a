//! TLS and a token in front of a gRPC server that asks for neither.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::certificate::Certificate;
use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

const START_LIMIT: Duration = Duration::from_secs(20);

/// nginx on a free loopback port that takes TLS off gRPC, and refuses whoever does not show the token.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    _process: Process,
    folder: TempDir,
}

impl TlsFront {
    /// In front of `http://127.0.0.1:PORT`, for who says `authorization: Bearer TOKEN`.
    ///
    /// # Errors
    /// When nginx is missing or does not start.
    pub async fn start(plain: &str, token: &str) -> anyhow::Result<Self> {
        let plain = plain.trim_start_matches("http://");
        start_with_fresh_ports(|| Self::try_start(plain, token)).await
    }

    async fn try_start(plain: &str, token: &str) -> anyhow::Result<Self> {
        let (port, folder) = (free_port()?, server_folder("tls-front")?);
        let certificate = Certificate::new()?;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("cert.pem", certificate.pem())?;
        write("key.pem", certificate.key_pem())?;
        write("nginx.conf", &configuration(port, folder.path(), plain, token))?;
        let spec = Spec::new("nginx", tools::nginx()?)
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .arg("-p")
            .arg(folder.path())
            .args(["-g", "daemon off;"]);
        let process = Process::spawn(spec, &folder.path().join("nginx.log"))?;
        let listens = || async {
            let connected = TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(drop).context("cannot connect")
        };
        process.wait_until_ready(START_LIMIT, listens).await?;
        Ok(Self {
            port,
            _process: process,
            folder,
        })
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its authority in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

fn configuration(port: u16, folder: &Path, plain: &str, token: &str) -> String {
    let folder = folder.display();
    format!(
        r#"pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    if ($http_authorization != "Bearer {token}") {{ return 403; }}
    location / {{ grpc_pass grpc://{plain}; }}
  }}
}}
"#
    )
}
