//! Rows: each turn once, in order, whatever is sent twice and whoever made the table.

use archiver_svc::{Latency, Options, Timing};
use service_kit::config::{Secret, TranscriptDriver};
use service_kit::exit;
use sqlx::{Connection, MySqlConnection, PgConnection, Row as _};
use voxray_proto::archive::TurnTiming;
use voxray_proto::archive::event::Body;
use voxray_testkit::servers::{MariaDb, Postgres};

use crate::common::{Call, Node, Place, assert_rows};
use crate::databases::{Database, Databases, archive, session};

#[tokio::test]
async fn a_call_sent_to_two_archivers_is_one_row_a_turn_in_every_database() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let call = Call::recorded("call-1", 12, 400);
        let other = database.again();
        let archivers = [database.start().await, other.start().await];
        let [first, second] = &archivers;

        // At once: neither knows of the other.
        tokio::join!(archive(first, "n1", &call), archive(second, "n2", &call));

        assert_rows(&call, &first.rows("call-1").await);
        let known = session(second, "call-1").await.unwrap();
        assert_eq!(
            (known.transport.as_str(), known.provider.as_str()),
            ("telephony", "twilio")
        );
        assert_eq!((known.end_reason.as_str(), known.turns), ("caller_hung_up", Some(6)));
        let seconds = known.ended_at.unwrap() - known.started_at.unwrap();
        assert_eq!(seconds.whole_milliseconds(), 60_000, "{}", database.name);
        assert_eq!(known.recording_bytes, Some(call.wav().len() as u64));
        assert_eq!(known.recording_key.unwrap(), "recordings/2026/03/04/call-1.wav");
    }
}

#[tokio::test]
async fn a_table_of_someone_else_without_a_unique_key_gets_no_row_twice_in_any_database() {
    let servers = Databases::start().await;
    for mut database in servers.all() {
        database.place.config.transcripts.table_name = "call_lines".to_owned();
        let id = match database.name {
            "mariadb" => "id BIGINT PRIMARY KEY AUTO_INCREMENT",
            "sqlite" => "id INTEGER PRIMARY KEY",
            _ => "id BIGSERIAL PRIMARY KEY",
        };
        let create = format!(
            "CREATE TABLE call_lines ({id}, session_id VARCHAR(64), role VARCHAR(16), text VARCHAR(4000), seq BIGINT, \
             created_at TIMESTAMP{})",
            if database.name == "mariadb" { "(3)" } else { "" }
        );
        database.execute(&create).await;
        let call = Call::unrecorded("call-1", 5);
        let archiver = database.start().await;

        let mut nodes = [
            Node::connect(archiver.address, "n1").await,
            Node::connect(archiver.address, "n2").await,
        ];
        for event in &call.events {
            for node in &mut nodes {
                node.send(event).await;
            }
        }
        for node in &mut nodes {
            node.until_durable("call-1", call.last()).await;
        }

        assert_rows(&call, &archiver.rows("call-1").await);
        if database.name == "sqlite" {
            // It takes text of any length.
            continue;
        }
        // A turn that does not fit holds up the rest of its own call, and nothing else.
        let (mut wide, other) = (Call::unrecorded("wide", 4), Call::unrecorded("other", 4));
        if let Some(Body::Turn(turn)) = &mut wide.events[2].body {
            turn.text = "x".repeat(5000);
        }
        let [node, _] = &mut nodes;
        node.send_all(&wide.events).await;
        node.send_all(&other.events).await;
        node.until_durable("other", other.last()).await;
        assert_rows(&other, &archiver.rows("other").await);
        let kept: Vec<_> = archiver.rows("wide").await.iter().map(|row| row.seq).collect();
        assert_eq!(kept, [0, 2, 3], "{}", database.name);
        node.until_durable("wide", 2).await;
        assert_eq!(node.durable["wide"], 2, "{}", database.name);
    }
}

