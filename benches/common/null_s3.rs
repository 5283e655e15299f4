//! A bucket without work in it: what is put is thrown away, what is got are zeros of
//! the length that the object's name tells, and the first byte of an answer comes after a delay.
//!
//! Small objects, such as the mark of a volume, are kept as they are.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Larger bodies are thrown away.
const KEPT_BYTES: usize = 4096;
const PIECE_BYTES: usize = 256 * 1024;

type Kept = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// How late answers are.
#[derive(Clone, Copy)]
struct Delays {
    get: Duration,
    put: Duration,
}

/// Serve on loopback, each connection on a thread of its own, until the process ends. Gets are late.
pub fn start(delay: Duration) -> SocketAddr {
    serve_all(Delays { get: delay, put: Duration::ZERO })
}

/// The same; puts are late, too.
pub fn start_late_at_both(delay: Duration) -> SocketAddr {
    serve_all(Delays { get: delay, put: delay })
}

fn serve_all(delays: Delays) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let kept = Kept::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, kept) = (stream.expect("a connection"), Arc::clone(&kept));
            // A client that leaves ends its thread.
            std::thread::spawn(move || drop(serve(stream, &kept, delays)));
        }
    });
    address
}

/// What a request's head says.
struct Head {
    method: String,
    key: String,
    body_bytes: usize,
    range: Option<(usize, usize)>,
}

fn serve(stream: TcpStream, kept: &Kept, delays: Delays) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::with_capacity(PIECE_BYTES, stream);
    let zeros = vec![0; PIECE_BYTES];
    while let Some(head) = read_head(&mut requests)? {
        match head.method.as_str() {
            "PUT" => {
                take_body(&mut requests, &head, kept)?;
                std::thread::sleep(delays.put);
                answers
                    .write_all(b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 0\r\n\r\n")?;
            }
            "GET" if head.key.contains("list-type=2") => answer_list(&mut answers)?,
            "GET" => {
                std::thread::sleep(delays.get);
                answer_get(&mut answers, &head, kept, &zeros)?;
            }
            "DELETE" => answers.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            method => panic!("no part of this bench: {method} {}", head.key),
        }
    }
    Ok(())
}

fn read_head(requests: &mut impl BufRead) -> std::io::Result<Option<Head>> {
    let mut line = String::new();
    if requests.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let mut head = Head { method, key: path, body_bytes: 0, range: None };
    loop {
        line.clear();
        requests.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(Some(head)) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.body_bytes = value.parse().expect("a length"),
            "range" => head.range = parse_range(value),
            _ => {}
        }
    }
}

/// First and last byte of `bytes=first-last`.
fn parse_range(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn take_body(requests: &mut impl Read, head: &Head, kept: &Kept) -> std::io::Result<()> {
    let mut body = vec![0; head.body_bytes.min(PIECE_BYTES)];
    let mut left = head.body_bytes;
    while left > 0 {
        let some = left.min(body.len());
        requests.read_exact(&mut body[..some])?;
        left -= some;
    }
    if head.body_bytes <= KEPT_BYTES {
        kept.lock().expect("no panic").insert(head.key.clone(), body);
    }
    Ok(())
}

/// Nothing is ever in it.
fn answer_list(answers: &mut impl Write) -> std::io::Result<()> {
    let body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn answer_get(
    answers: &mut impl Write,
    head: &Head,
    kept: &Kept,
    zeros: &[u8],
) -> std::io::Result<()> {
    let small = kept.lock().expect("no panic").get(&head.key).cloned();
    let Some(total) = small.as_ref().map(Vec::len).or_else(|| block_bytes(&head.key)) else {
        return answers.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let (first, last) = head.range.unwrap_or((0, total - 1));
    let last = last.min(total - 1);
    let mut left = last + 1 - first;
    let told = match head.range {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}"),
        None => "200 OK".to_owned(),
    };
    write!(answers, "HTTP/1.1 {told}\r\nETag: \"0\"\r\nContent-Length: {left}\r\n\r\n")?;
    if let Some(small) = small {
        return answers.write_all(&small[first..=last]);
    }
    while left > 0 {
        let some = left.min(zeros.len());
        answers.write_all(&zeros[..some])?;
        left -= some;
    }
    Ok(())
}

/// What the name of a block says of its length.
fn block_bytes(key: &str) -> Option<usize> {
    key.contains("/chunks/").then(|| key.rsplit_once('_')?.1.parse().ok())?
}
