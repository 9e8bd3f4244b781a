//! Where Redis is: the URLs of `redis_url`.
//!
//! - one server: `redis://[user[:password]@]host[:6379][/database]`
//! - Sentinel: `redis+sentinel://[user[:password]@]host[:26379][,host…]/name[/database][?sentinel_user=…&sentinel_password=…]`
//!   with the name under which the sentinels watch the primary
//! - Cluster: `redis+cluster://[user[:password]@]host[:6379][,host…]`
//!
//! `rediss` instead of `redis` is TLS. Users and passwords are percent-encoded.

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult};
use percent_encoding::percent_decode_str;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Who is told to be where.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) topology: Topology,
    /// At least one.
    pub(super) hosts: Vec<Host>,
    pub(super) tls: bool,
    pub(super) login: Login,
    pub(super) database: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Topology {
    Single,
    Sentinel { primary: String, login: Login },
    Cluster,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// Never printed: there is a password in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    user: Option<String>,
    password: Option<String>,
}

/// What is wrong with a URL, without repeating any of it: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("its scheme is none of redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster")]
    Scheme,
    #[error("a host is missing, or is not host or host:port")]
    Host,
    #[error("one server has one host; several need redis+sentinel:// or redis+cluster://")]
    SeveralHosts,
    #[error("after the hosts there has to be the name of the primary, as the sentinels know it")]
    NoPrimary,
    #[error("the database is no number")]
    Database,
    #[error("a cluster has no numbered databases")]
    ClusterDatabase,
    #[error("what follows the ? is not known")]
    Query,
    #[error("a user or password is not percent-encoded UTF-8")]
    Encoding,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match family {
            "redis" => false,
            "rediss" => true,
            _ => return Err(AddressError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login)?, hosts),
            None => (Login::default(), authority),
        };
        let path = path.trim_end_matches('/');
        let port = if kind == "sentinel" { SENTINEL_PORT } else { REDIS_PORT };
        let hosts = hosts
            .split(',')
            .map(|host| Host::parse(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let (topology, database) = match kind {
            "" if hosts.len() > 1 => return Err(AddressError::SeveralHosts),
            "" => (Topology::Single, database(path)?),
            "sentinel" => {
                let (primary, path) = path.split_once('/').unwrap_or((path, ""));
                if primary.is_empty() {
                    return Err(AddressError::NoPrimary);
                }
                let topology = Topology::Sentinel {
                    primary: decoded(primary)?,
                    login: Login::of_sentinels(query)?,
                };
                (topology, database(path)?)
            }
            "cluster" if path.is_empty() || path == "0" => (Topology::Cluster, 0),
            "cluster" => return Err(AddressError::ClusterDatabase),
            _ => return Err(AddressError::Scheme),
        };
        if !query.is_empty() && kind != "sentinel" {
            return Err(AddressError::Query);
        }
        Ok(Self {
            topology,
            hosts,
            tls,
            login,
            database,
        })
    }

    /// `host:port` of all hosts, without user and password.
    pub(super) fn shown(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|h| format!("{}:{}", h.name, h.port)).collect();
        hosts.join(", ")
    }

    /// How a data server is connected to.
    pub(super) fn server(&self, host: &Host) -> RedisResult<ConnectionInfo> {
        self.connection(host, &self.login, self.database)
    }

    /// How a sentinel is connected to.
    pub(super) fn sentinel(&self, host: &Host, login: &Login) -> RedisResult<ConnectionInfo> {
        self.connection(host, login, 0)
    }

    fn connection(&self, host: &Host, login: &Login, database: i64) -> RedisResult<ConnectionInfo> {
        let (name, port) = (host.name.clone(), host.port);
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host: name,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(name, port)
        };
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        Ok(address.into_connection_info()?.set_redis_settings(settings))
    }
}

