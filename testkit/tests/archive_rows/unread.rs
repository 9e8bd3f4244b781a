//! Recordings that somebody asks for and does not read.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use voxray_testkit::narrow;

use crate::common::{Call, Place};
use crate::databases::archive;
use crate::plane::{KEY, Plane};

const ID: &str = "8f14e45f-ceea-467f-a0e6-1c1f0d5f3c1b";
/// Whatever takes longer has failed; less than a client may take nothing.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn who_does_not_read_a_recording_holds_up_nobody_else() {
    let place = Place::new();
    let archiver = place.start().await;
    // Longer than what may be on its way from the archiver to one reader.
    let call = Call::recorded(ID, 100, 8000);
    archive(&archiver, "n1", &call).await;
    let plane = Plane::start(place.config.clone(), Some(archiver.address)).await;
    let path = format!("/sessions/{ID}/recording");
    let mut idle = Vec::new();
    for _ in 0..6 {
        let mut socket = narrow::connect(&plane.base).await.unwrap();
        let asked = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n");
        socket.write_all(asked.as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        socket.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        idle.push(socket);
    }

    let read = async { plane.get(&path).await.bytes().await.unwrap() };
    let read = tokio::time::timeout(LIMIT, read).await.expect("it is held up");

    assert!(read == call.wav());
}
