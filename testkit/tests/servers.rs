//! The servers the other tests stand on really start, really answer, and are really gone afterwards.

use std::net::TcpStream;

use sqlx::{Connection, MySqlConnection, PgConnection};
use voxray_testkit::servers::{MariaDb, Postgres, Redis, S3};

fn nobody_listens_on(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

async fn connect_redis(server: &Redis) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    redis::Client::open(server.url())?
        .get_multiplexed_async_connection()
        .await
}

#[tokio::test]
async fn redis_answers_and_is_gone_after_drop() {
    let server = Redis::start().await.unwrap();
    let mut connection = connect_redis(&server).await.unwrap();

    let () = redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query_async(&mut connection)
        .await
        .unwrap();
    let value: String = redis::cmd("GET").arg("key").query_async(&mut connection).await.unwrap();

    assert_eq!(value, "value");
    let port = server.port();
    drop(server);
    assert!(nobody_listens_on(port));
}

#[tokio::test]
async fn redis_comes_back_empty_on_the_same_port() {
    let mut server = Redis::start().await.unwrap();
    let url = server.url();
    let () = redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query_async(&mut connect_redis(&server).await.unwrap())
        .await
        .unwrap();

    server.stop();
    assert!(nobody_listens_on(server.port()));
    server.restart_on_same_port().await.unwrap();

    assert_eq!(server.url(), url);
    let value: Option<String> = redis::cmd("GET")
        .arg("key")
        .query_async(&mut connect_redis(&server).await.unwrap())
        .await
        .unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn postgres_answers_and_is_gone_after_drop() {
    let server = Postgres::start().await.unwrap();
    let dsn = server.create_database("calls").await.unwrap();
    let mut connection = PgConnection::connect(&dsn).await.unwrap();

    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();

    assert_eq!(name, "calls");
    let port = server.port();
    drop(server);
    assert!(nobody_listens_on(port));
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_over_a_restart() {
    let mut server = Postgres::start().await.unwrap();
    let dsn = server.create_database("calls").await.unwrap();
    let mut connection = PgConnection::connect(&dsn).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (n INT4); INSERT INTO t VALUES (7)")
        .execute(&mut connection)
        .await
        .unwrap();

    server.stop();
    assert!(nobody_listens_on(server.port()));
    server.restart_on_same_port().await.unwrap();

    let mut connection = PgConnection::connect(&dsn).await.unwrap();
    let n: i32 = sqlx::query_scalar("SELECT n FROM t")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn a_bad_database_name_is_refused() {
    let server = Postgres::start().await.unwrap();
    let error = server.create_database("calls; DROP TABLE t").await.unwrap_err();
    assert!(error.to_string().contains("is no database name"));
}

#[tokio::test]
async fn s3_stores_objects_over_a_kill_and_is_gone_after_drop() {
    let mut server = S3::start().await.unwrap();
    server.create_bucket("calls").await.unwrap();
    let put = server
        .client()
        .put_object()
        .bucket("calls")
        .key("a/b.wav")
        .body(b"RIFF".to_vec().into());
    put.send().await.unwrap();

    server.kill_and_restart().await.unwrap();

    assert_eq!(&server.object("calls", "a/b.wav").await.unwrap()[..], b"RIFF");
    assert_eq!(server.keys("calls", "a/").await.unwrap(), ["a/b.wav"]);
    let port: u16 = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    drop(server);
    assert!(nobody_listens_on(port));
}

#[tokio::test]
async fn s3_refuses_a_bucket_that_was_not_created() {
    let server = S3::start().await.unwrap();
    let put = server
        .client()
        .put_object()
        .bucket("nowhere")
        .key("a.wav")
        .body(b"RIFF".to_vec().into());
    let error = put.send().await.unwrap_err().into_service_error();
    assert_eq!(error.meta().code(), Some("NoSuchBucket"));
}

#[tokio::test]
async fn s3_refuses_a_wrong_secret() {
    let server = S3::start().await.unwrap();
    let wrong = aws_sdk_s3::config::Credentials::new(server.access_key(), "wrong", None, None, "test");
    let config = server
        .client()
        .config()
        .to_builder()
        .credentials_provider(wrong)
        .build();
    let error = aws_sdk_s3::Client::from_conf(config)
        .list_buckets()
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.meta().code(), Some("SignatureDoesNotMatch"));
}

#[tokio::test]
async fn mariadb_keeps_what_was_committed_when_killed_and_is_gone_after_drop() {
    let mut server = MariaDb::start().await.unwrap();
    let mut connection = MySqlConnection::connect(&server.dsn("voxray")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)")
        .execute(&mut connection)
        .await
        .unwrap();

    server.stop();
    assert!(nobody_listens_on(server.port()));
    server.restart_on_same_port().await.unwrap();

    let mut connection = MySqlConnection::connect(&server.dsn("voxray")).await.unwrap();
    let kept: i32 = sqlx::query_scalar("SELECT n FROM t")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, 7);
    let port = server.port();
    drop(server);
    assert!(nobody_listens_on(port));
}
