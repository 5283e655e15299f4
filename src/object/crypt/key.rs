//! From the text of a private key, as OpenSSL writes it, to a key that can be used.
//!
//! Owns the forms of PEM that JuiceFS takes: PKCS#1 and PKCS#8, each with or without a passphrase.
//! A passphrase that is not needed is not looked at, as with JuiceFS.

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::{Des, TdesEde3};
use md5::{Digest, Md5};
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, Error, ObjectIdentifier, PrivateKeyInfoRef, pkcs5};

/// What an RSA key is in PKCS#8.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// The variable a passphrase is taken from, as JuiceFS does.
pub const PASSPHRASE: &str = "JFS_RSA_PASSPHRASE";

/// Why objects cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The key has a passphrase, and none was given.
    #[error("the private key has a passphrase; put it into the environment as {PASSPHRASE}")]
    NeedsPassphrase,
    /// It does not open the key.
    #[error("the passphrase in {PASSPHRASE} is not that of the private key; correct it")]
    WrongPassphrase,
    /// There is no key in the text.
    #[error("{0}; a private key in PEM is needed, as `openssl genrsa 2048` writes it")]
    NoKey(&'static str),
    /// The passphrase is used in a way that is not served.
    #[error(
        "the private key is locked in a way that jfs-uring does not know ({0}); \
         use the official client (juicefs mount) for this volume"
    )]
    Lock(String),
    /// It is none of RSA, or a short one.
    #[error(
        "the private key is not supported by jfs-uring, only RSA keys of 2048 to 8192 bits; \
         use the official client (juicefs mount) for this volume"
    )]
    Kind,
    /// A setting that is not served.
    #[error(
        "encryption of objects with {0:?} is not supported yet by jfs-uring, only aes256gcm-rsa and \
         chacha20-rsa; use the official client (juicefs mount) for this volume"
    )]
    Algorithm(String),
}

/// The first block of a PEM text.
struct Pem<'a> {
    label: &'a str,
    /// `DEK-Info`, in keys with a passphrase of the old form.
    lock: Option<&'a str>,
    bytes: Vec<u8>,
}

impl<'a> Pem<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (_, rest) = text.split_once("-----BEGIN ")?;
        let (label, rest) = rest.split_once("-----")?;
        let (inside, _) = rest.split_once("-----END ")?;
        let lines = || inside.lines().map(str::trim).filter(|line| !line.is_empty());
        let lock = lines().find_map(|line| line.strip_prefix("DEK-Info:"));
        let base64: String = lines().filter(|line| !line.contains(':')).collect();
        let bytes = STANDARD.decode(base64).ok()?;
        Some(Self { label, lock: lock.map(str::trim), bytes })
    }
}

/// The key in `text` as PKCS#8.
pub(super) fn private_key(text: &str, passphrase: &str) -> Result<Vec<u8>, BadKey> {
    let pem = Pem::parse(text).ok_or(BadKey::NoKey("the text holds no PEM"))?;
    let locked = pem.lock.is_some() || pem.label == "ENCRYPTED PRIVATE KEY";
    if locked && passphrase.is_empty() {
        return Err(BadKey::NeedsPassphrase);
    }
    match (pem.label, pem.lock) {
        ("RSA PRIVATE KEY", None) => {
            in_pkcs8(&pem.bytes).ok_or(BadKey::NoKey("its DER is damaged"))
        }
        ("RSA PRIVATE KEY", Some(lock)) => {
            let opened = unlocked(lock, &pem.bytes, passphrase)?;
            in_pkcs8(&opened).ok_or(BadKey::WrongPassphrase)
        }
        ("PRIVATE KEY", _) => match PrivateKeyInfoRef::from_der(&pem.bytes) {
            Ok(key) if key.algorithm.oid == RSA => Ok(pem.bytes),
            Ok(_) => Err(BadKey::Kind),
            Err(_) => Err(BadKey::NoKey("its DER is damaged")),
        },
        ("ENCRYPTED PRIVATE KEY", _) => {
            let key = EncryptedPrivateKeyInfoRef::from_der(&pem.bytes)
                .map_err(|error| BadKey::Lock(error.to_string()))?;
            match key.decrypt(passphrase) {
                Ok(key) => Ok(key.as_bytes().to_vec()),
                // Another passphrase opens it to bytes that make no sense.
                Err(Error::Asn1(_) | Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed)) => {
                    Err(BadKey::WrongPassphrase)
                }
                Err(error) => Err(BadKey::Lock(error.to_string())),
            }
        }
        ("PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE", _) => {
            Err(BadKey::NoKey("the text holds no private key"))
        }
        _ => Err(BadKey::Kind),
    }
}

