//! Looks at every service again and again, and remembers what has ever moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use voxray_testkit::service::Service;

use crate::contract::{Exported, exported};

/// Short, so that gauges are seen while they are up.
const LOOK: Duration = Duration::from_millis(200);

/// What one role has shown so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// The latest of every metric.
    pub latest: BTreeMap<String, Exported>,
    first: BTreeMap<String, f64>,
    /// Metrics of which a series has changed.
    pub moved: BTreeSet<String>,
    /// The latest text.
    pub text: String,
}

/// The scraper; it stops when it is dropped.
pub struct Scraper {
    seen: Arc<Mutex<BTreeMap<&'static str, Seen>>>,
    looking: JoinHandle<()>,
}

impl Scraper {
    /// One service a role.
    pub async fn start<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let urls: Vec<_> = services
            .map(|service| (service.role().name(), service.operators_url()))
            .collect();
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        look(&urls, &seen).await;
        let noted = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                look(&urls, &noted).await;
            }
        });
        Self { seen, looking }
    }

    /// What there is to see.
    pub fn with<T>(&self, read: impl FnOnce(&BTreeMap<&'static str, Seen>) -> T) -> T {
        read(&self.seen.lock().unwrap())
    }

    /// Sum of all series of a metric whose text holds this, of one role.
    pub fn sum(&self, role: &str, name: &str, holds: &str) -> f64 {
        self.with(|seen| {
            let metric = seen.get(role).and_then(|seen| seen.latest.get(name));
            let series = metric.into_iter().flat_map(|metric| &metric.series);
            series
                .filter(|(series, _)| series.contains(holds))
                .map(|(_, value)| value)
                .sum()
        })
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(urls: &[(&'static str, String)], seen: &Mutex<BTreeMap<&'static str, Seen>>) {
    for (role, url) in urls {
        // One that takes no connections just now is looked at again.
        let Ok(text) = get(&format!("{url}/metrics")).await else {
            continue;
        };
        let latest = exported(&text);
        let mut seen = seen.lock().unwrap();
        let beginning = !seen.contains_key(role);
        let seen = seen.entry(role).or_default();
        for (name, metric) in &latest {
            for (series, value) in &metric.series {
                let first = *seen
                    .first
                    .entry(series.clone())
                    .or_insert(if beginning { *value } else { 0.0 });
                if first != *value {
                    seen.moved.insert(name.clone());
                }
            }
        }
        seen.latest = latest;
        seen.text = text;
    }
}

async fn get(url: &str) -> reqwest::Result<String> {
    crate::client::http()
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await
}
