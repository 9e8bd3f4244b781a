//! Traces by OTLP (gRPC): one a call, off unless `otlp.endpoint` is set.
//!
//! A span is made where something begins and ends with the value, and it knows its parent: calls run in many tasks, so
//! there is no "current" span. While traces are off, or a call is not sampled, spans are empty and cost a branch.
//! Attributes name sessions, providers and models, and never what was said or who called.
//!
//! Between services the parent travels as W3C Trace Context (<https://www.w3.org/TR/trace-context/>): in the metadata of
//! a request, and inside the event where one stream carries many calls.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tonic::metadata::{Ascii, AsciiMetadataValue, MetadataKey, MetadataMap};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::config::Otlp;
use crate::exit::{CONFIG, Fatal, NO_INPUT};

/// Metadata key of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
/// Ended spans waiting to be sent; when full, further ones are dropped (a trace is incomplete, a call never waits).
const WAITING_SPANS: usize = 8192;
/// Spans wait no longer than this before they are sent.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// A collector that takes longer has lost what was sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

static PROVIDER: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// Starts sending, when an endpoint is configured. The collector need not be there: what it does not take is dropped.
/// A second call in the same process does nothing.
///
/// # Errors
/// Exit status 64 when the endpoint cannot be used, 66 when its authority cannot be read.
pub fn init(config: &Otlp, service: &'static str, version: &'static str) -> Result<(), Fatal> {
    let Some(endpoint) = config.endpoint.as_ref().filter(|_| PROVIDER.get().is_none()) else {
        return Ok(());
    };
    let exporter = exporter(config, endpoint)?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_SPANS)
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let node = crate::telemetry::node().unwrap_or(service);
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", version),
            KeyValue::new("service.instance.id", node.to_owned()),
        ])
        .build();
    let ratio = Sampler::TraceIdRatioBased(config.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("voxray");
    let _ = PROVIDER.set((provider, tracer));
    tracing::info!(%endpoint, sample_ratio = config.sample_ratio, "traces are sent");
    Ok(())
}

fn exporter(config: &Otlp, endpoint: &str) -> Result<SpanExporter, Fatal> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(SEND_TIMEOUT)
        .with_metadata(metadata(config));
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(tls(config)?);
    }
    exporter.build().map_err(|error| {
        let what = format!("otlp.endpoint = {endpoint:?} cannot be used: {error}");
        Fatal::new(
            CONFIG,
            what,
            "set it to the collector's gRPC address, like http://collector:4317, and otlp.ca_file to an authority in PEM",
        )
    })
}

/// What goes with every request; the configuration has checked that it can.
fn metadata(config: &Otlp) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in &config.headers {
        let name = MetadataKey::<Ascii>::from_bytes(name.as_bytes());
        let value = AsciiMetadataValue::try_from(value.expose());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            metadata.append(name, value);
        }
    }
    metadata
}

