//! The numbers of a mount for Prometheus, over HTTP (`--metrics`).
//!
//! Owns the door: a listener that the first core waits at, and as much of HTTP/1.1 as a scrape needs. One
//! request a connection, all bounds here. What the numbers are is `vfs`'s.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::volume::VERSION;
use crate::stdx::Permits;
use crate::uring::net::{recv, send_all};
use crate::uring::{poll_readable, sleep, spawn, timeout};
use crate::vfs::Vfs;

/// Scrapes at a time; further ones wait in the kernel.
const SCRAPES_MAX: usize = 8;
/// A scrape is over in this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request, which has no body.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// After an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(500);

/// Labels of every number.
pub type Labels = Vec<(&'static str, String)>;

/// As the official client labels them.
pub fn labels(volume: &str, point: &Path) -> Labels {
    let host = rustix::system::uname();
    vec![
        ("instance", host.nodename().to_string_lossy().into_owned()),
        ("juicefs_version", VERSION.to_owned()),
        ("mp", point.display().to_string()),
        ("vol_name", volume.to_owned()),
    ]
}

/// Listen at `HOST:PORT`.
///
/// # Errors
/// When that is no address, or not free.
pub fn listen(place: &str) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind(place)?;
    listener.set_nonblocking(true)?;
    tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
    Ok(listener.into())
}

/// Answer scrapes, for ever.
pub async fn serve(listener: OwnedFd, vfs: Rc<Vfs>, labels: Labels) {
    let places = Permits::new(SCRAPES_MAX);
    let labels: Rc<Labels> = Rc::new(labels);
    loop {
        let place = places.take().await;
        let connection = match accept_with(&listener, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN) => {
                if poll_readable(&listener).await.is_err() {
                    sleep(PAUSE).await;
                }
                continue;
            }
            // The caller has gone already.
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => {
                tracing::warn!(%error, "a scrape of the metrics is not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (vfs, labels) = (Rc::clone(&vfs), Rc::clone(&labels));
        spawn(async move {
            // One that is slow or goes away is its own affair.
            let _ = timeout(PATIENCE, answer(&connection, &vfs, &labels)).await;
            drop(place);
        });
    }
}

async fn answer(connection: &OwnedFd, vfs: &Vfs, labels: &Labels) {
    let Some(head) = request(connection).await else { return };
    let reply = match wanted(&head) {
        Wanted::Metrics { body } => {
            let text = vfs.report().await.exposition(labels);
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            respond("200 OK", kind, &text, body)
        }
        Wanted::Other => respond("404 Not Found", "text/plain", b"see /metrics\n", true),
        Wanted::Wrong => {
            respond("400 Bad Request", "text/plain", b"GET /metrics is served\n", true)
        }
    };
    let _ = send_all(connection, reply).await;
}

/// The head of a request; `None` if it does not come or is too long.
async fn request(connection: &OwnedFd) -> Option<Vec<u8>> {
    let (mut head, mut buffer) = (Vec::new(), vec![0; REQUEST_BYTES_MAX]);
    loop {
        let (received, back) = recv(connection, buffer).await;
        buffer = back;
        let count = received.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&buffer[..count]);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            return Some(head);
        }
        if head.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Metrics { body: bool },
    Other,
    Wrong,
}

/// What the first line asks for.
fn wanted(head: &[u8]) -> Wanted {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Wanted::Wrong };
    if !version.starts_with(b"HTTP/1.") || !matches!(method, b"GET" | b"HEAD") {
        return Wanted::Wrong;
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if path == b"/metrics" { Wanted::Metrics { body: method == b"GET" } } else { Wanted::Other }
}

fn respond(status: &str, kind: &str, content: &[u8], body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    [head.as_bytes(), if body { content } else { b"" }].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_told_from_other_requests() {
        assert_eq!(
            wanted(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
            Wanted::Metrics { body: true }
        );
        assert_eq!(wanted(b"HEAD /metrics?a=b HTTP/1.0\r\n\r\n"), Wanted::Metrics { body: false });
        assert_eq!(wanted(b"GET / HTTP/1.1\r\n\r\n"), Wanted::Other);
        for wrong in [
            &b"POST /metrics HTTP/1.1\r\n\r\n"[..],
            b"GET /metrics\r\n\r\n",
            b"\r\n\r\n",
            b"GET /metrics HTTP/2\r\n",
        ] {
            assert_eq!(wanted(wrong), Wanted::Wrong);
        }
        let reply = respond("200 OK", "text/plain", b"abc", false);
        assert!(reply.ends_with(b"Content-Length: 3\r\nConnection: close\r\n\r\n"));
    }
}
