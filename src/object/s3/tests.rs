//! The S3 store against a server in this process, and against answers made up for it.

mod answers;
mod server;

use std::time::Duration;

use super::super::conformance::{body, check, pattern};
use super::super::{Store, StoreError};
use super::store::region_of;
use super::*;
use crate::pages::{PAGE_BYTES, Pool};
use crate::uring::{self, block_on};
use answers::Answers;
use server::Server;

fn address(url: &str) -> Address {
    Address::parse(Flavour::S3, url, &|_| None).unwrap()
}

fn keys() -> Keys {
    Keys { access: "AK".into(), secret: "SK".into(), session_token: String::new() }
}

fn store(url: &str) -> S3Store {
    S3Store::new(Flavour::S3, address(url), keys(), String::new())
}

fn get(store: &S3Store, key: &str, len: usize) -> Result<Vec<u8>, StoreError> {
    let (mut bytes, count) = block_on(store.get(key.into(), 0, vec![0; len]))?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn conforms() {
    let server = Server::start("bucket");
    check(&store(&server.url("bucket")));
}

#[test]
fn a_bucket_called_as_its_host_is_reached() {
    let server = Server::start("localhost");
    let url = server.url("localhost").replace("127.0.0.1", "localhost.localdomain");
    // Names below localhost are this machine, whatever its resolver knows of them.
    if std::net::ToSocketAddrs::to_socket_addrs("localhost.localdomain:1").is_ok() {
        check(&store(&url));
    } else {
        check(&store(&server.url("localhost")));
    }
}

#[test]
fn a_bucket_that_is_not_there_is_made() {
    let server = Server::start("other");
    let store = store(&server.url("new-bucket"));
    block_on(store.make_bucket()).unwrap();
    block_on(store.make_bucket()).unwrap();
    check(&store);
    let wrong = Keys { secret: "other".into(), ..keys() };
    let address = address(&server.url("third"));
    let denied = S3Store::new(Flavour::S3, address, wrong, String::new());
    let told = block_on(denied.make_bucket()).unwrap_err().to_string();
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
}

#[test]
fn wrong_keys_and_buckets_are_told_with_a_cure() {
    let server = Server::start("bucket");
    let pool = Pool::new(PAGE_BYTES);
    let wrong = Keys { secret: "other".into(), ..keys() };
    let address = address(&server.url("bucket"));
    let denied = S3Store::new(Flavour::S3, address, wrong, String::new());
    let told = block_on(denied.put("a".into(), body(&pool, b"x"))).unwrap_err();
    assert!(matches!(told, StoreError::Refused(_)), "{told:?}");
    assert!(told.to_string().contains("--secret-key"), "{told}");
    let none = "<Error><Code>NoSuchBucket</Code><Message>It is not there</Message></Error>";
    let length = none.len();
    let none = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{none}");
    let empty = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let server = Answers::start(vec![&none, &none, empty]);
    let nowhere = store(&format!("{}/other", server.url()));
    let told = get(&nowhere, "a", 1).unwrap_err();
    assert!(matches!(&told, StoreError::Refused(text) if text.contains("--bucket")), "{told:?}");
    for _ in 0..2 {
        let told = block_on(nowhere.put("a".into(), body(&pool, b"x"))).unwrap_err();
        assert!(matches!(&told, StoreError::Refused(text) if text.contains("bucket")), "{told:?}");
    }
}

#[test]
fn a_server_that_is_not_there_may_come_back() {
    let told = get(&store("http://127.0.0.1:1/bucket"), "a", 1).unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "{told:?}");
    assert!(told.to_string().contains("refused"), "{told}");
}

#[test]
fn requests_look_as_those_of_juicefs() {
    let server =
        Answers::start(vec!["HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n"]);
    let session = Keys { session_token: "TOKEN".into(), ..keys() };
    let address = address(&format!("{}/bucket", server.url()));
    let store = S3Store::new(Flavour::S3, address, session, "STANDARD_IA".into());
    let pool = Pool::new(PAGE_BYTES);
    block_on(store.put("vol/a b".into(), body(&pool, b"123456789"))).unwrap();
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("PUT /bucket/vol/a%20b HTTP/1.1\r\n"), "{asked}");
    let has = |line: &str| asked.lines().any(|have| have.eq_ignore_ascii_case(line));
    // 0xe3069283, the check value of CRC-32C.
    assert!(has("x-amz-meta-crc32c: 3808858755"), "{asked}");
    assert!(has("x-amz-content-sha256: UNSIGNED-PAYLOAD"), "{asked}");
    assert!(has("x-amz-storage-class: STANDARD_IA"), "{asked}");
    assert!(has("x-amz-security-token: TOKEN"), "{asked}");
    assert!(has("content-type: application/octet-stream"), "{asked}");
    assert!(has("content-length: 9"), "{asked}");
    assert!(asked.contains("AWS4-HMAC-SHA256 Credential=AK/"), "{asked}");
    assert!(asked.ends_with("123456789"), "{asked}");
}

