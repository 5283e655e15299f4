//! More descriptors of one FUSE connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_CLONE`: the argument is the descriptor whose connection is joined.
const CLONE: rustix::ioctl::Opcode = opcode::read::<u32>(229, 0);

/// A new, non-blocking descriptor of the connection behind `device`.
///
/// # Errors
/// When `/dev/fuse` cannot be opened, or `device` is not mounted.
pub fn clone_device(device: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let joined = open("/dev/fuse", flags, Mode::empty())?;
    let of = u32::try_from(device.as_fd().as_raw_fd()).expect("an open descriptor is positive");
    // SAFETY: this command reads one u32 behind its pointer, which the setter provides.
    unsafe { ioctl(&joined, Setter::<CLONE, u32>::new(of))? };
    Ok(joined)
}
