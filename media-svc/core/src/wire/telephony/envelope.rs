//! The JSON that Twilio, Telnyx, Plivo and Exotel share but for the spelling of names, borrowed from the message
//! wherever it has no escapes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

use super::{Codec, MediaFormat, WireError};

/// A string that borrows; `Option<Cow<str>>` alone would always copy.
#[derive(Deserialize)]
pub(in crate::wire) struct Text<'a>(#[serde(borrow)] pub(in crate::wire) Cow<'a, str>);

/// Any message, without what only a start has: that one is read again in its provider's own spelling.
#[derive(Deserialize)]
pub(in crate::wire) struct Envelope<'a> {
    #[serde(borrow)]
    pub(in crate::wire) event: Cow<'a, str>,
    #[serde(borrow)]
    pub(in crate::wire) media: Option<MediaPart<'a>>,
    #[serde(borrow)]
    pub(in crate::wire) mark: Option<MarkPart<'a>>,
    #[serde(borrow)]
    pub(in crate::wire) dtmf: Option<DtmfPart<'a>>,
    /// Plivo's name of a checkpoint.
    #[serde(borrow)]
    pub(in crate::wire) name: Option<Text<'a>>,
}

/// Audio format as announced; some write it in camel case, some in snake case.
#[derive(Deserialize)]
pub(in crate::wire) struct FormatPart<'a> {
    #[serde(borrow)]
    pub(in crate::wire) encoding: Option<Text<'a>>,
    #[serde(default, alias = "sample_rate", rename = "sampleRate", deserialize_with = "number")]
    pub(in crate::wire) sample_rate: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    pub(in crate::wire) channels: Option<u64>,
}

impl FormatPart<'_> {
    /// The first of these formats that was announced under one of its names; what was left out is as usual.
    pub(in crate::wire) fn choose(
        part: Option<Self>,
        known: &[(&[&str], Codec, &[u32])],
        usual: MediaFormat,
        expected: &'static str,
    ) -> Result<MediaFormat, WireError> {
        let Some(part) = part else { return Ok(usual) };
        let encoding = part.encoding.map(|text| text.0).filter(|text| !text.is_empty());
        let channels = part.channels.unwrap_or(1);
        let rate = part.sample_rate.unwrap_or(usual.rate_hz.into());
        // `audio/x-mulaw;rate=8000` is written as well.
        let bare = encoding
            .as_deref()
            .map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase());
        let fits = |names: &[&str], codec: Codec| match &bare {
            Some(bare) => names.contains(&bare.as_str()),
            None => codec == usual.codec,
        };
        let found = known.iter().find_map(|(names, codec, rates)| {
            let rate_hz = rates.iter().copied().find(|known| u64::from(*known) == rate)?;
            fits(names, *codec).then_some(MediaFormat { codec: *codec, rate_hz })
        });
        found.filter(|_| channels == 1).ok_or_else(|| WireError::WrongFormat {
            encoding: encoding.map(Cow::into_owned).unwrap_or_else(|| "unnamed".to_owned()),
            sample_rate: rate,
            channels,
            expected,
        })
    }
}

#[derive(Deserialize)]
pub(in crate::wire) struct MediaPart<'a> {
    #[serde(borrow)]
    pub(in crate::wire) track: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    pub(in crate::wire) chunk: Option<u64>,
    /// In milliseconds, from the start of the stream or of another moment.
    #[serde(default, deserialize_with = "number")]
    pub(in crate::wire) timestamp: Option<u64>,
    #[serde(borrow)]
    pub(in crate::wire) payload: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(in crate::wire) struct MarkPart<'a> {
    #[serde(borrow)]
    pub(in crate::wire) name: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(in crate::wire) struct DtmfPart<'a> {
    #[serde(borrow)]
    pub(in crate::wire) digit: Cow<'a, str>,
}

/// Twilio writes numbers as strings, others as numbers; what is neither is not worth a call.
pub(in crate::wire) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Number;
    impl<'de> Visitor<'de> for Number {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, or a string that holds one")
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(value))
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(u64::try_from(value).ok())
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(value.trim().parse().ok())
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<de::IgnoredAny>()?.is_some() {}
            Ok(None)
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            while entries.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }
    deserializer.deserialize_any(Number)
}

/// Appends a JSON string, quotes included (RFC 8259, section 7).
pub(in crate::wire) fn push_json_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
}

/// A key of a telephone in any of its spellings.
pub(in crate::wire) fn key(digit: &str) -> Result<char, WireError> {
    let mut chars = digit.chars();
    match (chars.next().map(|c| c.to_ascii_uppercase()), chars.next()) {
        (Some(key @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => Ok(key),
        _ => Err(WireError::NotAKey),
    }
}

/// Parameters as text.
pub(in crate::wire) fn texts(values: Option<BTreeMap<String, serde_json::Value>>) -> BTreeMap<String, String> {
    let plain = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    values
        .unwrap_or_default()
        .into_iter()
        .map(|(k, v)| (k, plain(v)))
        .collect()
}

/// A text that says something.
pub(in crate::wire) fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.0.into_owned()).filter(|text| !text.is_empty())
}
