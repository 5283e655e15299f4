//! A bucket of one of these services as a [`Store`].
//!
//! Owns the requests, what their failures mean, and the order of a listing where the service has
//! none. Relies on the request library for signatures and credentials.

use std::sync::Arc;

use futures_util::StreamExt;
use opendal::services::{Azblob, Cos, Gcs, Obs, Oss, Webdav};
use opendal::{Error, ErrorKind, HttpTransporter, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::sync::OnceCell;

use super::super::remote::{self, aside, status};
use super::super::s3::{chain, plain_client};
use super::super::{Local, ObjectInfo, Store, StoreError};
use super::address::{Extra, Service};
use crate::pages::Page;

/// Where a connection string of Azure is looked for before all else.
const AZURE: &str = "AZURE_STORAGE_CONNECTION_STRING";

struct Door {
    place: Extra,
    operator: OnceCell<Operator>,
}

/// A bucket; clones share its connections, also across cores.
#[derive(Clone)]
pub struct ExtraStore(Arc<Door>);

impl ExtraStore {
    /// The bucket at `place`. Nothing is asked of it yet.
    pub fn new(place: Extra) -> Self {
        Self(Arc::new(Door { place, operator: OnceCell::new() }))
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
        let transport = HttpTransporter::new(ReqwestTransport::new(client));
        let operator = self.place.operator().map_err(|error| sorted(&error, ""))?;
        let context = operator.base_context().with_http_transport(transport);
        Ok(operator.with_context(context))
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

    /// Some services list in no order and from no place: all below the prefix is asked for.
    async fn list(
        &self,
        prefix: &str,
        start_after: &str,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let failed = |error: Error| sorted(&error, prefix);
        // The library lists folders.
        let folder = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        let request = self.operator().await?.lister_with(folder).recursive(true);
        let mut lister = match request.await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            lister => lister.map_err(failed)?,
        };
        let mut found = Vec::new();
        while let Some(entry) = lister.next().await {
            let entry = match entry {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entry => entry.map_err(failed)?,
            };
            let wanted =
                |info: &ObjectInfo| info.key.starts_with(prefix) && &*info.key > start_after;
            found.extend(remote::listed(&entry).filter(wanted));
        }
        found.sort_by(|one: &ObjectInfo, other| one.key.cmp(&other.key));
        found.truncate(limit);
        Ok(found)
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
        Box::pin(aside(async move {
            match door.operator().await?.delete(&key).await.map_err(|error| sorted(&error, &key)) {
                Err(StoreError::Missing(_)) => Ok(()),
                done => done,
            }
        }))
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
