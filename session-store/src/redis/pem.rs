//! What connections with TLS are checked and shown with.

use std::path::Path;

use ::redis::{ClientTlsConfig, TlsCertificates};
use service_kit::config::RedisTls;
use service_kit::exit::{self, Fatal};

/// The files of `redis_ca_file`, `redis_cert_file` and `redis_key_file`.
pub(super) struct Pem {
    /// Without, the usual public authorities.
    authority: Option<Vec<u8>>,
    /// Certificate chain of this service and its private key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Pem {
    pub(super) fn read(files: &RedisTls) -> Result<Self, Fatal> {
        let authority = files.ca_file.as_deref().map(|path| read("redis_ca_file", path));
        let identity = files.identity.as_ref().map(|(cert, key)| {
            let pair = (read("redis_cert_file", cert)?, read("redis_key_file", key)?);
            Ok::<_, Fatal>(pair)
        });
        Ok(Self {
            authority: authority.transpose()?,
            identity: identity.transpose()?,
        })
    }

    pub(super) fn certificates(&self) -> TlsCertificates {
        let identity = self.identity.clone();
        TlsCertificates {
            client_tls: identity.map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            }),
            root_cert: self.authority.clone(),
        }
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, Fatal> {
    std::fs::read(path).map_err(|error| {
        Fatal::new(
            exit::NO_INPUT,
            format!("{key} cannot be read: {}: {error}", path.display()),
            format!(
                "set {key} (VOXRAY_{}) to a file in PEM that this service may read",
                key.to_uppercase()
            ),
        )
    })
}
