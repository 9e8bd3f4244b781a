//! `voxray call` and `voxray health` against what is not there.

use service_kit::exit;
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::tools::workspace_root;

use crate::support::Voxray;

#[tokio::test]
async fn a_wav_file_that_is_missing_or_none_is_named() {
    let voxray = Voxray::new();
    voxray
        .fails(
            &["call", "nope.wav"],
            exit::NO_INPUT,
            &["nope.wav", "existing WAV file"],
        )
        .await;
    voxray.write("text.wav", "this is not sound");
    voxray.write("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ");
    for file in ["text.wav", "cut.wav"] {
        voxray.fails(&["call", file], exit::NO_INPUT, &[file, "16-bit"]).await;
    }
    assert_eq!(voxray.left(), ["cut.wav", "text.wav"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let voxray = Voxray::new();
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let wav = workspace_root().join("testdata/speech/austen-0880.wav");

    let call = voxray.run(&["call", "--url", &url, wav.to_str().unwrap()]).await;
    assert_eq!(call.status, 1, "{}", call.stderr);
    for words in [url.as_str(), "does not answer", "Connection refused", "--url"] {
        assert!(call.stderr.contains(words), "{words}: {}", call.stderr);
    }
    let health = voxray.run(&["health", &format!("{url}/health")]).await;
    assert_eq!(health.status, 1, "{}", health.stderr);
    assert!(
        health.stderr.contains(&url) && health.stderr.contains("Connection refused"),
        "{}",
        health.stderr
    );
    assert!(voxray.left().is_empty());
}
