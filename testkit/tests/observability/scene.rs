//! Everything that happens to the deployment while it is watched: calls of every transport, and the faults that are
//! cheap to bring about.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use voxray::caller::{Call, Step};
use voxray::wav;
use voxray_testkit::carriers::{self, CarrierServer};
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::relay::Fault;
use voxray_testkit::servers::{Rotel, TlsFront, tools::workspace_root};
use voxray_testkit::service::{Role, Service};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::client::{Browser, LIMIT, http};
use crate::scraper::Scraper;

/// Slots of the media node.
const SLOTS: usize = 4;
/// Starts that one client may make in a minute.
const STARTS: usize = 20;
/// Starts from one address in a minute.
const STARTS_PER_ADDRESS: usize = 3;
/// What the collector behind TLS wants to be shown.
pub const COLLECTOR_TOKEN: &str = "c0llector-token";

/// The deployment and everything it talks to.
pub struct Scene {
    pub stack: Stack,
    pub openai: OpenAiServer,
    pub twilio: CarrierServer,
    pub rotel: Rotel,
    /// The control plane reaches the collector by this way alone.
    pub collector: TlsFront,
    /// Holds the configuration file of all services.
    pub folder: TempDir,
}

impl Scene {
    pub async fn start() -> Self {
        let openai = OpenAiServer::start().await.unwrap();
        let twilio = CarrierServer::start(::carriers::Provider::Twilio).await.unwrap();
        let rotel = Rotel::start().await.unwrap_or_else(|error| panic!("{error:?}"));
        let collector = TlsFront::start(&rotel.endpoint(), COLLECTOR_TOKEN).await;
        let collector = collector.unwrap_or_else(|error| panic!("{error:?}"));
        let folder = tempfile::tempdir().unwrap();
        let headers_file = folder.path().join("otlp-headers");
        std::fs::write(&headers_file, format!("authorization=Bearer {COLLECTOR_TOKEN}\n")).unwrap();
        let scene_file = folder.path().join("config.json");
        write_config(&scene_file, &twilio, "info");
        let stack = Stack::builder()
            .signaling(2)
            .media(1)
            .relays()
            .internal_tls()
            .operators()
            .env("VOXRAY_CONFIG", scene_file.display().to_string())
            .env("VOXRAY_JSON_LOGS", "true")
            .env("VOXRAY_OTLP_ENDPOINT", rotel.endpoint())
            .env_for(Role::Signaling, "VOXRAY_OTLP_ENDPOINT", collector.url())
            .env_for(
                Role::Signaling,
                "VOXRAY_OTLP_CA_FILE",
                collector.ca_file().display().to_string(),
            )
            .env_for(
                Role::Signaling,
                "VOXRAY_OTLP_HEADERS_FILE",
                headers_file.display().to_string(),
            )
            .env("VOXRAY_PROVIDER", "openai")
            .env("VOXRAY_OPENAI_BASE_URL", openai.base_url())
            .env("OPENAI_API_KEY", "test")
            .env("VOXRAY_GREETING", "Good morning.")
            .env("VOXRAY_MEDIA_MAX_SESSIONS", SLOTS.to_string())
            .env("VOXRAY_PIPELINE_INPUT_QUEUE_CAP", "4")
            .env("VOXRAY_RECORDING_MAX_RETRIES", "0")
            // Of the control plane alone: some sockets of this scene are opened without asking it.
            .env_for(Role::Signaling, "VOXRAY_LIMITS_STARTS_PER_MINUTE", STARTS.to_string())
            .env_for(
                Role::Signaling,
                "VOXRAY_LIMITS_STARTS_PER_MINUTE_PER_ADDRESS",
                STARTS_PER_ADDRESS.to_string(),
            )
            .env("VOXRAY_TELEPHONY_TRUSTED_PROXIES", "127.0.0.1")
            .env("VOXRAY_LIMITS_BODY_TIMEOUT_SECS", "0.3")
            .env_for(Role::Archiver, "VOXRAY_LIMITS_MAX_CONNECTIONS", "12")
            // For `node_that_goes`.
            .env_for(Role::Archiver, "VOXRAY_ARCHIVER_NODE_TIMEOUT_SECS", "5")
            // For `disk_is_full`.
            .run_by(Role::Media, ["env", "--ignore-signal=XFSZ"])
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        Self {
            stack,
            openai,
            twilio,
            rotel,
            collector,
            folder,
        }
    }

    pub fn config_file(&self) -> std::path::PathBuf {
        self.folder.path().join("config.json")
    }

