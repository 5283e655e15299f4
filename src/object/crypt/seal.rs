//! The bytes of a sealed object, as JuiceFS writes them.
//!
//! Owns the layout: the length of the wrapped key (2 bytes, big-endian), that of the nonce (1), the
//! wrapped key, the nonce, then ciphertext and tag. Every object has a key of its own, wrapped by
//! RSA-OAEP. Does not know names or stores.

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
};

use super::key::{BadKey, private_key};
use crate::pages::{self, Page};

/// JuiceFS's label of wrapped keys.
const LABEL: &[u8] = b"keys";
/// What stands before the wrapped key.
const LENGTHS_BYTES: usize = 3;
/// Length of an object's key, with every algorithm here.
const KEY_BYTES: usize = 32;
/// Length of a tag, with every algorithm here.
const TAG_BYTES: usize = 16;

/// Seals and opens the objects of one volume; any core may use it.
pub struct ObjectCipher {
    algorithm: &'static Algorithm,
    wrap: OaepPublicEncryptingKey,
    unwrap: OaepPrivateDecryptingKey,
}

impl ObjectCipher {
    /// The cipher that JuiceFS calls `algorithm` (empty is its default), for the private key in
    /// `pem`, which `passphrase` opens if it has one.
    ///
    /// # Errors
    /// When the algorithm is not served, or the key is none.
    pub fn new(algorithm: &str, pem: &str, passphrase: &str) -> Result<Self, BadKey> {
        let algorithm = match algorithm {
            "" | "aes256gcm-rsa" => &AES_256_GCM,
            "chacha20-rsa" => &CHACHA20_POLY1305,
            other => return Err(BadKey::Algorithm(other.to_owned())),
        };
        let rejected = |_| BadKey::Kind;
        let der = private_key(pem, passphrase)?;
        let unwrap = PrivateDecryptingKey::from_pkcs8(&der).map_err(|_| BadKey::Kind)?;
        let wrap = OaepPublicEncryptingKey::new(unwrap.public_key()).map_err(rejected)?;
        let unwrap = OaepPrivateDecryptingKey::new(unwrap).map_err(rejected)?;
        Ok(Self { algorithm, wrap, unwrap })
    }

    /// Bytes that an object is longer than what is in it.
    pub fn overhead_bytes(&self) -> usize {
        self.header_bytes() + TAG_BYTES
    }

    fn header_bytes(&self) -> usize {
        LENGTHS_BYTES + self.wrap.ciphertext_size() + NONCE_LEN
    }

    /// The object of a body.
    pub fn seal(&self, body: &[Page]) -> Vec<u8> {
        let body_bytes: usize = body.iter().map(|page| page.len()).sum();
        let mut key = [0; KEY_BYTES];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut key).and_then(|()| rand::fill(&mut nonce)).expect("chance has no end");
        let mut wrapped = vec![0; self.wrap.ciphertext_size()];
        let wrapped = self
            .wrap
            .encrypt(&OAEP_SHA256_MGF1SHA256, &key, &mut wrapped, Some(LABEL))
            .expect("a key of 2048 bits has room for 32 bytes");
        let wrapped_bytes =
            u16::try_from(wrapped.len()).expect("RSA keys have 16,384 bits at most");

