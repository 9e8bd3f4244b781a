//! The JSON of Media Streams, borrowed from the message wherever it has no escapes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

/// A string that borrows; `Option<Cow<str>>` alone would always copy.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Any message from Twilio.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InboundMessage<'a> {
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) start: Option<StartPart<'a>>,
    #[serde(borrow)]
    pub(super) media: Option<MediaPart<'a>>,
    #[serde(borrow)]
    pub(super) mark: Option<MarkPart<'a>>,
    #[serde(borrow)]
    pub(super) dtmf: Option<DtmfPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartPart<'a> {
    #[serde(borrow)]
    pub(super) stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) call_sid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) account_sid: Option<Text<'a>>,
    pub(super) custom_parameters: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(borrow)]
    pub(super) media_format: Option<FormatPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FormatPart<'a> {
    #[serde(borrow)]
    pub(super) encoding: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    pub(super) sample_rate: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    pub(super) channels: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct MediaPart<'a> {
    #[serde(borrow)]
    pub(super) track: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    pub(super) chunk: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    pub(super) timestamp: Option<u64>,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct MarkPart<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct DtmfPart<'a> {
    #[serde(borrow)]
    pub(super) digit: Cow<'a, str>,
}

/// Twilio writes numbers as strings, emulators also as numbers; what is neither is not worth a call.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
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
pub(super) fn push_json_string(json: &mut String, text: &str) {
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
