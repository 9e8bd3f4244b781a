//! How failures of this service look to its clients.

use service_kit::http::ApiError;
use session_store::StoreError;
use tonic::Status;

use crate::placement::NoNode;

/// Why a session got no node.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The session store does not answer.
    #[error("the session store does not answer")]
    Store(#[from] StoreError),
    /// Nobody can take it.
    #[error(transparent)]
    NoNode(#[from] NoNode),
    /// No node has room, and the last one that had could not record the call: its own words.
    #[error("{0}")]
    NotRecorded(String),
    /// A node found the request itself wrong; no other would take it.
    #[error("a media node rejected the request")]
    Rejected(#[source] Status),
}

impl PlaceError {
    /// As an HTTP error; `field` is the one to blame when a node rejected the request.
    pub fn into_api(self, field: &str) -> ApiError {
        match self {
            Self::Store(error) => store_error(error),
            Self::NoNode(error) => ApiError::unavailable(error.to_string()),
            Self::NotRecorded(why) => ApiError::unavailable(why),
            Self::Rejected(status) => ApiError::invalid_field(field, status.message()),
        }
    }
}

/// 503: the client may come back.
pub fn store_error(error: StoreError) -> ApiError {
    tracing::warn!(%error, "a request failed because the session store did not answer");
    ApiError::unavailable("the session store does not answer")
}
