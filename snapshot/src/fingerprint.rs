//! How a reader recognizes a snapshot that was validated before.

/// Identifies the bytes of a snapshot: their checksum and their length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

/// Bytes of a [`Fingerprint`].
const FINGERPRINT_BYTES: usize = 2 * size_of::<u64>();

impl Fingerprint {
    pub(crate) fn new(checksum: u64, len: usize) -> Self {
        Self((u128::from(checksum) << 64 | len as u128).to_le_bytes())
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
}
