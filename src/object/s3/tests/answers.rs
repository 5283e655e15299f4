//! A server that keeps what it is asked and answers from a list, one connection at a time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The server; it ends with the test's process.
pub struct Answers {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    /// Answers in this order; with the last one gone it takes connections and says nothing.
    pub fn start(answers: Vec<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let answers: Vec<String> = answers.into_iter().map(str::to_owned).collect();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(answer) = answers.next() else {
                    silent.push(stream);
                    continue;
                };
                kept.lock().unwrap().push(request(&mut stream));
                // One request a connection, so that answers keep their order.
                let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { port, asked }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked until now, heads and bodies.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Head and body of one request.
fn request(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).unwrap();
        got.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if count == 0 || body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert!(count > 0, "a request breaks off");
    }
}
