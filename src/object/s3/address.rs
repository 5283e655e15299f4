//! JuiceFS's bucket URLs, taken apart as JuiceFS does it.
//!
//! Owns the forms of a URL and which environment variables fill in what it leaves out. Pure but for
//! the environment, which is asked through a closure. Does not connect.

use std::fmt;

/// Where the region is not told.
const REGION_DEFAULT: &str = "us-east-1";

/// Which of JuiceFS's two drivers reads the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `--storage s3`.
    S3,
    /// `--storage minio`: `http://HOST:PORT/BUCKET`.
    Minio,
}

/// A bucket and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Scheme and host, with the port if one was given.
    pub endpoint: String,
    /// Name of the bucket.
    pub bucket: String,
    /// For signatures; `None` has to be asked of AWS.
    pub region: Option<String>,
    /// The bucket is part of the host name, not of the path.
    pub virtual_host: bool,
    /// Objects carry their CRC-32C, unless `disable-checksum=true`.
    pub checksums: bool,
    /// TLS as the URL's parameters want it.
    pub tls: Tls,
}

/// JuiceFS's parameters for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `tls-insecure-skip-verify`: certificates are not looked at.
    pub unverified: bool,
    /// `ca-certs`, `ssl-cert` and `ssl-key`: files with the only authorities, and with who we are.
    pub files: Option<[String; 3]>,
}

/// What is wrong with a bucket URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--bucket {url:?}: {reason}; write it as https://BUCKET.s3.REGION.amazonaws.com \
     or http://HOST:PORT/BUCKET"
)]
pub struct BadAddress {
    url: String,
    reason: &'static str,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.endpoint, self.bucket)
    }
}

/// A URL in its parts.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let told = !host.is_empty() && !host.contains(['@', ' ']);
        (told && ["http", "https"].contains(&scheme)).then_some(Self { scheme, host, path, query })
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, value)| *key == name && !value.is_empty());
        values.next().map(|(_, value)| unescaped(value))
    }
}

/// Text of a query with `%2F` and the like undone.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

