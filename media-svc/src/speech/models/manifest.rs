//! Which files make local recognition, pinned to the byte.

/// A wheel on PyPI and the files of it that are used.
#[derive(Debug)]
pub struct Package {
    /// Name on PyPI.
    pub name: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// Platform tag of the wheel (PEP 600).
    pub platform: &'static str,
    /// SHA-256 of the wheel.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub bytes: u64,
    /// What is unpacked.
    pub files: &'static [PinnedFile],
}

/// One file of a package.
#[derive(Debug)]
pub struct PinnedFile {
    /// Path inside the wheel.
    pub member: &'static str,
    /// Name in the cache folder.
    pub name: &'static str,
    /// SHA-256.
    pub sha256: &'static str,
    /// Size in bytes.
    pub bytes: u64,
}

/// Name of the encoder in the cache folder.
pub const ENCODER: &str = "encoder_model.ort";
/// Name of the decoder in the cache folder.
pub const DECODER: &str = "decoder_model_merged.ort";
/// Name of the token table in the cache folder.
pub const TOKENIZER: &str = "tokenizer.bin";
/// Name of ONNX Runtime 1.23.2 in the cache folder.
pub const ONNXRUNTIME: &str = "libonnxruntime.so.1";
/// Name of 44 s of read speech (48 kHz) in the cache folder: the sample recording of the package.
pub const SAMPLE: &str = "two_cities.wav";

/// The package for this machine; `None` where none is published.
pub fn package() -> Option<&'static Package> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some(&MOONSHINE_X86_64),
        ("linux", "aarch64") => Some(&MOONSHINE_AARCH64),
        _ => None,
    }
}

/// Moonshine tiny (English), MIT. Later versions of the package no longer carry the weights.
static MOONSHINE_X86_64: Package = Package {
    name: "moonshine-voice",
    version: "0.1.0",
    platform: "manylinux_2_34_x86_64",
    sha256: "0f833deb43bad5dcfb4cfd3257b6df83ef9abd3f27be3199622fe41932e8d916",
    bytes: 56_369_045,
    files: &[
        ENCODER_FILE,
        DECODER_FILE,
        TOKENIZER_FILE,
        PinnedFile {
            member: "moonshine_voice.libs/libonnxruntime-13ab8084.so.1",
            name: ONNXRUNTIME,
            sha256: "c0995ae1102b871426e7bddf625451d6c19f12d0b6d79786218cbb77c2de865c",
            bytes: 22_346_464,
        },
        SAMPLE_FILE,
        LICENSE_FILE,
    ],
};

/// The same weights with ONNX Runtime for ARM.
static MOONSHINE_AARCH64: Package = Package {
    name: "moonshine-voice",
    version: "0.1.0",
    platform: "manylinux_2_34_aarch64",
    sha256: "da54a99587edb987c8755f2c746cab72fada0e67cf847f7edfb8105447f405af",
    bytes: 55_143_464,
    files: &[
        ENCODER_FILE,
        DECODER_FILE,
        TOKENIZER_FILE,
        PinnedFile {
            member: "moonshine_voice.libs/libonnxruntime-ab8c4363.so.1",
            name: ONNXRUNTIME,
            sha256: "2723a421531e984cf053ead965b8ea00c88a0353dce17b622bc82e752ef6752f",
            bytes: 18_762_288,
        },
        SAMPLE_FILE,
        LICENSE_FILE,
    ],
};

const ENCODER_FILE: PinnedFile = PinnedFile {
    member: "moonshine_voice/assets/tiny-en/encoder_model.ort",
    name: ENCODER,
    sha256: "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
    bytes: 13_281_600,
};
const DECODER_FILE: PinnedFile = PinnedFile {
    member: "moonshine_voice/assets/tiny-en/decoder_model_merged.ort",
    name: DECODER,
    sha256: "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
    bytes: 30_412_256,
};
const TOKENIZER_FILE: PinnedFile = PinnedFile {
    member: "moonshine_voice/assets/tiny-en/tokenizer.bin",
    name: TOKENIZER,
    sha256: "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
    bytes: 249_974,
};
const SAMPLE_FILE: PinnedFile = PinnedFile {
    member: "moonshine_voice/assets/two_cities.wav",
    name: SAMPLE,
    sha256: "f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e",
    bytes: 4_260_326,
};
const LICENSE_FILE: PinnedFile = PinnedFile {
    member: "moonshine_voice-0.1.0.dist-info/licenses/LICENSE",
    name: "LICENSE",
    sha256: "5da20e09cad096fb153b6c80b26c270027f9601285c498e571fc74fee5ab7157",
    bytes: 1_070,
};