/// Text that no compression makes short.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    });
    letters.take(length).collect()
}

#[tokio::test]
async fn a_row_that_a_constraint_or_a_trigger_refuses_holds_up_nothing_but_its_own_call_in_any_database() {
    let servers = Databases::start().await;
    for database in servers.all() {
        // 3819 as MySQL sends it for a CHECK, with an SQLSTATE that says nothing.
        let (refusing, texts) = match database.name {
            "sqlite" => (
                "CREATE TRIGGER refusing BEFORE INSERT ON call_transcripts WHEN NEW.text LIKE 'refuse%' \
                 BEGIN SELECT RAISE(ABORT, 'no'); END",
                vec!["refuse".to_owned()],
            ),
            "mariadb" => (
                "CREATE TRIGGER refusing BEFORE INSERT ON call_transcripts FOR EACH ROW BEGIN \
                 IF NEW.text LIKE 'refuse 3819%' THEN \
                 SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 3819, MESSAGE_TEXT = 'Check constraint is violated.'; \
                 ELSEIF NEW.text LIKE 'refuse 1644%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; \
                 END IF; END",
                vec!["refuse 3819".to_owned(), "refuse 1644".to_owned()],
            ),
            _ => (
                "CREATE INDEX ON call_transcripts (text); \
                 CREATE FUNCTION refusing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.text LIKE 'refuse%' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER refusing BEFORE INSERT ON call_transcripts FOR EACH ROW EXECUTE FUNCTION refusing()",
                vec!["refuse".to_owned(), noise(20_000)],
            ),
        };
        let archiver = database.start().await;
        database.execute(refusing).await;
        let mut node = Node::connect(archiver.address, "n1").await;
        for (number, text) in texts.into_iter().enumerate() {
            let mut refused = Call::unrecorded(&format!("refused-{number}"), 4);
            if let Some(Body::Turn(turn)) = &mut refused.events[2].body {
                turn.text = text;
            }
            let other = Call::unrecorded(&format!("other-{number}"), 4);
            node.send_all(&refused.events).await;
            node.send_all(&other.events).await;
            node.until_durable(&other.id, other.last()).await;
            assert_rows(&other, &archiver.rows(&other.id).await);
            node.until_durable(&refused.id, 2).await;
            let kept: Vec<_> = archiver.rows(&refused.id).await.iter().map(|row| row.seq).collect();
            assert_eq!(
                (kept, node.durable[&refused.id]),
                (vec![0, 2, 3], 2),
                "{}",
                database.name
            );
        }
    }
}

#[tokio::test]
async fn long_turns_in_any_script_and_with_emoji_come_back_as_they_were_from_every_database() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let mut call = Call::unrecorded("call-1", 3);
        // Far more than the 64 KiB of MySQL's TEXT, in characters of one to four bytes, some of several code points.
        let piece = "a é € 漢字 मानक 😀 👩\u{200d}👩\u{200d}👧\u{200d}👦 🇩🇪 \u{10ffff} \\ ' \" % \n";
        for event in &mut call.events {
            if let Some(Body::Turn(turn)) = &mut event.body {
                turn.text = piece.repeat(4_000);
                assert!(turn.text.len() > 4 * 65_536 && turn.text.len() < 1 << 20);
            }
        }
        let archiver = database.start().await;

        archive(&archiver, "n1", &call).await;

        let texts: Vec<String> = archiver.rows("call-1").await.into_iter().map(|row| row.text).collect();
        assert!(texts == vec![piece.repeat(4_000); 3], "{}", database.name);
    }
}

/// As a node sends it.
const TIMING: TurnTiming = TurnTiming {
    endpoint_ms: 700,
    transcript_ms: 710,
    first_token_ms: 800,
    first_audio_ms: 912,
};