        let mut object = pages::buffer(body_bytes + self.overhead_bytes());
        object.clear();
        object.extend_from_slice(&wrapped_bytes.to_be_bytes());
        object.push(NONCE_LEN as u8);
        object.extend_from_slice(wrapped);
        object.extend_from_slice(&nonce);
        assert_eq!(object.len(), self.header_bytes(), "a wrapped key is as long as the modulus");
        body.iter().for_each(|page| object.extend_from_slice(page));
        let inner = &mut object[self.header_bytes()..];
        let tag = self
            .aead(&key)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), inner)
            .expect("a block is shorter than a cipher's limit");
        object.extend_from_slice(tag.as_ref());
        object
    }

    /// The body of an object.
    ///
    /// # Errors
    /// Why it cannot be opened: it is no sealed object, is damaged, or is another key's.
    pub fn open(&self, mut object: Vec<u8>) -> Result<Vec<u8>, String> {
        let ends = || format!("{} bytes are no sealed object", object.len());
        let (lengths, rest) = object.split_at_checked(LENGTHS_BYTES).ok_or_else(ends)?;
        let wrapped_bytes = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
        let nonce_bytes = usize::from(lengths[2]);
        let (wrapped, rest) = rest.split_at_checked(wrapped_bytes).ok_or_else(ends)?;
        let (nonce, _) = rest.split_at_checked(nonce_bytes).ok_or_else(ends)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| format!("its nonce has {nonce_bytes} bytes, not {NONCE_LEN}"))?;
        let mut key = vec![0; self.unwrap.min_output_size()];
        let key = self
            .unwrap
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut key, Some(LABEL))
            .ok()
            .filter(|key| key.len() == KEY_BYTES)
            .ok_or("its key was not wrapped for this volume's private key")?;
        let sealed_from = LENGTHS_BYTES + wrapped_bytes + nonce_bytes;
        let body_bytes = self
            .aead(key)
            .open_within(nonce, Aad::empty(), &mut object, sealed_from..)
            .map_err(|_| "its bytes are not those that were sealed")?
            .len();
        object.truncate(body_bytes);
        Ok(object)
    }

    fn aead(&self, key: &[u8]) -> LessSafeKey {
        let key = UnboundKey::new(self.algorithm, key).expect("all have keys of 32 bytes");
        LessSafeKey::new(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::{SecretKey, Setting};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

    fn setting(fixture: &str) -> Setting {
        let text = std::fs::read_to_string(format!("{FIXTURES}/{fixture}/volume.json")).unwrap();
        let volume: Value = serde_json::from_str(&text).unwrap();
        Setting::parse(&volume["setting"].to_string()).unwrap()
    }

    fn cipher(fixture: &str, passphrase: &str) -> Result<ObjectCipher, BadKey> {
        let setting = setting(fixture);
        let pem = setting.secret(SecretKey::Encrypt).unwrap();
        ObjectCipher::new(setting.encrypt_algo(), &pem, passphrase)
    }

    fn own(algorithm: &str, key: &str) -> Result<ObjectCipher, BadKey> {
        let pem = std::fs::read_to_string(format!("{FIXTURES}/keys/{key}.pem")).unwrap();
        ObjectCipher::new(algorithm, &pem, "")
    }

    #[test]
    fn objects_of_the_real_client_open() {
        for fixture in ["refuse-encrypt", "refuse-encrypt-passphrase"] {
            let cipher = cipher(fixture, "fixture-passphrase").unwrap();
            let object = std::fs::read(format!("{FIXTURES}/{fixture}/juicefs_uuid")).unwrap();
            assert_eq!(object[..3], [1, 0, 12], "{fixture}: RSA-2048 and a nonce of 12 bytes");
            let body = cipher.open(object).unwrap();
            assert_eq!(body, setting(fixture).uuid().as_bytes(), "{fixture}");
        }
        let wrong = cipher("refuse-encrypt-passphrase", "x").err();
        assert_eq!(wrong, Some(BadKey::WrongPassphrase));
        assert_eq!(cipher("refuse-encrypt-passphrase", "").err(), Some(BadKey::NeedsPassphrase));
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        for algorithm in ["", "aes256gcm-rsa", "chacha20-rsa"] {
            let cipher = own(algorithm, "plain8").unwrap();
            let body = [Page::from_vec(b"hello ".to_vec()), Page::from_vec(b"world".to_vec())];
            let (object, other) = (cipher.seal(&body), cipher.seal(&body));
            assert_eq!((object.len(), cipher.overhead_bytes()), (11 + 287, 287));
            assert_eq!(cipher.open(object.clone()).unwrap(), b"hello world");
            assert!(object[3..259] != other[3..259] && object[259..271] != other[259..271]);
            assert_eq!(cipher.open(cipher.seal(&[])).unwrap(), b"");

            for at in [0, 1, 2, 3, 258, 259, 270, 271, object.len() - 1] {
                let mut damaged = object.clone();
                damaged[at] ^= 1;
                assert!(cipher.open(damaged).is_err(), "{algorithm} {at}");
            }
            for len in [0, 2, 3, 258, 270, 271, 280, object.len() - 1] {
                assert!(cipher.open(object[..len].to_vec()).is_err(), "{algorithm} {len}");
            }
            let theirs = self::cipher("refuse-encrypt", "").unwrap();
            assert!(theirs.open(object).unwrap_err().contains("private key"));
        }
    }

    #[test]
    fn other_keys_and_algorithms_are_refused_by_name() {
        assert_eq!(own("", "short").err(), Some(BadKey::Kind));
        assert_eq!(own("", "ec").err(), Some(BadKey::Kind));
        let told = own("sm4gcm", "plain8").err().unwrap().to_string();
        assert!(told.contains("sm4gcm") && told.contains("not supported yet"), "{told}");
    }

    #[test]
    fn a_cipher_is_shared_by_cores() {
        fn shared<T: Send + Sync>() {}
        shared::<ObjectCipher>();
    }
}
