//! With certificates, only peers of the same authority are spoken to.
#![allow(clippy::unwrap_used, reason = "panics are how a test fails, in its helpers too")]

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use service_kit::config::{Links, PeerTlsFiles, Secret};
use service_kit::grpc::{AttachToken, PeerTls};
use tonic::Code;
use voxray_proto::archive::GetTranscriptRequest;
use voxray_proto::archive::archive_query_client::ArchiveQueryClient;

use crate::common::{Place, Running, TOKEN};

/// An authority and a certificate of it for 127.0.0.1, in files.
fn certificates(folder: &Path) -> PeerTlsFiles {
    std::fs::create_dir_all(folder).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let files = PeerTlsFiles {
        cert_file: folder.join("cert.pem"),
        key_file: folder.join("key.pem"),
        ca_file: folder.join("ca.pem"),
    };
    std::fs::write(&files.cert_file, own.pem()).unwrap();
    std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
    std::fs::write(&files.ca_file, authority.pem()).unwrap();
    files
}

/// What a peer with these certificates gets for an answer: a call that nobody knows is 404.
async fn asked(archiver: &Running, scheme: &str, links: &Links) -> Code {
    let url = format!("{scheme}://{}", archiver.address);
    let channel = PeerTls::load(links).unwrap().endpoint(&url).unwrap().connect_lazy();
    let mut client = ArchiveQueryClient::with_interceptor(channel, AttachToken::new(&Secret::new(TOKEN)));
    let request = GetTranscriptRequest {
        session_id: "nobody".to_owned(),
    };
    client.get_transcript(request).await.unwrap_err().code()
}

#[tokio::test]
async fn only_a_peer_with_a_certificate_of_the_same_authority_is_answered() {
    let mut place = Place::new();
    place.config.links.tls = Some(certificates(&place.dir.path().join("ours")));
    let archiver = place.start().await;
    let ours = place.config.links.clone();
    let foreign = Links {
        tls: Some(certificates(&place.dir.path().join("theirs"))),
        ..ours.clone()
    };
    // Trusts the archiver, but shows what another authority has signed.
    let impostor = Links {
        tls: Some(PeerTlsFiles {
            ca_file: ours.tls.clone().unwrap().ca_file,
            ..foreign.tls.clone().unwrap()
        }),
        ..ours.clone()
    };
    let plain = Links {
        tls: None,
        ..ours.clone()
    };

    assert_eq!(asked(&archiver, "https", &ours).await, Code::NotFound);
    for (scheme, links) in [("https", &foreign), ("https", &impostor), ("http", &plain)] {
        // Where the handshake fails decides which of the two it is.
        let code = asked(&archiver, scheme, links).await;
        assert!(matches!(code, Code::Unavailable | Code::Unknown), "{code:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let mut place = Place::new();
    let mut files = certificates(place.dir.path());
    files.key_file = place.dir.path().join("nothing.pem");
    place.config.links.tls = Some(files);

    let Err(fatal) = place.try_start(archiver_svc::Options::default()).await else {
        panic!("it started");
    };

    assert!(fatal.what.contains("nothing.pem"), "{fatal}");
}
