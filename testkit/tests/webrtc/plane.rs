//! Two signaling services, a media node and an archiver in one process, each on its own port.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use archiver_svc::Archiver;
use media_svc::providers::Agent;
use media_svc::transport::{RtcTimeouts, Timeouts};
use media_svc::{Media, MediaListeners};
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::config::{Config, Profile, Sources, StoreKind, load};
use service_kit::health::Readiness;
use service_kit::http;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::Store;
use signaling_svc::Signaling;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use voxray_testkit::scripted::Script;
use voxray_testkit::webrtc_client::{Client, Kind};

/// Whatever takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Metrics belong to the process: one plane at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// As usual, but nobody waits long for a client that is gone.
pub const SHORT: RtcTimeouts = RtcTimeouts {
    connect: Duration::from_secs(2),
    vanished: Duration::from_millis(600),
    hold: Duration::from_millis(1_500),
    left: Duration::from_millis(1_000),
};

pub struct Plane {
    /// Signaling services.
    pub a: String,
    pub b: String,
    pub media: Media,
    pub store: Arc<dyn Store>,
    archiver: Archiver,
    http: reqwest::Client,
    scope: TaskScope,
    media_scope: TaskScope,
    shutdown: Shutdown,
    archiver_shutdown: Shutdown,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Plane {
    pub async fn start(script: Script) -> Self {
        Self::start_with(script, RtcTimeouts::USUAL, &[]).await
    }

    pub async fn start_with(script: Script, rtc: RtcTimeouts, settings: &[(&str, &str)]) -> Self {
        let alone = ALONE.lock().await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder, settings);
        let [public, control, archive] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        config.links.archiver_url = Some(format!("http://{}", archive.local_addr().unwrap()));
        config.links.media_control_url = Some(format!("http://{}", control.local_addr().unwrap()));
        let config = Arc::new(config);
        let (scope, shutdown, archiver_shutdown) = (TaskScope::root("test"), Shutdown::new(), Shutdown::new());
        let store = session_store::open(&StoreKind::Memory).await.unwrap();
        let archiver_scope = scope.child("archiver");
        let archiver = Archiver::start(config.clone(), archive, archiver_scope, archiver_shutdown.clone());
        let archiver = archiver.await.unwrap();
        let listeners = MediaListeners {
            public: public.local_addr().unwrap(),
            control,
        };
        let media_scope = scope.child("media");
        let timeouts = Timeouts {
            rtc,
            ..Timeouts::default()
        };
        let agent = Agent::from(script.providers());
        let media = Media::start_with(
            config.clone(),
            store.clone(),
            agent,
            listeners,
            media_scope.clone(),
            shutdown.clone(),
            timeouts,
        );
        let media = media.await.unwrap();
        let mut bases = Vec::new();
        for name in ["signaling-a", "signaling-b"] {
            let readiness = Readiness::new();
            let signaling = Signaling::start(
                config.clone(),
                store.clone(),
                readiness,
                scope.child(name),
                shutdown.clone(),
            );
            let signaling = signaling.await.unwrap();
            let operational = http::operational_routes(signaling.readiness(), true);
            let router = signaling.router().merge(operational);
            let router = http::apply_conventions(router, &config, signaling_svc::OPEN_ROUTES);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address: SocketAddr =
                http::serve(listener, router, None, &scope.child("http"), CancellationToken::new()).unwrap();
            bases.push(format!("http://{address}"));
        }
        let [a, b] = <[String; 2]>::try_from(bases).unwrap();
        let plane = Self {
            a,
            b,
            media,
            store,
            archiver,
            http: reqwest::Client::new(),
            scope,
            media_scope,
            shutdown,
            archiver_shutdown,
            folder,
            _alone: alone,
        };
        for base in [&plane.a, &plane.b] {
            let ready = format!("{base}/ready");
            eventually("the plane is ready", async || {
                plane.http.get(&ready).send().await.unwrap().status() == 200
            })
            .await;
        }
        plane
    }

    /// A session that is started.
    pub async fn begin(&self, body: Value) -> String {
        self.begin_with_servers(body).await.0
    }