/// Whose certificates the collector may show.
fn tls(config: &Otlp) -> Result<ClientTlsConfig, Fatal> {
    let Some(file) = &config.ca_file else {
        return Ok(ClientTlsConfig::new().with_webpki_roots());
    };
    let pem = std::fs::read(file).map_err(|error| {
        Fatal::new(
            NO_INPUT,
            format!("otlp.ca_file: cannot read {}: {error}", file.display()),
            "set otlp.ca_file (VOXRAY_OTLP_CA_FILE) to the authority's certificate in PEM",
        )
    })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// Sends what has ended, waiting a few seconds at most. For the end of a process.
pub async fn flush() {
    let Some((provider, _)) = PROVIDER.get() else { return };
    let provider = provider.clone();
    let flushed = tokio::task::spawn_blocking(move || provider.force_flush()).await;
    if let Ok(Err(error)) = flushed {
        tracing::debug!(%error, "the last spans were not sent");
    }
}

/// Where a span belongs: a trace, and a span in it. Empty when nothing is traced.
#[derive(Clone, Debug, Default)]
pub struct Parent(Option<Context>);

impl Parent {
    /// From a `traceparent`; anything else is empty, as it is where traces are off.
    pub fn from_traceparent(text: &str) -> Self {
        if PROVIDER.get().is_none() {
            return Self::default();
        }
        Self(parse(text).map(|remote| Context::new().with_remote_span_context(remote)))
    }

    /// From the metadata of a request.
    pub fn from_metadata(metadata: &MetadataMap) -> Self {
        let text = metadata.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        text.map(Self::from_traceparent).unwrap_or_default()
    }

    /// As `traceparent`; empty when nothing is traced.
    pub fn traceparent(&self) -> String {
        let Some(context) = &self.0 else { return String::new() };
        let span = context.span().span_context().clone();
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    }

    /// Into the metadata of a request.
    pub fn inject(&self, metadata: &mut MetadataMap) {
        if self.0.is_none() {
            return;
        }
        if let Ok(value) = AsciiMetadataValue::try_from(self.traceparent()) {
            metadata.insert(TRACEPARENT, value);
        }
    }

    /// Id of the trace in hex, for log lines; `None` when nothing is traced.
    pub fn trace_id(&self) -> Option<String> {
        let context = self.0.as_ref()?;
        Some(context.span().span_context().trace_id().to_string())
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may have more behind it.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sane = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2 && version != "ff";
    if !sane || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// Whether a span answers, asks, or does neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It asks another process.
    Client,
    /// It answers another process.
    Server,
    /// It stays in this one.
    Internal,
}

/// Something that takes time. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// Begins now, a new trace if the parent is empty.
    pub fn start(name: &'static str, side: Side, parent: &Parent) -> Self {
        Self::begin(name, side, parent, None)
    }

    /// Began at this time.
    pub fn start_at(name: &'static str, side: Side, parent: &Parent, at: SystemTime) -> Self {
        Self::begin(name, side, parent, Some(at))
    }

    /// Begins now within a trace; empty when the parent is.
    pub fn within(name: &'static str, side: Side, parent: &Parent) -> Self {
        if parent.0.is_none() {
            return Self::default();
        }
        Self::start(name, side, parent)
    }

    fn begin(name: &'static str, side: Side, parent: &Parent, at: Option<SystemTime>) -> Self {
        let Some((_, tracer)) = PROVIDER.get() else {
            return Self::default();
        };
        let mut builder = tracer.span_builder(name).with_kind(match side {
            Side::Client => SpanKind::Client,
            Side::Server => SpanKind::Server,
            Side::Internal => SpanKind::Internal,
        });
        if let Some(at) = at {
            builder = builder.with_start_time(at);
        }
        let nothing = Context::new();
        let parent = parent.0.as_ref().unwrap_or(&nothing);
        Self(Some(parent.with_span(builder.start_with_context(tracer, parent))))
    }

    /// Whether anything is traced here.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// For spans below this one.
    pub fn parent(&self) -> Parent {
        Parent(self.0.clone())
    }

    /// Says more about it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes a moment in it.
    pub fn event(&self, name: &'static str) {
        if let Some(context) = &self.0 {
            context.span().add_event(name, Vec::new());
        }
    }

    /// It failed; `why` is a short fixed word.
    pub fn fail(&self, why: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // What keeps it as a parent holds it open otherwise.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_says_is_a_parent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parse(good).unwrap().is_sampled());
        assert!(parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319z-b7ad6b7169203331-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn while_traces_are_off_nothing_is_made_of_anything() {
        let parent = Parent::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let span = Span::start("call", Side::Server, &parent);
        let mut metadata = MetadataMap::new();

        span.parent().inject(&mut metadata);

        assert!(!span.is_on() && metadata.is_empty());
        assert_eq!(span.parent().trace_id(), None);
        assert_eq!(parent.traceparent(), "");
    }
}
