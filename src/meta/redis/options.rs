//! The parameters behind the `?` of a Redis URL, with the names they have for JuiceFS and its driver.
//!
//! Owns which there are, and refuses others by name. Does not read the files they name.

use std::time::Duration;

use super::wire::SILENCE_MAX;
use crate::config::parse_duration;

/// A shorter silence would be no sign of anything.
const SILENCE_MIN: Duration = Duration::from_millis(100);

/// Those that tune the pool and the cache of the official client's driver, or choose among replicas
/// where any will do: this client has one connection per core, and every read is the master's.
const WITHOUT_MEANING: [&str; 26] = [
    "client-cache",
    "client-cache-size",
    "client_cache_size",
    "client-cache-expire",
    "client_cache_expire",
    "client-cache-preload",
    "client_cache_preload",
    "client_name",
    "conn_max_idle_time",
    "conn_max_lifetime",
    "conn_max_lifetime_jitter",
    "idle_timeout",
    "max_active_conns",
    "max_conn_age",
    "max_concurrent_dials",
    "max_idle_conns",
    "max_retries",
    "min_idle_conns",
    "pool_fifo",
    "pool_size",
    "pool_timeout",
    "protocol",
    "skip_verify",
    "route-read",
    "write-timeout",
    "write_timeout",
];

/// How long a server is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    /// A connection and its handshake take no longer than this.
    pub connect: Duration,
    /// Without a byte for this long while an answer is due, the other side counts as gone.
    pub silence: Duration,
    /// Pauses between tries grow from here ...
    pub pause_min: Duration,
    /// ... to here.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            silence: SILENCE_MAX,
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
        }
    }
}

/// Whom TLS trusts and who this client is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct TlsOptions {
    /// A file of authorities; without it those of the system are trusted.
    pub authorities: Option<String>,
    /// A file with the client's certificate.
    pub certificate: Option<String>,
    /// A file with its key.
    pub key: Option<String>,
    /// The name that the server's certificate has to hold, if it is not the URL's.
    pub server_name: Option<String>,
    /// Whoever answers is trusted.
    pub unverified: bool,
}

/// What the parameters say.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Options {
    pub db: Option<String>,
    pub patience: Patience,
    pub tls: TlsOptions,
}

impl Options {
    /// From the text behind the `?`; `Err` says what is wrong with it.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (unescaped(name), unescaped(value));
            // Of several the first counts; one without a value is as if absent.
            if value.is_empty() || seen.contains(&name) {
                known(&name)?;
                continue;
            }
            options.take(&name, value)?;
            seen.push(name);
        }
        options.patience.pause_max = options.patience.pause_max.max(options.patience.pause_min);
        Ok(options)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        let Self { db, patience, tls } = self;
        match name {
            "db" => *db = Some(value),
            "tls-ca-cert-file" => tls.authorities = Some(value),
            "tls-cert-file" => tls.certificate = Some(value),
            "tls-key-file" => tls.key = Some(value),
            "tls-server-name" => tls.server_name = Some(value),
            // For JuiceFS any value says yes.
            "insecure-skip-verify" if ["false", "0", "no"].contains(&value.as_str()) => {
                return Err(format!(
                    "insecure-skip-verify={value} is taken for a yes by JuiceFS; leave it out"
                ));
            }
            "insecure-skip-verify" => tls.unverified = true,
            "dial_timeout" => set(&mut patience.connect, name, &value)?,
            "read-timeout" | "read_timeout" => {
                set(&mut patience.silence, name, &value)?;
                patience.silence = patience.silence.max(SILENCE_MIN);
            }
            "min-retry-backoff" | "min_retry_backoff" => {
                set(&mut patience.pause_min, name, &value)?;
            }
            "max-retry-backoff" | "max_retry_backoff" => {
                set(&mut patience.pause_max, name, &value)?;
            }
            _ => known(name)?,
        }
        Ok(())
    }
}

/// A time above zero; zero leaves what is there.
fn set(time: &mut Duration, name: &str, value: &str) -> Result<(), String> {
    let given = parse_duration(value).map_err(|error| format!("{name}: {error}"))?;
    if !given.is_zero() {
        *time = given;
    }
    Ok(())
}

/// Whether there is such a parameter.
fn known(name: &str) -> Result<(), String> {
    const WITH_MEANING: [&str; 13] = [
        "db",
        "tls-ca-cert-file",
        "tls-cert-file",
        "tls-key-file",
        "tls-server-name",
        "insecure-skip-verify",
        "dial_timeout",
        "read-timeout",
        "read_timeout",
        "min-retry-backoff",
        "min_retry_backoff",
        "max-retry-backoff",
        "max_retry_backoff",
    ];
    if WITH_MEANING.iter().chain(&WITHOUT_MEANING).any(|there| *there == name) {
        return Ok(());
    }
    Err(format!("there is no parameter {name:?}"))
}

/// `%40` and `+` as what they stand for.
fn unescaped(text: &str) -> String {
    super::target::decoded(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_official_names() {
        let all = Options::parse(
            "db=3&tls-ca-cert-file=%2Fetc%2Fca.pem&tls-cert-file=/c&tls-key-file=/k&\
             tls-server-name=redis.example&insecure-skip-verify=1&read-timeout=3s&write-timeout=1s&\
             min-retry-backoff=50ms&max_retry_backoff=2s&dial_timeout=7&client-cache=true&pool_size=9",
        )
        .unwrap();
        let tls = TlsOptions {
            authorities: Some("/etc/ca.pem".into()),
            certificate: Some("/c".into()),
            key: Some("/k".into()),
            server_name: Some("redis.example".into()),
            unverified: true,
        };
        let patience = Patience {
            connect: Duration::from_secs(7),
            silence: Duration::from_secs(3),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        };
        assert_eq!(all, Options { db: Some("3".into()), patience, tls });
        assert_eq!(Options::parse("read-timeout=&db").unwrap(), Options::default());
        assert_eq!(Options::parse("db=1&db=2").unwrap().db, Some("1".into()));
        let slow = Options::parse("min-retry-backoff=5s").unwrap().patience;
        assert_eq!(slow.pause_max, Duration::from_secs(5));
    }

    #[test]
    fn others_are_refused_by_name() {
        for (query, word) in [
            ("tls-ca-file=/x", "\"tls-ca-file\""),
            ("nonsense", "\"nonsense\""),
            ("db=1&read-timeout=soon", "read-timeout"),
            ("insecure-skip-verify=false", "insecure-skip-verify=false"),
        ] {
            let error = Options::parse(query).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
