//! What the control plane can count on, over real gRPC.

use media_core::conversation::Input;
use service_kit::config::{ConnectionLimits, Links, PeerTlsFiles};
use service_kit::grpc::{self, AttachToken, PeerTls};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use voxray_proto::control::TransferOutcome;
use voxray_proto::control::media_control_client::MediaControlClient;

use super::*;
use crate::archive::{ArchiveError, ArchiveSession};
use crate::call::registry::Arrival;

type Client = MediaControlClient<InterceptedService<Channel, AttachToken>>;

const TOKEN: &str = "between services";

async fn serving(capacity: usize) -> (Client, Calls, TaskScope) {
    serving_for(capacity, TOKEN).await
}

async fn serving_for(capacity: usize, token: &str) -> (Client, Calls, TaskScope) {
    serving_with(capacity, token, None).await
}

async fn serving_with(
    capacity: usize,
    token: &str,
    archive: Option<Arc<dyn ArchiveSink>>,
) -> (Client, Calls, TaskScope) {
    let (address, calls, scope) = listening(capacity, archive, Server::builder()).await;
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let client = MediaControlClient::with_interceptor(channel, AttachToken::new(&Secret::new(token)));
    (client, calls, scope)
}

async fn listening(
    capacity: usize,
    archive: Option<Arc<dyn ArchiveSink>>,
    server: Server,
) -> (std::net::SocketAddr, Calls, TaskScope) {
    let scope = TaskScope::root("test");
    let served = [MediaTransport::Telephony, MediaTransport::WebSocket];
    let calls = Calls::new(&scope, capacity, &served);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, incoming) = grpc::incoming(listener, &ConnectionLimits::default(), "media.control_port").unwrap();
    let token = Secret::new(TOKEN);
    let control = Control {
        calls: calls.clone(),
        archive,
        node_id: "node-1".into(),
        webrtc: None,
        tasks: scope.child("control requests"),
    };
    serve(incoming, control, &token, server, &scope);
    (address, calls, scope)
}

fn create(session_id: &str, transport: Transport) -> CreateSessionRequest {
    CreateSessionRequest {
        session_id: session_id.to_owned(),
        transport: transport.into(),
        provider: "twilio".to_owned(),
        body_json: r#"{"name":"Ada"}"#.to_owned(),
        call_id: "CA1".to_owned(),
        reservation_ttl_secs: 0,
    }
}

