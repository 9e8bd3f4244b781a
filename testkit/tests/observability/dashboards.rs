//! The dashboards' queries, asked of a real Prometheus.

use serde_json::Value;
use voxray_testkit::servers::Prometheus;
use voxray_testkit::servers::tools::workspace_root;

/// Queries of all dashboards, with where they are: those of panels, and what lists of choices are made of.
pub fn queries() -> Vec<(String, String)> {
    let folder = workspace_root().join("deploy/grafana/dashboards");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut queries = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "json"))
    {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let title = dashboard["title"].as_str().unwrap();
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = variable["query"].as_str().unwrap();
            if let Some(values) = query.strip_prefix("label_values(") {
                let (metric, label) = values.trim_end_matches(')').split_once(", ").unwrap();
                let name = variable["name"].as_str().unwrap();
                queries.push((format!("{title} / ${name}"), format!("{metric}{{{label}!=\"\"}}")));
            }
        }
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let at = format!("{title} / {}", panel["title"].as_str().unwrap());
                queries.push((at, target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert!(queries.len() > 50, "only {} queries", queries.len());
    queries
}

/// As Grafana fills them in.
pub fn filled_in(query: &str) -> String {
    let filled = query.replace("$__rate_interval", "5m").replace("$node", ".*");
    assert!(!filled.contains('$'), "an unknown variable in {query}");
    filled
}

/// Queries that give nothing although they should, with what was wrong.
pub async fn without_data(prometheus: &Prometheus, may_be_empty: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, query) in queries() {
        match prometheus.query(&filled_in(&query)).await {
            Err(error) => problems.push(format!("{at}: {error:#}")),
            Ok(series) if series.is_empty() && !may_be_empty(&query) => {
                problems.push(format!("{at}: no data: {query}"))
            }
            Ok(_) => {}
        }
    }
    problems
}
