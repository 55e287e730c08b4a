//! Finds the snapshot in a plugin's configuration, which is either the snapshot itself or JSON that contains it.

use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgefold_snapshot::{MAX_SNAPSHOT_BYTES, OpenError};

/// The length of base64 that is decoded at once: a multiple of 4.
const BLOCK: usize = 4096;

/// Returns the snapshot that `configuration` is, or that it contains as `{"snapshot": "<base64>"}`, for hosts whose configuration
/// is JSON. The JSON may be text, which is what Istio's `WasmPlugin` passes on, or an encoded `google.protobuf.Struct`, which
/// is what Envoy passes on. Base64 is that of RFC 4648, section 4, with padding. JSON may be as long as a snapshot, so the snapshot in
/// it has at most three quarters of that.
///
/// # Errors
/// [`ConfigurationError`] if it is JSON of another form.
pub fn snapshot_in(mut configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
    // A snapshot starts with its magic, and so never like JSON or a `Struct`.
    if let Some(text) = text_of_struct(&configuration) {
        let start = place_of(text, &configuration);
        decode(&mut configuration, start)?;
    } else if configuration.trim_ascii_start().first() == Some(&b'{') {
        let start = text_of_json(&mut configuration).ok_or(ConfigurationError::Json)?;
        decode(&mut configuration, start)?;
    }
    Ok(configuration)
}

/// Where the last bytes of `bytes` start.
fn place_of(last: &[u8], bytes: &[u8]) -> usize {
    bytes.len().saturating_sub(last.len())
}

/// Replaces `bytes` by what their base64 from `start` on decodes to. In place, and with the limit of a snapshot for the base64 itself:
/// beside the snapshot in force, a VM has no memory for more, and would trap if it had to allocate it.
pub(crate) fn decode(bytes: &mut Vec<u8>, start: usize) -> Result<(), ConfigurationError> {
    if bytes.len() > MAX_SNAPSHOT_BYTES {
        return Err(OpenError::TooLong.into());
    }
    let mut decoded = [0; BLOCK / 4 * 3];
    let (mut from, mut to) = (start, 0_usize);
    while from < bytes.len() {
        let next = bytes.len().min(from.saturating_add(BLOCK));
        let base64 = bytes.get(from..next).unwrap_or_default();
        let length = STANDARD.decode_slice(base64, &mut decoded).map_err(|_| ConfigurationError::Base64)?;
        // Only the last block may have padding. The others are as long as `decoded`.
        if next < bytes.len() && length < decoded.len() {
            return Err(ConfigurationError::Base64);
        }
        let end = to.saturating_add(length);
        if let (Some(place), Some(decoded)) = (bytes.get_mut(to..end), decoded.get(..length)) {
            place.copy_from_slice(decoded);
        }
        (from, to) = (next, end);
    }
    bytes.truncate(to);
    Ok(())
}

/// The text in a `google.protobuf.Struct` with the field `snapshot` and no other.
fn text_of_struct(bytes: &[u8]) -> Option<&[u8]> {
    // An entry of the map Struct.fields has a key and a Value, which has a string_value.
    const FIELDS: u8 = 0x0a;
    const KEY: &[u8] = b"\x0a\x08snapshot";
    const VALUE: u8 = 0x12;
    const STRING_VALUE: u8 = 0x1a;
    let entry = whole_field(bytes, FIELDS)?;
    whole_field(whole_field(entry.strip_prefix(KEY)?, VALUE)?, STRING_VALUE)
}

/// The content of a length-delimited field with this tag, which must be all of `bytes`.
fn whole_field(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(&[tag])?;
    let mut len = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        len |= u64::from(byte & 0x7f) << shift;
        rest = after;
        if byte < 0x80 {
            return (len == rest.len() as u64).then_some(rest);
        }
    }
    None
}

