//! Alert rules, without a deployment.

use std::collections::BTreeSet;

use voxray_testkit::servers::promtool;
use voxray_testkit::servers::tools::workspace_root;

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
    let rules = std::fs::read_to_string(workspace_root().join(RULES)).unwrap();
    let from_rules = rules
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("expr: ") || line.starts_with("sum ") || line.starts_with("/ "))
        .map(str::to_owned);
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
        .filter(|word| (word.contains('_') || *word == "up") && !["error_type", "histogram_quantile"].contains(word))
        .map(|word| {
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix));
            histogram.unwrap_or(word).to_owned()
        })
        .collect()
}
