//! Blocks as JuiceFS stores them: as they are, as a bare LZ4 block, or as one Zstandard frame.
//!
//! Owns the three encodings. Does not know names or stores. Relies on the caller for the raw
//! length: an object does not hold it, its name does.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zstd::bulk::{Compressor, Decompressor};

use crate::pages::{self, Page};

/// The level JuiceFS writes with.
const ZSTD_LEVEL: i32 = 1;

/// A volume's setting `Compression`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Blocks as they are; the only kind of which a part can be fetched.
    None,
    /// Bare LZ4 blocks: no magic, no length, no checksum.
    Lz4,
    /// One Zstandard frame of level 1 with its content size.
    Zstd,
}

impl Compression {
    /// The compression JuiceFS calls `name`, in any case; empty is `none`.
    pub fn from_setting(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "" | "none" => Self::None,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// Most bytes that JuiceFS reads of the object of a block of `raw_bytes`. A longer object is
    /// cut by it and then refused, so no encoder may exceed this.
    pub fn stored_bytes_max(self, raw_bytes: usize) -> usize {
        match self {
            Self::None => raw_bytes,
            Self::Lz4 => raw_bytes + raw_bytes / 255 + 16,
            Self::Zstd => zstd::zstd_safe::compress_bound(raw_bytes),
        }
    }

    /// Whether a byte range of the block is the same byte range of the object.
    pub fn seekable(self) -> bool {
        self == Self::None
    }
}

/// Stored bytes are not what their name promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// One worker's encoder and decoder with their scratch memory; it may move between threads.
pub struct Codec {
    compression: Compression,
    gathered: Vec<u8>,
    encoded: Vec<u8>,
    table: CompressTable,
    zstd: Option<(Compressor<'static>, Decompressor<'static>)>,
}

impl Codec {
    /// A codec for a volume.
    pub fn new(compression: Compression) -> Self {
        let context = || {
            let compressor = Compressor::new(ZSTD_LEVEL).expect("level 1 exists");
            (compressor, Decompressor::new().expect("no dictionary, nothing to refuse"))
        };
        Self {
            compression,
            gathered: Vec::new(),
            encoded: Vec::new(),
            table: CompressTable::large(),
            zstd: (compression == Compression::Zstd).then(context),
        }
    }

    /// What it encodes to.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The body of the object for a raw block. Without compression these are the same pages, else
    /// memory outside the pool, always compressed even when that is longer: there is no mark for
    /// blocks stored as they are.
    pub fn encode(&mut self, raw: Vec<Page>) -> Vec<Page> {
        if self.compression == Compression::None {
            return raw;
        }
        self.gathered.clear();
        raw.iter().for_each(|page| self.gathered.extend_from_slice(page));
        drop(raw);
        let written = match self.compression {
            Compression::Zstd => self.encode_zstd(),
            _ => self.encode_lz4(),
        };
        let most = self.compression.stored_bytes_max(self.gathered.len());
        assert!(written <= most, "JuiceFS cuts objects longer than {most}, this has {written}");
        vec![Page::from_vec(self.encoded[..written].to_vec())]
    }

    /// The raw block of `raw_bytes` from all bytes of its object.
    pub fn decode(&mut self, mut stored: Vec<u8>, raw_bytes: usize) -> Result<Vec<u8>, Damaged> {
        if self.compression == Compression::None {
            if stored.len() < raw_bytes {
                return Err(short(stored.len(), raw_bytes));
            }
            stored.truncate(raw_bytes);
            return Ok(stored);
        }
        // Exactly the raw length: whatever lies behind it is not a decoder's scratch space.
        let mut raw = pages::buffer(raw_bytes);
        self.decode_into(&stored, &mut raw)?;
        pages::give_back(stored);
        Ok(raw)
    }

    /// As [`Codec::decode`], into memory of exactly the raw length.
    pub fn decode_into(&mut self, stored: &[u8], raw: &mut [u8]) -> Result<(), Damaged> {
        let count = match self.compression {
            Compression::None => {
                let count = stored.len().min(raw.len());
                raw[..count].copy_from_slice(&stored[..count]);
                count
            }
            Compression::Lz4 => lz4_flex::block::decompress_into(stored, raw)
                .map_err(|error| Damaged(format!("LZ4: {error}")))?,
            Compression::Zstd => {
                let (_, decompressor) = self.zstd.as_mut().expect("made with the codec");
                decompressor
                    .decompress_to_buffer(stored, raw)
                    .map_err(|error| Damaged(format!("Zstandard: {error}")))?
            }
        };
        if count == raw.len() { Ok(()) } else { Err(short(count, raw.len())) }
    }

