//! What the providers' APIs are asked and what came of it.

use std::sync::LazyLock;
use std::time::Instant;

use prometheus::{HistogramVec, IntCounterVec};
use service_kit::metrics;

use crate::Provider;
use crate::error::CarrierError;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "carrier_operations_total",
        "What phone providers were asked by REST, retries not counted, and what came of it.",
        &["provider", "operation", "outcome"],
    )
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::histogram_vec(
        "carrier_operation_duration_seconds",
        "Time of an operation at a phone provider, all attempts included.",
        &["provider", "operation"],
    )
});

static RETRIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "carrier_retries_total",
        "Requests to phone providers that were sent again.",
        &["provider"],
    )
});

/// What a provider can be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    HangUp,
    Transfer,
    SendDtmf,
    PlaceCall,
}

impl Operation {
    fn label(self) -> &'static str {
        match self {
            Self::HangUp => "hang_up",
            Self::Transfer => "transfer",
            Self::SendDtmf => "send_dtmf",
            Self::PlaceCall => "place_call",
        }
    }

    /// After "the provider cannot".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::HangUp => "end calls by its API",
            Self::Transfer => "transfer calls by its API",
            Self::SendDtmf => "send digits by its API",
            Self::PlaceCall => "place calls by its API",
        }
    }
}

/// An operation under way.
pub(crate) struct Timed {
    operation: Operation,
    provider: &'static str,
    started: Instant,
}

impl Timed {
    pub(crate) fn start(operation: Operation, provider: &str) -> Self {
        Self {
            operation,
            // Names come from outside; labels must not.
            provider: Provider::from_name(provider).map_or("other", Provider::name),
            started: Instant::now(),
        }
    }

    pub(crate) fn done<T>(self, result: Result<T, CarrierError>) -> Result<T, CarrierError> {
        let operation = self.operation.label();
        let outcome = result.as_ref().map_or_else(CarrierError::kind, |_| "ok");
        REQUESTS.with_label_values(&[self.provider, operation, outcome]).inc();
        DURATION
            .with_label_values(&[self.provider, operation])
            .observe(self.started.elapsed().as_secs_f64());
        result
    }
}

pub(crate) fn retried(provider: Provider) {
    RETRIES.with_label_values(&[provider.name()]).inc();
}
