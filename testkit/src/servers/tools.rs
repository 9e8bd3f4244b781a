//! Where the server programs are. `make tools` installs what is missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Root of the workspace.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder `make tools` fills: `$VOXRAY_TOOLS`, else `.cache/tools` in the workspace.
pub fn tools_folder() -> PathBuf {
    match std::env::var_os("VOXRAY_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => workspace_root().join(".cache/tools"),
    }
}

/// `redis-server`.
///
/// # Errors
/// When it is not on PATH.
pub fn redis_server() -> anyhow::Result<PathBuf> {
    on_path("redis-server").context("redis-server is not on PATH: run `make tools`")
}

/// `nginx`.
///
/// # Errors
/// When it is neither on PATH nor where Debian puts it.
pub fn nginx() -> anyhow::Result<PathBuf> {
    let debian = PathBuf::from("/usr/sbin/nginx");
    on_path("nginx")
        .or_else(|| debian.is_file().then_some(debian))
        .context("nginx is not installed: run `make tools`")
}

/// `turnserver`, which is coturn.
///
/// # Errors
/// When it is not installed.
pub fn turnserver() -> anyhow::Result<PathBuf> {
    system_program("turnserver").context("coturn is not installed: run `make tools`")
}

/// SeaweedFS (`weed`), the S3 server.
///
/// # Errors
/// When `make tools` has not run.
pub fn weed() -> anyhow::Result<PathBuf> {
    let weed = tools_folder().join("bin/weed");
    if !weed.is_file() {
        bail!("{} is missing: run `make tools`", weed.display());
    }
    Ok(weed)
}

/// `chromium`.
///
/// # Errors
/// When it is not on PATH.
pub fn chromium() -> anyhow::Result<PathBuf> {
    on_path("chromium").context("chromium is not on PATH: run `make tools`")
}

/// `node`.
///
/// # Errors
/// When it is not on PATH.
pub fn node() -> anyhow::Result<PathBuf> {
    on_path("node").context("node is not on PATH: run `make tools`")
}

/// The npm packages of `testkit/browser/package-lock.json`.
///
/// # Errors
/// When `make tools` has not run.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    let modules = tools_folder().join("node/node_modules");
    if !modules.is_dir() {
        bail!("{} is missing: run `make tools`", modules.display());
    }
    Ok(modules)
}

/// The folder with the Python packages of `scripts/requirements.txt`, for `PYTHONPATH`.
///
/// # Errors
/// When `make tools` has not run.
pub fn python_packages() -> anyhow::Result<PathBuf> {
    let packages = tools_folder().join("lib");
    if !packages.is_dir() {
        bail!("{} is missing: run `make tools`", packages.display());
    }
    Ok(packages)
}

/// The folder with PostgreSQL's `initdb` and `postgres`, the newest version installed.
///
/// # Errors
/// When there is none.
pub fn postgres_bin() -> anyhow::Result<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| is_postgres_bin(bin))
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Ok(bin);
    }
    let elsewhere = on_path("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned));
    elsewhere
        .filter(|bin| is_postgres_bin(bin))
        .context("PostgreSQL is not installed: run `make tools`")
}

/// `mariadbd`.
///
/// # Errors
/// When it is not installed.
pub fn mariadbd() -> anyhow::Result<PathBuf> {
    system_program("mariadbd").context("MariaDB is not installed: run `make tools`")
}

/// `mariadb-install-db`.
///
/// # Errors
/// When it is not installed.
pub fn mariadb_install_db() -> anyhow::Result<PathBuf> {
    system_program("mariadb-install-db").context("MariaDB is not installed: run `make tools`")
}

/// `pgbouncer`.
///
/// # Errors
/// When it is not installed.
pub fn pgbouncer() -> anyhow::Result<PathBuf> {
    system_program("pgbouncer").context("PgBouncer is not installed: run `make tools`")
}

/// `prometheus`.
///
/// # Errors
/// When it is not installed.
pub fn prometheus() -> anyhow::Result<PathBuf> {
    on_path("prometheus").context("Prometheus is not installed: run `make tools`")
}

/// `promtool`.
///
/// # Errors
/// When it is not installed.
pub fn promtool() -> anyhow::Result<PathBuf> {
    on_path("promtool").context("promtool is not installed: run `make tools`")
}

/// `rotel-agent`, the OpenTelemetry collector.
///
/// # Errors
/// When `make tools` has not run, or Python is too new for its wheels.
pub fn rotel() -> anyhow::Result<PathBuf> {
    let rotel = tools_folder().join("lib/rotel/rotel-agent");
    if !rotel.is_file() {
        bail!(
            "{} is missing: run `make tools` with Python 3.11 to 3.13",
            rotel.display()
        );
    }
    Ok(rotel)
}

/// On PATH or where servers are, which is not on the PATH of everybody.
fn system_program(name: &str) -> Option<PathBuf> {
    let elsewhere = Path::new("/usr/sbin").join(name);
    on_path(name).or_else(|| elsewhere.is_file().then_some(elsewhere))
}

fn is_postgres_bin(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
