//! The end of a call: whoever ends it, and whatever the far end, the recogniser and the provider's API do then, its
//! session, its task and its socket are gone within 2 s.
//!
//! In virtual time, on a media node whose sockets are in memory; and once over real sockets, which prints how long it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use media_core::conversation::Notice;
use media_core::wire::telephony::{Message as WireMessage, Provider};
use media_svc::providers::{CallContext, Labels, Providers, STT_COMMANDS, SpeechToText, SttCommand};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use voxray_testkit::carriers::{Asked, CarrierServer, Fault};
use voxray_testkit::scripted::{Answer, Script};

use crate::support::{LIMIT, Server, put};
use crate::virtual_time::{FRAME, Manners, Node, gone, metric, open_streams};

/// Providers that end in their different ways: by a word, by the socket, by a handshake of their own.
const KINDS: [Provider; 3] = [Provider::Twilio, Provider::Plivo, Provider::Genesys];

/// Hears the caller and never understands a word.
struct Speechless {
    heard: Arc<AtomicBool>,
}

impl SpeechToText for Speechless {
    fn labels(&self) -> Labels {
        Labels {
            provider: "scripted",
            model: "speechless".to_owned(),
        }
    }

    fn start(&self, call: CallContext) -> mpsc::Sender<SttCommand> {
        let (commands, mut inbox) = mpsc::channel(STT_COMMANDS);
        let (tasks, heard) = (call.tasks.clone(), Arc::clone(&self.heard));
        tasks.spawn("speechless-stt", async move {
            loop {
                tokio::select! {
                    command = inbox.recv() => match command {
                        Some(SttCommand::Begin(_)) => heard.store(true, Ordering::Relaxed),
                        Some(_) => {}
                        None => return,
                    },
                    () = call.tasks.cancelled() => return,
                }
            }
        });
        commands
    }
}

fn speechless() -> (Providers, Arc<AtomicBool>) {
    let heard = Arc::new(AtomicBool::new(false));
    let stt = Arc::new(Speechless {
        heard: Arc::clone(&heard),
    });
    let providers = Providers {
        stt,
        ..Script::new().providers()
    };
    (providers, heard)
}

fn says_goodbye() -> Script {
    Script::new().answers(Answer::say("Goodbye.").and_call("end_call"))
}

async fn goodbye_is_said(notices: &mut broadcast::Receiver<(Arc<str>, Notice)>) -> Instant {
    let hearing = async {
        loop {
            if let Ok((_, Notice::AgentStoppedSpeaking)) = notices.recv().await {
                return Instant::now();
            }
        }
    };
    tokio::time::timeout(LIMIT, hearing).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_hangs_up_is_gone_though_nothing_is_understood_read_or_closed() {
    let (providers, heard) = speechless();
    let node = Node::start(providers, &[]).await;
    for provider in KINDS {
        for manners in [Manners::Ignores, Manners::OnlyReads] {
            let case = format!("{provider:?}, {manners:?}, the caller hangs up");
            heard.store(false, Ordering::Relaxed);
            let mut phone = node.call(provider).await;
            phone.speaks_until(&heard).await;
            assert_eq!((node.media.sessions(), open_streams()), (1, 1), "{case}");

            phone.hangs_up().await;
            let gone = phone.reads(manners, gone(&node.media, Instant::now())).await;

            gone.as_promised(&case);
            assert!(phone.is_cut().await, "{case}");
        }
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_agent_ends_is_gone_though_nothing_is_read_or_closed() {
    let node = Node::start(says_goodbye().providers(), &[]).await;
    for provider in KINDS {
        for manners in [Manners::Ignores, Manners::OnlyReads] {
            let case = format!("{provider:?}, {manners:?}, the agent hangs up");
            let mut notices = node.media.events();
            let mut phone = node.call(provider).await;

            phone.presses('#').await;
            let gone = phone
                .reads(manners, async {
                    let since = goodbye_is_said(&mut notices).await;
                    gone(&node.media, since).await
                })
                .await;

            gone.as_promised(&case);
            assert!(phone.is_cut().await, "{case}");
        }
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_api_hangs_holds_no_session_and_is_given_up() {
    let twilio = CarrierServer::start(carriers::Provider::Twilio).await.unwrap();
    twilio.fail_always(Some(Fault::NoAnswer));
    let node = Node::start(says_goodbye().providers(), &twilio.settings()).await;
    let given_up = "carrier_operations_total{operation=\"hang_up\",outcome=\"timed_out\",provider=\"twilio\"}";
    let before = metric(given_up);
    let mut notices = node.media.events();
    let mut phone = node.call(Provider::Twilio).await;

    phone.presses('#').await;
    let since = goodbye_is_said(&mut notices).await;
    let gone = gone(&node.media, since).await;

    gone.as_promised("Twilio, whose API hangs");
    let asked = twilio.request(0).await.unwrap().asked;
    assert_eq!(asked, Asked::HangUp { call: "CA1".to_owned() });
    assert_eq!(metric(given_up), before, "it is still being asked, by nobody's call");
    // Three attempts of 5 s, and the pauses between them.
    let bound = Duration::from_secs(17);
    let giving_up = async {
        while metric(given_up) == before {
            tokio::time::sleep(FRAME).await;
        }
    };
    tokio::time::timeout(bound, giving_up).await.unwrap();
    assert_eq!(twilio.requests().len(), 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_real_sockets_nothing_is_left_of_a_far_end_that_neither_reads_nor_closes() {
    let server = Server::start(says_goodbye()).await;
    let (mut hangs_up, mut far_end) = server.begin_stream("CA1").await;
    put(&mut hangs_up, WireMessage::Text(far_end.stop())).await;
    let caller = gone(server.process.media(), Instant::now()).await;

    let mut notices = server.process.media().events();
    let (mut is_left, mut far_end) = server.begin_stream("CA2").await;
    goodbye_is_said(&mut notices).await;
    put(&mut is_left, WireMessage::Text(far_end.dtmf('#'))).await;
    let since = goodbye_is_said(&mut notices).await;
    let agent = gone(server.process.media(), since).await;

    // Printed, not asserted: virtual time has shown the bound, and this machine may be busy with something else.
    println!("the caller hangs up, nothing is read or closed: {caller:?}");
    println!("the agent hangs up, nothing is read or closed: {agent:?}");
    server.is_idle().await;
    server.stop().await;
}
