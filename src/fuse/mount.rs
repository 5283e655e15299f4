//! Puts a connection into the tree of files: as root by mount(2), otherwise through `fusermount3`.

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// First column of `mount`, such as `JuiceFS:myjfs`; no comma.
    pub source: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Other users than who mounts may enter.
    pub allow_other: bool,
    /// The kernel checks permissions by mode, owner and group.
    pub default_permissions: bool,
    /// Ask the kernel to offer FUSE over io_uring; needs root to change anything.
    pub over_uring: bool,
}

const URING_SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// Mount at `target`; the connection then waits for INIT to be answered.
///
/// # Errors
/// Where the target is no directory, or the caller may not mount there.
pub fn mount(target: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let is_root = rustix::process::geteuid().is_root();
    if options.over_uring && is_root {
        // The kernel looks at the switch when it sends INIT, that is: now. Where there is no such
        // switch, or it is not ours to turn, INIT says so.
        let _ = std::fs::write(URING_SWITCH, "Y");
    }
    if is_root { mount_as_root(target, options) } else { mount_as_user(target, options) }
}

/// Unmount; a `lazy` one hides the mount at once and ends it with its last user.
///
/// # Errors
/// EBUSY while somebody is inside, unless `lazy`.
pub fn unmount(target: &Path, lazy: bool) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        return Ok(rustix::mount::unmount(target, flags)?);
    }
    let mut command = Command::new("fusermount3");
    command.arg(if lazy { "-uzq" } else { "-uq" }).arg("--").arg(target);
    if command.status()?.success() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn mount_as_root(target: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mode = std::fs::metadata(target)?;
    if !mode.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    for (chosen, word) in switches(options) {
        if chosen {
            data.push(',');
            data.push_str(word);
        }
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, options.read_only);
    let data = CString::new(data)?;
    rustix::mount::mount(options.source.as_str(), target, "fuse.juicefs", flags, &*data)?;
    Ok(device)
}

fn switches(options: &MountOptions) -> [(bool, &'static str); 2] {
    [(options.allow_other, "allow_other"), (options.default_permissions, "default_permissions")]
}

/// `fusermount3` mounts and sends the descriptor over a socket it is told of.
fn mount_as_user(target: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let (near, far) = UnixStream::pair()?;
    // The child must inherit its end.
    rustix::io::fcntl_setfd(&far, rustix::io::FdFlags::empty())?;
    let mut words = vec![format!("fsname={}", options.source), "subtype=juicefs".to_owned()];
    words.extend(
        switches(options).iter().filter(|(chosen, _)| *chosen).map(|(_, word)| (*word).to_owned()),
    );
    if options.read_only {
        words.push("ro".to_owned());
    }
    let status = Command::new("fusermount3")
        .env("_FUSE_COMMFD", far.as_raw_fd().to_string())
        .args(["-o", &words.join(","), "--"])
        .arg(target)
        .status()?;
    drop(far);
    if !status.success() {
        return Err(io::Error::other(format!("fusermount3 failed ({status})")));
    }
    receive_descriptor(&near)
}

fn receive_descriptor(near: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(near, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("fusermount3 sent no descriptor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::abi::opcode;

    fn options() -> MountOptions {
        MountOptions {
            source: "mount-test".to_owned(),
            read_only: true,
            allow_other: false,
            default_permissions: true,
            over_uring: false,
        }
    }

    /// Mount by `how`, look at the table and the first message, unmount.
    fn check(how: impl Fn(&Path, &MountOptions) -> io::Result<OwnedFd>) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().canonicalize().unwrap();
        let device = how(&target, &options()).expect("root may mount, and fusermount3 is there");
        let mut message = [0; 8192];
        let count = rustix::io::read(&device, &mut message).unwrap();
        assert!(count >= 40 && message[4..8] == opcode::INIT.to_ne_bytes());
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = format!("mount-test {} fuse.juicefs ro,", target.display());
        let listed = table.contains(&line);
        drop(device);
        unmount(&target, true).unwrap();
        assert!(listed, "{line} not in\n{table}");
    }

    #[test]
    fn root_mounts_by_itself() {
        check(mount_as_root);
    }

    #[test]
    fn others_mount_through_the_helper() {
        check(mount_as_user);
    }
}
