//! Which folder a new block goes to: JuiceFS's ring hash, 100 points per folder.
//!
//! Owns the ring. Lookups do not rely on it, every folder has an index: the real client moves some
//! points for evenness, and a block that it placed elsewhere must be found too.

const POINTS: usize = 100;

/// Points of all folders, sorted.
pub(in crate::stage) struct Ring(Vec<(u32, usize)>);

impl Ring {
    /// A ring of folders, by the content of their `.lock` files.
    pub(in crate::stage) fn new<'a>(identities: impl Iterator<Item = &'a str>) -> Self {
        let mut points = Vec::new();
        for (folder, identity) in identities.enumerate() {
            let point = |number| murmur3(format!("{number}{identity}").as_bytes());
            points.extend((0..POINTS).map(|number| (point(number), folder)));
        }
        points.sort_unstable();
        Self(points)
    }

    /// The folder for an object name.
    pub(in crate::stage) fn folder(&self, name: &str) -> Option<usize> {
        let hash = murmur3(name.as_bytes());
        let next = self.0.partition_point(|(point, _)| *point < hash);
        self.0.get(next).or(self.0.first()).map(|(_, folder)| *folder)
    }
}

/// MurmurHash3, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = 0u32;
    for word in words {
        hash = (hash ^ mix(u32::from_le_bytes(*word))).rotate_left(13);
        hash = hash.wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    hash ^= mix(u32::from_le_bytes(tail));
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_murmur3() {
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"hello"), 0x248B_FA47);
        assert_eq!(murmur3(b"hello, world"), 0x149B_BB7F);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0x2E4F_F723);
    }

    #[test]
    fn folders_share_and_only_a_lost_ones_blocks_move() {
        let identities = ["3f6c", "a001", "77de"];
        let names: Vec<String> = (0..3000).map(|id| format!("chunks/0/0/{id}_0_1")).collect();
        let three = Ring::new(identities.into_iter());
        let two = Ring::new(identities[..2].iter().copied());
        let mut counts = [0; 3];
        for name in &names {
            let folder = three.folder(name).unwrap();
            counts[folder] += 1;
            assert!(folder == 2 || two.folder(name) == Some(folder));
        }
        assert!(counts.iter().all(|count| *count > 300), "{counts:?}");
        assert_eq!(Ring::new(std::iter::empty()).folder("a"), None);
    }
}
