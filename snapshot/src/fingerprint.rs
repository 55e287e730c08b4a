//! How a reader recognizes a snapshot: one that was validated before, or the base of an overlay.

use core::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};

use crate::header::HEADER_OFFSET;

/// Identifies the bytes of a snapshot: their checksum and their length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

/// Bytes of a [`Fingerprint`].
const FINGERPRINT_BYTES: usize = 2 * size_of::<u64>();

impl Fingerprint {
    pub(crate) fn new(checksum: u64, len: usize) -> Self {
        Self((u128::from(checksum) << 64 | len as u128).to_le_bytes())
    }

    /// What `snapshot`, the bytes of a valid snapshot, says to be its fingerprint; `None` if it is too short.
    pub fn of(snapshot: &[u8]) -> Option<Self> {
        let (content, checksum) = snapshot.split_last_chunk()?;
        (content.len() >= HEADER_OFFSET).then(|| Self::new(u64::from_le_bytes(*checksum), snapshot.len()))
    }

    fn parts(self) -> (u64, u64) {
        let bits = u128::from_le_bytes(self.0);
        ((bits >> 64) as u64, bits as u64)
    }

    /// The fingerprint as bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The fingerprint that [`Fingerprint::as_bytes`] returned; `None` if `bytes` have another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// The checksum in hexadecimal, as in `b0cc6707ae634e46`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.parts().0)
    }
}

/// The checksum and the length.
impl Encode for Fingerprint {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.parts().encode(encoder)
    }
}

impl<Context> Decode<Context> for Fingerprint {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (checksum, len) = <(u64, u64)>::decode(decoder)?;
        Ok(Self((u128::from(checksum) << 64 | u128::from(len)).to_le_bytes()))
    }
}

impl_borrow_decode!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_stored_and_read_back() {
        let fingerprint = Fingerprint::new(7, 300);
        assert_eq!(Fingerprint::from_bytes(fingerprint.as_bytes()), Some(fingerprint));
        assert_ne!(fingerprint, Fingerprint::new(8, 300), "another checksum");
        assert_ne!(fingerprint, Fingerprint::new(7, 301), "another length");
        assert_eq!(Fingerprint::from_bytes(&fingerprint.as_bytes()[1..]), None);
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
