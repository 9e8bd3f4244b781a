//! Internal gRPC of a deployment: every method of every service, and who is let in.

use std::path::{Path, PathBuf};

use service_kit::config::{Links, PeerTlsFiles, Secret, StoreKind};
use service_kit::grpc::{AttachToken, PeerTls};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
use voxray_testkit::servers::{peer_certificates, tools::workspace_root};

use crate::scene::Scene;

/// What a node answers; everything else is the archiver's.
const OF_NODES: &str = "/voxray.control.";
/// Ends the node for whoever may ask.
const DRAIN: &str = "/voxray.control.v1.MediaControl/Drain";

impl Scene {
    /// Nobody without a certificate, whatever the token, and with one nobody without the token or with another one: at no
    /// method of any service.
    pub async fn internal_listeners_need_token_and_certificate(&self) {
        let redis = StoreKind::Redis {
            url: Secret::new(self.stack.redis.url()),
            tls: service_kit::config::RedisTls::default(),
        };
        let nodes = session_store::open(&redis).await.unwrap().nodes().await.unwrap();
        let archiver = format!("https://{}", self.stack.relays.as_ref().unwrap().archive.address());
        let listener = |method: &str| {
            if method.starts_with(OF_NODES) {
                nodes[0].control_url.as_str()
            } else {
                archiver.as_str()
            }
        };
        let (certificate, own_token) = (self.stack.internal_tls.clone(), self.stack.service_token.as_str());
        let methods = methods();
        for (place, there) in [("nodes", true), ("archivers", false)] {
            let some = methods.iter().any(|method| method.starts_with(OF_NODES) == there);
            assert!(some, "no methods of {place} in proto/");
        }
        for method in &methods {
            let channel = self.channel(listener(method), certificate.clone());
            for token in ["", "guessed"] {
                let refused = asked(&channel, token, method).await;
                assert_eq!(refused, Some(Code::Unauthenticated), "{method} {token:?}");
            }
            if method != DRAIN {
                let answer = asked(&channel, own_token, method).await;
                let nobody_there = [Some(Code::Unauthenticated), Some(Code::Unimplemented)];
                assert!(!nobody_there.contains(&answer), "{method}: {answer:?}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let foreign = peer_certificates(folder.path()).unwrap();
        let impostor = PeerTlsFiles {
            ca_file: certificate.unwrap().ca_file,
            ..foreign
        };
        // What tonic makes of a connection that did not come about; which of them, is decided by where it failed.
        let unheard = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
        for shown in [None, Some(impostor)] {
            for method in &methods {
                let channel = self.channel(listener(method), shown.clone());
                let answer = asked(&channel, own_token, method).await;
                assert!(
                    answer.is_some_and(|code| unheard.contains(&code)),
                    "{method}: {answer:?}"
                );
            }
        }
    }

    /// To an internal listener, showing these certificates or none.
    pub fn channel(&self, url: &str, shown: Option<PeerTlsFiles>) -> Channel {
        let url = if shown.is_some() {
            url.to_owned()
        } else {
            url.replace("https://", "http://")
        };
        let links = Links {
            archiver_url: None,
            media_control_url: None,
            media_advertise_url: None,
            service_token: Secret::new(self.stack.service_token.as_str()),
            tls: shown,
        };
        PeerTls::load(&links).unwrap().endpoint(&url).unwrap().connect_lazy()
    }
}

/// How a request that says nothing is refused, if it is.
async fn asked(channel: &Channel, token: &str, method: &str) -> Option<Code> {
    let attach = AttachToken::new(&Secret::new(token));
    let mut client = Grpc::new(InterceptedService::new(channel.clone(), attach));
    if client.ready().await.is_err() {
        return Some(Code::Unavailable);
    }
    let (path, codec) = (PathAndQuery::try_from(method).unwrap(), ProstCodec::<(), ()>::default());
    let answer = client.unary(Request::new(()), path, codec).await;
    answer.err().map(|status| status.code())
}

/// Every method of every service in `proto/`, as gRPC spells it.
fn methods() -> Vec<String> {
    let folder = workspace_root().join("proto");
    let mut files = Vec::new();
    proto_files(&folder.join("voxray"), &mut files);
    let files = files.iter().map(|file| file.strip_prefix(&folder).unwrap());
    let compiled = protox::compile(files, [&folder]).unwrap();
    let mut methods = Vec::new();
    for file in &compiled.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
        }
    }
    methods
}

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proto_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
}
