//! The voices that come with Pico, embedded in the program.

use std::str::FromStr;

/// A voice of the local synthesiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Voice {
    /// American English.
    #[default]
    EnUs,
    /// British English.
    EnGb,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Italian.
    It,
}

macro_rules! voice_file {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

impl Voice {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::EnUs, Self::EnGb, Self::De, Self::Fr, Self::Es, Self::It];

    /// As in `tts_voice`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnUs => "en-US",
            Self::EnGb => "en-GB",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Es => "es",
            Self::It => "it",
        }
    }

    /// Text analysis (grammar, lexicon) of the language.
    pub(super) fn analysis(self) -> &'static [u8] {
        match self {
            Self::EnUs => voice_file!("en-US_ta.bin"),
            Self::EnGb => voice_file!("en-GB_ta.bin"),
            Self::De => voice_file!("de-DE_ta.bin"),
            Self::Fr => voice_file!("fr-FR_ta.bin"),
            Self::Es => voice_file!("es-ES_ta.bin"),
            Self::It => voice_file!("it-IT_ta.bin"),
        }
    }

    /// Signal generation of the speaker.
    pub(super) fn signal(self) -> &'static [u8] {
        match self {
            Self::EnUs => voice_file!("en-US_lh0_sg.bin"),
            Self::EnGb => voice_file!("en-GB_kh0_sg.bin"),
            Self::De => voice_file!("de-DE_gl0_sg.bin"),
            Self::Fr => voice_file!("fr-FR_nk0_sg.bin"),
            Self::Es => voice_file!("es-ES_zl0_sg.bin"),
            Self::It => voice_file!("it-IT_cm0_sg.bin"),
        }
    }
}

/// There is no such voice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no local voice {0:?}; tts_voice can be en-US, en-GB, de, fr, es or it")]
pub struct UnknownVoice(pub String);

impl FromStr for Voice {
    type Err = UnknownVoice;

    /// Accepts BCP 47 tags in any case: `en-US`, `de`, `fr-FR`; `en` is American.
    fn from_str(tag: &str) -> Result<Self, UnknownVoice> {
        match tag.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "en-us" | "en" => Ok(Self::EnUs),
            "en-gb" => Ok(Self::EnGb),
            "de" | "de-de" => Ok(Self::De),
            "fr" | "fr-fr" => Ok(Self::Fr),
            "es" | "es-es" => Ok(Self::Es),
            "it" | "it-it" => Ok(Self::It),
            _ => Err(UnknownVoice(tag.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_voice_is_found_by_its_own_name() {
        for voice in Voice::ALL {
            assert_eq!(voice.as_str().parse(), Ok(voice));
        }
        assert_eq!("EN_us".parse(), Ok(Voice::EnUs));
    }

    #[test]
    fn an_unknown_voice_is_answered_with_the_list() {
        let error = "alloy".parse::<Voice>().unwrap_err().to_string();
        assert!(error.contains("alloy") && error.contains("en-GB"), "{error}");
    }
}
