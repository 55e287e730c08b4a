//! A snapshot in a file of its own, and the configuration that names it.

use alloc::format;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use crate::Fingerprint;

/// No configuration that names a file is longer. What a path may have on Linux, 4,096 bytes, may take six times that in JSON.
const MAX_CONFIGURATION_BYTES: usize = 32 * 1024;

/// A file with a snapshot. A configuration of the dynamic module may name one rather than have the snapshot in it, since Envoy keeps
/// several copies of each configuration.
///
/// ```
/// use edgefold_snapshot::SnapshotFile;
///
/// let configuration = r#"{"snapshot_file": "/etc/edgefold/list.snapshot", "fingerprint": "b0cc6707ae634e46", "bytes": 300}"#;
/// let file = SnapshotFile::named_in(configuration.as_bytes())?.expect("it names a file");
/// assert_eq!(file.path, "/etc/edgefold/list.snapshot");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotFile {
    /// Where it is, as Envoy sees it.
    pub path: String,
    /// That of the snapshot. A file with another one is not what was meant.
    pub fingerprint: Fingerprint,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Json {
    snapshot_file: String,
    fingerprint: String,
    bytes: u64,
}

impl SnapshotFile {
    /// The configuration that names it.
    pub fn to_configuration(&self) -> String {
        let Self { path, fingerprint } = self;
        let bytes = fingerprint.bytes();
        let json = Json { snapshot_file: path.clone(), fingerprint: fingerprint.to_string(), bytes };
        // Texts and a number can always be written.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// The file that a configuration names; `None` if it names none.
    ///
    /// # Errors
    /// A text, if it looks as if it were to name one.
    pub fn named_in(configuration: &[u8]) -> Result<Option<Self>, String> {
        const KEY: &[u8] = b"\"snapshot_file\"";
        let is_short = configuration.len() <= MAX_CONFIGURATION_BYTES;
        let has_key = || configuration.windows(KEY.len()).any(|window| window == KEY);
        if !is_short || configuration.trim_ascii_start().first() != Some(&b'{') || !has_key() {
            return Ok(None);
        }
        let form = r#"write {"snapshot_file": "/PATH", "fingerprint": "16 HEXADECIMAL DIGITS", "bytes": NUMBER}"#;
        let json: Json =
            serde_json::from_slice(configuration).map_err(|error| format!("the configuration: {error}: {form}"))?;
        let fingerprint = Fingerprint::from_text(&json.fingerprint, json.bytes)
            .ok_or_else(|| format!("the configuration: the fingerprint is not that of `edgefold inspect`: {form}"))?;
        Ok(Some(Self { path: json.snapshot_file, fingerprint }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_names_a_file_is_written_and_read_back() {
        for path in ["/list.snapshot", "/a \"quoted\"\n/\u{fc}\\"] {
            let file = SnapshotFile { path: path.to_owned(), fingerprint: Fingerprint::new(7, 300) };
            let configuration = file.to_configuration();
            assert_eq!(SnapshotFile::named_in(configuration.as_bytes()), Ok(Some(file)), "{configuration}");
        }
    }

    #[test]
    fn other_configurations_name_no_file_and_damaged_ones_say_what_is_wrong() {
        for other in ["", "EDGEFOLD", "{\"snapshot\": \"RURH\"}", "{}", "{"] {
            assert_eq!(SnapshotFile::named_in(other.as_bytes()), Ok(None), "{other}");
        }
        let damaged = [
            (r#"{"snapshot_file": "/a"}"#, "missing field `fingerprint`"),
            (r#"{"snapshot_file": 1, "fingerprint": "b0cc6707ae634e46", "bytes": 1}"#, "expected a string"),
            (r#"{"snapshot_file": "/a", "fingerprint": "b0cc6707ae634e46", "bytes": -1}"#, "expected u64"),
            (
                r#"{"snapshot_file": "/a", "fingerprint": "b0cc6707ae634e46", "bytes": 1, "snapshot": ""}"#,
                "unknown field",
            ),
            (r#"{"snapshot_file": "/a", "fingerprint": "+0cc6707ae634e46", "bytes": 1}"#, "is not that of"),
            (r#"{"snapshot_file": "/a", "fingerprint": "b0cc6707ae634e4", "bytes": 1}"#, "is not that of"),
            (r#"{"snapshot_file": "/a""#, "EOF"),
        ];
        for (configuration, reason) in damaged {
            let error = SnapshotFile::named_in(configuration.as_bytes()).unwrap_err();
            assert!(error.contains(reason) && error.contains("write {"), "{configuration}: {error}");
        }
    }
}
