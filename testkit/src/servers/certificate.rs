//! Certificates for servers with TLS, and for services among themselves.

use std::path::Path;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use service_kit::config::PeerTlsFiles;

/// A certificate of its own authority for 127.0.0.1 and localhost.
#[derive(Debug, Clone)]
pub struct Certificate {
    pem: String,
    key_pem: String,
}

impl Certificate {
    /// Makes one.
    ///
    /// # Errors
    /// When the library cannot.
    pub fn new() -> anyhow::Result<Self> {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        Ok(Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        })
    }

    /// The certificate, which is the authority as well.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its private key.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// An authority, and a certificate of it for 127.0.0.1 that servers and clients show: files for `internal_tls.*`, and for
/// servers that want to see certificates.
///
/// # Errors
/// When the library cannot make them or the folder takes no files.
pub fn peer_certificates(folder: &Path) -> anyhow::Result<PeerTlsFiles> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of the same name, each would pass for self-signed with OpenSSL.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "peer");
    let own = params.signed_by(&key, &authority)?;
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    Ok(PeerTlsFiles {
        cert_file: file("cert.pem", own.pem())?,
        key_file: file("key.pem", key.serialize_pem())?,
        ca_file: file("ca.pem", authority.pem())?,
    })
}
