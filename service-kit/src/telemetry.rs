//! Logs on standard error: text for people, one JSON object a line for machines.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::Log;

/// Crates of this workspace: they log at the configured level, everything else from warn.
const OURS: [&str; 10] = [
    "voxray",
    "voxray_proto",
    "voxray_testkit",
    "testkit",
    "service_kit",
    "session_store",
    "signaling_svc",
    "media_svc",
    "media_core",
    "archiver_svc",
];

/// Name of this instance.
static NODE: OnceLock<String> = OnceLock::new();

/// Names this instance in every line of JSON (`node`) and in every trace. Only the first name counts.
pub fn identify(node: &str) {
    // A process that runs several services has one name.
    let _ = NODE.set(node.to_owned());
}

/// What [`identify`] was told.
pub fn node() -> Option<&'static str> {
    NODE.get().map(String::as_str)
}

/// Of the subscriber of this process.
static LEVEL: OnceLock<LevelHandle> = OnceLock::new();

/// Logs from this level on, in the subscriber that [`init`] has installed.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        handle.set(level);
    }
}

/// Changes the log level while the process runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(Option<reload::Handle<Targets, Registry>>);

impl LevelHandle {
    /// Logs from this level on. Does nothing when this process's subscriber was installed by someone else.
    pub fn set(&self, level: Level) {
        let changed = self.0.as_ref().map(|handle| handle.reload(filter(level)));
        if let Some(Err(error)) = changed {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Installs the global subscriber, writing to standard error. A second call in the same process does nothing.
pub fn init(log: &Log) -> LevelHandle {
    let (layer, handle) = layer(log, std::io::stderr);
    let handle = match tracing_subscriber::registry().with(layer).try_init() {
        Ok(()) => LevelHandle(Some(handle)),
        Err(_) => LevelHandle(None),
    };
    // The first subscriber is the one that stays.
    let _ = LEVEL.set(handle.clone());
    handle
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn layer<W>(log: &Log, writer: W) -> (BoxedLayer, reload::Handle<Targets, Registry>)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let base = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: BoxedLayer = if log.json {
        base.event_format(JsonLine)
            .fmt_fields(JsonFields::new())
            .with_filter(filter)
            .boxed()
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        base.with_timer(UtcTime)
            .with_ansi(is_terminal)
            .with_filter(filter)
            .boxed()
    };
    (layer, handle)
}

fn filter(level: Level) -> Targets {
    let ours = LevelFilter::from_level(level);
    Targets::new()
        .with_targets(OURS.map(|target| (target, ours)))
        .with_default(ours.min(LevelFilter::WARN))
}

/// RFC 3339 in UTC.
struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&now())
    }
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// `{"time", "level", "msg", "target", …fields of the event and of every span around it}`, inner spans winning.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            if let Some(Ok(Value::Object(span_fields))) = formatted.map(|text| serde_json::from_str(text)) {
                fields.extend(span_fields);
            }
        }
        event.record(&mut Collect(&mut fields));
        let message = fields.remove("message").unwrap_or_else(|| json!(""));
        let metadata = event.metadata();
        // These come first, so that people can read the lines too.
        write!(
            writer,
            "{{\"time\":{},\"level\":{},\"msg\":{message},\"target\":{}",
            json!(now()),
            json!(metadata.level().as_str().to_ascii_lowercase()),
            json!(metadata.target()),
        )?;
        if let Some(node) = node() {
            write!(writer, ",\"node\":{}", json!(node))?;
        }
        for (name, value) in fields.iter().filter(|(name, _)| !is_reserved(name)) {
            write!(writer, ",{}:{value}", json!(name))?;
        }
        writeln!(writer, "}}")
    }
}

fn is_reserved(name: &str) -> bool {
    ["time", "level", "msg", "target"].contains(&name) || (name == "node" && node().is_some())
}

/// Collects an event's fields as JSON.
struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value);
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, level: Level, act: impl FnOnce(&LevelHandle)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (layer, handle) = layer(&Log { level, json }, move || writer.clone());
        let handle = LevelHandle(Some(handle));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || act(&handle));
        captured.text()
    }

    #[test]
    fn a_json_line_carries_time_level_message_and_the_fields_of_its_spans() {
        let text = logged(true, Level::INFO, |_| {
            let outer = tracing::info_span!("call", session_id = "abc", attempt = 1);
            let _outer = outer.enter();
            let inner = tracing::info_span!("turn", attempt = 2);
            let _inner = inner.enter();
            tracing::info!(count = 3, ok = true, "say \"hi\"");
        });

        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "say \"hi\"");
        assert_eq!(line["session_id"], "abc");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["count"], 3);
        assert_eq!(line["ok"], true);
        let time = line["time"].as_str().unwrap();
        assert!(
            time.ends_with('Z') && OffsetDateTime::parse(time, &Rfc3339).is_ok(),
            "{time}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn dependencies_log_from_warn_whatever_the_level() {
        let text = logged(true, Level::DEBUG, |_| {
            tracing::debug!("ours");
            tracing::info!(target: "hyper::proto", "chatter");
            tracing::warn!(target: "hyper::proto", "trouble");
        });

        assert!(
            text.contains("ours") && text.contains("trouble") && !text.contains("chatter"),
            "{text}"
        );
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let text = logged(false, Level::INFO, |handle| {
            tracing::debug!("before");
            handle.set(Level::DEBUG);
            tracing::debug!("after");
        });

        assert!(text.contains("after") && !text.contains("before"), "{text}");
    }

    #[test]
    fn a_field_cannot_forge_the_reserved_names() {
        let text = logged(true, Level::INFO, |_| tracing::info!(level = "forged", "real"));

        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "info");
        assert!(!text.contains("forged"));
    }
}
