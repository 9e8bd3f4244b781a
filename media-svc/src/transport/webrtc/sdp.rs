//! Offers and answers (RFC 8866, RFC 8829), as far as they are looked at before and after the library does.

use std::net::SocketAddr;

use media_core::rtp::AudioCodec;

use super::candidates::{self, BadCandidate, MOST_CANDIDATES};

/// Media sections an offer may have: audio, camera, screen and data are four.
const MOST_SECTIONS: usize = 16;
/// Longest offer, in bytes.
const LONGEST: usize = 256 * 1024;

/// Why an offer cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not SDP at all.
    #[error("not SDP: {0}")]
    NotSdp(&'static str),
    /// Nothing to talk with.
    #[error("the offer has no audio: add an audio track or transceiver before the offer is made")]
    NoAudio,
    /// Audio in codecs that are not spoken here.
    #[error("the offer has no audio codec that is spoken here: offer opus, PCMU or PCMA")]
    NoCodec,
    /// What the connection is made with is missing.
    #[error("the offer has no {0}")]
    Missing(&'static str),
    /// Too much of something.
    #[error("the offer has more than {most} {what}")]
    TooMany {
        /// How many are allowed.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// A candidate line that is none.
    #[error(transparent)]
    Candidate(#[from] BadCandidate),
}

/// An offer that looks like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// With candidates as ICE knows them inside.
    pub sdp: String,
    /// The best codec that both sides speak.
    pub codec: AudioCodec,
    /// The `mid` of the audio that is answered: the first.
    pub audio_mid: String,
    /// User name fragment: another one than before restarts ICE.
    pub fragment: String,
    /// Candidates in it that can be used, as ICE knows them.
    pub candidates: Vec<String>,
    /// The client sends audio.
    pub sends: bool,
}

impl Offer {
    /// Reads an offer; `stand_in` tells how ICE knows an address.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn read(sdp: &str, stand_in: impl Fn(SocketAddr) -> SocketAddr) -> Result<Self, OfferError> {
        if sdp.len() > LONGEST {
            return Err(OfferError::TooMany {
                most: LONGEST,
                what: "bytes",
            });
        }
        let sections = sections(sdp)?;
        let audio = sections
            .iter()
            .skip(1)
            .find(|section| section.is_live("audio"))
            .ok_or(OfferError::NoAudio)?;
        let session = sections.first();
        let anywhere = |name: &str| {
            let of_session = || session.and_then(|session| session.attribute(name));
            audio.attribute(name).or_else(of_session)
        };
        let codec = audio.best_codec().ok_or(OfferError::NoCodec)?;
        let audio_mid = audio
            .attribute("mid")
            .ok_or(OfferError::Missing("a=mid for its audio"))?;
        let fragment = anywhere("ice-ufrag").ok_or(OfferError::Missing("a=ice-ufrag"))?;
        anywhere("ice-pwd").ok_or(OfferError::Missing("a=ice-pwd"))?;
        anywhere("fingerprint").ok_or(OfferError::Missing("a=fingerprint"))?;

        let (mut candidates, mut named) = (Vec::new(), 0);
        let mut translated = String::with_capacity(sdp.len());
        for line in sections.iter().flat_map(|section| &section.lines) {
            if let Some(candidate) = line.strip_prefix("a=candidate:") {
                named += 1;
                if named > MOST_CANDIDATES {
                    return Err(OfferError::TooMany {
                        most: MOST_CANDIDATES,
                        what: "candidates",
                    });
                }
                if let Some(usable) = candidates::translated(candidate, &stand_in)? {
                    translated.push_str("a=");
                    translated.push_str(&usable);
                    translated.push_str("\r\n");
                    candidates.push(usable);
                }
                continue;
            }
            translated.push_str(line);
            translated.push_str("\r\n");
        }
        Ok(Self {
            codec,
            audio_mid: audio_mid.to_owned(),
            fragment: fragment.to_owned(),
            candidates,
            sends: audio.sends().or_else(|| session?.sends()).unwrap_or(true),
            sdp: translated,
        })
    }
}

/// What an answer has settled for audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Payload type of the codec.
    pub audio_type: u8,
    /// Payload types of telephone keys.
    pub key_types: Vec<u8>,
}

impl Settled {
    /// Reads the answer; `None` when it has no such audio.
    pub fn read(answer: &str, audio_mid: &str, codec: AudioCodec) -> Option<Self> {
        let sections = sections(answer).ok()?;
        let audio = sections
            .iter()
            .find(|section| section.attribute("mid") == Some(audio_mid))?;
        let codecs = audio.codecs();
        let audio_type = codecs.iter().find(|(_, name)| codec_of(name) == Some(codec))?.0;
        let keys = codecs.iter().filter(|(_, name)| name.starts_with("telephone-event/"));
        Some(Self {
            audio_type,
            key_types: keys.map(|(number, _)| *number).collect(),
        })
    }
}

