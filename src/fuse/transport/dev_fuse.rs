//! The classic transport: requests are read from `/dev/fuse`, replies written to it.
//!
//! Owns the read buffers of one core. With requests coming over the ring it still reads what only
//! comes this way (FORGET, INTERRUPT), at a slower pace.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use smallvec::SmallVec;

use super::loan::Home;
use crate::fuse::abi::opcode;
use crate::fuse::decode::{IN_HEADER_BYTES, decode, fixed_bytes};
use crate::fuse::encode::{Encoded, Shape, encode};
use crate::fuse::handler::{Handler, guarded};
use crate::pages::Region;
use crate::stdx::Gate;
use crate::uring::{poll_readable, poll_readable_alone, sleep, spawn};
use crate::vfs::op::{Payload, Reply};

/// Read buffers of one core; a write that waits keeps one.
const BUFFERS_MAX: usize = 64;
/// Buffers kept while no request is in them: their memory was touched.
const SPARE_MAX: usize = 8;
/// Requests of one core that may wait at a time.
const WAITING_MAX: usize = 1024;
/// Requests taken in before other work of the core gets its turn.
const TURN_REQUESTS: usize = 32;
/// Room beside the data in the largest request.
const HEADERS_BYTES: usize = 4096;
/// Pieces one writev takes.
const PIECES_MAX: usize = libc::UIO_MAXIOV as usize;

/// Opcodes that have no reply.
const SILENT: [u32; 2] = [opcode::FORGET, opcode::BATCH_FORGET];

/// How a core waits for the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Woken by every message: the core on the caller's CPU is there first, without a wake-up
    /// across. For a few cores; each costs the others a look in vain.
    Open,
    /// Woken in turns with the others that wait so.
    InTurn,
    /// As `Open`, and let more messages gather for this long.
    Gather(Duration),
}

