use super::*;
use proptest::prelude::*;

/// As Chromium writes it for pipecat's client, shortened.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 110\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\n\
    a=fingerprint:sha-256 00\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
    a=candidate:1 1 udp 2113937151 10.0.0.1 5000 typ host\r\na=candidate:2 1 udp 2113937151 x.local 5000 typ host\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n";

fn read(sdp: &str) -> Result<Offer, OfferError> {
    Offer::read(sdp, |peer| peer)
}

#[test]
fn an_offer_tells_codec_mid_and_candidates_and_loses_those_that_nobody_can_use() {
    let offer = read(OFFER).unwrap();
    assert_eq!(
        (
            offer.codec,
            offer.audio_mid.as_str(),
            offer.fragment.as_str(),
            offer.candidates.as_slice()
        ),
        (
            AudioCodec::Opus,
            "0",
            "abcd",
            &["candidate:1 1 udp 2113937151 10.0.0.1 5000 typ host".to_owned()][..]
        )
    );
    assert_eq!(
        offer.sdp,
        OFFER.replace("a=candidate:2 1 udp 2113937151 x.local 5000 typ host\r\n", "")
    );
}

#[test]
fn an_offer_tells_whether_its_client_sends_audio() {
    // in the audio's section, before all sections, whether it sends
    let cases = [
        ("a=sendrecv\r\n", "", true),
        ("a=sendonly\r\n", "", true),
        ("a=recvonly\r\n", "", false),
        ("a=inactive\r\n", "a=sendrecv\r\n", false),
        ("", "a=recvonly\r\n", false),
        ("", "", true),
    ];
    for (of_audio, of_session, sends) in cases {
        let offer = OFFER
            .replace("a=sendrecv\r\n", of_audio)
            .replace("a=group:", &format!("{of_session}a=group:"));
        assert_eq!(read(&offer).unwrap().sends, sends, "{offer}");
    }
}

#[test]
fn without_opus_the_first_g711_is_taken() {
    let without = OFFER.replace("a=rtpmap:111 opus/48000/2\r\n", "");
    assert_eq!(read(&without).unwrap().codec, AudioCodec::Pcmu);
    let alaw = without.replace("a=rtpmap:0 PCMU/8000\r\n", "");
    assert_eq!(read(&alaw).unwrap().codec, AudioCodec::Pcma);
    assert_eq!(read(&alaw.replace("PCMA", "G722")), Err(OfferError::NoCodec));
}

#[test]
fn what_is_no_usable_offer_is_refused_with_what_is_missing() {
    let many = "a=candidate:1 1 udp 1 10.0.0.1 5000 typ host\r\n".repeat(MOST_CANDIDATES);
    let cases = [
        (String::new(), "not SDP: it does not begin with v=0"),
        ("hello".to_owned(), "not SDP: a line does not begin with a letter and ="),
        ("v=0\r\ns=-\r\n".to_owned(), "the offer has no audio"),
        (OFFER.replace("m=audio 9", "m=audio 0"), "the offer has no audio"),
        (OFFER.replace("m=audio", "m=video"), "the offer has no audio"),
        (
            OFFER.replace("a=ice-ufrag:abcd\r\n", ""),
            "the offer has no a=ice-ufrag",
        ),
        (
            OFFER.replace("a=fingerprint:sha-256 00\r\n", ""),
            "the offer has no a=fingerprint",
        ),
        (OFFER.replace("a=mid:0\r\n", ""), "the offer has no a=mid"),
        (OFFER.to_owned() + &many, "the offer has more than 100 candidates"),
        (
            OFFER.to_owned() + &"m=video 9 x 1\r\n".repeat(20),
            "the offer has more than 16 media sections",
        ),
        (OFFER.to_owned() + "a=candidate:junk\r\n", "not an ICE candidate"),
        (
            OFFER.to_owned() + &"a=x\r\n".repeat(60_000),
            "the offer has more than 262144 bytes",
        ),
    ];
    for (sdp, expected) in cases {
        let error = read(&sdp).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} is not {expected}");
    }
}

#[test]
fn the_client_gets_the_addresses_of_the_port_and_of_relays() {
    let relay = "198.51.100.1 6000 typ relay raddr 0.0.0.0 rport 0";
    let second = format!("{relay}\r\na=candidate:9 2 udp 1 {relay}");
    let inside = OFFER.replace("x.local 5000 typ host", &second);
    let addresses = ["192.0.2.1:7".parse().unwrap()];
    let answer = with_addresses(&inside, "0", addresses.into_iter());
    let candidates: Vec<&str> = answer.lines().filter(|line| line.starts_with("a=candidate")).collect();
    assert_eq!(candidates.len(), 2, "{answer}");
    assert!(candidates[0].ends_with(" 192.0.2.1 7 typ host") && candidates[1].contains("198.51.100.1"));
    assert_eq!(answer.matches("a=end-of-candidates").count(), 1);
    assert!(answer.find("a=end-of-candidates") < answer.find("m=application"));
}

#[test]
fn an_answer_tells_the_payload_types() {
    let settled = Settled::read(OFFER, "0", AudioCodec::Opus).unwrap();
    assert_eq!((settled.audio_type, settled.key_types), (111, vec![110]));
    assert_eq!(Settled::read(OFFER, "1", AudioCodec::Opus), None);
}

proptest! {
    #[test]
    fn no_text_upsets_it(text: String, at in 0_usize..900, junk: Vec<u8>) {
        let _ = read(&text);
        let mut bytes = OFFER.as_bytes().to_vec();
        let at = at.min(bytes.len());
        bytes.splice(at..(at + junk.len()).min(bytes.len()), junk.iter().copied());
        let changed = String::from_utf8_lossy(&bytes);
        let _ = read(&changed);
        let _ = Settled::read(&changed, "0", AudioCodec::Opus);
        with_addresses(&changed, "0", std::iter::empty());
    }
}
