//! A session that somebody else has locked in the database, for hours perhaps: everything else of its node goes on.

use service_kit::config::{Secret, TranscriptDriver};
use sqlx::{Connection, MySqlConnection, PgConnection};
use voxray_testkit::servers::{MariaDb, Postgres};

use crate::common::{self, Call, Node, Place, Running, assert_rows};
use crate::use_postgres;

/// The call that is locked. By its id it comes before and behind the others, in whatever order locks are taken.
const HELD: &str = "call-5-held";

/// Archivers with the tables made, and calls that are not locked.
struct Scene {
    place: Place,
    archiver: Running,
    node: Node,
}

impl Scene {
    async fn begin(place: Place) -> Self {
        let archiver = place.start().await;
        let node = Node::connect(archiver.address, "n1").await;
        Self { place, archiver, node }
    }

    /// Calls of the same node, with recordings and without, are stored to their ends.
    async fn stores(&mut self, names: &str) {
        let recorded = (0..5).map(|n| Call::recorded(&format!("call-{n}-{names}"), 4, 160));
        let unrecorded = (5..10).map(|n| Call::unrecorded(&format!("call-{n}-{names}"), 4));
        let calls: Vec<_> = recorded.chain(unrecorded).collect();
        for call in &calls {
            self.node.send_all(&call.events).await;
        }
        for call in &calls {
            self.node.until_durable(&call.id, call.last()).await;
            assert_rows(call, &self.archiver.rows(&call.id).await);
        }
    }

    /// Somebody holds the call from before its first event until `let_go`.
    async fn goes_on_around_it(mut self, let_go: impl Future<Output = ()>) {
        let held = Call::recorded(HELD, 8, 800);
        let (begin, end) = held.events.split_at(6);
        self.node.send_all(begin).await;
        self.stores("first").await;
        self.node.send_all(end).await;
        common::until(|| self.place.recording(HELD).exists()).await;
        self.stores("later").await;
        assert!(!self.node.durable.contains_key(HELD));

        // Another archiver is sent it again, and whatever else has not been heard of.
        self.archiver.kill().await;
        self.archiver = self.place.start().await;
        self.node = Node::connect(self.archiver.address, "n1").await;
        self.node.send_all(&held.events).await;
        self.stores("later").await;
        self.stores("last").await;
        assert!(!self.node.durable.contains_key(HELD));
        assert!(self.archiver.rows(HELD).await.is_empty());

        let_go.await;
        self.node.until_durable(HELD, held.last()).await;
        assert_rows(&held, &self.archiver.rows(HELD).await);
        assert_eq!(std::fs::read(self.place.recording(HELD)).unwrap(), held.wav());
        let noted = self.archiver.transcripts.as_ref().unwrap().session(HELD).await.unwrap();
        assert_eq!(noted.unwrap().recording_bytes, Some(held.wav().len() as u64));
    }
}

async fn in_postgres(hold: &str) {
    let postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("postgres"));
    let scene = Scene::begin(place).await;
    let mut sql = PgConnection::connect(&postgres.dsn("postgres")).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {hold}")))
        .execute(&mut sql)
        .await
        .unwrap();

    scene.goes_on_around_it(async { sql.close().await.unwrap() }).await;
}

#[tokio::test]
async fn a_session_that_another_transaction_writes_to_in_postgres_waits_alone() {
    in_postgres(&format!("SELECT pg_advisory_xact_lock(hashtextextended('{HELD}', 0))")).await;
}

#[tokio::test]
async fn a_session_of_which_somebody_is_adding_a_row_in_postgres_waits_alone() {
    in_postgres(&format!(
        "INSERT INTO call_transcripts (session_id, role, text, seq, created_at) VALUES ('{HELD}', 'user', '', 0, now())"
    ))
    .await;
}

async fn in_mariadb(hold: &str) {
    let mariadb = MariaDb::start().await.unwrap();
    let mut place = Place::new();
    place.config.transcripts.driver = TranscriptDriver::Mysql;
    place.config.transcripts.dsn = Secret::new(format!("{}?pool_max_conns=2", mariadb.dsn("voxray")));
    let scene = Scene::begin(place).await;
    let mut sql = MySqlConnection::connect(&mariadb.dsn("voxray")).await.unwrap();
    for statement in ["BEGIN", hold] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
            .execute(&mut sql)
            .await
            .unwrap();
    }

    scene.goes_on_around_it(async { sql.close().await.unwrap() }).await;
}

#[tokio::test]
async fn a_session_that_another_transaction_writes_to_in_mariadb_waits_alone() {
    in_mariadb(&format!(
        "INSERT INTO call_transcripts_sessions (session_id) VALUES ('{HELD}')"
    ))
    .await;
}

#[tokio::test]
async fn a_session_of_which_somebody_is_adding_a_row_in_mariadb_waits_alone() {
    in_mariadb(&format!(
        "INSERT INTO call_transcripts (session_id, role, text, seq, created_at) VALUES ('{HELD}', 'user', '', 0, NOW())"
    ))
    .await;
}