#[tokio::test]
async fn turns_that_were_cut_off_are_marked_and_timed_when_asked_for_and_a_table_without_room_for_it_stops_the_start() {
    let servers = Databases::start().await;
    for mut database in servers.all() {
        let mut call = Call::unrecorded("call-1", 3);
        for event in &mut call.events {
            if let Some(Body::Turn(turn)) = &mut event.body {
                turn.interrupted = turn.seq == 2;
                turn.started_ms = Some(u64::from(turn.seq) * 1_000);
                turn.ended_ms = Some(u64::from(turn.seq) * 1_000 + 500);
                turn.timing = (turn.seq == 2).then_some(TIMING);
            }
        }
        let plain = database.start().await;
        archive(&plain, "n1", &call).await;
        assert!(plain.rows("call-1").await.iter().all(|row| row.interrupted.is_none()));
        plain.kill().await;

        database.place.config.transcripts.extended = true;
        // A file of SQLite is widened by itself: one process on a laptop has the further columns by default.
        if database.name != "sqlite" {
            let refused = database.place.try_start(Options::default()).await.err().unwrap();
            assert_eq!(refused.status, exit::CONFIG, "{}: {refused}", database.name);
            assert!(refused.what.contains("interrupted"), "{}: {refused}", database.name);
            // The advice is good.
            for column in ["interrupted BOOLEAN", "timing TEXT"] {
                let alter = format!("ALTER TABLE call_transcripts ADD COLUMN {column}");
                assert!(refused.remedy.contains(&alter), "{refused}");
                database.execute(&alter).await;
            }
        }
        let extended = database.start().await;
        call.events
            .iter_mut()
            .for_each(|event| event.session_id = "call-2".to_owned());
        call.id = "call-2".to_owned();
        archive(&extended, "n1", &call).await;
        let marks: Vec<_> = extended
            .rows("call-2")
            .await
            .iter()
            .map(|row| row.interrupted)
            .collect();
        assert_eq!(marks, [Some(false), None, Some(true)], "{}", database.name);
        let timings: Vec<_> = extended
            .rows("call-2")
            .await
            .into_iter()
            .map(|row| row.timing)
            .collect();
        let spoken = |seq: u64, latency| {
            let (start_ms, end_ms) = (seq * 1_000, seq * 1_000 + 500);
            Some(Timing {
                start_ms,
                end_ms,
                latency,
            })
        };
        let latency = Latency {
            endpoint_ms: 700,
            transcript_ms: 710,
            first_token_ms: 800,
            first_audio_ms: 912,
        };
        let expected = [spoken(0, None), spoken(1, None), spoken(2, Some(latency))];
        assert_eq!(timings, expected, "{}", database.name);
        let earlier = extended.rows("call-1").await;
        assert_eq!(earlier.len(), 3);
        assert!(earlier.iter().all(|row| row.timing.is_none()), "{}", database.name);
    }
}

#[tokio::test]
async fn a_table_in_a_schema_has_its_sessions_beside_it() {
    let servers = Databases::start().await;
    for mut database in servers.all() {
        if database.name == "sqlite" {
            continue;
        }
        database.execute("CREATE SCHEMA archive").await;
        database.place.config.transcripts.table_name = "archive.calls".to_owned();
        let call = Call::unrecorded("call-1", 2);

        archive(&database.start().await, "n1", &call).await;

        database
            .execute("DROP TABLE archive.calls, archive.calls_sessions")
            .await;
    }
}

