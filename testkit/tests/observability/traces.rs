//! The spans that a collector has received, and the lines that services have logged.

use std::collections::BTreeMap;

use serde_json::Value;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::client::LIMIT;
use crate::scene::{COLLECTOR_TOKEN, Scene};

/// One span as rotel prints it.
#[derive(Debug, Clone, Default)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub attributes: BTreeMap<String, String>,
}

/// Lines of a service's log, as JSON.
pub fn log_lines(service: &Service) -> Vec<Value> {
    let text = std::fs::read_to_string(service.log()).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Lines of all services.
pub fn all_lines(stack: &Stack) -> Vec<Value> {
    stack.services().flat_map(log_lines).collect()
}

/// Spans in what rotel has printed: blocks of `Span #N`, each line a field (`Name : call`), attributes behind `->`.
pub fn spans(printed: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut service = String::new();
    let mut in_event = false;
    for line in printed.lines().map(str::trim) {
        let attribute = line
            .strip_prefix("->")
            .map(str::trim)
            .and_then(|rest| rest.split_once(':'));
        if line.starts_with("ResourceSpans #") {
            service.clear();
        } else if line.starts_with("Span #") {
            in_event = false;
            spans.push(Span {
                service: service.clone(),
                ..Span::default()
            });
        } else if line.starts_with("SpanEvent #") {
            in_event = true;
        } else if let Some((key, value)) = attribute {
            let value = value.trim();
            let value = value
                .split_once('(')
                .map_or(value, |(_, inner)| inner.trim_end_matches(')'));
            match spans.last_mut() {
                _ if key == "service.name" => service = value.to_owned(),
                Some(span) if !in_event => drop(span.attributes.insert(key.to_owned(), value.to_owned())),
                Some(_) | None => {}
            }
        } else if let (Some((key, value)), Some(span)) = (line.split_once(':'), spans.last_mut()) {
            match key.trim() {
                "Trace ID" => span.trace = value.trim().to_owned(),
                "Parent ID" => span.parent = value.trim().to_owned(),
                "ID" => span.id = value.trim().to_owned(),
                "Name" if !in_event => span.name = value.trim().to_owned(),
                _ => {}
            }
        }
    }
    spans
}

/// A trace of a call, as far as it was received: the span `call` and all spans.
struct Trace {
    call: Span,
    spans: Vec<Span>,
}

impl Trace {
    /// Waits for the trace whose call is this one, until it has come to the archive.
    async fn of(scene: &Scene, what: &str, is_it: impl Fn(&Span) -> bool) -> Self {
        let whole = eventually(what, LIMIT, || async {
            let spans = spans(&scene.rotel.log()?);
            let call = spans.iter().find(|span| span.name == "call" && is_it(span));
            let Some(call) = call else { return Ok(None) };
            let trace: Vec<Span> = spans.iter().filter(|span| span.trace == call.trace).cloned().collect();
            // The archiver is done some time after the call.
            let archived = trace.iter().any(|span| span.name == "archive");
            Ok(archived.then(|| Self {
                call: call.clone(),
                spans: trace,
            }))
        });
        whole
            .await
            .unwrap_or_else(|error| panic!("{error:#}; rotel printed:\n{}", scene.rotel.log().unwrap()))
    }

    fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    fn parent(&self, span: &Span) -> &Span {
        let parent = self.spans.iter().find(|other| other.id == span.parent);
        parent.unwrap_or_else(|| panic!("{} has no parent in {:#?}", span.name, self.spans))
    }

    /// From signaling by way of `asked` to the node and to the archive.
    fn goes_through_all_services(&self, asked: &str) {
        let [root] = self.named("place session")[..] else {
            panic!("not one root: {:#?}", self.spans);
        };
        assert_eq!((root.service.as_str(), root.parent.as_str()), ("signaling-svc", ""));
        let transport = &self.call.attributes["voxray.transport"];
        assert_eq!(&root.attributes["voxray.transport"], transport);
        assert!(!root.attributes["voxray.node"].is_empty());
        let asking = self.parent(&self.call);
        assert_eq!(
            (asking.name.as_str(), asking.service.as_str()),
            (asked, "signaling-svc")
        );
        assert_eq!(self.parent(asking).id, root.id);
        assert_eq!(self.named("call").len(), 1, "{:#?}", self.spans);
        assert_eq!(self.call.service, "media-svc");
        for archive in self.named("archive") {
            assert_eq!(self.parent(archive).id, self.call.id);
            assert_eq!(archive.service, "archiver-svc");
        }
        let roots = self.spans.iter().filter(|span| span.parent.is_empty()).count();
        assert_eq!(roots, 1, "{:#?}", self.spans);
    }

    /// A span a turn below the call, and below at least so many turns a span for each stage.
    fn has_turns(&self, least: usize) {
        let turns = self.named("turn");
        assert!(turns.len() >= least, "{:#?}", self.spans);
        assert!(turns.iter().all(|turn| self.parent(turn).id == self.call.id));
        for stage in ["stt", "llm", "tts"] {
            let requests = self.named(stage);
            let in_turns = requests.iter().filter(|span| self.parent(span).name == "turn").count();
            assert!(in_turns >= least, "{stage}: {:#?}", self.spans);
            for request in requests {
                assert_eq!(request.attributes["voxray.provider"], "openai");
                assert!(!request.attributes["voxray.model"].is_empty());
            }
        }
    }
}

/// The phone call is one trace over all services, with a span a turn and a span a request to a provider.
pub async fn phone_call_is_one(scene: &Scene) {
    let ended_by_agent = |call: &Span| {
        let reason = call.attributes.get("voxray.end_reason");
        reason.is_some_and(|reason| reason == "agent_hung_up")
    };
    let trace = Trace::of(scene, "the spans of the phone call", ended_by_agent).await;
    assert_eq!(trace.call.attributes["voxray.transport"], "telephony");
    trace.goes_through_all_services("CreateSession");
    trace.has_turns(2);
    // Nothing that was said, and no number.
    let printed = scene.rotel.log().unwrap();
    for secret in [
        "table for two",
        "kitchen",
        "Good morning",
        "call me back",
        "+1500",
        "+1415",
    ] {
        assert!(!printed.contains(secret), "{secret} is in a span");
    }
}

/// The WebRTC call is one trace as well, though it had two peer connections by way of two signaling services.
pub async fn webrtc_call_is_one(scene: &Scene, session_id: &str) {
    let is_it = |span: &Span| {
        span.attributes
            .get("voxray.session_id")
            .is_some_and(|id| id == session_id)
    };
    let trace = Trace::of(scene, "the spans of the WebRTC call", is_it).await;
    assert_eq!(trace.call.attributes["voxray.transport"], "webrtc");
    trace.goes_through_all_services("Offer");
    trace.has_turns(1);
    for span in spans(&scene.rotel.log().unwrap()).iter().filter(|span| is_it(span)) {
        assert_eq!(span.trace, trace.call.trace, "{} is in another trace", span.name);
    }
}

/// What signaling has sent came by TLS and with a token: the collector it was told of lets nobody else in.
pub async fn collector_wants_authority_and_token(scene: &Scene) {
    let pem = std::fs::read(scene.collector.ca_file()).unwrap();
    let authority = reqwest::Certificate::from_pem(&pem).unwrap();
    let knows_it = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let stranger = reqwest::Client::new();

    let without_token = knows_it.post(scene.collector.url()).send().await.unwrap();
    assert_eq!(without_token.status(), 403);
    let token = format!("Bearer {COLLECTOR_TOKEN}");
    let with_token = knows_it
        .post(scene.collector.url())
        .header("authorization", token)
        .send()
        .await;
    assert_ne!(with_token.unwrap().status(), 403);
    let unknown_authority = stranger.post(scene.collector.url()).send().await.unwrap_err();
    assert!(unknown_authority.is_connect(), "{unknown_authority:?}");
}
