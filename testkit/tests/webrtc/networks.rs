//! Networks between a client and its node: IPv6, both families on one port, a 1:1 NAT, a TURN server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use media_svc::transport::RtcTimeouts;
use reqwest::Method;
use serde_json::{Value, json};
use voxray_testkit::nat::Nat;
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::{Coturn, RELAY_IP};
use voxray_testkit::webrtc_client::{Client, Kind, PLAIN};

use crate::plane::{LIMIT, Plane, SHORT};
use crate::returning::LEAVE;
use crate::signalling::without_candidates;
use crate::speaking::{converses, script};

const IPV6: Kind = Kind {
    address: IpAddr::V6(Ipv6Addr::LOCALHOST),
    ..PLAIN
};
/// The address that a NAT has outside; what comes to it is passed on to 127.0.0.1.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long a packet is under way, one way.
const DISTANCE: Duration = Duration::from_millis(40);

fn require_ipv6() {
    let tried = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0));
    tried.expect("this test needs ::1: give the loopback interface IPv6 (sysctl net.ipv6.conf.lo.disable_ipv6=0)");
}

/// The addresses and ports of this kind (`host`, `relay`) in an answer.
fn offered(answer: &Value, kind: &str) -> Vec<SocketAddr> {
    let lines = answer["sdp"].as_str().unwrap().lines();
    let candidates = lines.filter_map(|line| line.strip_prefix("a=candidate:"));
    let parsed = candidates.filter_map(|candidate| {
        let words: Vec<&str> = candidate.split(' ').collect();
        let address = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        (words[7] == kind).then_some(address)
    });
    parsed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_ipv6_alone_is_heard_and_answered() {
    require_ipv6();
    let plane = Plane::start_with(script(), SHORT, &[("host", "::1")]).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, IPV6).await.unwrap();

    let sdp = client.local_offer(false).await.unwrap();
    let (_, ours) = without_candidates(&sdp);
    assert!(
        !ours.is_empty() && ours.iter().all(|line| line.contains(" ::1 ")),
        "{ours:?}"
    );
    let answer = client.offer_this(&plane.a, sdp, &json!({})).await.unwrap();
    client.is_connected().await.unwrap();
    converses(&mut client).await;

    let [theirs] = offered(&answer, "host")[..] else {
        panic!("one candidate: {answer}")
    };
    assert_eq!(theirs.ip(), Ipv6Addr::LOCALHOST);
    assert_eq!(client.far_end().await.unwrap(), theirs);
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_port_serves_clients_of_both_families_at_the_same_time() {
    require_ipv6();
    let plane = Plane::start_with(script(), SHORT, &[("host", "::")]).await;

    let (four, mut six) = (plane.connected(PLAIN).await, plane.connected(IPV6).await);

    let [far_four, far_six] = [four.far_end().await.unwrap(), six.far_end().await.unwrap()];
    assert!(far_four.is_ipv4() && far_six.is_ipv6(), "{far_four} and {far_six}");
    assert_eq!(far_four.port(), far_six.port());
    four.hears_voice(Duration::from_millis(200)).await.unwrap();
    converses(&mut six).await;
    four.close().await.unwrap();
    six.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

/// The client's own addresses are not told, as by browsers that hide them: the NAT is the only way. Its packets take
/// 80 ms there and back, which the session's measures show.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_one_to_one_address_clients_are_told_that_one_and_reach_the_node_by_it() {
    let port = free_port().unwrap();
    let (outside, inside) = ((OUTSIDE, port).into(), (Ipv4Addr::LOCALHOST, port).into());
    let nat = Nat::start(outside, inside, DISTANCE).await.unwrap();
    let settings = [
        ("media.udp_port", &*port.to_string()),
        ("media.nat_ips", &*OUTSIDE.to_string()),
    ];
    let plane = Plane::start_with(script(), SHORT, &settings).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, PLAIN).await.unwrap();

    let (sdp, _) = without_candidates(&client.local_offer(false).await.unwrap());
    let answer = client.offer_this(&plane.a, sdp, &json!({})).await.unwrap();
    client.is_connected().await.unwrap();
    converses(&mut client).await;

    assert_eq!(offered(&answer, "host"), [outside]);
    assert_eq!(client.far_end().await.unwrap(), outside);
    let (inwards, outwards) = nat.passed();
    assert!(inwards > 100 && outwards > 50, "{inwards} in, {outwards} out");
    let mut rtt = 0.0;
    let measured = async {
        while rtt == 0.0 {
            client.silence(Duration::from_millis(200)).await.unwrap();
            let session = plane.session(&client.session_id).await;
            rtt = session["media"]["rttMs"].as_f64().unwrap_or_default();
        }
    };
    tokio::time::timeout(LIMIT, measured).await.unwrap();
    let (least, most) = (2.0 * DISTANCE.as_secs_f64() * 1_000.0, LIMIT.as_secs_f64() * 1_000.0);
    assert!((least..most).contains(&rtt), "{rtt} ms");
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

/// The credentials are the session's own. All that each side knows of the other is an address of the TURN server, which
/// passes nothing on from where it was not allowed to: as with a pool of nodes that nobody reaches from outside. The
/// client's library looks for something better than a relay for two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_a_node_that_reach_nothing_but_a_turn_server_talk_through_it() {
    let turn = Coturn::start().await.unwrap();
    let servers = turn.ice_servers().to_string();
    let plane = Plane::start_with(script(), RtcTimeouts::USUAL, &[("webrtc_ice_servers", &servers)]).await;
    let (session_id, told) = plane.begin_with_servers(Value::Null).await;
    let mut client = Client::relayed(&session_id, PLAIN, &told).await.unwrap();
    let sdp = client.local_offer(false).await.unwrap();
    let (_, ours) = without_candidates(&sdp);
    assert!(
        !ours.is_empty()
            && ours
                .iter()
                .all(|line| line.contains(RELAY_IP) && line.contains(" typ relay")),
        "{ours:?}"
    );
    let url = format!("{}/sessions/{session_id}/api/offer", plane.a);

    let (status, answer) = plane
        .ask(Method::POST, &url, &json!({ "sdp": sdp, "type": "offer" }))
        .await;
    assert_eq!(status, 200, "{answer}");
    let [theirs] = offered(&answer, "relay")[..] else {
        panic!("one relay: {answer}")
    };
    let lines = answer["sdp"].as_str().unwrap().lines();
    let relayed: String = lines
        .filter(|line| !line.contains(" typ host"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    client.accept(relayed).await.unwrap();
    client.is_connected().await.unwrap();
    converses(&mut client).await;

    assert_eq!(theirs.ip().to_string(), RELAY_IP);
    assert_eq!(client.far_end().await.unwrap(), theirs);
    client.say(LEAVE).await.unwrap();
    client
        .message(|message| message["message"]["type"] == "peerLeft")
        .await
        .unwrap();
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}