/// An RSA key of PKCS#1 as one of PKCS#8; `None` if it is none.
fn in_pkcs8(pkcs1: &[u8]) -> Option<Vec<u8>> {
    AnyRef::from_der(pkcs1).ok()?;
    let algorithm = AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) };
    let key = OctetStringRef::new(pkcs1).ok()?;
    PrivateKeyInfoRef::new(algorithm, key).to_der().ok()
}

/// What a lock of the old form (RFC 1423) holds: the key is from MD5 over passphrase and salt.
fn unlocked(lock: &str, locked: &[u8], passphrase: &str) -> Result<Vec<u8>, BadKey> {
    let unknown = || BadKey::Lock(lock.to_owned());
    let (method, iv) = lock.split_once(',').ok_or_else(unknown)?;
    let iv = from_hex(iv.trim()).filter(|iv| iv.len() >= 8).ok_or_else(unknown)?;
    let (passphrase, salt) = (passphrase.as_bytes(), &iv[..8]);
    let opened = match method.trim() {
        "AES-256-CBC" => open_cbc::<Aes256>(passphrase, salt, &iv, locked),
        "AES-192-CBC" => open_cbc::<Aes192>(passphrase, salt, &iv, locked),
        "AES-128-CBC" => open_cbc::<Aes128>(passphrase, salt, &iv, locked),
        "DES-EDE3-CBC" => open_cbc::<TdesEde3>(passphrase, salt, &iv, locked),
        "DES-CBC" => open_cbc::<Des>(passphrase, salt, &iv, locked),
        _ => return Err(unknown()),
    };
    opened.ok_or(BadKey::WrongPassphrase)
}

fn open_cbc<C: BlockCipherDecrypt + KeyInit>(
    passphrase: &[u8],
    salt: &[u8],
    iv: &[u8],
    locked: &[u8],
) -> Option<Vec<u8>> {
    let (mut key, mut last) = (Vec::new(), Vec::new());
    while key.len() < C::key_size() {
        last = Md5::new()
            .chain_update(&last)
            .chain_update(passphrase)
            .chain_update(salt)
            .finalize()
            .to_vec();
        key.extend_from_slice(&last);
    }
    let cipher = Decryptor::<C>::new_from_slices(&key[..C::key_size()], iv).ok()?;
    let mut bytes = locked.to_vec();
    Some(cipher.decrypt_padded::<Pkcs7>(&mut bytes).ok()?.to_vec())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let path = format!("{}/tests/fixtures/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_form_that_openssl_writes_holds_the_same_key() {
        let wanted = private_key(&text("plain8"), "").unwrap();
        assert_eq!(private_key(&text("plain1"), "").unwrap(), wanted);
        let locked = [
            "old-aes128",
            "old-aes192",
            "old-aes256",
            "old-des",
            "old-des3",
            "new-aes256",
            "new-des3",
            "new-sha1",
            "new-scrypt",
        ];
        for name in locked {
            let text = text(name);
            assert_eq!(private_key(&text, "hush").as_ref(), Ok(&wanted), "{name}");
            assert_eq!(private_key(&text, ""), Err(BadKey::NeedsPassphrase), "{name}");
            assert_eq!(private_key(&text, "hash"), Err(BadKey::WrongPassphrase), "{name}");
        }
        assert_eq!(private_key(&text("plain8"), "not needed").unwrap(), wanted);
        assert_eq!(private_key(&text("plain1"), "not needed").unwrap(), wanted);
        let mail = text("old-aes256").replace('\n', "\r\n");
        assert_eq!(private_key(&format!("a key:\r\n{mail}"), "hush").unwrap(), wanted);
    }

    #[test]
    fn what_is_no_such_key_is_told() {
        let told = |text: &str| private_key(text, "hush").unwrap_err();
        assert_eq!(told(&text("ec")), BadKey::Kind);
        assert!(matches!(told(&text("new-pbes1")), BadKey::Lock(_)));
        let odd = text("old-aes256").replace("AES-256-CBC", "RC4-CBC");
        assert!(matches!(told(&odd), BadKey::Lock(lock) if lock.starts_with("RC4-CBC,")));
        let whole = text("plain8");
        let public = whole.replace("PRIVATE KEY", "PUBLIC KEY");
        let cut: String = whole.lines().filter(|line| !line.starts_with("MII")).collect();
        for text in ["", "no PEM", &whole[..200], &public, &cut] {
            assert!(matches!(told(text), BadKey::NoKey(_)), "{text}");
        }
    }
}
