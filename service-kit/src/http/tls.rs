//! The certificate of the public listener, read again when its files change.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;
use crate::exit::{Fatal, NO_INPUT};

/// How often the files are looked at. Renewals happen weeks before expiry: seconds do not matter.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("{file}: {source}")]
    File {
        file: String,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate file holds none.
    #[error("{0}: no certificate in it")]
    Empty(String),
    /// They do not fit together.
    #[error("certificate and key do not work together: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// Certificate and key files with the server configuration made of them.
pub(super) struct CertificateFiles {
    files: Tls,
    seen: [Option<SystemTime>; 2],
    config: RustlsConfig,
}

impl CertificateFiles {
    /// Reads both files.
    pub(super) fn load(files: &Tls) -> Result<Self, Fatal> {
        let seen = modified(files);
        let config = server_config(files).map_err(|error| {
            Fatal::new(
                NO_INPUT,
                format!("cannot use the TLS certificate: {error}"),
                "check tls_cert_file and tls_key_file: both PEM, readable, and made for each other",
            )
        })?;
        Ok(Self {
            files: files.clone(),
            seen,
            config: RustlsConfig::from_config(config),
        })
    }

    /// The live configuration: its clones follow every reload.
    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Looks at the files until dropped.
    pub(super) async fn watch(mut self) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.reload_if_changed();
        }
    }

    /// Replaces the certificate when a file's time changed. A bad pair (a renewal that is half written) is kept out
    /// and tried again at the next look; connections that are open keep theirs.
    fn reload_if_changed(&mut self) -> bool {
        let now = modified(&self.files);
        if now == self.seen {
            return false;
        }
        match server_config(&self.files) {
            Ok(config) => {
                self.config.reload_from_config(config);
                self.seen = now;
                tracing::info!(file = %self.files.cert_file.display(), "TLS certificate read again");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the changed TLS certificate cannot be used; the old one stays");
                false
            }
        }
    }
}

fn modified(files: &Tls) -> [Option<SystemTime>; 2] {
    [&files.cert_file, &files.key_file].map(|file| std::fs::metadata(file).and_then(|data| data.modified()).ok())
}

fn server_config(files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |file: &Path| {
        let file = file.display().to_string();
        move |source| TlsError::File { file, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(&files.cert_file))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(files.cert_file.display().to_string()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(failed(&files.key_file))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a fresh pair, dated `age` seconds after the epoch so that no two writes share a time.
    fn write_pair(files: &Tls, age: u64) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write(&files.cert_file, &made.cert.pem(), age);
        write(&files.key_file, &made.signing_key.serialize_pem(), age);
    }

    fn write(path: &Path, text: &str, age: u64) {
        std::fs::write(path, text).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age))
            .unwrap();
    }

    fn files(folder: &tempfile::TempDir) -> Tls {
        Tls {
            cert_file: folder.path().join("cert.pem"),
            key_file: folder.path().join("key.pem"),
        }
    }

    #[test]
    fn a_renewed_certificate_is_served_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(&files(&folder), 1);
        let mut watched = CertificateFiles::load(&files(&folder)).unwrap();
        let served = watched.config();
        let before = served.get_inner();

        assert!(!watched.reload_if_changed());
        write_pair(&files(&folder), 2);
        assert!(watched.reload_if_changed());

        assert!(!Arc::ptr_eq(&before, &served.get_inner()));
        assert!(!watched.reload_if_changed());
    }

    #[test]
    fn a_renewal_that_is_half_written_keeps_the_old_pair_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(&files(&folder), 1);
        let mut watched = CertificateFiles::load(&files(&folder)).unwrap();
        let before = watched.config().get_inner();

        write(&files(&folder).cert_file, "-----BEGIN CERT", 2);
        assert!(!watched.reload_if_changed());
        assert!(Arc::ptr_eq(&before, &watched.config().get_inner()));

        write_pair(&files(&folder), 3);
        assert!(watched.reload_if_changed());
    }
}
