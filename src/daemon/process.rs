//! The process itself: into the background, told signals, and how it tells that the mount answers.
//!
//! Owns fork, the signal mask and the allocator's mark, which come before the first other thread,
//! and what a signal does: before there is a mount it ends the process, afterwards the mount.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use super::failure::Failure;
use super::point::{self, Mounted};
use crate::fuse;

/// Exit code when signalled cores do not end in time, or the volume is gone, as with the real client.
const FORCED_EXIT: i32 = 11;
/// How long a signalled mount may take to end.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(30);

/// Memory of this size and more is the kernel's again as soon as it is freed.
const MAPPED_BYTES: i32 = 1 << 20;

/// Have the allocator map large memory by itself and unmap it when it is freed. It would raise its
/// own mark with every block that is freed, and then keep blocks in the heaps of all threads.
pub fn give_back_large_memory() {
    // SAFETY: it only sets a number of the allocator, and takes the allocator's lock for it.
    let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    assert_eq!(set, 1, "a mark the allocator knows");
}

/// Tells whoever waits for the mount how it went; the first message counts.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<File>>>);

impl Readiness {
    fn to(end: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Some(File::from(end)))))
    }

    /// The mount answers.
    pub fn answered(&self) {
        self.tell(0, "");
    }

    /// It will not.
    pub fn failed(&self, failure: &Failure) {
        self.tell(failure.code, &failure.text);
    }

    fn tell(&self, code: u8, text: &str) {
        let end = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut end) = end {
            // Nobody may be waiting any more.
            let _ = end.write_all(&[&[code], text.as_bytes()].concat());
        }
    }
}

/// Which side of the fork this is.
pub enum Forked {
    /// The one that was called; with what the other one told.
    Caller(Result<(), Failure>),
    /// The one that stays.
    Background(Readiness),
}

/// Go to the background; the caller's side waits until [`Readiness`] is told.
///
/// # Errors
/// When there is no process to be had.
pub fn to_background() -> io::Result<Forked> {
    let (near, far) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: no other thread runs yet, so the child holds no lock that nobody releases.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(near);
            rustix::process::setsid()?;
            let null = File::options().read(true).write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdin(&null)?;
            rustix::stdio::dup2_stdout(&null)?;
            rustix::stdio::dup2_stderr(&null)?;
            Ok(Forked::Background(Readiness::to(far)))
        }
        _ => {
            drop(far);
            let mut message = Vec::new();
            File::from(near).read_to_end(&mut message)?;
            Ok(Forked::Caller(heard(&message)))
        }
    }
}

fn heard(message: &[u8]) -> Result<(), Failure> {
    match message.split_first() {
        Some((0, _)) => Ok(()),
        Some((code, text)) => {
            Err(Failure { text: String::from_utf8_lossy(text).into_owned(), code: *code })
        }
        None => Err(Failure::failed(
            "the mount process ended before the mount answered; its log (--log) tells why",
        )),
    }
}

/// Where this process is mounted, and what the kernel's table said then.
type Place = (PathBuf, Option<Mounted>);

/// The signals that ask a mount to end, and what there is to unmount when one comes.
pub struct EndSignals(Arc<Mutex<Option<Place>>>);

impl EndSignals {
    /// Obey SIGINT, SIGTERM and SIGHUP from now on, whatever this thread waits for. Comes before
    /// other threads are started: they must not be the ones that are told.
    pub fn obey() -> Self {
        let set = block_end_signals();
        let mounted = Arc::new(Mutex::new(None));
        let place = Arc::clone(&mounted);
        thread::spawn(move || end(wait(&set), &place));
        Self(mounted)
    }

    /// Do `mount`; a signal in the meantime waits, and then finds `point` to be unmounted.
    ///
    /// # Errors
    /// Those of `mount`.
    pub fn mounting<T>(
        &self,
        point: &Path,
        mount: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut mounted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = mount()?;
        *mounted = Some((point.to_owned(), point::mounted(point)));
        Ok(done)
    }
}

fn block_end_signals() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset makes the set a valid one, which the other calls need.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        set.assume_init()
    }
}

/// Wait for one of `set`; its number.
fn wait(set: &libc::sigset_t) -> i32 {
    let mut number = 0;
    // SAFETY: the set is valid and the number has a place.
    let failed = unsafe { libc::sigwait(set, &raw mut number) };
    assert_eq!(failed, 0, "a valid set can be waited for");
    number
}

/// End the process, and nothing of what it holds is stored any more: the volume that it is for is not
/// there.
pub fn give_up(why: &str) -> ! {
    tracing::error!(
        "{why}; the mount ends here, and what was not stored is lost; take it out of the tree with \
         `jfs-uring umount`"
    );
    std::process::exit(FORCED_EXIT)
}

/// End what is `mounted`, or else the process at once.
fn end(number: i32, mounted: &Mutex<Option<Place>>) {
    let mounted = mounted.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((point, ours)) = mounted.clone() else {
        tracing::info!(number, "ended by a signal before anything was mounted");
        // As shells tell the end by a signal. The lock is kept: nothing is mounted any more.
        std::process::exit(128 + number);
    };
    drop(mounted);
    tracing::info!(number, "unmounting on a signal");
    let seen = point::mounted(&point);
    if seen.is_some() && seen != ours {
        tracing::error!("another mount lies over this one, and stays; unmount that first");
    } else {
        unmount(&point);
    }
    thread::sleep(SIGNAL_PATIENCE);
    tracing::error!("the mount did not end in time; what is not stored is lost");
    std::process::exit(FORCED_EXIT);
}

fn unmount(point: &Path) {
    let ended = fuse::unmount(point, false).or_else(|error| {
        tracing::warn!(%error, "in use; it ends with its last user");
        fuse::unmount(point, true)
    });
    if let Err(error) = ended {
        tracing::error!(%error, "cannot unmount");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_counts() {
        let (near, far) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let readiness = Readiness::to(far);
        readiness.failed(&Failure::refused("no"));
        readiness.answered();
        let mut message = Vec::new();
        File::from(near).read_to_end(&mut message).unwrap();
        let failure = heard(&message).unwrap_err();
        assert_eq!((failure.code, failure.text.as_str()), (3, "no"));
        assert!(heard(&[0]).is_ok());
        assert!(heard(&[]).unwrap_err().text.contains("log"));
    }
}
