//! A bucket as a [`Store`].
//!
//! Owns the requests, JuiceFS's checksum beside each object, and the order of a listing. Does not
//! try again, wait or limit: decorators do.

use std::sync::Arc;

use futures_util::StreamExt;
use opendal::Operator;
use opendal::services::S3;
use reqwest::Client;
use tokio::sync::OnceCell;

use super::super::remote::{self, aside};
use super::super::{Local, ObjectInfo, Store, StoreError};
use super::address::{Address, Flavour};
use super::error::sorted;
use super::{http, make};
use crate::pages::Page;

/// Name of JuiceFS's checksum among an object's metadata: CRC-32C in decimal.
const CHECKSUM: &str = "crc32c";
/// Most entries a page of a listing may have.
const LIST_PAGE: usize = 1000;
/// The access key that means no signature.
const ANONYMOUS: &str = "anonymous";

/// Who asks. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Empty: environment, profile files, web identity or the machine's role tell.
    pub access: String,
    /// The secret of that key.
    pub secret: String,
    /// Of keys for a limited time; empty for others.
    pub session_token: String,
}

struct Bucket {
    flavour: Flavour,
    address: Address,
    keys: Keys,
    /// Made with the first request: its region may have to be asked for.
    connected: OnceCell<Connected>,
}

/// What requests go through.
struct Connected {
    client: Client,
    region: String,
    endpoint: String,
}

/// A bucket as it is asked: what is put gets a class of storage.
struct Door {
    bucket: Arc<Bucket>,
    storage_class: String,
    operator: OnceCell<Operator>,
}

/// A bucket; clones share its connections, also across cores.
#[derive(Clone)]
pub struct S3Store(Arc<Door>);

impl S3Store {
    /// The bucket at `address`; objects that are put get `storage_class`, if it is not empty.
    /// Nothing is asked of it yet.
    pub fn new(flavour: Flavour, address: Address, keys: Keys, storage_class: String) -> Self {
        let connected = OnceCell::new();
        let bucket = Arc::new(Bucket { flavour, address, keys, connected });
        Self(Arc::new(Door { bucket, storage_class, operator: OnceCell::new() }))
    }

    /// The same bucket over the same connections; what is put gets another class.
    #[must_use]
    pub fn with_class(&self, storage_class: String) -> Self {
        let bucket = Arc::clone(&self.0.bucket);
        Self(Arc::new(Door { bucket, storage_class, operator: OnceCell::new() }))
    }

    /// Make the bucket if it is not there. Without keys of its own it is left to its owner.
    ///
    /// # Errors
    /// When the server refuses, or is not there.
    pub async fn make_bucket(&self) -> Result<(), StoreError> {
        let bucket = Arc::clone(&self.0.bucket);
        aside(async move {
            if ["", ANONYMOUS].contains(&bucket.keys.access.as_str()) {
                return Err(StoreError::Refused(format!("make the bucket {}", bucket.address)));
            }
            let Connected { client, region, .. } = bucket.connected().await?;
            make::bucket(client, &bucket.address, region, &bucket.keys).await
        })
        .await
    }
}

impl Bucket {
    async fn connected(&self) -> Result<&Connected, StoreError> {
        self.connected.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Connected, StoreError> {
        let Address { endpoint, bucket, region, .. } = &self.address;
        let client = http::client(&self.address)?;
        let (region, endpoint) = match region {
            Some(region) => (region.clone(), endpoint.clone()),
            None => {
                let region = region_of(&client, endpoint, bucket).await?;
                let endpoint = endpoint.replace("s3.", &format!("s3.{region}."));
                (region, endpoint)
            }
        };
        Ok(Connected { client, region, endpoint })
    }

    async fn operator(&self, storage_class: &str) -> Result<Operator, StoreError> {
        let Connected { client, region, endpoint } = self.connected().await?;
        let Address { bucket, virtual_host, .. } = &self.address;
        let mut builder = S3::default()
            .bucket(bucket)
            .endpoint(&kept_apart(endpoint, bucket))
            .region(region)
            .default_storage_class(storage_class);
        if *virtual_host {
            builder = builder.enable_virtual_host_style();
        }
        let Keys { access, secret, session_token } = &self.keys;
        builder = match access.as_str() {
            ANONYMOUS => builder.skip_signature(),
            "" => builder,
            access => builder
                .access_key_id(access)
                .secret_access_key(secret)
                .session_token(session_token)
                .disable_config_load()
                .disable_ec2_metadata(),
        };
        let operator = Operator::new(builder).map_err(|error| sorted(&error, ""))?;
        Ok(remote::through(client.clone(), operator))
    }
}

impl Door {
    async fn operator(&self) -> Result<&Operator, StoreError> {
        self.operator.get_or_try_init(|| self.bucket.operator(&self.storage_class)).await
    }

