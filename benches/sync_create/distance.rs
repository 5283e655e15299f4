//! Distance to a server: a TCP proxy that hands on what it reads when its time has come.
//!
//! It delays and does not serialise: what is sent in a row arrives in a row, each piece as late as
//! any other. Its threads end with the connections, the listening one with the process.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::mpsc::sync_channel;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rustix::thread::set_current_timer_slack;

const PIECE_BYTES: usize = 64 << 10;
/// Pieces under way in one direction; more wait in the socket.
const PIECES_MAX: usize = 256;

/// Where the server at `address` is `one_way` away.
pub fn away(address: SocketAddr, one_way: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let far = listener.local_addr().expect("bound");
    spawn(move || {
        for client in listener.incoming() {
            join(&client.expect("a connection"), address, one_way).expect("the server listens");
        }
    });
    far
}

fn join(client: &TcpStream, address: SocketAddr, one_way: Duration) -> io::Result<()> {
    let server = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    carry(client.try_clone()?, server.try_clone()?, one_way);
    carry(server, client.try_clone()?, one_way);
    Ok(())
}

/// One direction: a thread reads and says when a piece is due, another waits and writes. A side
/// that goes away ends both.
fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let (send, pieces) = sync_channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let piece = (Instant::now() + one_way, buffer[..count].to_vec());
            if send.send(piece).is_err() {
                break;
            }
        }
    });
    spawn(move || {
        // Otherwise each sleep takes up to 50 µs more.
        set_current_timer_slack(NonZeroU64::new(1)).expect("a thread may set its own");
        for (due, piece) in pieces {
            sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
