//! Somebody who asks the deployment for everything that can be asked, all the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// A request each time.
const PACE: Duration = Duration::from_millis(60);
/// Sessions whose transcripts are asked for again: the last ones.
const REMEMBERED: usize = 20;

/// What is asked, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Sessions,
    Session,
    Transcript,
    Recording,
    Archive,
    Nodes,
    Ready,
    Console,
}

const ALL: [Asked; 8] = [
    Asked::Sessions,
    Asked::Session,
    Asked::Transcript,
    Asked::Recording,
    Asked::Archive,
    Asked::Nodes,
    Asked::Ready,
    Asked::Console,
];

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    asked: BTreeMap<Asked, usize>,
    pub failed: Vec<String>,
}

impl Tally {
    /// All requests.
    pub fn total(&self) -> usize {
        self.asked.values().sum()
    }

    /// Whether each kind was asked for.
    pub fn is_complete(&self) -> bool {
        self.asked.len() == ALL.len()
    }
}

/// The requests.
pub struct Probes {
    stop: CancellationToken,
    asking: JoinHandle<Tally>,
}

impl Probes {
    /// At this address, over connections that are kept where the other side keeps them. Nothing is asked twice for an answer.
    pub fn start(url: &str) -> Self {
        let stop = CancellationToken::new();
        let probe = Probe {
            url: url.to_owned(),
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            live: Vec::new(),
            seen: VecDeque::new(),
            turn: 0,
        };
        let asking = tokio::spawn(probe.ask_all(stop.clone()));
        Self { stop, asking }
    }

    pub async fn stop(self) -> Tally {
        self.stop.cancel();
        self.asking.await.unwrap()
    }
}

struct Probe {
    url: String,
    http: reqwest::Client,
    /// As last listed.
    live: Vec<String>,
    /// Sessions whose transcripts were there, with the number of turns; the one looked at last is the last.
    seen: VecDeque<(String, usize)>,
    /// Transcripts asked for so far.
    turn: usize,
}

impl Probe {
    async fn ask_all(mut self, stop: CancellationToken) -> Tally {
        let mut tally = Tally::default();
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for asked in ALL.into_iter().cycle() {
            tokio::select! {
                _ = pace.tick() => {}
                () = stop.cancelled() => break,
            }
            match self.ask(asked).await {
                Ok(true) => *tally.asked.entry(asked).or_default() += 1,
                Ok(false) => {}
                Err(error) => tally.failed.push(format!("{asked:?}: {error:#}")),
            }
        }
        tally
    }

    /// False where there is nothing yet that could be asked for.
    async fn ask(&mut self, asked: Asked) -> anyhow::Result<bool> {
        match asked {
            Asked::Sessions => {
                let listed = self.list("/sessions", "sessions").await?;
                let ids = listed.iter().filter_map(|session| session["sessionId"].as_str());
                self.live = ids.map(str::to_owned).collect();
            }
            Asked::Session => {
                let Some(id) = self.live.last() else { return Ok(false) };
                let (status, body) = self.get(&format!("/sessions/{id}")).await?;
                // It may be over.
                ensure!(matches!(status.as_u16(), 200 | 404), "{id}: {status}: {body}");
            }
            Asked::Transcript => return self.transcript().await,
            Asked::Recording => {
                let Some((id, _)) = self.seen.front() else {
                    return Ok(false);
                };
                let (status, body) = self.get(&format!("/sessions/{id}/recording")).await?;
                // A call that runs is not stored yet.
                ensure!(matches!(status.as_u16(), 302 | 404), "{id}: {status}: {body}");
            }
            Asked::Archive => drop(self.list("/archive/sessions", "sessions").await?),
            Asked::Nodes => {
                let nodes = self.list("/nodes", "nodes").await?;
                ensure!(!nodes.is_empty(), "there is no node");
            }
            Asked::Ready => {
                let (status, body) = self.get("/ready").await?;
                // What a balancer asks for: an instance that is being stopped says so as long as it answers.
                let is_stopped =
                    status == StatusCode::SERVICE_UNAVAILABLE && body.contains("this instance is being stopped");
                ensure!(status == StatusCode::OK || is_stopped, "{status}: {body}");
            }
            Asked::Console => {
                let (status, _) = self.get("/console").await?;
                ensure!(status.is_success() || status.is_redirection(), "{status}");
            }
        }
        Ok(true)
    }

    /// What was there once is there for good, and does not shrink.
    async fn transcript(&mut self) -> anyhow::Result<bool> {
        // One that is new and one that is known, in turn.
        self.turn += 1;
        let is_new = |id: &&String| self.seen.iter().all(|(seen, _)| seen != *id);
        let new = self.live.iter().find(is_new).filter(|_| self.turn.is_multiple_of(2));
        let known = self.seen.get(self.turn / 2 % self.seen.len().max(1));
        let (id, before) = match (new, known) {
            (Some(new), _) => (new.clone(), None),
            (None, Some((id, turns))) => (id.clone(), Some(*turns)),
            (None, None) => return Ok(false),
        };
        let (status, body) = self.get(&format!("/sessions/{id}/transcript")).await?;
        if status == StatusCode::NOT_FOUND && before.is_none() {
            // Nothing was said yet, or nothing of it has come.
            return Ok(true);
        }
        ensure!(status == StatusCode::OK, "{id}: {status}: {body}");
        let body: Value = serde_json::from_str(&body)?;
        let turns = body["data"]["turns"].as_array().context("no turns")?.len();
        ensure!(Some(turns) >= before, "{id}: {before:?} turns, and now {turns}");
        self.seen.retain(|(seen, _)| *seen != id);
        self.seen.push_back((id, turns));
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        Ok(true)
    }

    async fn list(&self, path: &str, of: &str) -> anyhow::Result<Vec<Value>> {
        let (status, body) = self.get(path).await?;
        ensure!(status == StatusCode::OK, "{status}: {body}");
        let mut body: Value = serde_json::from_str(&body)?;
        let list = body.pointer_mut(&format!("/data/{of}")).context("no list")?;
        Ok(serde_json::from_value(list.take())?)
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}
