//! What stores in the network share: the way to the server, pages lent to requests, ranges, removals,
//! listed names, threads.
//!
//! Owns how the request library is used for these. Does not sort errors: each store knows what its
//! server means.

use bytes::Bytes;
use opendal::{Buffer, Entry, Error, ErrorKind, HttpTransporter, Metadata, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::Client;

use super::{ObjectInfo, StoreError};
use crate::net::runtime;
use crate::pages::Page;

/// A page lent to the network.
struct Lent(Page);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A body of pages; none is copied.
pub(super) fn lent(body: Vec<Page>) -> Buffer {
    let body: Vec<Bytes> = body.into_iter().map(|page| Bytes::from_owner(Lent(page))).collect();
    Buffer::from(body)
}

/// An operator whose requests go through `client`.
pub(super) fn through(client: Client, operator: Operator) -> Operator {
    let transport = HttpTransporter::new(ReqwestTransport::new(client));
    let context = operator.base_context().with_http_transport(transport);
    operator.with_context(context)
}

/// Remove an object; a missing one is fine.
pub(super) async fn delete(
    operator: &Operator,
    key: &str,
    sorted: fn(&Error, &str) -> StoreError,
) -> Result<(), StoreError> {
    match operator.delete(key).await.map_err(|error| sorted(&error, key)) {
        Err(StoreError::Missing(_)) => Ok(()),
        done => done,
    }
}

/// What there is of `len` bytes from `offset` on, and what the server says of the object.
pub(super) async fn read(
    operator: &Operator,
    key: &str,
    offset: u64,
    len: usize,
    mut into: Vec<u8>,
) -> Result<(Vec<u8>, Option<Metadata>), Error> {
    let reader = operator.reader(key).await?;
    into.clear();
    let range = offset..offset.saturating_add(len as u64);
    let read = reader.read_into(&mut into, range).await;
    let metadata = reader.metadata();
    let end = offset + into.len() as u64;
    match read {
        Ok(_) => {}
        Err(error) if is_behind_the_end(&error) => return Ok((Vec::new(), None)),
        // The library wants all of a range to be there; here it may reach beyond the end.
        Err(_) if metadata.is_some_and(|told| told.content_length() == end) && into.len() < len => {
        }
        Err(error) => return Err(error),
    }
    if into.len() > len {
        return Err(Error::new(ErrorKind::Unsupported, "it does not know ranges of bytes"));
    }
    Ok((into, metadata.cloned()))
}

/// The status of the answer; the library shows it among what it noted of the request.
pub(super) fn status(error: &Error) -> Option<String> {
    let shown = error.to_string();
    let (_, rest) = shown.split_once("response: Parts { status: ")?;
    Some(rest.chars().take_while(char::is_ascii_digit).collect())
}

/// Not every service of the library knows this answer.
fn is_behind_the_end(error: &Error) -> bool {
    error.kind() == ErrorKind::RangeNotSatisfied || status(error).is_some_and(|told| told == "416")
}

/// An entry of a listing; `None` for what is no object.
pub(super) fn listed(entry: &Entry) -> Option<ObjectInfo> {
    let metadata = entry.metadata();
    (!entry.path().ends_with('/')).then(|| ObjectInfo {
        key: entry.path().to_owned(),
        len_bytes: metadata.content_length(),
        mtime: metadata.last_modified().map_or(0, |time| time.into_inner().as_second()),
    })
}

/// Run a request on the network's threads.
pub(super) async fn aside<T: Send + 'static>(
    request: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match runtime::run(request).await {
        Ok(answer) => answer,
        Err(runtime::Broken) => {
            Err(StoreError::Unavailable("a request broke off; the log tells why".to_owned()))
        }
    }
}
