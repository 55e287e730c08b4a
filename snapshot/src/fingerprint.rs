//! How a reader recognizes a snapshot: one that was validated before, or the base of an overlay.

use core::fmt;

use bincode::{Decode, Encode};

use crate::header::HEADER_OFFSET;

/// Identifies the bytes of a snapshot: their checksum and their length.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Fingerprint {
    checksum: u64,
    len: u64,
}

impl Fingerprint {
    pub(crate) fn new(checksum: u64, len: usize) -> Self {
        Self { checksum, len: len as u64 }
    }

    /// What `snapshot`, the bytes of a valid snapshot, says to be its fingerprint; `None` if it is too short.
    pub fn of(snapshot: &[u8]) -> Option<Self> {
        let (content, checksum) = snapshot.split_last_chunk()?;
        (content.len() >= HEADER_OFFSET).then(|| Self::new(u64::from_le_bytes(*checksum), snapshot.len()))
    }

    /// The length of the snapshot in bytes.
    pub fn bytes(self) -> u64 {
        self.len
    }

    /// The fingerprint of a snapshot with this length in bytes, whose checksum is `text`, as [`Display`](fmt::Display) writes it; `None` if
    /// it writes it in another way.
    pub fn from_text(text: &str, bytes: u64) -> Option<Self> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let checksum = u64::from_str_radix(text, 16).ok()?;
        (text.len() == 16 && text.bytes().all(is_hex)).then_some(Self { checksum, len: bytes })
    }

    /// The fingerprint as bytes, to be stored.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.checksum) << 64 | u128::from(self.len)).to_le_bytes()
    }

    /// The fingerprint that [`Fingerprint::to_bytes`] returned; `None` if `bytes` have another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        let (len, checksum) = bytes.split_first_chunk()?;
        Some(Self { checksum: u64::from_le_bytes(*checksum.first_chunk()?), len: u64::from_le_bytes(*len) })
    }
}

/// The checksum in hexadecimal, as in `b0cc6707ae634e46`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_stored_and_read_back() {
        let fingerprint = Fingerprint::new(7, 300);
        assert_eq!(Fingerprint::from_bytes(&fingerprint.to_bytes()), Some(fingerprint));
        assert_ne!(fingerprint, Fingerprint::new(8, 300), "another checksum");
        assert_ne!(fingerprint, Fingerprint::new(7, 301), "another length");
        assert_eq!(Fingerprint::from_bytes(&fingerprint.to_bytes()[1..]), None);
    }

    #[test]
    fn a_fingerprint_is_encoded_as_its_checksum_and_its_length() {
        let fingerprint = Fingerprint::new(u64::MAX - 1, 3_000_000_000);
        let bytes = bincode::encode_to_vec(fingerprint, crate::header::configuration()).unwrap();
        assert_eq!(
            bytes,
            [&[0xfd, 0xfe, 255, 255, 255, 255, 255, 255, 255, 0xfc], &3_000_000_000_u32.to_le_bytes()[..]].concat()
        );
        let decoded: (Fingerprint, usize) = bincode::decode_from_slice(&bytes, crate::header::configuration()).unwrap();
        assert_eq!((decoded.0, decoded.0.to_string()), (fingerprint, "fffffffffffffffe".to_owned()));
    }
}
