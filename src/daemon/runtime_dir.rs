//! Where fated's sockets lie: a directory that nobody else can write to.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A socket that is younger may be about to be used.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The directories that can be used, the best first, each made on the way: `/run/fated` for root, else
/// `$XDG_RUNTIME_DIR/fated`; then `/tmp/fated-UID`.
pub fn usable() -> impl Iterator<Item = PathBuf> {
    let uid = nix::unistd::geteuid();
    let runtime = match uid.is_root() {
        true => Some(PathBuf::from("/run")),
        false => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()),
    };
    let candidates = [runtime.map(|dir| dir.join("fated")), Some(PathBuf::from(format!("/tmp/fated-{uid}")))];
    candidates.into_iter().flatten().filter(move |dir| match prepare(dir, uid.as_raw()) {
        Ok(()) => true,
        Err(error) => {
            log::debug!("cannot use {}: {error}", dir.display());
            false
        }
    })
}

/// Makes the directory, or checks that one of that name is ours alone to write to.
fn prepare(dir: &Path, uid: u32) -> io::Result<()> {
    // Root's processes may have another user, and have to reach what is inside.
    let mode = if uid == 0 { 0o755 } else { 0o700 };
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(mode))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a directory that only this user can write to"));
    }
    Ok(())
}

/// Removes datagram sockets that a fated has left behind which could not clean up: nobody receives there.
pub fn remove_stale(dir: &Path, prefix: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let ours = OsStr::to_str(&entry.file_name()).is_some_and(|name| name.starts_with(prefix));
        let old = entry.metadata().is_ok_and(|found| {
            found.file_type().is_socket()
                && found.modified().is_ok_and(|made| made.elapsed().is_ok_and(|age| age > STALE_AFTER))
        });
        let path = entry.path();
        let refused = || {
            let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(&path));
            connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if ours && old && refused() {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_a_strangers_is_refused() {
        let uid = nix::unistd::geteuid().as_raw();
        let dir = std::env::temp_dir().join(format!("fated-runtime-test-{}", std::process::id()));
        prepare(&dir, uid).unwrap();
        prepare(&dir, uid).unwrap();
        assert!(prepare(&dir, uid + 1).is_err());
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        assert!(prepare(&dir, uid).is_err());
        fs::remove_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/", &dir).unwrap();
        assert!(prepare(&dir, uid).is_err());
        fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn only_an_old_socket_without_a_receiver_is_removed() {
        let dir = std::env::temp_dir().join(format!("fated-stale-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let old = std::time::SystemTime::now() - 2 * STALE_AFTER;
        let age = |name: &str| {
            let times = nix::sys::stat::utimensat;
            let seconds = old.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
            let stamp = nix::sys::time::TimeSpec::new(seconds, 0);
            let follow = nix::sys::stat::UtimensatFlags::FollowSymlink;
            times(nix::fcntl::AT_FDCWD, &dir.join(name), &stamp, &stamp, follow).unwrap();
        };
        drop(UnixDatagram::bind(dir.join("notify.old")).unwrap());
        drop(UnixDatagram::bind(dir.join("notify.young")).unwrap());
        drop(UnixDatagram::bind(dir.join("other.old")).unwrap());
        let live = UnixDatagram::bind(dir.join("notify.live")).unwrap();
        fs::write(dir.join("notify.file"), "").unwrap();
        for name in ["notify.old", "other.old", "notify.live", "notify.file"] {
            age(name);
        }
        remove_stale(&dir, "notify.");
        let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["notify.file", "notify.live", "notify.young", "other.old"]);
        drop(live);
        fs::remove_dir_all(&dir).unwrap();
    }
}
