//! Streams to the archiver that a node of a deployment does not send, or hardly ever.

use futures_util::{Stream, StreamExt, stream};
use service_kit::config::Secret;
use service_kit::grpc::AttachToken;
use sqlx::{Connection, PgConnection};
use tonic::Streaming;
use voxray_proto::archive::archive_service_client::ArchiveServiceClient;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{
    Event, Hello, IngestRequest, IngestResponse, RecordingFormat, SessionStarted, Turn, ingest_request::Message,
};
use voxray_testkit::wait::eventually;

use crate::client::LIMIT;
use crate::scene::Scene;
use crate::scraper::Scraper;

/// More events than an archiver keeps in memory behind one that is missing.
const GAP_EVENTS: u64 = 4_200;

impl Scene {
    /// A node whose disk has lost an event, and has thousands behind it.
    pub async fn node_with_a_gap(&self, scraper: &Scraper) {
        let event = |sequence| Event {
            session_id: "0190f0c5-0000-7000-8000-000000000007".to_owned(),
            sequence,
            ..Event::default()
        };
        let events = std::iter::once(1).chain(3..3 + GAP_EVENTS).map(event);
        let _answers = self.sends("media-7", events.collect()).await;
        self.moves(scraper, "archive_sessions_set_aside_total").await;
    }

    /// A node that goes away in the middle of a recorded call.
    pub async fn node_that_goes(&self, scraper: &Scraper) {
        let recording = RecordingFormat {
            sample_rate_hz: 8_000,
            channels: 2,
        };
        let started = SessionStarted {
            started_at_unix_ms: 1_772_600_767_000,
            transport: "telephony".to_owned(),
            recording: Some(recording),
            ..SessionStarted::default()
        };
        let event = Event {
            session_id: "0190f0c5-0000-7000-8000-000000000009".to_owned(),
            sequence: 1,
            body: Some(Body::Started(started)),
            ..Event::default()
        };
        // Only a stream that is over on both sides is over.
        let mut answers = self.sends_and("media-9", vec![event], stream::empty()).await;
        let received = tokio::time::timeout(LIMIT, answers.next()).await.unwrap();
        received.unwrap().unwrap();
        drop(answers);
        self.moves(scraper, "archive_sessions_left_open_total").await;
    }

    /// A turn that the table of the operator does not take.
    pub async fn row_that_is_refused(&self, scraper: &Scraper) {
        let mut table = PgConnection::connect(&self.stack.transcripts_dsn).await.unwrap();
        sqlx::query("ALTER TABLE call_transcripts ADD CONSTRAINT few_words CHECK (text <> 'too many words')")
            .execute(&mut table)
            .await
            .unwrap();
        let event = |sequence, body| Event {
            session_id: "0190f0c5-0000-7000-8000-000000000008".to_owned(),
            sequence,
            body: Some(body),
            ..Event::default()
        };
        let started = SessionStarted {
            started_at_unix_ms: 1_772_600_767_000,
            transport: "telephony".to_owned(),
            ..SessionStarted::default()
        };
        let turn = Turn {
            role: "user".to_owned(),
            text: "too many words".to_owned(),
            created_at_unix_ms: 1_772_600_768_000,
            ..Turn::default()
        };
        let events = vec![event(1, Body::Started(started)), event(2, Body::Turn(turn))];
        let _answers = self.sends("media-8", events).await;
        self.moves(scraper, "archive_rows_refused_total").await;
    }

    /// A node's stream, which stays open as long as its answers are kept.
    async fn sends(&self, node_id: &str, events: Vec<Event>) -> Streaming<IngestResponse> {
        self.sends_and(node_id, events, stream::pending()).await
    }

    async fn sends_and<S>(&self, node_id: &str, events: Vec<Event>, then: S) -> Streaming<IngestResponse>
    where
        S: Stream<Item = IngestRequest> + Send + 'static,
    {
        let archiver = format!("https://{}", self.stack.relays.as_ref().unwrap().archive.address());
        let channel = self.channel(&archiver, self.stack.internal_tls.clone());
        let attach = AttachToken::new(&Secret::new(self.stack.service_token.as_str()));
        let hello = Message::Hello(Hello {
            node_id: node_id.to_owned(),
        });
        let messages = std::iter::once(hello).chain(events.into_iter().map(Message::Event));
        let messages = messages.map(|message| IngestRequest { message: Some(message) });
        let messages = stream::iter(messages.collect::<Vec<_>>()).chain(then);
        let mut node = ArchiveServiceClient::with_interceptor(channel, attach);
        node.ingest(messages).await.unwrap().into_inner()
    }

    async fn moves(&self, scraper: &Scraper, metric: &str) {
        let moved = eventually(metric, LIMIT, || async {
            Ok((scraper.sum("archiver", metric, "") > 0.0).then_some(()))
        });
        moved.await.unwrap();
    }
}
