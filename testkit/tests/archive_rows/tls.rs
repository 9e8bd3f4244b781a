//! TLS as the DSN asks for it.

use archiver_svc::Options;
use service_kit::config::{Secret, TranscriptDriver};
use service_kit::exit;
use voxray_testkit::servers::{Certificate, MariaDb, Postgres};

use crate::common::{Call, Place, assert_rows};
use crate::databases::{Database, archive};

/// A place with the authority in a file, and its path.
fn with_authority(driver: TranscriptDriver, certificate: &Certificate) -> (Place, String) {
    let mut place = Place::new();
    place.config.transcripts.driver = driver;
    let file = place.dir.path().join("authority.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    (place, file.display().to_string())
}

#[tokio::test]
async fn postgres_is_spoken_to_as_sslmode_says() {
    let certificate = Certificate::new().unwrap();
    let postgres = Postgres::start_with_tls(&certificate).await.unwrap();
    let (mut place, authority) = with_authority(TranscriptDriver::Postgres, &certificate);
    let base = postgres.dsn("postgres").replace("?sslmode=require", "");

    // The server takes nobody without TLS, and its certificate is known to nobody.
    for refused in ["sslmode=disable", "sslmode=verify-full", "sslmode=verify-ca"] {
        place.config.transcripts.dsn = Secret::new(format!("{base}?{refused}"));
        let fatal = place.try_start(Options::default()).await.err().unwrap();
        assert_eq!(fatal.status, exit::UNAVAILABLE, "{refused}: {fatal}");
    }
    for (n, good) in [
        "sslmode=require".to_owned(),
        "sslmode=prefer".to_owned(),
        format!("sslmode=verify-full&sslrootcert={authority}"),
    ]
    .into_iter()
    .enumerate()
    {
        let dsn = format!("{base}?{good}&pool_max_conns=2");
        let database = Database::new("postgres", TranscriptDriver::Postgres, Some(dsn));
        let call = Call::unrecorded(&format!("call-{n}"), 3);
        let archiver = database.start().await;
        archive(&archiver, "n1", &call).await;
        assert_rows(&call, &archiver.rows(&call.id).await);
    }
}

#[tokio::test]
async fn mariadb_is_spoken_to_as_ssl_mode_says() {
    let certificate = Certificate::new().unwrap();
    let (plain, tls) = tokio::try_join!(MariaDb::start(), MariaDb::start_with_tls(&certificate)).unwrap();
    let (mut place, authority) = with_authority(TranscriptDriver::Mysql, &certificate);

    for refused in [
        format!("{}?ssl-mode=REQUIRED", plain.dsn("voxray")),
        format!("{}?ssl-mode=VERIFY_IDENTITY", tls.dsn("voxray")),
    ] {
        place.config.transcripts.dsn = Secret::new(refused.clone());
        let fatal = place.try_start(Options::default()).await.err().unwrap();
        assert_eq!(fatal.status, exit::UNAVAILABLE, "{refused}: {fatal}");
    }
    for (n, good) in [
        format!("{}?ssl-mode=REQUIRED", tls.dsn("voxray")),
        format!("{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", tls.dsn("voxray")),
        format!("{}?ssl-mode=PREFERRED", plain.dsn("voxray")),
    ]
    .into_iter()
    .enumerate()
    {
        let database = Database::new("mariadb", TranscriptDriver::Mysql, Some(good));
        let call = Call::unrecorded(&format!("call-{n}"), 3);
        let archiver = database.start().await;
        archive(&archiver, "n1", &call).await;
        assert_rows(&call, &archiver.rows(&call.id).await);
    }
}