#[tokio::test]
async fn turns_wait_for_mariadb_to_come_back() {
    let mut mariadb = MariaDb::start().await.unwrap();
    let database = Database::new("mariadb", TranscriptDriver::Mysql, Some(mariadb.dsn("voxray")));
    let archiver = database.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::unrecorded("call-1", 6);
    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", 3).await;

    mariadb.stop();
    node.send_all(&call.events[3..]).await;
    mariadb.restart_on_same_port().await.unwrap();

    node.until_durable("call-1", call.last()).await;
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn the_tables_made_in_mariadb_are_those_of_the_documentation() {
    let mariadb = MariaDb::start().await.unwrap();
    let database = Database::new("mariadb", TranscriptDriver::Mysql, Some(mariadb.dsn("voxray")));

    let _archiver = database.start().await;

    let mut sql = MySqlConnection::connect(&mariadb.dsn("voxray")).await.unwrap();
    let columns = sqlx::query(
        "SELECT CAST(column_name AS CHAR), CAST(column_type AS CHAR) FROM information_schema.columns \
         WHERE table_name = 'call_transcripts' ORDER BY ordinal_position",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    let columns: Vec<(String, String)> = columns.iter().map(|row| (row.get(0), row.get(1))).collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    assert_eq!(
        columns,
        [
            ("session_id", "varchar(128)"),
            ("role", "varchar(64)"),
            ("text", "mediumtext"),
            ("seq", "int(11)"),
            ("created_at", "datetime(3)"),
        ]
    );
    let indexes = sqlx::query(
        "SELECT CAST(GROUP_CONCAT(column_name ORDER BY seq_in_index) AS CHAR), MIN(non_unique) \
         FROM information_schema.statistics WHERE table_name = 'call_transcripts' GROUP BY index_name ORDER BY 1",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    let indexes: Vec<(String, i64)> = indexes.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        indexes,
        [("created_at".to_owned(), 1), ("session_id,seq".to_owned(), 0)]
    );
}

#[tokio::test]
async fn no_more_connections_are_opened_than_the_dsn_allows() {
    let (postgres, mariadb) = tokio::try_join!(Postgres::start(), MariaDb::start()).unwrap();
    let databases = [
        Database::new(
            "postgres",
            TranscriptDriver::Postgres,
            Some(format!(
                "{}&pool_max_conns=2&pool_min_conns=2",
                postgres.dsn("postgres")
            )),
        ),
        Database::new(
            "mariadb",
            TranscriptDriver::Mysql,
            Some(format!("{}?pool_max_conns=2&pool_min_conns=2", mariadb.dsn("voxray"))),
        ),
    ];
    for database in databases {
        let archiver = database.start().await;
        let calls: Vec<Call> = (0..8).map(|n| Call::unrecorded(&format!("call-{n}"), 20)).collect();
        let sent = calls.iter().map(|call| archive(&archiver, &call.id, call));
        futures_util::future::join_all(sent).await;

        let open: i64 = if database.name == "postgres" {
            let mut sql = PgConnection::connect(&postgres.dsn("postgres")).await.unwrap();
            let count = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'voxray-archiver'";
            sqlx::query_scalar(count).fetch_one(&mut sql).await.unwrap()
        } else {
            let mut sql = MySqlConnection::connect(&mariadb.dsn("voxray")).await.unwrap();
            let count =
                "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'root' AND id <> CONNECTION_ID()";
            sqlx::query_scalar(count).fetch_one(&mut sql).await.unwrap()
        };

        assert!((1..=2).contains(&open), "{}: {open}", database.name);
        for call in &calls {
            assert_rows(call, &archiver.rows(&call.id).await);
        }
    }
}

#[tokio::test]
async fn a_database_that_does_not_exist_stops_the_start_with_advice() {
    let mariadb = MariaDb::start().await.unwrap();
    let mut place = Place::new();
    place.config.transcripts.driver = TranscriptDriver::Mysql;
    for (dsn, status, said) in [
        (mariadb.dsn("nowhere"), exit::UNAVAILABLE, "nowhere"),
        (format!("{}?tls=true", mariadb.dsn("voxray")), exit::CONFIG, "\"tls\""),
        ("mysql://".to_owned(), exit::UNAVAILABLE, "refused"),
    ] {
        place.config.transcripts.dsn = Secret::new(dsn);
        let refused = place.try_start(Options::default()).await.err().unwrap();
        assert_eq!(refused.status, status, "{refused}");
        assert!(refused.what.contains(said), "{refused}");
    }
}
