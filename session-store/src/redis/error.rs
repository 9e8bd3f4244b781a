//! Why Redis does not answer, and what to do about it; never with the URL and its password.

use ::redis::{ErrorKind, RedisError};

use crate::StoreError;

pub(super) fn unanswered(error: RedisError) -> StoreError {
    StoreError(why(&error))
}

/// The error as text.
pub(super) fn why(error: &RedisError) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    if wants_login(error) {
        return "it wants another user or password".to_owned();
    }
    match error.code() {
        Some("READONLY") => "it is a read-only replica".to_owned(),
        _ => error.to_string(),
    }
}

/// What an operator does about a first connection that did not come about.
pub(super) fn remedy(error: &RedisError, tls: bool) -> &'static str {
    if wants_login(error) {
        return "correct user and password in redis_url (VOXRAY_REDIS_URL), percent-encoded; sentinels have their own: ?sentinel_user=…&sentinel_password=…";
    }
    if error.code() == Some("NOPERM") {
        return "let this user of Redis do what docs/redis-keys.md lists";
    }
    // Of a cluster's errors only the text is left.
    let text = error.to_string().to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if error.kind() == ErrorKind::InvalidClientConfig || says(&["tls parameters", "unable to parse"]) {
        return "check redis_ca_file, redis_cert_file and redis_key_file: PEM, and the last two made for each other";
    }
    if says(&["invalid peer certificate"]) {
        return "set redis_ca_file (VOXRAY_REDIS_CA_FILE) to the authority that has signed the certificate of Redis, and name the server in redis_url as its certificate does";
    }
    // The handshake is over for a client by the time the server has looked at its certificate.
    let refused_in_tls = says(&["fatal alert"]) || (tls && says(&["reset", "broken pipe", "end of file"]));
    if refused_in_tls {
        return "Redis wants a certificate that its tls-ca-cert-file has signed: set redis_cert_file and redis_key_file (VOXRAY_REDIS_CERT_FILE, VOXRAY_REDIS_KEY_FILE), or tls-auth-clients no there";
    }
    "start Redis there or correct redis_url (VOXRAY_REDIS_URL), which begins with rediss for TLS; a single process needs none: session_store=memory"
}

fn wants_login(error: &RedisError) -> bool {
    let of_a_cluster = || error.to_string().contains("AuthenticationFailed");
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        || of_a_cluster()
}