/// The answer as the client gets it: with the addresses of the port instead of the one that ICE knows inside.
pub fn with_addresses(answer: &str, audio_mid: &str, addresses: impl Iterator<Item = SocketAddr>) -> String {
    let Ok(sections) = sections(answer) else {
        return answer.to_owned();
    };
    let relayed = sections.iter().flat_map(|section| &section.lines);
    let relayed = relayed.filter_map(|line| line.strip_prefix("a=").filter(|line| is_relayed(line)));
    let mut candidates = candidates::host_lines(addresses);
    candidates.extend(relayed.map(str::to_owned));
    let mut complete = String::with_capacity(answer.len() + 256);
    for section in &sections {
        for line in &section.lines {
            if !line.starts_with("a=candidate:") && *line != "a=end-of-candidates" {
                complete.push_str(line);
                complete.push_str("\r\n");
            }
        }
        if section.attribute("mid") == Some(audio_mid) {
            for candidate in &candidates {
                complete.push_str("a=");
                complete.push_str(candidate);
                complete.push_str("\r\n");
            }
            complete.push_str("a=end-of-candidates\r\n");
        }
    }
    complete
}

/// RTCP goes with RTP (`rtcp-mux`): what the library says again for the second component is of no use.
fn is_relayed(line: &str) -> bool {
    let component = line.strip_prefix("candidate:").and_then(|rest| rest.split(' ').nth(1));
    component == Some("1") && line.contains(" typ relay")
}

/// The session's lines first, then each media section's.
fn sections(sdp: &str) -> Result<Vec<Section<'_>>, OfferError> {
    let mut sections = vec![Section::default()];
    for line in sdp.lines().filter(|line| !line.is_empty()) {
        let mut bytes = line.bytes();
        if !bytes.next().is_some_and(|kind| kind.is_ascii_lowercase()) || bytes.next() != Some(b'=') {
            return Err(OfferError::NotSdp("a line does not begin with a letter and ="));
        }
        if line.starts_with("m=") {
            sections.push(Section::default());
        }
        if sections.len() > MOST_SECTIONS + 1 {
            return Err(OfferError::TooMany {
                most: MOST_SECTIONS,
                what: "media sections",
            });
        }
        if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        }
    }
    match sections.first().and_then(|session| session.lines.first()) {
        Some(&"v=0") => Ok(sections),
        Some(_) | None => Err(OfferError::NotSdp("it does not begin with v=0")),
    }
}

#[derive(Debug, Default)]
struct Section<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Section<'a> {
    /// Whether it is of this kind and not rejected.
    fn is_live(&self, kind: &str) -> bool {
        let words = self.lines.first().and_then(|line| line.strip_prefix("m="));
        let mut words = words.into_iter().flat_map(str::split_ascii_whitespace);
        words.next() == Some(kind) && words.next().is_some_and(|port| port != "0")
    }

    /// Whether the one who says this sends; `None` where it says nothing about it.
    fn sends(&self) -> Option<bool> {
        self.lines.iter().find_map(|line| match line.trim_end() {
            "a=sendrecv" | "a=sendonly" => Some(true),
            "a=recvonly" | "a=inactive" => Some(false),
            _ => None,
        })
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        let attributes = self.lines.iter().filter_map(|line| line.strip_prefix("a="));
        let mut values = attributes.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().map(str::trim)
    }

    /// Payload types with what they are mapped to, in lower case.
    fn codecs(&self) -> Vec<(u8, String)> {
        let maps = self.lines.iter().filter_map(|line| line.strip_prefix("a=rtpmap:"));
        maps.filter_map(|map| {
            let (number, name) = map.split_once(' ')?;
            Some((number.parse().ok()?, name.trim().to_ascii_lowercase()))
        })
        .collect()
    }

    fn best_codec(&self) -> Option<AudioCodec> {
        let offered: Vec<AudioCodec> = self.codecs().iter().filter_map(|(_, name)| codec_of(name)).collect();
        let is_offered = |codec| offered.contains(&codec).then_some(codec);
        is_offered(AudioCodec::Opus).or(offered.first().copied())
    }
}

fn codec_of(name: &str) -> Option<AudioCodec> {
    match name.trim_end_matches("/1") {
        "opus/48000/2" => Some(AudioCodec::Opus),
        "pcmu/8000" => Some(AudioCodec::Pcmu),
        "pcma/8000" => Some(AudioCodec::Pcma),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
