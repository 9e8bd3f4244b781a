//! docs/metrics.md, and what services say they export.

use std::collections::{BTreeMap, BTreeSet};

use voxray_testkit::servers::tools::workspace_root;

/// A row of the tables.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub kind: String,
    pub labels: BTreeSet<String>,
    /// Roles that export it.
    pub services: BTreeSet<&'static str>,
}

/// Every row of docs/metrics.md.
pub fn documented() -> Vec<Row> {
    let text = std::fs::read_to_string(workspace_root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        Row {
            name: cells[0].trim_matches('`').to_owned(),
            kind: cells[1].to_owned(),
            labels: cells[2]
                .split(',')
                .map(str::trim)
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            services: cells[3]
                .split_whitespace()
                .map(|letter| match letter {
                    "s" => "signaling",
                    "m" => "media",
                    "a" => "archiver",
                    other => panic!("no such service: {other} in {line}"),
                })
                .collect(),
        }
    })
    .collect()
}

/// One metric as a service exports it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Exported {
    pub kind: String,
    pub labels: BTreeSet<String>,
    /// Series and their values; of histograms only the counts.
    pub series: BTreeMap<String, f64>,
}

/// Everything in one answer of `/metrics`, by name.
pub fn exported(text: &str) -> BTreeMap<String, Exported> {
    let mut metrics: BTreeMap<String, Exported> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let Some((base, counts)) = base_name(name, &metrics) else {
            panic!("{name} has no TYPE");
        };
        let metric = metrics.get_mut(&base).unwrap();
        for label in labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty())
        {
            let label = label.split_once('=').unwrap().0;
            if label != "le" {
                metric.labels.insert(label.to_owned());
            }
        }
        if counts {
            metric.series.insert(series.to_owned(), value.parse().unwrap());
        }
    }
    metrics
}

/// The metric a series belongs to, and whether its value is one to look at.
fn base_name(name: &str, metrics: &BTreeMap<String, Exported>) -> Option<(String, bool)> {
    if metrics.contains_key(name) {
        return Some((name.to_owned(), true));
    }
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        let base = name.strip_suffix(suffix)?;
        let histogram = metrics.get(base)?.kind == "histogram";
        histogram.then(|| (base.to_owned(), *suffix == "_count"))
    })
}
