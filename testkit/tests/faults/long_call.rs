//! A call of nine minutes that is over in seconds: calls of people are too short for a second part, which at S3 is at least
//! 5 MiB, and nobody can speak faster. It comes from a node of its own, on the same way as the calls beside it.

use rand::Rng;
use tokio::task::JoinHandle;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::common::{Call, Node};
use crate::{scale, truth};

const SESSION: &str = "a-long-call";
/// Three parts and a bit.
const BYTES: usize = (16 << 20) + 6_400;
/// What is sent before the fault, in events of 6400 bytes: more than one part, less than two.
const BEFORE: usize = 1_200;

/// The call, and its node at work.
pub struct LongCall {
    call: Call,
    node: Option<Node>,
    sending: Option<JoinHandle<()>>,
}

impl LongCall {
    /// The first part is stored.
    pub async fn begin(stack: &Stack) -> Self {
        let mut pcm = vec![0; BYTES];
        rand::rng().fill_bytes(&mut pcm);
        let call = Call::of_pcm(SESSION, &pcm);
        let archivers = stack.relays.as_ref().unwrap().archive.address();
        let mut node = Node::without_hello(archivers, &stack.service_token).await.unwrap();
        node.hello("a-node-of-its-own").await;
        node.send_all(&call.events[..BEFORE]).await;
        node.until_durable(SESSION, 2).await;
        Self {
            call,
            node: Some(node),
            sending: None,
        }
    }

    /// Sends the rest, and returns when a part was to be stored and could not be.
    pub async fn go_on(mut self, stack: &Stack) -> Self {
        let mut node = self.node.take().unwrap();
        let (rest, last) = (self.call.events[BEFORE..].to_vec(), self.call.last());
        // The archiver may hold it back for as long as it can store nothing.
        self.sending = Some(tokio::spawn(async move {
            node.send_all(&rest).await;
            node.until_durable(SESSION, last).await;
        }));
        let cut = eventually("a part of the long call to be cut off", scale::catch_up(), || async {
            let failures = truth::logged(&stack.archiver[0], "a recording is not stored yet");
            let of_call = |line: &serde_json::Value| line["key"].as_str().unwrap_or_default().contains(SESSION);
            Ok(failures.iter().any(of_call).then_some(()))
        });
        cut.await.unwrap();
        assert!(
            !self.sending.as_ref().unwrap().is_finished(),
            "it was stored all the same"
        );
        self
    }

    /// It is stored to the byte, as an upload in parts.
    pub async fn assert_stored(self, stack: &Stack) {
        self.sending.unwrap().await.unwrap();
        let keys = truth::keys(stack).await.unwrap();
        let object = stack.s3.object(&stack.bucket, &keys[SESSION]).await.unwrap();
        assert!(object == self.call.wav(), "the long call is not what its node sent");
        let head = stack
            .s3
            .client()
            .head_object()
            .bucket(&stack.bucket)
            .key(&keys[SESSION]);
        let etag = head.send().await.unwrap().e_tag.unwrap_or_default();
        assert!(etag.trim_matches('"').ends_with("-4"), "{etag} is not of four parts");
        println!("a recording of {BYTES} bytes was stored in four parts");
    }
}
