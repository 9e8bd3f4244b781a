//! Users that servers run as: most refuse root.

use std::path::Path;

use anyhow::Context;

/// The user to run as when this process is root; `None`: as this process.
pub fn server_user(user: &'static str) -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some(user)
}

/// Gives a file or folder to that user, if there is a need.
pub fn hand_over(path: &Path, user: &'static str) -> anyhow::Result<()> {
    let Some(user) = server_user(user) else { return Ok(()) };
    let (uid, gid) = ids_of(user)?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
        .with_context(|| format!("cannot hand {} over to {user}", path.display()))
}

/// User and group id from /etc/passwd (passwd(5): name:password:uid:gid:…).
fn ids_of(user: &str) -> anyhow::Result<(u32, u32)> {
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).context("cannot read /etc/passwd")?;
    let find = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == user).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    passwd
        .lines()
        .find_map(find)
        .with_context(|| format!("there is no user {user}: run `make tools`"))
}
