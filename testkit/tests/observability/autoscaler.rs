//! What the Prometheus Adapter asks for the autoscalers, asked of a real Prometheus.

use voxray_testkit::servers::Prometheus;
use voxray_testkit::servers::tools::workspace_root;

/// The queries of `k8s/prometheus-adapter/rules.yaml` by what the autoscalers call them, filled in as the adapter does, with
/// a service here in the place of a pod there.
fn queries() -> Vec<(String, String)> {
    let rules = std::fs::read_to_string(workspace_root().join("k8s/prometheus-adapter/rules.yaml")).unwrap();
    let of = |line: &str, key: &str, quote: char| {
        let value = line.trim().trim_start_matches("- ").strip_prefix(key)?;
        Some(value.trim().trim_matches(quote).to_owned())
    };
    let (mut series, mut name, mut queries) = (String::new(), String::new(), Vec::new());
    for line in rules.lines() {
        if let Some(query) = of(line, "seriesQuery:", '\'') {
            series = query.split('{').next().unwrap().to_owned();
        } else if let Some(known_as) = of(line, "as:", '"') {
            name = known_as;
        } else if let Some(query) = of(line, "metricsQuery:", '\'') {
            let query = query
                .replace("<<.Series>>", &series)
                .replace("<<.LabelMatchers>>", "instance!=\"\"")
                .replace("<<.GroupBy>>", "instance");
            assert!(!query.contains("<<"), "an unknown variable in {query}");
            queries.push((name.clone(), query));
        }
    }
    assert_eq!(queries.len(), 3, "{queries:?}");
    queries
}

/// Those that say nothing, or something that is no number.
pub async fn without_data(prometheus: &Prometheus) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, query) in queries() {
        match prometheus.query(&query).await {
            Err(error) => problems.push(format!("{name}: {error:#}")),
            Ok(series) => {
                let values = series
                    .iter()
                    .filter_map(|series| series["value"][1].as_str()?.parse::<f64>().ok());
                if !values.into_iter().any(f64::is_finite) {
                    problems.push(format!("{name}: no data: {query}"));
                }
            }
        }
    }
    problems
}
