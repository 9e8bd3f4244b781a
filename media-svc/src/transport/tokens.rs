//! Tokens of sockets: what they vouch for, and that each is used once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use service_kit::config::MediaTransport;
use service_kit::http::ApiError;
use service_kit::token::{Claims, TokenError, TokenSigner};
use session_store::{StoreError, patiently};
use uuid::Uuid;

use super::Gate;
use crate::call::registry::transport_name;
use crate::metrics::TOKENS_REFUSED;

/// Why a token opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotRedeemed {
    /// There is none.
    #[error("this socket needs a token")]
    Missing,
    /// There is none, and without it nobody has counted the session.
    #[error("sessions are limited here (limits.*), so this socket needs a token")]
    Uncounted,
    /// It is none of ours.
    #[error(transparent)]
    Invalid(#[from] TokenError),
    /// It is for another kind of socket.
    #[error("this token is for another kind of socket")]
    Foreign,
    /// It was good until a while ago.
    #[error("token expired")]
    Expired(Box<Claims>),
    /// It was good once.
    #[error("this token was used before")]
    Used(Box<Claims>),
    /// Its session was ended before anybody came.
    #[error("the session of this token was ended")]
    Ended,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotRedeemed {
    /// What the token says, if it was good once: its stream may be on another node and want to go on.
    pub fn once_good(&self) -> Option<&Claims> {
        match self {
            Self::Expired(claims) | Self::Used(claims) => Some(claims),
            Self::Missing | Self::Uncounted | Self::Invalid(_) | Self::Foreign | Self::Ended | Self::Store(_) => None,
        }
    }

    /// Counts the refusal, and says it to whoever came.
    pub fn refuse(self) -> ApiError {
        if let Some(reason) = self.label() {
            TOKENS_REFUSED.with_label_values(&[reason]).inc();
        }
        self.into()
    }

    fn label(&self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Uncounted => Some("missing"),
            Self::Invalid(TokenError::Malformed) => Some("malformed"),
            Self::Invalid(TokenError::BadSignature) => Some("forged"),
            Self::Invalid(TokenError::Expired) | Self::Expired(_) => Some("expired"),
            Self::Foreign => Some("foreign"),
            Self::Used(_) => Some("used"),
            Self::Ended => Some("ended"),
            Self::Store(_) => None,
        }
    }
}

impl From<NotRedeemed> for ApiError {
    fn from(why: NotRedeemed) -> Self {
        match why {
            NotRedeemed::Store(error) => Self::unavailable(error.to_string()),
            NotRedeemed::Uncounted => Self::Forbidden(format!("{why}: ask POST /start for one")),
            NotRedeemed::Missing
            | NotRedeemed::Invalid(_)
            | NotRedeemed::Foreign
            | NotRedeemed::Expired(_)
            | NotRedeemed::Used(_)
            | NotRedeemed::Ended => Self::Forbidden(format!("{why}: ask the signaling service for a new one")),
        }
    }
}

impl Gate {
    /// What a token says, if it is good for this kind of socket. It can be used afterwards.
    ///
    /// # Errors
    /// [`NotRedeemed`]: 403 for a bad, expired or foreign token.
    pub fn read_token(&self, token: &str, transport: MediaTransport) -> Result<Claims, NotRedeemed> {
        let signer = TokenSigner::new(self.config.links.service_token.clone());
        let claims = signer.read(token)?;
        if claims.transport != transport_name(transport) {
            return Err(NotRedeemed::Foreign);
        }
        if claims.is_expired(SystemTime::now()) {
            return Err(NotRedeemed::Expired(Box::new(claims)));
        }
        Ok(claims)
    }

    /// Uses a token up that says this.
    ///
    /// # Errors
    /// [`NotRedeemed`]: 403 for a used token and for one whose session was ended, 503 when the store does not answer.
    pub async fn use_up(&self, token: &str, claims: &Claims) -> Result<(), NotRedeemed> {
        let now = SystemTime::now();
        let unix_now = now.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0);
        // Remembered a little longer than the token is valid, so that it cannot come back at its last moment.
        let remembered = Duration::from_secs(claims.expires_at.saturating_sub(unix_now) + 5);
        let socket = Uuid::new_v4().to_string();
        if !patiently(|| self.store.use_token(token, &socket, remembered)).await? {
            return Err(NotRedeemed::Used(Box::new(claims.clone())));
        }
        if patiently(|| self.store.is_void(&claims.session_id)).await? {
            return Err(NotRedeemed::Ended);
        }
        Ok(())
    }
}
