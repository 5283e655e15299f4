//! TLS to real servers, with certificates of authorities that a test makes for itself.

use std::path::PathBuf;
use std::process::Command;

use super::outage::{assert_count, create_many};
use super::server::*;
use crate::meta::engine::EngineError;
use crate::meta::redis::{Passwords, RedisServer};
use crate::uring::block_on;

/// Signs certificates; a folder holds all of them.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        std::fs::write(authority.path("openssl.conf"), "[req]\ndistinguished_name=dn\n[dn]\n")
            .unwrap();
        authority.make("ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        authority.sign("server", "DNS:localhost,IP:127.0.0.1");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn make(&self, name: &str, options: &[&str]) {
        let done = Command::new("openssl")
            .args(["req", "-x509", "-config", "openssl.conf", "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj"])
            .args([&format!("/CN={name}"), "-out", &format!("{name}.pem")])
            .args(["-keyout", &format!("{name}.key")])
            .args(options)
            .current_dir(self.0.path())
            .output()
            .expect("these tests need openssl in the path (package openssl)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A certificate for these names.
    fn sign(&self, name: &str, names: &str) {
        let names = format!("subjectAltName={names}");
        self.make(name, &["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", &names]);
    }

    /// A server that shows the certificate `name`, and the port of its TLS.
    fn serve(&self, name: &str, more: &[&str]) -> (TestServer, u16) {
        let port = free_port();
        let (certificate, key) =
            (self.text(&format!("{name}.pem")), self.text(&format!("{name}.key")));
        let (ca, text) = (self.text("ca.pem"), port.to_string());
        let options =
            ["--tls-port", &text, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        let options = [&options[..], &["--tls-ca-cert-file", &ca], more];
        let server = TestServer::start(&options.concat());
        (server, port)
    }
}

const ANYONE: [&str; 2] = ["--tls-auth-clients", "no"];

fn at(url: &str) -> Result<RedisServer, EngineError> {
    RedisServer::from_url(url, Passwords::default())
}

/// Does something there; an error is one line.
fn entered(url: &str) -> Result<(), String> {
    let told = at(url).and_then(|server| block_on(server.engine().load_setting()));
    told.map(|_| ()).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    })
}

#[track_caller]
fn assert_refused(url: &str, words: &[&str]) {
    let text = entered(url).expect_err("it must not be entered");
    words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in {text}"));
}

#[test]
fn a_server_whose_authority_is_named_is_worked_with() {
    let authority = Authority::new();
    let ca = authority.text("ca.pem");
    for more in [&[][..], &["--tls-protocols", "TLSv1.2"]] {
        let (server, port) = authority.serve("server", &[&ANYONE, more].concat());
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("rediss://{host}:{port}/1?tls-ca-cert-file={ca}");
            let engine = at(&url).unwrap().engine();
            block_on(async {
                // Larger than a record of TLS and than what is received at a time.
                let large = "x".repeat(3 << 20);
                engine.store_setting(large.clone(), vec![]).await.unwrap();
                assert!(engine.load_setting().await.unwrap().as_deref() == Some(&large));
                let told = engine.describe().await.unwrap().text;
                assert!(told.contains(&format!("{host}:{port} by TLS")), "{told}");
            });
        }
        let shared = at(&format!("rediss://localhost:{port}/2?tls-ca-cert-file={ca}")).unwrap();
        let engine = shared.engine();
        block_on(async {
            create_many(&*engine, 100, 400).await;
            // Whoever is cut off enters again.
            for round in 1..5 {
                server.text("CLIENT KILL TYPE normal SKIPME yes");
                create_many(&*engine, 1000 * round, 100).await;
            }
            assert_count(&*engine, 800).await;
        });
    }
}

#[test]
fn a_stranger_is_refused_with_the_cure() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_server, port) = authority.serve("server", &ANYONE);
    let url = format!("rediss://127.0.0.1:{port}/0");
    let cures = ["tls-ca-cert-file", "insecure-skip-verify", &format!("127.0.0.1:{port}")];
    assert_refused(&url, &cures);
    assert_refused(&format!("{url}?tls-ca-cert-file={}", other.text("ca.pem")), &cures);
    entered(&format!("{url}?insecure-skip-verify=1")).unwrap();
}

#[test]
fn a_certificate_for_other_names_is_refused_with_the_cure() {
    let authority = Authority::new();
    authority.sign("named", "DNS:redis.example");
    let (_server, port) = authority.serve("named", &ANYONE);
    let url = format!("rediss://127.0.0.1:{port}/0?tls-ca-cert-file={}", authority.text("ca.pem"));
    assert_refused(&url, &["tls-server-name"]);
    entered(&format!("{url}&tls-server-name=redis.example")).unwrap();
}