/// Shortens `{"snapshot": "<text>"}` to where the text ends, and returns where it starts. Its escapes are replaced.
///
/// This is parsed by hand, because a JSON library would be a fifth of the module. Base64 needs no escapes, but JSON allows them
/// for any character (RFC 8259, section 7), and some writers escape `/` and `=`.
fn text_of_json(json: &mut Vec<u8>) -> Option<usize> {
    let mut rest = json.as_slice();
    for token in [&b"{"[..], b"\"snapshot\"", b":", b"\""] {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    let start = place_of(rest, json);
    let (mut from, mut to) = (start, start);
    loop {
        let rest = json.get(from..)?;
        let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let from_special = rest.get(special..)?;
        let escaped = match from_special.strip_prefix(b"\"") {
            Some(after) if after.trim_ascii() == b"}" => None,
            Some(_) => return None,
            None => {
                let (character, after) = unescape(from_special)?;
                Some((character, place_of(after, json)))
            }
        };
        // Nothing has to move before the first escape.
        if from != to {
            json.copy_within(from..from.checked_add(special)?, to);
        }
        to = to.checked_add(special)?;
        let Some((character, after)) = escaped else { break };
        *json.get_mut(to)? = character;
        (from, to) = (after, to.checked_add(1)?);
    }
    json.truncate(to);
    Some(start)
}

/// The ASCII character of the escape at the start of `text`, and the rest.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    if let Some(after) = text.strip_prefix(b"\\/") {
        return Some((b'/', after));
    }
    let (digits, after) = text.strip_prefix(b"\\u00")?.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    let character = u8::try_from(high? << 4 | low?).ok().filter(u8::is_ascii)?;
    Some((character, after))
}

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The host does not provide it, or there is no memory for it.
    #[error("the host does not provide the configuration, or there is no memory for it")]
    NotProvided,
    /// The snapshot is invalid.
    #[error(transparent)]
    Snapshot(#[from] OpenError),
    /// It starts like JSON, but is something else.
    #[error("the configuration starts like JSON, but is not {{\"snapshot\": \"<base64>\"}} and nothing else")]
    Json,
    /// The text is not base64.
    #[error("the snapshot in the configuration is not base64")]
    Base64,
    /// It names a file that cannot be read, or that has another snapshot.
    #[error("{0}")]
    File(String),
    /// It is a base or an overlay, and the host does not let plugins share snapshots.
    #[error(
        "it is half of a pair of a base and an overlay, and this host takes only whole snapshots: see `edgefold snapshot`"
    )]
    Pair,
    /// A newer snapshot is in force, or waits for its base.
    #[error("it is older than the one in force: raise the epoch to go back on purpose")]
    Older,
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgefold_snapshot::{Generation, NewSnapshot, Settings, Snapshot};

    fn open(configuration: Vec<u8>) -> Result<Snapshot<Vec<u8>>, ConfigurationError> {
        Ok(Snapshot::open(snapshot_in(configuration)?)?)
    }

    fn snapshot() -> Vec<u8> {
        snapshot_with(alloc::string::String::new())
    }

    fn snapshot_with(body: alloc::string::String) -> Vec<u8> {
        let generation = Generation { epoch: 0, next_offset: 7, expiry: None };
        let mut settings = Settings::default();
        settings.refusal.body = body;
        let settings = &settings;
        NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at: 0 }.encode_default_list([]).unwrap()
    }

    fn as_struct(base64: &str) -> Vec<u8> {
        let field = |tag: u8, content: &[u8]| {
            let len = u8::try_from(content.len() & 0x7f).unwrap() | 0x80;
            [&[tag, len, u8::try_from(content.len() >> 7).unwrap()], content].concat()
        };
        field(0x0a, &[b"\x0a\x08snapshot", &*field(0x12, &field(0x1a, base64.as_bytes()))].concat())
    }

    #[test]
    fn a_snapshot_is_accepted_as_bytes_and_as_json() {
        let base64 = STANDARD.encode(snapshot());
        let escaped = base64.replace('/', "\\/").replace('=', "\\u003D").replace('R', "\\u0052");
        assert_ne!(base64, escaped);
        for configuration in [
            snapshot(),
            format!("{{\"snapshot\":\"{base64}\"}}").into_bytes(),
            format!(" \n{{ \"snapshot\" : \"{escaped}\" }}\n").into_bytes(),
            as_struct(&base64),
        ] {
            assert_eq!(open(configuration).unwrap().header().generation.next_offset, 7);
        }
    }

    /// Base64 is decoded in blocks.
    #[test]
    fn a_snapshot_of_any_length_is_accepted_as_json() {
        for length in (0..8).chain(BLOCK / 4 * 6 - 200..BLOCK / 4 * 6) {
            let snapshot = snapshot_with("x".repeat(length));
            let base64 = STANDARD.encode(&snapshot);
            let escaped = base64.replace('e', "\\u0065");
            for text in [base64, escaped] {
                let mut json = format!("{{\"snapshot\":\"{text}\"}}").into_bytes();
                let start = text_of_json(&mut json).unwrap();
                decode(&mut json, start).unwrap();
                assert!(json == snapshot, "{length}");
            }
        }
    }

    #[test]
    fn json_may_be_as_long_as_a_snapshot() {
        let with_length = |length: usize| {
            let mut json = b"{\"snapshot\":\"".to_vec();
            json.resize(length - 2, b'A');
            json.extend(b"\"}");
            open(json).unwrap_err().to_string()
        };
        let longest = MAX_SNAPSHOT_BYTES - 1; // A multiple of 4, and 15 bytes around it.
        assert!(with_length(longest).contains("not an edgefold snapshot"));
        assert!(with_length(longest + 4).contains("longer than 256 MiB"));
    }

    #[test]
    fn base64_has_padding_only_at_its_end() {
        let block = STANDARD.encode([7; BLOCK / 4 * 3 - 1]);
        assert!(block.len() == BLOCK && block.ends_with('='));
        let decoded = |text: String| decode(&mut text.into_bytes(), 0).map_err(|error| error.to_string());
        assert_eq!(decoded(block.clone()), Ok(()));
        assert!(decoded(block.clone() + &block).unwrap_err().contains("is not base64"));
        assert!(decoded(block + "AAAA").unwrap_err().contains("is not base64"));
        assert!(decoded("A".repeat(BLOCK + 1)).unwrap_err().contains("is not base64"));
    }

    #[test]
    fn the_text_in_a_struct_has_any_length() {
        for text in (0..300).map(|length| "A".repeat(length)) {
            assert_eq!(text_of_struct(&as_struct(&text)), Some(text.as_bytes()));
        }
    }

    #[test]
    fn the_error_says_what_is_wrong() {
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
            assert!(refused(&other).contains("starts like JSON"), "{other}");
        }
        assert!(refused(&format!("{{\"snapshot\": \"{}\"}}", &base64[1..])).contains("is not base64"));
        assert!(refused(&format!("{{\"snapshot\": \"{}\"}}", &base64[4..])).contains("not an edgefold snapshot"));
        assert!(refused("{\"snapshot\": \"\"}").contains("no bytes at all"));
        let mut longer = as_struct(&base64);
        longer.push(0);
        assert!(open(longer).unwrap_err().to_string().contains("not an edgefold snapshot"));
        assert!(open(as_struct("???")).unwrap_err().to_string().contains("is not base64"));
    }
}
