//! The first exchange with the kernel (INIT): what it offers, what we take.

use std::io;
use std::os::fd::OwnedFd;

use super::abi::{MAJOR, MINOR, init, opcode};
use super::decode::IN_HEADER_BYTES;

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Queue entries on the cores' rings, one queue per possible CPU.
    OverUring,
    /// Reads and writes of `/dev/fuse`.
    DevFuse,
}

/// What the mount would like, where the kernel can.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Largest write request in bytes, a multiple of 4096, at most 1 MiB.
    pub write_bytes_max: u32,
    /// FUSE over io_uring.
    pub over_uring: bool,
    /// The kernel collects small writes in its page cache.
    pub writeback_cache: bool,
    /// fcntl(2) and flock(2) locks are asked from us; otherwise they are local to this machine.
    pub locks: bool,
    /// The kernel evaluates access control lists, and leaves the umask to us.
    pub acl: bool,
}

/// Largest write the kernel sends without raising `fs.fuse.max_pages_limit`.
pub const WRITE_BYTES_LIMIT: u32 = 1 << 20;

impl Default for Wishes {
    fn default() -> Self {
        Self {
            write_bytes_max: WRITE_BYTES_LIMIT,
            over_uring: true,
            writeback_cache: false,
            locks: true,
            acl: false,
        }
    }
}

/// A mounted connection that has been agreed upon.
#[derive(Debug)]
pub struct Session {
    /// Descriptor of the connection.
    pub device: OwnedFd,
    /// How requests will travel.
    pub transport: Transport,
    /// Largest payload of a request in bytes.
    pub payload_bytes: usize,
}

/// Background requests the kernel may have out (read-ahead, releases), and where it slows down.
const BACKGROUND_MAX: u16 = 128;
const CONGESTED_AT: u16 = 96;
/// Smallest read the kernel accepts on the device.
const MESSAGE_BYTES: usize = 8192;
/// Oldest minor version with all that is relied on (Linux 5.12).
const MINOR_MIN: u32 = 33;

impl Session {
    /// Read INIT from a freshly mounted `device`, answer it.
    ///
    /// # Errors
    /// When the kernel is too old or the device fails.
    pub fn negotiate(device: OwnedFd, wishes: &Wishes) -> io::Result<Self> {
        let bytes = wishes.write_bytes_max;
        assert!(bytes > 0 && bytes.is_multiple_of(4096) && bytes <= WRITE_BYTES_LIMIT);
        let mut message = vec![0; MESSAGE_BYTES];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&device, &mut message[..]))?;
        let offer = Offer::parse(&message[..count])?;
        let taken = offer.flags & wanted(wishes);
        let reply = reply(&offer, taken, bytes);
        rustix::io::write(&device, &reply)?;
        let over_uring = taken & init::OVER_IO_URING != 0;
        let transport = if over_uring { Transport::OverUring } else { Transport::DevFuse };
        Ok(Self { device, transport, payload_bytes: bytes as usize })
    }
}

fn wanted(wishes: &Wishes) -> u64 {
    let mut flags = init::ASYNC_READ
        | init::ATOMIC_O_TRUNC
        | init::BIG_WRITES
        | init::AUTO_INVAL_DATA
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::HANDLE_KILLPRIV_V2
        | init::SETXATTR_EXT
        | init::INIT_EXT
        | init::DIRECT_IO_ALLOW_MMAP;
    if wishes.locks {
        flags |= init::POSIX_LOCKS | init::FLOCK_LOCKS;
    }
    if wishes.writeback_cache {
        flags |= init::WRITEBACK_CACHE;
    }
    if wishes.acl {
        flags |= init::POSIX_ACL | init::DONT_MASK;
    }
    if wishes.over_uring {
        flags |= init::OVER_IO_URING;
    }
    flags
}

struct Offer {
    unique: u64,
    minor: u32,
    readahead_bytes: u32,
    flags: u64,
}