#[test]
fn a_server_that_is_its_own_authority_is_entered_when_it_is_named() {
    let authority = Authority::new();
    let name =
        ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectAltName=DNS:localhost"];
    authority.make("own", &name);
    authority.make("twin", &name);
    let (_server, port) = authority.serve("own", &ANYONE);
    let url = |host: &str, name: &str| {
        format!("rediss://{host}:{port}/0?tls-ca-cert-file={}", authority.text(name))
    };
    entered(&url("localhost", "own.pem")).unwrap();
    assert_refused(&url("127.0.0.1", "own.pem"), &["tls-server-name"]);
    assert_refused(&url("localhost", "twin.pem"), &["TLS"]);
}

#[test]
fn a_server_that_asks_for_certificates_gets_this_clients() {
    let (authority, other) = (Authority::new(), Authority::new());
    for signer in [&authority, &other] {
        signer.sign("client", "DNS:client");
    }
    let own = |signer: &Authority| {
        let (certificate, key) = (signer.text("client.pem"), signer.text("client.key"));
        format!("&tls-cert-file={certificate}&tls-key-file={key}")
    };
    for protocol in ["TLSv1.3", "TLSv1.2"] {
        let (_server, port) = authority.serve("server", &["--tls-protocols", protocol]);
        let url =
            format!("rediss://localhost:{port}/0?tls-ca-cert-file={}", authority.text("ca.pem"));
        entered(&format!("{url}{}", own(&authority))).unwrap();
        assert_refused(&url, &["tls-cert-file", "tls-key-file"]);
        assert_refused(&format!("{url}{}", own(&other)), &["does not trust", "tls-cert-file"]);
    }
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new();
    std::fs::write(authority.path("empty.pem"), "").unwrap();
    authority.sign("client", "DNS:client");
    let of = |name: &str| authority.text(name);
    for (parameters, words) in [
        ("tls-ca-cert-file=/no/such.pem".to_owned(), ["tls-ca-cert-file", "/no/such.pem"]),
        (format!("tls-ca-cert-file={}", of("empty.pem")), ["tls-ca-cert-file", "empty.pem"]),
        (format!("tls-cert-file={}", of("client.pem")), ["tls-cert-file", "tls-key-file"]),
        (
            format!("tls-cert-file={}&tls-key-file={}", of("client.pem"), of("server.key")),
            ["client.pem", "server.key"],
        ),
        (
            format!("tls-cert-file={}&tls-key-file={}", of("client.pem"), of("client.pem")),
            ["tls-key-file", "client.pem"],
        ),
    ] {
        assert_refused(&format!("rediss://localhost/0?{parameters}"), &words);
    }
}

#[test]
fn a_user_enters_by_name_and_password() {
    let authority = Authority::new();
    let (server, port) = authority.serve("server", &ANYONE);
    server.text("ACL SETUSER me on >s3cr@t ~* &* +@all");
    server.text("ACL SETUSER default off >other");
    let parameters = format!("tls-ca-cert-file={}", authority.text("ca.pem"));
    let url = |entry: &str| format!("rediss://{entry}localhost:{port}/0?{parameters}");
    entered(&url("me:s3cr%40t@")).unwrap();
    let passwords = Passwords { redis: Some("s3cr@t".into()), sentinel: None };
    let engine = RedisServer::from_url(&url("me@"), passwords).unwrap().engine();
    assert_eq!(block_on(engine.load_setting()).unwrap(), None);
    for entry in ["", "me:wr0ng@", ":s3cr%40t@"] {
        let text = entered(&url(entry)).unwrap_err();
        assert!(text.contains("META-URL") && !text.contains("wr0ng"), "{text}");
        assert!(!text.contains("s3cr"), "{text}");
    }
}

#[test]
fn ports_with_and_without_tls_are_told_apart() {
    let authority = Authority::new();
    let plain = free_port();
    let (_server, sealed) =
        authority.serve("server", &[&ANYONE[..], &["--port", &plain.to_string()]].concat());
    entered(&format!("redis://localhost:{plain}/0")).unwrap();
    assert_refused(&format!("redis://localhost:{sealed}/0"), &["rediss://"]);
    assert_refused(&format!("rediss://localhost:{plain}/0"), &["TLS"]);
}