    fn encode_lz4(&mut self) -> usize {
        let most = get_maximum_output_size(self.gathered.len());
        self.room(most);
        compress_into_with_table(&self.gathered, &mut self.encoded, &mut self.table)
            .expect("the room is what the encoder asks for")
    }

    /// In one call, so that the frame names its content size: without it JuiceFS's reader asks for
    /// more memory than it has and refuses the block.
    fn encode_zstd(&mut self) -> usize {
        let most = zstd::zstd_safe::compress_bound(self.gathered.len());
        self.room(most);
        let (compressor, _) = self.zstd.as_mut().expect("made with the codec");
        compressor
            .compress_to_buffer(&self.gathered, self.encoded.as_mut_slice())
            .expect("the room is the encoder's bound")
    }

    fn room(&mut self, bytes: usize) {
        if self.encoded.len() < bytes {
            self.encoded.resize(bytes, 0);
        }
    }
}

fn short(found: usize, wanted: usize) -> Damaged {
    Damaged(format!("{found} bytes where the name says {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    fn encoded(codec: &mut Codec, raw: &[u8]) -> Vec<u8> {
        let pages = raw.chunks(65536).map(|piece| Page::from_vec(piece.to_vec())).collect();
        codec.encode(pages).iter().flat_map(|page| page.to_vec()).collect()
    }

    #[test]
    fn blocks_of_juicefs_decode() {
        let fixtures: [(Compression, &[u8], &[u8]); 2] = [
            (
                Compression::Lz4,
                include_bytes!("../../tests/fixtures/block_4096.lz4"),
                include_bytes!("../../tests/fixtures/block_4096.lz4.raw"),
            ),
            (
                Compression::Zstd,
                include_bytes!("../../tests/fixtures/block_4096.zstd"),
                include_bytes!("../../tests/fixtures/block_4096.zstd.raw"),
            ),
        ];
        for (compression, stored, raw) in fixtures {
            let decoded = Codec::new(compression).decode(stored.to_vec(), raw.len()).unwrap();
            assert!(decoded == raw, "{compression:?}");
        }
    }

    #[test]
    fn lz4_blocks_are_bare() {
        assert_eq!(encoded(&mut Codec::new(Compression::Lz4), b"hello"), b"\x50hello");
        let decoded = Codec::new(Compression::Lz4).decode(b"\x50hello".to_vec(), 5);
        assert_eq!(decoded.unwrap(), b"hello");
    }

    #[test]
    fn zstd_frames_name_their_content_size() {
        let mut codec = Codec::new(Compression::Zstd);
        for len in [1, 100, 70_000, 4 << 20] {
            let stored = encoded(&mut codec, &vec![9; len]);
            let named = zstd::zstd_safe::get_frame_content_size(&stored);
            assert_eq!(named.unwrap(), Some(len as u64));
        }
    }

    #[test]
    fn wrong_lengths_and_garbage_are_damage() {
        for compression in ALL {
            let mut codec = Codec::new(compression);
            let stored = encoded(&mut codec, &[3; 5000]);
            assert!(codec.decode(stored.clone(), 5001).is_err(), "{compression:?}");
            assert!(codec.decode(stored[..stored.len() - 1].to_vec(), 5000).is_err());
            assert!(codec.decode(Vec::new(), 1).is_err(), "an empty object");
            assert_eq!(codec.decode(stored, 5000).unwrap(), [3; 5000]);
        }
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut codec = Codec::new(compression);
            let stored = encoded(&mut codec, &[3; 5000]);
            assert!(codec.decode(stored, 4999).is_err(), "{compression:?}");
            assert!(codec.decode(vec![0xFF; 100], 5000).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn settings_are_matched_in_any_case() {
        assert_eq!(Compression::from_setting("LZ4"), Some(Compression::Lz4));
        assert_eq!(Compression::from_setting(""), Some(Compression::None));
        assert_eq!(Compression::from_setting("gzip"), None);
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let noise = proptest::collection::vec(any::<u8>(), 1..200_000);
        let runs = proptest::collection::vec((any::<u8>(), 1usize..3000), 1..60);
        let spread = |runs: Vec<(u8, usize)>| {
            runs.into_iter().flat_map(|(byte, len)| std::iter::repeat_n(byte, len)).collect()
        };
        prop_oneof![noise, runs.prop_map(spread)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_goes_in_comes_out_and_stays_in_bounds(raw in content()) {
            for compression in ALL {
                let mut codec = Codec::new(compression);
                let stored = encoded(&mut codec, &raw);
                prop_assert!(stored.len() <= compression.stored_bytes_max(raw.len()));
                prop_assert!(codec.decode(stored, raw.len()).unwrap() == raw);
            }
        }
    }

    #[test]
    fn a_codec_travels() {
        fn sends<T: Send>() {}
        sends::<Codec>();
    }
}
