//! What the services say of themselves.

use std::sync::LazyLock;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
pub use voxray_testkit::metrics::Metrics;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;

use crate::scale;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);
const MIB: f64 = 1_048_576.0;
/// By how much a service may grow while something is away, over what it had with all its calls before. In the three minutes of
/// `make chaos` fifty calls record 285 MiB, so what is piled up in memory shows there; in the seconds of `make test`, what is
/// kept several times over.
const GROWTH: f64 = 64.0 * MIB;
/// In `make chaos`, frames are as late as before: by no more than this factor, or not late.
const LATER: f64 = 3.0;
const NOT_LATE: Duration = Duration::from_millis(50);

/// It keeps no connections, which would end with the test that opened them.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
});

pub async fn get(url: &str) -> anyhow::Result<Value> {
    Ok(CLIENT.get(url).send().await?.error_for_status()?.json().await?)
}

pub async fn ready(service: &Service) -> anyhow::Result<(u16, String)> {
    let answer = CLIENT.get(format!("{}/ready", service.url())).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Calls that are connected now.
pub async fn open_calls(stack: &Stack) -> anyhow::Result<f64> {
    let mut open = 0.0;
    for media in &stack.media {
        open += Metrics::of(&media.url()).await?.sum("voxray_sessions_active");
    }
    Ok(open)
}

/// Looks at a node and an archiver while something happens to them.
pub struct Observer {
    media: String,
    before: Metrics,
    /// What there was before anything failed, and how late frames were.
    usual: Option<(Most, f64)>,
    most: Arc<Mutex<Most>>,
    looking: JoinHandle<()>,
}

/// Highest resident memory since the last report, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Most {
    media: f64,
    archiver: f64,
    outbox: f64,
}

impl Observer {
    pub async fn start(stack: &Stack) -> Self {
        let (media, archiver) = (stack.media[0].url(), stack.archiver[0].url());
        let most = Arc::new(Mutex::new(Most::default()));
        let (noted, urls) = (Arc::clone(&most), (media.clone(), archiver));
        let looking = tokio::spawn(async move {
            loop {
                let (media, archiver) = tokio::join!(Metrics::of(&urls.0), Metrics::of(&urls.1));
                // What is down has no memory to look at.
                let (media, archiver) = (media.unwrap_or_default(), archiver.unwrap_or_default());
                {
                    let mut most = noted.lock().unwrap();
                    most.media = most.media.max(media.sum("process_resident_memory_bytes"));
                    most.archiver = most.archiver.max(archiver.sum("process_resident_memory_bytes"));
                    most.outbox = most.outbox.max(media.sum("outbox_depth_bytes"));
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self {
            before: Metrics::of(&media).await.unwrap(),
            media,
            usual: None,
            most,
            looking,
        }
    }

    /// Prints what was seen since the last report. The first one is of calls to which nothing has happened; later ones
    /// assert that memory is flat against it and, where faults last long, that frames are no later.
    pub async fn report(&mut self, what: &str) {
        let now = Metrics::of(&self.media).await.unwrap();
        let p99 = now.within(&self.before, "voxray_frame_lateness_seconds", "", 0.99);
        let most = std::mem::take(&mut *self.most.lock().unwrap());
        let (usual, usual_p99) = *self.usual.get_or_insert((most, p99));
        println!(
            "{what}: frame lateness p99 <= {:.0} ms (before: {:.0} ms); resident memory at most: node {:.0} MiB ({:+.0}), archiver {:.0} MiB ({:+.0}); outbox at most {:.1} MiB",
            p99 * 1_000.0,
            usual_p99 * 1_000.0,
            most.media / MIB,
            (most.media - usual.media) / MIB,
            most.archiver / MIB,
            (most.archiver - usual.archiver) / MIB,
            most.outbox / MIB,
        );
        assert!(most.media < usual.media + GROWTH, "{what}: the node grows");
        assert!(most.archiver < usual.archiver + GROWTH, "{what}: the archiver grows");
        let latest = (usual_p99 * LATER).max(NOT_LATE.as_secs_f64());
        assert!(!scale::is_long() || p99 <= latest, "{what}: frames leave late");
        self.before = now;
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.looking.abort();
    }
}