#[tokio::test]
async fn a_created_session_is_listed_reaches_its_call_and_is_ended_with_a_goodbye() {
    let (mut client, calls, _scope) = serving(2).await;
    let created = client.create_session(create("a", Transport::Telephony)).await.unwrap();
    assert_eq!(created.into_inner().node_id, "node-1");
    let listed = client
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.sessions[0].state, "reserved");
    assert_eq!(listed.sessions[0].transport(), Transport::Telephony);

    let (input, mut orders) = mpsc::channel(1);
    let arrival = Arrival {
        session_id: "a".into(),
        transport: MediaTransport::Telephony,
        provider: "twilio".to_owned(),
    };
    let slot = calls.connect(arrival, input).unwrap();
    assert_eq!(slot.reservation().unwrap().body_json, r#"{"name":"Ada"}"#);
    let end = EndSessionRequest {
        session_id: "a".to_owned(),
        reason: String::new(),
    };
    client.end_session(end.clone()).await.unwrap();
    assert!(matches!(
        orders.recv().await,
        Some(Input::EndRequested {
            reason: EndReason::Requested,
            last_words: Some(_)
        })
    ));
    drop(slot);
    assert_eq!(client.end_session(end).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_contract() {
    let (mut client, _calls, _scope) = serving(1).await;
    let mut code_of = async |request| client.create_session(request).await.err().map(|status| status.code());
    assert_eq!(
        code_of(create("", Transport::Telephony)).await,
        Some(Code::InvalidArgument)
    );
    assert_eq!(
        code_of(create("a", Transport::Unspecified)).await,
        Some(Code::InvalidArgument)
    );
    assert_eq!(
        code_of(create("a", Transport::Webrtc)).await,
        Some(Code::FailedPrecondition)
    );
    assert_eq!(code_of(create("a", Transport::Telephony)).await, None);
    assert_eq!(
        code_of(create("b", Transport::Websocket)).await,
        Some(Code::ResourceExhausted)
    );
    client.drain(DrainRequest {}).await.unwrap();
    let drained = client
        .create_session(create("b", Transport::Telephony))
        .await
        .unwrap_err();
    assert_eq!(drained.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_message_without_bounds_is_refused() {
    let (mut client, calls, _scope) = serving(1).await;
    let endless = CreateSessionRequest {
        body_json: "x".repeat(5 * 1024 * 1024),
        ..create("a", Transport::Telephony)
    };
    let refused = client.create_session(endless).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(calls.list().is_empty());
}

#[tokio::test]
async fn a_node_without_webrtc_says_so() {
    let (mut client, _calls, _scope) = serving(1).await;
    let offer = OfferRequest {
        session_id: "a".to_owned(),
        sdp: "v=0".to_owned(),
        ..OfferRequest::default()
    };
    let offer = client.offer(offer).await.unwrap_err();
    assert_eq!(
        (offer.code(), offer.message()),
        (Code::FailedPrecondition, "this node serves no webrtc")
    );
    let candidates = client
        .add_candidates(AddCandidatesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(candidates.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn the_load_tells_sessions_capacity_drain_and_transports() {
    let (mut client, _calls, _scope) = serving(3).await;
    client.create_session(create("a", Transport::Telephony)).await.unwrap();
    let drained = client.drain(DrainRequest {}).await.unwrap().into_inner();
    assert_eq!(drained.sessions_remaining, 1);
    let load = client.get_load(GetLoadRequest {}).await.unwrap().into_inner();
    assert_eq!((load.sessions, load.capacity, load.draining), (1, 3, true));
    let transports: Vec<Transport> = load.transports().collect();
    assert_eq!(transports, [Transport::Telephony, Transport::Websocket]);
}

#[tokio::test]
async fn nobody_without_the_service_token_gets_in() {
    let (mut client, _calls, _scope) = serving_for(1, "guessed").await;
    let refused = client.get_load(GetLoadRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// An authority and a certificate of it for 127.0.0.1, in files.
fn certificates(folder: &std::path::Path) -> PeerTlsFiles {
    std::fs::create_dir_all(folder).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    PeerTlsFiles {
        cert_file: file("cert.pem", own.pem()),
        key_file: file("key.pem", key.serialize_pem()),
        ca_file: file("ca.pem", authority.pem()),
    }
}

fn links(tls: Option<PeerTlsFiles>) -> Links {
    Links {
        archiver_url: None,
        media_control_url: None,
        media_advertise_url: None,
        service_token: Secret::new(TOKEN),
        tls,
    }
}

#[tokio::test]
async fn with_certificates_only_peers_of_the_same_authority_are_answered() {
    // The process may have chosen already; then this does nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let ours = certificates(&folder.path().join("ours"));
    let theirs = certificates(&folder.path().join("theirs"));
    let impostor = PeerTlsFiles {
        ca_file: ours.ca_file.clone(),
        ..theirs.clone()
    };
    let server = PeerTls::load(&links(Some(ours.clone()))).unwrap().server().unwrap();
    let (address, _calls, _scope) = listening(1, None, server).await;
    let asked = async |scheme: &str, tls: Option<PeerTlsFiles>| {
        let endpoint = PeerTls::load(&links(tls))
            .unwrap()
            .endpoint(&format!("{scheme}://{address}"));
        let channel = endpoint.unwrap().connect_lazy();
        let mut client = MediaControlClient::with_interceptor(channel, AttachToken::new(&Secret::new(TOKEN)));
        client.get_load(GetLoadRequest {}).await.map(drop)
    };

    asked("https", Some(ours)).await.unwrap();
    for (scheme, tls) in [("https", Some(theirs)), ("https", Some(impostor)), ("http", None)] {
        assert!(asked(scheme, tls).await.is_err());
    }
}

#[tokio::test]
async fn the_server_ends_with_its_scope() {
    let (client, _calls, scope) = serving(1).await;
    drop(client);
    scope.cancel();
    scope.join().await;
}

/// An archive on a full disk.
struct NoRoom;

impl ArchiveSink for NoRoom {
    fn open(&self, _session_id: &str) -> Result<Arc<dyn ArchiveSession>, ArchiveError> {
        Err(ArchiveError::Disk { why: "full".to_owned() })
    }

    fn check(&self) -> Result<(), ArchiveError> {
        self.open("").map(drop)
    }
}

#[tokio::test]
async fn a_session_that_could_not_be_recorded_is_refused_while_its_caller_can_be_told() {
    let (mut client, calls, _scope) = serving_with(2, TOKEN, Some(Arc::new(NoRoom))).await;
    let refused = client
        .create_session(create("a", Transport::Telephony))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let words = "this call could not be recorded: the disk of the outbox takes nothing more: full";
    assert_eq!(refused.message(), words);
    assert!(calls.list().is_empty());
}

#[tokio::test]
async fn only_a_phone_call_that_has_begun_can_be_steered() {
    let (mut client, calls, _scope) = serving(3).await;
    let dtmf = |session_id: &str| SendDtmfRequest {
        session_id: session_id.to_owned(),
        digits: "1".to_owned(),
    };
    let arrival = |session_id: &str, transport| Arrival {
        session_id: session_id.into(),
        transport,
        provider: String::new(),
    };
    let code = |answer: Result<_, Status>| answer.map(|_: Response<SendDtmfResponse>| ()).unwrap_err().code();
    assert_eq!(code(client.send_dtmf(dtmf("nobody")).await), Code::NotFound);
    let _browser = calls
        .connect(arrival("web", MediaTransport::WebSocket), mpsc::channel(1).0)
        .unwrap();
    assert_eq!(code(client.send_dtmf(dtmf("web")).await), Code::Unimplemented);
    let (input, mut orders) = mpsc::channel(1);
    let slot = calls
        .connect(arrival("phone", MediaTransport::Telephony), input)
        .unwrap();
    assert_eq!(code(client.send_dtmf(dtmf("phone")).await), Code::Unavailable);

    let config = service_kit::config::load(&Default::default(), service_kit::config::Profile::SingleProcess);
    let carriers = carriers::Carriers::from_config(&config.unwrap().config).unwrap();
    let line = crate::call::phone::PhoneLine::new(carriers, "twilio".to_owned(), "CA1".to_owned(), Vec::new());
    slot.attach(Arc::new(line));
    client.send_dtmf(dtmf("phone")).await.unwrap();
    assert!(matches!(orders.recv().await, Some(Input::SendKeys(keys)) if keys == "1"));
    let report = |answered_by: voxray_proto::control::AnsweredBy| ReportAnsweredByRequest {
        session_id: "phone".to_owned(),
        answered_by: answered_by.into(),
    };
    client
        .report_answered_by(report(voxray_proto::control::AnsweredBy::MachineReady))
        .await
        .unwrap();
    let expected = media_core::conversation::AnsweredBy::MachineReady;
    assert!(matches!(orders.recv().await, Some(Input::AnsweredBy(verdict)) if verdict == expected));
    let nothing = report(voxray_proto::control::AnsweredBy::Unspecified);
    let refused = client.report_answered_by(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let ended = |outcome: TransferOutcome, last_words: &str| ReportTransferRequest {
        session_id: "phone".to_owned(),
        outcome: outcome.into(),
        reason: "busy".to_owned(),
        last_words: last_words.to_owned(),
    };
    // Nobody has been put through: what a provider says late ends nothing.
    client.report_transfer(ended(TransferOutcome::Taken, "")).await.unwrap();
    client
        .report_transfer(ended(TransferOutcome::NotTaken, ""))
        .await
        .unwrap();
    assert!(matches!(orders.recv().await, Some(Input::NotPutThrough(why)) if why == "busy"));
    let refused = client.report_transfer(ended(TransferOutcome::Unspecified, "")).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let transfer = TransferSessionRequest {
        session_id: "phone".to_owned(),
        to: "+14155550100".to_owned(),
    };
    // No credentials of Twilio are configured.
    let refused = client.transfer_session(transfer).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
