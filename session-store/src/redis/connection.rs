//! One way to talk to one server, to whichever server the sentinels call the primary, and to a cluster.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult,
    Value, cmd,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::{Address, Host, Login, Topology};
use super::pem::Pem;

/// Longest wait for an answer: beyond it the caller is better served by an error.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for a connection, finding the primary included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest operation, whatever is in its way: a connection that has to be made first, others who wait for the same one,
/// a shard of a cluster that fails over. How soon a store that has come back is used again follows from it.
pub(crate) const LONGEST_OPERATION: Duration = Duration::from_millis(1_500);
/// Times a cluster is asked again after it has moved a slot or lost a server.
const CLUSTER_RETRIES: u32 = 4;
/// After a failed attempt to connect nobody tries again for this long: those who wait in line fail at once instead of one
/// after the other.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// A connection that clones share, and that comes back by itself: an operation that meets a broken one fails, and the
/// next one connects anew.
#[derive(Clone)]
pub(super) enum Connection {
    /// One server at a time.
    Server(Arc<Server>),
    /// All servers of a cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects; the files are used with TLS.
    pub(super) async fn open(address: Address, files: Pem) -> RedisResult<Self> {
        if address.topology == Topology::Cluster {
            return Ok(Self::Cluster(cluster(&address, &files).await?));
        }
        let server = Server {
            address,
            files,
            state: Mutex::default(),
        };
        server.connection().await?;
        Ok(Self::Server(Arc::new(server)))
    }

    /// Whether keys with different hash tags may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// The client begins anew with the servers it was made with when it has lost its way, so it is made with all there are:
/// those of the URL may be gone by then.
async fn cluster(address: &Address, files: &Pem) -> RedisResult<ClusterConnection> {
    let mut told = cluster_of(address, &address.hosts, files).await?;
    let slots: Value = cmd("CLUSTER").arg("SLOTS").query_async(&mut told).await?;
    let mut hosts = address.hosts.clone();
    for host in servers_in(&slots) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    cluster_of(address, &hosts, files).await
}

/// Servers in the answer of `CLUSTER SLOTS`: of each range the first and the last slot, then its servers, of which each
/// begins with name and port.
fn servers_in(slots: &Value) -> Vec<Host> {
    let list = |value: &Value| match value {
        Value::Array(list) => list.clone(),
        _ => Vec::new(),
    };
    let ranges = list(slots);
    let servers = ranges.iter().flat_map(|range| list(range).into_iter().skip(2));
    let hosts = servers.filter_map(|server| match list(&server).as_slice() {
        [Value::BulkString(name), Value::Int(port), ..] => Some(Host {
            name: String::from_utf8(name.clone()).ok()?,
            port: u16::try_from(*port).ok()?,
        }),
        _ => None,
    });
    // Of some servers the others know no name.
    hosts.filter(|host| !matches!(host.name.as_str(), "" | "?")).collect()
}

async fn cluster_of(address: &Address, hosts: &[Host], files: &Pem) -> RedisResult<ClusterConnection> {
    let hosts = hosts.iter().map(|host| address.server(host));
    let mut builder = ClusterClientBuilder::new(hosts.collect::<RedisResult<Vec<_>>>()?)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .overall_response_timeout(Some(LONGEST_OPERATION))
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(50)
        .max_retry_wait(400);
    if address.tls {
        builder = builder.certs(files.certificates());
    }
    builder.build()?.get_async_connection().await
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
            Self::Server(server) => Box::pin(in_time(async move {
                let (number, mut connection) = server.connection().await?;
                let answer = connection.req_packed_command(cmd).await;
                server.judge(number, answer.as_ref().err()).await;
                answer
            })),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
            Self::Server(server) => Box::pin(in_time(async move {
                let (number, mut connection) = server.connection().await?;
                let answer = connection.req_packed_commands(pipeline, offset, count).await;
                server.judge(number, answer.as_ref().err()).await;
                answer
            })),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Cluster(cluster) => cluster.get_db(),
            Self::Server(server) => server.address.database,
        }
    }
}

