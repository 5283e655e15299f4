//! A master found through real Sentinels; how they change it under load is the suite `sentinel`'s.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::outage::{assert_count, create_many};
use super::server::*;
use crate::meta::engine::EngineError;
use crate::meta::redis::{Passwords, RedisServer};
use crate::uring::block_on;

/// A real Sentinel that watches one master.
struct Sentinel {
    child: Child,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sentinel {
    fn start(name: &str, master: u16, more: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let conf = folder.path().join("sentinel.conf");
        let text = format!("port {port}\nsentinel monitor {name} 127.0.0.1 {master} 1\n{more}\n");
        std::fs::write(&conf, text).unwrap();
        let child = Command::new("redis-server")
            .args([conf.as_os_str(), "--sentinel".as_ref()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server in the path (package redis-server)");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the Sentinel does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, _folder: folder, port }
    }
}

fn master() -> (TestServer, u16) {
    let port = free_port();
    (TestServer::start(&["--port", &port.to_string()]), port)
}

fn at(url: &str, sentinel: Option<&str>) -> RedisServer {
    let passwords = Passwords { redis: None, sentinel: sentinel.map(Into::into) };
    RedisServer::from_url(url, passwords).unwrap()
}

fn entered(url: &str, sentinel: Option<&str>) -> Result<(), EngineError> {
    block_on(at(url, sentinel).engine().load_setting()).map(|_| ())
}

#[test]
fn the_first_sentinel_that_leads_to_a_master_is_believed() {
    let (server, port) = master();
    let nobody = free_port();
    let (stale, right) = (Sentinel::start("mine", nobody, ""), Sentinel::start("mine", port, ""));
    let other = Sentinel::start("other", port, "");
    for first in [nobody, stale.port, other.port] {
        let url = format!("redis://mine,127.0.0.1:{first},localhost:{}/2", right.port);
        let engine = at(&url, None).engine();
        block_on(async {
            create_many(&*engine, 100, 100).await;
            assert_count(&*engine, 100).await;
            let told = engine.describe().await.unwrap().text;
            assert!(told.contains("mine of the Sentinels"), "{told}");
        });
        assert_eq!(block_on(server.server(2).engine().load_setting()).unwrap(), None);
        server.text("FLUSHALL");
    }
}

#[test]
fn what_is_wrong_with_sentinels_is_told_in_one_line() {
    let (_server, port) = master();
    let sentinel = Sentinel::start("mine", port, "");
    let told = |url: &str| entered(url, None).unwrap_err().to_string();
    let text = told(&format!("redis://yours,127.0.0.1:{}/0", sentinel.port));
    assert!(text.contains("\"yours\"") && text.contains("SENTINEL MASTERS"), "{text}");
    let text = told(&format!("redis://mine,127.0.0.1:{port}/0"));
    assert!(text.contains(&format!("127.0.0.1:{port} is no Sentinel")), "{text}");
    let nobody = free_port();
    let text = told(&format!("redis://mine,127.0.0.1:{nobody}/0"));
    assert!(text.contains(&format!("Sentinel 127.0.0.1:{nobody}: ")), "{text}");
    let text = told(&format!("redis://mine,127.0.0.1:{}/77", sentinel.port));
    assert!(text.contains("DB index"), "{text}");
}

#[test]
fn sentinels_have_a_password_of_their_own() {
    let (_server, port) = master();
    let sentinel = Sentinel::start("mine", port, "requirepass watchword");
    let url = format!("redis://mine,127.0.0.1:{}/0", sentinel.port);
    entered(&url, Some("watchword")).unwrap();
    for given in [None, Some("wr0ng")] {
        let text = entered(&url, given).unwrap_err().to_string();
        assert!(text.contains("SENTINEL_PASSWORD"), "{text}");
        assert!(!text.contains("wr0ng") && !text.contains("watchword"), "{text}");
    }
}