    /// A phone call with an interruption that the agent ends; every request to a provider works at the second attempt.
    /// Meanwhile the archiver goes away for a moment.
    pub async fn phone_call(&self, scraper: &Scraper) {
        let again = || Answer::error(500, "server_error", "try again");
        self.openai.answer(
            Endpoint::Transcriptions,
            [
                again(),
                Answer::transcript_stream(["I would like", " a table for two."]),
                Answer::transcript("Wait, for three."),
            ],
        );
        let long = [
            "The kitchen is open ",
            "every evening ",
            "from six until eleven.",
            " Shall I?",
        ];
        let goodbye = Answer::chat_beginning(["Goodbye."]).tool_call(0, "call_1", "end_call", &["{", "}"]);
        self.openai.answer(
            Endpoint::Chat,
            [again(), Answer::chat(long), goodbye.chat_end("tool_calls")],
        );
        let speech = Answer::speech(&tone(1_000.0, 6_000));
        self.openai.answer(
            Endpoint::Speech,
            [again(), Answer::speech(&tone(500.0, 300)), speech.clone(), speech],
        );
        self.openai
            .otherwise(Endpoint::Speech, Answer::speech(&tone(700.0, 300)));
        self.twilio.fail([carriers::Fault::Status(500)]);
        let timeout = LIMIT;
        let steps = vec![
            Step::answer(),
            say("austen-0880.wav"),
            Step::WaitForSpeech {
                heard: Duration::from_millis(700),
                timeout,
            },
            say("cards-001.wav"),
            Step::WaitForHangUp { timeout },
        ];
        let mut call = Call::new(self.stack.signaling[0].url(), steps);
        call.auth_token = Some(carriers::TOKEN.to_owned());
        let archiver_away = async {
            let answered = eventually("the call is answered", LIMIT, || async {
                Ok((scraper.sum("media", "voxray_turn_latency_seconds", "total") > 0.0).then_some(()))
            });
            answered.await.unwrap();
            let relay = &self.stack.relays.as_ref().unwrap().archive;
            relay.set_fault(Fault::Away);
            relay.set_fault(Fault::None);
        };
        let (report, ()) = tokio::join!(call.place(), archiver_away);
        assert!(report.unwrap().ended_by_agent);
        // The agent's end of the call is told to the provider, at the second attempt.
        self.twilio.request(1).await.unwrap();
    }

    /// A browser's call in which each stage fails once for good, and more audio comes than is taken.
    pub async fn browser_call(&self, scraper: &Scraper) {
        let refused = || Answer::error(401, "invalid_api_key", "no such key");
        let failed = async |stage: &str| {
            let name = format!("{stage}_errors_total");
            let counted = eventually(&name, LIMIT, || async {
                Ok((scraper.sum("media", &name, "refused") > 0.0).then_some(()))
            });
            counted.await.unwrap();
        };
        self.openai.answer(Endpoint::Transcriptions, [refused()]);
        let mut browser = Browser::connect(&self.stack.media[0].ws_url()).await;
        browser.wait_for("bot-stopped-speaking").await;
        browser.say(&sentence(), true).await;
        failed("stt").await;

        self.openai.answer(Endpoint::Chat, [refused()]);
        browser.type_text("Hello?").await;
        failed("llm").await;
        self.openai.otherwise(Endpoint::Chat, Answer::chat(["Of ", "course."]));
        self.openai.answer(Endpoint::Speech, [refused()]);
        browser.type_text("Hello again?").await;
        failed("tts").await;
        browser.send_nonsense().await;
        // Faster than it is taken, until somebody has looked at the queue meanwhile.
        let seen = || scraper.with(|seen| seen["media"].moved.contains("voxray_pipeline_queue_depth"));
        let flood = async {
            while !seen() {
                browser.say(&vec![0; 16_000 * 20], false).await;
            }
        };
        tokio::time::timeout(LIMIT, flood).await.unwrap();
        browser.close().await;
    }

    /// The stores refuse for a while, one after the other, during a call.
    pub async fn stores_refuse(&self, scraper: &Scraper) {
        let s3 = &self.stack.relays.as_ref().unwrap().s3;
        let mut postgres = PgConnection::connect(&self.stack.transcripts_dsn).await.unwrap();
        postgres
            .execute("ALTER TABLE call_transcripts RENAME TO elsewhere")
            .await
            .unwrap();
        s3.set_fault(Fault::Unavailable);
        let mut call = Call::new(self.stack.signaling[0].url(), vec![Step::answer()]);
        call.auth_token = Some(carriers::TOKEN.to_owned());
        call.place().await.unwrap();
        let noticed = eventually("both stores are missed", LIMIT, || async {
            let missed = [
                ("db_errors_total", ""),
                ("s3_errors_total", ""),
                ("recording_jobs_failed_total", ""),
                ("archive_lag_seconds", ""),
                ("recording_queue_depth", ""),
            ];
            let all = missed
                .iter()
                .all(|(name, holds)| scraper.sum("archiver", name, holds) > 0.0);
            Ok(all.then_some(()))
        });
        noticed.await.unwrap();
        s3.set_fault(Fault::None);
        postgres
            .execute("ALTER TABLE elsewhere RENAME TO call_transcripts")
            .await
            .unwrap();
        postgres.close().await.unwrap();
        // The session store refuses to write.
        let client = redis::Client::open(self.stack.redis.url()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let limit = async |redis: &mut redis::aio::MultiplexedConnection, bytes: u32| {
            let mut set = redis::cmd("CONFIG");
            let () = set
                .arg("SET")
                .arg("maxmemory")
                .arg(bytes)
                .query_async(redis)
                .await
                .unwrap();
        };
        limit(&mut redis, 1).await;
        let missed = eventually("heartbeats fail", LIMIT, || async {
            Ok((scraper.sum("media", "session_store_errors_total", "") > 0.0).then_some(()))
        });
        missed.await.unwrap();
        limit(&mut redis, 0).await;
    }

    /// Clients that are refused: bodies that do not come, tokens that are none, too many connections and too many starts.
    pub async fn refusals(&self) {
        let base = self.stack.signaling[0].url();
        let address = base.trim_start_matches("http://");
        let mut slow = TcpStream::connect(address).await.unwrap();
        let head = "POST /start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
        slow.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(
            http().get(format!("{base}/nowhere")).send().await.unwrap().status(),
            404
        );
        let media = self.stack.media[0].url();
        let token = http()
            .get(format!("{media}/telephony/ws/no-token"))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(token.send().await.unwrap().status(), 403);
        let archiver = self.stack.archiver[0].url();
        let archiver = archiver.trim_start_matches("http://");
        let mut idle = Vec::new();
        for _ in 0..20 {
            idle.push(TcpStream::connect(archiver).await.unwrap());
        }
        self.too_many_starts().await;
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut slow, &mut answer)
            .await
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    }
}

