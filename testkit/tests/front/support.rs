//! A deployment behind nginx whose agents greet, and give one answer to one question.

use std::time::Duration;

use serde_json::Value;
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::Nginx;
use voxray_testkit::stack::{Stack, StackBuilder};

/// Long enough for anything on a machine that is busy with something else.
pub const LIMIT: Duration = Duration::from_secs(90);

/// What every caller says, as it is understood.
pub const QUESTION: &str = "Where may I leave my car?";
/// What the agent answers.
pub const ANSWER: &str = "Behind the house.";

/// nginx in front of two signaling services and three media nodes, which were told `media_public_url`.
pub struct Fleet {
    pub nginx: Nginx,
    pub stack: Stack,
    pub http: reqwest::Client,
    _openai: OpenAiServer,
}

impl Fleet {
    /// `path` is what follows nginx's address in `media_public_url`.
    pub async fn start(path: &str, change: impl FnOnce(StackBuilder) -> StackBuilder) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let openai = OpenAiServer::start().await.unwrap();
        openai.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, 300)));
        openai.otherwise(Endpoint::Transcriptions, Answer::transcript(QUESTION));
        openai.otherwise(Endpoint::Chat, Answer::chat([ANSWER]));
        let port = free_port().unwrap();
        let builder = Stack::builder()
            .media(3)
            .env("VOXRAY_PROVIDER", "openai")
            .env("VOXRAY_OPENAI_BASE_URL", openai.base_url())
            .env("OPENAI_API_KEY", "test")
            .env("VOXRAY_GREETING", "Hello.")
            .env("VOXRAY_MEDIA_PUBLIC_URL", format!("ws://127.0.0.1:{port}{path}"));
        let stack = change(builder)
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        let nginx = Nginx::start(port, &stack.signaling, &stack.media).await.unwrap();
        Self {
            nginx,
            stack,
            http: reqwest::Client::new(),
            _openai: openai,
        }
    }

    /// `GET /sessions` through nginx.
    pub async fn sessions(&self) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/sessions", self.nginx.url());
        let mut body: Value = self.http.get(url).send().await?.error_for_status()?.json().await?;
        Ok(serde_json::from_value(body["data"]["sessions"].take())?)
    }

    /// Calls and reservations of all nodes, from what they report to placement.
    pub async fn load(&self) -> anyhow::Result<u32> {
        Ok(self.nodes().await?.iter().map(|node| node.sessions).sum())
    }

    /// What the nodes report to placement.
    pub async fn nodes(&self) -> anyhow::Result<Vec<session_store::NodeRecord>> {
        let store = session_store::open(&service_kit::config::StoreKind::Redis {
            url: service_kit::config::Secret::new(self.stack.redis.url()),
            tls: service_kit::config::RedisTls::default(),
        })
        .await
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(store.nodes().await?)
    }

    /// Has Redis do something.
    pub async fn tell_redis(&self, command: &redis::Cmd) {
        let redis = redis::Client::open(("127.0.0.1", self.stack.redis.port())).unwrap();
        let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
        command.exec_async(&mut redis).await.unwrap();
    }

    pub async fn stop(self) {
        self.stack.stop(LIMIT).await.unwrap();
    }
}
