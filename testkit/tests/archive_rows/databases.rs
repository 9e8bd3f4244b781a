//! Every database a deployment may have, each with an archiver that writes to it.

use archiver_svc::{Options, SessionRow};
use service_kit::config::{Secret, TranscriptDriver};
use sqlx::postgres::PgConnectOptions;
use voxray_testkit::servers::{MariaDb, PgBouncer, Postgres};

use crate::common::{Call, Node, Place, Running};

/// Servers of one test. They live as long as this.
pub struct Databases {
    pub postgres: Postgres,
    pub pgbouncer: PgBouncer,
    pub mariadb: MariaDb,
}

/// One of them, as an archiver is configured for it.
pub struct Database {
    pub name: &'static str,
    driver: TranscriptDriver,
    dsn: Option<String>,
    pub place: Place,
}

impl Databases {
    pub async fn start() -> Self {
        let pooled = async {
            let postgres = Postgres::start().await?;
            let pgbouncer = PgBouncer::start(&postgres).await?;
            anyhow::Ok((postgres, pgbouncer))
        };
        let ((postgres, pgbouncer), mariadb) = tokio::try_join!(pooled, MariaDb::start()).unwrap();
        // A database of its own: what goes through PgBouncer and what does not never meets.
        postgres.create_database("pooled").await.unwrap();
        Self {
            postgres,
            pgbouncer,
            mariadb,
        }
    }

    /// PostgreSQL directly and through PgBouncer, MariaDB, SQLite.
    pub fn all(&self) -> Vec<Database> {
        vec![
            Database::new(
                "postgres",
                TranscriptDriver::Postgres,
                Some(format!("{}&pool_max_conns=3", self.postgres.dsn("postgres"))),
            ),
            Database::new(
                "pgbouncer",
                TranscriptDriver::Postgres,
                Some(format!("{}&pool_max_conns=6", self.pgbouncer.dsn("pooled"))),
            ),
            Database::new(
                "mariadb",
                TranscriptDriver::Mysql,
                Some(format!("{}?pool_max_conns=3", self.mariadb.dsn("voxray"))),
            ),
            Database::new("sqlite", TranscriptDriver::Sqlite, None),
        ]
    }
}

impl Database {
    pub fn new(name: &'static str, driver: TranscriptDriver, dsn: Option<String>) -> Self {
        let mut database = Self {
            name,
            driver,
            dsn,
            place: Place::new(),
        };
        database.configure();
        database
    }

    /// The same database for another archiver, with folders of its own.
    pub fn again(&self) -> Self {
        let dsn = self
            .dsn
            .clone()
            .unwrap_or_else(|| self.place.config.transcripts.dsn.expose().to_owned());
        Self::new(self.name, self.driver, Some(dsn))
    }

    pub async fn start(&self) -> Running {
        self.start_with(Options::default()).await
    }

    pub async fn start_with(&self, options: Options) -> Running {
        let started = self.place.try_start(options).await;
        started.unwrap_or_else(|fatal| panic!("{}: {fatal}", self.name))
    }

    /// Runs statements beside the archiver.
    pub async fn execute(&self, statements: &str) {
        let dsn = self.place.config.transcripts.dsn.expose();
        let dsn = dsn.split(['?']).next().unwrap();
        let text = || sqlx::AssertSqlSafe(statements.to_owned());
        match self.driver {
            TranscriptDriver::Postgres => {
                let options: PgConnectOptions = format!("{dsn}?sslmode=disable").parse().unwrap();
                let pool = sqlx::PgPool::connect_with(options.extra_float_digits(None))
                    .await
                    .unwrap();
                sqlx::raw_sql(text()).execute(&pool).await.unwrap();
            }
            TranscriptDriver::Mysql => {
                let pool = sqlx::MySqlPool::connect(dsn).await.unwrap();
                sqlx::raw_sql(text()).execute(&pool).await.unwrap();
            }
            TranscriptDriver::Sqlite => {
                let path = dsn.trim_start_matches("sqlite://");
                std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
                let pool = sqlx::SqlitePool::connect(&format!("{dsn}?mode=rwc")).await.unwrap();
                sqlx::raw_sql(text()).execute(&pool).await.unwrap();
            }
        }
    }

    fn configure(&mut self) {
        let transcripts = &mut self.place.config.transcripts;
        transcripts.driver = self.driver;
        if let Some(dsn) = &self.dsn {
            transcripts.dsn = Secret::new(dsn.clone());
        }
    }
}

/// Sends a call and waits until all of it is stored.
pub async fn archive(archiver: &Running, node_id: &str, call: &Call) {
    let mut node = Node::connect(archiver.address, node_id).await;
    node.send_all(&call.events).await;
    node.until_durable(&call.id, call.last()).await;
}

pub async fn session(archiver: &Running, id: &str) -> Option<SessionRow> {
    archiver.transcripts.as_ref().unwrap().session(id).await.unwrap()
}
