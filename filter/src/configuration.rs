//! What a host hands over as the plugin's configuration: a snapshot, or JSON with one in it.

use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_table::{Fingerprint, Snapshot, SnapshotError};

/// Opens the snapshot that is all of `configuration`, or is in it as `{"snapshot": "<base64>"}`, for hosts whose
/// configuration is JSON: as its text, which Istio's `WasmPlugin` hands over, or as a `google.protobuf.Struct`, which Envoy
/// hands over as it is encoded. Base64 is that of RFC 4648, section 4, with its padding.
///
/// `known` is the fingerprint of a snapshot that was opened before, in another VM: see [`Snapshot::open_known`].
///
/// # Errors
/// [`ConfigurationError`] says what is wrong; it depends on the bytes alone.
pub fn open(configuration: Vec<u8>, known: Option<Fingerprint>) -> Result<Snapshot<Vec<u8>>, ConfigurationError> {
    // No snapshot begins so: it has a magic.
    let bytes = if let Some(base64) = text_of_struct(&configuration) {
        decode(base64)?
    } else if configuration.trim_ascii_start().first() == Some(&b'{') {
        decode(&text_of_json(&configuration).ok_or(ConfigurationError::Json)?)?
    } else {
        return Ok(Snapshot::open_known(configuration, known)?);
    };
    // One of the two is enough in memory.
    drop(configuration);
    Ok(Snapshot::open_known(bytes, known)?)
}

fn decode(base64: &[u8]) -> Result<Vec<u8>, ConfigurationError> {
    STANDARD.decode(base64).map_err(|_| ConfigurationError::Base64)
}

/// The text in a `google.protobuf.Struct` with the field `snapshot` and no other.
fn text_of_struct(bytes: &[u8]) -> Option<&[u8]> {
    // Struct.fields is an entry of a map, with a key and a Value, which has a string_value.
    const FIELDS: u8 = 0x0a;
    const KEY: &[u8] = b"\x0a\x08snapshot";
    const VALUE: u8 = 0x12;
    const STRING_VALUE: u8 = 0x1a;
    let entry = whole_field(bytes, FIELDS)?;
    whole_field(whole_field(entry.strip_prefix(KEY)?, VALUE)?, STRING_VALUE)
}

/// What is in `bytes`, which are one field of that tag, with a length, and nothing else.
fn whole_field(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(&[tag])?;
    let mut len = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        len |= u64::from(byte & 0x7f) << shift;
        rest = behind;
        if byte < 0x80 {
            return (len == rest.len() as u64).then_some(rest);
        }
    }
    None
}

/// The text in `{"snapshot": "<text>"}`.
///
/// By hand: a library for all of JSON would be a fifth of the module. The alphabet of base64 needs no escapes, but a writer
/// of JSON may escape any character (RFC 8259, section 7), and some do so with `/` and `=`.
fn text_of_json(json: &[u8]) -> Option<Vec<u8>> {
    let mut rest = json;
    for token in [&b"{"[..], b"\"snapshot\"", b":", b"\""] {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    let mut text = Vec::with_capacity(rest.len());
    loop {
        let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (plain, from_special) = rest.split_at_checked(special)?;
        text.extend_from_slice(plain);
        if let Some(behind) = from_special.strip_prefix(b"\"") {
            return (behind.trim_ascii() == b"}").then_some(text);
        }
        let (character, behind) = unescape(from_special)?;
        text.push(character);
        rest = behind;
    }
}

/// The ASCII character that an escape at the start of `text` stands for, and what is behind it.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    if let Some(behind) = text.strip_prefix(b"\\/") {
        return Some((b'/', behind));
    }
    let (digits, behind) = text.strip_prefix(b"\\u00")?.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    let character = u8::try_from(high? << 4 | low?).ok().filter(u8::is_ascii)?;
    Some((character, behind))
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The host does not give it, or there is no memory for it.
    #[error("the host does not hand over the configuration, or there is no memory for it")]
    NotHandedOver,
    /// The snapshot is none.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It begins as JSON does, and goes on otherwise.
    #[error("the configuration begins as JSON, but is not {{\"snapshot\": \"<base64>\"}} and nothing else")]
    Json,
    /// The text is no base64.
    #[error("the snapshot in the configuration is no base64")]
    Base64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgefold_table::{Generation, Settings};

    fn snapshot() -> Vec<u8> {
        let generation = Generation { next_offset: 7, expiry: None };
        Snapshot::build("edgefold", generation, 0, Settings::default(), []).unwrap()
    }

    fn as_struct(base64: &str) -> Vec<u8> {
        let field = |tag: u8, content: &[u8]| {
            let len = u8::try_from(content.len() & 0x7f).unwrap() | 0x80;
            [&[tag, len, u8::try_from(content.len() >> 7).unwrap()], content].concat()
        };
        field(0x0a, &[b"\x0a\x08snapshot", &*field(0x12, &field(0x1a, base64.as_bytes()))].concat())
    }

    #[test]
    fn a_snapshot_is_taken_as_bytes_and_as_json() {
        let base64 = STANDARD.encode(snapshot());
        let escaped = base64.replace('/', "\\/").replace('=', "\\u003D").replace('R', "\\u0052");
        assert_ne!(base64, escaped);
        for configuration in [
            snapshot(),
            format!("{{\"snapshot\":\"{base64}\"}}").into_bytes(),
            format!(" \n{{ \"snapshot\" : \"{escaped}\" }}\n").into_bytes(),
            as_struct(&base64),
        ] {
            assert_eq!(open(configuration, None).unwrap().header().generation.next_offset, 7);
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let refused = |configuration: &str| open(configuration.as_bytes().to_vec(), None).unwrap_err().to_string();
        assert!(refused("").contains("no bytes at all"));
        assert!(refused("hello").contains("not an edgefold snapshot"));
        let base64 = STANDARD.encode(snapshot());
        for other in [
            "{}".to_owned(),
            "{\"snapshot\": 7}".to_owned(),
            "{\"snapshot\"".to_owned(),
            "{\"snapshot\": \"".to_owned(),
            "{\"snapshot\": \"\\".to_owned(),
            "{\"snapshot\": \"\\u00\"}".to_owned(),
            "{\"snapshot\": \"\\u00e9\"}".to_owned(),
            "{\"snapshot\": \"\\n\"}".to_owned(),
            format!("{{\"snapshot\": \"{base64}\""),
            format!("{{\"snapshot\": \"{base64}\"}} more"),
            format!("{{\"snapshot\": \"{base64}\", \"mode\": \"shadow\"}}"),
        ] {
            assert!(refused(&other).contains("begins as JSON"), "{other}");
        }
        assert!(refused(&format!("{{\"snapshot\": \"{}\"}}", &base64[1..])).contains("no base64"));
        assert!(refused(&format!("{{\"snapshot\": \"{}\"}}", &base64[4..])).contains("not an edgefold snapshot"));
        assert!(refused("{\"snapshot\": \"\"}").contains("no bytes at all"));
        let mut longer = as_struct(&base64);
        longer.push(0);
        assert!(open(longer, None).unwrap_err().to_string().contains("not an edgefold snapshot"));
        assert!(open(as_struct("???"), None).unwrap_err().to_string().contains("no base64"));
    }
}