/// Answer what comes through `device` (non-blocking) until the kernel lets go of the mount.
///
/// `payload_bytes` is the largest write, as agreed in INIT.
///
/// # Errors
/// When the device cannot be read.
pub async fn serve(
    device: OwnedFd,
    payload_bytes: usize,
    wait: Wait,
    handler: Rc<dyn Handler>,
) -> io::Result<()> {
    let device = Rc::new(Device {
        fd: device,
        handler,
        buffer_bytes: payload_bytes + HEADERS_BYTES,
        spare: RefCell::default(),
        buffers: Cell::new(0),
        waiting: Cell::new(0),
        changed: Gate::default(),
    });
    loop {
        match wait {
            Wait::Open => poll_readable(&device.fd).await?,
            Wait::InTurn => poll_readable_alone(&device.fd).await?,
            Wait::Gather(time) => {
                poll_readable(&device.fd).await?;
                sleep(time).await;
            }
        }
        for _ in 0..TURN_REQUESTS {
            match device.take_in().await {
                Ok(()) | Err(Errno::INTR | Errno::NOENT) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::NODEV | Errno::NOTCONN | Errno::CONNABORTED) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Buffer {
    region: Rc<Region>,
    home: Home,
}

struct Device {
    fd: OwnedFd,
    handler: Rc<dyn Handler>,
    buffer_bytes: usize,
    spare: RefCell<Vec<Buffer>>,
    /// Buffers made.
    buffers: Cell<usize>,
    /// Requests being answered by a task.
    waiting: Cell<usize>,
    /// Opened when a buffer comes home or a waiting request ends.
    changed: Gate,
}

impl Device {
    /// Read one message and start to answer it.
    async fn take_in(self: &Rc<Self>) -> Result<(), Errno> {
        let mut buffer = self.buffer().await?;
        let memory = Rc::get_mut(&mut buffer.region).expect("a spare buffer is lent to nobody");
        match rustix::io::read(&self.fd, &mut memory[..]) {
            Ok(count) => {
                self.dispatch(&buffer, count);
                self.recycle(buffer);
                Ok(())
            }
            Err(error) => {
                self.recycle(buffer);
                Err(error)
            }
        }
    }

    /// A free buffer; waits while too much is under way.
    async fn buffer(&self) -> Result<Buffer, Errno> {
        loop {
            let ticket = self.changed.ticket();
            if self.waiting.get() < WAITING_MAX {
                if let Some(buffer) = self.spare.borrow_mut().pop() {
                    return Ok(buffer);
                }
                if self.buffers.get() < BUFFERS_MAX {
                    let region = Region::map(self.buffer_bytes).map_err(|_| Errno::NOMEM)?;
                    self.buffers.set(self.buffers.get() + 1);
                    return Ok(Buffer { region: Rc::new(region), home: Home::default() });
                }
            }
            self.changed.wait(ticket).await;
        }
    }

    fn recycle(self: &Rc<Self>, buffer: Buffer) {
        if !buffer.home.is_lent() {
            self.keep(buffer);
            return;
        }
        let device = Rc::clone(self);
        spawn(async move {
            buffer.home.returned().await;
            device.keep(buffer);
            device.changed.open();
        });
    }

    /// For the next request, unless there are enough.
    fn keep(&self, buffer: Buffer) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        } else {
            self.buffers.set(self.buffers.get() - 1);
        }
    }

    fn dispatch(self: &Rc<Self>, buffer: &Buffer, len_bytes: usize) {
        let message = &buffer.region[..len_bytes];
        assert!(message.len() >= IN_HEADER_BYTES, "the kernel sends whole messages");
        let (header, rest) = message.split_at(IN_HEADER_BYTES);
        let code = u32::from_ne_bytes(header[4..8].try_into().expect("4 bytes"));
        let unique = u64::from_ne_bytes(header[8..16].try_into().expect("8 bytes"));
        if code == opcode::INTERRUPT && rest.len() >= 8 {
            let target = u64::from_ne_bytes(rest[..8].try_into().expect("8 bytes"));
            return self.handler.interrupt(target);
        }
        let silent = SILENT.contains(&code);
        let fixed = fixed_bytes(code).min(rest.len());
        let (fixed, rest) = rest.split_at(fixed);
        let rest_at = len_bytes - rest.len();
        let keep = || Payload(Box::new(buffer.home.lend(&buffer.region, rest_at..len_bytes)));
        let request = match decode(header, fixed, rest, keep) {
            Ok(request) => request,
            Err(_) if silent => return,
            Err(errno) => {
                return self.reply(unique, &encode(Reply::Error(errno), Shape::default()));
            }
        };
        let shape = Shape::of(&request.op);
        let device = Rc::clone(self);
        let answered = async move {
            let reply = guarded(&*device.handler, request).await;
            if !silent {
                device.reply(unique, &encode(reply, shape));
            }
        };
        self.start(answered);
    }

    /// Poll once, here; what has to wait becomes a task.
    fn start(self: &Rc<Self>, answered: impl Future<Output = ()> + 'static) {
        let mut answered = Box::pin(answered);
        // A task is polled again when it starts, with the waker that counts.
        let mut context = Context::from_waker(Waker::noop());
        if pin!(&mut answered).poll(&mut context) == Poll::Ready(()) {
            return;
        }
        self.waiting.set(self.waiting.get() + 1);
        let device = Rc::clone(self);
        spawn(async move {
            answered.await;
            device.waiting.set(device.waiting.get() - 1);
            device.changed.open();
        });
    }

    fn reply(&self, unique: u64, reply: &Encoded) {
        let mut head = [0; 16];
        let total = u32::try_from(head.len() + reply.len_bytes()).expect("replies are small");
        head[0..4].copy_from_slice(&total.to_ne_bytes());
        head[4..8].copy_from_slice(&reply.error.to_ne_bytes());
        head[8..16].copy_from_slice(&unique.to_ne_bytes());
        let mut pieces: SmallVec<[IoSlice<'_>; 20]> = SmallVec::new();
        pieces.push(IoSlice::new(&head));
        pieces.extend(reply.pieces().map(IoSlice::new));
        let written = if pieces.len() <= PIECES_MAX {
            rustix::io::writev(&self.fd, &pieces)
        } else {
            rustix::io::write(
                &self.fd,
                &pieces.iter().flat_map(|piece| &**piece).copied().collect::<Vec<_>>(),
            )
        };
        match written {
            // The caller was killed meanwhile, or the mount is gone: nobody to tell.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::NOTCONN) => {}
            Err(error) => tracing::warn!(unique, %error, "the kernel refused a reply"),
        }
    }
}
