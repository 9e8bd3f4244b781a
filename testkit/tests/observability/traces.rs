//! The spans that a collector has received, and the lines that services have logged.

use std::collections::BTreeMap;

use serde_json::Value;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::client::LIMIT;
use crate::scene::Scene;

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

/// The phone call is one trace over all services, with a span a turn and a span a request to a provider.
pub async fn are_whole(scene: &Scene) {
    let whole = eventually("the spans of the phone call", LIMIT, || async {
        let spans = spans(&scene.rotel.log()?);
        let call = spans.iter().find(|span| {
            let agent_ended = span
                .attributes
                .get("voxray.end_reason")
                .is_some_and(|why| why == "agent_hung_up");
            span.name == "call" && agent_ended
        });
        let Some(call) = call else { return Ok(None) };
        let trace: Vec<Span> = spans.iter().filter(|span| span.trace == call.trace).cloned().collect();
        // The archiver is done some time after the call.
        let archived = trace.iter().any(|span| span.name == "archive");
        Ok(archived.then(|| (call.clone(), trace)))
    });
    let (call, trace) = whole.await.unwrap_or_else(|error| {
        panic!("{error:#}; rotel printed:\n{}", scene.rotel.log().unwrap());
    });
    let named = |name: &str| -> Vec<&Span> { trace.iter().filter(|span| span.name == name).collect() };
    let parent = |span: &Span| trace.iter().find(|other| other.id == span.parent).cloned();

    let root = named("place session");
    assert_eq!(root.len(), 1, "{trace:#?}");
    assert_eq!(
        (root[0].service.as_str(), root[0].parent.as_str()),
        ("signaling-svc", "")
    );
    let asked = named("CreateSession");
    assert_eq!(parent(asked[0]).unwrap().name, "place session");
    assert_eq!(parent(&call).unwrap().name, "CreateSession");
    assert_eq!(call.service, "media-svc");
    assert_eq!(call.attributes["voxray.transport"], "telephony");
    let archive = named("archive");
    assert_eq!(parent(archive[0]).unwrap().name, "call");
    assert_eq!(archive[0].service, "archiver-svc");
    let turns = named("turn");
    assert!(turns.len() >= 2, "{trace:#?}");
    assert!(turns.iter().all(|turn| parent(turn).unwrap().name == "call"));
    for stage in ["stt", "llm", "tts"] {
        let requests = named(stage);
        let in_turns = requests
            .iter()
            .filter(|span| parent(span).unwrap().name == "turn")
            .count();
        assert!(in_turns >= 2, "{stage}: {trace:#?}");
        for request in requests {
            assert_eq!(request.attributes["voxray.provider"], "openai");
            assert!(!request.attributes["voxray.model"].is_empty());
        }
    }
    // Nothing that was said, and no number.
    let printed = scene.rotel.log().unwrap();
    for secret in ["table for two", "kitchen", "Good morning", "+1500", "+1415"] {
        assert!(!printed.contains(secret), "{secret} is in a span");
    }
}
