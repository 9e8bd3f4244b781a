//! What a node has left that is gone, and a disk, a store or a queue that does not take it.

use std::path::PathBuf;
use std::time::Duration;

use service_kit::shutdown::Shutdown;
use tempfile::TempDir;

use super::super::nodes::Nodes;
use super::*;
use crate::recordings::{Assembly, Facts, Format, RecordingStore, SpoolDir, UploadQueue};
use crate::register::Register;

/// Longer than anything here takes that ends.
const LONG: Duration = Duration::from_secs(3600);

/// An archiver whose upload queue has one place, and a node that is gone in the middle of a recording that another archiver
/// began: nothing of it is on this disk.
struct Scene {
    dir: TempDir,
    archive: Archive,
    node: Arc<Node>,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RecordingStore::test(&dir.path().join("recordings")).await);
        let spools = SpoolDir::open(&dir.path().join("spool")).unwrap_or_else(|fatal| panic!("{fatal}"));
        let recordings = Recordings {
            store: Arc::clone(&store),
            spools,
        };
        let live = recordings.resume(manifest_of(&recordings), String::new()).unwrap();
        let archive = Archive {
            transcripts: None,
            recordings: Some(recordings),
            register: Register {
                transcripts: None,
                recordings: Some(store),
            },
            queue: Arc::new(UploadQueue::new(1)),
            id: "test".to_owned(),
            finished: Arc::default(),
            shutdown: Shutdown::new(),
        };
        let nodes = Nodes::new(Duration::ZERO, Arc::default());
        let node = Arc::clone(&nodes.attach("n1").node);
        let mut session = Session::default();
        session.adopt(3, go_on(Some(live), 2, false));
        node.sessions.lock().await.insert("call".to_owned(), session);
        Self { dir, archive, node }
    }

    /// Puts something in the way, and returns how it goes away again.
    async fn obstruct(&self, what: &str) -> Box<dyn FnOnce() + '_> {
        let at = |name: &str| -> PathBuf { self.dir.path().join(name) };
        match what {
            "spool folder" => {
                std::fs::rename(at("spool"), at("elsewhere")).unwrap();
                Box::new(move || std::fs::rename(at("elsewhere"), at("spool")).unwrap())
            }
            "store" => {
                std::fs::write(at("recordings/.nodes"), "not a folder").unwrap();
                Box::new(move || std::fs::remove_file(at("recordings/.nodes")).unwrap())
            }
            _ => {
                self.archive.queue.push(Job::test("other.wav")).await;
                Box::new(|| drop(futures_util::FutureExt::now_or_never(self.archive.queue.pop()).unwrap()))
            }
        }
    }
}

/// As another archiver leaves it.
fn manifest_of(recordings: &Recordings) -> Manifest {
    let format = Format {
        sample_rate_hz: 8000,
        channels: 1,
    };
    let mut assembly = Assembly::new(recordings.spools.file("call"), format, Some(64));
    for sequence in [2, 3] {
        assembly.append(sequence, KindCounts::default(), &[1; 64]).unwrap();
    }
    assembly.skip_to(1);
    Manifest {
        version: 1,
        key: "call.wav".to_owned(),
        facts: Facts {
            session_id: "call".to_owned(),
            transport: String::new(),
            provider: String::new(),
            started_at_unix_ms: 0,
        },
        format,
        part_bytes: 64,
        upload_id: None,
        head_sha256: String::new(),
        parts: Vec::new(),
        point: assembly.whole_part().unwrap().point,
        object: None,
    }
}

const OBSTACLES: [&str; 3] = ["spool folder", "store", "queue"];

#[tokio::test(start_paused = true)]
async fn what_a_node_left_that_is_gone_is_closed_when_it_can_be_while_the_archiver_drains_too() {
    for what in OBSTACLES {
        let scene = Scene::new().await;
        let clear = scene.obstruct(what).await;
        let closing = scene.archive.close_dead(&scene.node);
        tokio::pin!(closing);

        assert!(tokio::time::timeout(LONG, &mut closing).await.is_err(), "{what}");
        scene.archive.shutdown.request();
        assert!(
            tokio::time::timeout(LONG, &mut closing).await.is_err(),
            "{what}: given up"
        );
        clear();
        assert!(tokio::time::timeout(LONG, closing).await.is_ok(), "{what}");

        let job = scene.archive.queue.pop().await.unwrap();
        assert_eq!(job.live.key, "call.wav", "{what}");
        let Task::Finish(end) = job.task else {
            panic!("{what}: parts")
        };
        assert_eq!((end.last, end.complete, end.file.frames), (None, false, 32), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_archiver_that_is_hurried_does_not_wait_for_what_a_node_left_that_is_gone() {
    for what in OBSTACLES {
        let scene = Scene::new().await;
        let _stays = scene.obstruct(what).await;
        let closing = scene.archive.close_dead(&scene.node);
        tokio::pin!(closing);

        assert!(tokio::time::timeout(LONG, &mut closing).await.is_err(), "{what}");
        scene.archive.shutdown.hurry_now();
        assert!(tokio::time::timeout(LONG, closing).await.is_ok(), "{what}");

        scene.archive.queue.close();
        let left = scene.archive.queue.pop().await.map(|job| job.live.key.clone());
        assert_ne!(left.as_deref(), Some("call.wav"), "{what}");
    }
}