impl Scene {
    /// Both signaling services count together: by address first, then by key.
    async fn too_many_starts(&self) {
        let start = async |number: usize, address: String| {
            let url = format!("{}/start", self.stack.signaling[number % 2].url());
            let body = json!({"transport": "websocket"});
            let asked = http()
                .post(url)
                .header("x-forwarded-for", address)
                .json(&body)
                .send()
                .await;
            asked.unwrap().status().as_u16()
        };
        let one = (0..STARTS_PER_ADDRESS * 2).map(|number| start(number, "198.51.100.1".to_owned()));
        let one = futures_util::future::join_all(one).await;
        let let_through = |statuses: &[u16]| statuses.iter().filter(|status| **status != 429).count();
        // A slow machine may give an allowance back meanwhile.
        let allowed = let_through(&one);
        assert!(
            (STARTS_PER_ADDRESS..=STARTS_PER_ADDRESS + 1).contains(&allowed),
            "{one:?}"
        );
        let many = (0..STARTS * 2).map(|number| start(number, format!("198.51.100.{}", number + 2)));
        let many = futures_util::future::join_all(many).await;
        let allowed = let_through(&many);
        assert!(allowed < STARTS + 4 && many.contains(&429), "{many:?}");
        // The node has fewer slots than that.
        assert!(many.contains(&503), "{many:?}");
    }

    /// The node's disk takes nothing for a moment, during a call, and another call is refused for it; a limit on the size
    /// of files stands for the disk.
    pub async fn disk_is_full(&self, scraper: &Scraper) {
        let node = &self.stack.media[0];
        let mut browser = Browser::connect(&node.ws_url()).await;
        limit_files(node, "4096");
        let noticed = || {
            let refuses = scraper.sum("media", "outbox_refuses_calls", "disk") > 0.0;
            refuses && scraper.sum("media", "outbox_lost_events_total", "audio") > 0.0
        };
        let talk = async {
            while !noticed() {
                browser.say(&[0; 3_200], true).await;
            }
        };
        tokio::time::timeout(LIMIT, talk).await.unwrap();
        assert_eq!(Browser::refusal(&node.ws_url()).await, Some(503));
        limit_files(node, "unlimited");
        let room = eventually("there is room again", LIMIT, || async {
            Ok((scraper.sum("media", "outbox_refuses_calls", "") == 0.0).then_some(()))
        });
        room.await.unwrap();
        browser.close().await;
    }
}

/// What all services read: the account at the phone provider, and the log level.
pub fn write_config(file: &std::path::Path, twilio: &CarrierServer, log_level: &str) {
    let mut config: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in twilio.settings() {
        let (section, name) = key.split_once('.').unwrap();
        let section = config.entry(section.to_owned()).or_insert_with(|| json!({}));
        section[name] = value.into();
    }
    config.insert("log_level".to_owned(), log_level.into());
    // Whole or not at all: services read it when they are told to.
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn limit_files(service: &Service, bytes: &str) {
    let pid = service.process().unwrap().pid().to_string();
    let limit = format!("--fsize={bytes}:");
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(set.unwrap().success());
}

/// Says what is in a recording of `testdata/speech`.
pub fn say(file: &str) -> Step {
    let samples = wav::read_file(&workspace_root().join("testdata/speech").join(file)).unwrap();
    Step::Say {
        text: file.to_owned(),
        samples,
    }
}

/// A real person's sentence at 16 kHz, with silence behind it.
fn sentence() -> Vec<i16> {
    let narrow = wav::read_file(&workspace_root().join("testdata/speech/austen-0880.wav")).unwrap();
    let mut samples = wav::resample(&narrow, wav::TELEPHONE_HZ, 16_000).unwrap();
    samples.extend(vec![0; 24_000]);
    samples
}
