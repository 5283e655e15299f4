//! The HTTP client of a bucket: its connections, TLS and whom it trusts.
//!
//! Owns the settings and how certificates are read. Authorities are the system's, or those of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, as in every program; proxies are those of `HTTPS_PROXY` and
//! its kin.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use super::super::StoreError;
use super::address::Address;
use crate::limits::STORE_CONNECTIONS_IDLE_MAX;

/// As JuiceFS dials.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Servers close a silent connection sooner or later; this is sooner, so that none is found closed
/// with a request in it.
const IDLE_LIFE: Duration = Duration::from_secs(15);

/// The client for one bucket.
///
/// # Errors
/// When certificates cannot be read.
pub(super) fn client(address: &Address) -> Result<Client, StoreError> {
    // Whoever is first decides for the process; all of this program decide alike.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let refused = |text: String| StoreError::Refused(text);
    let mut builder = builder();
    if address.tls.files.is_none() && !address.tls.unverified {
        return plain_client(&address.endpoint);
    }
    if let Some([authorities, certificate, key]) = &address.tls.files {
        let read = |path: &str| {
            std::fs::read(path)
                .map_err(|error| refused(format!("{path} of the bucket's URL: {error}")))
        };
        let wrong = |path: &str, error: reqwest::Error| {
            refused(format!("{path} of the bucket's URL is no PEM file: {error}"))
        };
        let trusted = Certificate::from_pem_bundle(&read(authorities)?)
            .map_err(|error| wrong(authorities, error))?;
        let mut own = read(certificate)?;
        own.extend_from_slice(&read(key)?);
        let identity = Identity::from_pem(&own).map_err(|error| wrong(key, error))?;
        builder = builder.tls_certs_only(trusted).identity(identity);
    }
    if address.tls.unverified {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    built(builder)
}

/// The client for an endpoint that says nothing of TLS but whether it is there.
///
/// # Errors
/// When the system's certificates cannot be read.
pub(in super::super) fn plain_client(endpoint: &str) -> Result<Client, StoreError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match endpoint.starts_with("http://") {
        // A machine without authorities still reaches servers without TLS.
        true => built(builder().tls_certs_only([])),
        false => built(builder()),
    }
}

fn built(builder: ClientBuilder) -> Result<Client, StoreError> {
    builder.build().map_err(|error| {
        StoreError::Refused(format!(
            "no TLS: {}; install ca-certificates, or name a file in SSL_CERT_FILE",
            super::error::chain(&error)
        ))
    })
}

fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("jfs-uring/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_PATIENCE)
        .pool_idle_timeout(IDLE_LIFE)
        .pool_max_idle_per_host(STORE_CONNECTIONS_IDLE_MAX)
        // A signature is good for one host; the store's own words about the right one are told.
        .redirect(redirect::Policy::none())
}