    /// The same, and the ICE servers that the client is told.
    pub async fn begin_with_servers(&self, body: Value) -> (String, Value) {
        let (status, mut answer) = self
            .ask(Method::POST, &format!("{}/start", self.a), &json!({ "body": body }))
            .await;
        assert_eq!(status, 201, "{answer}");
        let session_id = answer["sessionId"].as_str().unwrap().to_owned();
        (session_id, answer["iceConfig"]["iceServers"].take())
    }

    /// A client of a new session, talking.
    pub async fn connected(&self, kind: Kind) -> Client {
        let session_id = self.begin(json!({})).await;
        let mut client = Client::new(&session_id, kind).await.unwrap();
        client.offer(&self.a, &json!({})).await.unwrap();
        client.is_connected().await.unwrap();
        client
    }

    pub async fn ask(&self, method: Method, url: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method, url).json(body).send().await.unwrap();
        (request.status().as_u16(), request.json().await.unwrap_or_default())
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.b)).send().await.unwrap();
        answer.json().await.unwrap_or_default()
    }

    pub async fn session(&self, session_id: &str) -> Value {
        self.get(&format!("/sessions/{session_id}")).await["data"].clone()
    }

    pub async fn metric(&self, line_start: &str) -> f64 {
        let text = self
            .http
            .get(format!("{}/metrics", self.a))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = text.lines().find(|line| line.starts_with(line_start));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {line_start}"))
    }

    /// What the archive has of a session, once it is complete: rows (role and text) and the recording.
    pub async fn archived(&self, session_id: &str) -> (Vec<(String, String)>, PathBuf) {
        let name = format!("{session_id}.wav");
        let transcripts = self.archiver.transcripts().unwrap();
        // The length of a recording is noted behind all rows.
        eventually("the recording is stored and noted", async || {
            let session = transcripts.session(session_id).await.unwrap();
            session.is_some_and(|session| session.ended_at.is_some() && session.recording_bytes.is_some())
        })
        .await;
        let rows = transcripts.rows(session_id).await.unwrap();
        let rows = rows.into_iter().map(|row| (row.role, row.text)).collect();
        (rows, find(self.folder.path(), &name).unwrap())
    }

    /// Nothing is left of any session.
    pub async fn is_idle(&self) {
        eventually("no session is left on the node", async || self.media.sessions() == 0).await;
        for gauge in [
            "http_active_connections{route=\"/webrtc\"}",
            "webrtc_peer_connections_active",
        ] {
            eventually(gauge, async || self.metric(gauge).await == 0.0).await;
        }
        eventually("no session is listed", async || {
            let listed = self.get("/sessions").await;
            listed["data"]["sessions"]
                .as_array()
                .is_some_and(|sessions| sessions.iter().all(|session| session["state"] == "created"))
        })
        .await;
        assert_eq!(self.panics().await, 0.0);
    }

    async fn panics(&self) -> f64 {
        let text = self
            .http
            .get(format!("{}/metrics", self.a))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("voxray_task_panics_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub async fn stop(self) {
        let stopping = async {
            self.shutdown.begin();
            self.media.drain().await;
            self.media_scope.cancel();
            self.media_scope.join().await;
            self.archiver_shutdown.request();
            self.archiver.stopped().await;
            self.scope.cancel();
            self.scope.join().await;
        };
        tokio::time::timeout(LIMIT, stopping).await.unwrap();
    }
}

fn config(folder: &TempDir, settings: &[(&str, &str)]) -> Config {
    let always = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("greeting", "Hello."),
        ("webrtc_ice_servers", "[]"),
        ("data_dir", folder.path().to_str().unwrap()),
    ];
    let flags = always.iter().chain(settings);
    let sources = Sources {
        flags: flags
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    };
    load(&sources, Profile::SingleProcess).unwrap().config
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.file_name().is_some_and(|found| found == name).then_some(path)
        }
    })
}

/// Looks until it is true. For what other tasks do in their own time and nobody announces.
pub async fn eventually<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let waiting = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}
