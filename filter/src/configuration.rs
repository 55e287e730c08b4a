//! What a host hands over as the plugin's configuration: a snapshot, or JSON with one in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_table::{Snapshot, SnapshotError};

/// Opens the snapshot that is all of `configuration`, or is in it as `{"snapshot": "<base64>"}`: for hosts whose
/// configuration is JSON, such as Istio's `WasmPlugin`. Base64 is that of RFC 4648, section 4, with its padding.
///
/// # Errors
/// [`ConfigurationError`] says what is wrong; it depends on the bytes alone.
pub fn open(configuration: Vec<u8>) -> Result<Snapshot<Vec<u8>>, ConfigurationError> {
    // No snapshot begins so: it has a magic.
    if configuration.trim_ascii_start().first() != Some(&b'{') {
        return Ok(Snapshot::open(configuration)?);
    }
    let base64 = text_of_snapshot(&configuration).ok_or(ConfigurationError::Json)?;
    let bytes = STANDARD.decode(base64)?;
    // One of the three is enough in memory.
    drop(configuration);
    Ok(Snapshot::open(bytes)?)
}

/// The text in `{"snapshot": "<text>"}`.
///
/// By hand: a library for all of JSON would be a fifth of the module. The alphabet of base64 needs no escapes, but a writer
/// of JSON may escape any character (RFC 8259, section 7), and some do so with `/` and `=`.
fn text_of_snapshot(json: &[u8]) -> Option<Vec<u8>> {
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
    /// The snapshot is none.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is JSON with something else in it, or something that only begins as JSON does.
    #[error("the configuration begins as JSON, but is not {{\"snapshot\": \"<base64>\"}} and nothing else")]
    Json,
    /// The text is no base64.
    #[error("the snapshot in the configuration is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgefold_table::{Generation, Settings};

    fn snapshot() -> Vec<u8> {
        let generation = Generation { next_offset: 7, expiry: None };
        Snapshot::build("edgefold", generation, 0, Settings::default(), []).unwrap()
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
        ] {
            assert_eq!(open(configuration).unwrap().header().generation.next_offset, 7);
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let refused = |configuration: &str| open(configuration.as_bytes().to_vec()).unwrap_err().to_string();
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
    }
}
