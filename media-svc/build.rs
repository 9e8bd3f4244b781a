//! Copies the Pico voices, which the `ttspico-sys` package carries as files, to where `include_bytes!` finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Package that carries the voices, as it is named among unpacked sources.
const PICO_PACKAGE: &str = "ttspico-sys-0.1.5";

const VOICE_FILES: [&str; 12] = [
    "en-US_ta.bin",
    "en-US_lh0_sg.bin",
    "en-GB_ta.bin",
    "en-GB_kh0_sg.bin",
    "de-DE_ta.bin",
    "de-DE_gl0_sg.bin",
    "fr-FR_ta.bin",
    "fr-FR_nk0_sg.bin",
    "es-ES_ta.bin",
    "es-ES_zl0_sg.bin",
    "it-IT_ta.bin",
    "it-IT_cm0_sg.bin",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let voices = pico_package()?.join("build/pico/lang");
    for file in VOICE_FILES {
        let from = voices.join(file);
        println!("cargo:rerun-if-changed={}", from.display());
        std::fs::copy(&from, out.join(file)).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    Ok(())
}

/// The folder of the `ttspico-sys` package: in cargo's unpacked registry sources (cargo puts them there before it builds
/// anything), or wherever cargo says it is when sources are vendored or patched.
fn pico_package() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let registries = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    let unpacked = registries
        .into_iter()
        .flatten()
        .flatten()
        .map(|registry| registry.path().join(PICO_PACKAGE));
    match unpacked.into_iter().find(|package| package.is_dir()) {
        Some(package) => Ok(package),
        None => ask_cargo(),
    }
}

fn ask_cargo() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &std::env::var("TARGET")?,
        ])
        .current_dir(std::env::var("CARGO_MANIFEST_DIR")?)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |package: &'_ serde_json::Value, key: &str| {
        package.get(key).and_then(|value| value.as_str().map(str::to_owned))
    };
    let manifest = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .find(|package| text(package, "name").as_deref() == Some("ttspico-sys"))
        .and_then(|package| text(package, "manifest_path"))
        .ok_or("ttspico-sys is not a dependency")?;
    Ok(Path::new(&manifest)
        .parent()
        .ok_or("a manifest has a folder")?
        .to_path_buf())
}
