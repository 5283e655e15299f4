//! Where the metadata is: META-URL. A password in it is never shown.

use std::fmt;
use std::path::PathBuf;

/// A parsed META-URL.
#[derive(Clone, PartialEq, Eq)]
pub enum MetaUrl {
    /// A file of the embedded engine.
    Sqlite(PathBuf),
    /// A Redis server; kept as written, the engine reads the rest.
    Redis(String),
    /// A volume in this process's memory, gone with it.
    Memory(String),
}

/// What is wrong with a META-URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is none of ours.
    #[error(
        "no metadata engine for {0:?}; the URL begins with sqlite3://, redis://, rediss://, unix:// or memory:// \
         (other engines are served by the official client: juicefs mount)"
    )]
    Scheme(String),
    /// The part behind the scheme is missing.
    #[error("the URL names nothing behind {0}; write it as {1}")]
    Empty(&'static str, &'static str),
}

impl MetaUrl {
    /// Read a URL; without `://` it is a Redis address, as with JuiceFS.
    ///
    /// # Errors
    /// An unknown scheme, or nothing behind it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                Err(UrlError::Scheme(String::new()))
            } else {
                Ok(Self::Redis(format!("redis://{text}")))
            };
        };
        match scheme {
            "sqlite3" if rest.is_empty() => {
                Err(UrlError::Empty("sqlite3://", "sqlite3:///path/to/meta.db"))
            }
            "sqlite3" => Ok(Self::Sqlite(PathBuf::from(rest.split('?').next().unwrap_or(rest)))),
            "memory" if rest.is_empty() => Err(UrlError::Empty("memory://", "memory://scratch")),
            "memory" => Ok(Self::Memory(rest.to_owned())),
            "redis" | "rediss" | "unix" if rest.is_empty() => {
                Err(UrlError::Empty("redis://", "redis://localhost:6379/1"))
            }
            "redis" | "rediss" | "unix" => Ok(Self::Redis(text.to_owned())),
            _ => Err(UrlError::Scheme(format!("{scheme}://"))),
        }
    }
}

impl fmt::Display for MetaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite3://{}", path.display()),
            Self::Memory(name) => write!(f, "memory://{name}"),
            Self::Redis(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for MetaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The same URL with `****` for its password.
fn without_password(url: &str) -> String {
    match password_in(url) {
        Some((start, end)) => format!("{}****{}", &url[..start], &url[end..]),
        None => url.to_owned(),
    }
}

/// A URL without its password, and the password as the server wants it, escapes such as `%40`
/// undone; `None` if it has none.
pub fn split_password(url: &str) -> Option<(String, String)> {
    let (start, end) = password_in(url)?;
    // The colon goes too; an empty user with its `@` is harmless.
    Some((format!("{}{}", &url[..start - 1], &url[end..]), unescaped(&url[start..end])))
}

/// Text with `%40` and the like undone; what is no escape stays.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let byte = digits
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    // Bytes that are no text cannot be in the environment of every system: kept as written.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// Where in `url` its password begins and ends.
fn password_in(url: &str) -> Option<(usize, usize)> {
    let (scheme, rest) = url.split_once("://")?;
    if !["redis", "rediss", "unix"].contains(&scheme) {
        return None;
    }
    let authority_end = match scheme {
        // A path of a socket may hold any of the signs, so it begins with the first `@/`.
        "unix" if rest.starts_with('/') => 0,
        "unix" => rest.find("@/").map_or(rest.len(), |at| at + 1),
        _ => rest.find(['/', '?']).unwrap_or(rest.len()),
    };
    let at = rest[..authority_end].rfind('@')?;
    let colon = rest[..at].find(':')?;
    let begin = scheme.len() + 3;
    Some((begin + colon + 1, begin + at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        assert_eq!(MetaUrl::parse("sqlite3:///a/b.db"), Ok(MetaUrl::Sqlite("/a/b.db".into())));
        assert_eq!(
            MetaUrl::parse("sqlite3://b.db?cache=shared"),
            Ok(MetaUrl::Sqlite("b.db".into()))
        );
        assert_eq!(MetaUrl::parse("localhost/1"), Ok(MetaUrl::Redis("redis://localhost/1".into())));
        assert!(matches!(MetaUrl::parse("mysql://x"), Err(UrlError::Scheme(_))));
        assert!(matches!(MetaUrl::parse("sqlite3://"), Err(UrlError::Empty(..))));
    }

    #[test]
    fn passwords_are_taken_out() {
        let split = |url: &str| split_password(url);
        let parts = |url: &str, password: &str| Some((url.to_owned(), password.to_owned()));
        assert_eq!(split("redis://me:s3cr@t@host:1/2"), parts("redis://me@host:1/2", "s3cr@t"));
        assert_eq!(split("redis://:pw@host/1"), parts("redis://@host/1", "pw"));
        assert_eq!(split("redis://host:6379/1"), None);
        let sentinels = parts("rediss://me@mine,a:1,b/2?db=3", "pw");
        assert_eq!(split("rediss://me:pw@mine,a:1,b/2?db=3"), sentinels);
        assert_eq!(split("redis://:pw@a:1,b:2/2"), parts("redis://@a:1,b:2/2", "pw"));
        assert_eq!(split("redis://:a%40b%25%zz@h/1"), parts("redis://@h/1", "a@b%%zz"));
        assert_eq!(split("unix:///tmp/a:b@c.sock"), None);
        assert_eq!(split("unix://me:pw@/tmp/a:b@c.sock"), parts("unix://me@/tmp/a:b@c.sock", "pw"));
        assert_eq!(split("unix://:pw@/tmp/a@/c"), parts("unix://@/tmp/a@/c", "pw"));
        assert_eq!(split("sqlite3:///a:b@c"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = |url: &str| MetaUrl::parse(url).unwrap().to_string();
        assert_eq!(shown("redis://me:s3cr@t@host:1/2"), "redis://me:****@host:1/2");
        assert_eq!(shown("rediss://:pw@host/1"), "rediss://:****@host/1");
        assert_eq!(shown("redis://:pw@host/1"), "redis://:****@host/1");
        assert_eq!(shown("unix://:pw@/run/redis.sock?db=1"), "unix://:****@/run/redis.sock?db=1");
        assert_eq!(shown("redis://host:6379/1"), "redis://host:6379/1");
    }
}