impl Host {
    /// `host`, `host:port`, `[v6]` or `[v6]:port`.
    fn parse(text: &str, default_port: u16) -> Result<Self, AddressError> {
        let (name, port) = match text.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or(AddressError::Host)?,
            None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| AddressError::Host)?,
            None if port.is_empty() => default_port,
            None => return Err(AddressError::Host),
        };
        if name.is_empty() || port == 0 {
            return Err(AddressError::Host);
        }
        let name = name.to_owned();
        Ok(Self { name, port })
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, AddressError> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            user: given(user)?,
            password: given(password)?,
        })
    }

    fn of_sentinels(query: &str) -> Result<Self, AddressError> {
        let mut login = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinel_user", user)) => login.user = given(user)?,
                Some(("sentinel_password", password)) => login.password = given(password)?,
                _ => return Err(AddressError::Query),
            }
        }
        Ok(login)
    }
}

fn given(text: &str) -> Result<Option<String>, AddressError> {
    Ok(Some(decoded(text)?).filter(|text| !text.is_empty()))
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| AddressError::Encoding)?;
    Ok(decoded.into_owned())
}

fn database(path: &str) -> Result<i64, AddressError> {
    match path {
        "" => Ok(0),
        number => number.parse().map_err(|_| AddressError::Database),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: Some(user.to_owned()).filter(|text| !text.is_empty()),
            password: Some(password.to_owned()).filter(|text| !text.is_empty()),
        }
    }

    #[test]
    fn every_form_of_url_says_where_to_connect() {
        let sentinel = |primary: &str, login: Login| Topology::Sentinel {
            primary: primary.to_owned(),
            login,
        };
        // URL, topology, hosts, TLS, login, database
        let cases = [
            ("redis://h", Topology::Single, "h:6379", false, login("", ""), 0),
            (
                "rediss://u:p%40ss@h:7000/3",
                Topology::Single,
                "h:7000",
                true,
                login("u", "p@ss"),
                3,
            ),
            (
                "redis://:p@[::1]:7000/",
                Topology::Single,
                "::1:7000",
                false,
                login("", "p"),
                0,
            ),
            (
                "redis+sentinel://:p@a,b:7,c/main/2?sentinel_user=s&sentinel_password=x%3Ay",
                sentinel("main", login("s", "x:y")),
                "a:26379, b:7, c:26379",
                false,
                login("", "p"),
                2,
            ),
            (
                "rediss+sentinel://a/main",
                sentinel("main", login("", "")),
                "a:26379",
                true,
                login("", ""),
                0,
            ),
            (
                "redis+cluster://u:p@a,b:7000",
                Topology::Cluster,
                "a:6379, b:7000",
                false,
                login("u", "p"),
                0,
            ),
            (
                "rediss+cluster://a/0",
                Topology::Cluster,
                "a:6379",
                true,
                login("", ""),
                0,
            ),
        ];
        for (url, topology, hosts, tls, login, database) in cases {
            let Ok(address) = Address::parse(url) else {
                panic!("{url}")
            };
            assert_eq!(address.shown(), hosts, "{url}");
            let as_told = (address.topology, address.tls, address.login, address.database);
            assert!(as_told == (topology, tls, login, database), "{url}");
        }
    }

    #[test]
    fn what_is_no_such_url_is_told_apart() {
        let cases = [
            ("postgres://h", AddressError::Scheme),
            ("redis+other://h", AddressError::Scheme),
            ("h:6379", AddressError::Scheme),
            ("redis://", AddressError::Host),
            ("redis://h:0", AddressError::Host),
            ("redis://h:x", AddressError::Host),
            ("redis://[::1", AddressError::Host),
            ("redis://a,b", AddressError::SeveralHosts),
            ("redis+sentinel://a,b", AddressError::NoPrimary),
            ("redis://h/x", AddressError::Database),
            ("redis+cluster://h/1", AddressError::ClusterDatabase),
            ("redis://h?a=b", AddressError::Query),
            ("redis+sentinel://h/m?a=b", AddressError::Query),
            ("redis://:%ff@h", AddressError::Encoding),
        ];
        for (url, expected) in cases {
            assert_eq!(Address::parse(url).err(), Some(expected), "{url}");
        }
    }
}
