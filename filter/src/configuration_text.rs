//! A snapshot as base64 and nothing else, for hosts whose configuration is a string.

use alloc::vec::Vec;

use crate::configuration::{ConfigurationError, decode};

/// What the base64 of a snapshot begins with: that of its magic, without the character that the byte after it is also part of.
const MAGIC: &[u8] = b"RURHRUZPTE";

/// Returns the snapshot if `configuration` is its base64, perhaps with white space around it, and any other configuration as it is.
///
/// # Errors
/// As of [`decode`].
pub(crate) fn snapshot_or(mut configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
    let without_end = configuration.trim_ascii_end().len();
    let start = configuration.len().saturating_sub(configuration.trim_ascii_start().len());
    if configuration.get(start..).is_some_and(|text| text.starts_with(MAGIC)) {
        configuration.truncate(without_end);
        decode(&mut configuration, start)?;
    }
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::snapshot_in;
    use alloc::string::{String, ToString};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use edgefold_snapshot::{Generation, MAX_SNAPSHOT_BYTES, NewSnapshot, Settings, Snapshot};

    fn snapshot(body: String) -> Vec<u8> {
        let generation = Generation { epoch: 0, next_offset: 7, expiry: None };
        let mut settings = Settings::default();
        settings.refusal.body = body;
        let settings = &settings;
        NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at: 0 }.encode_default_list([]).unwrap()
    }

    #[test]
    fn base64_of_any_length_is_decoded() {
        for length in (0..8).chain(6_000..6_008) {
            let snapshot = snapshot("x".repeat(length));
            let text = STANDARD.encode(&snapshot);
            for text in [text.clone(), alloc::format!(" \n{text}\r\n")] {
                assert!(snapshot_or(text.into_bytes()).unwrap() == snapshot, "{length}");
            }
        }
    }

    #[test]
    fn everything_else_is_left_as_it_is() {
        let snapshot = snapshot(String::new());
        let json = alloc::format!("{{\"snapshot\":\"{}\"}}", STANDARD.encode(&snapshot)).into_bytes();
        for other in [snapshot, json, b"".to_vec(), b" \n".to_vec(), b"hello".to_vec(), MAGIC[1..].to_vec()] {
            assert_eq!(snapshot_or(other.clone()).unwrap(), other);
        }
    }

    #[test]
    fn text_that_is_too_long_is_refused_with_the_reason() {
        let mut text = MAGIC.to_vec();
        text.resize(MAX_SNAPSHOT_BYTES + 1, b'A');
        let error = snapshot_or(text).unwrap_err().to_string();
        assert!(error.contains("longer than 256 MiB"), "{error}");
    }

    #[test]
    fn damaged_base64_is_refused_with_the_reason() {
        let text = STANDARD.encode(snapshot("x".repeat(6_000)));
        let opened =
            |text: &[u8]| Ok::<_, ConfigurationError>(Snapshot::open(snapshot_in(snapshot_or(text.into())?)?)?);
        for length in MAGIC.len()..text.len() {
            let error = opened(&text.as_bytes()[..length]).unwrap_err().to_string();
            let reason = if length % 4 == 0 { "truncated" } else { "is not base64" };
            assert!(error.contains(reason), "{length}: {error}");
        }
        let mut damaged = text.into_bytes();
        damaged[5_000] = b'?';
        let error = opened(&damaged).unwrap_err().to_string();
        assert!(error.contains("is not base64"), "{error}");
    }
}