/// One server: a fixed one, or the primary of the moment.
pub(super) struct Server {
    address: Address,
    files: Pem,
    state: Mutex<State>,
}

/// Connections are numbered, so that one who comes late with bad news about an old one does not harm the new one.
#[derive(Default)]
struct State {
    number: u64,
    connection: Option<MultiplexedConnection>,
    failed: Option<(Instant, String)>,
}

impl Server {
    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((state.number, connection.clone()));
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(io_error(why.clone()));
        }
        let connected = match tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(io_error("no connection within a second".to_owned())),
        };
        match connected {
            Ok(connection) => {
                state.number += 1;
                state.connection = Some(connection.clone());
                state.failed = None;
                Ok((state.number, connection))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }

    /// Gives a connection up that cannot be used any more: it is broken, hangs, or leads to a server that is not (or no
    /// longer) the primary.
    async fn judge(&self, number: u64, error: Option<&RedisError>) {
        let unusable = error.is_some_and(|error| {
            error.is_io_error()
                || error.is_timeout()
                || error.is_connection_dropped()
                || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"))
        });
        if unusable {
            let mut state = self.state.lock().await;
            if state.number == number {
                state.connection = None;
            }
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let (host, of_sentinels) = match &self.address.topology {
            Topology::Sentinel { primary, login } => (self.find(primary, login).await?, true),
            Topology::Single | Topology::Cluster => {
                let host = self.address.hosts.first().cloned();
                (host.ok_or_else(|| io_error("there is no host".to_owned()))?, false)
            }
        };
        let mut connection = self.dial(self.address.server(&host)?).await?;
        if of_sentinels {
            // Sentinels name the old primary until they have agreed on a new one; it may be back as a replica.
            let role: Vec<Value> = cmd("ROLE").query_async(&mut connection).await?;
            let is_primary = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
            if !is_primary {
                return Err(io_error(
                    "the server that the sentinels name is no primary (yet)".to_owned(),
                ));
            }
        }
        Ok(connection)
    }

    /// Asks the sentinels for the primary, one after the other, until one knows it.
    async fn find(&self, primary: &str, login: &Login) -> RedisResult<Host> {
        let mut last = io_error("there is no sentinel".to_owned());
        for sentinel in &self.address.hosts {
            match self.ask(sentinel, primary, login).await {
                Ok(host) => return Ok(host),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Host, primary: &str, login: &Login) -> RedisResult<Host> {
        let mut connection = self.dial(self.address.sentinel(sentinel, login)?).await?;
        let found: Option<(String, u16)> = cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(primary)
            .query_async(&mut connection)
            .await?;
        let (name, port) =
            found.ok_or_else(|| io_error("the sentinels watch no primary of the name in redis_url".to_owned()))?;
        Ok(Host { name, port })
    }

    async fn dial(&self, to: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let client = if self.address.tls {
            Client::build_with_tls(to, self.files.certificates())?
        } else {
            Client::open(to)?
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT / 2))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

async fn in_time<T>(operation: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(LONGEST_OPERATION, operation).await {
        Ok(answer) => answer,
        Err(_) => Err(io_error("no answer in time".to_owned())),
    }
}

fn io_error(why: String) -> RedisError {
    RedisError::from((ErrorKind::Io, "not connected", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_of_a_cluster_that_has_a_name_is_known() {
        let server = |name: &str, port| {
            let id = Value::BulkString(b"id".to_vec());
            Value::Array(vec![Value::BulkString(name.into()), Value::Int(port), id])
        };
        let range =
            |from, to, servers: Vec<Value>| Value::Array([vec![Value::Int(from), Value::Int(to)], servers].concat());
        let slots = Value::Array(vec![
            range(0, 9_999, vec![server("10.0.0.1", 7_000), server("?", 7_001)]),
            range(10_000, 16_383, vec![server("", 7_002), server("redis-3", 7_003)]),
        ]);
        let found = servers_in(&slots);
        let found: Vec<_> = found.iter().map(|host| (host.name.as_str(), host.port)).collect();
        assert_eq!(found, [("10.0.0.1", 7_000), ("redis-3", 7_003)]);
    }
}
