//! What stands in a DSN for the connection pool and not for the database: `pool_max_conns` and its relatives, named
//! as in <https://pkg.go.dev/github.com/jackc/pgx/v5/pgxpool#ParseConfig>.

use std::time::Duration;

/// Connections when the DSN does not say: writes are batched, so few are needed.
const DEFAULT_MAX_CONNS: u32 = 4;

/// Pool settings found in a DSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Most connections.
    pub max_conns: u32,
    /// Connections kept open when idle.
    pub min_conns: u32,
    /// Age at which a connection is replaced.
    pub max_lifetime: Option<Duration>,
    /// Idle time after which a connection is closed.
    pub max_idle_time: Option<Duration>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            max_conns: DEFAULT_MAX_CONNS,
            min_conns: 0,
            max_lifetime: None,
            max_idle_time: None,
        }
    }
}

/// A DSN that cannot be used. The DSN itself is a secret and not shown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DsnError {
    /// Nothing configured.
    #[error("transcripts.enable is true, but transcripts.dsn is empty")]
    Empty,
    /// A pool setting is no number or duration.
    #[error("transcripts.dsn: {key}={value} is not valid (numbers like 10, durations like 30m or 1h)")]
    Setting {
        /// Its name.
        key: String,
        /// What was given.
        value: String,
    },
}

/// Takes the pool settings out of the query of a DSN.
pub fn split(dsn: &str) -> Result<(String, PoolSettings), DsnError> {
    let dsn = dsn.trim();
    if dsn.is_empty() {
        return Err(DsnError::Empty);
    }
    let mut settings = PoolSettings::default();
    let Some((base, query)) = dsn.split_once('?') else {
        return Ok((dsn.to_owned(), settings));
    };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = || DsnError::Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        match key {
            // The second name is that of Go's database/sql.
            "pool_max_conns" | "max_open_conns" => {
                settings.max_conns = value.parse().ok().filter(|max| *max > 0).ok_or_else(wrong)?;
            }
            "pool_min_conns" => settings.min_conns = value.parse().map_err(|_| wrong())?,
            "pool_max_conn_lifetime" => settings.max_lifetime = Some(duration(value).ok_or_else(wrong)?),
            "pool_max_conn_idle_time" => settings.max_idle_time = Some(duration(value).ok_or_else(wrong)?),
            // Settings of that pool which this one decides for itself.
            "pool_health_check_period" | "pool_max_conn_lifetime_jitter" | "pool_min_idle_conns" | "max_idle_conns" => {
            }
            _ => rest.push(pair),
        }
    }
    settings.min_conns = settings.min_conns.min(settings.max_conns);
    let dsn = if rest.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", rest.join("&"))
    };
    Ok((dsn, settings))
}

/// `1h30m`, `90s`, `250ms`, and a bare number as seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let number = number.parse::<u64>().ok()?;
        total += match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_settings_leave_the_dsn_and_the_rest_stays() {
        let (dsn, pool) =
            split("postgres://u:p@h/db?sslmode=disable&pool_max_conns=7&pool_max_conn_lifetime=1h30m").unwrap();
        assert_eq!(dsn, "postgres://u:p@h/db?sslmode=disable");
        assert_eq!(pool.max_conns, 7);
        assert_eq!(pool.max_lifetime, Some(Duration::from_secs(5400)));
    }

    #[test]
    fn the_names_of_go_are_understood_by_every_driver() {
        let (dsn, pool) = split("mysql://u:p@h/db?max_open_conns=9&max_idle_conns=2&ssl-mode=DISABLED").unwrap();
        assert_eq!(
            (dsn.as_str(), pool.max_conns),
            ("mysql://u:p@h/db?ssl-mode=DISABLED", 9)
        );
    }

    #[test]
    fn a_dsn_without_settings_is_left_alone() {
        let (dsn, pool) = split("sqlite:///tmp/t.db").unwrap();
        assert_eq!((dsn.as_str(), pool), ("sqlite:///tmp/t.db", PoolSettings::default()));
        assert_eq!(split("postgres://h/db?pool_max_conns=3").unwrap().0, "postgres://h/db");
    }

    #[test]
    fn nonsense_is_named_with_its_key() {
        assert_eq!(split("  "), Err(DsnError::Empty));
        let error = split("postgres://h/db?pool_max_conns=many").unwrap_err();
        assert!(error.to_string().contains("pool_max_conns=many"), "{error}");
        assert!(split("postgres://h/db?pool_max_conns=0").is_err());
        assert!(split("postgres://h/db?pool_max_conn_idle_time=3x").is_err());
    }
}
