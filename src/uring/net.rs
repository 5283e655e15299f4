//! Stream sockets on the ring.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use io_uring::{opcode, types};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, send, socket_with, sockopt,
};

use super::ops::{Operation, with_buffer};
use super::ring::Kept;

/// Connect to a TCP address, without delay for small messages.
pub async fn connect_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    let (storage, len_bytes) = sockaddr(address);
    let raw = types::Fd(fd.as_raw_fd());
    let done = Operation::start(Kept::Address(Box::new(storage)), |kept| {
        let Kept::Address(storage) = kept else { unreachable!("this operation keeps an address") };
        opcode::Connect::new(raw, std::ptr::from_ref(&**storage).cast(), len_bytes).build()
    });
    done.await.0?;
    Ok(fd)
}

/// Connect to a unix socket; such a connect does not wait, so it needs no ring.
pub async fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// Send all bytes; the buffer comes back for reuse.
///
/// What the socket has room for goes at once by a plain call, which costs less than an operation
/// and its completion; the ring carries the rest.
pub async fn send_all(fd: &OwnedFd, mut bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
    let mut done = match send(fd, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(count) => count,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(error) => return (Err(error.into()), bytes),
    };
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    while done < bytes.len() {
        let (sent, buffer) = with_buffer(bytes, |at, len_bytes| {
            opcode::Send::new(raw, at.wrapping_add(done), len_bytes - done as u32)
                .flags(flags)
                .build()
        })
        .await;
        bytes = buffer;
        match sent {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), bytes),
            Ok(count) => done += count,
            Err(error) => return (Err(error), bytes),
        }
    }
    bytes.clear();
    (Ok(()), bytes)
}

/// Receive what is there, at most the buffer's length; 0 means the other side has closed.
pub async fn recv(fd: &OwnedFd, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    with_buffer(buffer, |at, len_bytes| opcode::Recv::new(raw, at, len_bytes).build()).await
}

/// The kernel's form of an address, with its length in bytes.
fn sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, u32) {
    // SAFETY: sockaddr_storage is plain data for which all zeros is a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let at = std::ptr::from_mut(&mut storage);
    let len_bytes = match address {
        SocketAddr::V4(v4) => {
            let form = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than and as aligned as every address form.
            unsafe { at.cast::<libc::sockaddr_in>().write(form) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let form = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { at.cast::<libc::sockaddr_in6>().write(form) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len_bytes as u32)
}
