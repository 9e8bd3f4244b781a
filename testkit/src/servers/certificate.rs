//! Certificates for servers with TLS.

use anyhow::Context;

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
