//! These stores: their addresses, and WebDAV against a real server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::conformance::check;
use super::super::{Keys, Store};
use super::*;

fn keys() -> Keys {
    Keys { access: "AK".into(), secret: "SK".into(), session_token: String::new() }
}

fn parse(storage: &str, bucket: &str, keys: Keys) -> Result<Extra, BadBucket> {
    let env =
        |name: &str| (name == "COS_SECRETID" || name == "COS_SECRETKEY").then(|| "env".into());
    Extra::parse(storage, bucket, keys, "", &env).expect("a service")
}

#[test]
fn buckets_look_as_those_of_juicefs() {
    let told = |storage: &str, bucket: &str| {
        ExtraStore::new(parse(storage, bucket, keys()).expect("a bucket")).describe()
    };
    assert_eq!(told("gs", "gs://bucket.us-east1"), "gs /bucket");
    assert_eq!(told("gs", "bucket"), "gs /bucket");
    assert_eq!(
        told("wasb", "https://c.core.windows.net"),
        "wasb https://AK.blob.core.windows.net/c"
    );
    assert_eq!(
        told("wasb", "c.blob.core.chinacloudapi.cn"),
        "wasb https://AK.blob.core.chinacloudapi.cn/c"
    );
    assert_eq!(told("wasb", "c"), "wasb https://AK.blob.core.windows.net/c");
    assert_eq!(told("oss", "b.oss-cn-x.aliyuncs.com/"), "oss https://oss-cn-x.aliyuncs.com/b");
    assert_eq!(told("cos", "https://b-1.cos.r.myqcloud.com"), "cos https://cos.r.myqcloud.com/b-1");
    assert_eq!(
        told("obs", "http://b.obs.r.myhuaweicloud.com"),
        "obs http://obs.r.myhuaweicloud.com/b"
    );
    assert_eq!(told("webdav", "host:80/dav/"), "webdav http://host:80/dav/");
    for (storage, bucket) in
        [("oss", "b"), ("cos", ""), ("obs", "b"), ("webdav", "ftp://x"), ("gs", "")]
    {
        let told = parse(storage, bucket, keys()).err().expect("no bucket").to_string();
        assert!(told.contains("--bucket") && told.contains("it looks like"), "{told}");
    }
}

#[test]
fn keys_are_found_where_juicefs_finds_them() {
    let cos =
        parse("cos", "b.cos.r.myqcloud.com", Keys::default()).expect("keys of the environment");
    assert_eq!((&*cos.keys.access, &*cos.keys.secret), ("env", "env"));
    let half = Keys { secret: String::new(), ..keys() };
    assert!(parse("oss", "b.c.d", half).err().expect("half").to_string().contains("--secret-key"));
    assert!(Extra::parse("ceph", "x", keys(), "", &|_| None).is_none());
    let class = |storage: &str| {
        Extra::parse(storage, "b.c.d", keys(), "COLD", &|_| None).expect("a service").map(|_| ())
    };
    assert_eq!(class("gs"), Ok(()));
    assert!(class("oss").unwrap_err().to_string().contains("classes of storage"));
}

/// wsgidav over a folder; its program is installed once.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let home = std::env::var("HOME").expect("a home");
        let venv = Path::new(&home).join(".cache/jfs-uring-tests/wsgidav");
        let run = |program: &Path, words: &[&str]| {
            let done = Command::new(program).args(words).status().expect("it runs");
            assert!(done.success(), "{program:?} {words:?}");
        };
        if !venv.join("ready").exists() {
            run(Path::new("python3"), &["-m", "venv", &venv.display().to_string()]);
            run(&venv.join("bin/pip"), &["install", "-q", "wsgidav==4.3.3", "cheroot==11.1.2"]);
            std::fs::write(venv.join("ready"), b"").expect("a mark");
        }
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("its number").port()
        };
        let process = Command::new(venv.join("bin/wsgidav"))
            .args(["--host=127.0.0.1", "--auth=anonymous", "-q", &format!("--port={port}")])
            .arg(format!("--root={}", folder.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        let server = Self { process, url: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "wsgidav does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn webdav_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let place = parse("webdav", &server.url, Keys::default()).expect("an address");
    check(&ExtraStore::new(place));
}
