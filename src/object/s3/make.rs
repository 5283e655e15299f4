//! Making a bucket that is not there, as JuiceFS does when it formats.
//!
//! Owns the one request that the library does not have, and its signature (AWS version 4, for keys
//! that were given). The tests hold the signature against a server that checks it.

use reqwest::Client;
use ring::{digest, hmac};

use super::super::StoreError;
use super::address::Address;
use super::store::Keys;
use crate::stdx::{calendar, now};

/// The region that wants not to be named.
const REGION_UNNAMED: &str = "us-east-1";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Make the bucket at `address`; one that is there already is fine.
///
/// # Errors
/// When the server refuses, or is not there.
pub(super) async fn bucket(
    client: &Client,
    address: &Address,
    region: &str,
    keys: &Keys,
) -> Result<(), StoreError> {
    let Address { endpoint, bucket, virtual_host, .. } = address;
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let (host, path) = match virtual_host {
        true => (format!("{bucket}.{host}"), "/".to_owned()),
        false => (host.to_owned(), format!("/{bucket}")),
    };
    let body = match region {
        REGION_UNNAMED => String::new(),
        region => format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        ),
    };
    // As in 20261128T113000Z.
    let time: String =
        calendar::rfc3339(now()).chars().take(19).filter(|c| !['-', ':'].contains(c)).collect();
    let head = Head { host: &host, path: &path, time: &format!("{time}Z"), region };
    let mut request = client
        .put(format!("{scheme}://{host}{path}"))
        .header("x-amz-date", head.time)
        .header("x-amz-content-sha256", UNSIGNED)
        .header("authorization", head.authorization(keys))
        .body(body);
    if !keys.session_token.is_empty() {
        request = request.header("x-amz-security-token", &keys.session_token);
    }
    let failed =
        |error: reqwest::Error| StoreError::Unavailable(super::error::chain(&error.without_url()));
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let text = answer.text().await.map_err(failed)?;
    // Whose it is shows when it is used.
    let there = ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"];
    if status.is_success() || there.iter().any(|code| text.contains(code)) {
        return Ok(());
    }
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
    };
    let words = match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        (None, _) => format!("it answers {}", status.as_u16()),
    };
    let text = format!("the bucket {bucket} cannot be made: {words}; make it, or correct --bucket");
    Err(StoreError::Refused(text))
}

/// What of a request is signed.
struct Head<'a> {
    host: &'a str,
    path: &'a str,
    time: &'a str,
    region: &'a str,
}

impl Head<'_> {
    fn authorization(&self, keys: &Keys) -> String {
        let Self { host, path, time, region } = self;
        let token = &keys.session_token;
        let (with_token, signed) = match token.is_empty() {
            true => (String::new(), "host;x-amz-content-sha256;x-amz-date"),
            false => (
                format!("x-amz-security-token:{token}\n"),
                "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
            ),
        };
        let request = format!(
            "PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{UNSIGNED}\nx-amz-date:{time}\n\
             {with_token}\n{signed}\n{UNSIGNED}"
        );
        let scope = format!("{}/{region}/s3/aws4_request", &time[..8]);
        let hash = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let mut key = format!("AWS4{}", keys.secret).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part).as_ref().to_vec();
        }
        let signature = hex(mac(&key, &text).as_ref());
        let access = &keys.access;
        format!(
            "AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, \
             Signature={signature}"
        )
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