impl Address {
    /// Read `url`; `env` answers for environment variables.
    ///
    /// # Errors
    /// When it names no bucket, or is no URL.
    pub fn parse(
        flavour: Flavour,
        url: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, BadAddress> {
        let full = with_scheme(flavour, url);
        let bad = |reason| BadAddress { url: url.to_owned(), reason };
        let parts = Parts::of(&full).ok_or_else(|| bad("it is no address of http or https"))?;
        let mut address = match flavour {
            Flavour::Minio => minio(&parts, env),
            Flavour::S3 => s3(&parts, env),
        }
        .ok_or_else(|| bad("it names no bucket"))?;
        let letter = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
        if !address.bucket.chars().all(letter) {
            return Err(bad("its bucket has letters that no bucket has"));
        }
        address.checksums =
            !parts.parameter("disable-checksum").is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let unverified = parts.parameter("tls-insecure-skip-verify");
        address.tls.unverified =
            unverified.is_some_and(|on| ["1", "t", "T", "true", "TRUE", "True"].contains(&&*on));
        let file = |name| parts.parameter(name);
        address.tls.files = file("ca-certs")
            .zip(file("ssl-cert"))
            .zip(file("ssl-key"))
            .map(|((authorities, certificate), key)| [authorities, certificate, key]);
        Ok(address)
    }
}

/// Without a scheme, AWS and bare bucket names are reached by TLS, other hosts without.
fn with_scheme(flavour: Flavour, url: &str) -> String {
    let url = url.trim_matches('/');
    if url.contains("://") {
        return url.to_owned();
    }
    let host = url.split(['/', '?']).next().unwrap_or(url);
    let by_tls = flavour == Flavour::S3 && (!url.contains('.') || host.ends_with(".amazonaws.com"));
    format!("{}://{url}", if by_tls { "https" } else { "http" })
}

/// Whether other servers than AWS get the bucket in the host name.
fn wants_virtual_host(env: &dyn Fn(&str) -> Option<String>) -> bool {
    env("JFS_S3_VHOST_STYLE").is_some_and(|word| !["", "0", "false"].contains(&word.as_str()))
}

fn named(endpoint: String, bucket: &str, region: Option<String>, virtual_host: bool) -> Address {
    // A dot in the bucket would need a certificate that nobody has.
    let virtual_host = virtual_host && !bucket.contains('.');
    let bucket = bucket.to_owned();
    Address { endpoint, bucket, region, virtual_host, checksums: true, tls: Tls::default() }
}

fn minio(parts: &Parts<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Address> {
    let region =
        parts.parameter("region").or_else(|| env("MINIO_REGION")).filter(|r| !r.is_empty());
    let path = parts.path.strip_prefix("minio/").unwrap_or(parts.path);
    let bucket = path.split('/').next().filter(|bucket| !bucket.is_empty())?;
    let region = region.unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let endpoint = format!("{}://{}", parts.scheme, parts.host);
    Some(named(endpoint, bucket, Some(region), wants_virtual_host(env)))
}

fn s3(parts: &Parts<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Address> {
    let from_env = || {
        let told = |name| env(name).filter(|region| !region.is_empty());
        let told = told("AWS_REGION").or_else(|| told("AWS_DEFAULT_REGION"));
        Some(told.unwrap_or_else(|| REGION_DEFAULT.to_owned()))
    };
    let of_aws = |region: &str, bucket: &str| {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let endpoint = format!("{}://s3.{region}.amazonaws.com{china}", parts.scheme);
        named(endpoint, bucket, Some(region.to_owned()), true)
    };
    let other = |host: &str, bucket: &str, region: Option<String>| {
        let region = region.or_else(|| region_in(host)).or_else(from_env);
        let endpoint = format!("{}://{host}", parts.scheme);
        named(endpoint, bucket, region, wants_virtual_host(env) || is_oracle_virtual(host))
    };
    if !parts.path.is_empty() {
        let bucket = parts.path.split('/').next().filter(|bucket| !bucket.is_empty())?;
        return Some(match parts.host.contains(".amazonaws.com") {
            true => of_aws(&aws_region(parts.host), bucket),
            false => other(parts.host, bucket, None),
        });
    }
    let Some((first, rest)) = parts.host.split_once('.') else {
        let endpoint = format!("{}://s3.amazonaws.com", parts.scheme);
        return Some(named(endpoint, parts.host, None, true));
    };
    if let Some((inside, _)) = parts.host.split_once(".vpce.amazonaws.com") {
        let region = inside.rsplit('.').next().map(str::to_owned);
        return Some(other(rest, first, region));
    }
    if parts.host.contains(".amazonaws.com") {
        let (bucket, rest) = parts.host.split_once(".s3")?;
        return Some(of_aws(&aws_region(&format!("s3{rest}")), bucket));
    }
    Some(other(rest, first, None))
}

/// The region in the host name of an endpoint of AWS.
fn aws_region(host: &str) -> String {
    let rest = host.strip_prefix("s3-").or_else(|| host.strip_prefix("s3.")).unwrap_or(host);
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    match rest.split('.').next() {
        Some("amazonaws" | "external-1") | None => REGION_DEFAULT.to_owned(),
        Some(region) => region.to_owned(),
    }
}

/// The region in the host names of Oracle and OVH.
fn region_in(host: &str) -> Option<String> {
    let name = host.split(':').next()?;
    if let Some((_, rest)) = name.split_once("compat.objectstorage.") {
        let (region, domain) = rest.split_once('.')?;
        return ["oraclecloud.com", "oci.customer-oci.com"]
            .contains(&domain)
            .then(|| region.to_owned());
    }
    let ovh = name.strip_prefix("s3.")?.strip_suffix(".cloud.ovh.net")?;
    ovh.split('.').next().map(str::to_owned)
}

fn is_oracle_virtual(host: &str) -> bool {
    host.starts_with("vhcompat.objectstorage.") || host.contains(".vhcompat.objectstorage.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_env(flavour: Flavour, url: &str, env: &[(&str, &str)]) -> Address {
        let get = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Address::parse(flavour, url, &get).unwrap()
    }

    /// Endpoint, bucket, region, and whether the bucket is in the host.
    fn parts(address: &Address) -> (&str, &str, &str, bool) {
        let region = address.region.as_deref().unwrap_or("?");
        (&address.endpoint, &address.bucket, region, address.virtual_host)
    }

    #[test]
    fn aws_in_all_forms() {
        let cases = [
            ("https://b1.s3.eu-central-1.amazonaws.com", "b1", "eu-central-1"),
            ("b1.s3.eu-central-1.amazonaws.com", "b1", "eu-central-1"),
            ("https://b1.s3-eu-west-1.amazonaws.com/", "b1", "eu-west-1"),
            ("https://s3.us-west-2.amazonaws.com/b1", "b1", "us-west-2"),
            ("https://s3-us-west-2.amazonaws.com/b1/below", "b1", "us-west-2"),
            ("https://b1.s3.amazonaws.com", "b1", "us-east-1"),
            ("https://b1.s3.dualstack.eu-west-3.amazonaws.com", "b1", "eu-west-3"),
            ("https://b1.s3-external-1.amazonaws.com", "b1", "us-east-1"),
        ];
        for (url, bucket, region) in cases {
            let address = with_env(Flavour::S3, url, &[("AWS_REGION", "not-asked")]);
            let endpoint = format!("https://s3.{region}.amazonaws.com");
            assert_eq!(parts(&address), (&*endpoint, bucket, region, true), "{url}");
        }
        let china = with_env(Flavour::S3, "https://b.s3.cn-north-1.amazonaws.com.cn", &[]);
        assert_eq!(china.endpoint, "https://s3.cn-north-1.amazonaws.com.cn");
        let dotted = with_env(Flavour::S3, "https://a.b.s3.eu-west-1.amazonaws.com", &[]);
        assert_eq!((&*dotted.bucket, dotted.virtual_host), ("a.b", false));
    }

    #[test]
    fn a_bare_name_has_a_region_to_be_asked_for() {
        let bare = with_env(Flavour::S3, "mybucket", &[("AWS_REGION", "not-asked")]);
        assert_eq!(parts(&bare), ("https://s3.amazonaws.com", "mybucket", "?", true));
    }

    #[test]
    fn other_servers_get_the_bucket_in_the_path() {
        let path = with_env(Flavour::S3, "http://127.0.0.1:9000/b1", &[]);
        assert_eq!(parts(&path), ("http://127.0.0.1:9000", "b1", "us-east-1", false));
        let host = with_env(Flavour::S3, "https://b1.s3.example.com", &[("AWS_REGION", "r1")]);
        assert_eq!(parts(&host), ("https://s3.example.com", "b1", "r1", false));
        let plain = with_env(Flavour::S3, "b1.s3.example.com:8000", &[("AWS_DEFAULT_REGION", "d")]);
        assert_eq!(parts(&plain), ("http://s3.example.com:8000", "b1", "d", false));
        let asked = [("JFS_S3_VHOST_STYLE", "1")];
        assert!(with_env(Flavour::S3, "https://s3.example.com/b1", &asked).virtual_host);
        let off = [("JFS_S3_VHOST_STYLE", "false")];
        assert!(!with_env(Flavour::S3, "https://s3.example.com/b1", &off).virtual_host);
    }

    #[test]
    fn regions_of_some_providers_are_in_their_names() {
        let region = |url: &str| with_env(Flavour::S3, url, &[]).region.unwrap();
        let oracle = "https://b.ns.compat.objectstorage.us-ashburn-1.oraclecloud.com";
        assert_eq!(region(oracle), "us-ashburn-1");
        assert_eq!(region("https://b.s3.gra.cloud.ovh.net"), "gra");
        assert_eq!(region("https://b.s3.gra.perf.cloud.ovh.net"), "gra");
        let link = "https://b.bucket.vpce-1a2b.s3.us-east-2.vpce.amazonaws.com";
        let address = with_env(Flavour::S3, link, &[]);
        let endpoint = "https://bucket.vpce-1a2b.s3.us-east-2.vpce.amazonaws.com";
        assert_eq!(parts(&address), (endpoint, "b", "us-east-2", false));
    }

    #[test]
    fn minio_has_its_bucket_in_the_path() {
        let plain = with_env(Flavour::Minio, "127.0.0.1:9000/b1/", &[("AWS_REGION", "not-asked")]);
        assert_eq!(parts(&plain), ("http://127.0.0.1:9000", "b1", "us-east-1", false));
        let told = with_env(Flavour::Minio, "https://h/minio/b1?region=r2", &[]);
        assert_eq!(parts(&told), ("https://h", "b1", "r2", false));
        let env = with_env(Flavour::Minio, "https://h/b1", &[("MINIO_REGION", "r3")]);
        assert_eq!(env.region.as_deref(), Some("r3"));
        let none = Address::parse(Flavour::Minio, "http://127.0.0.1:9000", &|_| None);
        assert!(none.unwrap_err().to_string().contains("names no bucket"));
    }

    #[test]
    fn parameters_of_the_url() {
        let with = |query: &str| with_env(Flavour::S3, &format!("https://h.x/b?{query}"), &[]);
        assert!(with("").checksums);
        assert!(!with("disable-checksum=true").checksums);
        assert!(with("tls-insecure-skip-verify=true").tls.unverified);
        assert_eq!(with("ca-certs=/a").tls, Tls::default(), "all three or none, as JuiceFS");
        let files = with("ca-certs=%2Fetc%2Fca.pem&ssl-cert=/c&ssl-key=/k").tls.files.unwrap();
        assert_eq!(files, ["/etc/ca.pem", "/c", "/k"]);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for url in ["", "ftp://h/b", "https://", "https://user:pw@h/b"] {
            assert!(Address::parse(Flavour::S3, url, &|_| None).is_err(), "{url}");
        }
    }
}
