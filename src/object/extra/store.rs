//! A bucket of one of these services as a [`Store`].
//!
//! Owns the requests, what their failures mean, and where a listing in pages goes on (its order is
//! `walk`'s). Relies on the request library for signatures and credentials.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use opendal::services::{Azblob, Cos, Gcs, Obs, Oss, Webdav};
use opendal::{Error, ErrorKind, Operator};
use tokio::sync::OnceCell;

use super::super::remote::{self, aside, status};
use super::super::s3::{chain, plain_client};
use super::super::{Local, ObjectInfo, Store, StoreError};
use super::address::{Extra, Service};
use super::walk::{Names, Step, Walk};
use crate::pages::Page;
use crate::stdx::monotonic_ns;

/// Where a connection string of Azure is looked for before all else.
const AZURE: &str = "AZURE_STORAGE_CONNECTION_STRING";

/// A listing goes on from where it stopped for so long; after that it begins anew, as things may have changed.
const PAUSE_MAX_NS: u64 = 60_000_000_000;

struct Door {
    place: Extra,
    operator: OnceCell<Operator>,
    /// Where the last page of a listing ended, and when.
    paused: Mutex<Option<(Walk, u64)>>,
}

/// A bucket; clones share its connections, also across cores.
#[derive(Clone)]
pub struct ExtraStore(Arc<Door>);

impl ExtraStore {
    /// The bucket at `place`. Nothing is asked of it yet.
    pub fn new(place: Extra) -> Self {
        Self(Arc::new(Door { place, operator: OnceCell::new(), paused: Mutex::default() }))
    }

    /// The same bucket; what is put gets another class of storage. `None` where there are none.
    pub fn with_class(&self, storage_class: String) -> Option<Self> {
        let place = Extra { storage_class, ..self.0.place.clone() };
        place.has_classes().then(|| Self::new(place))
    }
}

impl Door {
    async fn operator(&self) -> Result<&Operator, StoreError> {
        self.operator.get_or_try_init(async || self.connect()).await
    }

    fn connect(&self) -> Result<Operator, StoreError> {
        let client = plain_client(&self.place.endpoint)?;
        let operator = self.place.operator().map_err(|error| sorted(&error, ""))?;
        Ok(remote::through(client, operator))
    }

    async fn put(&self, key: &str, body: Vec<Page>) -> Result<(), StoreError> {
        let body = remote::lent(body);
        let put = self.operator().await?.write(key, body).await;
        match put.map_err(|error| sorted(&error, key)) {
            Ok(_) => Ok(()),
            Err(StoreError::Missing(_)) => {
                Err(StoreError::Refused(format!("there is no bucket at {}", self.describe())))
            }
            Err(error) => Err(error),
        }
    }

    async fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        let (len, operator) = (into.len(), self.operator().await?);
        let read = remote::read(operator, &key, offset, len, into).await;
        let (mut bytes, _) = read.map_err(|error| sorted(&error, &key))?;
        let count = bytes.len();
        bytes.resize(len, 0);
        Ok((bytes, count))
    }

    /// Some services list in no order and from no place, so all are walked through folder by folder.
    async fn list(
        &self,
        prefix: &str,
        start_after: &str,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let operator = self.operator().await?;
        let mut walk = self.walk(prefix, start_after);
        let mut found = Vec::new();
        while found.len() < limit {
            match walk.next() {
                Step::Found(blob) => found.push(blob),
                Step::Ask(mut names) => {
                    let asked = names_of(operator, &mut names).await;
                    asked.map_err(|error| sorted(&error, prefix))?;
                    walk.bring(names);
                }
                Step::Done => return Ok(found),
            }
        }
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some((walk, monotonic_ns()));
        Ok(found)
    }

    /// The listing that stopped there a moment ago, or a new one.
    fn walk(&self, prefix: &str, start_after: &str) -> Walk {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fits = |(walk, at_ns): &(Walk, u64)| {
            walk.goes_on(prefix, start_after)
                && monotonic_ns().saturating_sub(*at_ns) < PAUSE_MAX_NS
        };
        paused.filter(fits).map_or_else(|| Walk::new(prefix, start_after), |(walk, _)| walk)
    }

    fn describe(&self) -> String {
        let Extra { service, endpoint, bucket, .. } = &self.place;
        format!("{} {endpoint}/{bucket}", service.name())
    }
}