impl Offer {
    fn parse(message: &[u8]) -> io::Result<Self> {
        let word = |at: usize| {
            let bytes = message.get(at..at + 4).ok_or(io::ErrorKind::UnexpectedEof)?;
            io::Result::Ok(u32::from_ne_bytes(bytes.try_into().expect("4 bytes")))
        };
        let (major, minor) = (word(IN_HEADER_BYTES)?, word(IN_HEADER_BYTES + 4)?);
        if word(4)? != opcode::INIT || major != MAJOR || minor < MINOR_MIN {
            let told = format!("FUSE {major}.{minor} offered, {MAJOR}.{MINOR_MIN} or later needed");
            return Err(io::Error::new(io::ErrorKind::Unsupported, told));
        }
        let low = u64::from(word(IN_HEADER_BYTES + 12)?);
        let high = if low & init::INIT_EXT != 0 { word(IN_HEADER_BYTES + 16)? } else { 0 };
        Ok(Self {
            unique: u64::from(word(8)?) | u64::from(word(12)?) << 32,
            minor,
            readahead_bytes: word(IN_HEADER_BYTES + 8)?,
            flags: low | u64::from(high) << 32,
        })
    }
}

/// Header (16 bytes) and `fuse_init_out` (64 bytes).
fn reply(offer: &Offer, taken: u64, write_bytes: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    let words = [80, 0, offer.unique as u32, (offer.unique >> 32) as u32];
    let versions = [MAJOR, MINOR.min(offer.minor), offer.readahead_bytes, taken as u32];
    words.iter().chain(&versions).for_each(|word| out.extend(word.to_ne_bytes()));
    out.extend(BACKGROUND_MAX.to_ne_bytes());
    out.extend(CONGESTED_AT.to_ne_bytes());
    out.extend(write_bytes.to_ne_bytes());
    // Times count in nanoseconds.
    out.extend(1u32.to_ne_bytes());
    let pages = u16::try_from(write_bytes / 4096).expect("at most 256 pages");
    out.extend(pages.to_ne_bytes());
    out.extend(0u16.to_ne_bytes());
    out.extend(((taken >> 32) as u32).to_ne_bytes());
    out.resize(80, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(minor: u32, flags: u64) -> Vec<u8> {
        let mut words = vec![104u32, opcode::INIT, 2, 0, 0, 0, 0, 0, 0, 0];
        words.extend([MAJOR, minor, 131_072, flags as u32, (flags >> 32) as u32]);
        words.iter().flat_map(|word| word.to_ne_bytes()).chain([0; 44]).collect()
    }

    #[test]
    fn what_is_offered_and_wanted_is_taken() {
        let offer = Offer::parse(&message(45, u64::MAX)).unwrap();
        assert_eq!((offer.unique, offer.minor, offer.flags), (2, 45, u64::MAX));
        let taken = offer.flags & wanted(&Wishes::default());
        assert_eq!(taken & (init::POSIX_ACL | init::DONT_MASK), 0);
        let acl = offer.flags & wanted(&Wishes { acl: true, ..Wishes::default() });
        assert_eq!(acl, taken | init::POSIX_ACL | init::DONT_MASK);
        assert!(taken & init::OVER_IO_URING != 0 && taken & init::WRITEBACK_CACHE == 0);
        let out = reply(&offer, taken, WRITE_BYTES_LIMIT);
        assert_eq!(out.len(), 80);
        assert_eq!(&out[40..44], [1, 0, 0, 0]);
        assert_eq!(&out[44..46], 256u16.to_ne_bytes());
        assert_eq!(&out[48..52], ((taken >> 32) as u32).to_ne_bytes());
    }

    #[test]
    fn the_upper_flags_only_count_where_they_are_known() {
        let offer = Offer::parse(&message(36, !init::INIT_EXT)).unwrap();
        assert_eq!(offer.flags >> 32, 0);
    }

    #[test]
    fn an_old_kernel_is_told_so() {
        assert_eq!(
            Offer::parse(&message(31, 0)).err().map(|error| error.kind()),
            Some(io::ErrorKind::Unsupported)
        );
    }
}
