//! Unpacks compressed record batches, in pure Rust and with a bound on what comes out; packs them where a topic wants another codec than its producer chose.
//!
//! Codecs as the batch's attributes number them: 1 gzip, 2 snappy (xerial's framing as the Java client writes it, or one raw block), 3 lz4 (frame format), 4
//! zstd. Wherever a broker passes batches on untouched this is not needed: only to look inside.

use std::io::{Read, Write};

/// Magic of xerial's snappy framing; then version and compatible version (i32 each), then blocks of (length i32, raw snappy).
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// What one of its blocks holds unpacked, as the Java client writes them.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The records of a batch compressed with `codec`; `None` when the bytes are damaged, the codec is unknown, or more than `bytes_max` bytes would
/// come out. Never panics; allocates no more than about `bytes_max`, whatever the bytes claim.
pub fn unpack(codec: u8, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    match codec {
        0 => (bytes.len() <= bytes_max).then(|| bytes.to_vec()),
        1 => read(flate2::read::MultiGzDecoder::new(bytes), bytes_max),
        2 => snappy(bytes, bytes_max),
        3 => read(lz4_flex::frame::FrameDecoder::new(bytes), bytes_max),
        4 => zstd(bytes, bytes_max),
        _ => None,
    }
}

/// Records packed with `codec`, as every Kafka client can read them: snappy in xerial's framing, lz4 in frames of independent blocks. Each codec has one level here: that
/// of gzip is its own default, those of the others their fastest.
///
/// # Panics
/// When there is no such codec.
pub fn pack(codec: u8, plain: &[u8]) -> Vec<u8> {
    // Writing to memory does not fail.
    let written = |result: std::io::Result<Vec<u8>>| result.unwrap_or_else(|e| panic!("codec {codec}: {e}"));
    match codec {
        0 => plain.to_vec(),
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            written(gzip.write_all(plain).and_then(|()| gzip.finish()))
        }
        2 => {
            let mut out = [XERIAL, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
            let mut encoder = snap::raw::Encoder::new();
            for part in plain.chunks(XERIAL_BLOCK_BYTES) {
                let block = encoder.compress_vec(part).unwrap_or_else(|e| panic!("snappy of {}: {e}", part.len()));
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        3 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            written(lz4.write_all(plain).and_then(|()| lz4.finish().map_err(std::io::Error::other)))
        }
        4 => ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
        codec => panic!("there is no codec {codec}"),
    }
}

fn read(from: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() <= bytes_max).then_some(out)
}

fn zstd(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // The decoder holds a window of the size the frame claims: not above what may come out, nor above what decoders are to support (8 MiB).
    let window_max = (bytes_max as u64).max(8 << 20);
    read(ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, window_max).ok()?, bytes_max)
}

fn snappy(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if !bytes.starts_with(XERIAL) {
        block(bytes, bytes_max, &mut out)?;
        return Some(out);
    }
    let mut rest = bytes.get(XERIAL_HEADER_BYTES..)?;
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(i32::from_be_bytes(*len)).ok()?;
        block(after.get(..len)?, bytes_max, &mut out)?;
        rest = &after[len..];
    }
    Some(out)
}

/// One raw snappy block, appended to `out`.
fn block(bytes: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Option<()> {
    let len = snap::raw::decompress_len(bytes).ok()?;
    // A block grows at most some 21 times (a copy of 64 bytes from 3): a claim above that is a lie.
    if out.len() + len > bytes_max || len > bytes.len().saturating_mul(24) {
        return None;
    }
    let at = out.len();
    out.resize(at + len, 0);
    let n = snap::raw::Decoder::new().decompress(bytes, &mut out[at..]).ok()?;
    (n == len).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        (0..20_000u32).flat_map(|n| (n / 7).to_be_bytes()).collect()
    }

    fn packed(codec: u8) -> Vec<u8> {
        pack(codec, &plain())
    }

    #[test]
    fn every_codec_gives_back_what_was_packed() {
        for codec in 0..=4 {
            assert!(unpack(codec, &packed(codec), 1 << 20) == Some(plain()), "codec {codec}");
            // Long, short, and such as no codec makes smaller.
            let mut noise = 7u32;
            for len in [0, 1, 100, 70_000, 1 << 20] {
                let bytes: Vec<u8> = std::iter::repeat_with(|| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8
                })
                .take(len)
                .collect();
                assert!(unpack(codec, &pack(codec, &bytes), 1 << 20) == Some(bytes), "codec {codec}, {len} bytes");
            }
        }
        let raw = snap::raw::Encoder::new().compress_vec(&plain()).unwrap();
        assert!(unpack(2, &raw, 1 << 20) == Some(plain()), "raw snappy");
        assert_eq!(unpack(5, b"abc", 10), None);
    }

    #[test]
    fn more_than_allowed_is_refused() {
        let len = plain().len();
        for codec in 1..=4 {
            assert_eq!(unpack(codec, &packed(codec), len - 1), None, "codec {codec}");
            assert!(unpack(codec, &packed(codec), len).is_some(), "codec {codec}");
        }
    }

    #[test]
    fn damage_never_panics() {
        for codec in 1..=4 {
            let good = packed(codec);
            for cut in (0..good.len()).step_by(97) {
                let _ = unpack(codec, &good[..cut], 1 << 20);
                let mut bad = good.clone();
                bad[cut] ^= 0x55;
                let _ = unpack(codec, &bad, 1 << 20);
            }
        }
    }
}