impl Extra {
    fn operator(&self) -> Result<Operator, Error> {
        let Self { endpoint, bucket, keys, storage_class, .. } = self;
        match self.service {
            Service::Gs => {
                let builder = Gcs::default().bucket(bucket);
                Operator::new(match storage_class.is_empty() {
                    true => builder,
                    false => builder.default_storage_class(storage_class),
                })
            }
            Service::Wasb => {
                let builder = match std::env::var(AZURE) {
                    Ok(words) if !words.is_empty() => Azblob::from_connection_string(&words)?,
                    _ => Azblob::default().endpoint(endpoint).account_name(&keys.access),
                };
                let builder = builder.container(bucket);
                Operator::new(match (keys.secret.as_str(), keys.session_token.as_str()) {
                    ("", "") => builder,
                    ("", token) => builder.sas_token(token.trim_start_matches('?')),
                    (secret, _) => builder.account_key(secret),
                })
            }
            Service::Oss => Operator::new(
                Oss::default()
                    .bucket(bucket)
                    .endpoint(endpoint)
                    .access_key_id(&keys.access)
                    .access_key_secret(&keys.secret)
                    .security_token(&keys.session_token),
            ),
            Service::Cos => Operator::new(
                Cos::default()
                    .bucket(bucket)
                    .endpoint(endpoint)
                    .secret_id(&keys.access)
                    .secret_key(&keys.secret)
                    .security_token(&keys.session_token),
            ),
            Service::Obs => Operator::new(
                Obs::default()
                    .bucket(bucket)
                    .endpoint(endpoint)
                    .access_key_id(&keys.access)
                    .secret_access_key(&keys.secret),
            ),
            Service::Webdav => Operator::new(
                Webdav::default().endpoint(endpoint).username(&keys.access).password(&keys.secret),
            ),
        }
    }
}

/// All names of a folder; one that is not there has none.
async fn names_of(operator: &Operator, names: &mut Names) -> Result<(), Error> {
    let mut lister = match operator.lister(&names.folder).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        lister => lister?,
    };
    while let Some(entry) = lister.next().await {
        match entry {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            entry => {
                let entry = entry?;
                names.add(entry.path(), remote::listed(&entry));
            }
        }
    }
    Ok(())
}

/// `error` of a request for `key`, by what is done next.
fn sorted(error: &Error, key: &str) -> StoreError {
    let status = status(error).unwrap_or_default();
    let why = std::error::Error::source(error).map(chain).unwrap_or_default();
    let words = [error.message(), &why].into_iter().filter(|part| !part.is_empty());
    let text = match error.message().trim_start().starts_with('<') {
        // A page for people with a browser.
        true => format!("it answers {status}"),
        false => words.collect::<Vec<_>>().join(": ").replace('\n', " "),
    };
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing(key.to_owned()),
        _ if status == "507" => StoreError::Full(text),
        ErrorKind::RateLimited => StoreError::Throttled(text),
        _ if status == "503" => StoreError::Throttled(text),
        ErrorKind::PermissionDenied => refused(&text),
        _ if ["401", "403"].contains(&&*status) => refused(&text),
        ErrorKind::ConfigInvalid | ErrorKind::Unsupported => StoreError::Refused(text),
        _ if status.starts_with('4') && status != "408" && !error.is_temporary() => {
            StoreError::Refused(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

fn refused(text: &str) -> StoreError {
    StoreError::Refused(format!(
        "{text}; check --access-key and --secret-key of `jfs-uring format`, and that they may read, \
         write, list and delete objects"
    ))
}

impl Store for ExtraStore {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let door = Arc::clone(&self.0);
        Box::pin(aside(async move { door.put(&key, body).await }))
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        let door = Arc::clone(&self.0);
        Box::pin(aside(async move { door.get(key, offset, into).await }))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        let door = Arc::clone(&self.0);
        Box::pin(aside(async move { remote::delete(door.operator().await?, &key, sorted).await }))
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        let door = Arc::clone(&self.0);
        Box::pin(aside(async move { door.list(&prefix, &start_after, limit).await }))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
