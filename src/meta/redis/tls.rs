//! TLS to a Redis: whom it trusts, who this client is, and the bytes of one session.
//!
//! Owns certificates, as JuiceFS names them in META-URL, and what is said when they do not fit. Does
//! not own the socket. Authorities are those of the URL's file; else the system's, or those of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme,
};

use super::options::TlsOptions;
use crate::meta::engine::EngineError;

/// How sessions of one META-URL begin.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

fn refused(text: String) -> EngineError {
    EngineError::Refused(text)
}

impl Tls {
    /// Read what the options name.
    ///
    /// # Errors
    /// A file that cannot be read or is no PEM.
    pub(super) fn new(options: &TlsOptions) -> Result<Self, EngineError> {
        let provider = Arc::new(ring::default_provider());
        let known = provider.signature_verification_algorithms;
        let trust = trust(options, Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("no TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, known }));
        let config = match &options.certificate {
            None => config.with_no_client_auth(),
            Some(path) => {
                let key = options.key.as_deref().ok_or_else(|| {
                    refused("tls-cert-file of META-URL needs tls-key-file beside it".into())
                })?;
                let own = PrivateKeyDer::from_pem_file(key);
                let own = own.map_err(|error| no_pem("tls-key-file", key, &error))?;
                config.with_client_auth_cert(certificates("tls-cert-file", path)?, own).map_err(
                    |error| refused(format!("{path} and {key} of META-URL are no pair: {error}")),
                )?
            }
        };
        Ok(Self { config: Arc::new(config), server_name: options.server_name.clone() })
    }

    /// A session with the server at `host`.
    ///
    /// # Errors
    /// When the name that is expected of the server is none.
    pub(super) fn session(&self, host: &str) -> Result<TlsSession, EngineError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| {
            refused(format!("{name:?} is no name of a server; set tls-server-name in META-URL"))
        })?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), server)
            .map_err(|error| refused(format!("no TLS: {error}")))?;
        // What waits is bounded by who asks.
        connection.set_buffer_limit(None);
        Ok(TlsSession(connection))
    }
}

fn no_pem(option: &str, path: &str, error: &rustls::pki_types::pem::Error) -> EngineError {
    refused(format!("{option}={path} of META-URL cannot be read as PEM: {error}"))
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| no_pem(option, path, &error))?;
    if found.is_empty() {
        return Err(refused(format!("{option}={path} of META-URL holds no certificate")));
    }
    Ok(found)
}

fn trust(options: &TlsOptions, provider: Arc<CryptoProvider>) -> Result<Trust, EngineError> {
    if options.unverified {
        return Ok(Trust::Anyone);
    }
    let mut roots = RootCertStore::empty();
    let listed = match &options.authorities {
        Some(path) => certificates("tls-ca-cert-file", path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(listed.iter().cloned());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let inner = inner.map_err(|_| {
        refused(
            "no certificate authority to trust Redis by: install ca-certificates, or set \
             tls-ca-cert-file in META-URL"
                .into(),
        )
    })?;
    Ok(Trust::Listed { inner, listed })
}

/// Who is believed to be the server.
#[derive(Debug)]
enum Trust {
    /// Whoever answers, as `insecure-skip-verify` wants it.
    Anyone,
    /// Whom the authorities signed, and a server that shows a certificate of the list itself: one that
    /// is its own authority is common, and right for the official client.
    Listed { inner: Arc<WebPkiServerVerifier>, listed: Vec<CertificateDer<'static>> },
}

/// Whom to trust, and that he holds the key of the certificate that he shows.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    known: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Listed { inner, listed } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = inner.verify_server_cert(shown, chain, name, ocsp, now);
        match &verified {
            // Told after its times are found good.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string().contains("CaUsedAsEndEntity") && listed.contains(shown) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

/// One session: words in the clear on one side, sealed bytes on the other. Words may come before the
/// handshake is done; they wait.
pub(super) struct TlsSession(ClientConnection);

impl TlsSession {
    /// Sealed bytes are to be sent.
    pub(super) fn wants_to_send(&self) -> bool {
        self.0.wants_write()
    }

    /// Take words; `sealed` gets all that is to be sent, the handshake's part too.
    pub(super) fn seal(&mut self, words: &[u8], sealed: &mut Vec<u8>) {
        self.0.writer().write_all(words).expect("nothing bounds what waits");
        while self.0.wants_write() {
            self.0.write_tls(sealed).expect("a vector takes everything");
        }
    }

    /// Take bytes that came; `words` gets what they say. `Err` ends the session and says why.
    pub(super) fn open(&mut self, mut came: &[u8], words: &mut Vec<u8>) -> Result<(), String> {
        while !came.is_empty() {
            let read = self.0.read_tls(&mut came);
            // Nothing is read behind the other side's goodbye.
            if read.map_err(|error| format!("TLS fails: {error}"))? == 0 {
                return Ok(());
            }
            let state = self.0.process_new_packets().map_err(|error| told(&error))?;
            let begin = words.len();
            words.resize(begin + state.plaintext_bytes_to_read(), 0);
            self.0
                .reader()
                .read_exact(&mut words[begin..])
                .map_err(|error| format!("TLS fails: {error}"))?;
        }
        Ok(())
    }
}

/// What ended a session, and what cures it.
fn told(error: &Error) -> String {
    let cure = match error {
        // A bad signature: another authority of the same name.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "name its authority in tls-ca-cert-file of META-URL, or trust anyone with \
             insecure-skip-verify=1"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "name the server as its certificate does, in META-URL or by its tls-server-name",
        Error::InvalidCertificate(_) => "renew the certificate of the server",
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => "it wants to know who asks: set tls-cert-file and tls-key-file in META-URL",
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => "it does not trust the certificate in tls-cert-file of META-URL",
        Error::InvalidMessage(_) => "what answers there speaks no TLS: META-URL with redis://?",
        _ => return format!("TLS fails: {error}"),
    };
    format!("TLS fails: {error}; {cure}")
}
