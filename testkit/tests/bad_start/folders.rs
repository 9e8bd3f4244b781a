//! Ports that are taken and folders that cannot be written.

use std::net::TcpListener;

use service_kit::exit;

use crate::support::{SECRET, Voxray};

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_setting_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let voxray = Voxray::new().env("VOXRAY_SERVICE_TOKEN", SECRET);
    let text = voxray.env("VOXRAY_PORT", &port);
    text.fails(
        &[],
        exit::CANNOT_CREATE,
        &[&port, "Address already in use", "VOXRAY_PORT"],
    )
    .await;
    let archiver = text.env("VOXRAY_PORT", "0").env("VOXRAY_ARCHIVER_PORT", &port);
    archiver
        .fails(&["archiver"], exit::CANNOT_CREATE, &[&port, "VOXRAY_ARCHIVER_PORT"])
        .await;
    assert!(archiver.left().is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named_with_its_setting() {
    let voxray = Voxray::new().env("VOXRAY_PORT", "0");
    // Below a file nobody can make a folder, not even root.
    let file = voxray.write("file", "");
    let below = file.join("data");
    let below = below.to_str().unwrap();
    let cases = [
        ("data_dir", below.to_owned(), "transcripts.db"),
        ("recording.folder", below.to_owned(), "recording.folder"),
        ("outbox.dir", below.to_owned(), "outbox.dir"),
        ("transcripts.dsn", format!("sqlite://{below}/t.db"), "transcripts.dsn"),
    ];
    for (key, value, says) in cases {
        let set = format!("{key}={value}");
        voxray
            .fails(&["--set", &set], exit::CANNOT_CREATE, &[below, says, "Not a directory"])
            .await;
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"");
}

#[tokio::test]
async fn an_outbox_that_another_process_uses_is_left_alone() {
    let voxray = Voxray::new().env("VOXRAY_PORT", "0");
    let outbox = voxray.folder().join("outbox");
    std::fs::create_dir(&outbox).unwrap();
    let lock = std::fs::File::create(outbox.join("lock")).unwrap();
    lock.try_lock().unwrap();

    let set = format!("outbox.dir={}", outbox.display());
    voxray
        .fails(
            &["--set", &set],
            exit::CANNOT_CREATE,
            &["in use by another process", "outbox.dir"],
        )
        .await;
}
