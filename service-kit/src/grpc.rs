//! Trust between services: the `service_token` on every internal gRPC call.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config::Secret;

/// Adds `authorization: Bearer <service_token>` to every request of a client.
#[derive(Clone)]
pub struct AttachToken(Option<MetadataValue<Ascii>>);

impl AttachToken {
    /// For this token; an empty one attaches nothing.
    pub fn new(token: &Secret) -> Self {
        Self(
            format!("Bearer {}", token.expose())
                .parse()
                .ok()
                .filter(|_| !token.is_empty()),
        )
    }
}

impl Interceptor for AttachToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Refuses requests without the right `service_token` with `UNAUTHENTICATED`.
#[derive(Clone)]
pub struct RequireToken(Secret);

impl RequireToken {
    /// For this token.
    pub fn new(token: &Secret) -> Self {
        Self(token.clone())
    }
}

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        use subtle::ConstantTimeEq;
        let expected = format!("Bearer {}", self.0.expose());
        let given = request
            .metadata()
            .get("authorization")
            .map(|v| v.as_bytes())
            .unwrap_or_default();
        if bool::from(given.ct_eq(expected.as_bytes())) {
            Ok(request)
        } else {
            Err(Status::unauthenticated(
                "service_token missing or wrong: all services need the same one",
            ))
        }
    }
}
