//! What django-redis does to serialized values to make them shorter.

use std::io::{self, Cursor, Read, Write};

use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use lzma_rust2::{XzOptions, XzReader, XzWriter};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::store::Compressor;

/// More than this no value becomes: a few bytes can stand for a lot.
const MAX_BYTES: usize = 16 << 20;

/// And no value has a decompressor take more memory than this to begin with.
const MAX_MEMORY: u32 = 16 << 20;

/// django-redis leaves values up to this length as they are.
const PLAIN: usize = 15;
const PLAIN_LZMA: usize = 100;

/// What its lzma compressor asks for.
const LZMA_PRESET: u32 = 4;

/// Compresses a value if it is long enough to be worth it.
pub(super) fn compress(value: Vec<u8>, compressor: Compressor) -> Vec<u8> {
    let plain = if compressor == Compressor::Lzma { PLAIN_LZMA } else { PLAIN };
    if value.len() <= plain {
        return value;
    }
    // Readers take values that are not compressed: if memory could fail to take what is written into it, this would do.
    compressed(&value, compressor).unwrap_or(value)
}

fn compressed(value: &[u8], compressor: Compressor) -> io::Result<Vec<u8>> {
    match compressor {
        Compressor::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(value)?;
            encoder.finish()
        }
        Compressor::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(value)?;
            Ok(encoder.finish()?)
        }
        Compressor::Lzma => {
            let mut options = XzOptions::with_preset(LZMA_PRESET);
            // A dictionary beyond the value serves nothing and takes memory, ten times its size.
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX).max(lzma_rust2::DICT_SIZE_MIN);
            options.lzma_options.dict_size = options.lzma_options.dict_size.min(length);
            let mut encoder = XzWriter::new(Vec::new(), options)?;
            encoder.write_all(value)?;
            encoder.finish()
        }
        Compressor::None => Ok(value.to_vec()),
        Compressor::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(value)?;
            encoder.finish()
        }
        Compressor::Zstd => Ok(compress_to_vec(value, CompressionLevel::Fastest)),
    }
}

/// The value before it was compressed; `None` if it never was.
pub(super) fn decompress(value: &[u8], compressor: Compressor) -> Option<Vec<u8>> {
    decompress_up_to(MAX_BYTES, value, compressor)
}

fn decompress_up_to(limit: usize, value: &[u8], compressor: Compressor) -> Option<Vec<u8>> {
    match compressor {
        Compressor::Gzip => read_up_to(limit, MultiGzDecoder::new(value)),
        Compressor::Lz4 => read_up_to(limit, lz4_flex::frame::FrameDecoder::new(value)),
        Compressor::Lzma => read_up_to(limit, XzReader::new_mem_limit(value, true, MAX_MEMORY >> 10)),
        Compressor::None => None,
        Compressor::Zlib => read_up_to(limit, ZlibDecoder::new(value)),
        Compressor::Zstd => {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(MAX_MEMORY.into());
            read_up_to(limit, StreamingDecoder::new_with_decoder(Cursor::new(value), decoder).ok()?)
        }
    }
}

fn read_up_to(limit: usize, decoder: impl Read) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let length = decoder.take(u64::try_from(limit).ok()? + 1).read_to_end(&mut value).ok()?;
    // Nothing that is serialized is empty; one decoder finds that in a few bytes which are not compressed at all.
    (1..=limit).contains(&length).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Compressor; 6] =
        [Compressor::Gzip, Compressor::Lz4, Compressor::Lzma, Compressor::None, Compressor::Zlib, Compressor::Zstd];

    #[test]
    fn short_values_stay_as_they_are() {
        for compressor in ALL {
            let plain = if compressor == Compressor::Lzma { 100 } else { 15 };
            assert_eq!(compress(vec![b'a'; plain], compressor), vec![b'a'; plain]);
            let longer = vec![b'a'; plain + 1];
            assert_eq!(compress(longer.clone(), compressor) == longer, compressor == Compressor::None);
        }
    }

    #[test]
    fn what_was_never_compressed_is_seen() {
        for compressor in ALL {
            for value in [b"".as_slice(), b"\x80\x02}.", b"{}", b"\x80", b"{\"a\": \"longer than fifteen bytes\"}"] {
                assert_eq!(decompress(value, compressor), None, "{compressor:?} {value:?}");
            }
        }
    }

    #[test]
    fn f7_a_value_that_grows_too_far_is_none() {
        const LIMIT: usize = 100_000;
        for compressor in ALL.into_iter().filter(|&compressor| compressor != Compressor::None) {
            let largest = compress(vec![0; LIMIT], compressor);
            assert!(largest.len() < LIMIT / 10, "{compressor:?}");
            assert_eq!(decompress_up_to(LIMIT, &largest, compressor), Some(vec![0; LIMIT]), "{compressor:?}");
            let larger = compress(vec![0; LIMIT + 1], compressor);
            assert_eq!(decompress_up_to(LIMIT, &larger, compressor), None, "{compressor:?}");
        }
    }

    /// What asks for gigabytes before it has shown a byte, as its header may.
    #[test]
    fn f7_a_decompressor_takes_no_more_memory_than_it_may() {
        let mut options = XzOptions::with_preset(LZMA_PRESET);
        options.lzma_options.dict_size = MAX_MEMORY + 1;
        options.lzma_options.mode = lzma_rust2::EncodeMode::Fast;
        options.lzma_options.mf = lzma_rust2::MfType::Hc4;
        let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(&[0; 200]).unwrap();
        assert_eq!(decompress(&encoder.finish().unwrap(), Compressor::Lzma), None);
        // A window of 128 MiB, then a last block of one byte.
        let zstd = b"\x28\xb5\x2f\xfd\x00\x88\x09\x00\x00a";
        assert_eq!(decompress(zstd, Compressor::Zstd), None);
        let zstd = b"\x28\xb5\x2f\xfd\x00\x08\x09\x00\x00a";
        assert_eq!(decompress(zstd, Compressor::Zstd).as_deref(), Some(b"a".as_slice()));
    }

    proptest! {
        #[test]
        fn values_come_back_and_no_bytes_panic(value in prop::collection::vec(0..4_u8, 0..600), noise in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            for compressor in ALL {
                let mut stored = compress(value.clone(), compressor);
                if stored != value {
                    prop_assert_eq!(decompress(&stored, compressor), Some(value.clone()), "{:?}", compressor);
                }
                let _ = decompress(&noise, compressor);
                if !stored.is_empty() {
                    let at = at.index(stored.len());
                    stored[at] ^= flip;
                    let _ = decompress(&stored, compressor);
                    stored.truncate(at);
                    let _ = decompress(&stored, compressor);
                }
            }
        }
    }
}
