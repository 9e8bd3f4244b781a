//! The same promises over TLS, and what is said when there is none.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use service_kit::config::{RedisTls, Secret};
use service_kit::exit::{self, Fatal};
use session_store::{RedisStore, conformance};

use crate::server::{LOGIN, Server, USER, free_port};

/// An authority, and a certificate of it for 127.0.0.1 that servers and clients show.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "redis");
        let own = params.signed_by(&key, &authority).unwrap();
        let made = [
            ("ca.pem", authority.pem()),
            ("cert.pem", own.pem()),
            ("key.pem", key.serialize_pem()),
        ];
        for (name, pem) in made {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self) -> RedisTls {
        RedisTls {
            ca_file: Some(self.path("ca.pem")),
            identity: Some((self.path("cert.pem"), self.path("key.pem"))),
        }
    }
}

/// A server that is reached over TLS alone, and wants to see certificates.
fn server(files: &Files) -> Server {
    let port = free_port();
    let shown = port.to_string();
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| files.path(name).to_str().unwrap().to_owned());
    let tls = [
        "--port",
        "0",
        "--tls-port",
        &shown,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ];
    Server::start_on(port, &[tls.as_slice(), &USER].concat())
}

async fn refused(url: &str, tls: &RedisTls) -> Fatal {
    let fatal = RedisStore::connect(&Secret::new(url.to_owned()), tls)
        .await
        .err()
        .unwrap();
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
    fatal
}

#[tokio::test]
async fn the_store_keeps_its_promises_over_tls_with_its_own_authority_a_certificate_and_a_password() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = Files::new();
    let server = server(&files);
    let url = Secret::new(format!("rediss://{LOGIN}@127.0.0.1:{}", server.port));

    let store = RedisStore::connect(&url, &files.tls()).await.unwrap();

    conformance::all(&store, tokio::time::sleep).await;
}

#[tokio::test]
async fn what_tls_fails_of_is_told_with_what_to_do() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (files, others) = (Files::new(), Files::new());
    let server = server(&files);
    let address = format!("127.0.0.1:{}", server.port);
    let url = format!("rediss://{LOGIN}@{address}");
    let with_ca = |ca_file: Option<&Path>| RedisTls {
        ca_file: ca_file.map(Path::to_owned),
        ..files.tls()
    };

    for ca_file in [None, Some(others.path("ca.pem").as_path())] {
        for url in [url.clone(), format!("rediss+cluster://{LOGIN}@{address}")] {
            let fatal = refused(&url, &with_ca(ca_file)).await;
            assert_eq!(fatal.status, exit::UNAVAILABLE);
            assert!(
                fatal.what.contains(&address) && fatal.what.contains("certificate"),
                "{fatal}"
            );
            assert!(fatal.remedy.contains("VOXRAY_REDIS_CA_FILE"), "{fatal}");
        }
    }

    let nothing_to_show = RedisTls {
        identity: None,
        ..files.tls()
    };
    let fatal = refused(&url, &nothing_to_show).await;
    assert!(fatal.remedy.contains("VOXRAY_REDIS_CERT_FILE"), "{fatal}");

    let of_another_key = RedisTls {
        identity: Some((files.path("cert.pem"), others.path("key.pem"))),
        ..files.tls()
    };
    let fatal = refused(&url, &of_another_key).await;
    assert!(fatal.remedy.contains("made for each other"), "{fatal}");

    let fatal = refused(&format!("rediss://voxray:hunter2@{address}"), &files.tls()).await;
    assert!(
        fatal.what.contains("password") && fatal.remedy.contains("VOXRAY_REDIS_URL"),
        "{fatal}"
    );

    let fatal = refused(&url, &with_ca(Some(&files.path("none")))).await;
    assert_eq!(fatal.status, exit::NO_INPUT);
    assert!(
        fatal.what.contains("redis_ca_file") && fatal.remedy.contains("VOXRAY_REDIS_CA_FILE"),
        "{fatal}"
    );
}
