//! What a service says of itself at `/metrics`.

use std::collections::BTreeMap;

use crate::api::client;

/// All series of a service at one moment.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks a service; `url` is that of its operators' listener.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn of(url: &str) -> anyhow::Result<Self> {
        let answer = client().get(format!("{url}/metrics")).send().await?;
        Ok(Self::read(&answer.error_for_status()?.text().await?))
    }

    /// Reads the Prometheus text format.
    pub fn read(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// One series; 0 when it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// The sum of all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &str| {
            series
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0
            .iter()
            .filter(|(series, _)| of_name(series))
            .map(|(_, value)| value)
            .sum()
    }

    /// The bucket's upper bound, in seconds, below which this share of what a histogram has counted since `before` lies;
    /// 0 when it has counted nothing. Of a labelled histogram, the series that hold `label` are taken together.
    pub fn within(&self, before: &Self, histogram: &str, label: &str, share: f64) -> f64 {
        let prefix = format!("{histogram}_bucket{{");
        let of_histogram = |series: &str| series.starts_with(&prefix) && series.contains(label);
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, count) in self.0.iter().filter(|(series, _)| of_histogram(series)) {
            let Some(bound) = series.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let (bound, count) = (bound.parse().unwrap_or(f64::INFINITY), count - before.get(series));
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = buckets.last().map_or(0.0, |(_, count)| *count);
        let bound = buckets.iter().find(|(_, count)| *count >= all * share);
        bound.filter(|_| all > 0.0).map_or(0.0, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_histogram_is_found_over_all_its_series_since_the_last_look() {
        let before = Metrics::read("late_bucket{t=\"a\",le=\"1\"} 5\nlate_bucket{t=\"a\",le=\"+Inf\"} 5\n");
        let now = Metrics::read(
            "# TYPE late histogram\nlate_bucket{t=\"a\",le=\"1\"} 8\nlate_bucket{t=\"a\",le=\"+Inf\"} 10\n\
             late_bucket{t=\"b\",le=\"1\"} 5\nlate_bucket{t=\"b\",le=\"+Inf\"} 5\nlate_count 15\n",
        );
        assert_eq!(now.within(&before, "late", "", 0.8), 1.0);
        assert_eq!(now.within(&before, "late", "", 0.9), f64::INFINITY);
        assert_eq!(now.within(&before, "late", "t=\"b\"", 0.99), 1.0);
        assert_eq!(now.within(&now, "late", "", 0.99), 0.0);
        assert_eq!((now.sum("late_count"), now.get("late")), (15.0, 0.0));
    }
}
