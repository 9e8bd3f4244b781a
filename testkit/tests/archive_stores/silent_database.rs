//! A connection to the database that goes silent in the middle of a transaction: neither side is told.

use std::time::Duration;

use service_kit::config::{Secret, TranscriptDriver};
use sqlx::{Connection, MySqlConnection, PgConnection};
use voxray_testkit::relay::Relay;
use voxray_testkit::servers::{MariaDb, Postgres};
use voxray_testkit::wait::eventually;

use crate::common::{self, Call, Node, Place, Running, assert_rows};
use crate::use_postgres;

/// The archiver waits 15 s for an answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// An archiver that reaches its database through a relay, and a call of which half is written.
struct Scene {
    relay: Relay,
    archiver: Running,
    place: Place,
    node: Node,
    calls: [Call; 2],
}

impl Scene {
    async fn begin(port: u16, configure: impl FnOnce(&mut Place, u16)) -> Self {
        let relay = Relay::start().await.unwrap();
        relay.set_targets([port]);
        let mut place = Place::new();
        configure(&mut place, relay.address().port());
        let archiver = place.start().await;
        let mut node = Node::connect(archiver.address, "n1").await;
        let calls = [Call::unrecorded("call-1", 6), Call::recorded("call-2", 8, 800)];
        node.send_all(&calls[0].events[..3]).await;
        node.until_durable("call-1", 3).await;
        Self {
            relay,
            archiver,
            place,
            node,
            calls,
        }
    }

    /// Somebody else holds the session, so that the transaction is in the middle when the connection goes.
    async fn loses_its_connection(
        mut self,
        is_in_the_middle: impl AsyncFn() -> anyhow::Result<bool>,
        let_go: impl Future<Output = ()>,
    ) {
        self.node.send_all(&self.calls[0].events[3..]).await;
        let waits = eventually("a transaction in the middle", PATIENCE, || async {
            Ok(is_in_the_middle().await?.then_some(()))
        });
        waits.await.unwrap();
        self.relay.freeze_open_connections();
        let_go.await;
        // What comes meanwhile is kept, and its audio stored.
        self.node.send_all(&self.calls[1].events).await;
        common::until(|| self.place.recording("call-2").exists()).await;

        for call in &self.calls {
            self.node.until_durable(&call.id, call.last()).await;
            assert_rows(call, &self.archiver.rows(&call.id).await);
        }
        assert!(common::metric("db_errors_total{error_type=\"timeout\"}") >= 1.0);
    }
}

#[tokio::test]
async fn a_transaction_without_an_answer_is_given_up_and_written_on_another_connection() {
    let postgres = Postgres::start().await.unwrap();
    let dsn = postgres.dsn("postgres");
    let direct = format!(":{}/", postgres.port());
    let scene = Scene::begin(postgres.port(), |place, port| {
        use_postgres(place, &dsn.replace(&direct, &format!(":{port}/")));
    });
    let scene = scene.await;
    let mut sql = PgConnection::connect(&dsn).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('call-1', 0))")
        .execute(&mut sql)
        .await
        .unwrap();
    let watcher = tokio::sync::Mutex::new(PgConnection::connect(&dsn).await.unwrap());
    let is_waiting = async || {
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                .fetch_one(&mut *watcher.lock().await)
                .await?;
        Ok(waiting > 0)
    };

    scene
        .loses_its_connection(is_waiting, async { sql.close().await.unwrap() })
        .await;
}

#[tokio::test]
async fn mariadb_does_not_keep_a_session_locked_for_a_connection_that_went_silent() {
    let mariadb = MariaDb::start().await.unwrap();
    let dsn = mariadb.dsn("voxray");
    let direct = format!(":{}/", mariadb.port());
    let scene = Scene::begin(mariadb.port(), |place, port| {
        let through = dsn.replace(&direct, &format!(":{port}/"));
        place.config.transcripts.driver = TranscriptDriver::Mysql;
        place.config.transcripts.dsn = Secret::new(format!("{through}?pool_max_conns=2"));
    });
    let scene = scene.await;
    let mut sql = MySqlConnection::connect(&dsn).await.unwrap();
    for hold in [
        "BEGIN",
        "SELECT 1 FROM call_transcripts_sessions WHERE session_id = 'call-1' FOR UPDATE",
    ] {
        sqlx::raw_sql(hold).execute(&mut sql).await.unwrap();
    }
    let watcher = tokio::sync::Mutex::new(MySqlConnection::connect(&dsn).await.unwrap());
    let is_waiting = async || {
        // What InnoDB says of locks is not brought up to date while somebody keeps asking.
        let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO %_sessions%'";
        let waiting: i64 = sqlx::query_scalar(running)
            .fetch_one(&mut *watcher.lock().await)
            .await?;
        Ok(waiting > 0)
    };

    scene
        .loses_its_connection(is_waiting, async { sql.close().await.unwrap() })
        .await;
}
