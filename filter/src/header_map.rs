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
