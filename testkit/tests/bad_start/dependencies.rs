//! Redis, PostgreSQL and S3 that are not there, refuse, or lack what was named.

use service_kit::exit;
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::{Postgres, Redis, S3};

use crate::support::{SECRET, Voxray};

fn service() -> Voxray {
    Voxray::new()
        .env("VOXRAY_PORT", "0")
        .env("VOXRAY_ARCHIVER_PORT", "0")
        .env("VOXRAY_SERVICE_TOKEN", SECRET)
}

#[tokio::test]
async fn a_redis_that_refuses_is_named_without_its_password() {
    let port = free_port().unwrap();
    let voxray = service()
        .env("VOXRAY_SESSION_STORE", "redis")
        .env("VOXRAY_REDIS_URL", format!("redis://user:{SECRET}@127.0.0.1:{port}/"));
    let address = format!("127.0.0.1:{port}");
    for role in ["signaling", "media"] {
        let says = [address.as_str(), "Connection refused", "redis_url"];
        voxray.fails(&[role], exit::UNAVAILABLE, &says).await;
    }
    let redis = Redis::start().await.unwrap();
    let url = format!("redis://user:{SECRET}@127.0.0.1:{}/", redis.port());
    let voxray = voxray.env("VOXRAY_REDIS_URL", url);
    voxray
        .fails(&["signaling"], exit::UNAVAILABLE, &["user or password"])
        .await;
    assert!(voxray.left().is_empty());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_with_the_cause() {
    let port = free_port().unwrap();
    let voxray = service().env("VOXRAY_TRANSCRIPTS_ENABLE", "true");
    let with_dsn = |voxray: Voxray, dsn: String| voxray.env("VOXRAY_TRANSCRIPTS_DSN", dsn);

    let voxray = with_dsn(voxray, format!("postgres://u:{SECRET}@127.0.0.1:{port}/calls"));
    let place = format!("127.0.0.1:{port}/calls");
    let says = [place.as_str(), "Connection refused", "transcripts.dsn"];
    voxray.fails(&["archiver"], exit::UNAVAILABLE, &says).await;

    let voxray = with_dsn(voxray, format!("postgres://u:{SECRET}@127.0.0.1:99999/calls"));
    voxray
        .fails(&["archiver"], exit::CONFIG, &["transcripts.dsn", "port"])
        .await;
    let voxray = with_dsn(voxray, format!("postgres://u:{SECRET}@h/calls?pool_max_conns=many"));
    voxray
        .fails(&["archiver"], exit::CONFIG, &["pool_max_conns=many"])
        .await;
    let voxray = with_dsn(voxray, format!("mongodb://u:{SECRET}@h/calls"));
    voxray
        .fails(&["archiver"], exit::CONFIG, &["transcripts.dsn", "***"])
        .await;

    let postgres = Postgres::start().await.unwrap();
    let dsn = postgres
        .create_database("there")
        .await
        .unwrap()
        .replace("/there", "/missing");
    let voxray = with_dsn(voxray, dsn);
    voxray
        .fails(&["archiver"], exit::UNAVAILABLE, &["\"missing\" does not exist"])
        .await;
    assert!(voxray.left().is_empty());
}

#[tokio::test]
async fn a_bucket_that_is_missing_or_locked_is_named() {
    let s3 = S3::start().await.unwrap();
    s3.create_bucket("there").await.unwrap();
    let voxray = service()
        .env("VOXRAY_RECORDING_ENABLE", "true")
        .env("VOXRAY_RECORDING_BUCKET", "missing")
        .env("VOXRAY_S3_ENDPOINT", s3.endpoint())
        .env("VOXRAY_S3_FORCE_PATH_STYLE", "true")
        .env("AWS_ACCESS_KEY_ID", s3.access_key())
        .env("AWS_SECRET_ACCESS_KEY", s3.secret_key());
    let endpoint = s3.endpoint();
    let says = ["\"missing\" does not exist", endpoint.as_str(), "recording.bucket"];
    voxray.fails(&["archiver"], exit::UNAVAILABLE, &says).await;

    let voxray = voxray
        .env("VOXRAY_RECORDING_BUCKET", "there")
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    voxray
        .fails(&["archiver"], exit::UNAVAILABLE, &["403", "AWS_SECRET_ACCESS_KEY"])
        .await;

    let nowhere = format!("http://127.0.0.1:{}", free_port().unwrap());
    let voxray = voxray.env("VOXRAY_S3_ENDPOINT", &nowhere);
    voxray
        .fails(
            &["archiver"],
            exit::UNAVAILABLE,
            &[&nowhere, "cannot be reached", "s3.endpoint"],
        )
        .await;
    assert!(voxray.left().is_empty(), "{:?}", voxray.left());
}