#[test]
fn a_tier_puts_with_its_own_class_into_the_same_bucket() {
    let stored = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n";
    let server = Answers::start(vec![stored; 4]);
    let base = store(&format!("{}/bucket", server.url()));
    let (rare, colder) =
        (base.with_class("STANDARD_IA".into()), base.with_class("GLACIER_IR".into()));
    let none = rare.with_class(String::new());
    let pool = Pool::new(4 * PAGE_BYTES);
    for store in [&base, &rare, &colder, &none] {
        block_on(store.put("a".into(), body(&pool, b"x"))).unwrap();
    }
    let class = |asked: &String| {
        let line = asked.lines().find_map(|line| line.strip_prefix("x-amz-storage-class: "));
        line.map(str::to_owned)
    };
    let classes: Vec<_> = server.asked().iter().map(class).collect();
    assert_eq!(
        classes,
        [None, Some("STANDARD_IA".to_owned()), Some("GLACIER_IR".to_owned()), None]
    );
}

#[test]
fn without_keys_nothing_is_signed_when_that_is_asked_for() {
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let server = Answers::start(vec![missing]);
    let anonymous = Keys { access: "anonymous".into(), ..Keys::default() };
    let address = address(&format!("{}/bucket", server.url()));
    let store = S3Store::new(Flavour::S3, address, anonymous, String::new());
    assert!(matches!(get(&store, "a", 1), Err(StoreError::Missing(_))));
    assert!(!server.asked().remove(0).to_lowercase().contains("authorization"));
}

/// A whole object of five bytes with JuiceFS's checksum.
fn object(bytes: &str, checksum: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nx-amz-meta-crc32c: {checksum}\r\n\
         Content-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\n{bytes}"
    )
}

#[test]
fn damage_on_the_way_is_fetched_again_and_damage_at_rest_is_told() {
    // CRC-32C of `hello`.
    let (good, bad) = (object("hello", "2591144780"), object("hellO", "2591144780"));
    let server = Answers::start(vec![&bad, &good, &bad, &bad, &object("hellO", "")]);
    let store = store(&format!("{}/bucket", server.url()));
    assert_eq!(get(&store, "a", 5).unwrap(), b"hello");
    assert!(matches!(get(&store, "a", 5), Err(StoreError::Corrupt { .. })));
    assert_eq!(get(&store, "a", 5).unwrap(), b"hellO", "an object without checksum is believed");
}

#[test]
fn bodies_that_break_off_are_no_objects() {
    let short = object("hel", "2591144780");
    let server = Answers::start(vec![&short]);
    let store = store(&format!("{}/bucket", server.url()));
    assert!(matches!(get(&store, "a", 5), Err(StoreError::Unavailable(_))));
}

#[test]
fn answers_of_a_busy_store_are_sorted() {
    let slow = "<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>";
    let slow = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\n\r\n{slow}", slow.len());
    let error = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let server = Answers::start(vec![&slow, error]);
    let store = store(&format!("{}/bucket", server.url()));
    let told = get(&store, "a", 5).unwrap_err();
    assert!(
        matches!(&told, StoreError::Throttled(text) if text.contains("SlowDown: Reduce")),
        "{told:?}"
    );
    assert!(matches!(get(&store, "a", 5), Err(StoreError::Unavailable(_))));
}

#[test]
fn a_request_that_is_given_up_gives_its_pages_back() {
    // Takes the connection and never answers.
    let server = Answers::start(Vec::new());
    let store = store(&format!("{}/bucket", server.url()));
    let pool = Pool::new(PAGE_BYTES);
    block_on(async {
        let put = store.put("a".into(), body(&pool, b"x"));
        assert!(uring::timeout(Duration::from_millis(100), put).await.is_err());
        for _ in 0..500 {
            if pool.used_pages() == 0 {
                return;
            }
            uring::sleep(Duration::from_millis(10)).await;
        }
        panic!("the page stays with a request that nobody waits for");
    });
}

#[test]
fn aws_tells_the_region_of_a_bucket() {
    let here = "HTTP/1.1 403 Forbidden\r\nx-amz-bucket-region: eu-west-3\r\n\r\n";
    let none = "HTTP/1.1 404 Not Found\r\n\r\n";
    let server = Answers::start(vec![here, none]);
    let url = server.url();
    let client = http::client(&address(&format!("{url}/b"))).unwrap();
    let ask = || {
        let (client, url) = (client.clone(), url.clone());
        block_on(crate::net::runtime::run(async move { region_of(&client, &url, "b").await }))
    };
    assert_eq!(ask().unwrap().unwrap(), "eu-west-3");
    assert!(matches!(ask().unwrap(), Err(StoreError::Refused(_))));
}

#[test]
fn a_listing_of_many_pages_is_whole() {
    let server = Server::start("bucket");
    let store = store(&server.url("bucket"));
    let pool = Pool::new(PAGE_BYTES);
    for number in 0..1_050 {
        let one = body(&pool, &pattern(1));
        block_on(store.put(format!("p/{number:04}"), one)).unwrap();
    }
    let all = block_on(store.list("p/".into(), String::new(), 2_000)).unwrap();
    assert_eq!(all.len(), 1_050);
    assert!(all.windows(2).all(|pair| pair[0].key < pair[1].key));
    let some = block_on(store.list("p/".into(), "p/0010".into(), 1_020)).unwrap();
    assert_eq!((some.len(), &*some[0].key), (1_020, "p/0011"));
}
