//! Alert rules: by themselves, and what they count in a deployment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use voxray_testkit::servers::tools::workspace_root;
use voxray_testkit::servers::{Prometheus, promtool};
use voxray_testkit::wait::eventually;

use crate::client::LIMIT;
use crate::contract::documented;
use crate::dashboards;

const RULES: &str = "deploy/prometheus/rules/voxray.yml";
/// Made by Prometheus, or by the client library of every process.
const FOREIGN: [&str; 4] = [
    "up",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
];

/// Labels and functions.
const NO_METRICS: [&str; 3] = ["error_type", "voxray_io_pool", "histogram_quantile"];
/// A route is known when it is first answered. The alert is about a part of all requests for minutes, not about a first one.
const BY_ROUTE: [&str; 2] = ["http_errors_total", "http_requests_total"];

#[test]
fn rules_and_configuration_are_what_prometheus_understands() {
    promtool(&["check", "rules", RULES], None).unwrap();
    promtool(
        &["check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"],
        None,
    )
    .unwrap();
}

#[test]
fn every_alert_is_raised_by_what_it_is_for_and_by_nothing_else() {
    promtool(&["test", "rules", "deploy/prometheus/tests/voxray.yml"], None).unwrap();
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    let rules = std::fs::read_to_string(workspace_root().join(RULES)).unwrap();
    let tests = std::fs::read_to_string(workspace_root().join("deploy/prometheus/tests/voxray.yml")).unwrap();
    let runbook = std::fs::read_to_string(workspace_root().join("docs/operations.md")).unwrap();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(
            alert.contains("severity: warning") || alert.contains("severity: critical"),
            "{name}"
        );
        assert!(alert.contains("summary: ") && alert.contains("description: "), "{name}");
        let anchor = format!("runbook_url: docs/operations.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&anchor), "{name}");
        assert!(
            runbook.contains(&format!("\n### {name}\n")),
            "{name} has no section in docs/operations.md"
        );
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
    }
}

#[test]
fn rules_and_dashboards_use_metrics_that_are_documented() {
    let known: BTreeSet<String> = documented().into_iter().map(|row| row.name).collect();
    let from_rules = expressions().into_iter().map(|(_, expression)| expression);
    let from_dashboards = dashboards::queries().into_iter().map(|(_, query)| query);
    let unknown: BTreeSet<String> = from_rules
        .chain(from_dashboards)
        .flat_map(|expression| names(&expression))
        .filter(|name| !known.contains(name) && !FOREIGN.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// What may be the name of a metric in an expression: a word with an underscore, or `up`, that is no label.
fn names(expression: &str) -> Vec<String> {
    let mut outside_labels = String::new();
    let mut depth = 0;
    for character in expression.chars() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => outside_labels.push(character),
            _ => {}
        }
    }
    let words = outside_labels.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words
        .filter(|word| (word.contains('_') || *word == "up") && !NO_METRICS.contains(word))
        .map(|word| {
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix));
            histogram.unwrap_or(word).to_owned()
        })
        .collect()
}

/// Alerts and their expressions.
fn expressions() -> Vec<(String, String)> {
    let rules = std::fs::read_to_string(workspace_root().join(RULES)).unwrap();
    let alerts = rules.split("- alert: ").skip(1);
    let found: Vec<_> = alerts
        .map(|alert| {
            let name = alert.lines().next().unwrap().trim();
            let (_, rest) = alert.split_once("expr:").unwrap();
            // A block goes on for as long as it is indented deeper than its key.
            let mut lines = rest.lines();
            let first = lines.next().unwrap().trim().trim_start_matches('|');
            let block = lines.take_while(|line| line.starts_with("          "));
            let expression = std::iter::once(first).chain(block.map(str::trim));
            (name.to_owned(), expression.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert!(
        found.iter().all(|(_, expression)| !expression.trim().is_empty()),
        "{found:?}"
    );
    found
}

/// What the rules look at the growth of.
struct Counted {
    alert: String,
    /// What selects its series.
    selector: String,
    /// One event raises the alert.
    by_one: bool,
    /// The rule finds series itself that are new.
    finds_new: bool,
}

fn counted() -> Vec<Counted> {
    let mut found = Vec::new();
    for (alert, expression) in expressions() {
        for function in ["increase(", "rate("] {
            for (at, _) in expression.match_indices(function) {
                let (selector, _) = expression[at + function.len()..].split_once('[').unwrap();
                found.push(Counted {
                    alert: alert.clone(),
                    selector: selector.to_owned(),
                    by_one: function == "increase(",
                    finds_new: expression.contains(&format!("unless {selector} offset")),
                });
            }
        }
    }
    assert!(found.len() > 20);
    found
}

/// Waits until every service of which the rules count something shows it, before anything has happened: what begins with its
/// first event is not seen to grow by it. The series there are of each selector.
pub async fn counted_from_the_start(prometheus: &Prometheus) -> BTreeMap<String, BTreeSet<String>> {
    let rows = documented();
    let mut from_the_start = BTreeMap::new();
    let mut missing = Vec::new();
    for counted in counted() {
        let metric = names(&counted.selector).remove(0);
        if BY_ROUTE.contains(&metric.as_str()) {
            continue;
        }
        let services = &rows.iter().find(|row| row.name == metric).unwrap().services;
        let there = eventually(&counted.selector, LIMIT, || async {
            let series = prometheus.query(&counted.selector).await?;
            let shown = |service: &&str| series.iter().any(|one| one["metric"]["job"] == **service);
            Ok(services.iter().all(shown).then(|| labels(&series)))
        });
        match there.await {
            Ok(series) => drop(from_the_start.insert(counted.selector, series)),
            Err(_) => missing.push(format!(
                "{} is not there from the start: {}",
                counted.selector, counted.alert
            )),
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    from_the_start
}

/// Of what raises an alert by one event, all that there is was there from the start, or the rule finds what is new.
pub async fn nothing_began_late(prometheus: &Prometheus, from_the_start: &BTreeMap<String, BTreeSet<String>>) {
    for counted in counted().iter().filter(|counted| counted.by_one && !counted.finds_new) {
        let now = labels(&prometheus.query(&counted.selector).await.unwrap());
        let late: Vec<_> = now.difference(&from_the_start[&counted.selector]).collect();
        assert!(late.is_empty(), "{} does not see the first of {late:?}", counted.alert);
    }
}

fn labels(series: &[Value]) -> BTreeSet<String> {
    series.iter().map(|one| one["metric"].to_string()).collect()
}