    async fn put(&self, key: &str, body: Vec<Page>) -> Result<(), StoreError> {
        let checksum =
            self.bucket.address.checksums.then(|| checksum(body.iter().map(|page| &**page)));
        let request = self.operator().await?.write_with(key, remote::lent(body));
        let mut request = request.content_type("application/octet-stream");
        if let Some(checksum) = checksum {
            request = request.user_metadata([(CHECKSUM.to_owned(), checksum)]);
        }
        match request.await.map_err(|error| sorted(&error, key)) {
            Ok(_) => Ok(()),
            Err(StoreError::Missing(_)) => {
                Err(StoreError::Refused(format!("there is no bucket at {}", self.bucket.address)))
            }
            Err(error) => Err(error),
        }
    }

    /// What there is of `len` bytes from `offset` on, and whether all of the object and its
    /// checksum say so.
    async fn get_once(
        &self,
        key: &str,
        offset: u64,
        len: usize,
        into: Vec<u8>,
    ) -> Result<(Vec<u8>, bool), StoreError> {
        let operator = self.operator().await?;
        let (into, metadata) = remote::read(operator, key, offset, len, into)
            .await
            .map_err(|error| sorted(&error, key))?;
        let Some(metadata) = metadata else { return Ok((into, true)) };
        let whole = offset == 0 && metadata.content_length() == into.len() as u64;
        let told = metadata.user_metadata().and_then(|named| named.get(CHECKSUM));
        let sound = match told.and_then(|told| told.parse::<u32>().ok()) {
            Some(told) if whole && self.bucket.address.checksums => {
                told == crc_fast::crc32_iscsi(&into)
            }
            _ => true,
        };
        Ok((into, sound))
    }

    async fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        let len = into.len();
        let (bytes, sound) = self.get_once(&key, offset, len, into).await?;
        let (mut bytes, sound) = match sound {
            true => (bytes, sound),
            // Damage on the way does not come twice.
            false => self.get_once(&key, offset, len, bytes).await?,
        };
        if !sound {
            let reason = "its bytes do not have the checksum it was stored with".to_owned();
            return Err(StoreError::Corrupt { key, reason });
        }
        let count = bytes.len();
        bytes.resize(len, 0);
        Ok((bytes, count))
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: &str,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let request = self.operator().await?.lister_with(prefix).recursive(true);
        let request = request.limit(limit.min(LIST_PAGE));
        let request = match start_after {
            "" => request,
            name => request.start_after(name),
        };
        let mut lister = request.await.map_err(|error| sorted(&error, prefix))?;
        while let Some(entry) = lister.next().await {
            let entry = entry.map_err(|error| sorted(&error, prefix))?;
            found.extend(remote::listed(&entry));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }
}

/// JuiceFS's checksum of a body, in its words.
fn checksum<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    pieces.for_each(|piece| digest.update(piece));
    digest.finalize().to_string()
}

/// The library takes a bucket's name off the front of the host, where it may belong; it does not
/// recognise it in capitals, which mean the same in a host.
fn kept_apart(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if host.starts_with(&format!("{bucket}.")) => {
            format!("{scheme}://{}", host.to_ascii_uppercase())
        }
        _ => endpoint.to_owned(),
    }
}

/// Which region of AWS a bucket is in, as AWS tells anybody.
pub(super) async fn region_of(
    client: &Client,
    endpoint: &str,
    bucket: &str,
) -> Result<String, StoreError> {
    let unknown = |why: String| {
        StoreError::Unavailable(format!("the region of bucket {bucket} cannot be asked for: {why}"))
    };
    let asked = client.head(format!("{endpoint}/{bucket}")).send().await;
    let answer = asked.map_err(|error| unknown(super::error::chain(&error.without_url())))?;
    let region = answer.headers().get("x-amz-bucket-region").and_then(|name| name.to_str().ok());
    match (region, answer.status().as_u16()) {
        (Some(region), _) => Ok(region.to_owned()),
        (None, 404) => Err(StoreError::Refused(format!(
            "there is no bucket {bucket} on AWS; make it, or correct --bucket"
        ))),
        (None, status) => Err(unknown(format!("AWS answers {status} without naming it"))),
    }
}

impl Store for S3Store {
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
        let name = match self.0.bucket.flavour {
            Flavour::S3 => "s3",
            Flavour::Minio => "minio",
        };
        format!("{name} {}", self.0.bucket.address)
    }
}
