//! What S3 answers, sorted by what the caller does next, in words for people.
//!
//! Owns the sorting. Statuses and codes that are not known may pass: they are tried again.

use opendal::{Error, ErrorKind};

use super::super::StoreError;
use super::super::remote::status;

/// Codes of a key that is not, or no longer, good.
const BAD_KEYS: &[&str] = &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"];
/// Codes of a store without room.
const FULL: &[&str] = &["XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"];
/// What goes wrong before a store answers and may pass, and what a person does if it does not.
const CURES_ON_THE_WAY: &[(&str, &str)] = &[
    (
        "failed to load signing credential",
        "give --access-key and --secret-key to `jfs-uring format`, or set AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY",
    ),
    ("invalid peer certificate", "name the file of its authority in SSL_CERT_FILE"),
];
/// Status of a store without room.
const FULL_STATUS: &str = "507";

/// `error` of a request for `key`.
pub(super) fn sorted(error: &Error, key: &str) -> StoreError {
    let code = code(error);
    let code = code.as_deref().unwrap_or("");
    let status = status(error);
    let status = status.as_deref().unwrap_or("");
    let text = told(error, code, status);
    if FULL.contains(&code) || status == FULL_STATUS {
        return StoreError::Full(text);
    }
    if let Some(cure) = cure(error.kind(), code, status) {
        return StoreError::Refused(format!("{text}; {cure}"));
    }
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing(key.to_owned()),
        ErrorKind::RateLimited => StoreError::Throttled(text),
        _ if status == "503" => StoreError::Throttled(text),
        ErrorKind::ConfigInvalid | ErrorKind::Unsupported => StoreError::Refused(text),
        _ if status.starts_with('4') && status != "408" && !error.is_temporary() => {
            StoreError::Refused(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

/// What a person does about an answer that stays the same; `None` for all others.
fn cure(kind: ErrorKind, code: &str, status: &str) -> Option<&'static str> {
    match code {
        "NoSuchBucket" => return Some("make the bucket, or correct --bucket"),
        "InvalidObjectState" => {
            return Some("it lies in an archive: `juicefs tier restore` gets it out for a while");
        }
        "RequestTimeTooSkewed" => return Some("set this machine's clock"),
        "ExpiredToken" | "TokenRefreshRequired" => {
            return Some(
                "the session token is too old: get new keys, `juicefs config` stores them",
            );
        }
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => {
            return Some("name the bucket's region in --bucket or AWS_REGION");
        }
        _ if BAD_KEYS.contains(&code) => {
            return Some(
                "check --access-key and --secret-key of `jfs-uring format`, or the keys in \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and ~/.aws",
            );
        }
        _ => {}
    }
    if kind == ErrorKind::PermissionDenied || status == "403" {
        return Some(
            "allow these keys s3:GetObject, s3:PutObject, s3:DeleteObject on the bucket's \
             objects and s3:ListBucket on the bucket",
        );
    }
    status.starts_with('3').then_some("name the bucket's region in --bucket or AWS_REGION")
}

/// One line: the store's own words if it sent any, or what went wrong on the way.
fn told(error: &Error, code: &str, status: &str) -> String {
    if !code.is_empty() {
        let words = field(error.message(), "message").unwrap_or_default();
        return format!("{code}: {words}").trim_end_matches([':', ' ']).to_owned();
    }
    if !status.is_empty() {
        return format!("it answers {status}");
    }
    let why = std::error::Error::source(error).map(chain).unwrap_or_default();
    let what = error.message();
    let text = if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") };
    let cure = CURES_ON_THE_WAY.iter().find(|(sign, _)| text.contains(sign));
    cure.map_or(text.clone(), |(_, cure)| format!("{text}; {cure}"))
}

/// An error and what caused it, without repetition.
pub(in super::super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|known| known.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ").replace('\n', " ")
}

/// The code in the store's answer.
fn code(error: &Error) -> Option<String> {
    field(error.message(), "code").filter(|code| !code.is_empty())
}

/// The library shows the answer as `S3Error { code: "...", message: "..." }`.
fn field(shown: &str, name: &str) -> Option<String> {
    let rest = shown.strip_prefix("S3Error {")?;
    let (_, rest) = rest.split_once(&format!(" {name}: \""))?;
    let end = rest.find("\", ").or_else(|| rest.find("\" }"))?;
    Some(rest[..end].replace("\\\"", "\"").replace("\\n", " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the library makes of an answer.
    fn answer(kind: ErrorKind, status: u16, code: &str) -> Error {
        let shown = format!(
            "S3Error {{ code: \"{code}\", message: \"some \\\"words\\\"\", resource: \"\", \
             request_id: \"\" }}"
        );
        Error::new(kind, if code.is_empty() { String::new() } else { shown })
            .with_context("response", format!("Parts {{ status: {status}, version: HTTP/1.1 }}"))
    }

    #[test]
    fn answers_are_sorted_by_what_is_done_next() {
        let sort = |kind, status, code| sorted(&answer(kind, status, code), "k");
        use ErrorKind::{ConfigInvalid, NotFound, PermissionDenied, RateLimited, Unexpected};
        assert!(matches!(sort(NotFound, 404, "NoSuchKey"), StoreError::Missing(key) if key == "k"));
        assert!(matches!(sort(RateLimited, 503, "SlowDown"), StoreError::Throttled(_)));
        assert!(matches!(sort(Unexpected, 503, ""), StoreError::Throttled(_)));
        assert!(matches!(sort(RateLimited, 429, ""), StoreError::Throttled(_)));
        assert!(matches!(sort(Unexpected, 500, "InternalError"), StoreError::Unavailable(_)));
        assert!(matches!(sort(Unexpected, 507, "XMinioStorageFull"), StoreError::Full(_)));
        assert!(matches!(sort(Unexpected, 507, ""), StoreError::Full(_)));
        assert!(matches!(sort(ConfigInvalid, 404, "NoSuchBucket"), StoreError::Refused(_)));
        assert!(matches!(sort(PermissionDenied, 403, "AccessDenied"), StoreError::Refused(_)));
        assert!(matches!(sort(Unexpected, 400, "InvalidRequest"), StoreError::Refused(_)));
        assert!(matches!(sort(Unexpected, 301, "PermanentRedirect"), StoreError::Refused(_)));
        let slow = answer(Unexpected, 400, "RequestTimeout").set_temporary();
        assert!(matches!(sorted(&slow, "k"), StoreError::Unavailable(_)));
    }

    #[test]
    fn refusals_are_one_line_with_a_cure() {
        let told = |kind, status, code| sorted(&answer(kind, status, code), "k").to_string();
        let denied = told(ErrorKind::PermissionDenied, 403, "AccessDenied");
        assert!(
            denied.starts_with("object store refuses: AccessDenied: some \"words\"; allow"),
            "{denied}"
        );
        let keys = told(ErrorKind::PermissionDenied, 403, "InvalidAccessKeyId");
        assert!(keys.contains("--access-key") && !keys.contains("s3:PutObject"), "{keys}");
        assert!(told(ErrorKind::PermissionDenied, 403, "").contains("it answers 403; allow"));
        assert!(told(ErrorKind::PermissionDenied, 403, "RequestTimeTooSkewed").contains("clock"));
        let archived = told(ErrorKind::PermissionDenied, 403, "InvalidObjectState");
        assert!(
            archived.contains("juicefs tier restore") && !archived.contains("s3:"),
            "{archived}"
        );
    }

    #[test]
    fn what_breaks_on_the_way_may_pass() {
        let cause = std::io::Error::other("connection reset");
        let broken = Error::new(ErrorKind::Unexpected, "send http request").set_source(cause);
        let text = sorted(&broken, "k").to_string();
        assert_eq!(text, "object store unavailable: send http request: connection reset");
        let cause = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let strange = Error::new(ErrorKind::Unexpected, "send http request").set_source(cause);
        let text = sorted(&strange, "k").to_string();
        assert!(text.ends_with("SSL_CERT_FILE"), "{text}");
    }
}
