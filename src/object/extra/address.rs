//! Where a bucket is: JuiceFS's forms for each of these stores.
//!
//! Owns the forms and the environment's keys. What has to be asked of a store before it is known
//! (which endpoint a bucket has) is refused with the form that tells it.

use super::super::Keys;

/// A store's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Wasb,
    /// Alibaba Cloud OSS.
    Oss,
    /// Tencent Cloud COS.
    Cos,
    /// Huawei Cloud OBS.
    Obs,
    /// Any WebDAV server.
    Webdav,
}

/// A bucket, and who asks for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Extra {
    pub(super) service: Service,
    /// `https://HOST[/PATH]` of the service, without the bucket where it stands in front.
    pub(super) endpoint: String,
    pub(super) bucket: String,
    pub(super) keys: Keys,
    pub(super) storage_class: String,
}

/// Why a bucket is none; one line with the form it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--bucket {bucket:?} of --storage {storage}: {reason}")]
pub struct BadBucket {
    storage: String,
    bucket: String,
    reason: &'static str,
}

impl Service {
    fn of(storage: &str) -> Option<Self> {
        Some(match storage {
            "gs" => Self::Gs,
            "wasb" => Self::Wasb,
            "oss" => Self::Oss,
            "cos" => Self::Cos,
            "obs" => Self::Obs,
            "webdav" => Self::Webdav,
            _ => return None,
        })
    }

    /// JuiceFS's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gs => "gs",
            Self::Wasb => "wasb",
            Self::Oss => "oss",
            Self::Cos => "cos",
            Self::Obs => "obs",
            Self::Webdav => "webdav",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Gs => "gs",
            Self::Webdav => "http",
            Self::Wasb | Self::Oss | Self::Cos | Self::Obs => "https",
        }
    }

    /// Names of the access key, its secret and its token in the environment.
    fn env(self) -> [&'static str; 3] {
        match self {
            Self::Gs | Self::Wasb | Self::Webdav => ["", "", ""],
            Self::Oss => ["ALICLOUD_ACCESS_KEY_ID", "ALICLOUD_ACCESS_KEY_SECRET", "SECURITY_TOKEN"],
            Self::Cos => ["COS_SECRETID", "COS_SECRETKEY", ""],
            Self::Obs => ["HWCLOUD_ACCESS_KEY", "HWCLOUD_SECRET_KEY", ""],
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Gs => "it looks like gs://BUCKET",
            Self::Wasb => "it looks like https://CONTAINER.core.windows.net",
            Self::Oss => "it looks like https://BUCKET.oss-REGION.aliyuncs.com",
            Self::Cos => "it looks like https://BUCKET-APPID.cos.REGION.myqcloud.com",
            Self::Obs => "it looks like https://BUCKET.obs.REGION.myhuaweicloud.com",
            Self::Webdav => "it looks like https://HOST/PATH",
        }
    }

    /// Whether objects can be put with a class of storage.
    fn has_classes(self) -> bool {
        self == Self::Gs
    }
}

impl Extra {
    /// The bucket `bucket` of `storage`; `None` when there is no such service here.
    ///
    /// # Errors
    /// When it is no bucket of that service, or its objects would need a class that cannot be set.
    pub fn parse(
        storage: &str,
        bucket: &str,
        keys: Keys,
        storage_class: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Result<Self, BadBucket>> {
        let service = Service::of(storage)?;
        let bad = |reason| BadBucket { storage: storage.into(), bucket: bucket.into(), reason };
        Some((|| {
            let url = match bucket.contains("://") {
                true => bucket.to_owned(),
                false => format!("{}://{bucket}", service.scheme()),
            };
            let (endpoint, name) =
                place(service, &url, &keys.access).ok_or_else(|| bad(service.form()))?;
            if !storage_class.is_empty() && !service.has_classes() && service != Service::Webdav {
                return Err(bad(
                    "classes of storage cannot be set there; use the official client (juicefs mount)",
                ));
            }
            let keys = with_env(service, keys, env);
            let half = keys.access.is_empty() != keys.secret.is_empty();
            if half && !matches!(service, Service::Gs | Service::Wasb) {
                return Err(bad("--access-key and --secret-key belong together"));
            }
            let storage_class = storage_class.to_owned();
            Ok(Self { service, endpoint, bucket: name, keys, storage_class })
        })())
    }

    /// Whether tiers of files may have classes of their own.
    pub fn has_classes(&self) -> bool {
        self.service.has_classes()
    }
}

/// Keys that are not said are those of the environment, where JuiceFS looks for them.
fn with_env(service: Service, keys: Keys, env: &dyn Fn(&str) -> Option<String>) -> Keys {
    if !keys.access.is_empty() {
        return keys;
    }
    let [access, secret, session_token] =
        service.env().map(|name| if name.is_empty() { None } else { env(name) });
    Keys {
        access: access.unwrap_or(keys.access),
        secret: secret.unwrap_or(keys.secret),
        session_token: session_token.unwrap_or(keys.session_token),
    }
}

/// Endpoint and name of the bucket at a URL.
fn place(service: Service, url: &str, account: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    if service == Service::Webdav {
        let known = ["http", "https"].contains(&scheme) && !rest.is_empty();
        return known.then(|| (format!("{scheme}://{rest}"), String::new()));
    }
    let host = rest.split(['/', '?']).next()?;
    let (name, domain) = host.split_once('.').unwrap_or((host, ""));
    if name.is_empty() {
        return None;
    }
    let endpoint = match service {
        // What stands behind the name is a region, which nobody needs.
        Service::Gs => String::new(),
        Service::Wasb if account.is_empty() => return None,
        Service::Wasb if domain.is_empty() => {
            format!("{scheme}://{account}.blob.core.windows.net")
        }
        Service::Wasb if domain.starts_with("blob") => format!("{scheme}://{account}.{domain}"),
        Service::Wasb => format!("{scheme}://{account}.blob.{domain}"),
        _ if domain.is_empty() => return None,
        _ => format!("{scheme}://{domain}"),
    };
    Some((endpoint, name.to_owned()))
}
