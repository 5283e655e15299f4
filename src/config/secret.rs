//! Secrets in a volume's setting, hidden from a casual look as JuiceFS hides them.
//!
//! Owns the bytes: base64 of a nonce of 12 bytes and AES-128-GCM under the MD5 of the UUID. The UUID
//! stands beside them, so this protects nothing from who reads the whole setting.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

fn key(uuid: &str) -> LessSafeKey {
    let hash = Md5::digest(uuid.as_bytes());
    let key = UnboundKey::new(&AES_128_GCM, &hash).expect("an MD5 has the length of the key");
    LessSafeKey::new(key)
}

/// `text` as the setting of the volume `uuid` holds it; empty stays empty.
pub(super) fn seal(uuid: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).expect("the kernel has chance to give");
    let mut sealed = text.as_bytes().to_vec();
    let once = Nonce::assume_unique_for_key(nonce);
    key(uuid)
        .seal_in_place_append_tag(once, Aad::empty(), &mut sealed)
        .expect("a secret is shorter than a cipher's limit");
    STANDARD.encode([&nonce[..], &sealed].concat())
}

/// What [`seal`] or the real client sealed; `None` when it is not of this volume.
pub(super) fn open(uuid: &str, sealed: &str) -> Option<String> {
    if sealed.is_empty() {
        return Some(String::new());
    }
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = sealed.to_vec();
    let opened = key(uuid).open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
    String::from_utf8(opened.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9a1ad459-a2d8-4f97-b8a8-ad23bcd95002";

    #[test]
    fn what_is_sealed_opens_for_its_volume_only() {
        for text in ["", "x", "a secret with spaces", &"long".repeat(1000)] {
            let (one, two) = (seal(UUID, text), seal(UUID, text));
            assert_eq!(open(UUID, &one).as_deref(), Some(text));
            assert_eq!(one == two, text.is_empty(), "every seal has its own nonce");
        }
        assert_eq!(open("other", &seal(UUID, "x")), None);
        let mut damaged = seal(UUID, "hello");
        damaged.replace_range(20..21, if &damaged[20..21] == "A" { "B" } else { "A" });
        assert_eq!(open(UUID, &damaged), None);
        for odd in ["removed", "%%", "AAAA"] {
            assert_eq!(open(UUID, odd), None, "{odd}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_real_client() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/refuse-encrypt/volume.json");
        let text = std::fs::read_to_string(path).unwrap();
        let volume: serde_json::Value = serde_json::from_str(&text).unwrap();
        let setting = |key: &str| volume["setting"][key].as_str().unwrap();
        let key = open(setting("UUID"), setting("EncryptKey")).unwrap();
        assert!(key.starts_with("-----BEGIN"), "{key}");
        assert!(key.trim_end().ends_with("PRIVATE KEY-----"), "{key}");
    }
}
