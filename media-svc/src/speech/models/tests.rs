//! Promises of the model cache, with a small package instead of the real one.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::*;

const ENCODER_BYTES: &[u8] = b"the encoder";
const DECODER_BYTES: &[u8] = b"the decoder, which is longer";

fn wheel() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in [
        ("a/enc", ENCODER_BYTES),
        ("a/dec", DECODER_BYTES),
        ("a/unused", b"not wanted"),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn sha256(bytes: &[u8]) -> &'static str {
    Box::leak(hex::encode(Sha256::digest(bytes)).into_boxed_str())
}

fn package() -> Package {
    let file = |member, name, bytes: &[u8]| PinnedFile {
        member,
        name,
        sha256: sha256(bytes),
        bytes: bytes.len() as u64,
    };
    let files = vec![
        file("a/enc", manifest::ENCODER, ENCODER_BYTES),
        file("a/dec", manifest::DECODER, DECODER_BYTES),
    ];
    let wheel = wheel();
    Package {
        name: "small",
        version: "1",
        platform: "any",
        sha256: sha256(&wheel),
        bytes: wheel.len() as u64,
        files: Box::leak(files.into_boxed_slice()),
    }
}

fn whole(_: &Package, folder: &Path, _: &Progress) -> Result<PathBuf, Fatal> {
    let path = folder.join("small.whl");
    fs::write(&path, wheel()).unwrap();
    Ok(path)
}

fn cut_short(_: &Package, folder: &Path, _: &Progress) -> Result<PathBuf, Fatal> {
    let path = folder.join("small.whl");
    let wheel = wheel();
    fs::write(&path, &wheel[..wheel.len() / 2]).unwrap();
    Ok(path)
}

fn tampered(_: &Package, folder: &Path, _: &Progress) -> Result<PathBuf, Fatal> {
    let path = folder.join("small.whl");
    let mut wheel = wheel();
    wheel[40] ^= 1;
    fs::write(&path, &wheel).unwrap();
    Ok(path)
}

fn unreachable_index(_: &Package, _: &Path, _: &Progress) -> Result<PathBuf, Fatal> {
    Err(fatal("no network", "plug it in"))
}

fn never(_: &Package, _: &Path, _: &Progress) -> Result<PathBuf, Fatal> {
    panic!("nothing needs to be downloaded")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn fetched_models_are_found_again_without_a_download() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    assert_eq!(locate_in(cache.path(), &package).unwrap(), None);

    let paths = fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();

    assert_eq!(fs::read(&paths.encoder).unwrap(), ENCODER_BYTES);
    assert_eq!(fs::read(&paths.decoder).unwrap(), DECODER_BYTES);
    assert_eq!(
        fetch_in(cache.path(), &package, &Progress::Silent, never).unwrap(),
        paths
    );
    assert_eq!(locate_in(cache.path(), &package).unwrap(), Some(paths));
    assert_eq!(names(cache.path()), ["fetch.lock", "small-1-any"]);
    assert_eq!(
        names(&place(cache.path(), &package)),
        ["checked.json", manifest::DECODER, manifest::ENCODER]
    );
}

#[test]
fn a_download_that_fails_half_way_leaves_nothing_behind() {
    let package = package();
    for broken in [cut_short as Download, tampered, unreachable_index] {
        let cache = tempfile::tempdir().unwrap();
        let error = fetch_in(cache.path(), &package, &Progress::Silent, broken).unwrap_err();
        assert_eq!(error.status, exit::MODELS);
        assert_eq!(names(cache.path()), ["fetch.lock"]);
        assert_eq!(locate_in(cache.path(), &package).unwrap(), None);
    }
}

#[test]
fn a_damaged_file_is_named_with_its_repair_and_fetching_repairs_it() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    let paths = fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    fs::write(&paths.encoder, b"the encodeR").unwrap();

    let error = locate_in(cache.path(), &package).unwrap_err();
    assert_eq!(error.status, exit::MODELS);
    assert!(error.what.contains("encoder_model.ort is damaged"), "{error}");
    assert!(error.remedy.contains("voxray models fetch"), "{error}");

    fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    assert_eq!(fs::read(&paths.encoder).unwrap(), ENCODER_BYTES);
    assert_eq!(names(cache.path()), ["fetch.lock", "small-1-any"]);
}

#[test]
fn a_file_that_was_removed_counts_as_damage() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    let paths = fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    fs::remove_file(&paths.decoder).unwrap();
    assert!(
        locate_in(cache.path(), &package)
            .unwrap_err()
            .what
            .contains("decoder_model_merged.ort")
    );
}

#[test]
fn a_failed_repair_keeps_what_was_there() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    let paths = fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    fs::write(&paths.encoder, b"the encodeR").unwrap();
    fetch_in(cache.path(), &package, &Progress::Silent, cut_short).unwrap_err();
    assert_eq!(fs::read(&paths.decoder).unwrap(), DECODER_BYTES);
}

#[test]
fn a_copied_folder_is_checked_in_full_once_and_then_stamped() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    let paths = fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    fs::write(&paths.encoder, ENCODER_BYTES).unwrap();
    let stamp = place(cache.path(), &package).join("checked.json");
    let before = fs::read(&stamp).unwrap();
    assert!(locate_in(cache.path(), &package).unwrap().is_some());
    assert_ne!(fs::read(&stamp).unwrap(), before);
}

#[test]
fn two_fetches_at_once_both_end_well() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch_in(cache.path(), &package, &Progress::Silent, whole)))
            .collect();
        for fetch in fetches {
            fetch.join().unwrap().unwrap();
        }
    });
    assert_eq!(names(cache.path()), ["fetch.lock", "small-1-any"]);
}

#[test]
fn what_a_killed_fetch_left_is_removed_by_the_next_one() {
    let (cache, package) = (tempfile::tempdir().unwrap(), package());
    fs::create_dir(cache.path().join(".fetch-abc")).unwrap();
    fs::write(cache.path().join(".fetch-abc/half.whl"), b"half").unwrap();
    fetch_in(cache.path(), &package, &Progress::Silent, whole).unwrap();
    assert_eq!(names(cache.path()), ["fetch.lock", "small-1-any"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = fetch_in(&file.path().join("below"), &package(), &Progress::Silent, never).unwrap_err();
    assert_eq!(error.status, exit::MODELS);
    assert!(error.remedy.contains("VOXRAY_MODELS"), "{error}");
}

#[test]
fn the_own_variable_goes_before_the_cache_and_the_home() {
    let some = |text: &str| Some(OsString::from(text));
    assert_eq!(folder_from(some("/m"), some("/c"), some("/h")), Some("/m".into()));
    assert_eq!(
        folder_from(None, some("/c"), some("/h")),
        Some("/c/voxray/models".into())
    );
    assert_eq!(
        folder_from(None, None, some("/h")),
        Some("/h/.cache/voxray/models".into())
    );
    assert_eq!(folder_from(None, None, None), None);
}
