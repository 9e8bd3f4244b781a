//! The JSON Web Tokens (RFC 7519) that Vonage takes: RS256 with the application's private key.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::json;
use service_kit::config::Secret;
use uuid::Uuid;

/// How long a token is good for, in seconds: each request has its own.
const LIFE_SECS: u64 = 60;

/// Signs tokens.
pub(crate) struct Signer {
    key: RsaKeyPair,
}

impl Signer {
    /// From a PEM private key, PKCS #8 (as Vonage makes them) or PKCS #1.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn new(pem: &Secret) -> Result<Self, &'static str> {
        // In an environment variable, line ends are often written as `\n`.
        let pem = pem.expose().replace("\\n", "\n");
        let (_, after) = pem.split_once("-----BEGIN ").ok_or("it is not PEM")?;
        let (label, after) = after.split_once("-----").ok_or("it is not PEM")?;
        let (body, _) = after.split_once("-----END ").ok_or("it is not PEM")?;
        let base64: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let der = STANDARD.decode(base64).map_err(|_| "its base64 is damaged")?;
        let key = match label {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            _ => return Err("it is not a private key"),
        };
        Ok(Self {
            key: key.map_err(|_| "it is not an RSA private key of 2048 bits or more")?,
        })
    }

    /// A token for one request.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub(crate) fn sign(&self, application_id: &str) -> Result<String, &'static str> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let claims = json!({
            "application_id": application_id,
            "iat": now,
            "exp": now + LIFE_SECS,
            "jti": Uuid::new_v4().to_string(),
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let done = self.key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        );
        done.map_err(|_| "the request could not be signed: no random numbers")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
