//! A connection to the database that goes silent in the middle of a transaction: neither side is told.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use voxray_testkit::relay::Relay;
use voxray_testkit::servers::Postgres;
use voxray_testkit::wait::eventually;

use crate::common::{self, Call, Node, Place, assert_rows};
use crate::use_postgres;

/// The archiver waits 15 s for an answer.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_transaction_without_an_answer_is_given_up_and_written_on_another_connection() {
    let postgres = Postgres::start().await.unwrap();
    let relay = Relay::start().await.unwrap();
    relay.set_targets([postgres.port()]);
    let mut place = Place::new();
    let dsn = postgres.dsn("postgres");
    let through = dsn.replace(
        &format!(":{}/", postgres.port()),
        &format!(":{}/", relay.address().port()),
    );
    use_postgres(&mut place, &through);
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let calls = [Call::unrecorded("call-1", 6), Call::recorded("call-2", 8, 800)];
    let call = &calls[0];
    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", 3).await;

    // Somebody else holds the session, so that the transaction is in the middle when the connection goes.
    let mut sql = PgConnection::connect(&dsn).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('call-1', 0))")
        .execute(&mut sql)
        .await
        .unwrap();
    node.send_all(&call.events[3..]).await;
    let mut watcher = PgConnection::connect(&dsn).await.unwrap();
    let watcher = tokio::sync::Mutex::new(&mut watcher);
    let waits = eventually("a transaction in the middle", PATIENCE, || async {
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                .fetch_one(&mut **watcher.lock().await)
                .await?;
        Ok((waiting > 0).then_some(()))
    });
    waits.await.unwrap();
    relay.freeze_open_connections();
    sql.close().await.unwrap();
    // What comes meanwhile is kept, and its audio stored.
    node.send_all(&calls[1].events).await;
    common::until(|| place.recording("call-2").exists()).await;

    for call in &calls {
        node.until_durable(&call.id, call.last()).await;
        assert_rows(call, &archiver.rows(&call.id).await);
    }
    assert!(common::metric("db_errors_total{error_type=\"timeout\"}") >= 1.0);
}
