//! Headers, as proxy-wasm passes them to the host.

use alloc::string::String;
use alloc::vec::Vec;

/// The headers as a proxy-wasm map: the number of pairs, the lengths of each name and value, and then each name and value
/// followed by NUL. Lengths are u32, little-endian.
///
/// <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1#serialization>
pub(crate) fn encode(content_type: Option<&str>, headers: &[(String, String)]) -> Vec<u8> {
    let content_type = content_type.map(|value| ("content-type", value));
    let pairs = || content_type.into_iter().chain(headers.iter().map(|(name, value)| (&**name, &**value)));
    // The header of a snapshot, and with it any name or value, is far shorter than a u32 can express.
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut encoded = length(pairs().count()).to_vec();
    for (name, value) in pairs() {
        encoded.extend(length(name.len()));
        encoded.extend(length(value.len()));
    }
    for text in pairs().flat_map(|(name, value)| [name, value]) {
        encoded.extend(text.bytes());
        encoded.push(0);
    }
    encoded
}

/// The names and values in a proxy-wasm map. `None` if it is damaged.
#[cfg(any(feature = "portable", test))]
pub(crate) fn decode(encoded: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, rest) = number(encoded)?;
    let (mut lengths, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut pairs = Vec::new();
    while !lengths.is_empty() {
        let (name_len, after_name) = number(lengths)?;
        let (value_len, after_value) = number(after_name)?;
        let (name, after) = texts.split_at_checked(name_len)?;
        let (value, after) = after.strip_prefix(b"\0")?.split_at_checked(value_len)?;
        pairs.push((name, value));
        (lengths, texts) = (after_value, after.strip_prefix(b"\0")?);
    }
    Some(pairs)
}

#[cfg(any(feature = "portable", test))]
fn number(encoded: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = encoded.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_what_is_cut_is_not() {
        let headers = [("a".into(), String::new()), ("bc".into(), "d\0".into())];
        let encoded = encode(Some("text/plain"), &headers);
        let pairs: [(&[u8], &[u8]); 3] = [(b"content-type", b"text/plain"), (b"a", b""), (b"bc", b"d\0")];
        assert_eq!(decode(&encoded).unwrap(), pairs);
        for length in 0..encoded.len() {
            assert_eq!(decode(&encoded[..length]), None);
        }
        assert_eq!(decode(&[0; 4]).unwrap(), []);
    }
}
